//! `push`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{PushOptions, PushProgress, Quiet};

/// Upload an image to a registry
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] NAME[:TAG]", "Upload an image to a registry");

#[derive(Args)]
struct Flags {
    /// Push all tags of the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Do not sign the image (default true, and nothing else)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = crate::values::boolean::parse, hide = true)]
    disable_content_trust: Option<bool>,
    /// Push only if the image is for this platform (os/arch[/variant])
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
        return Err(Failure::new("content trust is not supported: images are not signed"));
    }
    let engine = session.engine()?;
    let parsed = oci::reference::Reference::parse(&flags.name);
    let bare = parsed.is_ok_and(|name| name.tag().is_none() && name.digest().is_none());
    if bare && !flags.all_tags && !flags.quiet {
        output::line("Using default tag: latest")?;
    }
    let mut shown = progress::on_stdout();
    let progress: &mut dyn PushProgress = if flags.quiet { &mut Quiet } else { &mut shown };
    let options = PushOptions { all_tags: flags.all_tags, platform: flags.platform.clone() };
    for pushed in engine.push(&flags.name, &options, progress)? {
        if pushed.recompressed > 0 {
            session.warn(&format!(
                "{} of the layers of {} had to be compressed again, so its digest is not the one it came with",
                pushed.recompressed, pushed.canonical
            ));
        }
        if flags.quiet {
            output::line(&pushed.canonical)?;
        }
    }
    Ok(())
}
