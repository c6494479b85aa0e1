//! `tag`

use super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Give an image another name
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"
);

#[derive(Args)]
struct Flags {
    /// Name or identifier of the image
    source: String,
    /// Its new name
    target: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    Ok(session.engine()?.tag(&flags.source, &flags.target)?)
}
