//! `unpause`

use super::{each_named, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Let the processes of one or more containers go on
pub const VERB: Verb =
    verb!(Flags, execute, Other, "CONTAINER [CONTAINER...]", "Let the processes of one or more containers go on");

#[derive(Args)]
struct Flags {
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each_named(&flags.containers, |name| Ok(engine.unpause(name)?))
}
