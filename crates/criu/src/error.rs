//! What can go wrong between us and criu.

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Boxed error of a caller's closure.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a dump or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error("checkpoint and restore need the program criu (Debian: apt-get install criu), which is not in $PATH")]
    Missing,
    /// criu could not be started.
    #[error("start criu: {0}")]
    Start(String),
    /// criu said no.
    #[error("criu failed: type {action} errno {errno}{log}")]
    Failed {
        /// `DUMP`, `RESTORE`, `PRE_DUMP` or `VERSION`.
        action: &'static str,
        /// Its own number for the reason, mostly an errno.
        errno: i32,
        /// The lines of its log that say why, with a leading line end; or nothing.
        log: String,
    },
    /// What it answered is none of its messages.
    #[error("criu answered with something else than a message of its RPC")]
    Garbled,
    /// It was gone before it answered.
    #[error("criu ended before it answered{0}")]
    Gone(String),
    /// What the caller had to do in the middle of it failed.
    #[error("in the middle of criu's work")]
    Caller(#[source] BoxError),
    /// A system call.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}
