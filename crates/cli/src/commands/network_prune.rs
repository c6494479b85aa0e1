//! `network prune`

use super::verb;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::output;
use crate::session::Session;
use crate::values::instant;
use crate::verb::Verb;
use clap::Args;
use jiff::Timestamp;
use std::io::BufRead as _;

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

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, &["label", "label!", "until"])?;
    let until =
        filters.of("until").map(|text| instant::parse(text, Timestamp::now())).collect::<Result<Vec<_>, _>>()?;
    if !flags.force && !confirmed()? {
        return Ok(());
    }
    let removed = session.engine()?.prune_networks(|network| {
        let labels = &network.settings.labels;
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        let made: Option<Timestamp> = network.created_at.parse().ok();
        filters.labels(labels)
            && !filters.of("label!").any(has)
            && until.iter().all(|time| made.is_some_and(|made| made < *time))
    })?;
    if removed.is_empty() {
        return Ok(());
    }
    output::text(&format!("Deleted Networks:\n{}\n\n", removed.join("\n")))
}

fn confirmed() -> Result<bool, Failure> {
    output::text(
        "WARNING! This will remove all custom networks not used by at least one container.\n\
         Are you sure you want to continue? [y/N] ",
    )?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::caused("the answer cannot be read", error))?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}
