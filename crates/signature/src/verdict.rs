//! May this image be used?

use crate::certificate;
use crate::key::{InvalidKey, PublicKey};
use crate::log::{Maker, entered};
use crate::payload::Statement;
use crate::policy::{Fulcio, Identity, Policy, Requirement, Sigstore, Transport};
use crate::{MOST_BYTES, MOST_SIGNATURES};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::digest::Digest;
use oci::reference::Reference;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A signature as it was found, nothing of it checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What was signed, in base64.
    pub statement: String,
    /// The signature, in base64.
    pub signature: String,
    /// The signer's certificate, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Certificates between it and an authority, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// A log's promise, in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// The image in question.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Where it comes from.
    pub transport: Transport,
    /// The name under which it is wanted; archives may have none.
    pub name: Option<&'a Reference>,
    /// The digests that stand for it: its manifest's, and that of the index that leads there.
    pub digests: &'a [Digest],
}

/// Why an image may not be used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The policy says so.
    #[error("{} rejects it", policy.display())]
    Rejected {
        /// The policy.
        policy: PathBuf,
    },
    /// It wants something that is not supported.
    #[error("{} wants a GPG signature (signedBy), which dhow does not verify; sigstoreSigned it does", policy.display())]
    Gpg {
        /// The policy.
        policy: PathBuf,
    },
    /// A requirement that contradicts itself or lacks something.
    #[error("{}: a requirement sigstoreSigned {problem}", policy.display())]
    Requirement {
        /// The policy.
        policy: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A key or a certificate that the policy names cannot be read.
    #[error("{} of {} cannot be used", what, policy.display())]
    Material {
        /// The policy.
        policy: PathBuf,
        /// The file, or the field.
        what: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has none.
    #[error("it has no signature, and {} wants one", policy.display())]
    Unsigned {
        /// The policy.
        policy: PathBuf,
    },
    /// It has some that do not count.
    #[error("{} wants another signature than the {count} that it has: {reason}", policy.display())]
    NoneGood {
        /// The policy.
        policy: PathBuf,
        /// How many were looked at.
        count: usize,
        /// Why the last did not count.
        reason: String,
    },
}

/// Keys and authorities of a requirement, read.
struct Trusted<'a> {
    keys: Vec<PublicKey>,
    fulcio: Option<(&'a Fulcio, Vec<Vec<u8>>)>,
    logs: Vec<PublicKey>,
    identity: &'a Identity,
}

impl Policy {
    /// Whether the image may be used, with the signatures that were found for it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, subject: &Subject<'_>, signatures: &[Signature]) -> Result<(), Refusal> {
        let policy = || self.path().to_owned();
        for requirement in self.requirements(subject.transport, subject.name) {
            match requirement {
                Requirement::InsecureAcceptAnything {} => {}
                Requirement::Reject {} => return Err(Refusal::Rejected { policy: policy() }),
                Requirement::SignedBy(_) => return Err(Refusal::Gpg { policy: policy() }),
                Requirement::SigstoreSigned(wanted) => {
                    let trusted = self.trusted(wanted)?;
                    let mut reason = None;
                    let looked = signatures.iter().take(MOST_SIGNATURES);
                    let is_good = looked.map(|signature| trusted.accepts(subject, signature)).any(|verdict| {
                        let is_good = verdict.is_ok();
                        reason = verdict.err();
                        is_good
                    });
                    match reason {
                        _ if is_good => {}
                        None => return Err(Refusal::Unsigned { policy: policy() }),
                        Some(reason) => {
                            let count = signatures.len();
                            return Err(Refusal::NoneGood { policy: policy(), count, reason });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn trusted<'a>(&self, wanted: &'a Sigstore) -> Result<Trusted<'a>, Refusal> {
        let problem = |problem| Err(Refusal::Requirement { policy: self.path().to_owned(), problem });
        let keys = self.keys(&wanted.key_path, &wanted.key_paths, &wanted.key_data, &wanted.key_datas)?;
        let logs = self.keys(
            &wanted.rekor_public_key_path,
            &wanted.rekor_public_key_paths,
            &wanted.rekor_public_key_data,
            &wanted.rekor_public_key_datas,
        )?;
        let fulcio = match &wanted.fulcio {
            None => None,
            Some(fulcio) => {
                let text = match (&fulcio.ca_path, &fulcio.ca_data) {
                    (Some(path), None) => self.file(path)?,
                    (None, Some(data)) => self.decoded("caData", data)?,
                    _ => return problem("must have one of caPath and caData in fulcio"),
                };
                let authorities = certificate::all(&text);
                let authorities = authorities.ok_or_else(|| self.material("fulcio", "it has no certificate"))?;
                Some((fulcio, authorities))
            }
        };
        match (keys.is_empty(), &fulcio) {
            (true, None) => return problem("names neither a key nor fulcio"),
            (false, Some(_)) => return problem("names both a key and fulcio"),
            (true, Some(_)) if logs.is_empty() => {
                return problem("names fulcio without rekorPublicKey…: nobody says when a certificate was used");
            }
            _ => {}
        }
        Ok(Trusted { keys, fulcio, logs, identity: &wanted.signed_identity })
    }

    fn keys(
        &self,
        path: &Option<PathBuf>,
        paths: &[PathBuf],
        data: &Option<String>,
        datas: &[String],
    ) -> Result<Vec<PublicKey>, Refusal> {
        let mut keys = Vec::new();
        let unusable = |what: &str, error: InvalidKey| self.material(what, error);
        for path in path.iter().chain(paths) {
            let what = path.display().to_string();
            keys.push(PublicKey::from_pem(&self.file(path)?).map_err(|error| unusable(&what, error))?);
        }
        for data in data.iter().chain(datas) {
            let text = self.decoded("key data", data)?;
            keys.push(PublicKey::from_pem(&text).map_err(|error| unusable("key data", error))?);
        }
        Ok(keys)
    }

    fn file(&self, path: &Path) -> Result<String, Refusal> {
        let path = self.path().parent().unwrap_or(Path::new("/")).join(path);
        std::fs::read_to_string(&path).map_err(|error| self.material(&path.display().to_string(), error))
    }

    fn decoded(&self, what: &str, data: &str) -> Result<String, Refusal> {
        let bytes = STANDARD.decode(data).map_err(|error| self.material(what, error))?;
        String::from_utf8(bytes).map_err(|error| self.material(what, error))
    }

    fn material(&self, what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
        Refusal::Material { policy: self.path().to_owned(), what: what.to_owned(), source: source.into() }
    }
}

impl Trusted<'_> {
    /// Whether this signature is good; otherwise why not.
    fn accepts(&self, subject: &Subject<'_>, signature: &Signature) -> Result<(), String> {
        let parts = [&signature.certificate, &signature.chain, &signature.bundle];
        let lengths = parts.into_iter().flatten().chain([&signature.statement, &signature.signature]);
        if lengths.map(String::len).max().unwrap_or(0) > 2 * MOST_BYTES {
            return Err("it is too long".to_owned());
        }
        let malformed = |_| "it is malformed".to_owned();
        let statement = STANDARD.decode(&signature.statement).map_err(malformed)?;
        let made = STANDARD.decode(&signature.signature).map_err(malformed)?;
        self.is_by_the_trusted(signature, &statement, &made)?;
        // Only what a trusted hand signed is read.
        let statement = Statement::parse(&statement).ok_or("what it signs is not a statement about an image")?;
        if !subject.digests.contains(&statement.digest) {
            return Err(format!("it is for {}", statement.digest));
        }
        match is_for(self.identity, subject.name, &statement.name) {
            true => Ok(()),
            false => Err(format!("it is for the name {:?}", statement.name.chars().take(200).collect::<String>())),
        }
    }

    fn is_by_the_trusted(&self, signature: &Signature, statement: &[u8], made: &[u8]) -> Result<(), String> {
        let Some((fulcio, authorities)) = &self.fulcio else {
            let key = self.keys.iter().find(|key| key.verifies(statement, made)).ok_or("it is by another key")?;
            if !self.logs.is_empty() {
                let bundle = signature.bundle.as_deref().ok_or("it is not in the log")?;
                entered(bundle, &self.logs, statement, made, &Maker::Key(key))?;
            }
            return Ok(());
        };
        let certificates = signature.certificate.as_deref().and_then(certificate::all);
        let certificate = certificates.and_then(|all| all.into_iter().next()).ok_or("it has no certificate")?;
        let bundle = signature.bundle.as_deref().ok_or("it is not in the log")?;
        // The log's time counts: the certificate was good for minutes.
        let time = entered(bundle, &self.logs, statement, made, &Maker::Certificate(&certificate))?;
        let between = signature.chain.as_deref().and_then(certificate::all).unwrap_or_default();
        let signer = certificate::signer(&certificate, &between, authorities, time)?;
        if signer.issuer.as_deref() != Some(fulcio.oidc_issuer.as_str()) {
            return Err("somebody else vouched for its signer".to_owned());
        }
        if !signer.mails.contains(&fulcio.subject_email) {
            return Err("it is by another signer".to_owned());
        }
        match signer.key.verifies(statement, made) {
            true => Ok(()),
            false => Err("it is not by its certificate's key".to_owned()),
        }
    }
}

/// Whether a signed name is good for the image that is wanted (containers-policy.json(5), `signedIdentity`).
fn is_for(identity: &Identity, wanted: Option<&Reference>, signed: &str) -> bool {
    let Ok(signed) = Reference::parse(signed) else { return false };
    let exact =
        |wanted: &Reference, signed: &Reference| wanted.digest().is_none() && wanted.to_string() == signed.to_string();
    let repository = |wanted: &Reference, signed: &Reference| wanted.name() == signed.name();
    match identity {
        Identity::MatchExact {} => wanted.is_some_and(|wanted| exact(wanted, &signed)),
        Identity::MatchRepository {} => wanted.is_some_and(|wanted| repository(wanted, &signed)),
        Identity::MatchRepoDigestOrExact {} => wanted.is_some_and(|wanted| match wanted.digest() {
            Some(_) => repository(wanted, &signed),
            None => exact(wanted, &signed),
        }),
        Identity::ExactReference { docker_reference } => {
            Reference::parse(docker_reference).is_ok_and(|named| named.to_string() == signed.to_string())
        }
        Identity::ExactRepository { docker_repository } => {
            Reference::parse(docker_repository).is_ok_and(|named| repository(&named, &signed))
        }
        Identity::Remap { prefix, signed_prefix } => wanted.is_some_and(|wanted| {
            let text = wanted.to_string();
            let moved =
                text.strip_prefix(prefix.as_str()).filter(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']));
            let moved = match moved {
                Some(rest) => format!("{signed_prefix}{rest}"),
                None => text,
            };
            Reference::parse(&moved).is_ok_and(|moved| match moved.digest() {
                Some(_) => repository(&moved, &signed),
                None => exact(&moved, &signed),
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |identity: &str, wanted: &str, signed: &str| {
            let identity: Identity = serde_json::from_str(identity).unwrap();
            is_for(&identity, Some(&wanted.parse::<Reference>().unwrap().or_latest()), signed)
        };
        let digest = format!("r.test/a@sha256:{}", "a".repeat(64));
        let or_exact = r#"{"type":"matchRepoDigestOrExact"}"#;
        assert!(check(or_exact, "r.test/a:1", "r.test/a:1"));
        assert!(!check(or_exact, "r.test/a:1", "r.test/a"));
        assert!(check(or_exact, &digest, "r.test/a"));
        assert!(!check(or_exact, &digest, "r.test/b"));
        let repository = r#"{"type":"matchRepository"}"#;
        assert!(check(repository, "r.test/a:1", "r.test/a"));
        assert!(check(repository, "busybox", "docker.io/library/busybox"));
        assert!(!check(repository, "r.test/a:1", "r.test/a/b"));
        assert!(!check(r#"{"type":"matchExact"}"#, &digest, &digest));
        assert!(check(r#"{"type":"exactReference","dockerReference":"x.test/y:2"}"#, "r.test/a:1", "x.test/y:2"));
        assert!(check(r#"{"type":"exactRepository","dockerRepository":"x.test/y"}"#, "r.test/a:1", "x.test/y:7"));
        let remap = r#"{"type":"remapIdentity","prefix":"mirror.test/m","signedPrefix":"r.test"}"#;
        assert!(check(remap, "mirror.test/m/a:1", "r.test/a:1"));
        assert!(!check(remap, "mirror.test/more/a:1", "r.test/ore/a:1"));
        assert!(!check(repository, "r.test/a:1", "no name at all"));
    }
}
