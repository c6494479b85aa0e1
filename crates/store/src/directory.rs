//! A directory of the store as a descriptor with a name for errors.

use crate::error::{During, StoreError, SystemError, quoted};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// An open directory. Names given to its methods are ours (hex digits, fixed words), never an archive's or a user's.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    fd: Arc<OwnedFd>,
    label: Arc<str>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens a path that an administrator gave, making what is missing with mode 0700.
    pub(crate) fn create_all(path: &Path) -> Result<Directory, StoreError> {
        let doing = "open the data root";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let call = || format!("open({}, O_DIRECTORY)", quoted(path.as_os_str().as_bytes()));
        let fd = match fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                make_all(path).map_err(|source| StoreError::System { doing, source })?;
                fs::open(path, flags, Mode::empty())
            }
            other => other,
        };
        let fd = fd.during(call).map_err(|source| StoreError::System { doing, source })?;
        Ok(Directory { fd: Arc::new(fd), label: "<root>".into() })
    }

    /// Opens a path of ours; `None` if it is missing.
    pub(crate) fn existing(path: &Path) -> Result<Option<Directory>, SystemError> {
        match fs::open(path, OPEN, Mode::empty()) {
            Ok(fd) => Ok(Some(Directory { fd: Arc::new(fd), label: path.to_string_lossy().into() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => {
                let call = format!("open({}, O_DIRECTORY|O_NOFOLLOW)", quoted(path.as_os_str().as_bytes()));
                Err(SystemError::new(call, errno))
            }
        }
    }

    pub(crate) fn from_fd(fd: OwnedFd, label: &str) -> Directory {
        Directory { fd: Arc::new(fd), label: label.into() }
    }

    /// Opens a sub-directory.
    pub(crate) fn open(&self, name: &str) -> Result<Directory, SystemError> {
        let fd = self.open_fd(name)?;
        Ok(Directory { fd: Arc::new(fd), label: format!("{}/{name}", self.label).into() })
    }

    /// Opens a sub-directory as a bare descriptor.
    pub(crate) fn open_fd(&self, name: &str) -> Result<OwnedFd, SystemError> {
        fs::openat(&self.fd, name, OPEN, Mode::empty())
            .during(|| format!("openat({}, \"{name}\", O_DIRECTORY|O_NOFOLLOW)", self.label))
    }

    /// Opens a sub-directory, making it with mode 0700 if it is missing.
    pub(crate) fn create(&self, name: &str) -> Result<Directory, SystemError> {
        match self.open(name) {
            Err(error) if error.errno() == Errno::NOENT => {
                self.make(name)?;
                self.open(name)
            }
            other => other,
        }
    }

    /// Makes a sub-directory with mode 0700; that it exists is no error.
    pub(crate) fn make(&self, name: &str) -> Result<(), SystemError> {
        match fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            other => other.during(|| format!("mkdirat({}, \"{name}\", 0700)", self.label)),
        }
    }

    /// Opens a file; `flags` get `O_NOFOLLOW` and `O_CLOEXEC`, a new file mode 0600.
    pub(crate) fn file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, SystemError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .during(|| format!("openat({}, \"{name}\", {flags:?})", self.label))
    }

    pub(crate) fn exists(&self, name: &str) -> Result<bool, SystemError> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(SystemError::new(format!("fstatat({}, \"{name}\")", self.label), errno)),
        }
    }

    /// Size of a file in bytes.
    pub(crate) fn size(&self, name: &str) -> Result<u64, SystemError> {
        fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| stat.st_size.unsigned_abs())
            .during(|| format!("fstatat({}, \"{name}\")", self.label))
    }

    /// Removes a file; that it is missing is no error.
    pub(crate) fn unlink(&self, name: &str) -> Result<(), SystemError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            other => other.during(|| format!("unlinkat({}, \"{name}\")", self.label)),
        }
    }

    pub(crate) fn rename(&self, name: &str, to: &Directory, new: &str) -> Result<(), SystemError> {
        fs::renameat(&self.fd, name, &to.fd, new)
            .during(|| format!("renameat({}, \"{name}\", {}, \"{new}\")", self.label, to.label))
    }

    /// Names and types of all entries, sorted. Only for directories that the store itself fills.
    pub(crate) fn entries(&self) -> Result<Vec<(String, FileType)>, SystemError> {
        let call = || format!("getdents64({})", self.label);
        let mut out = Vec::new();
        for entry in fs::Dir::read_from(&self.fd).during(call)? {
            let entry = entry.during(call)?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                out.push((name.to_owned(), entry.file_type()));
            }
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(out)
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

fn make_all(path: &Path) -> Result<(), SystemError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        make_all(parent)?;
    }
    match fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        other => other.during(|| format!("mkdir({}, 0700)", quoted(path.as_os_str().as_bytes()))),
    }
}
