//! May this image be used?

use crate::bundle::{self, Bundle};
use crate::certificate::{self, Authority};
use crate::key::{InvalidKey, PublicKey};
use crate::log::{Log, Maker, entered};
use crate::payload::Statement;
use crate::policy::{Fulcio, Identity, Policy, Requirement, Sigstore, Transport};
use crate::root::{Period, Root};
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
    /// What was signed, in base64; empty beside `sigstore`.
    pub statement: String,
    /// The signature, in base64; empty beside `sigstore`.
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
    /// Sigstore's bundle, in JSON, which has all of it; the other fields count for nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigstore: Option<String>,
}

impl Signature {
    /// One that Sigstore's bundle holds.
    pub fn from_bundle(text: String) -> Signature {
        Signature { sigstore: Some(text), ..Signature::default() }
    }
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
    fulcio: Option<(&'a Fulcio, Vec<Authority>)>,
    /// Where entries must be; none, where no log is wanted.
    logs: Vec<Log>,
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
        let root = self.root(wanted)?;
        let mut logs = self.logs(wanted)?;
        match (&root, logs.is_empty()) {
            (Some(_), false) => return problem("names both trustedRoot… and rekorPublicKey…"),
            (Some(root), true) if root.logs.is_empty() => return problem("names a trusted root without a log"),
            _ => {}
        }
        let mut known = Vec::new();
        if let Some(root) = root {
            (logs, known) = (root.logs, root.authorities);
        }
        let fulcio = match &wanted.fulcio {
            None => None,
            Some(fulcio) => {
                if fulcio.subject_email.is_some() == fulcio.subject_uri.is_some() {
                    return problem("must have one of subjectEmail and subjectUri in fulcio");
                }
                let text = match (&fulcio.ca_path, &fulcio.ca_data) {
                    (Some(path), None) if known.is_empty() => Some(self.file(path)?),
                    (None, Some(data)) if known.is_empty() => Some(self.decoded("caData", data)?),
                    (None, None) if !known.is_empty() => None,
                    _ => {
                        return problem(
                            "must have one of caPath and caData in fulcio, or a trusted root with authorities",
                        );
                    }
                };
                if let Some(text) = text {
                    let anchors = certificate::all(&text);
                    let anchors = anchors.ok_or_else(|| self.material("fulcio", "it has no certificate"))?;
                    known = vec![Authority { anchors, between: Vec::new(), valid: Period::EVER }];
                }
                Some((fulcio, known))
            }
        };
        match (keys.is_empty(), &fulcio) {
            (true, None) => return problem("names neither a key nor fulcio"),
            (false, Some(_)) => return problem("names both a key and fulcio"),
            (true, Some(_)) if logs.is_empty() => {
                return problem(
                    "names fulcio without rekorPublicKey… or trustedRoot…: nobody says when a certificate was used",
                );
            }
            _ => {}
        }
        Ok(Trusted { keys, fulcio, logs, identity: &wanted.signed_identity })
    }

    /// The logs that are named by their keys.
    fn logs(&self, wanted: &Sigstore) -> Result<Vec<Log>, Refusal> {
        let keys = self.keys(
            &wanted.rekor_public_key_path,
            &wanted.rekor_public_key_paths,
            &wanted.rekor_public_key_data,
            &wanted.rekor_public_key_datas,
        )?;
        Ok(keys.into_iter().map(|key| Log { key, valid: Period::EVER }).collect())
    }

    fn root(&self, wanted: &Sigstore) -> Result<Option<Root>, Refusal> {
        let (what, text) = match (&wanted.trusted_root_path, &wanted.trusted_root_data) {
            (None, None) => return Ok(None),
            (Some(path), None) => (path.display().to_string(), self.file(path)?),
            (None, Some(data)) => ("trustedRootData".to_owned(), self.decoded("trustedRootData", data)?),
            (Some(_), Some(_)) => {
                let problem = "names both trustedRootPath and trustedRootData";
                return Err(Refusal::Requirement { policy: self.path().to_owned(), problem });
            }
        };
        Root::parse(&text).map(Some).map_err(|error| self.material(&what, error))
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
        let parts = [&signature.certificate, &signature.chain, &signature.bundle, &signature.sigstore];
        let lengths = parts.into_iter().flatten().chain([&signature.statement, &signature.signature]);
        if lengths.map(String::len).max().unwrap_or(0) > 2 * MOST_BYTES {
            return Err("it is too long".to_owned());
        }
        if let Some(bundle) = &signature.sigstore {
            return self.accepts_bundle(subject, bundle);
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

    fn accepts_bundle(&self, subject: &Subject<'_>, text: &str) -> Result<(), String> {
        let bundle = Bundle::parse(text)?;
        let (message, made) = (bundle.message(), bundle.signature.as_slice());
        let in_log = |maker: &Maker<'_>| {
            let mut verdict = Err("it is not in the log");
            for record in &bundle.records {
                verdict = record.entered(&self.logs, &bundle.payload, made, maker);
                if verdict.is_ok() {
                    break;
                }
            }
            verdict
        };
        match &self.fulcio {
            None => self.is_by_a_key(&message, made, |key| in_log(&Maker::Key(key)))?,
            Some(fulcio) => {
                let (certificate, between) = bundle.certificates.split_first().ok_or("it has no certificate")?;
                let time = in_log(&Maker::Certificate(certificate))?;
                is_by_the_signer(fulcio, certificate, between, time, &message, made)?;
            }
        }
        let digests = bundle::signed(&bundle.payload)?;
        if !digests.iter().any(|digest| subject.digests.contains(digest)) {
            return Err(format!("it is for {}", digests[0]));
        }
        match self.identity {
            Identity::DigestOnly {} => Ok(()),
            // Who has good signatures of two images could pass one off as the other (no name in it says which is which).
            _ => {
                Err("it is a bundle, which signs no name, only the digest; signedIdentity digestOnly takes it"
                    .to_owned())
            }
        }
    }

    /// Whether one of the keys made it, and the log has that, where one is wanted.
    fn is_by_a_key(
        &self,
        message: &[u8],
        made: &[u8],
        in_log: impl FnOnce(&PublicKey) -> Result<u64, &'static str>,
    ) -> Result<(), &'static str> {
        let key = self.keys.iter().find(|key| key.verifies(message, made)).ok_or("it is by another key")?;
        if !self.logs.is_empty() {
            in_log(key)?;
        }
        Ok(())
    }

    fn is_by_the_trusted(&self, signature: &Signature, statement: &[u8], made: &[u8]) -> Result<(), &'static str> {
        let in_log = |maker: &Maker<'_>| {
            let bundle = signature.bundle.as_deref().ok_or("it is not in the log")?;
            entered(bundle, &self.logs, statement, made, maker)
        };
        let Some(fulcio) = &self.fulcio else {
            return self.is_by_a_key(statement, made, |key| in_log(&Maker::Key(key)));
        };
        let certificates = signature.certificate.as_deref().and_then(certificate::all);
        let certificate = certificates.and_then(|all| all.into_iter().next()).ok_or("it has no certificate")?;
        let time = in_log(&Maker::Certificate(&certificate))?;
        let between = signature.chain.as_deref().and_then(certificate::all).unwrap_or_default();
        is_by_the_signer(fulcio, &certificate, &between, time, statement, made)
    }
}

/// Whether the signer that the policy names made it. The log's time counts: the certificate was good for minutes.
fn is_by_the_signer(
    (fulcio, authorities): &(&Fulcio, Vec<Authority>),
    certificate: &[u8],
    between: &[Vec<u8>],
    time: u64,
    message: &[u8],
    made: &[u8],
) -> Result<(), &'static str> {
    let signer = certificate::signer(certificate, between, authorities, time)?;
    if signer.issuer.as_deref() != Some(fulcio.oidc_issuer.as_str()) {
        return Err("somebody else vouched for its signer");
    }
    // One of the two is there, and only that one counts.
    let is_mail = fulcio.subject_email.as_ref().is_some_and(|mail| signer.mails.contains(mail));
    let is_uri = fulcio.subject_uri.as_ref().is_some_and(|uri| signer.uris.contains(uri));
    if !is_mail && !is_uri {
        return Err("it is by another signer");
    }
    match signer.key.verifies(message, made) {
        true => Ok(()),
        false => Err("it is not by its certificate's key"),
    }
}

/// Whether a signed name is good for the image that is wanted (containers-policy.json(5), `signedIdentity`).
fn is_for(identity: &Identity, wanted: Option<&Reference>, signed: &str) -> bool {
    let Ok(signed) = Reference::parse(signed) else { return matches!(identity, Identity::DigestOnly {}) };
    let exact =
        |wanted: &Reference, signed: &Reference| wanted.digest().is_none() && wanted.to_string() == signed.to_string();
    let repository = |wanted: &Reference, signed: &Reference| wanted.name() == signed.name();
    match identity {
        Identity::DigestOnly {} => true,
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
        let digest_only = r#"{"type":"digestOnly"}"#;
        assert!(check(digest_only, "r.test/a:1", "r.test/b") && check(digest_only, "r.test/a:1", "no name at all"));
    }
}
