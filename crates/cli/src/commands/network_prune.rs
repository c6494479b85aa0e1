//! `network prune`

use super::verb;
use crate::confirm;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::output;
use crate::session::Session;
use crate::values::instant;
use crate::verb::Verb;
use clap::Args;
use jiff::Timestamp;

/// Remove all unused networks
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Remove all unused networks");

#[derive(Args)]
struct Flags {
    /// Only some (until=, label=, label!=)
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, &["label", "label!", "until"])?;
    let until =
        filters.of("until").map(|text| instant::parse(text, Timestamp::now())).collect::<Result<Vec<_>, _>>()?;
    if !flags.force && !confirm::ask(WARNING)? {
        return Ok(());
    }
    let removed = session.engine()?.prune_networks(|network| {
        let made: Option<Timestamp> = network.created_at.parse().ok();
        filters.labels(&network.settings.labels) && until.iter().all(|time| made.is_some_and(|made| made < *time))
    })?;
    if removed.is_empty() {
        return Ok(());
    }
    output::text(&format!("Deleted Networks:\n{}\n\n", removed.join("\n")))
}
