//! `network disconnect`

use super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Disconnect a container from a network
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network");

#[derive(Args)]
struct Flags {
    /// Say nothing of a container that is not there
    #[arg(short = 'f', long)]
    force: bool,
    /// Name or identifier of the network
    network: String,
    /// Name or identifier of the container
    container: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    Ok(session.engine()?.disconnect_network(&flags.network, &flags.container, flags.force)?)
}
