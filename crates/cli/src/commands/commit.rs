//! `commit`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::boolean;
use crate::verb::Verb;
use clap::Args;
use engine::CommitOptions;

/// Create a new image from a container's changes
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes"
);

#[derive(Args)]
struct Flags {
    /// Author (as "Jane Doe <jane@example.com>")
    #[arg(short = 'a', long, value_name = "string", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply an instruction of a Dockerfile to the image
    #[arg(short = 'c', long, value_name = "list")]
    change: Vec<String>,
    /// Message
    #[arg(short = 'm', long, value_name = "string", default_value = "", hide_default_value = true)]
    message: String,
    /// Freeze the container meanwhile (default true)
    #[arg(short = 'p', long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, value_parser = boolean::parse)]
    pause: bool,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY")]
    repository: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let committed = session.engine()?.commit(
        &flags.container,
        &CommitOptions {
            reference: flags.repository.clone().filter(|name| !name.is_empty()),
            author: flags.author.clone(),
            message: flags.message.clone(),
            changes: flags.change.clone(),
            pause: flags.pause,
            ..CommitOptions::default()
        },
    )?;
    committed.warnings.iter().for_each(|warning| session.warn(warning));
    output::line(&committed.id)
}
