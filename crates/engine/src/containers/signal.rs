//! Stopping, killing, freezing, waiting: requests to the container's monitor, which alone cannot hit a stranger's process.

use super::record::Container;
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
            .map_err(|error| self.lost(wanted, "kill", error))
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

/// Names of signals 1 to 31 (signal(7), x86 and ARM numbering), without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of a signal: `9`, `KILL`, `SIGKILL`, `RTMIN+3`, in any case.
pub(crate) fn number(text: &str) -> Result<i32> {
    // The C library keeps 32 and 33 for itself; programs count from 34.
    const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| rest.strip_prefix(sign).and_then(|digits| digits.parse::<i32>().ok());
    let found = if let Ok(number) = name.parse::<i32>() {
        Some(number).filter(|number| (1..=64).contains(number))
    } else if let Some(position) = NAMES.iter().position(|&known| known == name) {
        i32::try_from(position + 1).ok()
    } else if let Some(rest) = name.strip_prefix("RTMIN") {
        if rest.is_empty() { Some(34) } else { offset(rest, '+').map(|n| 34 + n).filter(|n| REALTIME.contains(n)) }
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        if rest.is_empty() { Some(64) } else { offset(rest, '-').map(|n| 64 - n).filter(|n| REALTIME.contains(n)) }
    } else {
        match name {
            "POLL" => Some(29),
            "IOT" => Some(6),
            "CLD" => Some(17),
            _ => None,
        }
    };
    found.ok_or_else(|| Error::new(Kind::InvalidArgument, format!("invalid signal: {text}")))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals() {
        for (text, expected) in
            [("9", 9), ("kill", 9), ("SIGTERM", 15), ("RTMIN+3", 37), ("SIGRTMAX", 64), ("sigwinch", 28)]
        {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "0", "65", "SIG", "FOO", "RTMIN+99", "-1"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
