//! `history`

use super::verb;
use crate::display::amount;
use crate::failure::Failure;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::{ArgAction, Args};
use docker_json::elapsed;
use engine::HistoryStep;
use jiff::Timestamp;
use oci::platform::Platform;
use serde_json::{Value, json};

/// Show the history of an image
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] IMAGE", "Show the history of an image");

#[derive(Args)]
struct Flags {
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Sizes and times as people read them
    #[arg(
        short = 'H', long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true", value_parser = crate::values::boolean::parse, hide_default_value = true
    )]
    human: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only if the image is for this platform (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Print only identifiers
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Name or identifier
    #[arg(value_name = "IMAGE")]
    image: String,
}

const COLUMNS: &[Column] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

const HUMAN: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    if let Some(text) = &flags.platform {
        let wanted: Platform =
            text.parse().map_err(|error| Failure::caused(format!("invalid platform {text:?}"), error))?;
        let platform = engine.image(&flags.image)?.config.platform;
        if wanted.rank(&platform).is_none() {
            return Err(Failure::new(format!(
                "No such image: {}: it is for {platform}, not for {wanted}",
                flags.image
            )));
        }
    }
    let now = Timestamp::now();
    let rows: Vec<Value> = engine.history(&flags.image)?.iter().map(|step| row(step, flags, now)).collect();
    if flags.quiet && flags.format.is_none() {
        return rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(output::line);
    }
    let table = if flags.human { HUMAN } else { EXACT };
    output::text(&format::list(flags.format.as_deref(), table, COLUMNS, &rows)?)
}

fn row(step: &HistoryStep, flags: &Flags, now: Timestamp) -> Value {
    let id = match &step.id {
        None => "<missing>",
        Some(id) if flags.no_trunc => id,
        Some(id) => id.trim_start_matches("sha256:").get(..12).unwrap_or(id),
    };
    let command = step.created_by.replace('\t', " ");
    let command = match flags.no_trunc {
        false if command.chars().count() > 45 => command.chars().take(44).chain(['…']).collect(),
        _ => command,
    };
    json!({
        "Comment": step.comment,
        "CreatedAt": step.created,
        "CreatedBy": command,
        "CreatedSince": elapsed::ago(&step.created, now),
        "ID": id,
        "Size": if flags.human { amount::decimal(step.size) } else { step.size.to_string() },
    })
}
