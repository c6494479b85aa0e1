//! Lists of many containers: what a line shows, and nothing else.
//!
//! A container's settings are some kilobytes of JSON. What a line needs of them is in the table `container_line`, which triggers
//! keep, in the order of lists: a list reads a few hundred bytes for each container, one after the other, and parses nothing
//! else. Networks come by one query for all.

use super::options::{Mount, NetworkMode, PublishedPort, WrittenPorts};
use super::record::{Container, Settings};
use super::table::Entry;
use crate::database::Sql;
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use crate::networks::{Endpoint, NetworkRequest};
use rusqlite::Connection;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// How much of each container a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Without networks and addresses.
    NoNetworks,
    /// With them.
    Networks,
}

impl Engine {
    /// Containers as lines of a list, the newest first.
    ///
    /// Of their [`Settings`] only these are filled: image, entry point, command, host name, labels, mounts, the kind of network
    /// and the first one asked for, ports, the test of the health check, annotations, and the front end's `Owner`.
    ///
    /// # Errors
    /// When the database or the state of a container that runs cannot be read.
    pub fn lines(&self, detail: Detail) -> Result<Vec<Container>> {
        let mut lines = Vec::new();
        self.each_line(detail, |line| lines.push(line))?;
        Ok(lines)
    }

    /// The same one by one, for who keeps little of each: thousands of whole ones take megabytes, and longer to be laid out than
    /// to be read.
    ///
    /// # Errors
    /// As of [`Self::lines`].
    pub fn each_line(&self, detail: Detail, each: impl FnMut(Container)) -> Result<()> {
        let seen = self.put_right_and_see();
        let rows = read(self.database()?.read(), detail)?;
        self.observe_each(rows.entries(), &seen, each)
    }
}

const LINES: &str =
    "SELECT container, name, created_at, run, line FROM container_line ORDER BY created_at DESC, container";

const ENDPOINTS: &str =
    "SELECT e.container, coalesce(n.name, json_extract(e.request, '$.network')), e.network, e.request, e.place
    FROM endpoint e LEFT JOIN network n ON n.id = e.network ORDER BY e.container, e.position";

const PUBLISHED: &str = "SELECT container, json_extract(ports, '$.chosen') FROM publication";

/// The array that `json_extract` makes of several paths, in their order. A record of an older version lacks what came later.
#[derive(Deserialize)]
struct Line {
    image_name: Option<String>,
    image_id: Option<String>,
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    hostname: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    mounts: Option<Vec<Mount>>,
    network: Option<NetworkMode>,
    first_network: Option<String>,
    ports: Option<WrittenPorts>,
    exposed_ports: Option<Vec<String>>,
    health_test: Option<Vec<String>>,
    owner: Option<serde_json::Value>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Line> for Settings {
    fn from(line: Line) -> Settings {
        let first = |network| vec![NetworkRequest { network, ..NetworkRequest::default() }];
        Settings {
            image_name: line.image_name.unwrap_or_default(),
            image_id: line.image_id.unwrap_or_default(),
            entrypoint: line.entrypoint.unwrap_or_default(),
            command: line.command.unwrap_or_default(),
            hostname: line.hostname.unwrap_or_default(),
            labels: line.labels.unwrap_or_default(),
            mounts: line.mounts.unwrap_or_default(),
            network: line.network.unwrap_or_default(),
            networks: line.first_network.map(first).unwrap_or_default(),
            ports: line.ports.unwrap_or_default().0,
            exposed_ports: line.exposed_ports.unwrap_or_default(),
            health: line.health_test.map(|test| oci::image::Healthcheck { test, ..Default::default() }),
            annotations: line.annotations.unwrap_or_default(),
            front_end: line.owner.map_or(serde_json::Value::Null, |owner| serde_json::json!({ "Owner": owner })),
            ..Settings::default()
        }
    }
}

/// What the database says of all containers, its JSON not looked into yet.
struct Rows {
    lines: Vec<Row>,
    endpoints: HashMap<String, Vec<Endpoint>>,
    published: HashMap<String, Vec<PublishedPort>>,
}

/// A row of `container_line`.
struct Row {
    id: String,
    name: String,
    created_at: String,
    run: Option<String>,
    line: String,
}

/// Reads everything, in three queries however many containers there are.
fn read(connection: &Connection, detail: Detail) -> Result<Rows> {
    // Before the containers: one that starts in between shows what was asked for instead of what it got, for this once.
    let published = published(connection)?;
    let endpoints = match detail {
        Detail::NoNetworks => HashMap::new(),
        Detail::Networks => endpoints(connection)?,
    };
    let mut statement = connection.prepare(LINES).sql("list containers")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Row { id: row.get(0)?, name: row.get(1)?, created_at: row.get(2)?, run: row.get(3)?, line: row.get(4)? })
    };
    let rows = statement.query_map([], row).sql("list containers")?;
    Ok(Rows { lines: rows.collect::<rusqlite::Result<_>>().sql("list containers")?, endpoints, published })
}

impl Rows {
    fn entries(self) -> impl Iterator<Item = Result<Entry>> {
        let Rows { lines, mut endpoints, mut published } = self;
        lines.into_iter().map(move |row| {
            let corrupt = || format!("the record of container {} cannot be read", row.id);
            let line: Line = serde_json::from_str(&row.line).kind(Kind::Corrupt, corrupt)?;
            let run = row.run.as_deref().map(serde_json::from_str).transpose().kind(Kind::Corrupt, corrupt)?;
            Ok(Entry {
                name: row.name,
                created_at: row.created_at,
                settings: line.into(),
                run,
                endpoints: endpoints.remove(&row.id).unwrap_or_default(),
                published: published.remove(&row.id),
                id: row.id,
            })
        })
    }
}

/// What containers that run publish, by their identifiers.
fn published(connection: &Connection) -> Result<HashMap<String, Vec<PublishedPort>>> {
    let mut statement = connection.prepare(PUBLISHED).sql("list published ports")?;
    let mut rows = statement.query([]).sql("list published ports")?;
    let mut published = HashMap::new();
    while let Some(row) = rows.next().sql("list published ports")? {
        let id: String = row.get(0).sql("list published ports")?;
        let ports: Option<String> = row.get(1).sql("list published ports")?;
        if let Some(ports) = ports {
            let corrupt = || format!("the published ports of container {id} cannot be read");
            let ports: WrittenPorts = serde_json::from_str(&ports).kind(Kind::Corrupt, corrupt)?;
            published.insert(id, ports.0);
        }
    }
    Ok(published)
}

/// The networks that containers are on, by their identifiers.
fn endpoints(connection: &Connection) -> Result<HashMap<String, Vec<Endpoint>>> {
    let mut statement = connection.prepare(ENDPOINTS).sql("list the containers' networks")?;
    let mut rows = statement.query([]).sql("list the containers' networks")?;
    let mut endpoints: HashMap<String, Vec<Endpoint>> = HashMap::new();
    while let Some(row) = rows.next().sql("list the containers' networks")? {
        let work = || {
            let text: (String, Option<String>) = (row.get(3)?, row.get(4)?);
            rusqlite::Result::Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, text))
        };
        let (id, network, network_id, (request, place)) = work().sql("list the containers' networks")?;
        let corrupt = || format!("the record of container {id} cannot be read");
        let endpoint = Endpoint {
            network,
            network_id,
            request: serde_json::from_str(&request).kind(Kind::Corrupt, corrupt)?,
            place: place.map(|place| serde_json::from_str(&place)).transpose().kind(Kind::Corrupt, corrupt)?,
        };
        endpoints.entry(id).or_default().push(endpoint);
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::Run;
    use crate::containers::table;
    use crate::database::Database;

    fn entry(number: usize) -> Entry {
        let settings = Settings {
            image_name: format!("image{number}:1"),
            image_id: format!("sha256:{number:064x}"),
            command: vec!["sleep".into(), "1000".into()],
            env: vec!["PATH=/bin".into(); 200],
            labels: [("a".to_owned(), number.to_string())].into(),
            annotations: (number == 2).then(|| ("b".to_owned(), "c".to_owned())).into_iter().collect(),
            ports: vec![PublishedPort { container_port: 80, protocol: "tcp".into(), ..Default::default() }],
            health: (number == 1)
                .then(|| oci::image::Healthcheck { test: vec!["CMD".into(), "true".into()], ..Default::default() }),
            ..Settings::default()
        };
        Entry {
            id: format!("{number:064x}"),
            name: format!("c{number}"),
            created_at: format!("2026-01-01T00:00:{:02}.{number:09}Z", number % 60),
            settings,
            run: None,
            endpoints: Vec::new(),
            published: None,
        }
    }

    fn filled(number: usize) -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(&directory.path().join("x.db")).unwrap();
        database.write(|t| (0..number).try_for_each(|each| table::insert(t, &entry(each)))).unwrap();
        (directory, database)
    }

    #[test]
    fn a_list_needs_no_sorting_and_no_settings() {
        let (_directory, database) = filled(1);
        let mut statement = database.read().prepare(&format!("EXPLAIN QUERY PLAN {LINES}")).unwrap();
        let plan = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        let plan = plan.collect::<rusqlite::Result<Vec<_>>>().unwrap();
        assert_eq!(plan, ["SCAN container_line"]);
    }

    #[test]
    fn a_line_has_what_the_whole_record_has() {
        let (_directory, mut database) = filled(3);
        let run = Run { exit_code: 3, started_at: "2026-01-01T00:00:01Z".into(), ..Run::default() };
        table::set_run(&mut database, &entry(2).id, &run).unwrap();
        table::change_settings(&mut database, &entry(1).id, |settings| {
            settings.image_name = "changed".into();
            Ok(())
        })
        .unwrap();
        let entries = |database: &Database, detail| {
            read(database.read(), detail).unwrap().entries().collect::<Result<Vec<_>>>().unwrap()
        };
        let (lines, all) = (entries(&database, Detail::Networks), table::all(database.read()).unwrap());
        assert_eq!(lines.len(), 3);
        for (line, whole) in lines.iter().zip(&all) {
            assert_eq!((&line.id, &line.name, &line.created_at), (&whole.id, &whole.name, &whole.created_at));
            assert_eq!(line.run, whole.run);
            let expected = Settings { env: Vec::new(), ..whole.settings.clone() };
            assert_eq!(line.settings, expected);
        }
        assert_eq!(lines[0].run, Some(run));
        assert_eq!(lines[1].settings.image_name, "changed");
        table::rename(&mut database, &entry(0).id, "renamed").unwrap();
        table::delete(&mut database, &entry(1).id).unwrap();
        let lines = entries(&database, Detail::NoNetworks);
        assert_eq!(lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(), ["c2", "renamed"]);
    }
}
