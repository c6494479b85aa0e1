//! `checkpoint rm`

use super::super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use std::path::PathBuf;

/// Remove a checkpoint
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] CONTAINER CHECKPOINT", "Remove a checkpoint");

#[derive(Args)]
struct Flags {
    /// Directory of checkpoints in place of the container's own
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<PathBuf>,
    /// Name or identifier
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the checkpoint
    #[arg(value_name = "CHECKPOINT", required = true)]
    checkpoint: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    Ok(engine.remove_checkpoint(&flags.container, &flags.checkpoint, flags.checkpoint_dir.as_deref())?)
}
