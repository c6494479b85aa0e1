//! The lock that says whether a container is in somebody's hands.
//!
//! `<run root>/containers/<id>/lock` exists from before anything else is made for a run until after everything is gone.
//! Whoever starts, monitors or removes the container holds `flock(2)` on it; the command line hands its open file
//! description to the monitor, so there is no moment at which nobody holds it. The kernel drops the lock with the last
//! descriptor, whatever killed the holder: a directory whose lock can be taken is one that [`crate::sweep`] must clear.

use crate::directories::Directories;
use crate::error::{Context, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes the lock of `id`, making its directory; `None` when somebody holds it.
pub(crate) fn claim(directories: &Directories, id: &str) -> Result<Option<OwnedFd>> {
    let directory = directories.container_run(id);
    loop {
        // Not more than one call, as a sweep may take an empty directory away at any moment.
        match rustix::fs::mkdir(&directory, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).internal(|| format!("cannot make the directory {}", directory.display())),
        }
        let path = directory.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
            Ok(lock) => lock,
            // The directory went away between the two calls.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno).internal(|| format!("cannot open {}", path.display())),
        };
        if !try_lock(&lock)? {
            return Ok(None);
        }
        if is_current(&lock, &path) {
            return Ok(Some(lock));
        }
    }
}

/// Whether the lock is still the one of its directory: its last holder may have removed it after we opened the file.
fn is_current(lock: &OwnedFd, path: &Path) -> bool {
    match (rustix::fs::fstat(lock), rustix::fs::stat(path)) {
        (Ok(ours), Ok(there)) => ours.st_ino == there.st_ino && ours.st_dev == there.st_dev,
        _ => false,
    }
}

/// Takes the lock, waiting for its holder at most `patience`.
pub(crate) fn claim_within(directories: &Directories, id: &str, patience: Duration) -> Result<Option<OwnedFd>> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(lock) = claim(directories, id)? {
            return Ok(Some(lock));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Takes the lock of a directory that exists, without making one; `None` when it is gone or held.
pub(crate) fn claim_existing(directories: &Directories, id: &str) -> Result<Option<OwnedFd>> {
    let path = directories.container_run(id).join("lock");
    match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(lock) => Ok((try_lock(&lock)? && is_current(&lock, &path)).then_some(lock)),
        // Killed between making the directory and the file in it, or between removing the two.
        Err(Errno::NOENT) if directories.container_run(id).exists() => claim(directories, id),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno).internal(|| format!("cannot open {}", path.display())),
    }
}

fn try_lock(lock: &OwnedFd) -> Result<bool> {
    match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno).internal(|| "cannot lock a container".into()),
    }
}

/// Removes the directory of a container that the caller holds. The lock goes last, and with it the right to the directory:
/// one that is gone then, or in use again, is somebody else's.
pub(crate) fn release(directories: &Directories, id: &str) -> Result<()> {
    let directory = directories.container_run(id);
    let entries = std::fs::read_dir(&directory).internal(|| format!("cannot read {}", directory.display()))?;
    for entry in entries.flatten() {
        if entry.file_name() != "lock" {
            std::fs::remove_file(entry.path()).internal(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    std::fs::remove_file(directory.join("lock")).internal(|| format!("cannot remove the lock of {id}"))?;
    match rustix::fs::rmdir(&directory) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
        Err(errno) => Err(errno).internal(|| format!("cannot remove {}", directory.display())),
    }
}
