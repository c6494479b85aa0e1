//! `attach`

use super::verb;
use crate::failure::Failure;
use crate::flags::attachment;
use crate::session::Session;
use crate::streams::{self, JoinFlags, Target};
use crate::values::boolean;
use crate::verb::Verb;
use clap::Args;
use engine::{Status, Streams};

/// Attach local standard streams to a running container
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container"
);

#[derive(Args)]
struct Flags {
    #[command(flatten)]
    join: JoinFlags,
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the process (default true)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, value_parser = boolean::parse)]
    sig_proxy: bool,
    /// Name or identifier
    container: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    let container = engine.inspect(&flags.container)?;
    match container.status {
        Status::Running => {}
        Status::Paused => {
            return Err(Failure::new("You cannot attach to a paused container, unpause it first"));
        }
        Status::Restarting => {
            return Err(Failure::new("You cannot attach to a restarting container, wait until it is running"));
        }
        Status::Created | Status::Exited | Status::Removing => {
            return Err(Failure::new("You cannot attach to a stopped container, start it first"));
        }
    }
    let settings = &container.settings;
    let streams = Streams { stdin: settings.open_stdin && !flags.no_stdin, stdout: true, stderr: true };
    attachment::check_terminal(settings.terminal, streams.stdin)?;
    let attachment = engine.attach(&container.id, streams)?;
    let target = Target {
        id: &container.id,
        session: None,
        terminal: settings.terminal,
        streams,
        signal_proxy: flags.sig_proxy,
    };
    streams::ended(streams::join(&engine, target, &flags.join, attachment)?)
}
