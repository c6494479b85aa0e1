//! Health checks: a program that the monitor executes in its container again and again, and what came of it.
//!
//! ```text
//! start ──interval──► probe ──exit status, or time-out──► counted ──interval──► probe …
//! ```
//! Docker's rules: a success makes it healthy and ends the streak of failures; failures of a container that is still
//! `starting` do not count within the start period; with `retries` failures in a row it is unhealthy.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::exec_session;
use crate::plan::ExecLaunch;
use crate::record::Exit;
use crate::session::Session;
use crate::supervisor::{CONTAINER, Monitor, Occurrence};
use crate::wire::{Attach, Exec, Streams};

/// How many results are remembered.
const REMEMBERED: usize = 5;
/// Bytes of output that are remembered of each.
const OUTPUT: usize = 4096;

/// What is checked, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthPlan {
    /// What is executed.
    pub process: ExecLaunch,
    /// What it is called where its time is over.
    pub command: String,
    /// Between two checks.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// After the start, in which failures do not count.
    pub start_period: Duration,
    /// Between two checks in that time.
    pub start_interval: Duration,
    /// Failures in a row until it is unhealthy; at least 1.
    pub retries: u32,
    /// What happens then.
    pub on_failure: OnFailure,
}

/// What happens to a container that has become unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Nothing.
    #[default]
    None,
    /// It is stopped and started again.
    Restart,
    /// It is killed.
    Kill,
    /// It is stopped.
    Stop,
}

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// Not known yet.
    Starting,
    /// Well.
    Healthy,
    /// Not.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the checks said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Their sum.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last of them, the oldest first.
    pub log: Vec<Probe>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// RFC 3339, UTC, nanoseconds.
    pub start: String,
    /// The same.
    pub end: String,
    /// Exit status; -1 when it could not be executed, or took too long.
    pub exit_code: i32,
    /// What it printed, the beginning of it.
    pub output: String,
}

/// The checks of a running container.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) health: Health,
    started: Instant,
    /// When the next check begins; `None` while one runs.
    next: Option<Instant>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    session: u32,
    began: String,
    deadline: Instant,
    timed_out: bool,
    output: Vec<u8>,
    cut: bool,
}

impl HealthPlan {
    /// From the end of one check to the beginning of the next.
    fn pause(&self, health: &Health, since_start: Duration) -> Duration {
        let starting = health.status == HealthStatus::Starting && since_start < self.start_period;
        if starting { self.start_interval } else { self.interval }
    }
}

impl Health {
    /// Counts a result. Returns whether the status has changed.
    fn count(&mut self, probe: Probe, plan: &HealthPlan, since_start: Duration) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if before != HealthStatus::Starting || since_start >= plan.start_period {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= plan.retries.max(1) {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(probe);
        let too_many = self.log.len().saturating_sub(REMEMBERED);
        self.log.drain(..too_many);
        self.status != before
    }
}

impl Monitor {
    /// The container has started: so do its checks.
    pub(crate) fn begin_health(&mut self) {
        let Some(plan) = &self.plan.health else { return };
        let health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        let started = Instant::now();
        let next = Some(started + plan.pause(&health, Duration::ZERO));
        self.state.health = Some(health.clone());
        self.health = Some(Watch { health, started, next, running: None });
    }

    /// The container has ended: nothing is checked any more.
    pub(crate) fn end_health(&mut self) {
        self.health = None;
        if let Some(health) = &mut self.state.health {
            // Docker: what does not run is not well.
            health.status = HealthStatus::Unhealthy;
        }
    }

    /// When something is to be done for the checks.
    pub(crate) fn health_deadline(&self) -> Option<Instant> {
        let watch = self.health.as_ref()?;
        let running = watch.running.as_ref().filter(|running| !running.timed_out).map(|running| running.deadline);
        watch.next.into_iter().chain(running).min()
    }

    /// Does what is due.
    pub(crate) fn keep_health(&mut self) {
        let now = Instant::now();
        let Some(watch) = &mut self.health else { return };
        if let Some(running) = &mut watch.running
            && now >= running.deadline
            && !running.timed_out
        {
            running.timed_out = true;
            if let Some(session) = self.sessions.get(&running.session) {
                // Its only error is that it has ended by itself.
                drop(session.signal(rustix::process::Signal::KILL.as_raw()));
            }
            return;
        }
        if watch.next.is_none_or(|next| now < next) {
            return;
        }
        watch.next = None;
        let ended = self.sessions.get(&CONTAINER).is_none_or(|session| session.exit.is_some());
        if ended {
            return;
        }
        if self.state.paused {
            self.schedule();
        } else if let Err(error) = self.begin_probe() {
            let now = crate::clock::now();
            let output = error.to_failure().to_string();
            self.count(Probe { start: now.clone(), end: now, exit_code: -1, output });
        }
    }

    fn begin_probe(&mut self) -> Result<(), Error> {
        let Some(plan) = &self.plan.health else { return Ok(()) };
        let timeout = plan.timeout;
        let exec = Exec {
            id: String::new(),
            process: plan.process.clone(),
            terminal: false,
            size: None,
            attach: Some(Attach { streams: Streams::OUTPUT, patience_seconds: None }),
        };
        let container = self
            .sessions
            .get(&CONTAINER)
            .ok_or_else(|| Error::refused(Kind::NotRunning, "the container is not running"))?;
        let session = exec_session::start(exec, container, &self.confinement, self.plan.pipe_label())?;
        let session = self.add_hidden(session);
        let deadline = Instant::now() + timeout;
        if let Some(watch) = &mut self.health {
            let began = crate::clock::now();
            watch.running =
                Some(Running { session, began, deadline, timed_out: false, output: Vec::new(), cut: false });
        }
        Ok(())
    }

    /// Output of a session: kept if it is the check's.
    pub(crate) fn keep_probe_output(&mut self, key: u32, length: usize) {
        if let Some(running) = self.health.as_mut().and_then(|watch| watch.running.as_mut())
            && running.session == key
        {
            let room = OUTPUT.saturating_sub(running.output.len()).min(length);
            running.output.extend_from_slice(&self.buffer[..room]);
            running.cut |= room < length;
        }
    }

    /// A session has ended. Returns whether it was the check's.
    pub(crate) fn end_probe(&mut self, key: u32, exit: &Exit) -> bool {
        let Some(watch) = &mut self.health else { return false };
        let Some(running) = watch.running.take_if(|running| running.session == key) else { return false };
        let mut output = String::from_utf8_lossy(&running.output).into_owned();
        if running.cut {
            output.push_str("...");
        }
        let mut probe =
            Probe { start: running.began, end: exit.finished_at.clone(), exit_code: exit.exit_code, output };
        if running.timed_out {
            let plan = self.plan.health.as_ref();
            let limit = plan.map(|plan| plan.timeout).unwrap_or_default();
            probe.exit_code = -1;
            let said = if probe.output.is_empty() { String::new() } else { format!(": {}", probe.output) };
            probe.output = format!("Health check exceeded timeout ({limit:?}){said}");
        }
        self.count(probe);
        true
    }

    fn schedule(&mut self) {
        if let (Some(plan), Some(watch)) = (&self.plan.health, &mut self.health) {
            watch.next = Some(Instant::now() + plan.pause(&watch.health, watch.started.elapsed()));
        }
    }

    fn count(&mut self, probe: Probe) {
        let (Some(plan), Some(watch)) = (&self.plan.health, &mut self.health) else { return };
        let changed = watch.health.count(probe, plan, watch.started.elapsed());
        let (status, action) = (watch.health.status, plan.on_failure);
        self.state.health = Some(watch.health.clone());
        // For people; whoever wants it exactly asks for the status.
        drop(self.write_state());
        self.schedule();
        if changed {
            self.notify(&Occurrence::Health(status));
            if status == HealthStatus::Unhealthy {
                self.unhealthy(action);
            }
        }
    }

    fn unhealthy(&mut self, action: OnFailure) {
        // Each fails only where the container has ended by itself.
        match action {
            OnFailure::None => {}
            OnFailure::Kill => self.kill_container(),
            OnFailure::Stop => drop(self.begin_stop(None, None)),
            OnFailure::Restart => {
                if self.begin_stop(None, None).is_ok() {
                    self.again = true;
                }
            }
        }
    }

    /// A session that nobody asked for, and of which nobody is told.
    fn add_hidden(&mut self, session: Session) -> u32 {
        let key = self.next_session;
        self.next_session += 1;
        self.sessions.insert(key, session);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Command;

    fn plan() -> HealthPlan {
        HealthPlan {
            process: ExecLaunch::Command(Command { arguments: Vec::new() }),
            command: String::new(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::from_secs(10),
            start_interval: Duration::from_secs(5),
            retries: 2,
            on_failure: OnFailure::None,
        }
    }

    #[test]
    fn counting_is_dockers() {
        let plan = plan();
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        let mut count = |exit_code, seconds| {
            let probe = Probe { start: String::new(), end: String::new(), exit_code, output: String::new() };
            let changed = health.count(probe, &plan, Duration::from_secs(seconds));
            (changed, health.status.name(), health.failing_streak, health.log.len())
        };
        // Within the start period failures do not count, until a success.
        assert_eq!(count(1, 1), (false, "starting", 0, 1));
        assert_eq!(count(0, 2), (true, "healthy", 0, 2));
        assert_eq!(count(1, 3), (false, "healthy", 1, 3));
        assert_eq!(count(-1, 4), (true, "unhealthy", 2, 4));
        assert_eq!(count(1, 5), (false, "unhealthy", 3, 5));
        assert_eq!(count(0, 6), (true, "healthy", 0, 5));
    }

    #[test]
    fn checks_are_closer_while_it_starts() {
        let plan = plan();
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        let seconds = |health: &Health, since| plan.pause(health, Duration::from_secs(since)).as_secs();
        assert_eq!((seconds(&health, 1), seconds(&health, 11)), (5, 30));
        health.status = HealthStatus::Healthy;
        assert_eq!(seconds(&health, 1), 30);
    }
}
