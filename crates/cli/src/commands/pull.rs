//! `pull`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{Engine, PullProgress, Quiet};

/// Download an image from a registry
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry");

#[derive(Args)]
struct Flags {
    /// Pull all tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Do not verify signatures of the image (default true, and nothing else)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = crate::values::boolean::parse, hide = true)]
    disable_content_trust: Option<bool>,
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
    if flags.disable_content_trust == Some(false) {
        return Err(Failure::new("content trust is not supported: images are verified by their digests only"));
    }
    let engine = session.engine()?;
    if flags.all_tags {
        for tag in engine.remote_tags(&flags.name)? {
            one(&engine, flags, &format!("{}:{tag}", flags.name))?;
        }
        return output::line(&flags.name);
    }
    let parsed = oci::reference::Reference::parse(&flags.name);
    if !flags.quiet && parsed.is_ok_and(|name| name.tag().is_none() && name.digest().is_none()) {
        output::line("Using default tag: latest")?;
    }
    let canonical = one(&engine, flags, &flags.name)?;
    output::line(&canonical)
}

/// Pulls one image and returns its canonical name.
fn one(engine: &Engine, flags: &Flags, name: &str) -> Result<String, Failure> {
    let mut shown = progress::on_stdout();
    let progress: &mut dyn PullProgress = if flags.quiet { &mut Quiet } else { &mut shown };
    let pulled = engine.pull(name, flags.platform.as_deref(), progress)?;
    if !flags.quiet {
        let what = if pulled.fresh { "Downloaded newer image" } else { "Image is up to date" };
        output::line(&format!("Digest: {}", pulled.digest))?;
        output::line(&format!("Status: {what} for {}", pulled.reference))?;
    }
    Ok(pulled.canonical)
}
