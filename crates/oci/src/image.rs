//! The OCI image specification 1.1 and Docker's image manifest version 2, schema 2: what a registry or an archive holds.
//!
//! Both families have the same JSON and differ in media types only. Docker's schema 1 is refused by name. A document that
//! two programs could read as two different things (CVE-2021-41190) is refused: see [`Document::parse`].
//!
//! Digests and sizes are those of the bytes as transferred: keep the bytes, never print a parsed document again.

mod config;
mod document;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, InvalidConfig, RootFs};
pub use document::{Document, InvalidDocument};

use crate::digest::Digest;
use crate::lenient;
use crate::platform::Platform;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest manifest, index or image configuration that is read, in bytes; the specification's advice for registries.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// Media types by name.
pub mod media_type {
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A plain tar layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A gzip-compressed tar layer.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A zstd-compressed tar layer.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// The two bytes `{}`, where a manifest needs a blob and has nothing to say.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// Docker's index ("manifest list").
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's gzip-compressed layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's plain layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's zstd-compressed layer.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// A layer that may not be pushed to other registries and comes from its own addresses.
    pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// Docker's plugin configuration: not an image.
    pub const DOCKER_PLUGIN: &str = "application/vnd.docker.plugin.v1+json";

    /// Whether this is one of the two indexes.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_INDEX)
    }

    /// Whether this is one of the two manifests.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether this is a configuration of a container image.
    pub fn is_config(media_type: &str) -> bool {
        matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
    }

    /// Whether this is Docker's schema 1, which nothing has written since 2017.
    pub fn is_schema_1(media_type: &str) -> bool {
        matches!(
            media_type,
            "application/vnd.docker.distribution.manifest.v1+json"
                | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        )
    }

    /// Whether this is a layer that may not be pushed to other registries.
    pub fn is_foreign_layer(media_type: &str) -> bool {
        media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
            || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
    }

    /// Whether this is a layer encrypted by ocicrypt (`…+encrypted`).
    pub fn is_encrypted(media_type: &str) -> bool {
        media_type.ends_with("+encrypted")
    }

    /// Whether this is a file-system layer as a tar stream, compressed or not, encrypted or not.
    pub fn is_layer(media_type: &str) -> bool {
        media_type.starts_with("application/vnd.oci.image.layer.")
            || media_type.starts_with("application/vnd.docker.image.rootfs.")
    }

    /// The media type of a `Content-Type` header: without parameters, in lower case.
    pub fn essence(content_type: &str) -> String {
        content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// Annotations that we read.
pub mod annotation {
    /// The tag, or the whole reference, in an OCI layout's index.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// The whole reference in an OCI layout written by containerd or Docker.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// `attestation-manifest` on an index entry of BuildKit that is not an image.
    pub const DOCKER_REFERENCE_TYPE: &str = "vnd.docker.reference.type";
}

/// What an image specification document says about another blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
    /// Further places to have the blob from (foreign layers). Untrusted: never send credentials there.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free annotations.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The blob itself in base64; to be checked against `size` and `digest` like any other source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The kind of artifact that the descriptor leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with the three fields that every one has.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// A descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// Whether an index entry is BuildKit's attestation (provenance, SBOM) and no image.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get(annotation::DOCKER_REFERENCE_TYPE).is_some_and(|kind| kind == "attestation-manifest")
    }
}

/// One image for one platform: a configuration and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The kind of artifact, when this is not a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Free annotations.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// What the manifest holds if it is not a container image: its artifact type, or its configuration's media type.
    ///
    /// `None` for an image. Without any media type, or with `application/octet-stream` (Docker before 1.12), it is taken
    /// for an image.
    pub fn foreign_kind(&self) -> Option<&str> {
        match self.config.media_type.as_str() {
            "" | "application/octet-stream" => None,
            media_type if media_type::is_config(media_type) => None,
            media_type => Some(self.artifact_type.as_deref().unwrap_or(media_type)),
        }
    }
}

/// A list of manifests, usually one for each platform ("fat manifest", "manifest list").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The kind of artifact, when these are not container images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries in the index's order.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Free annotations.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The entry that suits `platform` best; among equals the first, as containerd does.
    ///
    /// An index with one entry that names no platform stands for that entry (written by old tools and by `umoci`).
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let images = || self.manifests.iter().filter(|entry| !entry.is_attestation());
        let ranked = images().filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)));
        if let Some((_, entry)) = ranked.min_by_key(|(rank, _)| *rank) {
            return Some(entry);
        }
        let mut unmarked = images();
        unmarked.next().filter(|entry| entry.platform.is_none() && unmarked.next().is_none())
    }

    /// The platforms on offer, for an error message.
    pub fn platforms(&self) -> Vec<Platform> {
        let images = self.manifests.iter().filter(|entry| !entry.is_attestation());
        images.filter_map(|entry| entry.platform.as_ref().map(Platform::normalised)).collect()
    }
}

/// One image in a `docker save` archive: an element of the list in its `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchiveImage {
    /// The name of the archive's entry with the image configuration. An entry name, not a path: match it exactly.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub config: String,
    /// Names with tags.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub repo_tags: Vec<String>,
    /// The names of the archive's entries with the layers, lowest first.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub layers: Vec<String>,
    /// Since Docker 1.10, for foreign layers: diffID to descriptor.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub layer_sources: BTreeMap<Digest, Descriptor>,
}

impl ArchiveImage {
    /// Parses a `docker save` archive's `manifest.json`.
    ///
    /// # Errors
    /// [`InvalidDocument`] when it is longer than [`MAX_DOCUMENT`] or not that list.
    pub fn parse_list(bytes: &[u8]) -> Result<Vec<ArchiveImage>, InvalidDocument> {
        document::bounded("manifest.json", bytes)?;
        serde_json::from_slice(bytes).map_err(|source| InvalidDocument::Json { what: "manifest.json", source })
    }
}

/// The file `oci-layout` at the root of an OCI image layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// `1.0.0`.
    pub image_layout_version: String,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout { image_layout_version: "1.0.0".to_owned() }
    }
}

#[cfg(test)]
mod tests;
