//! Volumes in the archive of a checkpoint: out with what is known of them, and in before anybody knows of them.

use super::options::{self, Source};
use super::pending::Held;
use super::table::{self, Row};
use crate::archives;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::view::View;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// What an archive says of a volume, beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Carried {
    pub name: String,
    pub anonymous: bool,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Of its root directory: user, group, permissions.
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Engine {
    /// Writes a volume's content to a file that is opened for it; `None` for one whose content is not its own.
    pub(crate) fn carry_out(&self, name: &str, open: impl FnOnce() -> Result<File>) -> Result<Option<Carried>> {
        let row = table::find(self.database()?.read(), name)?.ok_or_else(|| super::no_such_volume(name))?;
        if !is_own(&options::source(&row.options, self.volume_data(name))) {
            return Ok(None);
        }
        let failed = || format!("cannot export volume {name}");
        let root = self.volume_root(name)?;
        let about = rustix::fs::fstat(&root).internal(failed)?;
        let sink = BufWriter::new(open()?);
        let packed = store::pack_tree(root, b".", self.store()?.ownership(), &store::Shift::default(), sink);
        packed.internal(failed)?.flush().internal(failed)?;
        Ok(Some(Carried {
            name: row.name,
            anonymous: row.anonymous,
            options: row.options,
            labels: row.labels,
            uid: about.st_uid,
            gid: about.st_gid,
            mode: about.st_mode & 0o7777,
        }))
    }

    /// Makes a volume with content that has no row yet: whoever records it lets go of it then. A kill before leaves nothing.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for one that exists, [`Kind::InvalidArgument`] for options that are not of a volume of its own.
    pub(crate) fn carry_in(&self, volume: &Carried, source: impl Read) -> Result<Held> {
        let name = &volume.name;
        super::check_name(name)?;
        self.check_options(&volume.options)?;
        let place = options::source(&volume.options, self.volume_data(name));
        if !is_own(&place) {
            return Err(Error::new(Kind::InvalidArgument, format!("volume {name} of the archive is not its own")));
        }
        let held = self.hold_volume(name)?;
        if table::find(self.database()?.read(), name)?.is_some() {
            held.release()?;
            return Err(Error::new(Kind::Conflict, format!("volume {name} of the archive exists already"))
                .hint("--ignore-volumes takes the one that is there"));
        }
        match self.fill_carried(volume, &place, source) {
            Ok(()) => Ok(held),
            Err(error) => {
                self.drop_carried(name, held);
                Err(error)
            }
        }
    }

    fn fill_carried(&self, volume: &Carried, place: &Source, source: impl Read) -> Result<()> {
        let name = &volume.name;
        let failed = || format!("cannot make volume {name}");
        self.discard_volume(name)?;
        self.make_volume_directory(name)?;
        self.make_limited(name, &volume.options)?;
        let root: OwnedFd = match place {
            Source::Limited(image) => super::limited::root(name, image)?,
            _ => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::open(self.volume_data(name), flags, Mode::empty()).internal(failed)?
            }
        };
        let keep = root.try_clone().internal(failed)?;
        let options = archives::Unpack { owners: archives::Owners::Archive, ..archives::Unpack::default() };
        archives::unpack(&View::of(root), "/", source, &options, self.store()?.ownership().single_id)?;
        let (uid, gid) = (Uid::from_raw(volume.uid), Gid::from_raw(volume.gid));
        rustix::fs::fchown(keep.as_fd(), Some(uid), Some(gid)).internal(failed)?;
        rustix::fs::fchmod(keep.as_fd(), Mode::from_raw_mode(volume.mode & 0o7777)).internal(failed)
    }

    /// Takes back what [`Engine::carry_in`] made. What cannot be removed keeps its mark for the next sweep.
    pub(crate) fn drop_carried(&self, name: &str, held: Held) {
        if self.discard_volume(name).is_ok() {
            drop(held.release());
        }
    }

    /// The row of one that was carried in.
    pub(crate) fn record_carried(&self, t: &rusqlite::Transaction<'_>, volume: &Carried) -> Result<()> {
        let row = Row {
            name: volume.name.clone(),
            anonymous: volume.anonymous,
            created_at: crate::clock::now(),
            options: volume.options.clone(),
            labels: volume.labels.clone(),
        };
        table::insert(t, &row)
    }
}

fn is_own(source: &Source) -> bool {
    matches!(source, Source::Directory(_) | Source::Limited(_))
}
