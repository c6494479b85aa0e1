//! `pause`

use super::{each_named, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Freeze all processes of one or more containers
pub const VERB: Verb =
    verb!(Flags, execute, Other, "CONTAINER [CONTAINER...]", "Freeze all processes of one or more containers");

#[derive(Args)]
struct Flags {
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each_named(&flags.containers, |name| Ok(engine.pause(name)?))
}
