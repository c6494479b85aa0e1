//! `image prune`, and the collection of what no image names: the leases are the claim's (module `claim`), so nothing is taken
//! from a pull, a load or a push that is under way, and a run's image has its row in the database.

use super::{ImageSummary, Removed, table};
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use std::collections::HashSet;

/// What a prune did.
#[derive(Clone, Debug, Default)]
pub struct PrunedImages {
    /// Names and identifiers that are gone.
    pub removed: Vec<Removed>,
    /// Bytes of files that are gone.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes images that no container uses and for which `wanted` is true: with `all` any, otherwise those without a tag.
    /// Then collects layers and documents that belong to no image.
    ///
    /// # Errors
    /// The first failure that is not about one image alone.
    pub fn prune_images(&self, all: bool, wanted: &dyn Fn(&ImageSummary) -> bool) -> Result<PrunedImages> {
        self.put_right();
        let mut pruned = PrunedImages::default();
        for image in self.images()? {
            if image.containers > 0 || !(all || image.names.is_empty()) || !wanted(&image) {
                continue;
            }
            let before = self.layers_of(&image.id)?;
            match self.remove_image(&image.id, true) {
                Ok(removed) => {
                    for step in &removed {
                        if let Removed::Deleted(id) = step {
                            pruned.reclaimed +=
                                before.iter().find(|(layer, _)| layer == id).map_or(0, |(_, size)| *size);
                        }
                    }
                    pruned.removed.extend(removed);
                }
                // A container was made, or somebody else removed it.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let (removed, reclaimed) = self.collect_unnamed()?;
        pruned.removed.extend(removed);
        pruned.reclaimed += reclaimed + self.collect_shifted()?;
        Ok(pruned)
    }

    fn layers_of(&self, id: &str) -> Result<Vec<(String, u64)>> {
        let Some(row) = table::by_id(self.database()?.read(), id)? else { return Ok(Vec::new()) };
        let store = self.store()?;
        let size = |layer: &String| {
            let digest = layer.parse().ok()?;
            Some((layer.clone(), store.layers().get(&digest).ok()?.size))
        };
        Ok(row.layers.iter().filter_map(size).collect())
    }

    /// Removes layers and documents that belong to no image, unless somebody is about to record one: then nothing.
    /// Returns what went and the bytes of its files.
    pub(crate) fn collect_unnamed(&self) -> Result<(Vec<Removed>, u64)> {
        match self.claim_unnamed_layers()? {
            Some(_alone) => self.collect_claimed(),
            None => Ok((Vec::new(), 0)),
        }
    }

    /// The same for whoever holds the claim.
    pub(crate) fn collect_claimed(&self) -> Result<(Vec<Removed>, u64)> {
        self.collect_merged()?;
        let (layers, blobs) = self.unnamed()?;
        let store = self.store()?;
        let (mut removed, mut reclaimed) = (Vec::new(), 0);
        let mut removal = store.layers().removal();
        for layer in layers {
            reclaimed += store.layers().get(&layer).map_or(0, |layer| layer.size);
            if removal.take(&layer).internal(|| format!("cannot remove layer {layer}"))? {
                removed.push(Removed::Deleted(layer.to_string()));
            }
        }
        for blob in blobs {
            store.blobs().remove(&blob).internal(|| format!("cannot remove blob {blob}"))?;
        }
        removal.finish().internal(|| "cannot remove layers".into())?;
        store.forget_marks(None).internal(|| "cannot forget what is gone".into())?;
        Ok((removed, reclaimed))
    }

    /// Layers and documents of no image. Only who holds the claim may believe it.
    pub(crate) fn unnamed(&self) -> Result<(Vec<oci::digest::Digest>, Vec<oci::digest::Digest>)> {
        let store = self.store()?;
        let rows = table::all(self.database()?.read())?;
        let named: HashSet<&str> =
            rows.iter().flat_map(|row| row.layers.iter().chain([&row.id, &row.manifest])).map(String::as_str).collect();
        let mut layers = store.layers().list().internal(|| "cannot list the layers".into())?;
        layers.retain(|layer| !named.contains(layer.to_string().as_str()));
        let mut blobs = store.blobs().list().internal(|| "cannot list the blobs".into())?;
        blobs.retain(|blob| !named.contains(blob.to_string().as_str()));
        Ok((layers, blobs))
    }
}
