//! Files in and out of containers as tar streams: what `cp` and the archive requests of Docker's API are made of.
//!
//! Three verbs on a container ([`Engine::path_stat`], [`Engine::archive_out`], [`Engine::archive_in`]), and the same two
//! on the caller's side ([`local`]). All paths of the container are resolved beneath its root by the kernel ([`crate::view`]);
//! nothing of it is executed.

pub mod local;
mod place;

use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::view::View;
use place::Place;
use rustix::fs::FileType;
use std::io::{Read, Write};

pub use store::{Onto as Unpack, Owners};

/// What stands at a path of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Last name of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// `st_mode`: type and permissions as the kernel has them.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds after them.
    pub mtime_nanoseconds: u32,
    /// Where a symbolic link leads within the container, absolute; empty for everything else.
    pub link_target: String,
}

impl PathStat {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Symlink
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }
}

/// How an archive is unpacked in a container.
#[derive(Clone, Debug, Default)]
pub struct ArchiveIn {
    /// Refuse to replace a directory by something else and the reverse.
    pub keep_kinds: bool,
    /// All files belong to the container's user in place of the owners in the archive.
    pub owner_is_user: bool,
    /// The first name of members, and what it is to be: `(old, new)`; an empty old name stands for all.
    pub rename: Option<(Vec<u8>, Vec<u8>)>,
}

impl Engine {
    /// What stands at `path` of a container, running or not; a link at its end is not followed unless a slash follows.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container and the path.
    pub fn path_stat(&self, container: &str, path: &str) -> Result<PathStat> {
        self.with_view(container, |view| Ok(Place::find(view, container, path)?.stat))
    }

    /// Writes what stands at `path` as a plain tar archive whose names begin with the path's last name.
    ///
    /// `begin` is told what stands there before the first byte is written.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container and the path; the sink's.
    pub fn archive_out(
        &self,
        container: &str,
        path: &str,
        begin: impl FnOnce(&PathStat) + Send,
        sink: impl Write + Send,
    ) -> Result<()> {
        let ownership = self.store()?.ownership();
        self.with_files(container, |view| {
            let place = Place::find(view, container, path)?;
            begin(&place.stat);
            place.pack(ownership, view.shift(), sink)
        })?;
        self.record_copy(container, "archive-path", path);
        Ok(())
    }

    /// Writes down that files went in or out.
    fn record_copy(&self, container: &str, action: &str, path: &str) {
        let known = self.database().and_then(|database| crate::containers::table::find(database.read(), container));
        // It was just there; one that is gone has its own event.
        if let Ok(entry) = known {
            self.record_of(&entry.id, &entry.name, &entry.settings, action, &[("path", path)]);
        }
    }

    /// Unpacks a tar archive, compressed or not, in the directory `path` of a container.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container and the path; [`Kind::InvalidArgument`] if it is no directory, or a member
    /// cannot be unpacked there; [`Kind::Forbidden`] if it is read-only.
    pub fn archive_in(&self, container: &str, path: &str, source: impl Read + Send, options: &ArchiveIn) -> Result<()> {
        let entry = crate::containers::table::find(self.database()?.read(), container)?;
        let single_id = self.store()?.ownership().single_id;
        self.with_view(container, |view| {
            if path.is_empty() {
                return Err(Error::new(Kind::InvalidArgument, "path cannot be empty"));
            }
            let place = Place::find_directory(view, container, path)?;
            if !place.stat.is_directory() {
                return Err(Error::new(Kind::InvalidArgument, "extraction point is not a directory"));
            }
            let owners = match options.owner_is_user && !entry.settings.user.is_empty() {
                true => place::owner(view, &entry.settings.user)?,
                false => Owners::Archive,
            };
            let options = Unpack {
                owners,
                keep_kinds: options.keep_kinds,
                rename: options.rename.clone(),
                shift: view.shift().clone(),
            };
            unpack(view, path, source, &options, single_id)
        })?;
        self.record_copy(container, "extract-to-dir", path);
        Ok(())
    }
}

/// Unpacks an archive below a directory of a view.
pub(crate) fn unpack(view: &View, directory: &str, source: impl Read, options: &Unpack, single_id: bool) -> Result<()> {
    let ownership = store::Ownership { single_id, ..store::Ownership::default() };
    store::unpack_onto(view.root(), directory.as_bytes(), source, options, ownership).map_err(|error| {
        let kind = match &error {
            store::StoreError::Entry { .. } | store::StoreError::Archive(_) | store::StoreError::Decompress(_)
                if error.errno().is_none() =>
            {
                Kind::InvalidArgument
            }
            _ if error.errno() == Some(rustix::io::Errno::ROFS) => Kind::Forbidden,
            _ => Kind::Internal,
        };
        let read_only = kind == Kind::Forbidden;
        let wrapped = Error::caused(kind, format!("cannot copy to {directory}"), error);
        if read_only {
            wrapped.hint("the container's file system, or the volume, is mounted read-only")
        } else {
            wrapped
        }
    })
}

/// Packs what stands at a place.
impl Place {
    fn pack(&self, ownership: store::Ownership, shift: &store::Shift, sink: impl Write) -> Result<()> {
        let failed = || format!("cannot copy {}", self.shown);
        self.write(ownership, shift, sink).internal(failed)
    }
}
