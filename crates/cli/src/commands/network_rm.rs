//! `network rm`

use super::{each, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::Kind;

/// Remove one or more networks
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] NETWORK [NETWORK...]", "Remove one or more networks");

#[derive(Args)]
struct Flags {
    /// Do not fail if the network does not exist
    #[arg(short = 'f', long)]
    force: bool,
    /// Names or identifiers
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    each(&flags.networks, |name| match engine.remove_network(name) {
        Ok(_) => output::line(name),
        Err(error) if flags.force && error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    })
}
