//! Directories of cgroup file systems and the small files in them.
//!
//! Every file is reached through the descriptor of its directory; the path is kept for messages only.

use crate::error::{FailedCall, Result};
use kernel::small_file;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// An open cgroup directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

// Not O_PATH: clone3(CLONE_INTO_CGROUP) and bpf(BPF_PROG_ATTACH) refuse those with EBADF.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl Directory {
    /// Opens a mount point or another path that this crate chose itself.
    pub(crate) fn open(path: &Path) -> Result<Directory, FailedCall> {
        match rustix::fs::openat(CWD, path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(fd) => Ok(Directory { fd, path: path.to_owned() }),
            Err(errno) => Err(FailedCall::new(format!("openat({path:?}, O_DIRECTORY)"), errno)),
        }
    }

    /// Opens the directory `name` in this one; a checked component, or several joined by slashes.
    pub(crate) fn child(&self, name: &str) -> Result<Directory, FailedCall> {
        match rustix::fs::openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Directory { fd, path: self.path.join(name) }),
            Err(errno) => {
                let call = format!("openat(<{}>, {name:?}, O_DIRECTORY|O_NOFOLLOW)", self.path.display());
                Err(FailedCall::new(call, errno))
            }
        }
    }

    /// Opens the directory `name` below a mount point, as [`Directory::child`] of it.
    pub(crate) fn below(mount_point: &Path, name: &str) -> Result<Directory, FailedCall> {
        let path = mount_point.join(name);
        match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Directory { fd, path }),
            Err(errno) => Err(FailedCall::new(format!("openat({path:?}, O_DIRECTORY|O_NOFOLLOW)"), errno)),
        }
    }

    /// Makes the directory `name` below a mount point, whose own directory need not be open for it.
    pub(crate) fn make_below(mount_point: &Path, name: &str) -> Result<(), FailedCall> {
        let path = mount_point.join(name);
        rustix::fs::mkdirat(CWD, &path, Mode::from_raw_mode(0o755))
            .map_err(|errno| FailedCall::new(format!("mkdirat({path:?}, 0755)"), errno))
    }

    /// Removes the directory `name` below a mount point. `false`: somebody is in it, or something.
    pub(crate) fn remove_below(mount_point: &Path, name: &str) -> Result<bool, FailedCall> {
        let path = mount_point.join(name);
        match rustix::fs::unlinkat(CWD, &path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
            Err(errno) => Err(FailedCall::new(format!("unlinkat({path:?}, AT_REMOVEDIR)"), errno)),
        }
    }

    /// Makes the directory `name` in this one.
    pub(crate) fn make(&self, name: &str) -> Result<(), FailedCall> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
            .map_err(|errno| FailedCall::new(format!("mkdirat(<{}>, {name:?}, 0755)", self.path.display()), errno))
    }

    /// Removes the directory `name` in this one.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FailedCall> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(|errno| {
            FailedCall::new(format!("unlinkat(<{}>, {name:?}, AT_REMOVEDIR)", self.path.display()), errno)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, FailedCall> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.fd, file, flags, Mode::empty()).map_err(|errno| {
            let access = if flags.contains(OFlags::WRONLY) { "O_WRONLY" } else { "O_RDONLY" };
            FailedCall::new(format!("openat(<{}>, {file:?}, {access})", self.path.display()), errno)
        })
    }

    /// Opens `file` for reading.
    pub(crate) fn reader(&self, file: &str) -> Result<OwnedFd, FailedCall> {
        self.open_file(file, OFlags::RDONLY)
    }

    /// Opens `file` for several writes.
    pub(crate) fn writer(&self, file: &str) -> Result<OwnedFd, FailedCall> {
        self.open_file(file, OFlags::WRONLY)
    }

    /// One write(2) of `value` into an open `file`: the kernel takes each write as one complete statement.
    pub(crate) fn write_to(&self, fd: &OwnedFd, file: &str, value: &str) -> Result<(), FailedCall> {
        match rustix::io::retry_on_intr(|| rustix::io::write(fd, value.as_bytes())) {
            Ok(_) => Ok(()),
            Err(errno) => {
                let call = format!("write(<{}>, {value:?})", self.path.join(file).display());
                Err(FailedCall::new(call, errno))
            }
        }
    }

    /// Opens `file` and writes `value` into it.
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<(), FailedCall> {
        self.write_to(&self.writer(file)?, file, value)
    }

    /// The whole text of `file`.
    pub(crate) fn read(&self, file: &str) -> Result<String, FailedCall> {
        let fd = self.reader(file)?;
        read_all(&fd).map_err(|errno| FailedCall::new(format!("read(<{}>)", self.path.join(file).display()), errno))
    }

    /// The whole text of `file`, or `None` where this kernel or this controller does not have it.
    pub(crate) fn read_if_there(&self, file: &str) -> Result<Option<String>, FailedCall> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            // ENODEV: the group was removed. EOPNOTSUPP: the file is there and its feature is not.
            Err(failed) if matches!(failed.errno(), Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// The text of `file`, which has at most `longest` bytes; of something that is no regular file, without waiting for it.
    pub(crate) fn read_small(&self, file: &str, longest: usize) -> Result<String, FailedCall> {
        let fd = self.open_file(file, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let fail = |errno| FailedCall::new(format!("read(<{}>)", self.path.join(file).display()), errno);
        let text = small_file::read_from(&fd, longest.saturating_add(1)).map_err(fail)?;
        if text.len() > longest { Err(fail(Errno::FBIG)) } else { Ok(text) }
    }

    /// The names of the directories in this one.
    pub(crate) fn children(&self) -> Result<Vec<String>, FailedCall> {
        let failed = |errno| FailedCall::new(format!("getdents64(<{}>)", self.path.display()), errno);
        let mut names = Vec::new();
        let listing = match rustix::fs::Dir::read_from(&self.fd) {
            Ok(listing) => listing,
            Err(Errno::NOENT | Errno::NODEV) => return Ok(names),
            Err(errno) => return Err(failed(errno)),
        };
        for entry in listing {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT | Errno::NODEV) => break,
                Err(errno) => return Err(failed(errno)),
            };
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads until the end.
pub(crate) fn read_all(fd: &OwnedFd) -> Result<String, Errno> {
    small_file::read_from(fd, usize::MAX)
}

/// The whole text of a file in /proc.
pub(crate) fn read_path(path: &str) -> Result<String, FailedCall> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| FailedCall::new(format!("openat({path:?}, O_RDONLY)"), errno))?;
    read_all(&fd).map_err(|errno| FailedCall::new(format!("read(<{path}>)"), errno))
}
