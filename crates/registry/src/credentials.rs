//! Who we are at which registry: Docker's `config.json` and its credential helpers.
//!
//! Format: `auths` maps registries to base64 of `user:password` or to an identity token; `credsStore` and `credHelpers`
//! name programs `docker-credential-NAME` that are asked over pipes (github.com/docker/docker-credential-helpers). A file
//! that cannot be read is an error and never "no credentials" (CVE-2021-41092). Passwords are kept out of `Debug`.

use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The key of Docker Hub's credentials.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// A helper's user name that says that the secret is an identity token.
pub(crate) const TOKEN_USER: &str = "<token>";
const MAX_CONFIG: u64 = 4 << 20;

/// How to prove who we are to one registry.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// User name and password (or an access token in its place).
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth 2 refresh token for the registry's token server.
    IdentityToken(String),
    /// A bearer token for the registry itself.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { username, .. } => write!(f, "Password({username:?}, …)"),
            Credentials::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Credentials::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

/// Why stored credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file is there and cannot be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not Docker's configuration.
    #[error("{} is malformed", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The file is longer than any configuration.
    #[error("{} is longer than {MAX_CONFIG} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// An entry's `auth` is not base64 of `user:password`.
    #[error("the entry {key:?} in {} has a malformed \"auth\"", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// A helper's name that is not a plain word.
    #[error("{name:?} in {} is not the name of a credential helper", path.display())]
    HelperName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// There is no directory for the file.
    #[error("there is no place to keep credentials: neither DOCKER_CONFIG nor HOME is set")]
    NoDirectory,
    /// The file cannot be written.
    #[error("writing {} failed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The helper could not be started.
    #[error("starting {program} failed")]
    HelperStart {
        /// The program.
        program: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The helper refused or answered something else.
    #[error("{program} failed: {message}")]
    Helper {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
}

/// Docker's `config.json`, as far as it is about credentials.
#[derive(Debug, Default)]
pub struct CredentialFile {
    path: PathBuf,
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("creds_store", &self.creds_store).finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl CredentialFile {
    /// Reads `config.json` in `directory`; a file that does not exist is an empty one.
    ///
    /// # Errors
    /// [`CredentialError`] when it cannot be read or is malformed.
    pub fn read(directory: &Path) -> Result<CredentialFile, CredentialError> {
        use std::io::Read as _;
        let path = directory.join("config.json");
        let mut text = Vec::new();
        let read = std::fs::File::open(&path).and_then(|file| file.take(MAX_CONFIG + 1).read_to_end(&mut text));
        match read {
            Ok(length) if length as u64 > MAX_CONFIG => return Err(CredentialError::TooLarge { path }),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(CredentialFile::default()),
            Err(source) => return Err(CredentialError::Read { path, source }),
        }
        match serde_json::from_slice(&text) {
            Ok(config) => Ok(CredentialFile { path, config }),
            Err(source) => Err(CredentialError::Config { path, source }),
        }
    }

    /// The credentials for the registry that references call `domain`, for its repository `repository`.
    ///
    /// A helper for this very registry goes first, then the general one, then the file itself. In the file, an entry for a
    /// longer part of the repository's path wins (Podman's `auth.json` has such entries).
    ///
    /// # Errors
    /// [`CredentialError`] when a helper fails or the entry is malformed.
    pub fn find(&self, domain: &str, repository: &str) -> Result<Option<Credentials>, CredentialError> {
        for name in self.helpers(domain) {
            if let Some(found) = self.ask_helper(name, domain)? {
                return Ok(Some(found));
            }
        }
        let entries = self.config.auths.iter().flatten();
        let best = entries
            .filter_map(|(key, entry)| Some((matched_length(key, domain, repository)?, key, entry.as_ref()?)))
            .max_by_key(|(length, ..)| *length);
        match best {
            Some((_, key, entry)) => self.decode(key, entry),
            None => Ok(None),
        }
    }

    /// The names of the helpers that may have credentials for a registry, the specific one first.
    fn helpers(&self, domain: &str) -> impl Iterator<Item = &String> {
        let all = self.config.cred_helpers.iter().flatten();
        let specific = all.filter(|(key, _)| matched_length(key, domain, "").is_some()).map(|(_, name)| name).next();
        [specific, self.config.creds_store.as_ref()].into_iter().flatten().filter(|name| !name.is_empty())
    }

    /// The program that keeps credentials for a registry, if one does.
    pub(crate) fn helper_for(&self, domain: &str) -> Result<Option<String>, CredentialError> {
        self.helpers(domain).next().map(|name| self.program(name)).transpose()
    }

    fn program(&self, name: &str) -> Result<String, CredentialError> {
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !is_word {
            return Err(CredentialError::HelperName { path: self.path.clone(), name: name.chars().take(80).collect() });
        }
        Ok(format!("docker-credential-{name}"))
    }

    fn decode(&self, key: &str, entry: &Entry) -> Result<Option<Credentials>, CredentialError> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&entry.registrytoken) {
            return Ok(Some(Credentials::RegistryToken(token)));
        }
        if let Some(token) = filled(&entry.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(auth) = filled(&entry.auth) {
            let malformed = || CredentialError::Entry { path: self.path.clone(), key: key.to_owned() };
            let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).map_err(|_| malformed())?;
            let text = String::from_utf8(bytes).map_err(|_| malformed())?;
            let (username, password) = text.split_once(':').ok_or_else(malformed)?;
            // Old versions of Docker padded with NUL.
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credentials::Password { username: username.to_owned(), password }));
        }
        Ok(filled(&entry.username)
            .map(|username| Credentials::Password { username, password: entry.password.clone().unwrap_or_default() }))
    }

    fn ask_helper(&self, name: &str, domain: &str) -> Result<Option<Credentials>, CredentialError> {
        let key = match domain {
            oci::reference::DEFAULT_DOMAIN => DOCKER_HUB_KEY,
            other => other,
        };
        run_helper(&self.program(name)?, key)
    }
}

/// `docker-credential-NAME get`: the registry's key on standard input, JSON on standard output.
fn run_helper(program: &str, key: &str) -> Result<Option<Credentials>, CredentialError> {
    let Some(output) = ask(program, "get", key)? else { return Ok(None) };
    let failed = |message: &str| CredentialError::Helper { program: program.to_owned(), message: message.to_owned() };
    let answer: HelperAnswer =
        serde_json::from_slice(&output).map_err(|_| failed("its answer is not the JSON of the protocol"))?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (TOKEN_USER, secret) => Some(Credentials::IdentityToken(secret)),
        (username, password) => Some(Credentials::Password { username: username.to_owned(), password }),
    })
}

/// `docker-credential-NAME store` or `erase`; that there is nothing to erase is no failure.
pub(crate) fn tell_helper(program: &str, verb: &str, text: &str) -> Result<(), CredentialError> {
    ask(program, verb, text).map(drop)
}

/// Runs a helper; `None` when it says that it has no such credentials.
fn ask(program: &str, verb: &str, text: &str) -> Result<Option<Vec<u8>>, CredentialError> {
    let start = |source| CredentialError::HelperStart { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says why in its answer; the text is shorter than a pipe's buffer.
        stdin.write_all(text.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // The protocol's only way to say "none": this text, on standard output.
    if text.contains("credentials not found") {
        return Ok(None);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let message = if text.trim().is_empty() { errors } else { text };
    let message = crate::error::printable(&format!("{} ({})", message.trim(), output.status), 200);
    Err(CredentialError::Helper { program: program.to_owned(), message })
}

/// Whether a key of `config.json` is for `domain` and `repository`, and how much of the path it names.
///
/// Keys are `host`, `host:port`, `https://host/v1/` and the like by Docker, `host/part/of/path` by Podman.
fn matched_length(key: &str, domain: &str, repository: &str) -> Option<usize> {
    let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = without_scheme.unwrap_or(key).split_once('/').unwrap_or((without_scheme.unwrap_or(key), ""));
    let canonical = |host: &str| match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    if canonical(host) != canonical(domain) {
        return None;
    }
    let path = path.trim_end_matches('/');
    if without_scheme.is_some() || matches!(path, "" | "v1" | "v2") {
        return Some(0);
    }
    let rest = repository.strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(text: &str) -> Result<CredentialFile, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), text).unwrap();
        CredentialFile::read(directory.path())
    }

    fn password(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { username: username.into(), password: password.into() })
    }

    #[test]
    fn entries_by_any_spelling() {
        // YTpi is a:b, YzpkOmU= is c:d:e.
        let config = file(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"https://r.example:5000/v2/":{"auth":"YzpkOmU="},
            "quay.io":{"username":"u","password":"p"},"quay.io/team":{"auth":"YTpi"},"t.example":{"identitytoken":"t"},
            "empty.example":{},"null.example":null,"rt.example":{"registrytoken":"x"}},"HttpHeaders":{"X":"y"}}"#,
        )
        .unwrap();
        let find = |domain: &str, repository: &str| config.find(domain, repository).unwrap();
        assert_eq!(find("docker.io", "library/redis"), password("a", "b"));
        assert_eq!(find("r.example:5000", "x"), password("c", "d:e"));
        assert_eq!(find("r.example", "x"), None);
        assert_eq!(find("quay.io", "other/app"), password("u", "p"));
        assert_eq!(find("quay.io", "team/app"), password("a", "b"));
        assert_eq!(find("quay.io", "teamwork/app"), password("u", "p"));
        assert_eq!(find("t.example", "x"), Some(Credentials::IdentityToken("t".into())));
        assert_eq!(find("rt.example", "x"), Some(Credentials::RegistryToken("x".into())));
        assert_eq!(find("empty.example", "x"), None);
        assert_eq!(find("null.example", "x"), None);
        assert!(!format!("{config:?}{:?}", find("quay.io", "x")).contains("\"p\""));
    }

    #[test]
    fn broken_files_are_errors() {
        assert!(file("{").unwrap_err().to_string().ends_with("config.json is malformed"));
        let config = file(r#"{"auths":{"r.example":{"auth":"***"}}}"#).unwrap();
        assert!(config.find("r.example", "x").unwrap_err().to_string().contains("malformed \"auth\""));
        let config = file(r#"{"credsStore":"../evil"}"#).unwrap();
        assert!(config.find("r.example", "x").unwrap_err().to_string().contains("not the name of a credential helper"));
        let config = file(r#"{"credsStore":"dhow-test-does-not-exist"}"#).unwrap();
        assert!(
            config.find("r.example", "x").unwrap_err().to_string().contains("starting docker-credential-dhow-test")
        );
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(CredentialFile::read(directory.path()).unwrap().find("r.example", "x").unwrap(), None);
    }

    #[test]
    fn helpers_answer_over_pipes() {
        let directory = tempfile::tempdir().unwrap();
        let script = |name: &str, body: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let good =
            script("good", r#"read -r key; echo "{\"ServerURL\":\"$key\",\"Username\":\"$1\",\"Secret\":\"$key\"}""#);
        assert_eq!(run_helper(&good, "r.example").unwrap(), password("get", "r.example"));
        let token = script("token", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        assert_eq!(run_helper(&token, "r").unwrap(), Some(Credentials::IdentityToken("t".into())));
        let none = script("none", "echo credentials not found in native keychain; exit 1");
        assert_eq!(run_helper(&none, "r").unwrap(), None);
        let locked = script("locked", "echo keychain is locked >&2; exit 3");
        let error = run_helper(&locked, "r").unwrap_err().to_string();
        assert!(error.contains("keychain is locked") && error.contains("exit status: 3"), "{error}");
        let nonsense = script("nonsense", "echo hello");
        assert!(run_helper(&nonsense, "r").unwrap_err().to_string().contains("not the JSON"));
    }
}
