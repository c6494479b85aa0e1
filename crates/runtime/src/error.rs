//! What can go wrong between a plan and a running process.

use kernel::error::{Error as SystemCall, describe};
use rustix::io::Errno;

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Boxed error of a caller's closure.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a container or a process in it could not be made or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed; `step` says what was being done, such as `mount proc on /proc`.
    #[error("{step}")]
    Step {
        /// What was being done.
        step: String,
        /// The system call.
        #[source]
        source: SystemCall,
    },
    /// A value that can only be judged inside the container is wrong, such as a user name that its passwd file lacks.
    #[error("{0}")]
    Refused(String),
    /// A bind mount is to lose what the kernel does not let this user namespace take away (mount_namespaces(7)).
    #[error(
        "bind {source_path} on {destination}: cannot change {flags}, which is locked: EPERM (Operation not permitted)"
    )]
    Locked {
        /// What is mounted.
        source_path: String,
        /// Where.
        destination: String,
        /// The attributes, as mount(8) writes them.
        flags: String,
    },
    /// The program is not there: exit status 127 by convention.
    #[error("exec {program:?}: {}", not_found(.program, *.errno))]
    NotFound {
        /// As it stands in the plan.
        program: String,
        /// Answer of the kernel for the last place that was tried.
        errno: Errno,
    },
    /// The program is there but cannot be executed: exit status 126 by convention.
    #[error("exec {program:?}: {}", describe(*.errno))]
    NotExecutable {
        /// As it stands in the plan.
        program: String,
        /// Answer of the kernel.
        errno: Errno,
    },
    /// A hook failed.
    #[error("error running {kind} hook #{number}: {path:?} {outcome}")]
    Hook {
        /// When it was to be called, such as `createRuntime`.
        kind: String,
        /// Which of that kind, from 0 on.
        number: usize,
        /// Its program.
        path: String,
        /// How it ended, such as `ended with status 1: no such device`.
        outcome: String,
    },
    /// The caller's closure failed.
    #[error("set up the container from outside")]
    InParallel(#[source] BoxError),
    /// A process could not be put into the container's cgroup by the one who was asked to.
    #[error("put a process into the container's cgroup")]
    NotLed(#[source] BoxError),
    /// Checkpoint or restore.
    #[error("checkpoint and restore")]
    Criu(#[from] criu::Error),
    /// The first process was gone before it could say why; it was killed, mostly for want of memory.
    #[error("the container's first process ended before its program was executed ({0})")]
    Vanished(String),
}

impl Error {
    /// Whether the program was not found: exit status 127.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the program cannot be executed: exit status 126.
    #[must_use]
    pub fn is_not_executable(&self) -> bool {
        matches!(self, Self::NotExecutable { .. })
    }

    /// The errno behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Step { source, .. } => Some(source.errno()),
            Self::Locked { .. } => Some(Errno::PERM),
            Self::NotFound { errno, .. } | Self::NotExecutable { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

fn not_found(program: &str, errno: Errno) -> String {
    if errno == Errno::NOENT && !program.contains('/') {
        "executable file not found in $PATH".to_owned()
    } else {
        describe(errno)
    }
}

/// Names the step that a system call was for.
pub(crate) trait During<T> {
    /// `step` is only made when it is needed.
    fn during<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T> During<T> for kernel::Result<T> {
    fn during<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Step { step: step().into(), source })
    }
}
