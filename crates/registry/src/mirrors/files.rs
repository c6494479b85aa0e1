//! The files, as their own programs read them.

use super::{Configured, Endpoint, Insecure, Parallelism, Plan, Purpose, Trust, is_hub, network, no_name};
use crate::address::{Origin, Scheme, api_host};
use crate::error::Error;
use crate::options::Options;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// More than any configuration.
const MOST_BYTES: u64 = 4 << 20;

/// A file's text; `None` if it does not exist.
fn text(path: &Path) -> Result<Option<String>, Error> {
    use std::io::Read as _;
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Configuration { path: path.to_owned(), source: source.into() }),
    }
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(text) = text(path)? else { return Ok(None) };
    match toml::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(Error::Configuration { path: path.to_owned(), source: source.into() }),
    }
}

/// One string or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Several {
    One(String),
    Many(Vec<String>),
}

impl Several {
    fn all(&self) -> &[String] {
        match self {
            Several::One(one) => std::slice::from_ref(one),
            Several::Many(many) => many,
        }
    }
}

/// One pair of certificate and key, several, or certificates with their keys inside.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    Pairs(Vec<(String, String)>),
    Files(Several),
}

/// `hosts.toml`.
#[derive(Debug)]
pub(super) struct Hosts {
    path: PathBuf,
    text: HostsText,
    /// The order of the hosts in the file, which counts.
    order: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct HostsText {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<String, Host>,
    #[serde(flatten)]
    own: Host,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<Several>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, Several>,
}

impl Hosts {
    /// The file for a registry: in a directory of its name, with a port as `_5000_` too, or that of all others.
    pub(super) fn find(directories: &[PathBuf], domain: &str) -> Result<Option<Hosts>, Error> {
        let flat = domain.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
        let names = [Some(domain.to_owned()), flat, Some("_default".to_owned())];
        for name in names.iter().flatten() {
            for directory in directories {
                let path = directory.join(name).join("hosts.toml");
                if let Some(text) = parsed::<HostsText>(&path)? {
                    let order = order(&path)?;
                    return Ok(Some(Hosts { path, text, order }));
                }
            }
        }
        Ok(None)
    }

    pub(super) fn plan(&self, domain: &str, repository: &str, purpose: Purpose, insecure: bool) -> Result<Plan, Error> {
        let mut plan = Plan { endpoints: Vec::new(), trust: Vec::new() };
        let wanted = match purpose {
            Purpose::ByTag => "resolve",
            Purpose::ByDigest => "pull",
            Purpose::Own => "",
        };
        for address in &self.order {
            let Some(host) = self.text.host.get(address) else { continue };
            let able = host.capabilities.as_ref().is_none_or(|able| able.iter().any(|name| name == wanted));
            if purpose == Purpose::Own || !able {
                continue;
            }
            let endpoint = self.endpoint(address, host, domain, repository)?;
            self.trust(&mut plan, &endpoint, host)?;
            plan.endpoints.push(endpoint);
        }
        let mut registry = match &self.text.server {
            Some(server) => self.endpoint(server, &self.text.own, domain, repository)?,
            None => Endpoint::registry(domain, repository, insecure || self.text.own.skip_verify)?,
        };
        registry.is_registry = true;
        registry.domain = domain.to_owned();
        registry.namespace = None;
        self.trust(&mut plan, &registry, &self.text.own)?;
        plan.endpoints.push(registry);
        Ok(plan)
    }

    fn endpoint(&self, address: &str, host: &Host, domain: &str, repository: &str) -> Result<Endpoint, Error> {
        let (scheme, rest) = match (address.strip_prefix("https://"), address.strip_prefix("http://")) {
            (Some(rest), _) => (Scheme::Https, rest),
            (_, Some(rest)) => (Scheme::Http, rest),
            _ => (Scheme::Https, address),
        };
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        let wrong = |why: &str| self.wrong(&format!("{address:?}: {why}"));
        let mut endpoint = Endpoint::at(name, Some(scheme), repository, host.skip_verify)
            .ok_or_else(|| wrong("this is not the address of a host"))?;
        let path = path.trim_matches('/');
        endpoint.base = match (host.override_path, path) {
            (true, path) => format!("/{path}").trim_end_matches('/').to_owned(),
            // Written by people who know the API's path.
            (false, "" | "v2") => "/v2".to_owned(),
            (false, path) => format!("/{path}/v2"),
        };
        endpoint.namespace = Some(domain.to_owned());
        for (name, values) in &host.header {
            let name: HeaderName = name.parse().map_err(|_| wrong("a malformed header"))?;
            for value in values.all() {
                let mut value: HeaderValue = value.parse().map_err(|_| wrong("a malformed header"))?;
                value.set_sensitive(true);
                endpoint.headers.append(name.clone(), value);
            }
        }
        Ok(endpoint)
    }

    fn trust(&self, plan: &mut Plan, endpoint: &Endpoint, host: &Host) -> Result<(), Error> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let identity = match &host.client {
            None => None,
            Some(Client::Pairs(pairs)) => pairs.first().map(|(certificate, key)| (certificate, key)),
            Some(Client::Files(files)) => match files.all() {
                [both] => Some((both, both)),
                [certificate, key] => Some((certificate, key)),
                _ => return Err(self.wrong("client: more than a certificate and its key")),
            },
        };
        let authorities: Vec<PathBuf> =
            host.ca.iter().flat_map(Several::all).map(|file| directory.join(file)).collect();
        let identity = identity.map(|(certificate, key)| (directory.join(certificate), directory.join(key)));
        for origin in &endpoint.origins {
            // Whoever writes http:// means it.
            let anybody = host.skip_verify || origin.scheme == Scheme::Http;
            let trust = Trust { anybody, authorities: authorities.clone(), identity: identity.clone() };
            plan.trust.push((origin.clone(), trust));
        }
        Ok(())
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Configuration { path: self.path.clone(), source: what.into() }
    }
}

/// The names of the tables `[host."NAME"]` as they stand in the file; a parsed table has lost that.
fn order(path: &Path) -> Result<Vec<String>, Error> {
    let text = text(path)?.unwrap_or_default();
    let mut order: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix('[').map(str::trim_start) else { continue };
        let Some(rest) = rest.strip_prefix("host.").map(str::trim_start) else { continue };
        let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''));
        let name = match quote {
            Some(quote) => rest[1..].split(quote).next(),
            None => rest.split([']', '.']).next(),
        };
        if let Some(name) = name.filter(|name| !order.iter().any(|known| known == name)) {
            order.push(name.to_owned());
        }
    }
    Ok(order)
}

/// `registries.conf` with its drop-ins, and the part of Docker's `daemon.json` that means the same.
#[derive(Debug, Default)]
pub(super) struct Registries {
    registries: Vec<Registry>,
    hub_mirrors: Vec<String>,
    insecure: Insecure,
    pub(super) parallelism: Parallelism,
}

#[derive(Debug, Default, Deserialize)]
struct RegistriesText {
    #[serde(default)]
    registry: Vec<Registry>,
    /// Version 1, which Podman no longer reads either.
    registries: Option<toml::Table>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Daemon {
    #[serde(default)]
    registry_mirrors: Vec<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
    max_concurrent_downloads: Option<NonZeroUsize>,
    max_concurrent_uploads: Option<NonZeroUsize>,
}

impl Registry {
    /// What it is for.
    fn prefix(&self) -> &str {
        self.prefix.as_deref().filter(|prefix| !prefix.is_empty()).or(self.location.as_deref()).unwrap_or_default()
    }

    /// What may be spoken to in the clear.
    fn insecure_prefix(&self) -> Option<&str> {
        Some(self.prefix()).filter(|prefix| self.insecure && !prefix.is_empty())
    }

    /// How long a part of `name` (`host/path`) it is for; `*.example.com` stands for every host below it.
    fn matches(&self, name: &str) -> Option<usize> {
        let prefix = self.prefix();
        if let Some(suffix) = prefix.strip_prefix("*.") {
            let host = name.split('/').next().unwrap_or_default();
            let bare = host.split(':').next().unwrap_or_default();
            return bare.strip_suffix(suffix)?.strip_suffix('.').map(|_| prefix.len());
        }
        let rest = name.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
    }

    /// The name at another location.
    fn moved(&self, name: &str, location: &str) -> String {
        match self.prefix().strip_prefix("*.") {
            // Podman's rule: the host is replaced, the path stays.
            Some(_) => match name.split_once('/') {
                Some((_, path)) => format!("{location}/{path}"),
                None => location.to_owned(),
            },
            None => format!("{location}{}", name.strip_prefix(self.prefix()).unwrap_or_default()),
        }
    }
}

impl Registries {
    pub(super) fn read(options: &Options) -> Result<Registries, Error> {
        let mut read = Registries { insecure: Insecure(options.insecure.clone()), ..Registries::default() };
        let main = options.registries_files.iter().find(|file| file.exists());
        let mut files: Vec<PathBuf> = main.cloned().into_iter().collect();
        for directory in &options.registries_directories {
            let mut parts: Vec<PathBuf> =
                std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            parts.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            parts.sort();
            files.extend(parts);
        }
        for file in files {
            let Some(text) = parsed::<RegistriesText>(&file)? else { continue };
            if text.registries.is_some() && text.registry.is_empty() {
                let source = "it has version 1 of the format; containers-registries.conf(5) has version 2".into();
                return Err(Error::Configuration { path: file, source });
            }
            // A later file's word for the same prefix replaces the former.
            for registry in text.registry {
                read.registries.retain(|known| known.prefix() != registry.prefix());
                read.registries.push(registry);
            }
        }
        if let Some(file) = &options.daemon_file
            && let Some(text) = text(file)?
        {
            let daemon: Daemon = serde_json::from_str(&text)
                .map_err(|source| Error::Configuration { path: file.clone(), source: source.into() })?;
            read.hub_mirrors = daemon.registry_mirrors;
            read.parallelism.downloads = daemon.max_concurrent_downloads.unwrap_or(read.parallelism.downloads);
            read.parallelism.uploads = daemon.max_concurrent_uploads.unwrap_or(read.parallelism.uploads);
            read.insecure.0.extend(daemon.insecure_registries);
        }
        Ok(read)
    }

    pub(super) fn configured(self) -> Configured {
        let (insecure_networks, mut insecure): (Vec<_>, Vec<_>) =
            self.insecure.0.into_iter().partition(|entry| network(entry).is_some());
        insecure.extend(self.registries.iter().filter_map(Registry::insecure_prefix).map(str::to_owned));
        Configured { mirrors: self.hub_mirrors, insecure, insecure_networks }
    }

    pub(super) fn is_insecure(&self, domain: &str) -> bool {
        self.insecure.has(domain) || self.entry(domain, "").is_some_and(|entry| entry.insecure)
    }

    fn entry(&self, domain: &str, repository: &str) -> Option<&Registry> {
        let name = format!("{domain}/{repository}");
        let name = name.trim_end_matches('/');
        let matching = self.registries.iter().filter_map(|entry| Some((entry.matches(name)?, entry)));
        matching.max_by_key(|(length, _)| *length).map(|(_, entry)| entry)
    }

    pub(super) fn plan(&self, domain: &str, repository: &str, purpose: Purpose) -> Result<Plan, Error> {
        let mut plan = Plan { endpoints: Vec::new(), trust: Vec::new() };
        let name = format!("{domain}/{repository}");
        let Some(entry) = self.entry(domain, repository) else {
            if is_hub(domain) && purpose != Purpose::Own {
                for mirror in &self.hub_mirrors {
                    self.add(&mut plan, mirror, repository, false)?;
                }
            }
            let insecure = self.insecure.has(domain);
            let endpoint = Endpoint::registry(domain, repository, insecure)?;
            add_trust(&mut plan, &endpoint, insecure);
            plan.endpoints.push(endpoint);
            return Ok(plan);
        };
        if entry.blocked {
            return Err(Error::Blocked { host: domain.to_owned(), prefix: entry.prefix().to_owned() });
        }
        for mirror in &entry.mirror {
            let by = match mirror.pull_from_mirror.as_str() {
                _ if entry.mirror_by_digest_only => purpose == Purpose::ByDigest,
                "digest-only" => purpose == Purpose::ByDigest,
                "tag-only" => purpose == Purpose::ByTag,
                _ => purpose != Purpose::Own,
            };
            if by {
                let moved = entry.moved(&name, &mirror.location);
                let (host, path) = moved.split_once('/').unwrap_or((&moved, ""));
                self.add(&mut plan, host, path, mirror.insecure)?;
            }
        }
        let insecure = entry.insecure || self.insecure.has(domain);
        let endpoint = match entry.location.as_deref().filter(|location| !location.is_empty()) {
            Some(location) if location != entry.prefix() => {
                let moved = entry.moved(&name, location);
                let (host, path) = moved.split_once('/').unwrap_or((&moved, ""));
                let mut endpoint = Endpoint::registry(host, path, insecure)?;
                endpoint.domain = host.to_owned();
                endpoint
            }
            _ => Endpoint::registry(domain, repository, insecure)?,
        };
        add_trust(&mut plan, &endpoint, insecure);
        plan.endpoints.push(endpoint);
        Ok(plan)
    }

    /// Adds a mirror: `host[:port]`, or an address as Docker's file has it.
    fn add(&self, plan: &mut Plan, mirror: &str, repository: &str, insecure: bool) -> Result<(), Error> {
        let (scheme, rest) = match (mirror.strip_prefix("https://"), mirror.strip_prefix("http://")) {
            (Some(rest), _) => (Some(Scheme::Https), rest),
            (_, Some(rest)) => (Some(Scheme::Http), rest),
            _ => (None, mirror),
        };
        let host = rest.trim_end_matches('/');
        let insecure = insecure || scheme == Some(Scheme::Http) || self.insecure.has(host);
        let mut endpoint = Endpoint::at(api_host(host), scheme, repository, insecure).ok_or_else(|| no_name(host))?;
        endpoint.domain = host.to_owned();
        add_trust(plan, &endpoint, insecure);
        plan.endpoints.push(endpoint);
        Ok(())
    }
}

fn add_trust(plan: &mut Plan, endpoint: &Endpoint, insecure: bool) {
    let trust = |origin: &Origin| (origin.clone(), Trust { anybody: insecure, ..Trust::default() });
    plan.trust.extend(endpoint.origins.iter().filter(|_| insecure).map(trust));
}
