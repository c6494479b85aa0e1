//! Starting a monitor and giving it its plan: both sides of the control connection before the container runs.
//!
//! ```text
//! engine                                  monitor (same binary, other role)
//!   │ socketpair; spawn with it as stdin ────► │ receive(): stdin becomes the control connection,
//!   │             and the lock as stdout       │            stdout the lock
//!   │ u32 BE length │ JSON MonitorPlan ──────► │
//!   │ ◄───── Reply started | failed, frames    │ see `wire`
//! ```

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::client::Connection;
use crate::error::{Call, Error};
use crate::plan::MonitorPlan;
use crate::wire::MESSAGE_LIMIT;

/// Starts `command`, which must end up in [`receive`], and hands it the plan, and the container's lock if the caller holds
/// it: the open file description goes along, so that there is no moment at which nobody holds it. A caller that lives longer than the container
/// has to wait for the child some day; one that ends leaves it to init.
///
/// # Errors
/// A failing system call, or a plan of more than [`MESSAGE_LIMIT`] bytes.
pub fn spawn(
    command: &mut Command,
    plan: &MonitorPlan,
    lock: Option<OwnedFd>,
) -> Result<(Connection, Child), Error> {
    let json = serde_json::to_vec(plan).map_err(|source| Error::Json { what: "write plan".to_owned(), source })?;
    if json.len() > MESSAGE_LIMIT {
        return Err(Error::Protocol(format!("plan of {} bytes, more than {MESSAGE_LIMIT}", json.len())));
    }
    let (mut ours, theirs) = UnixStream::pair().call(|| "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)".to_owned())?;
    let child = command
        .stdin(OwnedFd::from(theirs))
        .stdout(lock.map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::null())
        .spawn()
        .call(|| format!("execve({:?})", command.get_program()))?;
    // The command holds our copy of the other end; without this, a monitor that dies would not be noticed.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
    ours.write_all(&length).and_then(|()| ours.write_all(&json)).call(|| "write(<control>)".to_owned())?;
    Ok((Connection::control(ours.into()), child))
}

/// What a monitor was given.
#[derive(Debug)]
pub struct Received {
    /// What to do.
    pub plan: MonitorPlan,
    /// The control connection.
    pub control: OwnedFd,
    /// The container's lock, if the starter held it.
    pub lock: Option<OwnedFd>,
}

/// In the monitor: takes the control connection from the standard input, the lock from the standard output, and the plan
/// from the connection.
///
/// # Errors
/// A broken connection, or something that is no plan.
pub fn receive() -> Result<Received, Error> {
    let control = std::io::stdin().as_fd().try_clone_to_owned().call(|| "fcntl(0, F_DUPFD_CLOEXEC, 3)".to_owned())?;
    let stdout = rustix::stdio::stdout();
    let is_file = rustix::fs::fstat(stdout)
        .is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode) == rustix::fs::FileType::RegularFile);
    let lock = match is_file {
        true => Some(stdout.try_clone_to_owned().call(|| "fcntl(1, F_DUPFD_CLOEXEC, 3)".to_owned())?),
        false => None,
    };
    let mut stream = UnixStream::from(control);
    let mut length = [0; 4];
    stream.read_exact(&mut length).call(|| "read(<control>)".to_owned())?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_LIMIT {
        return Err(Error::Protocol(format!("plan of {length} bytes, more than {MESSAGE_LIMIT}")));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).call(|| "read(<control>)".to_owned())?;
    let plan = serde_json::from_slice(&json).map_err(|source| Error::Json { what: "read plan".to_owned(), source })?;
    Ok(Received { plan, control: stream.into(), lock })
}
