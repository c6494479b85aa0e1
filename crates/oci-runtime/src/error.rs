//! What can go wrong between a command line and a container.

use std::path::Path;

use runtime::PlanError;
use rustix::io::Errno;

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb failed. The texts of [`Error::Missing`] and of the states are runc's, because callers look for them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no container of that name.
    #[error("container does not exist")]
    Missing,
    /// A container of that name is there.
    #[error("container with given ID already exists")]
    Exists,
    /// The container is not in the state that the verb needs.
    #[error("{0}")]
    State(String),
    /// What was asked for cannot be right.
    #[error("{0}")]
    Refused(String),
    /// The configuration cannot be executed.
    #[error("config.json")]
    Plan(#[from] PlanError),
    /// Making the container or a process in it.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// Its limits.
    #[error("the container's cgroup")]
    Cgroup(#[from] cgroup::Error),
    /// Its class of service.
    #[error("linux.intelRdt")]
    Class(#[from] cgroup::resctrl::Error),
    /// A network device.
    #[error("linux.netDevices")]
    Network(#[from] network::Error),
    /// A system call.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A file of the bundle, of the state directory or of the caller.
    #[error("{what}")]
    File {
        /// What was done with which file.
        what: String,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// When the program itself could not be executed: that in runc's words, by which engines tell exit status 126 and 127.
    #[must_use]
    pub fn execution(&self) -> Option<String> {
        let (program, errno) = match self {
            Self::Runtime(runtime::Error::NotFound { program, errno }) if !program.contains('/') => {
                let text = "executable file not found in $PATH".to_owned();
                return Some(format!(
                    "exec: {program:?}: {}",
                    if *errno == Errno::NOENT { text } else { words(*errno) }
                ));
            }
            Self::Runtime(
                runtime::Error::NotFound { program, errno } | runtime::Error::NotExecutable { program, errno },
            ) => (program, *errno),
            _ => return None,
        };
        let plain: String = program.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        Some(format!("exec {plain}: {}", words(errno)))
    }

    /// When a mount cannot be had as it is asked for: that in runc's words, by which callers tell it.
    #[must_use]
    pub fn mounting(&self) -> Option<String> {
        let Self::Runtime(runtime::Error::Locked { source_path, destination, flags }) = self else { return None };
        Some(format!(
            "unable to start container process: error during container init: error mounting {source_path:?} to rootfs at \
             {destination:?}: cannot change locked flags {flags}: operation not permitted"
        ))
    }

    /// The error with all that caused it, outermost first.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// The C library's words in lower case, as Go has them.
fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Names the file that an operation failed on.
pub(crate) trait OnFile<T> {
    fn on(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> OnFile<T> for std::io::Result<T> {
    fn on(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File { what: format!("{what} {}", path.display()), source })
    }
}

impl<T> OnFile<T> for Result<T, Errno> {
    fn on(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(std::io::Error::from).on(what, path)
    }
}
