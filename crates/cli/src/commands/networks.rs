//! `network ls`

use super::verb;
use crate::configuration;
use crate::failure::Failure;
use crate::filter::{Filters, found};
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use docker_json::elapsed;
use engine::Network;
use serde_json::{Value, json};

/// List networks
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "List networks");

#[derive(Args)]
struct Flags {
    /// Show only some (driver=, id=, name=, label=, scope=, type=, dangling=)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Print only identifiers
    #[arg(short = 'q', long)]
    quiet: bool,
}

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

const COLUMNS: &[Column] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, FILTERS)?;
    if let Some(other) = filters.of("type").find(|kind| !matches!(*kind, "custom" | "builtin")) {
        return Err(Failure::new(format!("invalid filter: 'type'='{other}'")));
    }
    let engine = session.engine()?;
    let networks = engine.networks()?;
    let uses = if filters.has("dangling") { engine.network_uses()? } else { Default::default() };
    let kept = networks.iter().filter(|network| {
        let is_dangling = !network.is_predefined() && uses.get(&network.id).is_none_or(|count| *count == 0);
        keep(network, &filters)
            && filters.any("dangling", |value| crate::values::boolean::parse(value) == Ok(is_dangling))
    });
    let rows: Vec<Value> = kept.map(|network| row(network, !flags.no_trunc)).collect();
    let format = configuration::format(flags.format.as_ref(), flags.quiet, |file| file.networks_format);
    if flags.quiet && format.is_none() {
        return rows.iter().filter_map(|row| row["ID"].as_str()).try_for_each(output::line);
    }
    output::text(&format::list(format.as_deref(), TABLE, COLUMNS, &rows)?)
}

fn keep(network: &Network, filters: &Filters) -> bool {
    filters.labels(&network.settings.labels)
        && filters.any("id", |id| network.id.starts_with(id))
        && filters.any("name", |name| found(name, &network.name))
        && filters.any("driver", |driver| driver == network.settings.driver.name())
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |kind| (kind == "builtin") == network.is_predefined())
}

fn row(network: &Network, shorten: bool) -> Value {
    let settings = &network.settings;
    let labels: Vec<String> = settings.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": if shorten { network.id.get(..12).unwrap_or(&network.id) } else { &network.id },
        "Name": network.name,
        "Driver": settings.driver.name(),
        "Scope": "local",
        "IPv4": (settings.ipv4 || settings.subnets.is_empty()).to_string(),
        "IPv6": settings.ipv6.to_string(),
        "Internal": settings.internal.to_string(),
        "Labels": labels.join(","),
        "Label": settings.labels,
        "CreatedAt": elapsed::go(&network.created_at),
    })
}
