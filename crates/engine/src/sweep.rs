//! Putting right what a killed process left.
//!
//! Everything that the kernel does not clean by itself hangs on a directory below `<run root>/containers`, made before it
//! and removed after it. One whose lock nobody holds belongs to nobody: its processes are killed, its cgroup removed, its
//! address given back, and the container removed if it was to go. Veth pairs and mounts die with their namespaces.
//!
//! One with a restart policy is then started again (`crate::restart`).
//!
//! Each verb that makes, removes or looks at something does this first, and no caller needs to. It costs one `readdir`, and for each running
//! container one attempt to take a lock.

use crate::containers::record::Settings;
use crate::containers::{lock, table};
use crate::engine::Engine;
use crate::error::{Context, Result};
use monitor::Exit;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

impl Engine {
    /// The sweep before a verb does its own work. What cannot be put right now, for example on a full disk, the next
    /// verb tries again; this one goes on, and fails by itself if what is left stands in its way.
    pub(crate) fn put_right(&self) {
        drop(self.sweep());
    }

    /// The same for a list: which containers somebody held when the sweep came by. A monitor holds its container as long as it lives.
    pub(crate) fn put_right_and_see(&self) -> HashSet<String> {
        let mut held = HashSet::new();
        drop(self.sweep_and_see(&mut held));
        held
    }

    /// Finishes what killed processes began.
    pub fn sweep(&self) -> Result<()> {
        self.sweep_and_see(&mut HashSet::new())
    }

    fn sweep_and_see(&self, seen: &mut HashSet<String>) -> Result<()> {
        let runs = self.directories().run.join("containers");
        let failed = || format!("cannot read {}", runs.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&runs, flags, Mode::empty()).internal(failed)?;
        let mut swept = Ok(());
        for entry in Dir::read_from(&directory).internal(failed)? {
            // What cannot be put right keeps nobody from the rest; the first error is told.
            swept = swept.and(entry.internal(failed).and_then(|entry| match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => Ok(()),
                Ok(id) => self.sweep_run(directory.as_fd(), id, seen),
            }));
        }
        swept.and(self.sweep_user_network()).and(self.sweep_volumes()).and(self.sweep_store())
    }

    /// Finishes what a killed process began with one run, or sees that somebody holds it.
    fn sweep_run(&self, runs: BorrowedFd<'_>, id: &str, seen: &mut HashSet<String>) -> Result<()> {
        if !is_identifier(id) {
            return lock::sweep_unseen(self.directories(), id);
        }
        if let Some(held) = lock::claim_existing(self.directories(), runs, id)? {
            self.clear(id)?;
            drop(held);
            self.start_swept(id);
        } else {
            seen.insert(id.to_owned());
        }
        Ok(())
    }

    /// What killed imports and removals left in the store; one `readdir` when there is nothing.
    fn sweep_store(&self) -> Result<()> {
        let staging = self.directories().data.join("staging");
        let is_empty = std::fs::read_dir(&staging).map_or(true, |mut entries| entries.next().is_none());
        if !is_empty {
            self.store()?.sweep().internal(|| format!("cannot sweep {}", staging.display()))?;
        }
        self.settle_after_kill()
    }

    /// Kills what is left of a container that has no monitor, and removes its cgroup. Returns its last state.
    pub(crate) fn end_processes(&self, id: &str, settings: Option<&Settings>) -> Result<Option<monitor::State>> {
        let directory = self.directories().container_run(id);
        let state = monitor::State::read(&directory).internal(|| format!("cannot read the state of container {id}"))?;
        let cgroup = settings.map_or_else(|| format!("/dhow/{id}"), |settings| crate::lower::cgroup_path(settings, id));
        if let Some(state) = &state {
            kill_first(state)?;
        }
        let group = crate::group::find(self.host()?, &cgroup, state.as_ref())?;
        if let Some(runtime) = settings.and_then(|settings| self.external(id, settings)) {
            // Before its cgroup goes, by which it may know what is its.
            runtime.delete(id).internal(|| format!("cannot remove what was made for container {id}"))?;
        }
        kill_cgroup(group, &cgroup)?;
        Ok(state)
    }

    /// Finishes the run of a container whose lock the caller holds: records its end, or removes it.
    pub(crate) fn clear(&self, id: &str) -> Result<()> {
        let known = table::find(self.database()?.read(), id).ok();
        let state = self.end_processes(id, known.as_ref().map(|entry| &entry.settings))?;
        let Some(entry) = known else {
            // Killed before it was recorded, or after it was forgotten.
            self.remove_directories(id)?;
            return lock::release(self.directories(), id);
        };
        self.remove_pairs(id)?;
        let record = self.directories().container_run(id).join("exit.json");
        let exit = Exit::read(&record).internal(|| format!("cannot read how container {id} ended"))?;
        match (exit, state) {
            (Some(exit), state) => {
                let (started_at, restarts) = state.map_or_else(Default::default, |s| (s.started_at, s.restarts));
                self.end_of_run(id, &exit, started_at, restarts)
            }
            (None, Some(state)) => {
                let attributes = [("exitCode", "255")];
                self.record_of(id, &entry.name, &entry.settings, "die", &attributes);
                self.end_of_run(id, &unseen_end(), state.started_at, state.restarts)
            }
            // It never ran: killed between its creation and its start.
            (None, None)
                if entry.settings.auto_remove || table::goes_after_run(self.database()?.read(), id)? == Some(true) =>
            {
                self.remove_held(id)
            }
            (None, None) => {
                self.leave_networks(id)?;
                table::release_addresses(&mut *self.database()?, id)?;
                lock::release(self.directories(), id)
            }
        }
    }
}

/// Kills a container's first process, and with it its pid namespace: an ordinary user's container may have no cgroup.
fn kill_first(state: &monitor::State) -> Result<()> {
    // A negative number is no process, and no state that a monitor wrote.
    let Some(pid) = Pid::from_raw(state.pid.max(0)) else { return Ok(()) };
    let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(_gone) => return Ok(()),
    };
    // Asked after it was opened: now the descriptor stands for the process that has this start time.
    if monitor::record::process_start_time(state.pid) != Some(state.pid_start_time) {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno).internal(|| format!("cannot kill process {}", state.pid)),
    }
    // It is not ours to reap, so its end is all that can be waited for: what it used can then be removed.
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&patience)).internal(|| format!("cannot wait for process {}", state.pid))?;
    Ok(())
}

/// Kills what is left in a container's cgroup and removes it.
fn kill_cgroup(group: Option<cgroup::Cgroup>, path: &str) -> Result<()> {
    let Some(mut group) = group else { return Ok(()) };
    let failed = || format!("cannot remove the cgroup {path}");
    group.kill().internal(failed)?;
    group.remove().internal(failed)
}

/// Docker's exit status for a process whose end nobody saw is 255 after a restart of the daemon; the reason is said.
pub(crate) fn unseen_end() -> Exit {
    Exit {
        exit_code: 255,
        signal: None,
        oom_killed: false,
        finished_at: crate::clock::now(),
        error: Some("the container's monitor was killed".into()),
        requested: false,
        shutdown: false,
    }
}

fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
