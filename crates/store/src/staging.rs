//! `staging`: what is being made or removed, each entry locked by its owner.

use crate::Store;
use crate::directory::Directory;
use crate::error::{During, StoreError, SystemError};
use crate::remove;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const NAME: &str = "staging";

/// A directory in `staging` that this process owns. Dropping it leaves the directory to the next sweep; [`Staged::discard`]
/// removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    staging: Directory,
    directory: Directory,
    name: String,
}

impl Staged {
    /// A new directory with a name of its own.
    pub(crate) fn new(store: &Store, purpose: &str) -> Result<Staged, SystemError> {
        let staging = store.root.create(NAME)?;
        loop {
            let name = unique(purpose);
            fs::mkdirat(&staging, &*name, Mode::RWXU)
                .during(|| format!("mkdirat({}, \"{name}\", 0700)", staging.label()))?;
            let directory = staging.open(&name)?;
            if lock(&directory, true, &directory)? && leads_to(&staging, &name, &directory)? {
                return Ok(Staged { staging, directory, name });
            }
            // A sweep found it between the two calls.
        }
    }

    /// The directory called `name`, empty; waits while another process owns it. Before each attempt `finished` is asked
    /// whether there is still something to do; `None` if not.
    pub(crate) fn named(
        store: &Store,
        name: &str,
        mut finished: impl FnMut() -> Result<bool, SystemError>,
    ) -> Result<Option<Staged>, SystemError> {
        let staging = store.root.create(NAME)?;
        loop {
            if finished()? {
                return Ok(None);
            }
            staging.make(name)?;
            let directory = match staging.open(name) {
                Err(error) if error.errno() == Errno::NOENT => continue,
                other => other?,
            };
            lock(&directory, true, &directory)?;
            if !leads_to(&staging, name, &directory)? {
                continue;
            }
            // The owner may have finished between the question and the lock.
            let staged = Staged { staging, directory, name: name.to_owned() };
            if finished()? {
                staged.discard()?;
                return Ok(None);
            }
            // Left by a process that died.
            remove::content(&staged.directory)?;
            return Ok(Some(staged));
        }
    }

    /// Moves a finished directory from elsewhere into `staging` in order to remove it.
    pub(crate) fn take(store: &Store, from: &Directory, name: &str) -> Result<Staged, SystemError> {
        let staging = store.root.create(NAME)?;
        let directory = from.open(name)?;
        // Locked first, so that no sweep takes it for abandoned. Without waiting: the importer's lock may still be on it.
        lock(&directory, false, &directory)?;
        let new = unique("remove");
        from.rename(name, &staging, &new)?;
        Ok(Staged { staging, directory, name: new })
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Its path below the store's root.
    pub(crate) fn place(&self) -> String {
        format!("{NAME}/{}", self.name)
    }

    /// Moves the directory to where it belongs. Fails with `EEXIST` or `ENOTEMPTY` if the place is taken; the directory is
    /// then still here.
    pub(crate) fn publish(self, to: &Directory, name: &str) -> Result<(), (Staged, SystemError)> {
        self.staging.rename(&self.name, to, name).map_err(|error| (self, error))
    }

    /// Removes directories with all that is in them, several and large ones with several threads.
    pub(crate) fn discard_trees(all: Vec<Staged>) -> Result<(), SystemError> {
        crate::scatter::below(all.iter().map(|staged| staged.directory.as_fd()));
        all.into_iter().try_for_each(Staged::discard)
    }

    /// Removes the directory with all that is in it.
    pub(crate) fn discard(self) -> Result<(), SystemError> {
        remove::content(&self.directory)?;
        remove_empty(&self.staging, &self.name)
    }
}

/// A file in `staging` that this process owns.
pub(crate) struct StagedFile {
    staging: Directory,
    pub(crate) fd: OwnedFd,
    name: String,
}

impl StagedFile {
    pub(crate) fn new(store: &Store, purpose: &str) -> Result<StagedFile, SystemError> {
        let staging = store.root.create(NAME)?;
        loop {
            let name = unique(purpose);
            let fd = staging.file(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
            if lock(&fd, true, &staging)? && leads_to(&staging, &name, &fd)? {
                return Ok(StagedFile { staging, fd, name });
            }
        }
    }

    pub(crate) fn publish(self, to: &Directory, name: &str) -> Result<(), SystemError> {
        self.staging.rename(&self.name, to, name)
    }

    pub(crate) fn discard(self) -> Result<(), SystemError> {
        self.staging.unlink(&self.name)
    }
}

/// What [`crate::Store::sweep`] did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Number of abandoned entries removed.
    pub removed: usize,
    /// Number of entries that a living process works on.
    pub busy: usize,
    /// Entries that could not be removed.
    pub failed: Vec<SystemError>,
}

pub(crate) fn sweep(store: &Store) -> Result<Swept, StoreError> {
    let doing = "sweep the staging directory";
    let system = |source| StoreError::System { doing, source };
    let staging = store.root.create(NAME).map_err(system)?;
    let mut swept = Swept::default();
    for (name, _) in staging.entries().map_err(system)? {
        match sweep_one(&staging, &name) {
            Ok(true) => swept.removed += 1,
            Ok(false) => swept.busy += 1,
            Err(error) if error.errno() == Errno::NOENT => {}
            Err(error) => swept.failed.push(error),
        }
    }
    Ok(swept)
}

pub(crate) fn abandoned(store: &Store) -> Result<Vec<String>, StoreError> {
    let system = |source| StoreError::System { doing: "look into the staging directory", source };
    let staging = store.root.create(NAME).map_err(system)?;
    let mut names = Vec::new();
    for (name, _) in staging.entries().map_err(system)? {
        match staging.file(&name, OFlags::RDONLY | OFlags::NONBLOCK) {
            // Its owner has the lock for as long as it lives.
            Ok(fd) => {
                if lock(&fd, false, &staging).map_err(system)? && leads_to(&staging, &name, &fd).map_err(system)? {
                    names.push(name);
                }
            }
            Err(error) if error.errno() == Errno::NOENT => {}
            Err(error) => return Err(system(error)),
        }
    }
    Ok(names)
}

/// True if the entry was abandoned and has been removed.
fn sweep_one(staging: &Directory, name: &str) -> Result<bool, SystemError> {
    let fd = staging.file(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    if !lock(&fd, false, staging)? || !leads_to(staging, name, &fd)? {
        return Ok(false);
    }
    let stat = fs::fstat(&fd).during(|| format!("fstat({}/{name})", staging.label()))?;
    if fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        let directory = Directory::from_fd(fd, &format!("{}/{name}", staging.label()));
        remove::content(&directory)?;
        remove_empty(staging, name)?;
    } else {
        staging.unlink(name)?;
    }
    Ok(true)
}

fn remove_empty(staging: &Directory, name: &str) -> Result<(), SystemError> {
    match fs::unlinkat(staging, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        other => other.during(|| format!("unlinkat({}, \"{name}\", AT_REMOVEDIR)", staging.label())),
    }
}

/// False only if `wait` is false and another process has the lock.
fn lock(fd: &impl AsFd, wait: bool, label: &Directory) -> Result<bool, SystemError> {
    let operation = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    loop {
        match fs::flock(fd, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SystemError::new(format!("flock({}, LOCK_EX)", label.label()), errno)),
        }
    }
}

/// Does the name still lead to the inode that was locked?
fn leads_to(directory: &Directory, name: &str, fd: &impl AsFd) -> Result<bool, SystemError> {
    let label = || format!("fstatat({}, \"{name}\")", directory.label());
    let ours = fs::fstat(fd).during(label)?;
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(SystemError::new(label(), errno)),
    }
}

/// A name that no other process or thread takes: process ids can be the same in two namespaces or boots, so the time is
/// part of it.
fn unique(purpose: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let pid = rustix::process::getpid().as_raw_pid();
    format!("{purpose}-{pid}-{:x}{:08x}-{count}", now.tv_sec, now.tv_nsec)
}
