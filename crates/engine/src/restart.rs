//! Restart policies: when a container that has ended is started again, by whom, and after which pause.
//!
//! | what ended it | who starts it again |
//! |---|---|
//! | its own program | its monitor, after a pause |
//! | a monitor that was killed | the sweep of the next command: Docker's daemon does the same after a crash |
//! | a boot | `dhow system boot` |
//!
//! A stop by hand ends it: `on-failure` and `unless-stopped` stay stopped, `always` comes back with the next boot only.

use crate::containers::lock;
use crate::containers::options::RestartPolicy;
use crate::containers::record::Run;
use crate::containers::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Context, Result};
use monitor::{Exit, Monitor, MonitorPlan, Wake};
use std::path::Path;
use std::time::Duration;

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// A container that ran for so long is not one that fails at its start.
const STEADY: Duration = Duration::from_secs(10);

/// Docker's pauses: from 100 ms, doubled each time, up to a minute; from the beginning after ten seconds of running.
#[derive(Debug, Default)]
pub(crate) struct Pause(Duration);

impl Pause {
    /// The pause after a run.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        self.0 = match self.0 {
            _ if ran >= STEADY => SHORTEST,
            Duration::ZERO => SHORTEST,
            last => (last * 2).min(LONGEST),
        };
        self.0
    }
}

/// Whether a run that ended like this is followed by another.
pub(crate) fn wanted(policy: RestartPolicy, exit_code: i32, by_hand: bool, restarts: u32) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => !by_hand,
        RestartPolicy::OnFailure { maximum } => !by_hand && exit_code != 0 && (maximum == 0 || restarts < maximum),
    }
}

/// Whether a container that has run before is started when the machine has booted.
fn wanted_at_boot(policy: RestartPolicy, run: &Run) -> bool {
    match policy {
        RestartPolicy::Always => true,
        other => wanted(other, run.exit_code, run.stopped_by_hand, run.restart_count),
    }
}

/// How a container ended at last, and the engine that was asked whether it is to be started again.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last run's end.
    pub exit: Exit,
    /// Open already, as opening the database is a good part of the time that an end takes.
    pub engine: Result<Engine>,
}

/// What a monitor does with its container's runs: starts it again as long as its policy says so. Returns how it ended at
/// last; `None` when it did not start at all, which the starter has been told.
///
/// No engine stays open while the container runs, unless it was asked to end and has not yet: a waiting monitor is to be small.
///
/// Nor does anything else that is needed only between runs: that is why it is another function's, whose frame is gone meanwhile.
pub(crate) fn keep(monitor: &mut Monitor, data: &Path, open: &dyn Fn() -> Result<Engine>) -> Option<Box<Ended>> {
    let mut pause = Pause::default();
    let mut exit = Box::new(monitor.run_once().ok()?);
    loop {
        if let Some(ended) = between_runs(monitor, (data, open), &mut pause, &exit) {
            return Some(ended);
        }
        match monitor.run_once() {
            Ok(next) => *exit = next,
            Err(error) => return Some(given_up(&exit, error.to_failure().to_string(), open)),
        }
    }
}

/// Records the end of a run, waits, and plans the next one; or says how the last one ended, if there is no other.
#[inline(never)]
fn between_runs(
    monitor: &mut Monitor,
    (data, open): (&Path, &dyn Fn() -> Result<Engine>),
    pause: &mut Pause,
    exit: &Exit,
) -> Option<Box<Ended>> {
    crate::events::record_end(monitor, exit, data);
    if monitor.wants_again() {
        crate::events::record_stop(monitor, data);
        monitor.announce(exit);
        *pause = Pause::default();
    } else {
        let engine = open();
        if !again(&engine, monitor, exit) {
            return Some(Box::new(Ended { exit: exit.clone(), engine }));
        }
        drop(engine);
        monitor.announce(exit);
        match turn(monitor, pause, exit, open) {
            Ok(Wake::Elapsed | Wake::Again) => {}
            Ok(Wake::Stop) => {
                let exit = Exit { requested: true, shutdown: monitor.was_shut_down(), ..exit.clone() };
                return Some(Box::new(Ended { exit, engine: open() }));
            }
            Err(_) => return Some(Box::new(Ended { exit: exit.clone(), engine: open() })),
        }
    }
    let id = monitor.plan().id.clone();
    match open().and_then(|engine| engine.plan_again(&id, monitor.restarts())) {
        Ok(plan) => {
            *monitor.plan_mut() = plan;
            None
        }
        Err(error) => Some(given_up(exit, crate::containers::chain(&error), open)),
    }
}

/// The end of a container that could not be started again. Docker does not try again either: what cannot be started now will not
/// start in a moment.
fn given_up(exit: &Exit, error: String, open: &dyn Fn() -> Result<Engine>) -> Box<Ended> {
    Box::new(Ended { exit: Exit { error: Some(error), requested: false, ..exit.clone() }, engine: open() })
}

/// The pause before another run. Who shares namespaces of a container that does not run waits for it, in longer and longer pauses:
/// the two may have ended together, and it may come back the later.
fn turn(
    monitor: &mut Monitor,
    pause: &mut Pause,
    exit: &Exit,
    open: &dyn Fn() -> Result<Engine>,
) -> std::result::Result<Wake, monitor::Error> {
    let mut time = pause.after(ran(monitor, exit));
    loop {
        let wake = monitor.idle(time)?;
        let waits = || {
            let engine = open();
            let id = &monitor.plan().id;
            engine.as_ref().is_ok_and(|engine| engine.waits_for_another(id)) && again(&engine, monitor, exit)
        };
        if !matches!(wake, Wake::Elapsed) || !waits() {
            return Ok(wake);
        }
        time = pause.after(Duration::ZERO);
    }
}

/// Whether the policy, as it is now, wants another run. One that cannot be read is none; whoever looks at the record later
/// sees why the container ended.
fn again(engine: &Result<Engine>, monitor: &Monitor, exit: &Exit) -> bool {
    let Ok(engine) = engine else { return false };
    let policy = engine.policy_of(&monitor.plan().id).unwrap_or_default();
    !exit.shutdown && wanted(policy, exit.exit_code, exit.requested, monitor.restarts())
}

/// How long the run was; 0 where the clock was set back.
fn ran(monitor: &Monitor, exit: &Exit) -> Duration {
    duration(monitor.started_at(), &exit.finished_at)
}

/// Between two times of the records.
pub(crate) fn duration(from: &str, to: &str) -> Duration {
    match (from.parse::<jiff::Timestamp>(), to.parse::<jiff::Timestamp>()) {
        (Ok(from), Ok(to)) => Duration::try_from(to.duration_since(from)).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// A container that `boot` has started, or tried to.
#[derive(Debug)]
pub struct Booted {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub result: Result<()>,
}

impl Engine {
    fn policy_of(&self, id: &str) -> Result<RestartPolicy> {
        table::restart_policy(self.database()?.read(), id)
    }

    /// The plan of a further run under the same monitor: made anew, as limits, networks and mounts may have been changed.
    fn plan_again(&self, id: &str, restarts: u32) -> Result<MonitorPlan> {
        let mut entry = table::find(self.database()?.read(), id)?;
        entry.run = Some(Run { restart_count: restarts, ..entry.run.unwrap_or_default() });
        // Ports cannot be published twice; the addresses stay, and the sockets that this monitor holds.
        self.leave_networks(id)?;
        self.forget_volatile(&entry)?;
        let kept = Some(entry.published.take().unwrap_or_default());
        self.prepare(&mut entry, None, kept).map(|(plan, _, _)| plan)
    }

    /// overlayfs marks a `volatile` upper directory, and refuses to mount it a second time: a power cut may have come in
    /// between (Documentation/filesystems/overlayfs.rst, "Volatile mount", Linux 5.10). Here none has.
    fn forget_volatile(&self, entry: &Entry) -> Result<()> {
        if !entry.settings.auto_remove || crate::quota::is_limited(&entry.settings) {
            return Ok(());
        }
        let failed = || format!("cannot find the directories of container {}", entry.id);
        let mark =
            store::Writable::open(self.store()?, &entry.id).internal(failed)?.work().join("work/incompat/volatile");
        match std::fs::remove_dir_all(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).internal(|| format!("cannot remove {}", mark.display()))
            }
            _ => Ok(()),
        }
    }

    /// After a sweep: starts a container whose monitor was killed, if its policy wants that. What fails is in its record.
    pub(crate) fn start_swept(&self, id: &str) {
        let work = || -> Result<()> {
            let Ok(mut entry) = table::find(self.database()?.read(), id) else { return Ok(()) };
            let Some(run) = entry.run.clone() else { return Ok(()) };
            let ended = !run.started_at.is_empty() && !run.finished_at.is_empty();
            if !ended || !wanted(entry.settings.restart, run.exit_code, run.stopped_by_hand, run.restart_count) {
                return Ok(());
            }
            let Some(lock) = lock::claim(self.directories(), id)? else { return Ok(()) };
            self.make_directories(&entry)?;
            entry.run = Some(Run { restart_count: run.restart_count + 1, ..Run::default() });
            self.start_held(entry, lock, None, None).map(drop)
        };
        work().unwrap_or_default();
    }

    /// After the machine has booted: ends what the boot ended, and starts the containers whose policy wants it.
    ///
    /// # Errors
    /// When the containers cannot be read; what becomes of each is in the result.
    pub fn boot(&self) -> Result<Vec<Booted>> {
        self.put_right();
        let mut booted = Vec::new();
        let mut entries = table::all(self.database()?.read())?;
        entries.reverse();
        for entry in entries {
            // One that cannot be read or started keeps no other from it.
            if let Some(result) = self.boot_one(&entry).transpose() {
                booted.push(Booted { id: entry.id, name: entry.name, result });
            }
        }
        Ok(booted)
    }

    /// Starts a container whose policy wants it; `None` for one that stays as it is.
    fn boot_one(&self, entry: &Entry) -> Result<Option<()>> {
        if self.running_state(&entry.id)?.is_some() {
            return Ok(None);
        }
        let run = self.settle_after_boot(entry)?;
        if !run.is_some_and(|run| wanted_at_boot(entry.settings.restart, &run)) {
            return Ok(None);
        }
        match self.start(&entry.id, None) {
            Err(error) if error.kind() != crate::Kind::NotModified => Err(error),
            _ => Ok(Some(())),
        }
    }

    /// Records the end of a run that nobody saw. Returns the last run, if there was one and the container is still there.
    fn settle_after_boot(&self, entry: &Entry) -> Result<Option<Run>> {
        let unended = match &entry.run {
            Some(run) => !run.started_at.is_empty() && run.finished_at.is_empty(),
            // Those that go after their run have no record of it, but files that are made at the start.
            None => entry.settings.auto_remove && self.directories().container(&entry.id).join("hosts").exists(),
        };
        if unended {
            let Some(_held) = lock::claim(self.directories(), &entry.id)? else { return Ok(None) };
            // Where only the run directory was lost, what it named may still be there.
            self.end_processes(&entry.id, Some(&entry.settings))?;
            let started_at = entry.run.as_ref().map(|run| run.started_at.clone()).unwrap_or_default();
            let restarts = entry.run.as_ref().map_or(0, |run| run.restart_count);
            self.end_of_run(&entry.id, &crate::sweep::unseen_end(), started_at, restarts)?;
        }
        match table::find(self.database()?.read(), &entry.id) {
            Ok(entry) => Ok(entry.run.filter(|run| !run.started_at.is_empty())),
            Err(error) if error.kind() == crate::Kind::NotFound => Ok(None),
            Err(error) => Err(error).internal(|| format!("cannot look up container {}", entry.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew() {
        let mut pause = Pause::default();
        let short = Duration::from_secs(1);
        let all: Vec<u128> = (0..12).map(|_| pause.after(short).as_millis()).collect();
        assert_eq!(all, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(pause.after(STEADY).as_millis(), 100);
        assert_eq!(pause.after(short).as_millis(), 200);
    }

    #[test]
    fn policies() {
        let three = RestartPolicy::OnFailure { maximum: 3 };
        for (policy, exit_code, by_hand, restarts, expected) in [
            (RestartPolicy::No, 1, false, 0, false),
            (RestartPolicy::Always, 0, false, 9, true),
            (RestartPolicy::Always, 1, true, 0, false),
            (RestartPolicy::UnlessStopped, 0, false, 0, true),
            (RestartPolicy::UnlessStopped, 0, true, 0, false),
            (three, 0, false, 0, false),
            (three, 1, false, 2, true),
            (three, 1, false, 3, false),
            (RestartPolicy::OnFailure { maximum: 0 }, 1, false, 999, true),
        ] {
            assert_eq!(wanted(policy, exit_code, by_hand, restarts), expected, "{policy:?} {exit_code} {restarts}");
        }
        let run = |exit_code, stopped_by_hand| Run { exit_code, stopped_by_hand, ..Run::default() };
        assert!(wanted_at_boot(RestartPolicy::Always, &run(0, true)));
        assert!(!wanted_at_boot(RestartPolicy::UnlessStopped, &run(0, true)));
        assert!(wanted_at_boot(RestartPolicy::UnlessStopped, &run(0, false)));
        assert!(wanted_at_boot(three, &run(255, false)));
        assert!(!wanted_at_boot(three, &run(0, false)));
    }
}
