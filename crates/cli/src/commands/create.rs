//! `create`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::flags::container::ContainerFlags;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{PullProgress, Quiet};

/// Create a new container
pub const VERB: Verb = verb!(Flags, execute, Create, "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container");

#[derive(Args)]
struct Flags {
    #[command(flatten)]
    container: ContainerFlags,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let options = flags.container.options()?;
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
