//! `kill`: sends a signal to a container.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::groups;
use crate::record::Status;
use crate::store::Store;

/// The number of a signal.
pub type Signal = i32;

/// Names with their numbers (signal(7)), the same on x86-64 and arm64.
const NAMES: [(&str, Signal); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("POLL", 29),
];

/// A signal by number or name (0 only asks whether the container runs), with or without `SIG`, real-time ones as `RTMIN+3` and `RTMAX-1`.
///
/// # Errors
/// A text that is none.
pub fn signal(text: &str) -> Result<Signal> {
    let unknown = || Error::refused(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<Signal>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(each, _)| *each == name) {
        return Ok(*number);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<Signal>().ok().filter(|value| (0..=30).contains(value)),
    };
    let number = name
        .strip_prefix("RTMIN")
        .and_then(|rest| Some(34 + offset(rest, '+')?))
        .or_else(|| name.strip_prefix("RTMAX").and_then(|rest| Some(64 - offset(rest, '-')?)));
    number.ok_or_else(unknown)
}

/// Sends a signal to the container's first process, or with `all` to all of its processes.
///
/// # Errors
/// [`Error::State`] for a container that does not run; with `all` that is no error.
pub fn kill(store: &Store, id: &str, signal: Signal, all: bool) -> Result<()> {
    let container = store.find(id)?;
    const KILL: Signal = 9;
    if all || (signal == KILL && !container.has_own_pids()) {
        let Some(mut group) = groups::open(&container.record)? else {
            return if all { Ok(()) } else { Err(not_running()) };
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
        return Ok(());
    }
    let Some(process) = container.open_process()? else { return Err(not_running()) };
    match kernel::signals::send(process.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Err(not_running());
        }
        Err(source) => return Err(Error::File { what: format!("send signal {signal} to {id}"), source }),
        Ok(()) => {}
    }
    // A frozen process of v1 does not die before it is thawed.
    if signal == KILL && container.status()? == Status::Paused {
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
        for (text, number) in
            [("9", 9), ("kill", 9), ("SIGTERM", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "65", "-1", "SIG", "SIGSIGKILL", "RTMIN-1", "RTMIN+99"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
