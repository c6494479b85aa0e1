//! Namespaces: which there are, making and joining them (namespaces(7), setns(2), unshare(2)).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Error, Result};

/// A set of namespace kinds, as the `CLONE_NEW*` flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(u32);

impl Namespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// Cgroup root (Linux 4.6).
    pub const CGROUP: Self = Self(linux_raw_sys::general::CLONE_NEWCGROUP);
    /// System V and POSIX message queues.
    pub const IPC: Self = Self(linux_raw_sys::general::CLONE_NEWIPC);
    /// The mount tree.
    pub const MOUNT: Self = Self(linux_raw_sys::general::CLONE_NEWNS);
    /// Network devices, addresses, sockets.
    pub const NETWORK: Self = Self(linux_raw_sys::general::CLONE_NEWNET);
    /// Process ids.
    pub const PID: Self = Self(linux_raw_sys::general::CLONE_NEWPID);
    /// Monotonic and boot-time clocks (Linux 5.6).
    pub const TIME: Self = Self(linux_raw_sys::general::CLONE_NEWTIME);
    /// User and group ids.
    pub const USER: Self = Self(linux_raw_sys::general::CLONE_NEWUSER);
    /// Host and domain name.
    pub const UTS: Self = Self(linux_raw_sys::general::CLONE_NEWUTS);

    /// Each kind with the name of its file in `/proc/PID/ns`.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::CGROUP, "cgroup"),
        (Self::IPC, "ipc"),
        (Self::MOUNT, "mnt"),
        (Self::NETWORK, "net"),
        (Self::PID, "pid"),
        (Self::TIME, "time"),
        (Self::USER, "user"),
        (Self::UTS, "uts"),
    ];

    /// The `CLONE_NEW*` bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether every kind of `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set without the kinds of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn flags(self) -> String {
        let names: Vec<String> = Self::ALL
            .iter()
            .filter(|(kind, _)| self.contains(*kind))
            .map(|(kind, name)| match *kind {
                Self::MOUNT => "CLONE_NEWNS".to_owned(),
                _ => format!("CLONE_NEW{}", name.to_ascii_uppercase()),
            })
            .collect();
        if names.is_empty() { "0".to_owned() } else { names.join("|") }
    }
}

impl std::ops::BitOr for Namespaces {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Namespaces {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Joins the namespace that `fd` stands for; it must be of the given kind.
pub fn join(fd: BorrowedFd<'_>, kind: Namespaces) -> Result<()> {
    setns(fd, kind).map_err(|errno| Error::new(format!("setns(<namespace>, {})", kind.flags()), errno))
}

/// Joins several namespaces of a process at once (Linux 5.8).
pub fn join_process(pidfd: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    setns(pidfd, kinds).map_err(|errno| Error::new(format!("setns(<pidfd>, {})", kinds.flags()), errno))
}

fn setns(fd: BorrowedFd<'_>, kinds: Namespaces) -> std::result::Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: no memory is passed; the descriptor is open for as long as the borrow lives.
    let result = unsafe { libc::setns(fd.as_raw_fd(), kinds.bits().cast_signed()) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Moves the calling thread into new namespaces.
///
/// A process with threads cannot do so for user namespaces (EINVAL).
pub fn unshare(kinds: Namespaces) -> Result<()> {
    // SAFETY: no memory is passed, and none of the flags of `Namespaces` makes threads share less of memory or
    // descriptors, which is what rustix's function asks its caller to exclude.
    let result = unsafe { libc::unshare(kinds.bits().cast_signed()) };
    if result == 0 { Ok(()) } else { Err(Error::new(format!("unshare({})", kinds.flags()), last_errno())) }
}

/// Whether the calling process has one thread.
///
/// Asked by `unshare(CLONE_THREAD)`, which changes nothing and answers EINVAL exactly when there are more (unshare(2));
/// that is twenty times cheaper than to count `/proc/self/task`.
#[must_use]
pub fn is_single_threaded() -> bool {
    // SAFETY: no memory is passed; on a single-threaded process the flag has no effect, else it fails.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// Opens a namespace of a process by `/proc/PID/ns/NAME`.
pub fn open(pid: Pid, kind: Namespaces) -> Result<OwnedFd> {
    let name = Namespaces::ALL.iter().find(|(each, _)| *each == kind).map_or("", |(_, name)| name);
    let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
    rustix::fs::openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new(format!("open({path:?}, O_RDONLY)"), errno))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_print_as_flags() {
        let kinds = Namespaces::MOUNT | Namespaces::PID;
        assert_eq!(kinds.flags(), "CLONE_NEWNS|CLONE_NEWPID");
        assert!(kinds.contains(Namespaces::PID) && !kinds.contains(Namespaces::USER));
    }

    #[test]
    fn a_test_with_threads_is_not_single_threaded() {
        let running = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_millis(50)));
        assert!(!is_single_threaded());
        running.join().unwrap();
    }
}
