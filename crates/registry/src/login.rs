//! `login` and `logout`: trying credentials, and keeping them in Docker's `config.json` or with a credential helper.
//!
//! The file may hold much that is not ours; it is changed as JSON and replaced by a rename, so that whoever reads it at the
//! same time finds the old one or the new one. Where it is a symbolic link, what it leads to is replaced.

use crate::credentials::{CredentialError, CredentialFile, Credentials, DOCKER_HUB_KEY, TOKEN_USER};
use crate::error::Error;
use crate::options::Options;
use crate::{Client, tokens};
use base64::Engine as _;
use oci::reference::{DEFAULT_DOMAIN, is_domain};
use serde_json::{Map, Value, json};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where credentials were put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// With this program.
    Helper(String),
    /// In this file, readable for whoever reads the file.
    File(PathBuf),
}

/// The registry that a user means by `docker.io`, `https://index.docker.io/v1/`, `quay.io` or `https://r.example:5000/v2/`:
/// its name in references. `None` if it is none.
pub fn domain_of(server: &str) -> Option<String> {
    let without_scheme = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = without_scheme.split('/').next().unwrap_or_default();
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" | "docker.io" => Some(DEFAULT_DOMAIN.to_owned()),
        host => is_domain(host).then(|| host.to_ascii_lowercase()),
    }
}

/// The key under which a registry's credentials are kept.
pub fn key_of(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN { DOCKER_HUB_KEY } else { domain }
}

/// Tries a user name and a password at the registry `domain`, and keeps them if it lets us in; if its token server gives an
/// identity token, that is kept in place of the password.
///
/// # Errors
/// [`Error::Unauthorized`] when the registry refuses them, [`Error::Credentials`] when they cannot be kept.
pub fn login(options: Options, domain: &str, username: &str, password: &str) -> Result<Kept, Error> {
    let unkept = |source| Error::Credentials { host: domain.to_owned(), source };
    let directory = options.config_dir.clone().ok_or_else(|| unkept(CredentialError::NoDirectory))?;
    let given = Credentials::Password { username: username.to_owned(), password: password.to_owned() };
    let options = Options { credentials: [(domain.to_owned(), given)].into(), identity_token: true, ..options };
    let client = Client::new(options)?;
    client.ping(domain)?;
    let identity = client.shared.session.tokens().identity();
    keep(&directory, domain, username, password, identity).map_err(unkept)
}

/// Forgets the credentials for a registry; false if there were none.
///
/// # Errors
/// [`CredentialError`] when the file or the helper cannot do it.
pub fn logout(directory: &Path, domain: &str) -> Result<bool, CredentialError> {
    let file = CredentialFile::read(directory)?;
    let key = key_of(domain);
    let mut known = false;
    if let Some(program) = file.helper_for(domain)? {
        known = file.find(domain, "").is_ok_and(|found| found.is_some());
        if known {
            crate::credentials::tell_helper(&program, "erase", key)?;
        }
    }
    let mut text = Document::read(directory)?;
    let before = text.auths().map_or(0, |auths| auths.len());
    if let Some(auths) = text.auths() {
        auths.retain(|other, _| domain_of(other).as_deref() != Some(domain) || names_a_repository(other));
    }
    if text.auths().map_or(0, |auths| auths.len()) != before {
        known = true;
        text.write()?;
    }
    Ok(known)
}

/// Podman's entries for a part of a registry are not what `logout REGISTRY` means.
fn names_a_repository(key: &str) -> bool {
    !key.contains("://")
        && key.split_once('/').is_some_and(|(_, path)| !matches!(path, "" | "v1" | "v1/" | "v2" | "v2/"))
}

fn keep(
    directory: &Path,
    domain: &str,
    username: &str,
    password: &str,
    identity: Option<String>,
) -> Result<Kept, CredentialError> {
    let file = CredentialFile::read(directory)?;
    let key = key_of(domain);
    let mut text = Document::read(directory)?;
    let helper = file.helper_for(domain)?;
    let entry = match &helper {
        Some(program) => {
            let (user, secret) = match &identity {
                Some(token) => (TOKEN_USER, token.as_str()),
                None => (username, password),
            };
            let question = json!({"ServerURL": key, "Username": user, "Secret": secret}).to_string();
            crate::credentials::tell_helper(program, "store", &question)?;
            // Docker lists what its helper has.
            json!({})
        }
        None => {
            let encoded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
            match identity {
                Some(token) => json!({"auth": encoded(format!("{username}:")), "identitytoken": token}),
                None => json!({"auth": encoded(format!("{username}:{password}"))}),
            }
        }
    };
    let auths = text.root.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    if let Some(auths) = auths.as_object_mut() {
        auths.insert(key.to_owned(), entry);
    }
    text.write()?;
    Ok(match helper {
        Some(program) => Kept::Helper(program),
        None => Kept::File(directory.join("config.json")),
    })
}

/// `config.json` with everything in it.
struct Document {
    path: PathBuf,
    root: Map<String, Value>,
}

impl Document {
    fn read(directory: &Path) -> Result<Document, CredentialError> {
        let path = directory.join("config.json");
        let path = path.canonicalize().unwrap_or(path);
        match std::fs::read(&path) {
            Ok(text) if text.iter().all(u8::is_ascii_whitespace) => Ok(Document { path, root: Map::new() }),
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(root) => Ok(Document { path, root }),
                Err(source) => Err(CredentialError::Config { path, source }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Document { path, root: Map::new() }),
            Err(source) => Err(CredentialError::Read { path, source }),
        }
    }

    fn auths(&mut self) -> Option<&mut Map<String, Value>> {
        self.root.get_mut("auths").and_then(Value::as_object_mut)
    }

    fn write(&self) -> Result<(), CredentialError> {
        let failed = |source| CredentialError::Write { path: self.path.clone(), source };
        if let Some(directory) = self.path.parent() {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let mut text = Vec::new();
        // Docker indents by a tab.
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&self.root, &mut serializer)
            .map_err(|source| CredentialError::Config { path: self.path.clone(), source })?;
        let temporary = self.path.with_file_name(format!(".config.json.{}", std::process::id()));
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| std::fs::rename(&temporary, &self.path));
        if written.is_err() {
            // What counts is the first failure.
            std::fs::remove_file(&temporary).ok();
        }
        written.map_err(failed)
    }
}

/// The user name that is kept for a registry, to be offered again.
pub fn username(directory: &Path, domain: &str) -> Option<String> {
    match CredentialFile::read(directory).ok()?.find(domain, "").ok()?? {
        Credentials::Password { username, .. } => Some(username),
        _ => None,
    }
}

impl tokens::Tokens {
    /// An identity token that a token server gave during this session.
    fn identity(&self) -> Option<String> {
        self.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn names_of_registries() {
        for (server, domain) in [
            ("", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("docker.io", Some("docker.io")),
            ("R.example:5000", Some("r.example:5000")),
            ("https://r.example/v2/", Some("r.example")),
            ("http://[::1]:5000", Some("[::1]:5000")),
            ("user@r.example", None),
            ("a b", None),
        ] {
            assert_eq!(domain_of(server).as_deref(), domain, "{server}");
        }
    }

    #[test]
    fn the_file_keeps_what_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("real.json");
        let text = r#"{"HttpHeaders":{"X":"y"},"auths":{"a.example":{"auth":"YTpi"},"quay.io/team":{"auth":"YTpi"}}}"#;
        std::fs::write(&path, text).unwrap();
        std::os::unix::fs::symlink(&path, directory.path().join("config.json")).unwrap();
        let here = directory.path();
        let kept = keep(here, "quay.io", "me", "p:w", None).unwrap();
        assert_eq!(kept, Kept::File(here.join("config.json")));
        keep(here, "docker.io", "me", "", Some("idtoken".into())).unwrap();
        let file = CredentialFile::read(here).unwrap();
        let password = |username: &str, password: &str| {
            Some(Credentials::Password { username: username.into(), password: password.into() })
        };
        assert_eq!(file.find("quay.io", "x").unwrap(), password("me", "p:w"));
        assert_eq!(file.find("docker.io", "x").unwrap(), Some(Credentials::IdentityToken("idtoken".into())));
        assert_eq!(username(here, "quay.io").as_deref(), Some("me"));
        assert!(std::fs::symlink_metadata(here.join("config.json")).unwrap().is_symlink());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(logout(here, "quay.io").unwrap());
        assert!(!logout(here, "quay.io").unwrap());
        assert!(logout(here, "docker.io").unwrap());
        let left: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, serde_json::from_str::<Value>(text).unwrap());
        // A file that is not JSON is left alone.
        std::fs::write(&path, "{").unwrap();
        assert!(keep(here, "quay.io", "me", "x", None).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"{");
    }
}
