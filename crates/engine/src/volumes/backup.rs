//! A volume as a tar stream: for a backup, and back.

use crate::archives;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::view::View;
use rustix::fs::{Mode, OFlags};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

impl Engine {
    /// Writes a volume's content as a plain tar archive, with owners, modes and extended attributes.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::InvalidArgument`] for a volume whose options mount a file system for each container.
    pub fn export_volume(&self, name: &str, sink: impl Write) -> Result<()> {
        let data = self.volume_root(name)?;
        let failed = || format!("cannot export volume {name}");
        let ownership = self.store()?.ownership();
        store::pack_tree(data, b".", ownership, &store::Shift::default(), sink)
            .internal(failed)?
            .flush()
            .internal(failed)
    }

    /// Adds the content of a tar archive, compressed or not, to a volume.
    pub fn import_volume(&self, name: &str, source: impl Read) -> Result<()> {
        let data = self.volume_root(name)?;
        let options = archives::Unpack { owners: archives::Owners::Archive, ..archives::Unpack::default() };
        archives::unpack(&View::of(data), "/", source, &options, self.store()?.ownership().single_id)
    }

    pub(super) fn volume_root(&self, name: &str) -> Result<OwnedFd> {
        let volume = self.volume(name)?;
        let path = match super::options::source(&volume.options, volume.mountpoint) {
            super::Source::Directory(path) => {
                self.make_volume_directory(name)?;
                path
            }
            super::Source::Bind { path, .. } => path.into(),
            super::Source::Limited(image) => return super::limited::root(name, &image),
            super::Source::FileSystem { kind, .. } => {
                return Err(Error::new(
                    Kind::InvalidArgument,
                    format!(
                        "volume {name} is a {kind} that is mounted for each container and has no content of its own"
                    ),
                ));
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).internal(|| format!("cannot open {}", path.display()))
    }
}
