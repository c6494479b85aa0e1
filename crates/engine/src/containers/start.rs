//! Starting: everything a run needs is settled here, handed to a new monitor, and the monitor's answer awaited.
//!
//! ```text
//! this process                                  monitor (the same program, a fresh process)
//!   take the lock, address, files, plan
//!   spawn ──── control socket, lock ──────────▶ reads the plan
//!   plan ─────────────────────────────────────▶ clones the container, sets up its network
//!       ◀──────────────────── started / failed  watches it until its end, then `crate::roles::monitor` cleans up
//! ```

use super::lock;
use super::options::{NetworkMode, PublishedPort};
use super::record::Run;
use super::state::{self, Step};
use super::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::images::PullProgress;
use crate::networks;
use monitor::MonitorPlan;
use monitor::client::Connection;
use monitor::plan::CgroupLaunch;
use std::os::fd::OwnedFd;

/// Which of a container's streams the caller wants.
pub use monitor::wire::Streams;

/// A container that was started.
#[derive(Debug)]
pub struct Started {
    /// Identifier of the container.
    pub id: String,
    /// Process id of its first process as this process sees it.
    pub pid: i32,
    /// Its streams, if they were asked for.
    pub stream: Option<Connection>,
    /// What was asked for and is not in force, a sentence each.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Starts a container that was made or has ended.
    ///
    /// # Errors
    /// [`Kind::NotModified`] when it runs; [`Kind::CommandNotFound`] and [`Kind::CommandNotExecutable`] for its program.
    pub fn start(&self, wanted: &str, attach: Option<Streams>) -> Result<Started> {
        self.put_right();
        self.start_with(wanted, attach, None)
    }

    /// Starts a container, or brings it back from files.
    pub(crate) fn start_with(
        &self,
        wanted: &str,
        attach: Option<Streams>,
        files: Option<runtime::CheckpointOptions>,
    ) -> Result<Started> {
        let entry = table::find(self.database()?.read(), wanted)?;
        let Some(lock) = self.claim_stopped(&entry.id)? else {
            let container = self.observe(entry)?;
            return Err(match state::after(container.status, Step::Start) {
                Err(impossible) => state::refusal(wanted, &container, impossible),
                Ok(_) => Error::new(Kind::NotModified, format!("container {wanted} is already running")),
            });
        };
        self.make_directories(&entry)?;
        let entry = Entry { run: None, ..entry };
        self.start_held(entry, lock, attach, files)
    }

    /// Makes a container and starts it at once.
    pub fn run(
        &self,
        options: &crate::Options,
        attach: Option<Streams>,
        progress: &mut dyn PullProgress,
    ) -> Result<Started> {
        let (entry, lock) = self.create_held(options, progress)?;
        self.start_held(entry, lock, attach, None)
    }

    /// The lock of a container that does not run; `None` when it does. Waits while another process is about to let go.
    pub(crate) fn claim_stopped(&self, id: &str) -> Result<Option<OwnedFd>> {
        let patience = std::time::Duration::from_secs(10);
        let deadline = std::time::Instant::now() + patience;
        loop {
            let there = lock::is_there(self.directories(), id);
            if let Some(lock) = lock::claim(self.directories(), id)? {
                if !there {
                    return Ok(Some(lock));
                }
                // Whoever held it was killed since the sweep.
                self.clear(id)?;
                drop(lock);
                table::find(self.database()?.read(), id)?;
                continue;
            }
            if self.running_state(id)?.is_some() {
                return Ok(None);
            }
            if std::time::Instant::now() > deadline {
                return Err(Error::new(Kind::Conflict, format!("container {id} is being changed by another process")));
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    pub(crate) fn start_held(
        &self,
        mut entry: Entry,
        lock: OwnedFd,
        attach: Option<Streams>,
        files: Option<runtime::CheckpointOptions>,
    ) -> Result<Started> {
        let keeps_record = !entry.settings.auto_remove;
        // Earlier than any time that the monitor notes, so that a run which has ended already is not overwritten.
        let before = crate::clock::now();
        match self.launch(&mut entry, &lock, attach, files) {
            Ok(started) => {
                if keeps_record {
                    self.note_start(&entry, started.pid, before);
                }
                Ok(started)
            }
            Err(error) => {
                self.undo_start(&entry, lock, &error);
                Err(error)
            }
        }
    }

    /// So that a later reader knows that it was started, even if nobody sees its end.
    fn note_start(&self, entry: &Entry, pid: i32, started_at: String) {
        let run = Run { pid, started_at, restart_count: restarts(entry), ..Run::default() };
        // The container runs; failing to note it must not look like a failed start. The monitor notes the end with all.
        if let Ok(mut database) = self.database() {
            table::set_started(&mut database, &entry.id, &run).unwrap_or_default();
        }
    }

    fn launch(
        &self,
        entry: &mut Entry,
        lock: &OwnedFd,
        attach: Option<Streams>,
        files: Option<runtime::CheckpointOptions>,
    ) -> Result<Started> {
        if attach.is_some() {
            self.record_of(&entry.id, &entry.name, &entry.settings, "attach", &[]);
        }
        let (mut plan, sockets, remarks) = self.prepare(entry, attach, None)?;
        if let monitor::Launch::Container(container) = &mut plan.launch {
            container.restore = files;
        }
        let (control, process) = crate::roles::spawn_monitor(self, lock, &plan, &sockets)?;
        // The monitor holds the ports from here on.
        drop(sockets);
        let (pid, mut warnings) = control.started_with_warnings().map_err(|failure| {
            // Whoever did not hear the answer must not take the run apart while the monitor goes on with it.
            if !matches!(failure, monitor::Error::Remote(_)) {
                crate::roles::kill(process);
            }
            start_failure(entry, failure)
        })?;
        warnings.extend(remarks);
        let stream = attach.is_some().then_some(control);
        Ok(Started { id: entry.id.clone(), pid, stream, warnings })
    }

    /// Everything that is made before a run, and the plan of what its monitor makes, with the sockets that hold its ports:
    /// none when its monitor holds those that it has `kept` from the run before. And what the user should know.
    pub(crate) fn prepare(
        &self,
        entry: &mut Entry,
        attach: Option<Streams>,
        kept: Option<Vec<PublishedPort>>,
    ) -> Result<(MonitorPlan, Vec<OwnedFd>, Option<String>)> {
        let mut network = self.join_network(entry, kept)?;
        let host = self.host_addresses(&network.all);
        let links = self.link_lines(entry, &network.all)?;
        crate::files::write(entry, &self.directories().container(&entry.id), (&network.all, &links), &host)?;
        let mut spec = self.specification(entry)?;
        self.find_parts(entry)?;
        self.share(entry, &mut spec)?;
        crate::volumes::resolve_addresses(&mut spec)?;
        self.place_secrets(entry, &mut spec)?;
        if spec.process.as_ref().and_then(|process| process.apparmor_profile.as_deref())
            == Some(crate::apparmor::PROFILE)
        {
            crate::apparmor::ensure_loaded()?;
        }
        if let Some(label) = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref()) {
            crate::relabel::apply(&entry.settings, label, &self.directories().container(&entry.id))?;
        }
        let plan = self.monitor_plan(entry, &spec, &network, attach)?;
        let mut sockets = network.sockets;
        let warning = network.user.as_mut().and_then(|user| user.warning.take()).or(network.remark);
        sockets.extend(network.user.into_iter().flat_map(networks::UserNetwork::for_monitor));
        Ok((plan, sockets, warning))
    }

    /// The container's places on its networks, and the networks themselves.
    fn join_network(&self, entry: &mut Entry, kept: Option<Vec<PublishedPort>>) -> Result<networks::Joined> {
        if let NetworkMode::Container(id) = &entry.settings.network
            && self.running_state(id)?.is_none()
        {
            return Err(Error::new(Kind::Conflict, format!("cannot join network of a non running container: {id}")));
        }
        if entry.settings.network != NetworkMode::Bridge {
            return Ok(networks::Joined::default());
        }
        let mut joined = self.join_networks(entry, kept)?;
        joined.remark = self.set_up_networks(&joined)?;
        entry.endpoints = joined.endpoints();
        Ok(joined)
    }

    fn monitor_plan(
        &self,
        entry: &Entry,
        spec: &oci::runtime::Spec,
        network: &networks::Joined,
        attach: Option<Streams>,
    ) -> Result<MonitorPlan> {
        let settings = &entry.settings;
        let directory = self.directories().container(&entry.id);
        let (attachments, direct) = network.links(&entry.id)?;
        let is_user = self.host()?.user_namespace;
        Ok(MonitorPlan {
            id: entry.id.clone(),
            launch: monitor::Launch::Container(Box::new(monitor::plan::ContainerLaunch {
                plan: self.runtime_plan(entry, spec)?,
                cgroup: Some(CgroupLaunch {
                    path: crate::lower::cgroup_path(settings, &entry.id),
                    resources: spec.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default(),
                    optional: is_user && !settings.limits.any(),
                    delegated: is_user,
                }),
                attachments,
                direct,
                names: network.names.clone(),
                held_ports: network.sockets.len(),
                guard: self.guard(&network.all),
                restore: None,
                external: self.external_launch(entry, spec)?,
                loopback: matches!(settings.network, NetworkMode::Bridge | NetworkMode::None),
                relay: network.relay().filter(|_| is_user),
                user_network: network.user.is_some(),
                // On a network of the user's own its monitor is in the user's own namespace.
                one_way: is_user && network.all.is_empty(),
            })),
            terminal: settings.terminal,
            size: settings.terminal_size.map(|(rows, columns)| monitor::wire::Size { rows, columns }),
            stdin_open: settings.open_stdin,
            stdin_once: settings.open_stdin
                && settings.stdin_once.unwrap_or_else(|| attach.is_some_and(|streams| streams.stdin)),
            log: super::log_options::of(entry, &directory)?,
            run_directory: self.directories().container_run(&entry.id),
            exit_record: self.directories().container_run(&entry.id).join("exit.json"),
            stop_signal: super::signal::number(if settings.stop_signal.is_empty() {
                "TERM"
            } else {
                &settings.stop_signal
            })?,
            stop_timeout_seconds: settings.stop_timeout,
            attach_control: attach.map(|streams| monitor::wire::Attach { streams, patience_seconds: None }),
            health: self.health_plan(entry)?,
            restarts: restarts(entry),
            caller: crate::events::for_caller(&entry.name, settings),
        })
    }

    /// What a failed start leaves: nothing of the run, and a container that says why it did not start, unless it was to go.
    fn undo_start(&self, entry: &Entry, lock: OwnedFd, error: &Error) {
        let work = || -> Result<()> {
            // A monitor that was killed has left what it had made.
            self.end_processes(&entry.id, Some(&entry.settings))?;
            self.leave_networks(&entry.id)?;
            if entry.settings.auto_remove {
                self.remove_held(&entry.id)?;
            } else {
                let exit_code = match error.kind() {
                    Kind::CommandNotFound => 127,
                    Kind::CommandNotExecutable => 126,
                    _ => 128,
                };
                let run = Run { exit_code, error: chain(error), ..Run::default() };
                table::set_run(&mut *self.database()?, &entry.id, &run)?;
                lock::release(self.directories(), &entry.id)?;
            }
            Ok(())
        };
        // The first error is what the caller must see; what stays behind is found by the next sweep.
        work().unwrap_or_default();
        drop(lock);
    }
}

/// How often the container has been started again before this run.
fn restarts(entry: &Entry) -> u32 {
    entry.run.as_ref().map_or(0, |run| run.restart_count)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn start_failure(entry: &Entry, error: monitor::Error) -> Error {
    let kind = match error.kind() {
        monitor::Kind::NotFound => Kind::CommandNotFound,
        monitor::Kind::NotExecutable => Kind::CommandNotExecutable,
        monitor::Kind::Busy => Kind::Conflict,
        _ => Kind::Internal,
    };
    let program = entry.settings.entrypoint.iter().chain(&entry.settings.command).next();
    let program = program.map_or("", String::as_str);
    let message = match kind {
        Kind::CommandNotFound => {
            format!("cannot start container {}: {program:?}: no such file or directory, or not in $PATH", entry.name)
        }
        Kind::CommandNotExecutable => format!("cannot start container {}: {program:?} cannot be executed", entry.name),
        _ => format!("cannot start container {}", entry.name),
    };
    Error::caused(kind, message, error)
}
