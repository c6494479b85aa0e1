//! The lock between those who rely on layers that no image names yet, and those who delete layers that no image names.
//!
//! `<data>/images.lock`, by flock(2): shared for as long as an import relies on what it found or made, exclusive for a
//! removal. Removal never waits: what it must leave, a later one takes.

use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;

impl Engine {
    /// Nothing is deleted while the result lives.
    pub(crate) fn rely_on_layers(&self) -> Result<OwnedFd> {
        let lock = self.images_lock()?;
        rustix::fs::flock(&lock, FlockOperation::LockShared).internal(|| "cannot lock the images".into())?;
        Ok(lock)
    }

    /// Nobody relies on an unnamed layer while the result lives; `None` when somebody does.
    pub(crate) fn claim_unnamed_layers(&self) -> Result<Option<OwnedFd>> {
        let lock = self.images_lock()?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).internal(|| "cannot lock the images".into()),
        }
    }

    fn images_lock(&self) -> Result<OwnedFd> {
        let path = self.directories().data.join("images.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|errno| {
            let error = Error::caused(Kind::Internal, format!("cannot open {}", path.display()), errno);
            match errno {
                Errno::ROFS | Errno::ACCESS => {
                    error.hint("the directory cannot be written; choose another with --root")
                }
                _ => error,
            }
        })
    }

    /// A file without a name on the data root's file system; it goes with its descriptor.
    pub(crate) fn nameless_file(&self) -> Result<File> {
        let data = &self.directories().data;
        // O_TMPFILE: Linux 3.11; ext4, xfs, btrfs, tmpfs, overlayfs since 6.2.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(data, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .internal(|| format!("cannot make a temporary file in {}", data.display()))
    }
}
