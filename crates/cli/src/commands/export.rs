//! `export`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use std::io::IsTerminal as _;

/// Export a container's filesystem as a tar archive
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive");

#[derive(Args)]
struct Flags {
    /// Write to a file in place of standard output
    #[arg(short = 'o', long, value_name = "string")]
    output: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let Some(path) = flags.output.as_deref().filter(|path| !path.is_empty()) else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        return Ok(session.engine()?.export(&flags.container, output::unbuffered()?)?);
    };
    let engine = session.engine()?;
    engine.inspect(&flags.container)?;
    output::to_file(path, |file| Ok(engine.export(&flags.container, file)?))
}
