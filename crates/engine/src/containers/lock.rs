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
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes the lock of `id`, making its directory; `None` when somebody holds it.
pub(crate) fn claim(directories: &Directories, id: &str) -> Result<Option<OwnedFd>> {
    let path = directories.container_run(id).join("lock");
    loop {
        let lock = match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => match make(directories, id)? {
                Some(lock) => return Ok(Some(lock)),
                // Another was quicker.
                None => continue,
            },
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

/// Whether a run of the container has begun and is not over.
pub(crate) fn is_there(directories: &Directories, id: &str) -> bool {
    directories.container_run(id).join("lock").exists()
}

/// Whether somebody holds the lock in a run's directory at this moment. Nothing is waited for, and nothing is taken but, where nobody
/// holds it, for the moment of the question.
pub(crate) fn is_held(run: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(run.join("lock"), flags, Mode::empty())
        .is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// What the name of a directory begins with that is not seen yet.
const UNSEEN: char = '.';

/// Makes the directory, with its lock held before anybody can see it: with many sweeps at once one of them would take it
/// first. It comes over an empty one, which is what a kill leaves of a removal. `None` if there is one by now.
fn make(directories: &Directories, id: &str) -> Result<Option<OwnedFd>> {
    let directory = directories.container_run(id);
    let unseen = directory.with_file_name(format!("{UNSEEN}{id}.{}", std::process::id()));
    let failed = |what: &str| format!("cannot {what} {}", unseen.display());
    loop {
        match rustix::fs::mkdir(&unseen, Mode::RWXU) {
            // Of a process that had this number before and was killed.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).internal(|| failed("make the directory")),
        }
        let path = unseen.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno).internal(|| failed("make the lock in")),
        };
        // A sweep may look at it for a moment, and takes it away if it was first.
        if !try_lock(&lock)? || !is_current(&lock, &path) {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        return match rustix::fs::rename(&unseen, &directory) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let ours = take_over(&unseen, &directory);
                remove_unseen(&unseen)?;
                Ok(ours?.then_some(lock))
            }
            Err(errno) => Err(errno).internal(|| format!("cannot make the directory {}", directory.display())),
        };
    }
}

/// Puts the lock that the caller holds into a directory that has files but no lock, which is what a removal leaves that could not
/// read the directory to its end; link(2) succeeds for one only. False if there is a lock by now, or no directory.
fn take_over(unseen: &Path, directory: &Path) -> Result<bool> {
    match rustix::fs::link(unseen.join("lock"), directory.join("lock")) {
        Ok(()) => clear(directory).map(|()| true),
        Err(Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno).internal(|| format!("cannot put a lock into {}", directory.display())),
    }
}

/// Removes what is in a run's directory but for the lock, which the caller holds.
fn clear(directory: &Path) -> Result<()> {
    let entries = std::fs::read_dir(directory).internal(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry.internal(|| format!("cannot read {}", directory.display()))?;
        if entry.file_name() == "lock" {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            // The mount points of a criu whose monitor was killed; what was mounted there has gone with its mount namespace.
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(error) => Err(error),
        };
        removed.internal(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Removes a directory that was not seen yet, if nobody is at work on it.
pub(crate) fn sweep_unseen(directories: &Directories, name: &str) -> Result<()> {
    if !name.starts_with(UNSEEN) {
        return Ok(());
    }
    let unseen = directories.run.join("containers").join(name);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(unseen.join("lock"), flags, Mode::empty()) {
        Ok(lock) if try_lock(&lock)? && is_current(&lock, &unseen.join("lock")) => remove_unseen(&unseen),
        Ok(_) => Ok(()),
        // Killed before it made the lock, or about to make it, and then it begins again: not the lock, which may be held by now.
        Err(Errno::NOENT) => gone(rustix::fs::rmdir(&unseen), &unseen),
        Err(errno) => Err(errno).internal(|| format!("cannot open the lock in {}", unseen.display())),
    }
}

fn remove_unseen(unseen: &Path) -> Result<()> {
    gone(rustix::fs::unlink(unseen.join("lock")), unseen)?;
    gone(rustix::fs::rmdir(unseen), unseen)
}

fn gone(result: rustix::io::Result<()>, unseen: &Path) -> Result<()> {
    match result {
        // Somebody else was quicker, or has begun anew.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
        Err(errno) => Err(errno).internal(|| format!("cannot remove {}", unseen.display())),
    }
}

/// Whether the lock is still the one of its directory: its last holder may have removed it after we opened the file.
fn is_current(lock: &OwnedFd, path: &Path) -> bool {
    match (rustix::fs::fstat(lock), rustix::fs::stat(path)) {
        (Ok(ours), Ok(there)) => ours.st_ino == there.st_ino && ours.st_dev == there.st_dev,
        _ => false,
    }
}

/// Takes the lock of a container that is being made.
pub(crate) fn claim_new(directories: &Directories, id: &str) -> Result<OwnedFd> {
    // A sweep may have taken it between the making of its directory and of its file; it lets go at once.
    let claimed = claim_within(directories, id, Duration::from_secs(2))?;
    claimed.ok_or_else(|| crate::Error::new(crate::Kind::Internal, "a fresh identifier is in use"))
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

/// Takes the lock of a directory that exists, without making one; `None` when it is gone or held. `runs` is the directory of
/// all of them: every command asks for every running container, and the way to it is walked once.
pub(crate) fn claim_existing(directories: &Directories, runs: BorrowedFd<'_>, id: &str) -> Result<Option<OwnedFd>> {
    let path = directories.container_run(id).join("lock");
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(runs, format!("{id}/lock"), flags, Mode::empty()) {
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
    clear(&directory)?;
    std::fs::remove_file(directory.join("lock")).internal(|| format!("cannot remove the lock of {id}"))?;
    match rustix::fs::rmdir(&directory) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
        Err(errno) => Err(errno).internal(|| format!("cannot remove {}", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_its_lock_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let directories = Directories { data: root.path().join("data"), run: root.path().join("run") };
        let directory = directories.container_run("id");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("exit.json"), "of the last run").unwrap();
        // As a criu leaves it whose monitor was killed.
        std::fs::create_dir_all(directory.join("criu/root")).unwrap();
        let lock = claim(&directories, "id").unwrap().expect("nobody holds it");
        assert!(claim(&directories, "id").unwrap().is_none(), "it is held");
        assert!(is_held(&directory));
        let names = |path: &Path| {
            let entries = std::fs::read_dir(path).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names(&directory), ["lock"]);
        assert_eq!(names(directory.parent().unwrap()), ["id"]);
        release(&directories, "id").unwrap();
        drop(lock);
        assert!(!directory.exists() && !is_held(&directory));
    }
}
