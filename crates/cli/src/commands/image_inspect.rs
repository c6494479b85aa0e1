//! `image inspect`

use super::{inspect, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Display detailed information on one or more images
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images");

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Names or identifiers
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    inspect::several(&flags.names, flags.format.as_deref(), |name| Ok(docker_json::image::value(&engine.image(name)?)?))
}
