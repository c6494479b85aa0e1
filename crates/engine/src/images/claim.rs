//! The lock between those who rely on layers that no image names yet, and those who delete layers that no image names.
//!
//! `<data>/images.lock`, by flock(2): shared for as long as an import relies on what it found or made, exclusive for a
//! removal. Removal never waits: what it must leave, a later one takes.
//!
//! Whoever changes which layers have names makes `<data>/images.unsettled` while it has the lock. If it ends half way, because it
//! was killed or failed, the file stays, and whoever finds it with nobody holding the lock collects what no image names.

use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;

impl Unsettled {
    /// Gives the lock back; the mark stays.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }
}

const UNSETTLED: &str = "images.unsettled";

/// Held by whoever changes which layers have names.
#[derive(Debug)]
pub(crate) struct Unsettled {
    held: Option<OwnedFd>,
    /// Nobody else was there at the beginning.
    alone: bool,
}

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

    /// As [`Engine::rely_on_layers`], for those who are about to make layers that no image names, or to take the name from
    /// some: until [`Engine::settle`], whoever comes after a kill collects them.
    pub(crate) fn unsettle(&self) -> Result<Unsettled> {
        let held = self.rely_on_layers()?;
        let path = self.directories().data.join(UNSETTLED);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let failed = |errno| Error::caused(Kind::Internal, format!("cannot open {}", path.display()), errno);
        let alone = match rustix::fs::open(&path, flags | OFlags::EXCL, Mode::from_raw_mode(0o600)) {
            Ok(_) => true,
            Err(Errno::EXIST) => {
                // Two at once, or one that was killed: the last to leave has to look at everything.
                let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
                rustix::io::write(&file, b"+").map_err(failed)?;
                false
            }
            Err(errno) => return Err(failed(errno)),
        };
        Ok(Unsettled { held: Some(held), alone })
    }

    /// The end of what [`Engine::unsettle`] began; `clean` if nothing without a name was left. Costs next to nothing if
    /// it was, and nobody else was there.
    pub(crate) fn settle(&self, unsettled: Unsettled, clean: bool) -> Result<()> {
        drop(unsettled.held);
        self.settle_if(unsettled.alone && clean)
    }

    /// The sweep's part: what killed processes left without a name goes.
    pub(crate) fn settle_after_kill(&self) -> Result<()> {
        self.settle_if(false)
    }

    fn settle_if(&self, clean: bool) -> Result<()> {
        let path = self.directories().data.join(UNSETTLED);
        if !path.exists() {
            return Ok(());
        }
        let Some(_alone) = self.claim_unnamed_layers()? else { return Ok(()) };
        if !clean || path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            self.collect_claimed()?;
        }
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).internal(|| format!("cannot remove {}", path.display())),
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
