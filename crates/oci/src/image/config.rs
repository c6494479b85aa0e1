//! The image configuration: what a container of the image runs, and which layers it stands on.

use super::{Manifest, document};
use crate::digest::Digest;
use crate::lenient;
use crate::platform::Platform;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An image configuration (OCI image specification 1.1, config.md, with Docker's extensions).
///
/// Everything in it was written by strangers. `labels`, `env` and `user` are data and never become instructions to us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339, as written; empty if absent.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Who made the image.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The platform: `architecture`, `os`, `variant`, `os.version`, `os.features`.
    #[serde(flatten)]
    pub platform: Platform,
    /// How to run a container.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub config: ContainerConfig,
    /// The layers' contents.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub rootfs: RootFs,
    /// How the image came to be, oldest first.
    #[serde(default, deserialize_with = "lenient::null_elements", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The layers of an image by content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "lenient::null_is_default")]
    pub kind: String,
    /// The digests of the layers' uncompressed tar streams, lowest first.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step in an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339, as written; empty if absent.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// The command.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who did it.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Free text.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// How to run a container of the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user[:group]`, by name or number; empty for root.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port[/protocol]`.
    #[serde(default, with = "lenient::set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`. An element without `=` must be ignored: it must not name a variable of ours (CVE-2026-57231).
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The words before the command; `None` when not set, which differs from an empty list.
    #[serde(default, deserialize_with = "lenient::words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command, or the default arguments of the entrypoint.
    #[serde(default, deserialize_with = "lenient::words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that get an anonymous volume each.
    #[serde(default, with = "lenient::set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The working directory; empty for `/`.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the container to end, such as `SIGTERM` or `15`; empty for the default.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to see whether the container is well (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for a build on top of this image (Docker).
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of the Dockerfile's shell form (Docker).
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Whether the command is already escaped for Windows (Docker).
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// The host name that a committed container had (Docker).
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The domain name that a committed container had (Docker).
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub domainname: String,
}

/// Docker's health check. Times are in nanoseconds; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// Empty: inherit. `["NONE"]`: none. `["CMD", …]`: run these words. `["CMD-SHELL", command]`: run by the shell.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// After the start, in which failures do not count.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks during the start period.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until the container is unhealthy.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Bytes that are not an image configuration that we use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Longer than [`super::MAX_DOCUMENT`], or malformed.
    #[error(transparent)]
    Document(#[from] document::InvalidDocument),
    /// Not a stack of layers.
    #[error("the image configuration's rootfs is of type {0:?}, not \"layers\"")]
    RootFs(String),
    /// Manifest and configuration disagree.
    #[error("the manifest has {layers} layers and the image configuration has {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A layer that only a key makes readable. Refused before anything is looked up: that the plain layer lies in the store
    /// already, from another image, must not open it (CVE-2022-24778).
    #[error("layer {0} is encrypted; dhow keeps no keys and cannot use encrypted images")]
    Encrypted(crate::digest::Digest),
}

impl ImageConfig {
    /// Parses an image configuration. `null` and absent fields are empty; unknown fields are ignored.
    ///
    /// # Errors
    /// [`InvalidConfig`] when it is too long, malformed, or does not describe layers.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, InvalidConfig> {
        const WHAT: &str = "image configuration";
        document::bounded(WHAT, bytes)?;
        let config: ImageConfig =
            serde_json::from_slice(bytes).map_err(|source| document::InvalidDocument::Json { what: WHAT, source })?;
        match config.rootfs.kind.as_str() {
            "" | "layers" => Ok(config),
            other => Err(InvalidConfig::RootFs(other.chars().take(80).collect())),
        }
    }

    /// Checks that the manifest's layers can be the configuration's, and can be read at all.
    ///
    /// # Errors
    /// [`InvalidConfig::LayerCount`], [`InvalidConfig::Encrypted`].
    pub fn check_layers(&self, manifest: &Manifest) -> Result<(), InvalidConfig> {
        if let Some(layer) = manifest.layers.iter().find(|layer| super::media_type::is_encrypted(&layer.media_type)) {
            return Err(InvalidConfig::Encrypted(layer.digest.clone()));
        }
        let (layers, diff_ids) = (manifest.layers.len(), self.rootfs.diff_ids.len());
        match layers == diff_ids {
            true => Ok(()),
            false => Err(InvalidConfig::LayerCount { layers, diff_ids }),
        }
    }
}
