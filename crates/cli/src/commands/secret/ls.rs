//! `secret ls`, `config ls`

use super::super::verb;
use super::kind;
use crate::configuration;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use docker_json::elapsed;
use engine::Secret;
use jiff::Timestamp;
use serde_json::{Value, json};

/// List secrets
pub const SECRET: Verb =
    verb!(Flags, |session: &Session, flags: &Flags| execute(session, flags, false), Other, "[OPTIONS]", "List secrets");

/// List configurations
pub const CONFIG: Verb =
    verb!(Flags, |session: &Session, flags: &Flags| execute(session, flags, true), Other, "[OPTIONS]", "List configs");

#[derive(Args)]
struct Flags {
    /// Show only some (id=, label=, name=)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print only identifiers
    #[arg(short = 'q', long)]
    quiet: bool,
}

const COLUMNS: &[Column] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("CreatedAt", "CREATED"),
    ("UpdatedAt", "UPDATED"),
    ("Labels", "LABELS"),
];
const SECRETS: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";
const CONFIGS: &str = "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";

fn execute(session: &Session, flags: &Flags, config: bool) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, &["id", "label", "name"])?;
    let all = session.engine()?.secrets(kind(config))?;
    let kept = all.iter().filter(|secret| {
        filters.any("id", |id| secret.id.starts_with(id))
            && filters.any("name", |name| secret.name.starts_with(name))
            && filters.labels(&secret.labels)
    });
    let now = Timestamp::now();
    let rows: Vec<Value> = kept.map(|secret| row(secret, now)).collect();
    let format = configuration::format(flags.format.as_ref(), flags.quiet, |file| match config {
        true => file.config_format,
        false => file.secret_format,
    });
    if flags.quiet && format.is_none() {
        return rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(output::line);
    }
    let table = if config { CONFIGS } else { SECRETS };
    output::text(&format::list(format.as_deref(), table, COLUMNS, &rows)?)
}

fn row(secret: &Secret, now: Timestamp) -> Value {
    let labels: Vec<String> = secret.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let created = elapsed::ago(&secret.created_at, now);
    json!({
        "ID": secret.id,
        "Name": secret.name,
        "Driver": "",
        "CreatedAt": created,
        "UpdatedAt": created,
        "Labels": labels.join(","),
        "Label": secret.labels,
    })
}
