//! `diff`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::ChangeKind;

/// Inspect changes to files or directories on a container's filesystem
pub const VERB: Verb =
    verb!(Flags, execute, Other, "CONTAINER", "Inspect changes to files or directories on a container's filesystem");

#[derive(Args)]
struct Flags {
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let mut text = Vec::new();
    for change in session.engine()?.changes(&flags.container)? {
        let letter = match change.kind {
            ChangeKind::Modified => b"C ",
            ChangeKind::Added => b"A ",
            ChangeKind::Deleted => b"D ",
        };
        text.extend_from_slice(letter);
        text.extend_from_slice(&change.path);
        text.push(b'\n');
    }
    output::bytes(&text)
}
