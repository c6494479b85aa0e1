//! Running another program in a container.

use super::start::Streams;
use super::state::Step;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::lower;
use monitor::client::Connection;

/// What `exec` may ask for.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE` over the container's environment.
    pub env: Vec<String>,
    /// `user[:group]` instead of the container's.
    pub user: Option<String>,
    /// Instead of the container's working directory.
    pub working_directory: Option<String>,
    /// A terminal.
    pub terminal: bool,
    /// Identifier of the session, 64 hexadecimal digits; drawn at random when absent.
    pub id: Option<String>,
    /// All capabilities.
    pub privileged: bool,
    /// Size of that terminal from the start.
    pub size: Option<monitor::wire::Size>,
    /// Streams that the caller wants; none runs it in the background.
    pub streams: Option<Streams>,
}

/// A program that was started.
#[derive(Debug)]
pub struct Exec {
    /// Identifier of the session.
    pub id: String,
    /// Process id as this process sees it.
    pub pid: i32,
    /// Its streams; they end with its exit status.
    pub stream: Option<Connection>,
}

impl Engine {
    /// Starts a program in a running container.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the container does not run or is paused; [`Kind::CommandNotFound`] and
    /// [`Kind::CommandNotExecutable`] for the program.
    pub fn exec(&self, wanted: &str, options: &ExecOptions) -> Result<Exec> {
        if options.command.is_empty() {
            return Err(Error::new(Kind::InvalidArgument, "no exec command specified"));
        }
        let container = self.ready(wanted, Step::Exec)?;
        if options.working_directory.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err(Error::new(Kind::CommandNotExecutable, "the working directory must be an absolute path"));
        }
        let process = lower::exec_process(&container.settings, options, self.host()?)?;
        let process = self.with_unrecorded(process, &container.settings)?;
        let user = options.user.as_deref().unwrap_or(&container.settings.user);
        let launch = self.exec_launch(&container, process, user, options.privileged)?;
        let id = options.id.clone().map_or_else(crate::names::identifier, Ok)?;
        let request = monitor::wire::Exec {
            id: id.clone(),
            process: launch,
            terminal: options.terminal,
            size: options.size,
            attach: options.streams.map(|streams| monitor::wire::Attach { streams, patience_seconds: None }),
        };
        let connection = Connection::open(&self.run_directory(&container))
            .internal(|| format!("cannot reach the monitor of container {wanted}"))?;
        let (pid, stream) = connection.exec(request).map_err(|error| failure(&options.command[0], error))?;
        Ok(Exec { id, pid, stream: options.streams.is_some().then_some(stream) })
    }
}

impl Engine {
    /// What a container's monitor starts in it.
    pub(crate) fn exec_launch(
        &self,
        container: &super::record::Container,
        process: oci::runtime::Process,
        user: &str,
        privileged: bool,
    ) -> Result<monitor::ExecLaunch> {
        let Some(runtime) = self.external(&container.id, &container.settings) else {
            let plan = self.exec_plan(container, &process, user, privileged)?;
            return Ok(monitor::ExecLaunch::Container(Box::new(plan)));
        };
        Ok(monitor::ExecLaunch::External(Box::new(monitor::ExternalExec {
            runtime,
            id: container.id.clone(),
            process,
            user: user.to_owned(),
            groups: container.settings.group_add.clone(),
        })))
    }

    /// Variables that stand in no record: those of secrets and of devices.
    fn with_unrecorded(
        &self,
        mut process: oci::runtime::Process,
        settings: &crate::Settings,
    ) -> Result<oci::runtime::Process> {
        process.env.extend(self.secret_variables(settings)?);
        process.env.extend(lower::cdi::environment(&settings.devices)?);
        Ok(process)
    }
}

fn failure(program: &str, error: monitor::Error) -> Error {
    match error.kind() {
        monitor::Kind::NotFound => Error::caused(
            Kind::CommandNotFound,
            format!("cannot execute {program:?}: no such file or directory, or not in $PATH"),
            error,
        ),
        monitor::Kind::NotExecutable => {
            Error::caused(Kind::CommandNotExecutable, format!("{program:?} cannot be executed"), error)
        }
        monitor::Kind::Gone | monitor::Kind::NotRunning => {
            Error::caused(Kind::Conflict, "the container is not running", error)
        }
        // Docker's answer to everything that is in the way of the program: its directory, its user.
        _ => Error::caused(Kind::CommandNotExecutable, format!("cannot execute {program:?}"), error),
    }
}
