//! Telling manifests from indexes without trusting one field alone.

use super::{Index, MAX_DOCUMENT, Manifest, media_type};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A list of images.
    Index(Index),
}

/// Bytes that are not a manifest or index that we read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDocument {
    /// Longer than [`MAX_DOCUMENT`].
    #[error("the {what} has {length} bytes; more than {MAX_DOCUMENT} are not read")]
    TooLarge {
        /// What it should be.
        what: &'static str,
        /// Its length in bytes.
        length: u64,
    },
    /// Not JSON, or a field of the wrong type.
    #[error("the {what} is malformed")]
    Json {
        /// What it should be.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Docker's schema 1.
    #[error(
        "the image is in Docker's manifest format version 1, which ended in 2017; have it pushed again with a current tool"
    )]
    Schema1,
    /// Two programs could read two different things.
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(String),
    /// Neither a manifest nor an index.
    #[error("the document is not an image manifest: {0}")]
    Unknown(String),
}

/// Top-level fields that decide what a document is.
const DECISIVE: [&str; 8] =
    ["schemaVersion", "mediaType", "manifests", "layers", "config", "fsLayers", "history", "blobs"];

impl Document {
    /// Parses a manifest or an index; `content_type` is what the registry or the descriptor called it, if anything did.
    ///
    /// # Errors
    /// [`InvalidDocument`]. Refused as ambiguous: both `manifests` and any of `config`, `layers`, `fsLayers`, `blobs`; a
    /// `mediaType` that disagrees with the content or with `content_type`; a decisive field twice, or spelled in another
    /// case (Go's JSON reader would take `Layers` for `layers`).
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document, InvalidDocument> {
        bounded("manifest", bytes)?;
        let outer = content_type.map(media_type::essence).unwrap_or_default();
        if media_type::is_schema_1(&outer) {
            return Err(InvalidDocument::Schema1);
        }
        let json = |source| InvalidDocument::Json { what: "manifest", source };
        let probe: Probe = serde_json::from_slice(bytes).map_err(json)?;
        if let Some(ambiguity) = probe.ambiguity {
            return Err(InvalidDocument::Ambiguous(ambiguity));
        }
        let inner = probe.media_type.clone().unwrap_or_default();
        if media_type::is_schema_1(&inner) || probe.schema_version == Some(1) || probe.has("fsLayers") {
            return Err(InvalidDocument::Schema1);
        }
        if probe.schema_version != Some(2) {
            return Err(InvalidDocument::Unknown("its schemaVersion is not 2".to_owned()));
        }
        let is_index = match (probe.has("manifests"), probe.has("config") || probe.has("layers") || probe.has("blobs"))
        {
            (true, true) => {
                let text = "it has both manifests and config or layers".to_owned();
                return Err(InvalidDocument::Ambiguous(text));
            }
            (true, false) => true,
            (false, true) => false,
            (false, false) => {
                return Err(InvalidDocument::Unknown("it has neither manifests nor config and layers".to_owned()));
            }
        };
        let names = [("it calls itself", &inner), ("it was announced as", &outer)];
        for (how, name) in names.into_iter().filter(|(_, name)| !name.is_empty()) {
            check_name(is_index, how, name)?;
        }
        if known(&inner) && known(&outer) && inner != outer {
            return Err(InvalidDocument::Ambiguous(format!(
                "it calls itself {inner:?} and was announced as {outer:?}"
            )));
        }
        match is_index {
            true => serde_json::from_slice(bytes).map(Document::Index).map_err(json),
            false => serde_json::from_slice(bytes).map(Document::Manifest).map_err(json),
        }
    }
}

/// Types of files and of careless servers say nothing; a known type must agree with the content.
fn check_name(is_index: bool, how: &str, name: &str) -> Result<(), InvalidDocument> {
    let agrees = match is_index {
        true => !media_type::is_manifest(name),
        false => !media_type::is_index(name),
    };
    match agrees {
        true => Ok(()),
        false => {
            let content = if is_index { "manifests" } else { "config and layers" };
            Err(InvalidDocument::Ambiguous(format!("{how} {name:?} and has {content}")))
        }
    }
}

fn known(name: &str) -> bool {
    media_type::is_index(name) || media_type::is_manifest(name)
}

pub(super) fn bounded(what: &'static str, bytes: &[u8]) -> Result<(), InvalidDocument> {
    match bytes.len() as u64 {
        length if length > MAX_DOCUMENT => Err(InvalidDocument::TooLarge { what, length }),
        _ => Ok(()),
    }
}

/// A first look at the top level: which decisive fields are there.
#[derive(Default)]
struct Probe {
    schema_version: Option<u64>,
    media_type: Option<String>,
    present: Vec<&'static str>,
    ambiguity: Option<String>,
}

impl Probe {
    fn has(&self, name: &str) -> bool {
        self.present.contains(&name)
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Probe, D::Error> {
        deserializer.deserialize_map(ProbeVisitor)
    }
}

struct ProbeVisitor;

impl<'de> Visitor<'de> for ProbeVisitor {
    type Value = Probe;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Probe, A::Error> {
        let mut probe = Probe::default();
        while let Some(key) = map.next_key::<String>()? {
            let Some(name) = DECISIVE.into_iter().find(|name| folded(name) == folded(&key)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if name != key {
                probe
                    .ambiguity
                    .get_or_insert(format!("it has the field {key:?}, which some programs read as {name:?}"));
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            // null counts as absent, as in Go; it cannot hide the same field later.
            let is_there = match name {
                "schemaVersion" => {
                    let value = map.next_value::<Option<u64>>()?;
                    probe.schema_version = probe.schema_version.or(value);
                    value.is_some()
                }
                "mediaType" => {
                    let value = map.next_value::<Option<String>>()?;
                    let is_there = value.is_some();
                    probe.media_type = probe.media_type.or(value);
                    is_there
                }
                _ => map.next_value::<Option<IgnoredAny>>()?.is_some(),
            };
            if probe.has(name) {
                probe.ambiguity.get_or_insert(format!("it has the field {name:?} twice"));
            }
            if is_there {
                probe.present.push(name);
            }
        }
        Ok(probe)
    }
}

/// Go's case folding for field names, which also takes `ſ` for `s` and the Kelvin sign for `k`.
fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}
