//! Monitors' sockets in the event loop: nobody's thread waits for them.

use monitor::client::Pending;
use monitor::{Error, Exit};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Puts a copy of a socket's descriptor into the event loop. From then on the socket does not block, under any descriptor.
///
/// # Errors
/// When there is no descriptor left, or no room in the epoll instance.
pub fn watch(socket: BorrowedFd<'_>) -> std::io::Result<UnixStream> {
    let copy = std::os::unix::net::UnixStream::from(socket.try_clone_to_owned()?);
    copy.set_nonblocking(true)?;
    UnixStream::from_std(copy)
}

/// Waits until the work finds something: it returns `None` when there is nothing yet.
///
/// # Errors
/// Those of the event loop.
pub async fn until<T>(
    watched: &UnixStream,
    interest: Interest,
    mut work: impl FnMut() -> Option<T>,
) -> std::io::Result<T> {
    loop {
        watched.ready(interest).await?;
        match watched.try_io(interest, || work().ok_or_else(|| IoError::from(ErrorKind::WouldBlock))) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Waits for the end that was asked for.
///
/// # Errors
/// [`Error::Closed`] when the monitor ended first, or what it refused.
pub async fn exit(mut pending: Pending) -> Result<Exit, Error> {
    let lost = |errno| Error::System { call: "epoll_ctl()".into(), errno };
    let watched = watch(pending.as_fd()).map_err(lost)?;
    until(&watched, Interest::READABLE, || pending.try_exit().transpose()).await.map_err(lost)?
}

/// Whether a descriptor is ready at this moment; without flags, whether the other side has gone.
pub fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}
