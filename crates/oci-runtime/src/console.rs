//! Descriptors handed to the caller over a socket: the terminal's other end, the process.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::error::{Error, OnFile, Result};

/// Sockets on which the caller waits for descriptors.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// For the other end of the container's terminal.
    pub console: Option<PathBuf>,
    /// For a descriptor of the process.
    pub pidfd: Option<PathBuf>,
}

impl Sockets {
    /// A terminal needs somebody who holds its other end, and a console socket a terminal.
    pub(crate) fn check(&self, terminal: bool, detached: bool) -> Result<()> {
        match (&self.console, terminal, detached) {
            (None, true, true) => {
                Err(Error::refused("cannot allocate tty if the runtime will detach without setting console socket"))
            }
            (Some(_), false, _) | (Some(_), _, false) => {
                Err(Error::refused("cannot use console socket if the runtime will not detach or allocate tty"))
            }
            _ => Ok(()),
        }
    }

    /// Sends what there is.
    pub(crate) fn send(&self, terminal: Option<&OwnedFd>, process: BorrowedFd<'_>) -> Result<()> {
        if let (Some(path), Some(terminal)) = (&self.console, terminal) {
            // The name of a terminal in the container's devpts says nothing outside; runc sends it all the same.
            send(path, terminal.as_fd(), b"/dev/ptmx")?;
        }
        match &self.pidfd {
            Some(path) => send(path, process, b"pidfd"),
            None => Ok(()),
        }
    }
}

fn send(path: &Path, descriptor: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let work = || {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        // The space is for exactly one, so it is never refused.
        let _ = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&socket, &[IoSlice::new(name)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
    };
    work().on("send a descriptor to", path)
}
