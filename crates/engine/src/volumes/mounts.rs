//! All mounts of a new container: those of other containers, the caller's, and the volumes that the image declares.

use super::options::{self, Source};
use super::table::{self, Row};
use crate::containers::options::{ImageMount, Mount, MountSource, VolumeMount};
use crate::containers::record::Settings;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::images::ImageDefaults;
use oci::digest::Digest;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the content of a container's mounts is, for lowering, which looks at nothing.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// By name of the volume.
    pub volumes: BTreeMap<String, Source>,
    /// Directories of layers, topmost first, by identifier of the image.
    pub images: BTreeMap<String, Vec<PathBuf>>,
}

impl Engine {
    /// Docker's order: what comes from other containers, replaced by what the caller mounts at the same place; then the
    /// image's volumes where nothing is mounted yet. Names are drawn here, nothing is made.
    pub(crate) fn all_mounts(&self, options: &crate::Options, image: &ImageDefaults) -> Result<Vec<Mount>> {
        let mut mounts: Vec<Mount> = Vec::new();
        for from in &options.volumes_from {
            for mount in self.mounts_of(&from.container, from.read_only)? {
                replace(&mut mounts, mount);
            }
        }
        for mount in &options.mounts {
            replace(&mut mounts, mount.clone());
        }
        for path in &image.volumes {
            let target = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
            crate::containers::settle::check_target(&target, options.privileged)
                .map_err(|error| error.hint("the image declares this path as a volume"))?;
            if !mounts.iter().any(|mount| same_place(&mount.target, &target)) {
                mounts.push(Mount {
                    source: MountSource::Volume(VolumeMount::default()),
                    target,
                    read_only: false,
                    relabel: None,
                });
            }
        }
        for mount in &mut mounts {
            self.settle_mount(mount)?;
        }
        Ok(mounts)
    }

    /// Checks a mount, and finds or draws the name of what it shows.
    pub(crate) fn settle_mount(&self, mount: &mut Mount) -> Result<()> {
        match &mut mount.source {
            MountSource::Volume(volume) => {
                super::check_driver(&volume.driver)?;
                self.check_options(&volume.options)?;
                if volume.name.is_empty() {
                    volume.name = crate::names::identifier()?;
                    volume.anonymous = true;
                }
                super::check_name(&volume.name)?;
                check_subpath("volume", &volume.subpath)
            }
            MountSource::Image(image) => {
                check_subpath("image", &image.subpath)?;
                self.settle_image(image)?;
                mount.read_only = true;
                Ok(())
            }
            MountSource::Bind { .. } | MountSource::Tmpfs { .. } => Ok(()),
        }
    }

    fn settle_image(&self, image: &mut ImageMount) -> Result<()> {
        if image.id.is_empty() {
            let row = self.find_image(&image.name)?.ok_or_else(|| {
                crate::images::no_such_image(&image.name).hint("an image that is mounted must be pulled before")
            })?;
            self.check_use(&row, &image.name)?;
            image.id = row.id;
            image.layers = row.layers;
        }
        Ok(())
    }

    /// What `--volumes-from` takes over: all but memory, which is each container's own.
    fn mounts_of(&self, container: &str, read_only: bool) -> Result<Vec<Mount>> {
        let entry = crate::containers::table::find(self.database()?.read(), container)?;
        let shared =
            entry.settings.mounts.into_iter().filter(|mount| !matches!(mount.source, MountSource::Tmpfs { .. }));
        Ok(shared
            .map(|mut mount| {
                mount.read_only |= read_only;
                if let MountSource::Volume(volume) = &mut mount.source {
                    // It is filled already, or was emptied on purpose.
                    volume.no_copy = true;
                }
                mount
            })
            .collect())
    }

    /// Makes the named volumes that are missing.
    pub(crate) fn ensure_named_volumes(&self, settings: &Settings) -> Result<()> {
        for volume in volumes_of(settings).filter(|volume| !volume.anonymous) {
            self.ensure_volume(&row(volume))?;
        }
        Ok(())
    }

    /// Records the container's volumes and images in the transaction that records the container.
    pub(crate) fn record_mounts(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        id: &str,
        settings: &Settings,
    ) -> Result<()> {
        for mount in &settings.mounts {
            match &mount.source {
                MountSource::Volume(volume) => {
                    if table::find(transaction, &volume.name)?.is_none() {
                        if !volume.anonymous {
                            return Err(super::no_such_volume(&volume.name).hint("it was just removed: try again"));
                        }
                        // Nobody else can know the name, so nothing else can be at work on it.
                        table::insert(transaction, &row(volume))?;
                    }
                    table::add_use(transaction, &volume.name, id)?;
                }
                MountSource::Image(image) => {
                    if !crate::images::table::exists(transaction, &image.id)? {
                        return Err(crate::images::no_such_image(&image.name));
                    }
                    table::add_image_mount(transaction, &image.id, id)?;
                }
                MountSource::Bind { .. } | MountSource::Tmpfs { .. } => {}
            }
        }
        Ok(())
    }

    /// Where the content of the mounts is. Volumes that do not exist yet are taken as they will be made.
    pub(crate) fn mount_sources(&self, settings: &Settings) -> Result<Sources> {
        let mut sources = Sources::default();
        for mount in &settings.mounts {
            match &mount.source {
                MountSource::Volume(volume) => {
                    let known = table::find(self.database()?.read(), &volume.name)?;
                    let options = known.map_or_else(|| volume.options.clone(), |row| row.options);
                    let source = options::source(&options, self.volume_data(&volume.name));
                    sources.volumes.insert(volume.name.clone(), source);
                }
                MountSource::Image(image) => {
                    let corrupt = || format!("the layers of image {} cannot be read", image.name);
                    let digests = image.layers.iter().rev().map(|text| text.parse());
                    let digests =
                        digests.collect::<std::result::Result<Vec<Digest>, _>>().kind(Kind::Corrupt, corrupt)?;
                    let layers = self.store()?.layers();
                    let lower = match settings.stored_shift() {
                        None => layers.lower(&digests),
                        Some(shift) => layers.lower_shifted(&digests, &shift),
                    }
                    .internal(corrupt)?;
                    sources.images.insert(image.id.clone(), lower);
                }
                MountSource::Bind { .. } | MountSource::Tmpfs { .. } => {}
            }
        }
        Ok(sources)
    }
}

fn row(volume: &VolumeMount) -> Row {
    let mut labels = volume.labels.clone();
    if volume.anonymous {
        labels.insert(super::ANONYMOUS_LABEL.into(), String::new());
    }
    Row {
        name: volume.name.clone(),
        anonymous: volume.anonymous,
        created_at: crate::clock::now(),
        options: volume.options.clone(),
        labels,
    }
}

fn volumes_of(settings: &Settings) -> impl Iterator<Item = &VolumeMount> {
    settings.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some(volume),
        _ => None,
    })
}

fn same_place(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn replace(mounts: &mut Vec<Mount>, mount: Mount) {
    mounts.retain(|old| !same_place(&old.target, &mount.target));
    mounts.push(mount);
}

/// The path is resolved beneath the volume in any case; what only looks like a way out is a mistake.
fn check_subpath(kind: &str, path: &str) -> Result<()> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains(['\0', '\n']) {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!(
                "invalid mount config for type \"{kind}\": subpath must be a relative path within the {kind}: {path:?}"
            ),
        ));
    }
    Ok(())
}
