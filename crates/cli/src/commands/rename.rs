//! `rename`

use super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Rename a container
pub const VERB: Verb = verb!(Flags, execute, Other, "CONTAINER NEW_NAME", "Rename a container");

#[derive(Args)]
struct Flags {
    /// Name or identifier
    container: String,
    /// New name
    new_name: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    Ok(session.engine()?.rename(&flags.container, &flags.new_name)?)
}
