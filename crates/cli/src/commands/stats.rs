//! `stats`

use super::verb;
use crate::configuration;
use crate::display::amount;
use crate::failure::Failure;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{Container, Engine, Kind, Usage};
use serde_json::{Value, json};
use std::time::Duration;

/// Display a live stream of resource usage
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics"
);

#[derive(Args)]
struct Flags {
    /// Show all containers, not only those that run
    #[arg(short = 'a', long)]
    all: bool,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show one result and end
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: &[Column] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// Between two looks for a single result: the counters are in nanoseconds, so this is enough.
const GLANCE: Duration = Duration::from_millis(250);
/// Between two results.
const PERIOD: Duration = Duration::from_secs(1);

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let engine = session.engine()?;
    let mut before = look(&engine, flags)?;
    std::thread::sleep(GLANCE);
    // Only a table is drawn anew; other formats are for programs.
    let format = configuration::format(flags.format.as_ref(), false, |file| file.stats_format);
    let is_table = format.as_deref().is_none_or(|format| format.trim().is_empty() || format.starts_with("table"));
    let redrawn = is_table && !flags.no_stream;
    if redrawn {
        output::text("\x1b[2J")?;
    }
    loop {
        let now = look(&engine, flags)?;
        let rows: Vec<Value> = now.iter().map(|found| row(found, &before, flags)).collect();
        let text = format::list(format.as_deref(), TABLE, COLUMNS, &rows)?;
        if redrawn {
            // From the top, each line to its end, and nothing of the last table below.
            output::text(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))?;
        } else {
            output::text(&text)?;
        }
        if flags.no_stream {
            return Ok(());
        }
        before = now;
        std::thread::sleep(PERIOD);
    }
}

/// A container as it was named, and what it uses.
struct Found {
    name: String,
    usage: Usage,
}

fn look(engine: &Engine, flags: &Flags) -> Result<Vec<Found>, Failure> {
    let containers: Vec<(String, Container)> = if flags.containers.is_empty() {
        let all = engine.list(flags.all)?;
        all.into_iter().map(|container| (container.id.clone(), container)).collect()
    } else {
        let mut named = Vec::new();
        for name in &flags.containers {
            named.push((name.clone(), engine.inspect(name)?));
        }
        named
    };
    let mut found = Vec::new();
    for (name, container) in containers {
        match engine.usage_of(&container) {
            Ok(usage) => found.push(Found { name, usage }),
            // Gone since.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn row(found: &Found, before: &[Found], flags: &Flags) -> Value {
    let usage = &found.usage;
    let short = |id: &str| if flags.no_trunc { id.to_owned() } else { id.get(..12).unwrap_or(id).to_owned() };
    let earlier = before.iter().find(|other| other.usage.id == usage.id);
    let processor = earlier.map_or(0.0, |earlier| usage.processor_percent(&earlier.usage));
    let memory = usage.memory();
    let share = if usage.memory_limit > 0 { memory as f64 * 100.0 / usage.memory_limit as f64 } else { 0.0 };
    let pair = |(first, second): (u64, u64)| format!("{} / {}", amount::decimal(first), amount::decimal(second));
    json!({
        "Container": if flags.containers.is_empty() { short(&found.name) } else { found.name.clone() },
        "ID": short(&usage.id),
        "Name": usage.name,
        "CPUPerc": format!("{processor:.2}%"),
        "MemUsage": format!("{} / {}", amount::binary(memory), amount::binary(usage.memory_limit)),
        "MemPerc": format!("{share:.2}%"),
        "NetIO": pair(usage.network_bytes()),
        "BlockIO": pair(usage.block_bytes()),
        "PIDs": usage.tasks().to_string(),
    })
}
