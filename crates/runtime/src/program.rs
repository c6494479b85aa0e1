//! The working directory, and finding and executing the program.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use kernel::beneath::{self, Limits};
use kernel::error::Error as SystemCall;
use kernel::exe::{self, Strings};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{During, Error, Result};
use crate::plan::ProcessPlan;
use crate::users::User;

/// What a shell uses when there is no PATH; Docker's as well.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with everything that execve(2) needs.
pub(crate) struct Program {
    candidates: Vec<CString>,
    arguments: Strings,
    environment: Strings,
}

impl Program {
    pub(crate) fn prepare(process: &ProcessPlan, user: &User) -> Result<Self> {
        let step = || "prepare the program's arguments";
        let home = match &user.home {
            Some(home) if !has_home(&process.env) => Some(format!("HOME={home}")),
            _ => None,
        };
        let environment = each_once(process.env.iter().map(String::as_str).chain(home.as_deref()));
        Ok(Self {
            candidates: candidates(process).during(step)?,
            arguments: Strings::new(process.args.iter().map(String::as_str)).during(step)?,
            environment: Strings::new(environment).during(step)?,
        })
    }

    /// Whether there is a program to execute, as one can tell without trying: for a start that comes much later.
    pub(crate) fn look_ahead(&self, process: &ProcessPlan) -> Result<()> {
        let program = || process.args.first().cloned().unwrap_or_default();
        let mut problem = Error::NotFound { program: program(), errno: Errno::NOENT };
        for path in &self.candidates {
            let Ok(status) = rustix::fs::stat(path.as_c_str()) else { continue };
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                problem = Error::NotExecutable { program: program(), errno: Errno::ACCESS };
            } else if rustix::fs::accessat(CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS).is_ok() {
                return Ok(());
            } else {
                problem = Error::NotExecutable { program: program(), errno: Errno::ACCESS };
            }
        }
        Err(problem)
    }

    /// Tries one place after the other, as execvpe(3) does, with no look ahead that could be wrong by the time of the
    /// call. Returns only on failure: permission denied somewhere says more than not found elsewhere.
    pub(crate) fn execute(&self, process: &ProcessPlan) -> Error {
        let program = process.args.first().cloned().unwrap_or_default();
        let mut denied = None;
        let mut last = Errno::NOENT;
        for path in &self.candidates {
            let errno = match exe::execute(path, &self.arguments, &self.environment) {
                Ok(never) => match never {},
                Err(errno) => errno,
            };
            match errno {
                Errno::NOENT | Errno::NOTDIR => last = errno,
                Errno::ACCESS => denied = Some(errno),
                _ => return Error::NotExecutable { program, errno },
            }
        }
        match denied {
            Some(errno) => Error::NotExecutable { program, errno },
            None => Error::NotFound { program, errno: last },
        }
    }
}

/// Whether the environment says where the user's home is; an empty word says nothing.
pub(crate) fn has_home(env: &[String]) -> bool {
    let last = env.iter().rev().find_map(|entry| entry.strip_prefix("HOME="));
    last.is_some_and(|home| !home.is_empty())
}

/// The last entry for each name, as a shell would have it: programs disagree about which of two counts.
fn each_once<'a>(entries: impl DoubleEndedIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let name = |entry: &'a str| entry.split_once('=').map_or(entry, |(name, _)| name);
    let mut kept: Vec<&str> = entries.rev().filter(|entry| seen.insert(name(entry))).collect();
    kept.reverse();
    kept
}

fn candidates(process: &ProcessPlan) -> kernel::Result<Vec<CString>> {
    let name = process.args.first().map_or("", String::as_str);
    let string = |path: String| {
        CString::new(path.clone()).map_err(|_| SystemCall::new(format!("execve({path:?})"), Errno::INVAL))
    };
    if name.contains('/') {
        return Ok(vec![string(name.to_owned())?]);
    }
    let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':')
        // An empty entry is the working directory (environ(7)).
        .map(|directory| if directory.is_empty() { format!("./{name}") } else { format!("{directory}/{name}") })
        .map(string)
        .collect()
}

/// Enters the working directory beneath the root, without magic links, and verifies that the kernel knows a path to it
/// from there (CVE-2024-21626: a directory descriptor of the host by `/proc/self/fd/N`).
pub(crate) fn change_directory(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let step = || format!("enter the working directory {path:?}");
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = beneath::open(root, path, flags, Mode::empty(), Limits::default()).during(step)?;
    rustix::process::fchdir(directory.as_fd())
        .map_err(|errno| SystemCall::new(format!("fchdir({path:?})"), errno))
        .during(step)?;
    let current =
        rustix::process::getcwd(Vec::new()).map_err(|errno| SystemCall::new("getcwd()", errno)).during(step)?;
    if current.to_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(Error::Refused(format!("the working directory {path:?} is outside of the container")))
    }
}
