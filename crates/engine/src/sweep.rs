//! Putting right what a killed process left.
//!
//! Everything that the kernel does not clean by itself hangs on a directory below `<run root>/containers`, made before it
//! and removed after it. One whose lock nobody holds belongs to nobody: its processes are killed, its cgroup removed, its
//! address given back, and the container removed if it was to go. Veth pairs and mounts die with their namespaces.
//!
//! Each command that makes, removes or lists containers does this first. It costs one `readdir`, and for each running
//! container one attempt to take a lock.

use crate::containers::{lock, table};
use crate::engine::Engine;
use crate::error::{Context, Result};
use monitor::Exit;

impl Engine {
    /// Finishes what killed processes began.
    pub fn sweep(&self) -> Result<()> {
        let runs = self.directories().run.join("containers");
        let entries = std::fs::read_dir(&runs).internal(|| format!("cannot read {}", runs.display()))?;
        for entry in entries.flatten() {
            if let Some(id) = entry.file_name().to_str()
                && is_identifier(id)
                && let Some(_held) = lock::claim_existing(self.directories(), id)?
            {
                self.clear(id)?;
            }
        }
        Ok(())
    }

    fn clear(&self, id: &str) -> Result<()> {
        let directory = self.directories().container_run(id);
        let unreadable = || format!("cannot read the state of container {id}");
        let state = monitor::State::read(&directory).internal(unreadable)?;
        let known = table::find(self.database()?.read(), id).ok();
        let cgroup = known.as_ref().map_or_else(
            || format!("/dhow/{id}"),
            |entry| crate::lower::cgroup_path(&entry.settings, id),
        );
        kill_cgroup(&cgroup)?;
        let Some(entry) = known else {
            // Killed before it was recorded, or after it was forgotten.
            self.remove_directories(id)?;
            return lock::release(self.directories(), id);
        };
        let exit = monitor::Exit::read(&directory.join("exit.json")).internal(unreadable)?;
        match (exit, state) {
            (Some(exit), state) => self.end_of_run(id, &exit, state.map(|s| s.started_at).unwrap_or_default()),
            (None, Some(state)) => self.end_of_run(id, &unseen_end(), state.started_at),
            // It never ran: killed between its creation and its start.
            (None, None) if entry.settings.auto_remove || table::goes_after_run(self.database()?.read(), id)? == Some(true) => {
                self.remove_held(id)
            }
            (None, None) => {
                self.leave_networks(id)?;
                table::release_address(&mut *self.database()?, id)?;
                lock::release(self.directories(), id)
            }
        }
    }

}

/// Kills what is left in a container's cgroup and removes it.
fn kill_cgroup(path: &str) -> Result<()> {
    let Some(mut group) = crate::group::find(path)? else { return Ok(()) };
    let failed = || format!("cannot remove the cgroup {path}");
    group.kill().internal(failed)?;
    group.remove().internal(failed)
}

/// Docker's exit status for a process whose end nobody saw is 255 after a restart of the daemon; the reason is said.
fn unseen_end() -> Exit {
    Exit {
        exit_code: 255,
        signal: None,
        oom_killed: false,
        finished_at: crate::clock::now(),
        error: Some("the container's monitor was killed".into()),
        requested: false,
    }
}

fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
