//! What is taken on disk, in blocks as du(1) counts them: `system df`.

use crate::containers::record::{Container, Status};
use crate::engine::Engine;
use crate::error::{Context, Result};
use crate::images::ImageSummary;
use crate::volumes::Volume;
use oci::digest::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What everything takes, in bytes.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Images, the newest first.
    pub images: Vec<ImageUsage>,
    /// All layers, each once, and the documents.
    pub layers: u64,
    /// The part of them that no container needs.
    pub layers_reclaimable: u64,
    /// Containers, the newest first.
    pub containers: Vec<ContainerUsage>,
    /// Volumes by name.
    pub volumes: Vec<VolumeUsage>,
}

/// What an image takes.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: ImageSummary,
    /// Bytes of its layers.
    pub size: u64,
    /// The part of them that other images have too.
    pub shared: u64,
}

/// What a container takes.
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    /// The container.
    pub container: Container,
    /// Bytes of its own layer, its log and the files that are made for it.
    pub size: u64,
}

impl ContainerUsage {
    /// Whether it could be removed without being killed.
    pub fn is_stopped(&self) -> bool {
        matches!(self.container.status, Status::Created | Status::Exited)
    }
}

/// What a volume takes.
#[derive(Clone, Debug)]
pub struct VolumeUsage {
    /// The volume.
    pub volume: Volume,
    /// Bytes of its own directory; what its options mount is not counted.
    pub size: u64,
}

/// What a container takes, as `ps --size` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerSize {
    /// Bytes of its own layer.
    pub own: u64,
    /// That and its image.
    pub with_image: u64,
}

impl Engine {
    /// Measures one container. Takes as long as it takes to look at every file of its own layer.
    pub fn container_size(&self, container: &Container) -> Result<ContainerSize> {
        let failed = || format!("cannot measure container {}", container.name);
        let own =
            store::Writable::open(self.store()?, &container.id).internal(failed)?.file_bytes().internal(failed)?;
        // An image without a name may have gone before its container.
        let image = self.find_image(&container.settings.image_id)?.map_or(0, |row| row.size);
        Ok(ContainerSize { own, with_image: own + image })
    }

    /// Measures everything. Takes as long as it takes to look at every file.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.put_right();
        let measured = |path: &Path| store::disk_usage(path).internal(|| format!("cannot measure {}", path.display()));
        let mut usage = DiskUsage::default();
        for container in self.list(true)? {
            let size = measured(&container.directory)?;
            usage.containers.push(ContainerUsage { container, size });
        }
        for volume in self.volumes()? {
            let size = self.volume_size(&volume.name)?;
            usage.volumes.push(VolumeUsage { volume, size });
        }
        self.measure_images(&mut usage)?;
        Ok(usage)
    }

    fn measure_images(&self, usage: &mut DiskUsage) -> Result<()> {
        let mut images = Vec::new();
        let mut sizes: BTreeMap<Digest, (u64, usize)> = BTreeMap::new();
        for summary in self.images()? {
            // One that was removed meanwhile is not counted.
            let Ok(image) = self.image(&summary.id) else { continue };
            let layers: BTreeSet<Digest> = image.layers.into_iter().collect();
            for diff_id in &layers {
                if !sizes.contains_key(diff_id) {
                    sizes.insert(diff_id.clone(), (self.layer_on_disk(diff_id)?, 0));
                }
                if let Some((_, users)) = sizes.get_mut(diff_id) {
                    *users += 1;
                }
            }
            images.push((summary, layers));
        }
        let known: BTreeMap<&str, ()> =
            usage.containers.iter().map(|each| (each.container.settings.image_id.as_str(), ())).collect();
        let mut needed = BTreeSet::new();
        for (image, layers) in images {
            let of = |shared: bool| -> u64 {
                let counted = layers.iter().filter_map(|layer| sizes.get(layer));
                counted.filter(|(_, users)| !shared || *users > 1).map(|(size, _)| size).sum()
            };
            let (size, shared) = (of(false), of(true));
            if known.contains_key(image.id.as_str()) {
                needed.extend(layers);
            }
            usage.images.push(ImageUsage { image, size, shared });
        }
        let data = &self.directories().data;
        for name in ["layers", "blobs"] {
            let path = data.join(name);
            usage.layers += store::disk_usage(&path).internal(|| format!("cannot measure {}", path.display()))?;
        }
        let kept: u64 = needed.iter().filter_map(|layer| sizes.get(layer)).map(|(size, _)| size).sum();
        usage.layers_reclaimable =
            if needed.is_empty() && usage.images.is_empty() { 0 } else { usage.layers.saturating_sub(kept) };
        Ok(())
    }

    /// The layer with its record.
    fn layer_on_disk(&self, diff_id: &Digest) -> Result<u64> {
        let failed = || format!("cannot measure layer {diff_id}");
        let tree = self.store()?.layers().path(diff_id).internal(failed)?;
        store::disk_usage(tree.parent().unwrap_or(&tree)).internal(failed)
    }
}
