//! The files by which others learn of a container without asking its monitor: `state.json` and the exit record.
//!
//! Each is written to a name of its own and renamed, so a reader sees the old or the new one, never a part. They are not
//! synced: after a power cut no container runs, and the engine takes a missing record for "ended, nobody saw how".

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Call, Error};

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What the shell would say: its status, or 128 plus the signal's number. 125, 126 or 127 when it never started.
    pub exit_code: i32,
    /// The signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The kernel killed a process of the container because its memory limit was reached.
    #[serde(default)]
    pub oom_killed: bool,
    /// RFC 3339, UTC, nanoseconds.
    pub finished_at: String,
    /// Why it never started, or what went wrong at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A request to stop (or one to send SIGKILL or the stop signal) led to it, so a restart policy should leave it alone.
    #[serde(default)]
    pub requested: bool,
    /// The request was a signal to the monitor, as when the machine goes down: nobody meant this container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shutdown: bool,
}

/// What runs, and who watches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// The monitor.
    pub monitor_pid: i32,
    /// The container's first process, in the monitor's pid namespace; 0 while none runs.
    pub pid: i32,
    /// When that process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`): with it a pid is unique.
    pub pid_start_time: u64,
    /// Inode of its network namespace.
    pub network_namespace: u64,
    /// Its cgroup; none while none runs, and for an ordinary user to whom none is delegated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<cgroup::Description>,
    /// RFC 3339, UTC, nanoseconds; empty while it has not started.
    pub started_at: String,
    /// Frozen.
    #[serde(default)]
    pub paused: bool,
    /// How often it was started under this monitor before.
    #[serde(default)]
    pub restarts: u32,
    /// It has ended, and is started again in a moment.
    #[serde(default)]
    pub restarting: bool,
    /// How it ended the last time under this monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// What its health checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<crate::health::Health>,
    /// Exec sessions: all that run, and the last that ended.
    #[serde(default)]
    pub sessions: Vec<SessionState>,
}

/// An exec session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// Its id.
    pub id: String,
    /// Its process.
    pub pid: i32,
    /// It has a terminal.
    pub terminal: bool,
    /// RFC 3339, UTC, nanoseconds.
    pub started_at: String,
    /// How it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

impl State {
    /// Reads `<run directory>/state.json`; `None` when there is none.
    ///
    /// # Errors
    /// A failing system call, or a file that is not a state.
    pub fn read(run_directory: &Path) -> Result<Option<Self>, Error> {
        read_json(&run_directory.join("state.json"))
    }
}

impl Exit {
    /// Reads an exit record; `None` when there is none.
    ///
    /// # Errors
    /// A failing system call, or a file that is not an exit record.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        read_json(path)
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result.call(|| format!("openat(AT_FDCWD, {path:?}, O_RDONLY|O_CLOEXEC)"))?,
    };
    let value =
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { what: path.display().to_string(), source })?;
    Ok(Some(value))
}

/// Replaces `path` with `value` as JSON, in one step. Mode 0600.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Json { what: path.display().to_string(), source })?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(new)
        .call(|| format!("openat(AT_FDCWD, {new:?}, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600)"))?;
    file.write_all(&bytes).call(|| format!("write(<{}>, …, {})", new.display(), bytes.len()))?;
    fs::rename(new, path).call(|| format!("rename({new:?}, {path:?})"))
}

/// Start time of a process in clock ticks since boot; `None` when it is gone.
#[must_use]
pub fn process_start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may contain anything, so count from its end. proc_pid_stat(5).
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("exit.json");
        assert_eq!(Exit::read(&path).unwrap(), None);
        let mut exit = Exit {
            exit_code: 137,
            signal: Some(9),
            oom_killed: true,
            finished_at: crate::clock::now(),
            error: None,
            requested: false,
            shutdown: false,
        };
        replace(&path, &exit).unwrap();
        exit.exit_code = 0;
        replace(&path, &exit).unwrap();
        assert_eq!(Exit::read(&path).unwrap(), Some(exit));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_start_time_tells_processes_apart() {
        let own = process_start_time(rustix::process::getpid().as_raw_nonzero().get()).unwrap();
        assert!(own > 0);
        assert_ne!(Some(own), process_start_time(1));
        assert_eq!(process_start_time(i32::MAX), None);
    }
}
