//! `ps`, `container ls`

use super::verb;
use crate::configuration;
use crate::display::{amount, ports};
use crate::failure::Failure;
use crate::filter::{Filters, found};
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use docker_json::{elapsed, status};
use engine::{Container, Detail, Engine, MountSource, Status};
use jiff::Timestamp;
use serde_json::{Value, json};

/// List containers
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "List containers");

#[derive(Args)]
struct Flags {
    /// Show all containers, not only those that run
    #[arg(short = 'a', long)]
    all: bool,
    /// Show only some (name=, id=, status=, label=, ancestor=, exited=, before=, since=, health=, network=, volume=, publish=, expose=)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show the containers made last, of all statuses
    #[arg(short = 'n', long, value_name = "int", allow_hyphen_values = true)]
    last: Option<i64>,
    /// Show the container made last
    #[arg(short = 'l', long)]
    latest: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Print only identifiers
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Show what containers have written, and that with their images
    #[arg(short = 's', long)]
    size: bool,
}

const FILTERS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status",
    "volume",
];

const COLUMNS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
];

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let filters = Filters::new(&flags.filter, FILTERS)?;
    check(&filters)?;
    let last = match flags.last {
        _ if flags.latest => Some(1),
        // Docker: a number below one is no limit.
        Some(number) => usize::try_from(number).ok().filter(|number| *number > 0),
        None => None,
    };
    let all = flags.all || last.is_some() || ["status", "exited"].iter().any(|key| filters.has(key));
    let format = configuration::format(flags.format.as_ref(), flags.quiet, |file| file.ps_format);
    let shown = Shown::of(format.as_deref(), flags.quiet);
    let engine = session.engine()?;
    let everything = engine.lines(match shown == Shown::Everything || filters.has("network") {
        true => Detail::Networks,
        false => Detail::NoNetworks,
    })?;
    let bounds = Bounds::new(&filters, &everything)?;
    let kept = everything
        .iter()
        .filter(|container| all || container.status.is_running())
        .filter(|container| keep(container, &filters, &bounds))
        .take(last.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    // Docker: a template that shows sizes has them.
    let measured = flags.size || format.as_ref().is_some_and(|format| format.contains(".Size"));
    let mut rows: Vec<Value> = Vec::new();
    for container in kept {
        let mut row = row(container, now, !flags.no_trunc, shown);
        if measured {
            row["Size"] = size(&engine, container)?.into();
        }
        rows.push(row);
    }
    if flags.quiet && format.is_none() {
        // At once, as there may be thousands.
        let identifiers: String = rows.iter().filter_map(|row| Some(format!("{}\n", row["ID"].as_str()?))).collect();
        return output::text(&identifiers);
    }
    let table = if flags.size { WITH_SIZE } else { TABLE };
    output::text(&format::list(format.as_deref(), table, COLUMNS, &rows)?)
}

fn size(engine: &Engine, container: &Container) -> Result<String, Failure> {
    let size = engine.container_size(container)?;
    let own = amount::decimal(size.own);
    Ok(match size.with_image {
        0 => own,
        all => format!("{own} (virtual {})", amount::decimal(all)),
    })
}

/// Refuses values that no container can have.
fn check(filters: &Filters) -> Result<(), Failure> {
    const STATUSES: &[&str] = &["created", "dead", "exited", "paused", "removing", "restarting", "running"];
    let status = filters.of("status").find(|word| !STATUSES.contains(word)).map(|word| ("status", word));
    let code = filters.of("exited").find(|word| word.parse::<i32>().is_err()).map(|word| ("exited", word));
    match status.or(code) {
        Some((key, word)) => Err(Failure::new(format!("invalid filter '{key}={word}'"))),
        None => Ok(()),
    }
}

/// Times that `before` and `since` stand for.
struct Bounds {
    before: Option<String>,
    since: Option<String>,
}

impl Bounds {
    fn new(filters: &Filters, containers: &[Container]) -> Result<Bounds, Failure> {
        let time = |key: &str| -> Result<Option<String>, Failure> {
            let Some(wanted) = filters.of(key).last() else { return Ok(None) };
            let found =
                containers.iter().find(|c| c.name == wanted.trim_start_matches('/') || c.id.starts_with(wanted));
            let found = found.ok_or_else(|| Failure::new(format!("No such container: {wanted}")))?;
            Ok(Some(found.created_at.clone()))
        };
        Ok(Bounds { before: time("before")?, since: time("since")? })
    }
}

fn keep(container: &Container, filters: &Filters, bounds: &Bounds) -> bool {
    let settings = &container.settings;
    let networks = docker_json::container::network_names(container);
    let is_on = |wanted: &str| {
        let by_id = |id: &str| wanted.len() >= 4 && id.starts_with(wanted);
        networks.iter().any(|name| name == wanted) || container.networks.iter().any(|each| by_id(&each.network_id))
    };
    let port = |wanted: &str, port: u16, protocol: &str| {
        let (range, kind) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
        kind == protocol && (first..=last).contains(&port)
    };
    bounds.before.as_ref().is_none_or(|time| container.created_at < *time)
        && bounds.since.as_ref().is_none_or(|time| container.created_at > *time)
        && filters.labels(&settings.labels)
        && filters.any("id", |id| container.id.starts_with(id))
        && filters.any("name", |name| found(name, &container.name) || found(name, &format!("/{}", container.name)))
        && filters.any("status", |name| name == container.status.name())
        && filters
            .any("exited", |code| container.status == Status::Exited && code.parse() == Ok(container.run.exit_code))
        && filters.any("ancestor", |image| is_image(container, image))
        && filters
            .any("health", |wanted| wanted == container.health.as_ref().map_or("none", |health| health.status.name()))
        && filters.any("network", is_on)
        && filters.any("volume", |place| {
            container.settings.mounts.iter().any(|mount| {
                mount.target == place
                    || match &mount.source {
                        MountSource::Bind { path, .. } => path == place,
                        MountSource::Volume(volume) => volume.name == place,
                        MountSource::Image(_) | MountSource::Tmpfs { .. } => false,
                    }
            })
        })
        && filters.any("publish", |wanted| container.ports.iter().any(|p| port(wanted, p.host_port, &p.protocol)))
        && filters.any("expose", |wanted| {
            let published = container.ports.iter().any(|p| port(wanted, p.container_port, &p.protocol));
            let named = settings.exposed_ports.iter().map(|text| ports::with_protocol(text));
            published
                || named
                    .filter_map(|text| {
                        let (number, protocol) = text.split_once('/')?;
                        Some(port(wanted, number.parse().ok()?, protocol))
                    })
                    .any(|holds| holds)
        })
}

fn is_image(container: &Container, wanted: &str) -> bool {
    let settings = &container.settings;
    let bare = settings.image_id.trim_start_matches("sha256:");
    let canonical = |text: &str| oci::reference::Reference::parse(text).ok().map(|name| name.or_latest().familiar());
    settings.image_name == wanted
        || settings.image_id == wanted
        || (wanted.len() >= 4 && bare.starts_with(wanted))
        || canonical(wanted).is_some_and(|name| Some(name) == canonical(&settings.image_name))
}

/// What of a row is looked at, so that the rest is not put into words for a thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// The identifier.
    Identifier,
    /// The columns of the table that nobody changed.
    Table,
    /// Whatever a format asks for.
    Everything,
}

impl Shown {
    fn of(format: Option<&str>, quiet: bool) -> Shown {
        match format.map(str::trim) {
            None if quiet => Shown::Identifier,
            None | Some("" | "table") => Shown::Table,
            Some(_) => Shown::Everything,
        }
    }
}

fn row(container: &Container, now: Timestamp, shorten: bool, shown: Shown) -> Value {
    let id = if shorten { container.id.get(..12).unwrap_or(&container.id) } else { &container.id };
    if shown == Shown::Identifier {
        return json!({ "ID": id });
    }
    let mut row = json!({
        "ID": id,
        "Image": image(container, shorten),
        "Command": quote(&limited(docker_json::container::command_line(&container.settings), 20, shorten)),
        "RunningFor": elapsed::ago(&container.created_at, now),
        "Ports": ports::column(container),
        "Status": status::sentence(container, now),
        "Names": container.name,
        "Size": "0B",
    });
    if let (Shown::Everything, Value::Object(row), Value::Object(rest)) = (shown, &mut row, rest(container, shorten)) {
        row.extend(rest);
    }
    row
}

/// The columns that only a format shows.
fn rest(container: &Container, shorten: bool) -> Value {
    let settings = &container.settings;
    let labels: Vec<String> = settings.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<String> = settings
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some(limited(path.clone(), 15, shorten)),
            MountSource::Volume(volume) => Some(limited(volume.name.clone(), 15, shorten)),
            MountSource::Image(image) => Some(limited(image.name.clone(), 15, shorten)),
            MountSource::Tmpfs { .. } => None,
        })
        .collect();
    let volumes = settings.mounts.iter().filter(|mount| matches!(mount.source, MountSource::Volume(_))).count();
    json!({
        "CreatedAt": elapsed::go(&container.created_at),
        "State": container.status.name(),
        "Labels": labels.join(","),
        "Label": settings.labels,
        "Mounts": mounts.join(","),
        "Networks": docker_json::container::network_names(container).join(","),
        "LocalVolumes": volumes.to_string(),
    })
}

/// The image as it was named; a bare identifier is shortened.
fn image(container: &Container, shorten: bool) -> String {
    let name = &container.settings.image_name;
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = bare.len() == 64 && bare.bytes().all(|c| c.is_ascii_hexdigit());
    if is_id && shorten { bare[..12].to_owned() } else { name.clone() }
}

fn limited(text: String, length: usize, shorten: bool) -> String {
    if shorten { ellipsis(&text, length) } else { text }
}

/// Docker's shortening: the last letter that fits becomes an ellipsis.
fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

/// A string as Go quotes it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use docker_json::sample::container;

    fn now() -> Timestamp {
        "2026-01-02T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn as_docker_prints_it() {
        let rows = [
            row(&container(Status::Running), now(), true, Shown::Table),
            row(&container(Status::Exited), now(), true, Shown::Table),
        ];
        let text = format::list(None, TABLE, COLUMNS, &rows).unwrap();
        let expected = "\
CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS                     PORTS     NAMES
0123456789ab   redis:7   \"docker-entrypoint.s…\"   2 minutes ago   Up 3 seconds                         brave_otter
0123456789ab   redis:7   \"docker-entrypoint.s…\"   2 minutes ago   Exited (3) 5 seconds ago             brave_otter
";
        assert_eq!(text, expected);
        let long = row(&container(Status::Running), now(), false, Shown::Everything);
        assert_eq!(long["Command"], "\"docker-entrypoint.sh redis-server --save\"");
        assert_eq!(long["CreatedAt"], "2026-01-02 11:58:00 +0000 UTC");
    }

    #[test]
    fn filters() {
        let c = container(Status::Exited);
        let unbound = Bounds { before: None, since: None };
        for (filter, expected) in [
            ("name=otter", true),
            ("name=^/brave_otter$", true),
            ("name=^otter", false),
            ("id=0123", true),
            ("status=exited", true),
            ("status=running", false),
            ("exited=3", true),
            ("exited=0", false),
            ("ancestor=redis:7", true),
            ("ancestor=docker.io/library/redis:7", true),
            ("ancestor=redis", false),
            ("ancestor=abab", true),
            ("network=bridge", true),
            ("label=x", false),
        ] {
            let filters = Filters::new(&[filter.to_owned()], FILTERS).unwrap();
            assert_eq!(keep(&c, &filters, &unbound), expected, "{filter}");
        }
        assert!(Filters::new(&["foo=1".into()], FILTERS).is_err());
    }

    #[test]
    fn quoting() {
        assert_eq!(quote("a \"b\" \\ \n"), "\"a \\\"b\\\" \\\\ \\n\"");
        assert_eq!(ellipsis("12345", 5), "12345");
        assert_eq!(ellipsis("123456", 5), "1234…");
    }
}
