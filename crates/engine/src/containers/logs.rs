//! What a container wrote.

use super::start::Streams;
use crate::containers::table;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use monitor::client::Connection;
use std::path::PathBuf;

/// Where the log of a container is, and how to tell that it will not grow.
#[derive(Clone, Debug)]
pub struct LogPlace {
    /// The current file; older ones beside it have `.1`, `.2` behind the name.
    pub path: PathBuf,
    /// The directory of the run, whose disappearance ends a log that is followed.
    pub run_directory: PathBuf,
    /// The container has a terminal: both streams are one.
    pub terminal: bool,
}

impl Engine {
    /// Finds the log of a container.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] when it keeps none.
    pub fn log_place(&self, wanted: &str) -> Result<LogPlace> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        if entry.settings.log_driver == "none" {
            return Err(Error::new(Kind::InvalidArgument, "configured logging driver does not support reading"));
        }
        Ok(LogPlace {
            path: self.directories().container(&entry.id).join(format!("{}-json.log", entry.id)),
            run_directory: self.directories().container_run(&entry.id),
            terminal: entry.settings.terminal,
        })
    }

    /// Joins the streams of a running container.
    pub fn attach(&self, wanted: &str, streams: Streams) -> Result<Connection> {
        let container = self.ready(wanted, super::state::Step::Attach)?;
        let connection =
            Connection::open(&self.run_directory(&container)).map_err(|error| self.lost(wanted, "attach to", error))?;
        connection
            .attach(monitor::wire::Attach { streams, patience_seconds: None })
            .map_err(|error| self.lost(wanted, "attach to", error))
            .inspect(|_| self.record_of(&container.id, &container.name, &container.settings, "attach", &[]))
    }
}
