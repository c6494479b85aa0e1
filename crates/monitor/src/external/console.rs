//! The socket over which a runtime hands out a container's terminal (`--console-socket`).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::error::{Call, Error, Kind};

const NAME: &str = "console";
/// The runtime has sent it before it ended.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A socket that waits for a terminal. It has no name any more when it is dropped.
pub(super) struct Console {
    directory: OwnedFd,
    listener: OwnedFd,
}

impl Console {
    /// Binds it, through a descriptor: a full path easily exceeds the 107 bytes of a socket address (unix(7)).
    pub(super) fn listen(directory: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())
            .call(|| format!("open({directory:?}, O_PATH|O_DIRECTORY)"))?;
        drop(rustix::fs::unlinkat(&directory, NAME, AtFlags::empty()).map_err(std::io::Error::from));
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .call(|| "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)".to_owned())?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
            .call(|| "sockaddr_un(console)".to_owned())?;
        rustix::net::bind(&listener, &address).call(|| "bind(<console>)".to_owned())?;
        rustix::net::listen(&listener, 1).call(|| "listen(<console>, 1)".to_owned())?;
        Ok(Self { directory, listener })
    }

    /// Its name for another process.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}/{NAME}", std::process::id(), self.directory.as_raw_fd())
    }

    /// The terminal that the runtime has sent.
    pub(super) fn receive(&self) -> Result<OwnedFd, Error> {
        readable(&self.listener)?;
        let connection = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)
            .call(|| "accept4(<console>, SOCK_CLOEXEC)".to_owned())?;
        readable(&connection)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // What comes with it is the terminal's name on the other side.
        let mut name = [0; 4096];
        rustix::net::recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .call(|| "recvmsg(<console>)".to_owned())?;
        let rights = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        rights.ok_or_else(|| Error::refused(Kind::Failed, "the runtime sent no terminal"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(rustix::fs::unlinkat(&self.directory, NAME, AtFlags::empty()).map_err(std::io::Error::from));
    }
}

fn readable(socket: &OwnedFd) -> Result<(), Error> {
    let mut poll = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    match rustix::event::poll(&mut poll, Some(&PATIENCE)) {
        Ok(1..) => Ok(()),
        Ok(_) => Err(Error::refused(Kind::Failed, "the runtime sent no terminal")),
        Err(errno) => Err(errno).call(|| "poll(<console>)".to_owned()),
    }
}
