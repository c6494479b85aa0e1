//! `layer.json`: what is known about an unpacked layer.

use crate::error::StoreError;
use crate::tally::Tally;
use oci::digest::Digest;
use serde::{Deserialize, Serialize};

/// Format 1. Unknown fields are ignored, so that fields can be added.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) diff_id: Digest,
    /// How the layer is stored.
    pub(crate) backend: Backend,
    /// Bytes in regular files, each hard-linked file once.
    pub(crate) size: u64,
    /// Members of the archive.
    pub(crate) entries: u64,
    /// Bytes of the plain archive.
    pub(crate) archive_size: u64,
    /// Does the archive have an entry for the root, so that the tree's own mode and owner mean something?
    #[serde(default)]
    pub(crate) root_entry: bool,
    /// Is the root itself opaque? overlayfs does not look for the mark there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hides_lower: bool,
    /// Bytes of the file `recipe`, with which the archive can be put together again; layers of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recipe: Option<u64>,
    /// Did a later member of the archive take the place of an earlier one? Then there may be `replaced/`, and a name of the
    /// archive need not lead to the content that it had there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replaced: bool,
    /// The digest by which fs-verity sealed the image, where the file system has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verity: Option<Digest>,
    /// For the check after a power cut.
    pub(crate) tally: Tally,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// The closed list of ways to store a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A directory tree, used as a lower directory of overlayfs.
    #[default]
    Directory,
    /// One file, an image of EROFS, mounted read-only for whoever needs it. Only for root: a user namespace cannot mount it.
    Erofs,
}

pub(crate) const FILE: &str = "layer.json";
pub(crate) const TREE: &str = "tree";
pub(crate) const IMAGE: &str = "image.erofs";
pub(crate) const RECIPE: &str = "recipe";

impl Record {
    pub(crate) fn parse(bytes: &[u8], file: String) -> Result<Record, StoreError> {
        serde_json::from_slice(bytes).map_err(|source| StoreError::Damaged { file, source })
    }
}
