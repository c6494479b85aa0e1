//! What can go wrong, in words that name the limit, the controller and the reason.

use crate::controller::Controller;
use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// A system call that failed, printed as strace would: the call with its paths, the errno and its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    call: String,
    errno: Errno,
}

impl FailedCall {
    /// `call` is the call with its arguments, e.g. `mkdirat(</sys/fs/cgroup/pids>, "dhow", 0755)`.
    pub(crate) fn new(call: impl Into<String>, errno: Errno) -> FailedCall {
        FailedCall { call: call.into(), errno }
    }

    /// The number.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for FailedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.errno).to_string();
        let meaning = text.split(" (os error").next().unwrap_or(&text);
        write!(f, "{}: {} ({meaning})", self.call, errno_name(self.errno))
    }
}

impl std::error::Error for FailedCall {}

fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::SRCH => "ESRCH",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::BADF => "EBADF",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::FAULT => "EFAULT",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::INVAL => "EINVAL",
        Errno::MFILE => "EMFILE",
        Errno::FBIG => "EFBIG",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::RANGE => "ERANGE",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTEMPTY => "ENOTEMPTY",
        Errno::LOOP => "ELOOP",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::TIMEDOUT => "ETIMEDOUT",
        other => return format!("errno {}", other.raw_os_error()),
    };
    name.to_owned()
}

/// A limit that cannot be right on any machine; found before the kernel is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{limit} cannot be {value}: {reason}")]
pub struct Invalid {
    /// Which limit, as the runtime specification names it: `cpu.cpus`.
    pub limit: String,
    /// What was asked for, shortened to 80 characters.
    pub value: String,
    /// Why not.
    pub reason: String,
}

impl Invalid {
    pub(crate) fn new(limit: impl Into<String>, value: impl fmt::Display, reason: impl Into<String>) -> Invalid {
        let value = value.to_string().chars().take(80).collect();
        Invalid { limit: limit.into(), value, reason: reason.into() }
    }
}

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cgroup file system was found.
    #[error("no control groups here: neither cgroup v2 nor v1 is mounted on /sys/fs/cgroup")]
    NoHierarchy,
    /// A path that is not accepted.
    #[error("{path:?} is not a control group path: {reason}")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value that is refused before the kernel is asked.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The group is there and has processes: another container's, or a crashed one's that still runs.
    #[error("control group {path} exists and has processes in it")]
    Occupied {
        /// Its directory.
        path: PathBuf,
    },
    /// The group is there, empty and frozen: whoever came into it would stand still for ever.
    #[error("control group {path} exists and is frozen")]
    Frozen {
        /// Its directory.
        path: PathBuf,
    },
    /// The limit cannot be had here.
    #[error("{limit} cannot be set here (controller {controller}): {reason}")]
    Unsupported {
        /// Which limit, as the runtime specification names it.
        limit: String,
        /// The controller that would enforce it.
        controller: Controller,
        /// Why not.
        reason: String,
    },
    /// The kernel refused the value.
    #[error("set {limit} to {value:?} (controller {controller}){hint}")]
    Set {
        /// Which limit, as the runtime specification names it.
        limit: String,
        /// The controller that enforces it.
        controller: Controller,
        /// What was written.
        value: String,
        /// What the kernel would have accepted, if known, with a leading `; `.
        hint: String,
        /// The refusal.
        #[source]
        source: FailedCall,
    },
    /// The device program could not be loaded or attached.
    #[error("restrict devices of {path}{log}")]
    Devices {
        /// The group's directory.
        path: PathBuf,
        /// The verifier's words, with a leading `: `, or nothing.
        log: String,
        /// The refusal.
        #[source]
        source: FailedCall,
    },
    /// Processes are still there after all that was tried.
    #[error("{what} {path}: not done after {milliseconds} ms")]
    Timeout {
        /// `freeze`, `kill` or `remove`.
        what: &'static str,
        /// The group's directory.
        path: PathBuf,
        /// How long it was tried.
        milliseconds: u64,
    },
    /// Nothing may be limited: an ordinary user without a delegated group.
    #[error("no control group is delegated to this user: {reason}")]
    NotDelegated {
        /// Why.
        reason: String,
    },
    /// systemd did not do what it was asked to.
    #[error("{request} over {bus}: {reason}")]
    Systemd {
        /// The method called.
        request: &'static str,
        /// The socket.
        bus: PathBuf,
        /// systemd's answer.
        reason: String,
    },
    /// Any other system call.
    #[error(transparent)]
    Call(#[from] FailedCall),
}

impl Error {
    pub(crate) fn timeout(what: &'static str, path: &Path, limit: std::time::Duration) -> Error {
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Error::Timeout { what, path: path.to_owned(), milliseconds }
    }

    /// The errno underneath, if a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Call(source) | Error::Set { source, .. } | Error::Devices { source, .. } => Some(source.errno()),
            _ => None,
        }
    }
}

/// Of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_reads_like_strace() {
        let failed = FailedCall::new(r#"write(</sys/fs/cgroup/x/memory.max>, "1")"#, Errno::INVAL);
        assert_eq!(failed.to_string(), r#"write(</sys/fs/cgroup/x/memory.max>, "1"): EINVAL (Invalid argument)"#);
    }
}
