//! `image inspect`

use super::{inspect, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use oci::platform::Platform;

/// Display detailed information on one or more images
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images");

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Only if the image is for this platform (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Names or identifiers
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    let platform: Option<Platform> = match &flags.platform {
        Some(text) => Some(text.parse().map_err(|error| Failure::caused(format!("invalid platform {text:?}"), error))?),
        None => None,
    };
    inspect::several(&flags.names, flags.format.as_deref(), |name| {
        let image = engine.image(name)?;
        match &platform {
            Some(wanted) if wanted.rank(&image.config.platform).is_none() => Err(Failure::new(format!(
                "No such image: {name}: it is for {}, not for {wanted}",
                image.config.platform
            ))),
            _ => Ok(docker_json::image::value(&image)?),
        }
    })
}
