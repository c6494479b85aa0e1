//! `network inspect`

use super::{inspect, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Display detailed information on one or more networks
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks"
);

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Say more; there is no more to be said
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Names or identifiers
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    // Docker adds what a swarm knows.
    _ = flags.verbose;
    let engine = session.engine()?;
    inspect::several(&flags.names, flags.format.as_deref(), |name| {
        let (network, members) = engine.network(name)?;
        Ok(docker_json::network::value(&network, &members)?)
    })
}
