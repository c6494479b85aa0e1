//! `kill`

use super::{each_named, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Send a signal to one or more running containers
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] CONTAINER [CONTAINER...]", "Kill one or more running containers");

#[derive(Args)]
struct Flags {
    /// Signal to send
    #[arg(short = 's', long, value_name = "string", default_value = "KILL")]
    signal: String,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each_named(&flags.containers, |name| Ok(engine.kill(name, &flags.signal)?))
}
