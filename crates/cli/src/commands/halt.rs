//! `system halt`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// End in order what a boot starts again
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "",
    "Stop the containers with a restart policy as before the machine goes down; the next boot starts them again"
);

#[derive(Args)]
struct Flags {}

fn execute(session: &Session, _flags: &Flags) -> Result<(), Failure> {
    session.engine()?.halt()?.iter().try_for_each(|name| output::line(name))
}
