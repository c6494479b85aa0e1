//! `volume create`

use super::super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::keyvalue;
use crate::verb::Verb;
use clap::Args;
use engine::NewVolume;

/// Create a volume
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] [VOLUME]", "Create a volume");

#[derive(Args)]
struct Flags {
    /// Driver of the volume: local
    #[arg(short = 'd', long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set a label (KEY[=VALUE])
    #[arg(long, value_name = "list", value_parser = keyvalue::label)]
    label: Vec<(String, String)>,
    /// Name, as the argument
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Option of the driver: type=, device=, o=
    #[arg(short = 'o', long, value_name = "map", value_parser = keyvalue::label)]
    opt: Vec<(String, String)>,
    /// Name; drawn at random when absent
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.name.is_some() && flags.volume.is_some() {
        return Err(Failure::new(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
        ));
    }
    let volume = session.engine()?.create_volume(&NewVolume {
        name: flags.volume.clone().or_else(|| flags.name.clone()),
        driver: flags.driver.clone(),
        options: flags.opt.iter().cloned().collect(),
        labels: flags.label.iter().cloned().collect(),
    })?;
    output::line(&volume.name)
}
