//! `run`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::flags::attachment;
use crate::flags::container::ContainerFlags;
use crate::output;
use crate::session::Session;
use crate::streams::{self, JoinFlags, Target};
use crate::values::boolean;
use crate::values::streams::Stream;
use crate::verb::Verb;
use clap::Args;
use engine::{Engine, Options, PullProgress, Quiet};

/// Create and run a new container from an image
pub const VERB: Verb =
    verb!(Flags, execute, Run, "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image");

#[derive(Args)]
struct Flags {
    /// Attach standard input, output or error (stdin, stdout, stderr)
    #[arg(short = 'a', long, value_name = "list", value_parser = crate::values::streams::parse)]
    attach: Vec<Stream>,
    /// Run in the background and print the container ID
    #[arg(short = 'd', long)]
    detach: bool,
    #[command(flatten)]
    join: JoinFlags,
    /// Pass signals on to the process (default true)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, value_parser = boolean::parse)]
    sig_proxy: bool,
    /// Print what would be done, as JSON, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    container: ContainerFlags,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.detach && !flags.attach.is_empty() {
        return Err(Failure::outside("conflicting options: cannot specify both --attach and --detach"));
    }
    let options = flags.container.options()?;
    let mut shown = progress::on_stderr();
    let progress: &mut dyn PullProgress = if flags.container.quiet() { &mut Quiet } else { &mut shown };
    if flags.dry_run {
        return output::json(&session.engine()?.plan(&options, progress)?);
    }
    if flags.detach {
        return in_background(session, flags, &options, progress);
    }
    let streams = attachment::choose(&flags.attach, flags.container.interactive());
    attachment::check_terminal(options.terminal, streams.stdin)?;
    let identifier = flags.container.cidfile()?;
    let engine = session.engine()?;
    let started = engine.run(&options, Some(streams), progress)?;
    if let Some(file) = identifier {
        file.write(&started.id)?;
    }
    started.warnings.iter().for_each(|warning| session.warn(warning));
    let Some(attachment) = started.stream else {
        return streams::ended(Some(engine.wait(&started.id)?));
    };
    let target =
        Target { id: &started.id, session: None, terminal: options.terminal, streams, signal_proxy: flags.sig_proxy };
    streams::ended(streams::join(&engine, target, &flags.join, attachment)?)
}

fn in_background(
    session: &Session,
    flags: &Flags,
    options: &Options,
    progress: &mut dyn PullProgress,
) -> Result<(), Failure> {
    let identifier = flags.container.cidfile()?;
    let engine: Engine = session.engine()?;
    let started = engine.run(options, None, progress)?;
    if let Some(file) = identifier {
        file.write(&started.id)?;
    }
    started.warnings.iter().for_each(|warning| session.warn(warning));
    output::line(&started.id)
}
