//! `rm`

use super::{each, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::Kind;

/// Remove one or more containers
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers");

#[derive(Args)]
struct Flags {
    /// Kill a container that runs, and remove it
    #[arg(short = 'f', long)]
    force: bool,
    /// Remove the link CONTAINER/NAME, and neither of the two containers
    #[arg(short = 'l', long)]
    link: bool,
    /// Remove its anonymous volumes too
    #[arg(short = 'v', long)]
    volumes: bool,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    if flags.link {
        return each(&flags.containers, |link| {
            let own = "Conflict, cannot remove the default link name of the container";
            let (container, name) = link.trim_start_matches('/').split_once('/').ok_or_else(|| Failure::new(own))?;
            engine.unlink(container, name)?;
            output::line(link)
        });
    }
    each(&flags.containers, |name| match engine.remove(name, flags.force, flags.volumes) {
        Ok(()) => output::line(name),
        // What was to go is gone; scripts call `rm -f` to be sure. Docker says so on standard error.
        Err(error) if flags.force && error.kind() == Kind::NotFound => {
            output::failure(&Failure::Engine(error));
            Ok(())
        }
        Err(error) => Err(error.into()),
    })
}
