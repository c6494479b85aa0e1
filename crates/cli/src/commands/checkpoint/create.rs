//! `checkpoint create`

use super::super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::CheckpointChoices;
use std::path::PathBuf;

/// Create a checkpoint from a running container
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] CONTAINER CHECKPOINT", "Create a checkpoint from a running container");

#[derive(Args)]
struct Flags {
    /// Directory for checkpoints in place of the container's own
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<PathBuf>,
    /// Keep locks of files
    #[arg(long)]
    file_locks: bool,
    /// Leave the container running after the checkpoint
    #[arg(long)]
    leave_running: bool,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Name or identifier
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the checkpoint
    #[arg(value_name = "CHECKPOINT", required = true)]
    checkpoint: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let choices = CheckpointChoices {
        leave_running: flags.leave_running,
        tcp_established: flags.tcp_established,
        file_locks: flags.file_locks,
    };
    session.engine()?.checkpoint(&flags.container, &flags.checkpoint, flags.checkpoint_dir.as_deref(), choices)?;
    output::line(&flags.checkpoint)
}
