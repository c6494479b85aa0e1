//! Directories of checkpoints on their way: `.NAME.partial`, locked by flock(2) as long as somebody works on it, beside those that are
//! whole. What a kill leaves (memory of processes, hence large) nobody holds, and goes with the next checkpoint that is made or removed
//! there.

use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A directory that becomes a checkpoint.
#[derive(Debug)]
pub(super) struct Making {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Making {
    /// Makes the directory beside `place`, which it is to become.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another process makes a checkpoint of that name.
    pub(super) fn begin(place: &Path, name: &str) -> Result<Making> {
        let above = place.parent().unwrap_or(Path::new("/"));
        crate::directories::make(above, 0o700)?;
        clear(above)?;
        let path = place.with_file_name(format!(".{name}.partial"));
        let busy = || Error::new(Kind::Conflict, format!("checkpoint {name} is being made by another process"));
        if path.exists() {
            return Err(busy());
        }
        crate::directories::make(&path, 0o700)?;
        // Somebody may have cleared it away before it was locked.
        let lock = hold(&path)?.ok_or_else(busy)?;
        Ok(Making { path, _lock: lock })
    }

    /// Where the files go.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It is whole.
    pub(super) fn finish(&self, place: &Path) -> Result<()> {
        std::fs::rename(&self.path, place).internal(|| format!("cannot keep the checkpoint {}", place.display()))
    }

    /// Takes it back, as far as that works: what stays is cleared away later.
    pub(super) fn give_up(self) {
        remove(&self.path).unwrap_or_default();
    }
}

/// Removes what killed processes left.
fn clear(above: &Path) -> Result<()> {
    for entry in crate::directories::entries(above)? {
        let path = entry.path();
        let is_partial =
            entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".partial"));
        if is_partial && let Some(_held) = hold(&path)? {
            remove(&path).internal(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Removes a whole one: from its first moment on it is none any more.
pub(super) fn discard(place: &Path, name: &str) -> Result<()> {
    let failed = || format!("cannot remove checkpoint {name}");
    clear(place.parent().unwrap_or(Path::new("/")))?;
    let gone = place.with_file_name(format!(".{name}.gone.partial"));
    std::fs::rename(place, &gone).internal(failed)?;
    remove(&gone).internal(failed)
}

/// The lock of a directory; none where somebody has it, or the directory is gone.
fn hold(path: &Path) -> Result<Option<OwnedFd>> {
    let failed = || format!("cannot lock {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        opened => opened.internal(failed)?,
    };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN) => Ok(None),
        locked => locked.internal(failed).map(|()| Some(directory)),
    }
}

/// What is not there is removed already.
fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_goes() {
        let directory = tempfile::tempdir().unwrap();
        let names = || {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let place = |name: &str| directory.path().join(name);
        let one = Making::begin(&place("one"), "one").unwrap();
        assert_eq!(Making::begin(&place("one"), "one").unwrap_err().kind(), Kind::Conflict);
        // As a kill leaves it.
        drop(Making::begin(&place("two"), "two").unwrap());
        assert_eq!(names(), [".one.partial", ".two.partial"]);
        let three = Making::begin(&place("three"), "three").unwrap();
        assert_eq!(names(), [".one.partial", ".three.partial"]);
        three.give_up();
        std::fs::write(one.path().join("file"), "").unwrap();
        one.finish(&place("one")).unwrap();
        assert_eq!(names(), ["one"]);
        drop(one);
        discard(&place("one"), "one").unwrap();
        assert!(names().is_empty());
    }
}
