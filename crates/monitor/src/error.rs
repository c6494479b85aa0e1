//! What can go wrong in a monitor and in talking to one.
//!
//! A failure crosses the socket as a [`Failure`]: a [`Kind`] for programs and a chain of texts for people. Kinds become
//! exit codes and HTTP statuses in the front ends, nowhere else.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What sort of failure it was, for whoever chooses an exit code or an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The program to execute does not exist in the container (exit code 127).
    NotFound,
    /// The program exists but cannot be executed (exit code 126).
    NotExecutable,
    /// The container, or the exec session that was named, is not running.
    NotRunning,
    /// The request makes no sense as it stands: unknown signal, unknown session, malformed message.
    Invalid,
    /// The monitor is gone, or was never there.
    Gone,
    /// The container exists already: another monitor holds its lock.
    Busy,
    /// Everything else (exit code 125).
    Failed,
}

/// A failure as it is written on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of failure.
    pub kind: Kind,
    /// The error's text, outermost first, then its causes.
    pub chain: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl std::error::Error for Failure {}

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{call}: {}", described(.errno))]
    System {
        /// The call with its arguments, as strace prints it.
        call: String,
        /// What it returned.
        errno: io::Error,
    },
    /// Another monitor holds the lock of this container.
    #[error("another monitor holds {}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The container could not be created or started.
    #[error("start container")]
    Launch {
        /// What sort of failure.
        kind: Kind,
        /// The runtime's, network's or cgroup's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A process could not be started inside the container.
    #[error("execute in container")]
    Exec {
        /// What sort of failure.
        kind: Kind,
        /// The runtime's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cgroup did not do what it should.
    #[error("{what}")]
    Cgroup {
        /// What it should have done.
        what: &'static str,
        /// The cgroup's error.
        #[source]
        source: Box<cgroup::Error>,
    },
    /// There is no monitor behind the socket.
    #[error("no monitor answers: connect({path:?}): {}", described(.errno))]
    NoMonitor {
        /// The socket.
        path: PathBuf,
        /// Why connecting failed.
        errno: io::Error,
    },
    /// The connection ended in the middle of something.
    #[error("the monitor closed the connection")]
    Closed,
    /// The other side sent what the protocol does not have.
    #[error("protocol: {0}")]
    Protocol(String),
    /// A message or a record is not the JSON it should be.
    #[error("{what}")]
    Json {
        /// Which message or file.
        what: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The request cannot be carried out.
    #[error("{message}")]
    Refused {
        /// What sort of failure.
        kind: Kind,
        /// Why.
        message: String,
    },
    /// The monitor answered with a failure.
    #[error(transparent)]
    Remote(Failure),
}

impl Error {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Launch { kind, .. } | Self::Exec { kind, .. } | Self::Refused { kind, .. } => *kind,
            Self::Remote(failure) => failure.kind,
            Self::NoMonitor { .. } | Self::Closed => Kind::Gone,
            Self::Locked { .. } => Kind::Busy,
            Self::Protocol(_) => Kind::Invalid,
            Self::System { .. } | Self::Json { .. } | Self::Cgroup { .. } => Kind::Failed,
        }
    }

    /// This error as it crosses the socket.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        if let Self::Remote(failure) = self {
            return failure.clone();
        }
        let mut chain = vec![self.to_string()];
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        Failure { kind: self.kind(), chain }
    }

    pub(crate) fn refused(kind: Kind, message: impl Into<String>) -> Self {
        Self::Refused { kind, message: message.into() }
    }
}

/// Puts the system call's text around its errno.
pub(crate) trait Call<T> {
    /// `call` builds the text, as strace would print it.
    fn call(self, call: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Call<T> for Result<T, E> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::System { call: call(), errno: errno.into() })
    }
}

/// As strace prints it: `ENOENT (No such file or directory)`.
fn described(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => kernel::error::describe(rustix::io::Errno::from_raw_os_error(errno)),
        None => error.to_string(),
    }
}
