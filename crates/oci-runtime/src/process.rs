//! Processes by number and time of birth, so that a number that was used again is not taken for the container.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Error, Result};

/// State and time of birth, in clock ticks since the boot, of a process (proc_pid_stat(5)); `None` when it is gone.
pub(crate) fn look(pid: Pid) -> Option<(char, u64)> {
    let text = kernel::small_file::read(&format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The second field is the name in brackets, and may have both spaces and brackets in it.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Whether the process with this number that was born then still runs.
pub(crate) fn is_alive(pid: Pid, started: u64) -> bool {
    matches!(look(pid), Some((state, born)) if born == started && !matches!(state, 'Z' | 'X'))
}

/// Which namespace of a kind (`pid`, `mnt`) a process is in; `None` when it is gone, or nobody may know.
pub(crate) fn namespace(pid: Pid, kind: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{}/ns/{kind}", pid.as_raw_nonzero())).ok()
}

/// All processes that are in it, as far as their namespaces may be known.
pub(crate) fn in_namespace(kind: &str, namespace: &Path) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let mut found: Vec<Pid> =
        pids.filter(|pid| self::namespace(*pid, kind).is_some_and(|own| own == namespace)).collect();
    found.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    found
}

/// A descriptor of the process, if it is still the one that was born then.
pub(crate) fn open(pid: Pid, started: u64) -> Result<Option<OwnedFd>> {
    let pidfd = match kernel::clone::open_pidfd(pid) {
        Err(error) if error.errno() == Errno::SRCH => return Ok(None),
        other => other?,
    };
    // After the descriptor was had, which is bound to whoever had the number then.
    Ok(is_alive(pid, started).then_some(pidfd))
}

/// Descriptors that this program was started with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inherited {
    /// How many from 3 on are for the container's process, as `--preserve-fds` says.
    pub preserved: u32,
    /// How many more from there on were passed by a service manager (sd_listen_fds(3)).
    pub listening: u32,
}

impl Inherited {
    /// Checks that what is to be handed on is there. To be called before anything is opened.
    ///
    /// # Errors
    /// A descriptor that is to be preserved and is not open.
    pub fn settle(self) -> Result<()> {
        let first = self.total().saturating_add(3);
        if first > 1 << 16 {
            return Err(Error::refused(format!(
                "--preserve-fds {}: there are not so many descriptors",
                self.preserved
            )));
        }
        for number in 3..first {
            if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
                return Err(Error::refused(format!("--preserve-fds: descriptor {number} is not open")));
            }
        }
        // The others are closed when the container's program is executed, or while it waits for that; until then one may
        // be a file that the caller names, as /dev/fd/63.
        Ok(())
    }

    pub(crate) fn total(self) -> u32 {
        self.preserved.saturating_add(self.listening)
    }
}
