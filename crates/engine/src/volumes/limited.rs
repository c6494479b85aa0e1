//! Volumes with a size (`--opt size=`): their data are in a file with an ext4 file system, mounted for whoever needs it.
//!
//! ```text
//! <data>/volumes/<name>/_data          empty: what Docker calls the mount point
//! <data>/volumes/<name>/limited.ext4   the data
//! <data>/volumes/<name>/_filling       while the image's content is copied: a kill leaves it, and the sweep begins anew
//! ```

use super::options::{self, LIMITED};
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const FILLING: &str = "_filling";

impl Engine {
    /// Refuses options that could not be used, here or at all.
    pub(super) fn check_options(&self, options: &BTreeMap<String, String>) -> Result<()> {
        options::check(options)?;
        if options::limit(options).is_some() && self.host()?.user_namespace {
            return Err(Error::new(Kind::InvalidArgument, "quota size requested but no quota support").hint(
                "an ordinary user has a limit with a tmpfs: --opt type=tmpfs --opt device=tmpfs --opt o=size=…",
            ));
        }
        Ok(())
    }

    /// Makes the file of a volume that has a size, unless it is there.
    pub(super) fn make_limited(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let Some(size) = options::limit(options) else { return Ok(()) };
        let directory = self.volume_directory(name);
        if directory.join(LIMITED).is_file() {
            return Ok(());
        }
        self.store()?.make_limited(&directory, LIMITED, size).internal(|| format!("cannot make volume {name}"))
    }

    /// Bytes on disk of the file.
    pub(super) fn limited_size(&self, name: &str) -> u64 {
        let metadata = std::fs::metadata(self.volume_directory(name).join(LIMITED));
        metadata.map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Gives an empty one what the image has at its target.
    pub(super) fn fill_limited(&self, entry: &Entry, name: &str, target: &str, image: &Path) -> Result<()> {
        let failed = || format!("cannot fill volume {name}");
        let held = self.hold_volume(name)?;
        self.finish_filling(name)?;
        let empty = || is_empty(&root(name, image)?);
        if empty()? {
            let mark = image.with_file_name(FILLING);
            crate::directories::make(&mark, 0o700)?;
            self.copy_image_content_to(entry, name, target, || root(name, image))?;
            std::fs::remove_dir(&mark).internal(failed)?;
        }
        held.release()
    }

    /// Begins a volume anew whose content was being copied when a kill came: it was empty before. The caller holds it.
    pub(super) fn forget_half_filled(&self, name: &str) -> Result<()> {
        let directory = self.volume_directory(name);
        let mark = directory.join(FILLING);
        if !mark.is_dir() {
            return Ok(());
        }
        let failed = || format!("cannot empty volume {name}");
        match std::fs::remove_file(directory.join(LIMITED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).internal(failed),
            _ => {}
        }
        if let Some(row) = super::table::find(self.database()?.read(), name)? {
            self.make_limited(name, &row.options)?;
        }
        std::fs::remove_dir(&mark).internal(failed)
    }
}

/// The root directory of a volume's file system; the descriptor keeps it mounted.
pub(super) fn root(name: &str, image: &Path) -> Result<OwnedFd> {
    let failed = || format!("cannot mount volume {name}");
    let mounted = kernel::loops::mount_ext4(image).internal(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&mounted, c".", flags, Mode::empty()).internal(failed)
}

fn is_empty(directory: &OwnedFd) -> Result<bool> {
    let failed = || "cannot read a volume".to_owned();
    for entry in rustix::fs::Dir::read_from(directory).internal(failed)? {
        let entry = entry.internal(failed)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
