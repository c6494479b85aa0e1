//! What is asked of systemd: a method, and where it starts a job, the signal that the job is done. The whole exchange is one write and
//! a wait.

use crate::error::{Error, Result};
use dbus::{Call, Connection, ERROR, NO_REPLY, REPLY, SIGNAL, Writer};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DESTINATION: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const LIMIT: Duration = Duration::from_secs(25);

/// systemd, on a bus or by its own socket.
pub(super) struct Manager {
    connection: Connection,
    path: PathBuf,
    is_bus: bool,
}

impl Manager {
    /// Opens the first of the sockets that is there: with a bus behind it (`true`), or systemd.
    pub(super) fn open(addresses: &[(PathBuf, bool)]) -> Result<Manager> {
        let mut reason = String::new();
        let mut last = Path::new("");
        for (path, is_bus) in addresses {
            last = path;
            match Connection::open(path, LIMIT) {
                Ok(connection) => return Ok(Manager { connection, path: path.clone(), is_bus: *is_bus }),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(Error::Systemd { request: "connect", bus: last.to_owned(), reason })
    }

    /// Calls a method that starts a job for `unit` and waits until the job is done.
    pub(super) fn job(&mut self, method: &'static str, signature: &str, body: &Writer, unit: &str) -> Result<()> {
        self.exchange(method, signature, body, Some(unit))
    }

    /// Calls a method that is done when it has answered.
    pub(super) fn call(&mut self, method: &'static str, signature: &str, body: &Writer) -> Result<()> {
        self.exchange(method, signature, body, None)
    }

    fn exchange(&mut self, method: &'static str, signature: &str, body: &Writer, job_of: Option<&str>) -> Result<()> {
        let bus = self.path.clone();
        let refused = |reason: String| Error::Systemd { request: method, bus: bus.clone(), reason };
        let (first, call) = self.queue(method, signature, body);
        self.connection.send().map_err(|error| refused(error.to_string()))?;
        loop {
            let message = self.connection.receive().map_err(|error| refused(error.to_string()))?;
            let mut body = message.reader();
            match message.kind {
                REPLY if message.reply_to == call && job_of.is_none() => return Ok(()),
                // To this call or to the greeting.
                ERROR if message.reply_to == call || message.reply_to == first => {
                    let text = body.text().unwrap_or_default();
                    return Err(refused(format!("{}: {text}", message.error)));
                }
                SIGNAL if message.member == "JobRemoved" => {
                    let done = (|| {
                        body.number()?;
                        body.text()?;
                        Some((body.text()?, body.text()?))
                    })();
                    match done {
                        Some((of, result)) if Some(of.as_str()) == job_of && result == "done" => return Ok(()),
                        Some((of, result)) if Some(of.as_str()) == job_of => {
                            return Err(refused(format!("the job for {of} ended: {result}")));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// The method, behind all that has to be said before. Returns the numbers of the first call and of this one.
    fn queue(&mut self, method: &str, signature: &str, body: &Writer) -> (u32, u32) {
        let destination = if self.is_bus { DESTINATION } else { "" };
        let call = |member, flags, signature, body| Call {
            destination,
            path: OBJECT,
            interface: INTERFACE,
            member,
            flags,
            signature,
            body,
        };
        let first = self.is_bus.then(|| {
            let first = self.connection.greet();
            self.connection.listen("type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
            first
        });
        // systemd sends no signals before somebody asks for them.
        let subscribed = self.connection.queue(&call("Subscribe", NO_REPLY, "", None));
        let number = self.connection.queue(&call(method, 0, signature, Some(body)));
        (first.unwrap_or(subscribed), number)
    }
}
