//! `image prune`

use super::verb;
use crate::confirm;
use crate::display::amount;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::output;
use crate::session::Session;
use crate::values::{boolean, instant};
use crate::verb::Verb;
use clap::Args;
use engine::{ImageSummary, Removed};
use jiff::Timestamp;

/// Remove unused images
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Remove unused images");

#[derive(Args)]
struct Flags {
    /// Remove all images that no container uses, not only those without a tag
    #[arg(short = 'a', long)]
    all: bool,
    /// Remove only some (until=, label=, label!=, dangling=)
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, &["dangling", "label", "label!", "until"])?;
    let now = Timestamp::now();
    let until = filters.of("until").map(|text| instant::parse(text, now)).collect::<Result<Vec<_>, _>>()?;
    let mut all = flags.all;
    for text in filters.of("dangling") {
        all = !boolean::parse(text)?;
    }
    if !flags.force && !confirm::ask(warning(all))? {
        return Ok(());
    }
    let wanted = |image: &ImageSummary| {
        let created: Option<Timestamp> = image.created.parse().ok();
        filters.labels(&image.labels) && until.iter().all(|until| created.is_some_and(|created| created < *until))
    };
    let pruned = session.engine()?.prune_images(all, &wanted)?;
    if !pruned.removed.is_empty() {
        output::line("Deleted Images:")?;
        for step in &pruned.removed {
            match step {
                Removed::Untagged(name) => output::line(&format!("untagged: {name}"))?,
                Removed::Deleted(id) => output::line(&format!("deleted: {id}"))?,
            }
        }
        output::line("")?;
    }
    output::line(&format!("Total reclaimed space: {}", amount::decimal(pruned.reclaimed)))
}

fn warning(all: bool) -> &'static str {
    match all {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    }
}
