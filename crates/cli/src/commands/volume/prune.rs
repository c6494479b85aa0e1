//! `volume prune`

use super::super::verb;
use crate::confirm;
use crate::display::amount;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::output;
use crate::session::Session;
use crate::values::boolean;
use crate::verb::Verb;
use clap::Args;

/// Remove unused local volumes
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Remove unused local volumes");

#[derive(Args)]
struct Flags {
    /// Remove all that are unused, not only anonymous ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Remove only some (label=, label!=, all=)
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, &["all", "label", "label!"])?;
    if flags.all && filters.has("all") {
        return Err(Failure::new("conflicting options: cannot specify both --all and --filter all=1"));
    }
    let mut all = flags.all;
    for value in filters.of("all") {
        all = boolean::parse(value).map_err(|_| format!("invalid filter 'all={value}'"))?;
    }
    let which = if all { "all" } else { "anonymous" };
    let warning = format!("WARNING! This will remove {which} local volumes not used by at least one container.");
    if !flags.force && !confirm::ask(&warning)? {
        return Ok(());
    }
    let pruned = session.engine()?.prune_volumes(all, &|volume| filters.labels(&volume.labels))?;
    if !pruned.names.is_empty() {
        output::text(&format!("Deleted Volumes:\n{}\n\n", pruned.names.join("\n")))?;
    }
    output::line(&format!("Total reclaimed space: {}", amount::transferred(pruned.bytes)))
}
