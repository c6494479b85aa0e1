//! A transparency log's promise that it has an entry: Rekor's signed entry timestamp, checked without asking anybody.
//!
//! cosign keeps it in the annotation `dev.sigstore.cosign/bundle`: the entry, and a signature by the log's key over the entry's
//! canonical JSON (RFC 8785: keys sorted, no space). The entry itself must be about this very signature by this very key
//! (CVE-2022-36056: one about another was accepted). A Sigstore bundle has the same in other words, and a proof besides (module
//! `inclusion`).

use crate::der;
use crate::inclusion::Proof;
use crate::key::PublicKey;
use crate::root::Period;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::digest::Digest;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    body: String,
    integrated_time: u64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
}

/// A log, and when it took entries.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) key: PublicKey,
    pub(crate) valid: Period,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<S> {
    spec: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: String,
    kind: String,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: Signed,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    content: String,
    public_key: Key,
}

#[derive(Deserialize)]
struct Key {
    content: String,
}

/// By what a signature was made.
pub(crate) enum Maker<'a> {
    /// By a key.
    Key(&'a PublicKey),
    /// By the key of this certificate.
    Certificate(&'a [u8]),
}

const MALFORMED: &str = "its log entry is malformed";
const ANOTHER: &str = "its log entry is about another signature";

/// When the log took the entry for this signature over this statement, in seconds since 1970.
pub(crate) fn entered(
    bundle: &str,
    logs: &[Log],
    statement: &[u8],
    signature: &[u8],
    maker: &Maker<'_>,
) -> Result<u64, &'static str> {
    let bundle: Bundle = serde_json::from_str(bundle).map_err(|_| MALFORMED)?;
    let promise = STANDARD.decode(&bundle.signed_entry_timestamp).map_err(|_| MALFORMED)?;
    is_promised(&bundle.payload, &promise, logs)?;
    let body = STANDARD.decode(&bundle.payload.body).map_err(|_| MALFORMED)?;
    let spec: Spec = spec(&body, "hashedrekord")?;
    let is_this_statement = spec.data.hash.is_of(statement);
    let is_this_signature = STANDARD.decode(&spec.signature.content).is_ok_and(|entered| entered == signature);
    if !is_this_statement || !is_this_signature || !is_by(&spec.signature.public_key.content, maker) {
        return Err(ANOTHER);
    }
    Ok(bundle.payload.integrated_time)
}

/// Whether one of the logs signed that it has this entry, from this time on.
fn is_promised(entry: &Entry, promise: &[u8], logs: &[Log]) -> Result<(), &'static str> {
    let canonical = canonical(entry).ok_or(MALFORMED)?;
    let mut logs = logs.iter().filter(|log| log.valid.contains(entry.integrated_time));
    match logs.any(|log| log.key.verifies(canonical.as_bytes(), promise)) {
        true => Ok(()),
        false => Err("its log entry is not the policy's log's"),
    }
}

/// The content of an entry of this kind.
fn spec<S: serde::de::DeserializeOwned>(body: &[u8], wanted: &str) -> Result<S, &'static str> {
    let kind: Kind = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
    if (kind.kind.as_str(), kind.api_version.as_str()) != (wanted, "0.0.1") {
        return Err("its log entry is of a kind that is not supported");
    }
    let body: Body<S> = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
    Ok(body.spec)
}

impl Hash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        self.algorithm == "sha256" && self.value.eq_ignore_ascii_case(Digest::sha256(bytes).hex())
    }
}

fn canonical(entry: &Entry) -> Option<String> {
    let (body, log) = (serde_json::to_string(&entry.body).ok()?, serde_json::to_string(&entry.log_id).ok()?);
    let (time, index) = (entry.integrated_time, entry.log_index);
    Some(format!("{{\"body\":{body},\"integratedTime\":{time},\"logID\":{log},\"logIndex\":{index}}}"))
}

fn is_by(content: &str, maker: &Maker<'_>) -> bool {
    let Some(text) = STANDARD.decode(content).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return false;
    };
    match maker {
        Maker::Key(key) => PublicKey::from_pem(&text).is_ok_and(|entered| entered == **key),
        Maker::Certificate(certificate) => {
            let blocks = der::pem(&text, "CERTIFICATE").unwrap_or_default();
            blocks.first().is_some_and(|entered| entered == certificate)
        }
    }
}

/// An entry as a Sigstore bundle has it: with a promise, which has the time, and a proof.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    // protobuf leaves out what is zero, and writes these numbers as text.
    #[serde(default)]
    log_index: Number,
    log_id: LogId,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<ProofText>,
    canonicalized_body: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofText {
    #[serde(default)]
    log_index: Number,
    root_hash: String,
    tree_size: Number,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Checkpoint,
}

#[derive(Debug, Deserialize)]
struct Checkpoint {
    envelope: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "NumberText")]
struct Number(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberText {
    Text(String),
    Number(u64),
}

impl TryFrom<NumberText> for Number {
    type Error = std::num::ParseIntError;

    fn try_from(text: NumberText) -> Result<Number, Self::Error> {
        match text {
            NumberText::Text(text) => text.parse().map(Number),
            NumberText::Number(number) => Ok(Number(number)),
        }
    }
}

/// An entry about an envelope.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enveloped {
    payload_hash: Hash,
    signatures: Vec<Verified>,
}

#[derive(Deserialize)]
struct Verified {
    signature: String,
    verifier: String,
}

impl Record {
    /// When the log took the entry for this signature over an envelope's content, in seconds since 1970.
    pub(crate) fn entered(
        &self,
        logs: &[Log],
        payload: &[u8],
        signature: &[u8],
        maker: &Maker<'_>,
    ) -> Result<u64, &'static str> {
        let body = STANDARD.decode(&self.canonicalized_body).map_err(|_| MALFORMED)?;
        let spec: Enveloped = spec(&body, "dsse")?;
        let promise = self.inclusion_promise.as_ref();
        let promise =
            promise.ok_or("its log entry has no promise, and timestamps of others (RFC 3161) are not read")?;
        let promise = STANDARD.decode(&promise.signed_entry_timestamp).map_err(|_| MALFORMED)?;
        let log_id = STANDARD.decode(&self.log_id.key_id).map_err(|_| MALFORMED)?;
        let entry = Entry {
            body: self.canonicalized_body.clone(),
            integrated_time: self.integrated_time.0,
            log_id: log_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            log_index: self.log_index.0,
        };
        is_promised(&entry, &promise, logs)?;
        let then: Vec<&Log> = logs.iter().filter(|log| log.valid.contains(entry.integrated_time)).collect();
        if !self.is_proved(&body, &then)? {
            return Err("its log entry is not proved to be in the policy's log");
        }
        let [verified] = &spec.signatures[..] else { return Err(ANOTHER) };
        let is_this_signature = STANDARD.decode(&verified.signature).is_ok_and(|entered| entered == signature);
        match spec.payload_hash.is_of(payload) && is_this_signature && is_by(&verified.verifier, maker) {
            true => Ok(entry.integrated_time),
            false => Err(ANOTHER),
        }
    }

    fn is_proved(&self, body: &[u8], logs: &[&Log]) -> Result<bool, &'static str> {
        let Some(proof) = &self.inclusion_proof else { return Ok(false) };
        let root = STANDARD.decode(&proof.root_hash).map_err(|_| MALFORMED)?;
        let hashes: Result<Vec<_>, _> = proof.hashes.iter().map(|hash| STANDARD.decode(hash)).collect();
        let hashes = hashes.map_err(|_| MALFORMED)?;
        let (index, size) = (proof.log_index.0, proof.tree_size.0);
        let proof = Proof { index, size, root: &root, hashes: &hashes, checkpoint: &proof.checkpoint.envelope };
        Ok(proof.proves(body, logs))
    }
}
