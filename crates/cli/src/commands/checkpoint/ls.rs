//! `checkpoint ls`

use super::super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use std::path::PathBuf;

/// List checkpoints for a container
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] CONTAINER", "List checkpoints for a container");

#[derive(Args)]
struct Flags {
    /// Directory of checkpoints in place of the container's own
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<PathBuf>,
    /// Name or identifier
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let names = session.engine()?.checkpoints(&flags.container, flags.checkpoint_dir.as_deref())?;
    output::line("CHECKPOINT NAME")?;
    names.iter().try_for_each(|name| output::line(name))
}
