//! `container prune`

use super::verb;
use crate::confirm;
use crate::display::amount;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::instant;
use crate::verb::Verb;
use clap::Args;
use engine::PruneFilter;
use jiff::Timestamp;

/// Remove all stopped containers
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Remove all stopped containers");

#[derive(Args)]
struct Flags {
    /// Remove only some (until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE])
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short = 'f', long)]
    force: bool,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filter = filter(&flags.filter)?;
    if !flags.force && !confirm::ask("WARNING! This will remove all stopped containers.")? {
        return Ok(());
    }
    let pruned = session.engine()?.prune_containers(&filter)?;
    let mut text = String::new();
    if !pruned.ids.is_empty() {
        text.push_str("Deleted Containers:\n");
        for id in &pruned.ids {
            text.push_str(id);
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str(&format!("Total reclaimed space: {}\n", amount::transferred(pruned.bytes)));
    output::text(&text)
}

pub(super) fn filter(flags: &[String]) -> Result<PruneFilter, Failure> {
    let mut filter = PruneFilter::default();
    for flag in flags {
        let (key, value) = flag
            .split_once('=')
            .ok_or_else(|| Failure::new("invalid argument for --filter: bad format of filter (expected name=value)"))?;
        let label = || match value.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (value.to_owned(), None),
        };
        match key.trim() {
            "until" if filter.until.is_some() => return Err(Failure::new("more than one until filter specified")),
            "until" => filter.until = Some(instant::parse(value.trim(), Timestamp::now())?),
            "label" => filter.labels.push(label()),
            "label!" => filter.without_labels.push(label()),
            other => return Err(Failure::new(format!("invalid filter '{other}'"))),
        }
    }
    Ok(filter)
}
