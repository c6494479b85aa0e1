//! Stopping, killing, freezing, waiting: requests to the container's monitor, which alone cannot hit a stranger's process.

use super::record::{Container, Status};
use super::state::Step;
use super::table;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use monitor::client::Connection;
use std::path::PathBuf;

impl Engine {
    /// Asks a container to end, and kills it after `timeout` seconds (-1: never; `None`: as it was created). Returns whether
    /// it ran.
    pub fn stop(&self, wanted: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<bool> {
        let signal = signal.map(number).transpose()?;
        let container = self.inspect(wanted)?;
        if !running(&container) {
            return Ok(false);
        }
        match self.monitor_of(&container).and_then(|monitor| monitor.stop(signal, timeout)) {
            Ok(_) => {
                self.record_of(&container.id, &container.name, &container.settings, "stop", &[]);
                Ok(true)
            }
            Err(error) if error.kind() == monitor::Kind::Gone => Ok(true),
            Err(error) => Err(error).internal(|| format!("cannot stop container {wanted}")),
        }
    }

    /// Sends a signal to the container's first process.
    pub fn kill(&self, wanted: &str, signal: &str) -> Result<()> {
        let signal = number(signal)?;
        let container = self.ready(wanted, Step::Kill)?;
        self.monitor_of(&container)
            .and_then(|monitor| monitor.signal(None, signal))
            .map_err(|error| self.lost(wanted, "kill", error))?;
        if signal == rustix::process::Signal::KILL.as_raw() && container.status == Status::Running {
            self.wait_for_the_killed(&container.id)?;
        }
        Ok(())
    }

    /// Docker's `kill` comes back when the container has ended, so that `rm` can follow; not later than after its ten seconds, as
    /// a process that waits for a dead file server does not end.
    fn wait_for_the_killed(&self, id: &str) -> Result<()> {
        let begin = std::time::Instant::now();
        let Some(before) = self.running_state(id)? else { return Ok(()) };
        while begin.elapsed() < std::time::Duration::from_secs(10) {
            match self.running_state(id)? {
                Some(now) if (now.pid, &now.started_at) == (before.pid, &before.started_at) => {}
                _ => break,
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }

    /// Freezes all processes.
    pub fn pause(&self, wanted: &str) -> Result<()> {
        let container = self.ready(wanted, Step::Pause)?;
        self.monitor_of(&container).and_then(Connection::pause).map_err(|error| self.lost(wanted, "pause", error))
    }

    /// Lets them go on.
    pub fn unpause(&self, wanted: &str) -> Result<()> {
        let container = self.ready(wanted, Step::Unpause)?;
        self.monitor_of(&container).and_then(Connection::unpause).map_err(|error| self.lost(wanted, "unpause", error))
    }

    /// Waits until a container does not run, and returns its exit status.
    pub fn wait(&self, wanted: &str) -> Result<i32> {
        let container = self.inspect(wanted)?;
        if running(&container) {
            match self.monitor_of(&container).and_then(|monitor| monitor.wait(None)) {
                Ok(exit) => return Ok(exit.exit_code),
                Err(error) if error.kind() == monitor::Kind::Gone => {}
                Err(error) => return Err(error).internal(|| format!("cannot wait for container {wanted}")),
            }
            // It ended between our look and our request.
            return Ok(self.inspect(&container.id)?.run.exit_code);
        }
        Ok(container.run.exit_code)
    }

    /// Stops a container if it runs, and starts it.
    pub fn restart(&self, wanted: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let signal = signal.map(number).transpose()?;
        let container = self.inspect(wanted)?;
        let again = match running(&container) {
            true => self.monitor_of(&container).and_then(|monitor| monitor.restart(signal, timeout)).map(drop),
            false => self.start(&container.id, None).map(|_| Ok(()))?,
        };
        match again {
            Ok(()) => {}
            // It has ended by itself in this very moment.
            Err(error) if matches!(error.kind(), monitor::Kind::Gone | monitor::Kind::NotRunning) => {
                self.start(&container.id, None)?;
            }
            Err(error) => return Err(self.lost(wanted, "restart", error)),
        }
        self.record_of(&container.id, &container.name, &container.settings, "restart", &[]);
        Ok(())
    }

    /// Gives a container another name.
    pub fn rename(&self, wanted: &str, name: &str) -> Result<()> {
        let name = crate::names::bare(name);
        crate::names::check(name)?;
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        table::rename(&mut *self.database()?, &entry.id, name)?;
        let renamed = table::find(self.database()?.read(), &entry.id)?;
        self.announce(&renamed, &self.attached(&renamed)?)?;
        // Its monitor writes events down under that name; one that is ending writes none.
        let told = Connection::open(&self.directories().container_run(&entry.id))
            .and_then(|monitor| monitor.tell(crate::events::for_caller(name, &entry.settings)));
        drop(told);
        self.record_of(&entry.id, name, &entry.settings, "rename", &[("oldName", &format!("/{}", entry.name))]);
        Ok(())
    }

    pub(crate) fn monitor_of(&self, container: &Container) -> std::result::Result<Connection, monitor::Error> {
        Connection::open(&self.run_directory(container))
    }

    pub(crate) fn run_directory(&self, container: &Container) -> PathBuf {
        self.directories().container_run(&container.id)
    }

    pub(crate) fn lost(&self, wanted: &str, verb: &str, error: monitor::Error) -> Error {
        let kind = match error.kind() {
            monitor::Kind::Gone | monitor::Kind::NotRunning => Kind::Conflict,
            monitor::Kind::Invalid => Kind::InvalidArgument,
            monitor::Kind::NotFound => Kind::CommandNotFound,
            monitor::Kind::NotExecutable => Kind::CommandNotExecutable,
            _ => Kind::Internal,
        };
        Error::caused(kind, format!("cannot {verb} container: {wanted}"), error)
    }
}

fn running(container: &Container) -> bool {
    container.status.is_running()
}

/// The number of a signal: `9`, `KILL`, `SIGKILL`, `RTMIN+3`, in any case.
pub(crate) fn number(text: &str) -> Result<i32> {
    kernel::signal_names::number(text)
        .ok_or_else(|| Error::new(Kind::InvalidArgument, format!("invalid signal: {text}")))
}
