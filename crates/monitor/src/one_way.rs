//! Network set-up from a process that enters the container's network namespace and ends there.
//!
//! setns(2) into a network namespace needs `CAP_SYS_ADMIN` over it. Root of a user namespace has that over the container's,
//! but not over the host's, so the monitor of an ordinary user's container would be caught inside.

use std::os::fd::{AsFd, OwnedFd};

use kernel::clone::Clone as Cloning;
use kernel::namespaces::{self, Namespaces};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::WaitOptions;

use crate::error::{Call, Error, Kind};

/// Sets the loopback device of `namespace` up.
pub(crate) fn loopback_up(namespace: &OwnedFd) -> Result<(), Error> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)".to_owned())?;
    let child = Cloning::default().spawn(|| match enter_and_set_up(namespace) {
        Ok(()) => 0,
        Err(text) => {
            // Short enough for one write. If the monitor is gone there is nobody to tell.
            rustix::io::write(&writer, text.as_bytes()).ok();
            1
        }
    });
    let child = child.map_err(|source| Error::Launch { kind: Kind::Failed, source: source.into() })?;
    drop(writer);
    let mut said = [0; 1024];
    let length = read(&reader, &mut said).call(|| "read(<pipe>)".to_owned())?;
    // What it said decides; a reaper of the monitor may have been faster here.
    rustix::process::waitpid(Some(child.pid), WaitOptions::empty()).ok();
    match length {
        0 => Ok(()),
        length => Err(Error::refused(Kind::Failed, String::from_utf8_lossy(&said[..length]).into_owned())),
    }
}

fn read(reader: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    loop {
        match rustix::io::read(reader, &mut *buffer) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn enter_and_set_up(namespace: &OwnedFd) -> Result<(), String> {
    namespaces::join(namespace.as_fd(), Namespaces::NETWORK).map_err(|error| error.to_string())?;
    // Already inside, it can "return" to where it is.
    network::loopback_up(namespace.as_fd()).map_err(|error| error.to_string())
}
