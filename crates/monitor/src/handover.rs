//! Starting a monitor and giving it its plan: both sides of the control connection before the container runs.
//!
//! ```text
//! engine                                  monitor (same binary, other role)
//!   │ lock; socketpair; spawn ───────────────► │ stdin is the control connection, stdout the lock: no unsafe code is
//!   │                                          │ needed to take them, and no number agreed
//!   │ u32 BE length │ JSON MonitorPlan ──────► │ receive_plan
//!   │ ◄───── Reply started | failed, frames    │ see `wire`
//! ```

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::client::Connection;
use crate::error::{Call, Error};
use crate::plan::MonitorPlan;
use crate::wire::MESSAGE_LIMIT;

/// Starts `command`, which must end up in [`take_standard_streams`] and [`receive_plan`]. `lock` is the container's lock,
/// held by the caller and, from here on, by the monitor. A caller that lives longer than the container has to wait for the
/// child some day; one that ends leaves it to init.
///
/// # Errors
/// A failing system call, or a plan of more than [`MESSAGE_LIMIT`] bytes.
pub fn spawn(mut command: Command, lock: BorrowedFd<'_>, plan: &MonitorPlan) -> Result<(Connection, Child), Error> {
    let (ours, theirs) = UnixStream::pair().call(|| "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)".to_owned())?;
    let lock = lock.try_clone_to_owned().call(|| "fcntl(<lock>, F_DUPFD_CLOEXEC, 3)".to_owned())?;
    let child = command
        .stdin(OwnedFd::from(theirs))
        .stdout(lock)
        .stderr(Stdio::null())
        .spawn()
        .call(|| format!("execve({:?})", command.get_program()))?;
    // It holds a copy of the other end; with that, a monitor that dies would not be noticed.
    drop(command);
    let connection = Connection::from(OwnedFd::from(ours));
    connection.send_plan(plan)?;
    Ok((connection, child))
}

/// In the monitor, before anything has been opened: takes the control connection and the lock, puts `/dev/null` in the
/// place of all three standard streams, and closes everything else that was inherited.
///
/// # Errors
/// A failing system call.
pub fn take_standard_streams() -> Result<[OwnedFd; 2], Error> {
    // Without the call (Linux 5.9) a stranger's pipe may stay open as long as the container runs. Not worth failing for.
    drop(kernel::inherited::close());
    let take = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().call(|| "fcntl(F_DUPFD_CLOEXEC, 3)".to_owned());
    // Not those of the standard library, which would keep buffers for them.
    let taken = [take(rustix::stdio::stdin())?, take(rustix::stdio::stdout())?];
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
        .call(|| "openat(AT_FDCWD, \"/dev/null\", O_RDWR|O_CLOEXEC)".to_owned())?;
    rustix::stdio::dup2_stdin(&null).call(|| "dup2(</dev/null>, 0)".to_owned())?;
    rustix::stdio::dup2_stdout(&null).call(|| "dup2(</dev/null>, 1)".to_owned())?;
    rustix::stdio::dup2_stderr(&null).call(|| "dup2(</dev/null>, 2)".to_owned())?;
    Ok(taken)
}

/// Descriptors in one message; the kernel takes 253 (`SCM_MAX_FD`).
pub(crate) const SOCKETS_AT_ONCE: usize = 200;

/// In the monitor, after the plan: takes the sockets that hold published ports, as many as the plan says.
///
/// # Errors
/// A broken connection; fewer than that where this process may not have so many descriptors.
pub fn receive_sockets(control: BorrowedFd<'_>, count: usize) -> Result<Vec<OwnedFd>, Error> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let mut byte = [0];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [std::io::IoSliceMut::new(&mut byte)];
        let received = rustix::net::recvmsg(control, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .call(|| "recvmsg(<control>)".to_owned())?;
        let before = sockets.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds);
            }
        }
        if received.bytes == 0 || sockets.len() == before {
            return Err(Error::Protocol(format!("{} of {count} sockets came with the plan", sockets.len())));
        }
    }
    Ok(sockets)
}

/// In the monitor: reads the plan from the control connection.
///
/// # Errors
/// A broken connection, or something that is no plan.
pub fn receive_plan(control: BorrowedFd<'_>) -> Result<MonitorPlan, Error> {
    let control = control.try_clone_to_owned().call(|| "fcntl(<control>, F_DUPFD_CLOEXEC, 3)".to_owned())?;
    let mut stream = UnixStream::from(control);
    let mut length = [0; 4];
    stream.read_exact(&mut length).call(|| "read(<control>)".to_owned())?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_LIMIT {
        return Err(Error::Protocol(format!("plan of {length} bytes, more than {MESSAGE_LIMIT}")));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).call(|| "read(<control>)".to_owned())?;
    serde_json::from_slice(&json).map_err(|source| Error::Json { what: "read plan".to_owned(), source })
}
