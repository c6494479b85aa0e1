//! `system df`

use super::super::verb;
use super::df_verbose;
use crate::display::amount;
use crate::failure::Failure;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::DiskUsage;
use serde_json::{Value, json};

/// Show disk usage
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Show disk usage");

#[derive(Args)]
struct Flags {
    /// table, table TEMPLATE, json, or a Go template; with -v json only
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show each image, container and volume
    #[arg(short = 'v', long)]
    verbose: bool,
}

const COLUMNS: &[Column] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let usage = session.engine()?.disk_usage()?;
    match (flags.verbose, flags.format.as_deref()) {
        (true, None | Some("table")) => output::text(&df_verbose::tables(&usage)?),
        (true, Some("json" | "{{json .}}")) => output::line(&df_verbose::document(&usage).to_string()),
        (true, Some(_)) => Err(Failure::new("a template cannot be used with --verbose: json can")),
        (false, format) => output::text(&format::list(format, TABLE, COLUMNS, &rows(&usage))?),
    }
}

fn rows(usage: &DiskUsage) -> Vec<Value> {
    let active = usage.images.iter().filter(|each| each.image.containers > 0).count();
    let running = usage.containers.iter().filter(|each| !each.is_stopped()).count();
    let sum = |stopped: bool| -> u64 {
        usage.containers.iter().filter(|each| !stopped || each.is_stopped()).map(|each| each.size).sum()
    };
    let used = usage.volumes.iter().filter(|each| !each.volume.containers.is_empty()).count();
    let volumes: u64 = usage.volumes.iter().map(|each| each.size).sum();
    let unused = usage.volumes.iter().filter(|each| each.volume.containers.is_empty()).map(|each| each.size).sum();
    vec![
        row("Images", usage.images.len(), active, usage.layers, usage.layers_reclaimable),
        row("Containers", usage.containers.len(), running, sum(false), sum(true)),
        row("Local Volumes", usage.volumes.len(), used, volumes, unused),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let share = (reclaimable * 100).checked_div(size).map_or(String::new(), |share| format!(" ({share}%)"));
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": amount::transferred(size),
        "Reclaimable": format!("{}{share}", amount::transferred(reclaimable)),
    })
}
