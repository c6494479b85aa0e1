//! `logout`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::registries;

/// Log out from a registry
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[SERVER]", "Log out from a registry. If no server is specified, it is Docker's.");

#[derive(Args)]
struct Flags {
    /// Name of the registry
    #[arg(value_name = "SERVER", default_value = "", hide_default_value = true)]
    server: String,
}

fn execute(_session: &Session, flags: &Flags) -> Result<(), Failure> {
    let domain = registries::registry_named(&flags.server)?;
    output::line(&format!("Removing login credentials for {}", super::login::shown(&domain)))?;
    registries::logout(&domain).map(drop).map_err(Failure::from)
}
