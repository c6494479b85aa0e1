//! `kill`: sends a signal to a container.

use std::os::fd::AsFd;

use oci::runtime::LinuxNamespaceType;

use crate::error::{Error, Result};
use crate::groups;
use crate::kin::{KILL, Kin};
use crate::record::Status;
use crate::store::{Container, Store};

/// The number of a signal.
pub type Signal = i32;

/// A signal by number or name (0 only asks whether the container runs), with or without `SIG`, real-time ones as `RTMIN+3` and `RTMAX-1`.
///
/// # Errors
/// A text that is none.
pub fn signal(text: &str) -> Result<Signal> {
    let number = if text == "0" { Some(0) } else { kernel::signal_names::number(text) };
    number.ok_or_else(|| Error::refused(format!("unknown signal {text:?}")))
}

/// Sends a signal to the container's first process, or with `all` to all of its processes.
///
/// # Errors
/// [`Error::State`] for a container that does not run; with `all` that is no error.
pub fn kill(store: &Store, id: &str, signal: Signal, all: bool) -> Result<()> {
    let container = store.find(id)?;
    if all || (signal == KILL && !container.has_own(LinuxNamespaceType::Pid)) {
        return to_all(&container, signal, all);
    }
    let Some(process) = container.open_process()? else { return Err(not_running()) };
    match kernel::signals::send(process.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Err(not_running());
        }
        Err(source) => return Err(Error::File { what: format!("send signal {signal} to {id}"), source }),
        Ok(()) => {}
    }
    if signal != KILL {
        return Ok(());
    }
    match wake(&container) {
        // Whoever has waited for it may have removed its cgroup as well by now (`run`).
        Err(_) if kernel::signals::send(process.as_fd(), 0).is_err() => Ok(()),
        other => other,
    }
}

fn to_all(container: &Container, signal: Signal, all: bool) -> Result<()> {
    let Some(mut group) = groups::open(&container.record)? else {
        match Kin::of(container)? {
            Some(kin) if signal == KILL => kin.kill(),
            Some(kin) => kin.send(signal),
            None if all => {}
            None => return Err(not_running()),
        }
        return Ok(());
    };
    if signal == KILL {
        return Ok(group.kill()?);
    }
    for pid in group.processes()? {
        if let Ok(process) = kernel::clone::open_pidfd(pid) {
            // It may end at any moment.
            drop(kernel::signals::send(process.as_fd(), signal));
        }
    }
    Ok(())
}

/// A frozen process of v1 does not die before it is thawed.
fn wake(container: &Container) -> Result<()> {
    if container.status()? == Status::Paused {
        groups::need(&container.record)?.thaw()?;
    }
    Ok(())
}

fn not_running() -> Error {
    Error::State("container not running".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [("0", 0), ("9", 9), ("kill", 9), ("SIGRTMIN+3", 37)] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        assert!(signal("SIGFOO").unwrap_err().to_string().contains("unknown signal \"SIGFOO\""));
    }
}
