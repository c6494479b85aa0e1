//! What a [`Client`](crate::Client) needs to know from outside; plain values.

use crate::credentials::Credentials;
use crate::proxy::Proxies;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How to talk to registries.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// The longest wait for a connection, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// The longest wait for the next byte of an answer.
    pub stall_timeout: Duration,
    /// The longest wait that a registry may ask for with `Retry-After` before it becomes an error.
    pub longest_retry_after: Duration,
    /// How often an interrupted transfer or a temporary refusal is tried again without progress in between.
    pub retries: u32,
    /// The directory with Docker's `config.json`; `None` for no stored credentials.
    pub config_dir: Option<PathBuf>,
    /// Credentials by registry host; they take precedence over the configuration.
    pub credentials: BTreeMap<String, Credentials>,
    /// Ask token servers for an identity token beside the bearer token: for `login`.
    pub identity_token: bool,
    /// Registries, `host` or `host:port`, that may be spoken to without TLS or with a certificate that nobody vouches for.
    /// Loopback addresses need not be named.
    pub insecure: Vec<String>,
    /// Hosts of token servers that may get credentials though their name has nothing to do with the registry's.
    pub trusted_token_hosts: Vec<String>,
    /// Files with certificate authorities (PEM); the first that exists is used.
    pub certificate_files: Vec<PathBuf>,
    /// Directories like `/etc/docker/certs.d`: in them `HOST[:PORT]/*.crt` are further authorities for that registry,
    /// `*.cert` with `*.key` of the same name identify us, and `hosts.toml` names its mirrors.
    pub certificate_directories: Vec<PathBuf>,
    /// Podman's `registries.conf`; the first that exists is read.
    pub registries_files: Vec<PathBuf>,
    /// Its drop-in directories; all are read.
    pub registries_directories: Vec<PathBuf>,
    /// Docker's `daemon.json`, for `registry-mirrors` and `insecure-registries`.
    pub daemon_file: Option<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// `/etc/hosts`, read for every new name.
    pub hosts_file: PathBuf,
    /// `/etc/resolv.conf`, read for every new name.
    pub resolver_file: PathBuf,
}

impl Default for Options {
    /// Docker's paths, 15 s to connect, 60 s without a byte, 5 retries; reads no environment.
    fn default() -> Options {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        Options {
            user_agent: concat!("dhow/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            longest_retry_after: Duration::from_secs(60),
            retries: 5,
            config_dir: None,
            credentials: BTreeMap::new(),
            identity_token: false,
            insecure: Vec::new(),
            trusted_token_hosts: Vec::new(),
            // Debian and Alpine, Fedora, openSUSE, the BSDs.
            certificate_files: paths(&[
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
                "/etc/ssl/ca-bundle.pem",
                "/etc/ssl/cert.pem",
            ]),
            certificate_directories: paths(&[
                "/etc/docker/certs.d",
                "/etc/containers/certs.d",
                "/etc/containerd/certs.d",
            ]),
            registries_files: Vec::new(),
            registries_directories: Vec::new(),
            daemon_file: None,
            proxies: Proxies::default(),
            hosts_file: "/etc/hosts".into(),
            resolver_file: "/etc/resolv.conf".into(),
        }
    }
}

impl Options {
    /// The defaults with what the environment says: `DOCKER_CONFIG` or `$HOME/.docker`, `SSL_CERT_FILE`,
    /// `CONTAINERS_REGISTRIES_CONF`, `XDG_CONFIG_HOME` or `$HOME/.config` for files of the user's own, the proxies; and with
    /// the machine's configuration of registries.
    pub fn from_environment() -> Options {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut options = Options::default();
        let home = variable("HOME");
        options.config_dir = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let own = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        if let Some(own) = &own {
            for name in ["docker/certs.d", "containers/certs.d", "containerd/certs.d"] {
                options.certificate_directories.insert(0, own.join(name));
            }
        }
        let given = variable("CONTAINERS_REGISTRIES_CONF");
        let mine = own.as_ref().map(|own| own.join("containers/registries.conf"));
        let system = PathBuf::from("/etc/containers/registries.conf");
        // Podman reads no drop-ins when it is told which file to read.
        if given.is_none() {
            options.registries_directories = vec!["/etc/containers/registries.conf.d".into()];
            options.registries_directories.extend(own.map(|own| own.join("containers/registries.conf.d")));
        }
        options.registries_files = given.map_or_else(|| mine.into_iter().chain([system]).collect(), |file| vec![file]);
        options.daemon_file = Some("/etc/docker/daemon.json".into());
        options.proxies = Proxies::from_environment();
        if let Some(file) = variable("SSL_CERT_FILE") {
            options.certificate_files = vec![file];
        }
        options
    }
}
