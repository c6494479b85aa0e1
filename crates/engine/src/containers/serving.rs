//! What a server needs beside the verbs: waiting without blocking, sizes of terminals, exec sessions by their identifier.

use super::record::{Container, Status};
use super::table;
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use monitor::client::{Connection, Pending};

/// A wait that has begun.
#[derive(Debug)]
pub enum Waiting {
    /// It does not run; how it ended last is in its record.
    Ended(Box<Container>),
    /// It runs; the monitor will say.
    Running(Pending),
}

/// What is known of an exec session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecState {
    /// Process id as this process sees it.
    pub pid: i32,
    /// How it ended, if it has.
    pub exit_code: Option<i32>,
}

impl Engine {
    /// Begins to wait for the end of a container; the descriptor of [`Waiting::Running`] becomes readable with it.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn begin_wait(&self, wanted: &str) -> Result<Waiting> {
        let container = self.inspect(wanted)?;
        if matches!(container.status, Status::Running | Status::Paused) {
            match self.monitor_of(&container).and_then(|monitor| monitor.begin_wait(None)) {
                Ok(pending) => return Ok(Waiting::Running(pending)),
                Err(error) if error.kind() == monitor::Kind::Gone => {}
                Err(error) => return Err(error).internal(|| format!("cannot wait for container {wanted}")),
            }
            // It ended between our look and our request.
            return Ok(Waiting::Ended(Box::new(self.inspect(&container.id)?)));
        }
        Ok(Waiting::Ended(Box::new(container)))
    }

    /// Tells the terminal of a container, or of an exec session in it, its size in characters.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it does not run, [`Kind::InvalidArgument`] when it has no terminal.
    pub fn resize(&self, wanted: &str, session: Option<&str>, rows: u16, columns: u16) -> Result<()> {
        let container = self.ready(wanted, super::state::Step::Resize)?;
        self.monitor_of(&container)
            .and_then(|monitor| monitor.resize(session, monitor::Size { rows, columns }))
            .map_err(|error| self.lost(wanted, "resize", error))
    }

    /// What is known of an exec session; `None` when the monitor does not know it, or not any more.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container.
    pub fn exec_state(&self, wanted: &str, session: &str) -> Result<Option<ExecState>> {
        let entry = table::find(self.database()?.read(), wanted)?;
        let directory = self.directories().container_run(&entry.id);
        let live = Connection::open(&directory).and_then(Connection::status).ok();
        let state = match live {
            Some(state) => Some(state),
            None => monitor::State::read(&directory)
                .kind(Kind::Corrupt, || format!("the state of container {wanted} cannot be read"))?,
        };
        let found = state.and_then(|state| state.sessions.into_iter().find(|each| each.id == session));
        Ok(found.map(|each| ExecState { pid: each.pid, exit_code: each.exit.map(|exit| exit.exit_code) }))
    }
}
