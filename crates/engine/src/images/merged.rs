//! The one image that is merged of an image's layers where these are images (`store`): made when an image is stored, or for its first
//! container, and gone with the last image of those layers.

use super::table;
use crate::check::Checked;
use crate::containers::options::MountSource;
use crate::containers::record::Settings;
use crate::engine::Engine;
use crate::error::{Context, Result};
use oci::digest::Digest;
use rusqlite::Connection;
use std::collections::BTreeSet;
use store::Layers;

/// Topmost first, of a record's layers, lowest first. None if they are no digests, which whoever uses them tells.
fn topmost_first(layers: &[String]) -> Option<Vec<Digest>> {
    layers.iter().rev().map(|text| text.parse().ok()).collect()
}

/// The name of what is merged of a record's layers.
pub(crate) fn name(layers: &[String]) -> Option<Digest> {
    topmost_first(layers).map(|layers| Layers::merged_name(&layers))
}

impl Engine {
    /// Merges the layers of a container's image, and of those that are mounted in it. That it fails is no reason not to go on, with the
    /// layers one by one: if they are why, they will tell.
    pub(crate) fn merge_layers(&self, settings: &Settings) -> Result<()> {
        let store = self.store()?;
        let mounted = settings.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image(image) => Some(&image.layers),
            _ => None,
        });
        for layers in mounted.chain([&settings.layers]).filter_map(|layers| topmost_first(layers)) {
            store.layers().merge(&layers).ok();
        }
        Ok(())
    }

    /// Removes what was merged of these layers, unless another image has the same. Returns its name. The caller holds the claim.
    pub(crate) fn forget_merged(&self, connection: &Connection, layers: &[String]) -> Result<Option<Digest>> {
        let Some(all) = topmost_first(layers) else { return Ok(None) };
        let Some(top) = all.first() else { return Ok(None) };
        let others = table::with_layers(connection, std::slice::from_ref(top))?;
        if others.iter().any(|row| row.layers == layers) {
            return Ok(None);
        }
        let name = Layers::merged_name(&all);
        let removed = self.store()?.layers().remove_merged(name.hex());
        removed.internal(|| "cannot remove the merged image of the layers".into())?;
        Ok(Some(name))
    }

    /// Removes what is of no image. The caller holds the claim.
    pub(crate) fn collect_merged(&self) -> Result<()> {
        let kept = self.merged_names()?;
        self.store()?.layers().retain_merged(&kept).internal(|| "cannot remove merged images of no image".into())
    }

    fn merged_names(&self) -> Result<BTreeSet<String>> {
        let rows = table::all(self.database()?.read())?;
        Ok(rows.iter().filter_map(|row| Some(name(&row.layers)?.hex().to_owned())).collect())
    }

    /// Compares all with what would be made now. What is not the same goes, and is made again when it is needed.
    pub(crate) fn check_merged(&self, repair: bool, checked: &mut Checked) -> Result<()> {
        let store = self.store()?;
        let failed = || "cannot look at the merged images".to_owned();
        // Somebody may be about to name the layers.
        let alone = self.claim_unnamed_layers()?;
        let kept = self.merged_names()?;
        for image in store.layers().check_merged().internal(failed)? {
            let what = match (image.whole, kept.contains(&image.name)) {
                (false, _) => "is damaged",
                (true, false) if alone.is_some() => "belongs to no image",
                _ => continue,
            };
            if repair {
                store.layers().remove_merged(&image.name).internal(failed)?;
            }
            checked.found(format!("the merged image {} {what}", image.name), repair.then(|| "removed".to_owned()));
        }
        Ok(())
    }
}
