//! `volume ls`

use super::super::verb;
use crate::configuration;
use crate::failure::Failure;
use crate::filter::Filters;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::values::boolean;
use crate::verb::Verb;
use clap::Args;
use engine::Volume;
use engine::volumes::DRIVER;
use serde_json::{Value, json};

/// List volumes
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "List volumes");

#[derive(Args)]
struct Flags {
    /// Show only some (dangling=, driver=, label=, name=)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print only names
    #[arg(short = 'q', long)]
    quiet: bool,
}

const FILTERS: &[&str] = &["dangling", "driver", "label", "label!", "name"];

const COLUMNS: &[Column] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
    ("Availability", "AVAILABILITY"),
];

const TABLE: &str = "{{.Driver}}\t{{.Name}}";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, FILTERS)?;
    if let Some(value) = filters.of("dangling").find(|value| boolean::parse(value).is_err()) {
        return Err(Failure::new(format!("invalid filter 'dangling={value}'")));
    }
    let volumes = session.engine()?.volumes()?;
    let kept = volumes.iter().filter(|volume| {
        let dangling = volume.containers.is_empty();
        filters.any("dangling", |value| boolean::parse(value) == Ok(dangling))
            && filters.any("driver", |value| value == DRIVER)
            && filters.any("name", |value| volume.name.contains(value))
            && filters.labels(&volume.labels)
    });
    let rows: Vec<Value> = kept.map(row).collect();
    let format = configuration::format(flags.format.as_ref(), flags.quiet, |file| file.volumes_format);
    if flags.quiet && format.is_none() {
        return rows.iter().filter_map(|row| row["Name"].as_str()).try_for_each(output::line);
    }
    output::text(&format::list(format.as_deref(), TABLE, COLUMNS, &rows)?)
}

fn row(volume: &Volume) -> Value {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": DRIVER,
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
        "Label": volume.labels,
    })
}
