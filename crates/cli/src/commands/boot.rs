//! `system boot`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Start what is to run after a boot
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "",
    "Start the containers whose restart policy wants them to run after the machine has booted"
);

#[derive(Args)]
struct Flags {}

fn execute(session: &Session, _flags: &Flags) -> Result<(), Failure> {
    let mut failed = false;
    for booted in session.engine()?.boot()? {
        match booted.result {
            Ok(()) => output::line(&booted.name)?,
            Err(error) => {
                output::failure(&error.into());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Shown) } else { Ok(()) }
}
