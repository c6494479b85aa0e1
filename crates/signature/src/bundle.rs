//! Sigstore's bundle, version 0.3, as cosign 3 attaches it to an image: an envelope (DSSE) with a statement (in-toto) about the
//! image's digest, and what is needed to check who signed it.
//!
//! It has no name: what is signed is a digest alone. Statements of other kinds, as provenance or a list of packages, are by trusted
//! hands too, and say nothing about whether an image may be used.

use crate::log::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::digest::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

const TYPES: [&str; 2] =
    ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3"];
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// cosign's word for a signature.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// Entries in logs, and images, that one bundle has.
const MOST: usize = 32;

const MALFORMED: &str = "its bundle is malformed";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Raw>,
    #[serde(rename = "x509CertificateChain")]
    chain: Option<Chain>,
    #[serde(default)]
    tlog_entries: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Made>,
}

#[derive(Deserialize)]
struct Made {
    sig: String,
}

/// A bundle, decoded; nothing of it checked.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The signer's certificate and those between it and an authority; none for a key.
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) records: Vec<Record>,
    /// What the statement is written in.
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Bundle {
    pub(crate) fn parse(text: &str) -> Result<Bundle, &'static str> {
        let text: Text = serde_json::from_str(text).map_err(|_| MALFORMED)?;
        if !TYPES.contains(&text.media_type.as_str()) {
            return Err("its bundle is of a version that is not supported; 0.3 is");
        }
        let envelope = match (text.dsse_envelope, text.message_signature) {
            (Some(envelope), None) => envelope,
            (None, Some(_)) => {
                return Err("its bundle signs bare bytes (messageSignature), not a statement about an image");
            }
            _ => return Err(MALFORMED),
        };
        if envelope.payload_type != IN_TOTO {
            return Err("what it signs is not a statement about an image");
        }
        let material = text.verification_material;
        let certificates =
            material.certificate.into_iter().chain(material.chain.into_iter().flat_map(|it| it.certificates));
        let certificates: Result<Vec<_>, _> = certificates.map(|raw| STANDARD.decode(raw.raw_bytes)).collect();
        let [made] = &envelope.signatures[..] else { return Err("its bundle has not exactly one signature") };
        let bundle = Bundle {
            certificates: certificates.map_err(|_| MALFORMED)?,
            records: material.tlog_entries,
            payload: STANDARD.decode(envelope.payload).map_err(|_| MALFORMED)?,
            signature: STANDARD.decode(&made.sig).map_err(|_| MALFORMED)?,
        };
        match bundle.records.len() > MOST || bundle.certificates.len() > MOST {
            true => Err(MALFORMED),
            false => Ok(bundle),
        }
    }

    /// What is signed: the statement and its type, so that one cannot be taken for the other (DSSE, "PAE").
    pub(crate) fn message(&self) -> Vec<u8> {
        let head = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), self.payload.len());
        [head.as_bytes(), &self.payload].concat()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<About>,
}

#[derive(Deserialize)]
struct About {
    digest: BTreeMap<String, String>,
}

/// The digests that a statement, whose signature was good, signs.
pub(crate) fn signed(payload: &[u8]) -> Result<Vec<Digest>, &'static str> {
    const NONE: &str = "what it signs is not a statement about an image";
    let statement: Statement = serde_json::from_slice(payload).map_err(|_| NONE)?;
    if !STATEMENTS.contains(&statement.kind.as_str()) {
        return Err(NONE);
    }
    if statement.predicate_type != SIGNED {
        return Err("it is an attestation, not a signature");
    }
    let about = statement.subject.iter().take(MOST).filter_map(|about| about.digest.get("sha256"));
    let digests: Vec<Digest> = about.filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect();
    if digests.is_empty() { Err(NONE) } else { Ok(digests) }
}
