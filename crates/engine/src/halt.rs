//! What a boot would start again ends in order when the machine goes down.
//!
//! The monitors are told as systemd tells them, by SIGTERM: each stops its container with the container's own signal and time, and it does
//! not count as stopped by hand. Where a monitor is in the group of the unit that ends, systemd does it; an ordinary user's monitor
//! is in a scope of its own, with its container.

use crate::RestartPolicy;
use crate::containers::table;
use crate::engine::Engine;
use crate::error::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

impl Engine {
    /// Stops the containers with a restart policy, all at once, and waits until their monitors have written down their ends. Returns their names.
    ///
    /// # Errors
    /// When the containers cannot be read.
    pub fn halt(&self) -> Result<Vec<String>> {
        let (mut names, mut monitors) = (Vec::new(), Vec::new());
        for entry in table::all(self.database()?.read())? {
            if entry.settings.restart == RestartPolicy::No {
                continue;
            }
            let Some(state) = self.running_state(&entry.id)? else { continue };
            if let Some(monitor) = tell(state.monitor_pid) {
                names.push(entry.name);
                monitors.push(monitor);
            }
        }
        wait(monitors);
        Ok(names)
    }
}

/// Tells a monitor, unless it has ended by itself.
fn tell(monitor: i32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(monitor)?, PidfdFlags::empty()).ok()?;
    // The descriptor is of one process for ever; whether it is the one that was meant is looked at after it is there.
    if !crate::rootless::is_role(monitor, crate::roles::MONITOR) {
        return None;
    }
    pidfd_send_signal(&process, Signal::TERM).ok()?;
    Some(process)
}

/// Each has its own time until its container is killed, so that this ends.
fn wait(mut monitors: Vec<OwnedFd>) {
    while !monitors.is_empty() {
        let mut watched: Vec<_> = monitors.iter().map(|monitor| PollFd::new(monitor, PollFlags::IN)).collect();
        if poll(&mut watched, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
            return;
        }
        let mut ended = watched.iter().map(|each| !each.revents().is_empty()).collect::<Vec<_>>().into_iter();
        monitors.retain(|_| !ended.next().unwrap_or(true));
    }
}
