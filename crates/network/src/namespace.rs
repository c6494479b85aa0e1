//! Doing something inside another network namespace.
//!
//! A netlink socket, a socket file and a `/proc/sys/net` file belong to the network namespace in which they were opened,
//! so that it is enough to step inside for the opening.

use crate::error::{Error, Refusal, failed};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` with the calling thread in the network namespace `netns`, and returns to the one it came from.
///
/// Only the calling thread moves; other threads of the process are not affected. The program that calls this for a
/// container is single-threaded all the same (see the monitor).
///
/// # Errors
/// `setns` fails with `EPERM` without `CAP_SYS_ADMIN` over the user namespaces of both. [`Error::Stranded`] when the way
/// back fails: the thread is then in the wrong namespace and must end.
pub fn within<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T, Error> {
    // thread-self (Linux 3.17): in a process with threads, each may be in another namespace.
    let path = "/proc/thread-self/ns/net";
    let home = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(format!("openat(AT_FDCWD, {path:?}, O_RDONLY|O_CLOEXEC)"), errno))?;
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
        .map_err(|errno| failed("setns(<network namespace>, CLONE_NEWNET)", errno))?;
    let result = work();
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|errno| {
        Error::Stranded(Refusal { operation: format!("setns(<{path}>, CLONE_NEWNET)"), errno, message: None })
    })?;
    Ok(result)
}
