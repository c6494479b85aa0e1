//! The state directory: one directory for each container, with `state.json`, the door of one that was not started yet,
//! and a lock on the directory itself.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci::runtime::{ContainerState, LinuxNamespaceType, State};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use crate::error::{Error, OnFile, Result};
use crate::process;
use crate::record::{Record, Status};

/// Name of the socket at which a container waits for its start.
pub(crate) const DOOR: &str = "start.sock";
const FILE: &str = "state.json";

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// It was named by the caller, who expects it to be there.
    named: bool,
}

/// A container that has a directory.
#[derive(Debug)]
pub struct Container {
    directory: PathBuf,
    /// What its file says.
    pub record: Record,
    lock: Option<OwnedFd>,
}

/// Whether this process has the rights of an ordinary user: it is one, or root of a user namespace that is not the machine's.
#[must_use]
pub fn is_rootless() -> bool {
    let whole = |text: String| text.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    !rustix::process::geteuid().is_root() || !kernel::small_file::read("/proc/self/uid_map").is_ok_and(whole)
}

/// As runc has it: root of a user namespace still is the user who made that, as podman's is, unless `USER` says otherwise.
fn is_of_a_user() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    !is_root || (is_rootless() && std::env::var_os("USER").is_none_or(|user| user != "root"))
}

impl Store {
    /// The containers below `root`, which need not exist to make one.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, named: true }
    }

    /// The containers of who runs this, in the usual place, which need not exist.
    #[must_use]
    pub fn usual() -> Self {
        Self { root: Self::default_root(), named: false }
    }

    /// runc's directory for who runs this: `/run/dhow-oci`, or in the user's run-time directory.
    #[must_use]
    pub fn default_root() -> PathBuf {
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(directory) if is_of_a_user() => Path::new(&directory).join("dhow-oci"),
            _ => PathBuf::from("/run/dhow-oci"),
        }
    }

    /// Whether a name may be given to a new container.
    ///
    /// # Errors
    /// [`Error::Exists`], or a name that cannot be a file's.
    pub(crate) fn check_vacant(&self, id: &str) -> Result<()> {
        check_name(id)?;
        if self.root.join(id).exists() { Err(Error::Exists) } else { Ok(()) }
    }

    /// Makes the directory of a new container, and locks it. One that an interrupted `create` left is replaced.
    ///
    /// # Errors
    /// [`Error::Exists`], or a name that cannot be a file's.
    pub(crate) fn make(&self, id: &str) -> Result<Container> {
        check_name(id)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        if !self.root.is_dir() {
            let mut above = std::fs::DirBuilder::new();
            above.mode(0o700).recursive(true).create(&self.root).on("make the state directory", &self.root)?;
        }
        let directory = self.root.join(id);
        match builder.create(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::Exists),
            other => other.on("make the state directory", &directory)?,
        }
        let lock = open_directory(&directory)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).on("lock", &directory)?;
        Ok(Container { directory, record: Record { id: id.to_owned(), ..Record::default() }, lock: Some(lock) })
    }

    /// Finds a container.
    ///
    /// # Errors
    /// [`Error::Missing`], or a file that cannot be read.
    pub fn find(&self, id: &str) -> Result<Container> {
        check_name(id)?;
        let directory = self.root.join(id);
        let record = read(&directory, id)?;
        Ok(Container { directory, record, lock: None })
    }

    /// Finds a container to change it: nobody else does until this is dropped.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub(crate) fn hold(&self, id: &str) -> Result<Container> {
        check_name(id)?;
        let directory = self.root.join(id);
        let lock = match open_directory(&directory) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing);
            }
            other => other?,
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive)).on("lock", &directory)?;
        // Who held it before may have deleted it.
        let record = read(&directory, id)?;
        Ok(Container { directory, record, lock: Some(lock) })
    }

    /// The names of all containers, sorted.
    ///
    /// # Errors
    /// A directory that cannot be read; the usual one has none when it is not there.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.named => return Ok(Vec::new()),
            other => other.on("read the state directory", &self.root)?,
        };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> = directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| check_name(name).is_ok());
        names.sort();
        Ok(names)
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).on("open", path)
}

/// The letters that runc takes, and no name that means another directory.
fn check_name(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() {
        return Err(Error::refused("container id cannot be empty"));
    }
    if id.len() > 255 || !id.bytes().all(plain) || matches!(id, "." | "..") {
        return Err(Error::refused(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

fn read(directory: &Path, id: &str) -> Result<Record> {
    let path = directory.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.is_dir() => {
            // Its maker was killed before it had anything to remember.
            return Ok(Record { id: id.to_owned(), ..Record::default() });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::Missing),
        Err(error) => return Err(error).on("read", &path),
    };
    serde_json::from_slice(&text).map_err(std::io::Error::from).on("read", &path)
}

impl Container {
    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it is doing at this moment.
    ///
    /// # Errors
    /// A cgroup that cannot be read.
    pub fn status(&self) -> Result<Status> {
        let Some(pid) = self.record.pid() else {
            let unlocked = self.lock.is_some()
                || open_directory(&self.directory)
                    .is_ok_and(|fd| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared).is_ok());
            return Ok(if unlocked { Status::Stopped } else { Status::Creating });
        };
        if !process::is_alive(pid, self.record.init_process_start) {
            return Ok(Status::Stopped);
        }
        let frozen = match &self.record.cgroup {
            Some(description) => cgroup::Cgroup::is_frozen(description)?,
            None => false,
        };
        if frozen {
            return Ok(Status::Paused);
        }
        let waits = rustix::fs::access(self.directory.join(DOOR), rustix::fs::Access::EXISTS).is_ok();
        Ok(if waits { Status::Created } else { Status::Running })
    }

    /// A descriptor of its first process, if that still runs.
    ///
    /// # Errors
    /// pidfd_open(2) failed for another reason than that.
    pub(crate) fn open_process(&self) -> Result<Option<OwnedFd>> {
        match self.record.pid() {
            Some(pid) => process::open(pid, self.record.init_process_start),
            None => Ok(None),
        }
    }

    /// Writes the record, so that a reader finds the old or the new one.
    pub(crate) fn save(&self) -> Result<()> {
        let (path, new) = (self.directory.join(FILE), self.directory.join(".state.json.new"));
        let mut text = serde_json::to_vec(&self.record).map_err(std::io::Error::from).on("write", &path)?;
        text.push(b'\n');
        write_private(&new, &text)?;
        std::fs::rename(&new, &path).on("write", &path)
    }

    /// Removes its directory, which is what makes the name free again.
    pub(crate) fn forget(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.on("remove", &self.directory),
        }
    }

    /// The state as hooks read it.
    pub(crate) fn state(&self, status: ContainerState) -> State {
        let record = &self.record;
        let pid = if status == ContainerState::Stopped { 0 } else { record.init_process_pid.cast_unsigned() };
        State {
            oci_version: oci::runtime::VERSION.to_owned(),
            id: record.id.clone(),
            status,
            pid,
            bundle: record.bundle.display().to_string(),
            annotations: record.spec.annotations.clone(),
        }
    }

    /// Whether it was made with a new namespace of this kind.
    pub(crate) fn has_own(&self, kind: LinuxNamespaceType) -> bool {
        self.own_namespaces().contains(&kind)
    }

    /// The kinds of namespaces that were made for it.
    pub(crate) fn own_namespaces(&self) -> Vec<LinuxNamespaceType> {
        let all = self.record.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        all.filter(|each| each.path.as_deref().unwrap_or_default().is_empty()).map(|each| each.kind).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // By name, because the container's waiting process has a copy of the descriptor, and with it the lock.
        if let Some(lock) = &self.lock {
            rustix::fs::flock(lock, FlockOperation::Unlock).ok();
        }
    }
}

fn write_private(path: &Path, text: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let open = || File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text);
    open().on("write", path)
}

/// Writes a process id for the caller, who may be waiting for the file to appear.
pub(crate) fn write_pid_file(path: &Path, pid: rustix::process::Pid) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let new = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&new, pid.as_raw_nonzero().to_string()).on("write", &new)?;
    match std::fs::rename(&new, path) {
        Err(error) => {
            drop(std::fs::remove_file(&new));
            Err(error).on("write", path)
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(300)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "A-1_b+c.d", "...", "4f3a"] {
            check_name(good).unwrap();
        }
    }

    #[test]
    fn a_name_is_free_again_when_its_directory_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("run"));
        let one = store.make("one").unwrap();
        one.save().unwrap();
        assert!(matches!(store.make("one"), Err(Error::Exists)));
        assert_eq!(store.names().unwrap(), ["one"]);
        assert_eq!(store.find("one").unwrap().status().unwrap(), Status::Creating);
        one.forget().unwrap();
        assert!(matches!(store.find("one"), Err(Error::Missing)));
    }
}
