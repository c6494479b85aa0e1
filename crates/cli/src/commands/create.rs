//! `create`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::flags::container::ContainerFlags;
use crate::output;
use crate::session::Session;
use crate::values::streams::Stream;
use crate::verb::Verb;
use clap::Args;
use engine::{PullProgress, Quiet};
use serde_json::json;

/// Create a new container
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container");

#[derive(Args)]
struct Flags {
    /// Say that standard input, output or error will be attached (stdin, stdout, stderr)
    #[arg(short = 'a', long, value_name = "list", value_parser = crate::values::streams::parse)]
    attach: Vec<Stream>,
    #[command(flatten)]
    container: ContainerFlags,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let mut options = flags.container.options()?;
    if !flags.attach.is_empty() {
        let has = |stream| flags.attach.contains(&stream);
        let (stdin, stdout, stderr) = (has(Stream::Stdin), has(Stream::Stdout), has(Stream::Stderr));
        // For whoever inspects it: `start` has flags of its own.
        options.front_end =
            json!({ "Config": { "AttachStdin": stdin, "AttachStdout": stdout, "AttachStderr": stderr } });
    }
    let identifier = flags.container.cidfile()?;
    let mut shown = progress::on_stderr();
    let progress: &mut dyn PullProgress = if flags.container.quiet() { &mut Quiet } else { &mut shown };
    let created = session.engine()?.create(&options, progress)?;
    for warning in &created.warnings {
        session.warn(warning);
    }
    if let Some(file) = identifier {
        file.write(&created.id)?;
    }
    output::line(&created.id)
}
