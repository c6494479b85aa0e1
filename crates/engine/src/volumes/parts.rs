//! Parts of volumes: whether what is to be mounted of them is there.

use super::options::{Source, source};
use crate::containers::options::MountSource;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use kernel::beneath::{self, Limits};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::PathBuf;

impl Engine {
    /// Looks for the parts of volumes that a container mounts. Whoever mounts them looks again; this one has the words by which
    /// clients of Docker tell that a part is missing.
    ///
    /// # Errors
    /// [`Kind::SourceNotFound`] for a part that is not there.
    pub(crate) fn find_parts(&self, entry: &Entry) -> Result<()> {
        for mount in &entry.settings.mounts {
            let MountSource::Volume(volume) = &mount.source else { continue };
            if volume.subpath.is_empty() {
                continue;
            }
            let row = super::table::find(self.database()?.read(), &volume.name)?;
            let row = row.ok_or_else(|| super::no_such_volume(&volume.name))?;
            let whole = match source(&row.options, self.volume_data(&volume.name)) {
                Source::Directory(path) => path,
                Source::Bind { path, .. } => PathBuf::from(path),
                // Of these there are no parts.
                Source::Limited(_) | Source::FileSystem { .. } => continue,
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(&whole, flags, Mode::empty())
                .internal(|| format!("cannot open {}", whole.display()))?;
            let found = beneath::open(root.as_fd(), &volume.subpath, OFlags::PATH, Mode::empty(), Limits::default());
            if found.is_err_and(|error| error.errno() == Errno::NOENT) {
                let path = whole.join(&volume.subpath);
                return Err(Error::new(
                    Kind::SourceNotFound,
                    format!(
                        "cannot start container {}: cannot access path {}: no such file or directory",
                        entry.name,
                        path.display()
                    ),
                )
                .hint(format!("make it in volume {} first", volume.name)));
            }
        }
        Ok(())
    }
}
