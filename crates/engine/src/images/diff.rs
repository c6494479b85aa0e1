//! `image diff`: what differs between two images, or between an image and all but its top layer.

use super::no_such_image;
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use oci::digest::Digest;
use store::ChangeKind;

/// A name that differs between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDifference {
    /// From the root, starting with `/`; bytes as they are.
    pub path: Vec<u8>,
    /// `A` for added, `C` for changed, `D` for deleted, as `docker diff` has them.
    pub letter: char,
}

impl Engine {
    /// Differences from `old` to `wanted`; without `old`, what the topmost layer of `wanted` does.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn image_diff(&self, wanted: &str, old: Option<&str>) -> Result<Vec<ImageDifference>> {
        let _held = self.rely_on_layers()?;
        let new = self.layers_from_top(wanted)?;
        let old = match old {
            Some(old) => self.layers_from_top(old)?,
            None => new.get(1..).unwrap_or_default().to_vec(),
        };
        let changes = self.store()?.layers().compare(&old, &new).internal(|| "cannot compare the images".into())?;
        let letter = |kind| match kind {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'C',
            ChangeKind::Deleted => 'D',
        };
        Ok(changes
            .into_iter()
            .map(|change| ImageDifference { path: change.path, letter: letter(change.kind) })
            .collect())
    }

    fn layers_from_top(&self, wanted: &str) -> Result<Vec<Digest>> {
        let row = self.find_image(wanted)?.ok_or_else(|| no_such_image(wanted))?;
        let layers = row.layers.iter().rev().map(|id| id.parse()).collect::<std::result::Result<_, _>>();
        layers.kind(Kind::Corrupt, || format!("the record of image {} cannot be read", row.id))
    }
}
