//! `GET /containers/json`

use crate::access::Peer;
use crate::context::Context;
use crate::failure::Failure;
use crate::filters::Filters;
use crate::reply::{self, Reply};
use crate::version::Version;
use bytes::Bytes;
use docker_json::summary::Line;
use engine::{Container, Detail, Engine, MountSource, Status};
use jiff::Timestamp;

const FILTERS: &[&str] = &[
    "ancestor",
    "annotation",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// The states that Docker knows; a filter on another is a mistake.
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// `GET /containers/json`
pub async fn list(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), FILTERS)?;
    for state in filters.of("status") {
        if !STATES.contains(&state.as_str()) {
            return Err(Failure::bad(format!("invalid filter 'status={state}'")));
        }
    }
    for code in filters.of("exited") {
        code.parse::<i32>().map_err(|_| Failure::bad(format!("invalid filter 'exited={code}'")))?;
    }
    let limit = context.query.number::<i64>("limit")?.filter(|limit| *limit > 0);
    let all = context.query.switch("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let sizes = context.query.switch("size");
    let peer = context.peer.clone();
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let version = context.version;
    let asked = Asked { filters, all, limit, sizes, version };
    // Who may see everything sees the same as others who may.
    let same = (!peer.is_confined()).then(|| format!("list {version} {}", context.query));
    let work = move |engine: &Engine| asked.answer(engine, &peer);
    Ok(reply::document(context.shared.flights.join(context.workers(), same, work).await?))
}

/// What was asked for.
struct Asked {
    filters: Filters,
    all: bool,
    limit: usize,
    sizes: bool,
    version: Version,
}

impl Asked {
    /// The document. It is written line by line: a list as values in memory takes ten times its length.
    fn answer(&self, engine: &Engine, peer: &Peer) -> Result<Bytes, Failure> {
        let mut everything = engine.lines(Detail::Networks)?;
        if peer.is_confined() {
            everything.retain(|container| peer.made(container));
        }
        let bounds = Bounds::new(&self.filters, &everything)?;
        let now = Timestamp::now();
        let kept = everything
            .iter()
            .filter(|container| self.all || matches!(container.status, Status::Running | Status::Paused))
            .filter(|container| keep(container, &self.filters, &bounds));
        let mut lines = reply::Lines::default();
        for container in kept.take(self.limit) {
            lines.add(&line(engine, container, (now, self.version), self.sizes))?;
        }
        Ok(lines.end())
    }
}

/// A line of the list as it is now in a version of the API, with what the container takes if that was asked for.
pub fn line<'a>(
    engine: &Engine,
    container: &'a Container,
    (now, version): (Timestamp, Version),
    sizes: bool,
) -> Line<'a> {
    let mut line = Line::new(container, now);
    if version < ANNOTATIONS {
        line = line.without_annotations();
    }
    if version < crate::newer::FIRST {
        line = line.without_health();
    }
    if sizes {
        // One that is removed meanwhile takes nothing.
        let sizes = engine.container_sizes(container).unwrap_or_default();
        (line.size_rw, line.size_root_fs) = (Some(sizes.written), Some(sizes.root));
    }
    line
}

/// The first version whose lists have annotations.
const ANNOTATIONS: Version = Version(46);

/// The filter `until` of prunes: a time, or a duration before now.
///
/// # Errors
/// 400 for what is neither.
pub fn until(filters: &Filters) -> Result<Option<Timestamp>, Failure> {
    let [text] = filters.of("until") else {
        return if filters.has("until") { Err(Failure::bad("more than one until filter specified")) } else { Ok(None) };
    };
    moment(text).map(Some)
}

/// A time, or a duration before now.
///
/// # Errors
/// 400 for what is neither.
pub fn moment(text: &str) -> Result<Timestamp, Failure> {
    let query = crate::query::Query::parse(&format!("until={text}"));
    if let Ok(Some(time)) = super::logs::instant(&query, "until") {
        return Ok(time);
    }
    let invalid = || Failure::bad(format!("invalid filter 'until={text}': neither a time nor a duration such as 24h"));
    let before = docker_json::go_duration(text).ok_or_else(invalid)?;
    let before = jiff::SignedDuration::from_nanos(before);
    Timestamp::now().checked_sub(before).map_err(|_| invalid())
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
            let name = wanted.trim_start_matches('/');
            let found = containers.iter().find(|c| c.name == name || c.id.starts_with(wanted.as_str()));
            let found = found.ok_or_else(|| Failure::missing(format!("No such container: {wanted}")))?;
            Ok(Some(found.created_at.clone()))
        };
        Ok(Bounds { before: time("before")?, since: time("since")? })
    }
}

fn keep(container: &Container, filters: &Filters, bounds: &Bounds) -> bool {
    use docker_json::pattern::found;
    let settings = &container.settings;
    let networks = || docker_json::container::network_names(container);
    bounds.before.as_ref().is_none_or(|time| container.created_at < *time)
        && bounds.since.as_ref().is_none_or(|time| container.created_at > *time)
        && filters.labels(&settings.labels)
        && filters.annotations(&settings.annotations)
        && filters.any("id", |id| container.id.starts_with(id))
        && filters.any("name", |name| found(name, &container.name) || found(name, &format!("/{}", container.name)))
        && filters.any("status", |name| name == container.status.name())
        && filters
            .any("exited", |code| container.status == Status::Exited && code.parse() == Ok(container.run.exit_code))
        && filters.any("ancestor", |image| is_image(container, image))
        && filters.any("network", |name| networks().iter().any(|network| network == name))
        && filters.any("health", |word| word == docker_json::container::health_word(container))
        && filters.any("is-task", |word| word == "false")
        && filters.any("volume", |place| {
            settings.mounts.iter().any(|mount| {
                let source = match &mount.source {
                    MountSource::Bind { path, .. } => path == place,
                    MountSource::Volume(volume) => volume.name == place,
                    _ => false,
                };
                source || mount.target == place
            })
        })
        && ports(container, filters)
}

fn ports(container: &Container, filters: &Filters) -> bool {
    let settings = &container.settings;
    let port = |wanted: &str, port: u16, protocol: &str| {
        let (range, kind) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
        kind == protocol && (first..=last).contains(&port)
    };
    let published = |wanted: &str| settings.ports.iter().any(|p| port(wanted, p.container_port, &p.protocol));
    let exposed = |wanted: &str| {
        settings.exposed_ports.iter().any(|text| {
            let text = docker_json::with_protocol(text);
            let (number, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
            number.parse().is_ok_and(|number| port(wanted, number, protocol))
        })
    };
    filters.any("publish", published) && filters.any("expose", |wanted| published(wanted) || exposed(wanted))
}

fn is_image(container: &Container, wanted: &str) -> bool {
    let settings = &container.settings;
    let bare = settings.image_id.trim_start_matches("sha256:");
    let wanted_bare = wanted.trim_start_matches("sha256:");
    let canonical = |text: &str| oci::reference::Reference::parse(text).ok().map(|name| name.or_latest().familiar());
    settings.image_name == wanted
        || settings.image_id == wanted
        || (wanted_bare.len() >= 4 && bare.starts_with(wanted_bare))
        || canonical(wanted).is_some_and(|name| Some(name) == canonical(&settings.image_name))
}
