//! `exec`

use super::verb;
use crate::failure::Failure;
use crate::flags::attachment;
use crate::output;
use crate::session::Session;
use crate::streams::{self, JoinFlags, Target};
use crate::values::environment;
use crate::verb::Verb;
use clap::Args;
use engine::{ExecOptions, Streams};

/// Execute a command in a running container
pub const VERB: Verb =
    verb!(Flags, execute, Exec, "[OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container");

#[derive(Args)]
struct Flags {
    /// Run in the background
    #[arg(short = 'd', long)]
    detach: bool,
    #[command(flatten)]
    join: JoinFlags,
    /// Set an environment variable (KEY=VALUE), or take it over (KEY)
    #[arg(short = 'e', long, value_name = "list", value_parser = environment::parse)]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "file")]
    env_file: Vec<String>,
    /// Attach standard input
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Give all privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// User and group (name|uid[:group|gid])
    #[arg(short = 'u', long, value_name = "string")]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short = 'w', long, value_name = "string")]
    workdir: Option<String>,
    /// The container, then the command with its arguments, flags of its own included.
    #[arg(value_name = "CONTAINER", required = true, num_args = 2.., trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let (name, command) = flags.words.split_first().ok_or_else(|| Failure::new("a container is required"))?;
    let streams = (!flags.detach).then_some(Streams { stdin: flags.interactive, stdout: true, stderr: true });
    attachment::check_terminal(flags.tty, streams.is_some_and(|streams| streams.stdin))?;
    let options = ExecOptions {
        command: command.to_vec(),
        env: environment::resolve(&flags.env_file, &flags.env, environment::own)?,
        user: flags.user.clone(),
        working_directory: flags.workdir.clone(),
        terminal: flags.tty,
        privileged: flags.privileged,
        size: attachment::own_terminal().map(|(rows, columns)| monitor::wire::Size { rows, columns }),
        streams,
        ..ExecOptions::default()
    };
    let engine = session.engine()?;
    let container = engine.inspect(name)?;
    let exec = match engine.exec(name, &options) {
        Ok(exec) => exec,
        // Docker's client hears of it only as of any other failure.
        Err(error) if flags.detach => {
            output::failure(&error.into());
            return Err(Failure::Shown);
        }
        Err(error) => return Err(error.into()),
    };
    let (Some(attachment), Some(streams)) = (exec.stream, streams) else { return Ok(()) };
    let target = Target {
        id: &container.id,
        session: Some(exec.id),
        terminal: flags.tty,
        streams,
        // Docker's exec dies of its signals and leaves the command alone.
        signal_proxy: false,
    };
    streams::ended(streams::join(&engine, target, &flags.join, attachment)?)
}
