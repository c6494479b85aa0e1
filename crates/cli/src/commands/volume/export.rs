//! `volume export`

use super::super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use std::io::IsTerminal as _;

/// Write the content of a volume as a tar archive
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] VOLUME", "Write the content of a volume as a tar archive");

#[derive(Args)]
struct Flags {
    /// Write to a file in place of standard output
    #[arg(short = 'o', long, value_name = "string")]
    output: Option<String>,
    /// The volume
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    match flags.output.as_deref().filter(|path| *path != "-") {
        Some(path) => {
            let engine = session.engine()?;
            engine.volume(&flags.volume)?;
            output::to_file(path, |file| Ok(engine.export_volume(&flags.volume, file)?))
        }
        None if std::io::stdout().is_terminal() => {
            Err(Failure::new("cowardly refusing to write an archive to a terminal: use the -o flag or redirect"))
        }
        None => Ok(session.engine()?.export_volume(&flags.volume, output::unbuffered()?)?),
    }
}
