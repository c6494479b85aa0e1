//! What can go wrong with a class of service.

use crate::error::FailedCall;
use crate::files::Directory;
use rustix::io::Errno;
use std::path::PathBuf;

/// Longer words are not the kernel's.
const LONGEST: usize = 4096;

/// Why a container cannot have what it asks of resctrl.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file system to be found.
    #[error("needs the file system resctrl, which {}", reason(*.known))]
    Absent {
        /// The kernel knows the type.
        known: bool,
    },
    /// The class must be there, as nothing says what it may use.
    #[error("closID: the class of service {name:?} is not there, and without a schema none is made")]
    NoClass {
        /// Its name.
        name: String,
    },
    /// The class is there and may use something else.
    #[error("closID: {class} is there with {present:?}, not with {asked:?}", class = .class.display())]
    Differs {
        /// Its directory.
        class: PathBuf,
        /// What was asked for, such as `L3:0=f`.
        asked: String,
        /// What it has.
        present: String,
    },
    /// A file that has something else in it than the kernel writes there.
    #[error("{path}: {text:?} is no number", path = .path.display())]
    NoNumber {
        /// The file.
        path: PathBuf,
        /// The beginning of its content.
        text: String,
    },
    /// The kernel refused it, mostly with a sentence of its own.
    #[error("{call}{status}")]
    Call {
        /// The system call.
        call: FailedCall,
        /// `info/last_cmd_status`, with a leading `; the kernel says `, or nothing.
        status: String,
    },
}

fn reason(known: bool) -> &'static str {
    match known {
        true => "is not mounted here (mount -t resctrl resctrl /sys/fs/resctrl)",
        false => "this kernel does not have for this processor",
    }
}

impl Error {
    /// With what the kernel says of it. Another program's command may have come in between, so it stands beside the error
    /// and not in its place.
    pub(super) fn refused(root: &Directory, call: FailedCall) -> Error {
        let words = root.child("info").and_then(|info| info.read_small("last_cmd_status", LONGEST));
        let words = words.unwrap_or_default();
        let words = words.trim();
        let status = match words {
            "" | "ok" => String::new(),
            _ => format!("; the kernel says {words:?}"),
        };
        Error::Call { call, status }
    }

    /// The errno underneath, if a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Call { call, .. } => Some(call.errno()),
            _ => None,
        }
    }
}

impl From<FailedCall> for Error {
    fn from(call: FailedCall) -> Error {
        Error::Call { call, status: String::new() }
    }
}
