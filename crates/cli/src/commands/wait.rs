//! `wait`

use super::{each, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Wait until containers stop, then print their exit statuses
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes"
);

#[derive(Args)]
struct Flags {
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each(&flags.containers, |name| output::line(&engine.wait(name)?.to_string()))
}
