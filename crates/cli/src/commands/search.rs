//! `search`

use super::registry::list_tags;
use super::verb;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::values::boolean;
use crate::verb::Verb;
use clap::Args;
use engine::registries;
use serde_json::{Value, json};

/// Search Docker Hub for images
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] TERM", "Search Docker Hub for images");

#[derive(Args)]
struct Flags {
    /// Show only some (stars=, is-official=, is-automated=)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// A Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Most results, 1 to 100 [default: 25]
    #[arg(long, value_name = "int", value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: Option<u32>,
    /// List the tags of the repository TERM, all without --limit
    #[arg(long)]
    list_tags: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// What to look for, after a registry's name and a slash if it is not Docker's
    #[arg(value_name = "TERM")]
    term: String,
}

const COLUMNS: &[Column] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

fn execute(_session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.list_tags {
        let limit = flags.limit.map(|limit| limit as usize);
        return list_tags(&flags.term, limit, flags.format.as_deref(), false);
    }
    let filters = Filters::new(&flags.filter, &["is-automated", "is-official", "stars"])?;
    let mut least = 0;
    for text in filters.of("stars") {
        let stars: u64 = text.parse().map_err(|_| format!("invalid filter 'stars={text}'"))?;
        least = least.max(stars);
    }
    let found = registries::search(&flags.term, flags.limit.unwrap_or(25))?;
    let is = |key: &str, value: bool| filters.any(key, |text| boolean::parse(text) == Ok(value));
    let kept = found.iter().filter(|found| {
        found.stars >= least && is("is-official", found.is_official) && is("is-automated", found.is_automated)
    });
    let yes = |value: bool| if value { "[OK]" } else { "" };
    let rows: Vec<Value> = kept
        .map(|found| {
            let text = found.description.replace(['\n', '\r'], " ");
            let text = match flags.no_trunc {
                false if text.chars().count() > 45 => text.chars().take(44).chain(['…']).collect(),
                _ => text,
            };
            json!({
                "Name": found.name,
                "Description": text,
                "StarCount": found.stars.to_string(),
                "IsOfficial": yes(found.is_official),
                "IsAutomated": yes(found.is_automated),
            })
        })
        .collect();
    output::text(&format::list(flags.format.as_deref(), TABLE, COLUMNS, &rows)?)
}
