//! What is taken on disk, in blocks as du(1) counts them: `system df`.

use crate::containers::record::{Container, Status};
use crate::engine::Engine;
use crate::error::{Context, Result};
use crate::images::ImageSummary;
use crate::volumes::Volume;
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
        for container in self.lines(crate::containers::Detail::NoNetworks)? {
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

    /// Measures images and layers alone; nothing of it counts as needed by containers.
    ///
    /// # Errors
    /// When files cannot be looked at.
    pub fn images_usage(&self) -> Result<DiskUsage> {
        self.put_right();
        let mut usage = DiskUsage::default();
        self.measure_images(&mut usage)?;
        Ok(usage)
    }

    fn measure_images(&self, usage: &mut DiskUsage) -> Result<()> {
        let rows = crate::images::table::all(self.database()?.read())?;
        let mut layers: BTreeMap<String, BTreeSet<String>> =
            rows.iter().map(|row| (row.id.clone(), row.layers.iter().cloned().collect())).collect();
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for layer in layers.values().flatten() {
            *users.entry(layer).or_default() += 1;
        }
        let shared: BTreeSet<String> =
            users.into_iter().filter(|(_, users)| *users > 1).map(|(layer, _)| layer.to_owned()).collect();
        let data = &self.directories().data;
        let measured = |name: &str| {
            let path = data.join(name);
            store::disk_usage_of_each(&path).internal(|| format!("cannot measure {}", path.display()))
        };
        let (documents, unpacked, shifted) = (measured("blobs")?, measured("layers")?, measured("shifted")?);
        let merged = measured("merged")?;
        // By image: the name of what is merged of its layers.
        let mut summaries: BTreeMap<String, String> = rows
            .iter()
            .filter_map(|row| Some((row.id.clone(), crate::images::merged::name(&row.layers)?.hex().to_owned())))
            .collect();
        let merged_size = |name: &String| merged.each.get(name).copied().unwrap_or(0);
        // A layer's directory has its digest as its name. One that is gone takes nothing.
        let size = |layer: &String| {
            let name = layer.rsplit_once(':').map_or(layer.as_str(), |(_, hex)| hex);
            unpacked.each.get(name).copied().unwrap_or(0)
        };
        let known: BTreeSet<&str> =
            usage.containers.iter().map(|each| each.container.settings.image_id.as_str()).collect();
        let (mut needed, mut needed_merged) = (BTreeSet::new(), BTreeSet::new());
        for image in self.summaries(rows)? {
            let layers = layers.remove(&image.id).unwrap_or_default();
            let summary = summaries.remove(&image.id);
            usage.images.push(ImageUsage {
                size: layers.iter().map(size).sum::<u64>() + summary.as_ref().map_or(0, merged_size),
                shared: layers.iter().filter(|layer| shared.contains(*layer)).map(size).sum(),
                image,
            });
            if usage.images.last().is_some_and(|each| known.contains(each.image.id.as_str())) {
                needed.extend(layers);
                needed_merged.extend(summary);
            }
        }
        usage.layers = documents.all + unpacked.all + shifted.all + merged.all;
        // The layers' forms with other owners, by whose ids they are.
        let in_use: BTreeSet<String> = usage
            .containers
            .iter()
            .filter_map(|each| each.container.settings.stored_shift())
            .map(|s| s.key())
            .collect();
        let forms = shifted.each.iter().filter(|(key, _)| in_use.contains(*key)).map(|(_, bytes)| bytes);
        let kept: u64 =
            needed.iter().map(size).chain(forms.copied()).chain(needed_merged.iter().map(merged_size)).sum();
        usage.layers_reclaimable =
            if needed.is_empty() && usage.images.is_empty() { 0 } else { usage.layers.saturating_sub(kept) };
        Ok(())
    }
}
