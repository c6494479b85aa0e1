//! `pull`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{PullProgress, Quiet};

/// Download an image from a registry
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry");

#[derive(Args)]
struct Flags {
    /// Platform of a multi-platform image (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Print only the name
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Name of the image
    name: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    let parsed = oci::reference::Reference::parse(&flags.name);
    if !flags.quiet && parsed.is_ok_and(|name| name.tag().is_none() && name.digest().is_none()) {
        output::line("Using default tag: latest")?;
    }
    let mut shown = progress::on_stdout();
    let progress: &mut dyn PullProgress = if flags.quiet { &mut Quiet } else { &mut shown };
    let pulled = engine.pull(&flags.name, flags.platform.as_deref(), progress)?;
    if !flags.quiet {
        let what = if pulled.fresh { "Downloaded newer image" } else { "Image is up to date" };
        output::line(&format!("Digest: {}", pulled.digest))?;
        output::line(&format!("Status: {what} for {}", pulled.reference))?;
    }
    output::line(&pulled.canonical)
}
