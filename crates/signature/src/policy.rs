//! The policy: which images may be used, and whose signature they must have. containers-policy.json(5), read as it is.
//!
//! The most specific entry decides: `host/path:tag` or `host/path@digest`, `host/path`, `host/pa`, `host`, `*.example.com`, the
//! transport's `""`, then `default`. An entry is a list of requirements, all of which must hold; an empty one is an error.
//! Unknown fields and types are errors: a word that is not understood may be the one that keeps something out. Three words are
//! ours: `trustedRootPath` (and `…Data`), `subjectUri` of `fulcio`, and `digestOnly` of `signedIdentity`.

use oci::reference::Reference;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// More than any policy.
const MOST_BYTES: u64 = 4 << 20;

/// Where an image comes from, by the policy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A registry: `docker`.
    Registry,
    /// Docker's archive: `docker-archive`.
    DockerArchive,
    /// An OCI layout in an archive: `oci-archive`.
    OciArchive,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Registry => "docker",
            Transport::DockerArchive => "docker-archive",
            Transport::OciArchive => "oci-archive",
        }
    }
}

/// A policy file that cannot be used. Never ignored.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPolicy {
    /// It cannot be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is not JSON of this form.
    #[error("{} is not a policy as containers-policy.json(5) has it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// It says nothing where it must say something.
    #[error("{}: the entry {scope:?} has no requirement", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The entry.
        scope: String,
    },
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    path: PathBuf,
    text: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Requirement>>>,
}

/// One thing that must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Requirement {
    InsecureAcceptAnything {},
    Reject {},
    /// By GPG; its fields are not read, since it is refused.
    SignedBy(SignedBy),
    SigstoreSigned(Box<Sigstore>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignedBy {}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Sigstore {
    pub(crate) key_path: Option<PathBuf>,
    pub(crate) key_paths: Vec<PathBuf>,
    pub(crate) key_data: Option<String>,
    pub(crate) key_datas: Vec<String>,
    pub(crate) fulcio: Option<Fulcio>,
    pub(crate) rekor_public_key_path: Option<PathBuf>,
    pub(crate) rekor_public_key_paths: Vec<PathBuf>,
    pub(crate) rekor_public_key_data: Option<String>,
    pub(crate) rekor_public_key_datas: Vec<String>,
    /// dhow's own: Sigstore's file of authorities and logs, in place of those above.
    pub(crate) trusted_root_path: Option<PathBuf>,
    pub(crate) trusted_root_data: Option<String>,
    pub(crate) signed_identity: Identity,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fulcio {
    pub(crate) ca_path: Option<PathBuf>,
    pub(crate) ca_data: Option<String>,
    pub(crate) oidc_issuer: String,
    pub(crate) subject_email: Option<String>,
    /// dhow's own: a signer that is no person.
    pub(crate) subject_uri: Option<String>,
}

/// Which signed name is good for which image.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Identity {
    MatchExact {},
    MatchRepoDigestOrExact {},
    MatchRepository {},
    ExactReference {
        docker_reference: String,
    },
    ExactRepository {
        docker_repository: String,
    },
    #[serde(rename = "remapIdentity")]
    Remap {
        prefix: String,
        signed_prefix: String,
    },
    /// dhow's own: whatever the name, and none at all, as in Sigstore's bundles.
    DigestOnly {},
}

impl Default for Identity {
    fn default() -> Identity {
        Identity::MatchRepoDigestOrExact {}
    }
}

/// A map in which no key is twice: of two entries for one scope, one would be lost without a word.
#[derive(Clone, Debug)]
struct Unique<V>(BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Unique<V> {
        Unique(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique<V>, D::Error> {
        struct Map<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Map<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if entries.contains_key(&key) {
                        return Err(serde::de::Error::custom(format!("the key {key:?} is there twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Map(PhantomData))
    }
}

impl Policy {
    /// Reads a policy; `None` where there is none.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn read(path: &Path) -> Result<Option<Policy>, InvalidPolicy> {
        let mut bytes = Vec::new();
        match std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)) {
            Ok(length) if length as u64 > MOST_BYTES => {
                let source = std::io::Error::other(format!("it is longer than {MOST_BYTES} bytes"));
                Err(InvalidPolicy::Read { path: path.to_owned(), source })
            }
            Ok(_) => Policy::parse(&bytes, path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(InvalidPolicy::Read { path: path.to_owned(), source }),
        }
    }

    /// A policy from the text of the file at `path`, to whose directory the names of key files are relative.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Policy, InvalidPolicy> {
        let malformed = |source| InvalidPolicy::Malformed { path: path.to_owned(), source };
        let text: Text = serde_json::from_slice(bytes).map_err(malformed)?;
        let entries =
            text.transports.0.values().flat_map(|scopes| &scopes.0).map(|(scope, list)| (scope.as_str(), list));
        for (scope, list) in entries.chain([("default", &text.default)]) {
            if list.is_empty() {
                return Err(InvalidPolicy::Empty { path: path.to_owned(), scope: scope.to_owned() });
            }
        }
        Ok(Policy { path: path.to_owned(), text })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What must hold for an image of this name; without a name, what holds for the transport.
    pub(crate) fn requirements(&self, transport: Transport, name: Option<&Reference>) -> &[Requirement] {
        let Some(scopes) = self.text.transports.0.get(transport.name()) else { return &self.text.default };
        let wanted = name.filter(|_| transport == Transport::Registry).map(scopes_of).unwrap_or_default();
        let found = wanted.iter().chain([&String::new()]).find_map(|scope| scopes.0.get(scope));
        found.unwrap_or(&self.text.default)
    }

    /// Whether signatures decide about images of this name.
    pub fn wants_signatures(&self, transport: Transport, name: Option<&Reference>) -> bool {
        let wants = |requirement: &Requirement| matches!(requirement, Requirement::SigstoreSigned(_));
        self.requirements(transport, name).iter().any(wants)
    }
}

/// The entries that may be about an image, the most specific first.
fn scopes_of(name: &Reference) -> Vec<String> {
    let mut scopes = Vec::new();
    let repository = name.name();
    if let Some(digest) = name.digest() {
        scopes.push(format!("{repository}@{digest}"));
    } else if let Some(tag) = name.tag() {
        scopes.push(format!("{repository}:{tag}"));
    }
    let mut part = repository.as_str();
    loop {
        scopes.push(part.to_owned());
        match part.rsplit_once('/') {
            Some((shorter, _)) => part = shorter,
            None => break,
        }
    }
    let mut host = name.domain();
    while let Some((_, rest)) = host.split_once('.') {
        scopes.push(format!("*.{rest}"));
        host = rest;
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, InvalidPolicy> {
        Policy::parse(text.as_bytes(), Path::new("/etc/policy.json"))
    }

    #[test]
    fn the_most_specific_entry_decides() {
        let policy = parse(
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {
                "r.example/team/app:1": [{"type": "insecureAcceptAnything"}],
                "r.example/team": [{"type": "insecureAcceptAnything"}, {"type": "reject"}],
                "r.example/team/signed": [{"type": "sigstoreSigned", "keyPath": "k.pub", "signedIdentity": {"type": "matchRepository"}}],
                "*.example": [{"type": "insecureAcceptAnything"}]}}}"#,
        )
        .unwrap();
        let count = |name: &str| {
            let name: Reference = name.parse().unwrap();
            let list = policy.requirements(Transport::Registry, Some(&name));
            (list.len(), matches!(list[0], Requirement::InsecureAcceptAnything {}))
        };
        assert_eq!(count("r.example/team/app:1"), (1, true));
        assert_eq!(count("r.example/team/app:2"), (2, true));
        assert_eq!(count("r.example/teammate:1"), (1, true));
        assert_eq!(count("other.example/x"), (1, true));
        assert_eq!(count("example/x"), (1, false));
        assert_eq!(count("docker.io/library/busybox"), (1, false));
        let name = |text: &str| text.parse::<Reference>().unwrap();
        assert!(policy.wants_signatures(Transport::Registry, Some(&name("r.example/team/signed:3"))));
        assert!(!policy.wants_signatures(Transport::Registry, Some(&name("r.example/team/app:3"))));
        assert!(!policy.wants_signatures(Transport::DockerArchive, None));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "",
            "{}",
            r#"{"default": []}"#,
            r#"{"default": [{"type": "accept"}]}"#,
            r#"{"default": [{"type": "reject", "but": "not on Mondays"}]}"#,
            r#"{"default": [{"type": "reject"}], "except": {}}"#,
            r#"{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned", "keypath": "x"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned", "keyPath": "x", "signedIdentity": {"type": "matchAnything"}}]}"#,
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {"x": []}}}"#,
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {
                "x": [{"type": "reject"}], "x": [{"type": "insecureAcceptAnything"}]}}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "x"}]}"#).is_ok());
    }
}
