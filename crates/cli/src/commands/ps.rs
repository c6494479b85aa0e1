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

/// The columns of the table that nobody changed.
const TABLE: [&str; 7] = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];

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
    let engine = session.engine()?;
    let bounds = Bounds::new(&filters, &engine)?;
    let mut list = List {
        // Docker: a template that shows sizes has them.
        measured: flags.size || format.as_ref().is_some_and(|format| format.contains(".Size")),
        engine: &engine,
        shown: Shown::of(format.as_deref(), flags.quiet),
        shorten: !flags.no_trunc,
        now: Timestamp::now(),
        text: String::new(),
        rows: Vec::new(),
    };
    let detail = match list.shown == Shown::Everything || filters.has("network") {
        true => Detail::Networks,
        false => Detail::NoNetworks,
    };
    let mut left = last.unwrap_or(usize::MAX);
    let mut result = Ok(());
    engine.each_line(detail, |container| {
        let wanted = (all || container.status.is_running()) && keep(&container, &filters, &bounds);
        if wanted && left > 0 && result.is_ok() {
            left -= 1;
            result = list.add(&container);
        }
    })?;
    result?;
    list.print(format.as_deref(), flags.size)
}

/// The lines to be printed. Of each container only the words stay, for there may be thousands.
struct List<'a> {
    engine: &'a Engine,
    shown: Shown,
    shorten: bool,
    measured: bool,
    now: Timestamp,
    /// Lines of identifiers or of [`TABLE`].
    text: String,
    /// What a template is rendered for.
    rows: Vec<Value>,
}

impl List<'_> {
    fn add(&mut self, container: &Container) -> Result<(), Failure> {
        let size = if self.measured { Some(size(self.engine, container)?) } else { None };
        match self.shown {
            Shown::Identifier => self.text.push_str(identifier(container, self.shorten)),
            Shown::Table => {
                let cells = cells(container, self.now, self.shorten);
                self.text.push_str(&cells.join("\t"));
                if let Some(size) = size {
                    self.text.push('\t');
                    self.text.push_str(&size);
                }
            }
            Shown::Everything => {
                let mut row = row(container, self.now, self.shorten);
                if let Some(size) = size {
                    row["Size"] = size.into();
                }
                self.rows.push(row);
                return Ok(());
            }
        }
        self.text.push('\n');
        Ok(())
    }

    fn print(&self, format: Option<&str>, sizes: bool) -> Result<(), Failure> {
        let mut fields = TABLE.to_vec();
        if sizes {
            fields.push("Size");
        }
        match self.shown {
            Shown::Identifier => output::text(&self.text),
            Shown::Table => output::text(&format::table(&fields, COLUMNS, &self.text)),
            Shown::Everything => output::text(&format::list(format, &template(&fields), COLUMNS, &self.rows)?),
        }
    }
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
    fn new(filters: &Filters, engine: &Engine) -> Result<Bounds, Failure> {
        let time = |key: &str| -> Result<Option<String>, Failure> {
            let wanted = filters.of(key).last();
            Ok(wanted.map(|wanted| engine.inspect(wanted)).transpose()?.map(|container| container.created_at))
        };
        Ok(Bounds { before: time("before")?, since: time("since")? })
    }
}

fn keep(container: &Container, filters: &Filters, bounds: &Bounds) -> bool {
    let settings = &container.settings;
    let is_on = |wanted: &str| {
        let by_id = |id: &str| wanted.len() >= 4 && id.starts_with(wanted);
        docker_json::container::network_names(container).iter().any(|name| name == wanted)
            || container.networks.iter().any(|each| by_id(&each.network_id))
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

fn identifier(container: &Container, shorten: bool) -> &str {
    if shorten { container.id.get(..12).unwrap_or(&container.id) } else { &container.id }
}

/// What [`TABLE`] names.
fn cells(container: &Container, now: Timestamp, shorten: bool) -> [String; TABLE.len()] {
    [
        identifier(container, shorten).to_owned(),
        image(container, shorten),
        quote(&limited(docker_json::container::command_line(&container.settings), 20, shorten)),
        elapsed::ago(&container.created_at, now),
        status::sentence(container, now),
        ports::column(container),
        container.name.clone(),
    ]
}

fn row(container: &Container, now: Timestamp, shorten: bool) -> Value {
    let cells = cells(container, now, shorten);
    let named = TABLE.into_iter().map(str::to_owned).zip(cells.into_iter().map(Value::from));
    let mut row = named.chain([("Size".to_owned(), "0B".into())]).collect::<serde_json::Map<_, _>>();
    if let Value::Object(rest) = rest(container, shorten) {
        row.extend(rest);
    }
    row.into()
}

/// The template that shows these columns.
fn template(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("{{{{.{field}}}}}")).collect::<Vec<_>>().join("\t")
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
        let expected = "\
CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS                     PORTS     NAMES
0123456789ab   redis:7   \"docker-entrypoint.s…\"   2 minutes ago   Up 3 seconds                         brave_otter
0123456789ab   redis:7   \"docker-entrypoint.s…\"   2 minutes ago   Exited (3) 5 seconds ago             brave_otter
";
        let containers = [container(Status::Running), container(Status::Exited)];
        let lines = containers.each_ref().map(|each| cells(each, now(), true).join("\t"));
        assert_eq!(format::table(&TABLE, COLUMNS, &format!("{}\n", lines.join("\n"))), expected);
        let rows = containers.each_ref().map(|each| row(each, now(), true));
        assert_eq!(format::list(Some("table"), &template(&TABLE), COLUMNS, &rows).unwrap(), expected);
        let long = row(&containers[0], now(), false);
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
