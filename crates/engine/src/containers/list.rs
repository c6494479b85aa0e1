//! Reading: one container, or all of them, with what the kernel and the monitor say now.

use super::record::{Address, Container, Run, Status};
use super::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use crate::networks::Endpoint;
use std::collections::HashSet;

impl Engine {
    /// The container of that identifier, name or beginning of an identifier.
    pub fn inspect(&self, wanted: &str) -> Result<Container> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        self.observe(entry)
    }

    /// Containers with everything that is known of them, the newest first; without `all` only those that run. Who shows lines
    /// of a list wants [`Engine::lines`].
    pub fn list(&self, all: bool) -> Result<Vec<Container>> {
        let seen = self.put_right_and_see();
        let entries = table::all(self.database()?.read())?;
        let mut containers = Vec::new();
        self.observe_each(entries.into_iter().map(Ok), &seen, |container| {
            if all || container.status.is_running() {
                containers.push(container);
            }
        })?;
        Ok(containers)
    }

    /// Adds to rows what is true at this moment, one after the other, and hands them on. One that is removed while we look is not in
    /// the list. Of those that were `seen` in somebody's hands a moment ago nobody is asked again whether they live.
    ///
    /// The rows must have been read: whoever is in them and started since is seen; one that ends meanwhile is looked at closely.
    pub(super) fn observe_each(
        &self,
        entries: impl IntoIterator<Item = Result<Entry>>,
        seen: &HashSet<String>,
        mut each: impl FnMut(Container),
    ) -> Result<()> {
        let held = self.held_runs()?;
        for entry in entries {
            let entry = entry?;
            let state = match held.contains(&entry.id) {
                true => self.state_of_run(&entry.id, seen.contains(&entry.id))?,
                false => None,
            };
            match self.observe_as(entry, state) {
                Err(error) if error.kind() == Kind::NotFound => {}
                container => each(container?),
            }
        }
        Ok(())
    }

    /// Adds to a row what is true at this moment.
    pub(crate) fn observe(&self, entry: Entry) -> Result<Container> {
        let state = self.running_state(&entry.id)?;
        self.observe_as(entry, state)
    }

    /// Identifiers of containers that somebody holds: only those can run.
    fn held_runs(&self) -> Result<HashSet<String>> {
        let runs = self.directories().run.join("containers");
        let failed = || format!("cannot read {}", runs.display());
        // One that was passed over would look as if it had ended.
        let entries =
            std::fs::read_dir(&runs).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).internal(failed)?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Adds to a row the word of its monitor.
    fn observe_as(&self, entry: Entry, state: Option<monitor::State>) -> Result<Container> {
        let unended = |run: &Run| !run.started_at.is_empty() && run.finished_at.is_empty();
        let entry = match &state {
            // The row was read before its monitor recorded the end; now the end stands there.
            None if entry.run.as_ref().is_some_and(unended) => table::find(self.database()?.read(), &entry.id)?,
            _ => entry,
        };
        let (status, run) = match (&state, entry.run) {
            (Some(state), run) => {
                let status = match state {
                    _ if state.restarting => Status::Restarting,
                    _ if state.paused => Status::Paused,
                    _ => Status::Running,
                };
                let last = state.last_exit.as_ref().filter(|_| state.restarting);
                let before = state.last_exit.as_ref().map(|exit| exit.finished_at.clone());
                let run = Run {
                    pid: state.pid,
                    started_at: state.started_at.clone(),
                    finished_at: before.or(run.map(|run| run.finished_at)).unwrap_or_default(),
                    exit_code: last.map_or(0, |exit| exit.exit_code),
                    oom_killed: last.is_some_and(|exit| exit.oom_killed),
                    error: last.and_then(|exit| exit.error.clone()).unwrap_or_default(),
                    restart_count: state.restarts,
                    stopped_by_hand: false,
                };
                (status, run)
            }
            (None, Some(run)) if run.started_at.is_empty() => (Status::Created, Run { pid: 0, ..run }),
            (None, Some(run)) => (Status::Exited, Run { pid: 0, ..run }),
            (None, None) => (Status::Created, Run::default()),
        };
        Ok(Container {
            directory: self.directories().container(&entry.id),
            health: health(&entry.settings, state.as_ref(), status),
            address: entry.endpoints.iter().find_map(Address::of).filter(|_| state.is_some()),
            networks: entry
                .endpoints
                .into_iter()
                .map(|endpoint| Endpoint { place: endpoint.place.filter(|_| state.is_some()), ..endpoint })
                .collect(),
            ports: match (&state, entry.published) {
                (Some(_), Some(ports)) => ports,
                _ => entry.settings.ports.clone(),
            },
            id: entry.id,
            name: entry.name,
            created_at: entry.created_at,
            settings: entry.settings,
            status,
            run,
        })
    }

    /// The monitor's word on a container whose first process lives; `None` when it does not.
    pub(crate) fn running_state(&self, id: &str) -> Result<Option<monitor::State>> {
        self.state_of_run(id, false)
    }

    /// The same where it may be known that the container is in somebody's hands.
    fn state_of_run(&self, id: &str, is_held: bool) -> Result<Option<monitor::State>> {
        let directory = self.directories().container_run(id);
        let state = monitor::State::read(&directory)
            .kind(Kind::Corrupt, || format!("the state of container {id} cannot be read"))?;
        // A process that has ended counts as running until its monitor has recorded the end: who asks then must not hear of an
        // older run. A pid alone may have been given to another process; with its start time it is unique.
        Ok(state.filter(|state| {
            let alive = || monitor::process_start_time(state.pid) == Some(state.pid_start_time);
            let began = !state.started_at.is_empty();
            (began && is_held) || (state.pid != 0 && alive()) || (began && monitor::client::is_alive(&directory))
        }))
    }
}

/// What the checks of a container say. What does not run is not well, as Docker has it.
fn health(
    settings: &super::record::Settings,
    state: Option<&monitor::State>,
    status: Status,
) -> Option<monitor::Health> {
    let checked = settings.health.as_ref().is_some_and(|health| health.test.first().is_some_and(|word| word != "NONE"));
    if !checked || status == Status::Created {
        return None;
    }
    let word = if status.is_running() { monitor::HealthStatus::Starting } else { monitor::HealthStatus::Unhealthy };
    let unknown = monitor::Health { status: word, failing_streak: 0, log: Vec::new() };
    Some(state.and_then(|state| state.health.clone()).unwrap_or(unknown))
}

/// A container that is not running, from its row.
pub(super) fn with_status(engine: &Engine, entry: Entry, status: Status) -> Container {
    Container {
        directory: engine.directories().container(&entry.id),
        health: None,
        address: None,
        networks: entry.endpoints,
        ports: entry.settings.ports.clone(),
        id: entry.id,
        name: entry.name,
        created_at: entry.created_at,
        settings: entry.settings,
        status,
        run: entry.run.unwrap_or_default(),
    }
}
