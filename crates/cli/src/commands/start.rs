//! `start`

use super::{each_named, verb};
use crate::failure::Failure;
use crate::flags::attachment;
use crate::session::Session;
use crate::streams::{self, JoinFlags, Target};
use crate::verb::Verb;
use clap::Args;
use engine::{Engine, Kind, Streams};

/// Start one or more stopped containers
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers");

#[derive(Args)]
struct Flags {
    /// Attach standard output and error, and pass signals on
    #[arg(short = 'a', long)]
    attach: bool,
    /// Attach standard input
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Go on where this checkpoint left off
    #[arg(long, value_name = "string")]
    checkpoint: Option<String>,
    /// Directory of checkpoints in place of the container's own
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<std::path::PathBuf>,
    #[command(flatten)]
    join: JoinFlags,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if let Some(checkpoint) = &flags.checkpoint {
        let [name] = flags.containers.as_slice() else {
            return Err(Failure::new("you cannot restore multiple containers at once"));
        };
        if flags.attach || flags.interactive {
            return Err(Failure::new("you cannot attach to a container that is restored: start it, then attach"));
        }
        session.engine()?.start_from(name, checkpoint, flags.checkpoint_dir.as_deref(), None)?;
        return crate::output::line(name);
    }
    if flags.checkpoint_dir.is_some() {
        return Err(Failure::new("--checkpoint-dir needs --checkpoint"));
    }
    if !flags.attach && !flags.interactive {
        let engine = session.engine()?;
        return each_named(&flags.containers, |name| match engine.start(name, None) {
            // Docker starts what runs already without a word.
            Err(error) if error.kind() == Kind::NotModified => Ok(()),
            Err(error) => Err(error.into()),
            Ok(started) => {
                started.warnings.iter().for_each(|warning| session.warn(warning));
                Ok(())
            }
        });
    }
    let [name] = flags.containers.as_slice() else {
        return Err(Failure::new("you cannot start and attach multiple containers at once"));
    };
    attached(&session.engine()?, name, flags)
}

fn attached(engine: &Engine, name: &str, flags: &Flags) -> Result<(), Failure> {
    let container = engine.inspect(name)?;
    let settings = &container.settings;
    let streams = Streams { stdin: flags.interactive && settings.open_stdin, stdout: true, stderr: true };
    attachment::check_terminal(settings.terminal, streams.stdin)?;
    let attachment = match engine.start(&container.id, Some(streams)) {
        Ok(started) => started.stream,
        Err(error) if error.kind() == Kind::NotModified => Some(engine.attach(&container.id, streams)?),
        Err(error) => return Err(error.into()),
    };
    let Some(attachment) = attachment else {
        return streams::ended(Some(engine.wait(&container.id)?));
    };
    let target = Target { id: &container.id, session: None, terminal: settings.terminal, streams, signal_proxy: true };
    streams::ended(streams::join(engine, target, &flags.join, attachment)?)
}
