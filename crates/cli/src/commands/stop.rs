//! `stop`

use super::{each_named, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Stop one or more running containers
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers");

#[derive(Args)]
struct Flags {
    /// Signal that asks the container to stop
    #[arg(short = 's', long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing it; -1 for no end
    #[arg(short = 't', long, alias = "time", value_name = "int", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each_named(&flags.containers, |name| {
        // Stopping what does not run is no failure in Docker.
        engine.stop(name, flags.signal.as_deref(), flags.timeout)?;
        Ok(())
    })
}
