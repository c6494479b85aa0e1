//! Stopping all processes of a group at once, and ending them.

use crate::controller::Controller;
use crate::error::{Error, FailedCall, Result};
use crate::files::Directory;
use crate::group::{Cgroup, Description};
use crate::hierarchy::Version;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use std::time::{Duration, Instant};

const FREEZE_LIMIT: Duration = Duration::from_secs(10);
const KILL_LIMIT: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Stops all processes; returns when all of them stand still. On v1 the freezer tree is entered now if it was not.
    ///
    /// # Errors
    /// [`Error::Timeout`] after ten seconds (a process in an uninterruptible sleep); the group is thawed then.
    pub fn freeze(&mut self) -> Result<()> {
        if let Some(directory) = self.v2_with("cgroup.freeze")? {
            directory.write("cgroup.freeze", "1")?;
            return match wait_frozen(directory, true, FREEZE_LIMIT)? {
                true => Ok(()),
                false => {
                    directory.write("cgroup.freeze", "0")?;
                    Err(Error::timeout("freeze", directory.path(), FREEZE_LIMIT))
                }
            };
        }
        let at = self.freezer()?;
        self.bring_in()?;
        let directory = &self.joined[at].directory;
        let start = Instant::now();
        let mut round = 0u32;
        loop {
            directory.write("freezer.state", "FROZEN")?;
            if directory.read("freezer.state")?.trim() == "FROZEN" {
                return Ok(());
            }
            if start.elapsed() > FREEZE_LIMIT {
                directory.write("freezer.state", "THAWED")?;
                return Err(Error::timeout("freeze", directory.path(), FREEZE_LIMIT));
            }
            round += 1;
            // A freezing v1 group that forks faster than it freezes never gets there; thawing in between helps
            // (kernel Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst; runc does the same).
            if round.is_multiple_of(50) {
                directory.write("freezer.state", "THAWED")?;
            }
            std::thread::sleep(Duration::from_micros(if round < 10 { 50 } else { 1000 }));
        }
    }

    /// Lets all processes go on.
    ///
    /// # Errors
    /// A failed call.
    pub fn thaw(&mut self) -> Result<()> {
        if let Some(directory) = self.v2_with("cgroup.freeze")? {
            directory.write("cgroup.freeze", "0")?;
            wait_frozen(directory, false, FREEZE_LIMIT)?;
            return Ok(());
        }
        match self.joined_freezer() {
            Some(at) => Ok(self.joined[at].directory.write("freezer.state", "THAWED")?),
            // Never frozen.
            None => Ok(()),
        }
    }

    /// Whether the group is frozen, by us or by somebody else.
    ///
    /// # Errors
    /// A failed read.
    pub fn frozen(&self) -> Result<bool> {
        if let Some(frozen) = self.frozen_in_v2()? {
            return Ok(frozen);
        }
        let Some(at) = self.joined_freezer() else { return Ok(false) };
        Ok(self.joined[at].directory.read("freezer.state")?.trim() != "THAWED")
    }

    /// The same of groups that are not open: only what says it is opened.
    ///
    /// # Errors
    /// As [`Cgroup::open`], and [`Cgroup::frozen`].
    pub fn is_frozen(description: &Description) -> Result<bool> {
        let v2 = Cgroup::open_in(description, |tree| tree.version == Version::V2)?;
        if let Some(frozen) = v2.frozen_in_v2()? {
            return Ok(frozen);
        }
        Cgroup::open_in(description, |tree| tree.controllers.contains(&Controller::Freezer))?.frozen()
    }

    /// `None` where v2 freezes nothing: the word came with the file `cgroup.freeze`, in Linux 5.2.
    fn frozen_in_v2(&self) -> Result<Option<bool>> {
        let Some(v2) = self.v2() else { return Ok(None) };
        let events = v2.directory.read_if_there("cgroup.events")?;
        Ok(events.and_then(|text| event(&text, "frozen")).map(|number| number == 1))
    }

    /// Ends all processes with SIGKILL, those of child groups included, frozen or not. They have got the signal when
    /// this returns; they may still be dying, and their parents have not reaped them.
    ///
    /// Linux 5.14: one write into cgroup.kill, which no fork escapes. Before, and on v1: freeze, signal, thaw, until
    /// nobody new is found.
    ///
    /// # Errors
    /// [`Error::Timeout`] if new processes appear for five seconds.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(v2) = self.v2() {
            match v2.directory.write("cgroup.kill", "1") {
                Err(failed) if failed.errno() == Errno::NOENT => {}
                result => return Ok(result?),
            }
        }
        let start = Instant::now();
        let mut signalled: Vec<Pid> = Vec::new();
        loop {
            // Freezing keeps the list true while it is worked through. Without it, the repetition has to do.
            drop(self.freeze());
            let result = self.signal(&mut signalled);
            self.thaw()?;
            if !result? {
                return Ok(());
            }
            if start.elapsed() > KILL_LIMIT {
                let path = self.joined.first().map(|joined| joined.directory.path().to_owned()).unwrap_or_default();
                return Err(Error::timeout("kill", &path, KILL_LIMIT));
            }
        }
    }

    /// SIGKILL to all; `true` if one was among them that had not got it before.
    fn signal(&self, signalled: &mut Vec<Pid>) -> Result<bool> {
        let mut found = false;
        for pid in self.processes()? {
            match rustix::process::kill_process(pid, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(FailedCall::new(format!("kill({pid:?}, SIGKILL)"), errno).into()),
            }
            if !signalled.contains(&pid) {
                signalled.push(pid);
                found = true;
            }
        }
        Ok(found)
    }

    /// The v2 directory if this kernel has `file` in it.
    fn v2_with(&self, file: &str) -> Result<Option<&Directory>> {
        let Some(v2) = self.v2() else { return Ok(None) };
        match v2.directory.reader(file) {
            Ok(_) => Ok(Some(&v2.directory)),
            Err(failed) if failed.errno() == Errno::NOENT => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    fn joined_freezer(&self) -> Option<usize> {
        let mounts = &self.description.mounts;
        self.joined.iter().position(|joined| mounts[joined.mount].controllers.contains(&Controller::Freezer))
    }

    fn freezer(&mut self) -> Result<usize> {
        let controller = Controller::Freezer;
        self.controller(controller)?.filter(|at| self.joined[*at].version == Version::V1).ok_or_else(|| {
            let reason = "neither cgroup v2 of Linux 5.2 nor v1's freezer is mounted".to_owned();
            Error::Unsupported { limit: "pause".to_owned(), controller, reason }
        })
    }
}

/// The number after `key` in a file of lines `key number`.
pub(crate) fn event(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Waits for `frozen` in cgroup.events to become `wanted`; the kernel announces a change as POLLPRI. An empty group is
/// frozen at once. `false` when the time is over.
fn wait_frozen(directory: &Directory, wanted: bool, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    loop {
        // Opened anew: an open file reports only changes after its last read from the start.
        let events = directory.reader("cgroup.events")?;
        let text = crate::files::read_all(&events)
            .map_err(|errno| FailedCall::new(format!("read(<{}/cgroup.events>)", directory.path().display()), errno))?;
        if (event(&text, "frozen") == Some(1)) == wanted {
            return Ok(true);
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        let wait = left.min(Duration::from_millis(100));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(FailedCall::new("poll(<cgroup.events>, POLLPRI)", errno).into()),
        }
    }
}
