//! `secret rm`, `config rm`

use super::super::{each_named, verb};
use super::kind;
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Remove secrets
pub const SECRET: Verb = verb!(
    Flags,
    |session: &Session, flags: &Flags| execute(session, flags, false),
    Other,
    "SECRET [SECRET...]",
    "Remove one or more secrets"
);

/// Remove configurations
pub const CONFIG: Verb = verb!(
    Flags,
    |session: &Session, flags: &Flags| execute(session, flags, true),
    Other,
    "CONFIG [CONFIG...]",
    "Remove one or more configs"
);

#[derive(Args)]
struct Flags {
    /// Names or identifiers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags, config: bool) -> Result<(), Failure> {
    let engine = session.engine()?;
    each_named(&flags.names, |name| Ok(engine.remove_secret(kind(config), name)?))
}
