//! A transparency log's promise that it has an entry: Rekor's signed entry timestamp, checked without asking anybody.
//!
//! cosign keeps it in the annotation `dev.sigstore.cosign/bundle`: the entry, and a signature by the log's key over the entry's
//! canonical JSON (RFC 8785: keys sorted, no space). The entry itself must be about this very signature by this very key
//! (CVE-2022-36056: one about another was accepted).

use crate::der;
use crate::key::PublicKey;
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: Spec,
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

/// When the log took the entry for this signature over this statement, in seconds since 1970.
pub(crate) fn entered(
    bundle: &str,
    logs: &[PublicKey],
    statement: &[u8],
    signature: &[u8],
    maker: &Maker<'_>,
) -> Result<u64, &'static str> {
    const MALFORMED: &str = "its log entry is malformed";
    let bundle: Bundle = serde_json::from_str(bundle).map_err(|_| MALFORMED)?;
    let promise = STANDARD.decode(&bundle.signed_entry_timestamp).map_err(|_| MALFORMED)?;
    let canonical = canonical(&bundle.payload).ok_or(MALFORMED)?;
    if !logs.iter().any(|log| log.verifies(canonical.as_bytes(), &promise)) {
        return Err("its log entry is not the policy's log's");
    }
    let body = STANDARD.decode(&bundle.payload.body).map_err(|_| MALFORMED)?;
    let body: Body = serde_json::from_slice(&body).map_err(|_| MALFORMED)?;
    if (body.kind.as_str(), body.api_version.as_str()) != ("hashedrekord", "0.0.1") {
        return Err("its log entry is of a kind that is not supported");
    }
    let hash = &body.spec.data.hash;
    let is_this_statement =
        hash.algorithm == "sha256" && hash.value.eq_ignore_ascii_case(Digest::sha256(statement).hex());
    let is_this_signature = STANDARD.decode(&body.spec.signature.content).is_ok_and(|entered| entered == signature);
    if !is_this_statement || !is_this_signature || !is_by(&body.spec.signature.public_key.content, maker) {
        return Err("its log entry is about another signature");
    }
    Ok(bundle.payload.integrated_time)
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
