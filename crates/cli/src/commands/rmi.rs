//! `rmi`, `image rm`

use super::{each, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::platform;
use crate::verb::Verb;
use clap::Args;
use engine::{Kind, Removed};

/// Remove one or more images
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images");

#[derive(Args)]
struct Flags {
    /// Remove an image although several names or stopped containers refer to it
    #[arg(short = 'f', long)]
    force: bool,
    /// Keep parents without a name; there are none that would go
    #[arg(long)]
    no_prune: bool,
    /// Remove only images of that platform (os/arch[/variant])
    #[arg(long, value_name = "strings")]
    platform: Vec<String>,
    /// Names or identifiers
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    // An image has layers and no parents.
    _ = flags.no_prune;
    let platforms = flags.platform.iter().map(|text| platform::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let engine = session.engine()?;
    each(&flags.images, |name| {
        if !platforms.is_empty() {
            platform::check(&engine.image(name)?, name, &platforms)?;
        }
        let removed = match engine.remove_image(name, flags.force) {
            // Docker with force: gone is gone, but it is said.
            Err(error) if flags.force && error.kind() == Kind::NotFound => {
                output::failure(&Failure::Engine(error));
                return Ok(());
            }
            result => result?,
        };
        removed.iter().try_for_each(|step| match step {
            Removed::Untagged(name) => output::line(&format!("Untagged: {name}")),
            Removed::Deleted(id) => output::line(&format!("Deleted: {id}")),
        })
    })
}
