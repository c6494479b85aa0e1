//! `volume inspect`

use super::super::{inspect, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Display detailed information on one or more volumes
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes");

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    inspect::several(&flags.volumes, flags.format.as_deref(), |name| {
        Ok(docker_json::volume::value(&engine.volume(name)?)?)
    })
}
