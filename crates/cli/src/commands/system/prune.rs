//! `system prune`

use super::super::{prune, verb};
use crate::confirm;
use crate::display::amount;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{ImageSummary, Removed};
use jiff::Timestamp;

/// Remove unused data
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Remove unused data");

#[derive(Args)]
struct Flags {
    /// Remove all unused images, not only those without a tag
    #[arg(short = 'a', long)]
    all: bool,
    /// Remove only some (until=, label=, label!=)
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short = 'f', long)]
    force: bool,
    /// Remove anonymous volumes too
    #[arg(long)]
    volumes: bool,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, &["label", "label!", "until"])?;
    let filter = prune::filter(&flags.filter)?;
    if flags.volumes && filters.has("until") {
        return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if !flags.force && !confirm::ask(&warning(flags))? {
        return Ok(());
    }
    let engine = session.engine()?;
    let mut text = String::new();
    let containers = engine.prune_containers(&filter)?;
    let mut bytes = containers.bytes;
    section(&mut text, "Deleted Containers", &containers.ids);
    let young = |created: &str| match (filter.until, created.parse::<Timestamp>()) {
        (Some(until), Ok(created)) => created >= until,
        _ => false,
    };
    let networks =
        engine.prune_networks(|network| filters.labels(&network.settings.labels) && !young(&network.created_at))?;
    section(&mut text, "Deleted Networks", &networks);
    if flags.volumes {
        let volumes = engine.prune_volumes(false, &|volume| filters.labels(&volume.labels))?;
        bytes += volumes.bytes;
        section(&mut text, "Deleted Volumes", &volumes.names);
    }
    let wanted = |image: &ImageSummary| {
        let created: Option<Timestamp> = image.created.parse().ok();
        filters.labels(&image.labels) && filter.until.is_none_or(|until| created.is_some_and(|made| made < until))
    };
    let images = engine.prune_images(flags.all, &wanted)?;
    bytes += images.reclaimed;
    let lines: Vec<String> = images.removed.iter().map(line).collect();
    section(&mut text, "Deleted Images", &lines);
    text.push_str(&format!("Total reclaimed space: {}\n", amount::transferred(bytes)));
    output::text(&text)
}

fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("untagged: {name}"),
        Removed::Deleted(id) => format!("deleted: {id}"),
    }
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        text.push_str(&format!("{title}:\n{}\n\n", lines.join("\n")));
    }
}

fn warning(flags: &Flags) -> String {
    let mut text = String::from("WARNING! This will remove:\n  - all stopped containers\n");
    text.push_str("  - all networks not used by at least one container\n");
    if flags.volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(match flags.all {
        true => "  - all images without at least one container associated to them\n  - all build cache\n",
        false => "  - all dangling images\n  - unused build cache\n",
    });
    if !flags.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in &flags.filter {
            text.push_str(&format!("  - {filter}\n"));
        }
    }
    text
}
