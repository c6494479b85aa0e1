//! `volume rm`

use super::super::{each, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Remove one or more volumes
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container."
);

#[derive(Args)]
struct Flags {
    /// A volume that does not exist is no failure
    #[arg(short = 'f', long)]
    force: bool,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each(&flags.volumes, |name| {
        engine.remove_volume(name, flags.force)?;
        output::line(name)
    })
}
