//! Copy-up: an empty volume gets what the image has at its target, once.
//!
//! The content is copied to `_fill` beside the volume's data, renamed to `_ready` when it is complete, and moved from
//! there into place name by name. A kill before the rename leaves the volume empty, one after it has the sweep move the
//! rest; the data directory itself stays the same, as another container may have it mounted.

use crate::containers::options::{MountSource, VolumeMount};
use crate::containers::record::Settings;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::view;
use kernel::beneath::{self, Limits};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const UNFINISHED: &str = "_fill";
const READY: &str = "_ready";

impl Engine {
    /// Makes the directories of a container's volumes; with `fill` empty ones get the image's content.
    pub(crate) fn prepare_volumes(&self, entry: &Entry, fill: bool) -> Result<()> {
        for mount in &entry.settings.mounts {
            let MountSource::Volume(volume) = &mount.source else { continue };
            if !self.volume_data(&volume.name).is_dir() {
                self.make_volume_directory(&volume.name)?;
                if let Some(row) = super::table::find(self.database()?.read(), &volume.name)? {
                    self.make_limited(&volume.name, &row.options)?;
                }
            }
            if fill {
                self.own_volume(&volume.name, &entry.settings)?;
            }
            if fill && !volume.no_copy && volume.subpath.is_empty() {
                self.fill_volume(entry, volume, &mount.target)?;
            }
        }
        Ok(())
    }

    /// A new volume belongs to the user, whose the container is, or else to the container's root; on the disk both are others.
    fn own_volume(&self, name: &str, settings: &Settings) -> Result<()> {
        let Some((uid, gid)) = settings.stored_root().filter(|_| !settings.has_the_user()) else { return Ok(()) };
        let data = self.volume_data(name);
        let failed = || format!("cannot own {}", data.display());
        let status = std::fs::symlink_metadata(&data).internal(failed)?;
        if (status.uid(), status.gid()) != (0, 0) || !is_empty(&data)? {
            return Ok(());
        }
        std::os::unix::fs::lchown(&data, Some(uid), Some(gid)).internal(failed)
    }

    fn fill_volume(&self, entry: &Entry, volume: &VolumeMount, target: &str) -> Result<()> {
        let name = &volume.name;
        let row = super::table::find(self.database()?.read(), name)?.ok_or_else(|| super::no_such_volume(name))?;
        let own = self.volume_data(name);
        let data = match super::options::source(&row.options, own.clone()) {
            super::Source::Directory(path) => path,
            super::Source::Bind { path, .. } => path.into(),
            super::Source::Limited(image) => return self.fill_limited(entry, name, target, &image),
            // What is mounted for each container is filled there, or has its own content.
            super::Source::FileSystem { .. } => return Ok(()),
        };
        if !is_empty(&data)? {
            return Ok(());
        }
        let held = self.hold_volume(name)?;
        self.finish_filling(name)?;
        if data != own {
            // A directory of the host is on any file system, so nothing can be moved there in one step.
            if is_empty(&data)? {
                self.copy_image_content(entry, name, target, &data)?;
            }
            return held.release();
        }
        let directory = self.volume_directory(name);
        if is_empty(&data)? && self.copy_image_content(entry, name, target, &directory.join(UNFINISHED))? {
            rustix::fs::rename(directory.join(UNFINISHED), directory.join(READY))
                .internal(|| format!("cannot complete the content of volume {name}"))?;
            self.finish_filling(name)?;
        }
        held.release()
    }

    /// Copies what the image has at `target` to a directory; false if it has nothing there.
    fn copy_image_content(&self, entry: &Entry, name: &str, target: &str, fill: &Path) -> Result<bool> {
        self.copy_image_content_to(entry, name, target, || {
            crate::directories::make(fill, 0o700)?;
            open_directory(fill)
        })
    }

    /// The same to a directory that is opened when there is something to copy.
    pub(super) fn copy_image_content_to(
        &self,
        entry: &Entry,
        name: &str,
        target: &str,
        open: impl FnOnce() -> Result<OwnedFd> + Send,
    ) -> Result<bool> {
        let ownership = self.store()?.ownership();
        let root = self.image_root(entry)?;
        view::isolated(|| {
            let root = runtime::detached_root(&root).internal(|| "cannot look into the image".into())?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let from = match beneath::open(root.as_fd(), target, flags, Mode::empty(), Limits::default()) {
                Ok(from) => from,
                Err(error) if error.errno() == Errno::NOENT => return Ok(false),
                Err(error) if error.errno() == Errno::NOTDIR => {
                    return Err(Error::caused(
                        Kind::InvalidArgument,
                        format!("cannot mount volume over existing file, file exists {target}"),
                        error,
                    ));
                }
                Err(error) => return Err(error).internal(|| format!("cannot look into {target} of the image")),
            };
            let to = open()?;
            store::copy_tree(from.as_fd(), to.as_fd(), ownership)
                .internal(|| format!("cannot fill volume {name} with the image's {target}"))?;
            Ok(true)
        })
    }

    /// Moves complete content into place, and removes incomplete content. The caller holds the volume.
    pub(crate) fn finish_filling(&self, name: &str) -> Result<()> {
        let directory = self.volume_directory(name);
        let failed = || format!("cannot fill volume {name}");
        self.forget_half_filled(name)?;
        if directory.join(UNFINISHED).exists() {
            self.store()?.discard(&directory, UNFINISHED).internal(failed)?;
        }
        let ready = directory.join(READY);
        if !ready.exists() {
            return Ok(());
        }
        self.make_volume_directory(name)?;
        let (from, to) = (open_directory(&ready)?, open_directory(&self.volume_data(name))?);
        for entry in std::fs::read_dir(&ready).internal(failed)? {
            let entry = entry.internal(failed)?.file_name();
            match rustix::fs::renameat_with(&from, &entry, &to, &entry, rustix::fs::RenameFlags::NOREPLACE) {
                // A container that runs has made the name itself meanwhile: its own stays.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).internal(failed),
            }
        }
        // After the names, as they change the directory's time.
        store::copy_attributes(from.as_fd(), to.as_fd(), self.store()?.ownership()).internal(failed)?;
        self.store()?.discard(&directory, READY).internal(failed)
    }
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(path).internal(|| format!("cannot read {}", path.display()))?;
    Ok(entries.next().is_none())
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).internal(|| format!("cannot open {}", path.display()))
}
