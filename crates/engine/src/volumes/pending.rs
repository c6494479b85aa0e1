//! The marks of volumes that somebody works on: `<data>/volumes/.pending/<name>`, locked by flock(2).
//!
//! The kernel drops the lock with its holder, and the mark stays: the next sweep then finishes what was begun.

use crate::engine::Engine;
use crate::error::{Context, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A volume in our hands. Dropping it leaves the mark to the sweep; [`Held::release`] removes it.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Held {
    /// Lets go of a volume that is as it should be.
    pub(crate) fn release(self) -> Result<()> {
        match rustix::fs::unlink(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).internal(|| format!("cannot remove {}", self.path.display())),
        }
    }
}

impl Engine {
    fn pending(&self) -> PathBuf {
        self.directories().data.join("volumes/.pending")
    }

    /// Takes a volume, waiting for whoever has it.
    pub(crate) fn hold_volume(&self, name: &str) -> Result<Held> {
        crate::directories::make(&self.directories().data.join("volumes"), 0o700)?;
        crate::directories::make(&self.pending(), 0o700)?;
        let path = self.pending().join(name);
        loop {
            if let Some(held) = lock(&path, true)? {
                return Ok(held);
            }
        }
    }

    /// Finishes what killed processes began with volumes.
    pub(crate) fn sweep_volumes(&self) -> Result<()> {
        for entry in crate::directories::entries(&self.pending())? {
            if let Some(name) = entry.file_name().to_str()
                && let Some(held) = lock(&entry.path(), false)?
            {
                self.settle_volume(name)?;
                held.release()?;
            }
        }
        Ok(())
    }

    /// Brings a volume that the caller holds to one of its two states: absent, or there with complete content.
    pub(crate) fn settle_volume(&self, name: &str) -> Result<()> {
        if super::table::find(self.database()?.read(), name)?.is_none() {
            return self.discard_volume(name);
        }
        self.finish_filling(name)
    }

    /// Removes the directory of a volume that has no row any more. That it is missing is no error.
    pub(crate) fn discard_volume(&self, name: &str) -> Result<()> {
        let volumes = self.directories().data.join("volumes");
        self.store()?.discard(&volumes, name).internal(|| format!("cannot remove the files of volume {name}"))
    }
}

/// Locks a mark; `None` if it is busy and `wait` is not set, or was removed meanwhile.
fn lock(path: &Path, wait: bool) -> Result<Option<Held>> {
    let failed = || format!("cannot lock {}", path.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).internal(failed)?;
    let operation = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    match rustix::fs::flock(&file, operation) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(errno) => return Err(errno).internal(failed),
    }
    let same = match (rustix::fs::fstat(&file), rustix::fs::stat(path)) {
        (Ok(ours), Ok(there)) => (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino),
        _ => false,
    };
    Ok(same.then(|| Held { path: path.to_owned(), _lock: file }))
}
