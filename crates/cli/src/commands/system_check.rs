//! `system check`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Check that what is on disk is what it should be
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS]", "Check every image, layer and document on disk against its digest");

#[derive(Args)]
struct Flags {
    /// Remove what is damaged or belongs to nothing
    #[arg(long)]
    repair: bool,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let checked = session.engine()?.check(flags.repair)?;
    for finding in &checked.findings {
        match &finding.repaired {
            Some(repair) => output::line(&format!("{} ({repair})", finding.text))?,
            None => output::line(&finding.text)?,
        }
    }
    let (images, layers, blobs) = (checked.images, checked.layers, checked.blobs);
    let left = checked.findings.iter().filter(|finding| finding.repaired.is_none()).count();
    output::line(&format!("{images} images, {layers} layers, {blobs} documents: {left} problems"))?;
    if !checked.is_damaged() {
        return Ok(());
    }
    if !flags.repair {
        output::remark("  hint: `dhow system check --repair` removes what is damaged or belongs to nothing");
    }
    Err(Failure::Ended(1))
}
