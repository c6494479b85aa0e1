//! `volume import`

use super::super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Add the content of a tar archive to a volume
pub const VERB: Verb = verb!(Flags, execute, Other, "VOLUME FILE", "Add the content of a tar archive to a volume");

#[derive(Args)]
struct Flags {
    /// The volume
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
    /// The archive, compressed or not; - for standard input
    #[arg(value_name = "FILE", required = true)]
    file: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    if flags.file == "-" {
        return Ok(engine.import_volume(&flags.volume, std::io::stdin().lock())?);
    }
    let file =
        std::fs::File::open(&flags.file).map_err(|error| Failure::caused(format!("open {}", flags.file), error))?;
    Ok(engine.import_volume(&flags.volume, file)?)
}
