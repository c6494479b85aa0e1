//! A container's directory in the run directory: the lock that says the monitor lives, and its socket.
//!
//! The socket is bound and connected through `/proc/self/fd`, because a run directory's full path easily exceeds the 107
//! bytes of a socket address (unix(7)).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Call, Error};

const SOCKET: &str = "monitor.sock";
const LOCK: &str = "lock";

/// The directory, held by its monitor.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    pub(crate) path: PathBuf,
    directory: OwnedFd,
    pub(crate) listener: OwnedFd,
    /// Released by the kernel, however the monitor ends.
    _lock: OwnedFd,
}

impl RunDirectory {
    /// Opens the socket, under a lock that [`lock`] has taken.
    pub(crate) fn hold(path: &Path, lock: OwnedFd) -> Result<Self, Error> {
        let directory = open_directory(path)?;
        // A descriptor of the same open file holds it already, and this does nothing.
        claim(&lock, path)?;
        match rustix::fs::unlinkat(&directory, SOCKET, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => Err(error).call(|| format!("unlinkat(<{}>, {SOCKET:?}, 0)", path.display()))?,
        }
        let listener = socket()?;
        let address = address(&directory)?;
        rustix::net::bind(&listener, &address).call(|| format!("bind(<{}>, {SOCKET:?})", path.display()))?;
        // Connecting needs write permission. Between bind and here only the directory's own mode protects; hence the check of
        // the peer's credentials on accepting.
        rustix::fs::chmodat(&directory, SOCKET, Mode::RUSR | Mode::WUSR, rustix::fs::AtFlags::empty())
            .call(|| format!("fchmodat(<{}>, {SOCKET:?}, 0600, 0)", path.display()))?;
        rustix::net::listen(&listener, 128).call(|| "listen(<monitor.sock>, 128)".to_owned())?;
        Ok(Self { path: path.to_owned(), directory, listener, _lock: lock })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes socket and state. The lock file stays: removing it would let two monitors hold two files of one name.
    pub(crate) fn clear(&self) {
        for name in [SOCKET, "state.json"] {
            // Nothing there is as good as removed, and whoever comes next replaces both.
            let result = rustix::fs::unlinkat(&self.directory, name, rustix::fs::AtFlags::empty());
            drop(result.map_err(std::io::Error::from));
        }
    }
}

/// Whether a monitor lives for this run directory. Asks by taking its lock, shared, for a moment.
#[must_use]
pub(crate) fn is_held(path: &Path) -> bool {
    let Ok(directory) = open_directory(path) else { return false };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(lock) = rustix::fs::openat(&directory, LOCK, flags, Mode::empty()) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Connects to the monitor's socket.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd, Error> {
    let gone = |errno: std::io::Error| Error::NoMonitor { path: path.join(SOCKET), errno };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| gone(errno.into()))?;
    let socket = socket()?;
    rustix::net::connect(&socket, &address(&directory)?).map_err(|errno| gone(errno.into()))?;
    Ok(socket)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .call(|| format!("openat(AT_FDCWD, {path:?}, O_PATH|O_DIRECTORY|O_CLOEXEC)"))
}

/// Takes the container's lock: `<run directory>/lock`, which is made if need be. It is held until all copies of the
/// descriptor are closed, also those inherited by a monitor.
///
/// # Errors
/// [`Error::Locked`] when somebody else holds it.
pub fn lock(path: &Path) -> Result<OwnedFd, Error> {
    let directory = open_directory(path)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::openat(&directory, LOCK, flags, Mode::RUSR | Mode::WUSR)
        .call(|| format!("openat(<{}>, {LOCK:?}, O_RDWR|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0600)", path.display()))?;
    claim(&lock, path)?;
    Ok(lock)
}

fn claim(lock: &OwnedFd, path: &Path) -> Result<(), Error> {
    // `is_held` takes the lock for some microseconds; a monitor holds it for its life.
    for _ in 0..40 {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error).call(|| format!("flock(<{}/{LOCK}>, LOCK_EX|LOCK_NB)", path.display())),
        }
    }
    Err(Error::Locked { path: path.join(LOCK) })
}

fn socket() -> Result<OwnedFd, Error> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0)".to_owned())
}

fn address(directory: &OwnedFd) -> Result<SocketAddrUnix, Error> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).call(|| "sockaddr_un".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_monitor_at_a_time_under_any_path() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        assert!(!is_held(&long));
        assert!(matches!(connect(&long), Err(Error::NoMonitor { .. })));
        let held = RunDirectory::hold(&long, lock(&long).unwrap()).unwrap();
        assert!(is_held(&long));
        connect(&long).unwrap();
        assert!(matches!(lock(&long), Err(Error::Locked { .. })));
        held.clear();
        drop(held);
        assert!(!is_held(&long));
        RunDirectory::hold(&long, lock(&long).unwrap()).unwrap();
    }
}
