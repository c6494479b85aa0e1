//! The rows of the database that belong to containers. Every function is one statement or one short transaction.

use super::options::{PublishedPort, RestartPolicy, WrittenPorts};
use super::record::{Run, Settings};
use crate::database::{Database, Sql};
use crate::error::{Context, Error, Kind, Result};
use crate::networks::Endpoint;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// One row of `container`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: String,
    pub name: String,
    pub created_at: String,
    pub settings: Settings,
    pub run: Option<Run>,
    /// The networks that it is on.
    pub endpoints: Vec<Endpoint>,
    /// What it publishes while it runs.
    pub published: Option<Vec<PublishedPort>>,
}

const COLUMNS: &str = "SELECT c.id, c.name, c.created_at, c.settings, c.run,
    (SELECT json_group_array(json_object('network', coalesce(n.name, json_extract(e.request, '$.network')),
        'network_id', e.network, 'request', json(e.request), 'place', json(e.place)))
        FROM (SELECT * FROM endpoint WHERE container = c.id ORDER BY position) e LEFT JOIN network n ON n.id = e.network),
    (SELECT json_extract(ports, '$.chosen') FROM publication WHERE container = c.id)
    FROM container c";

/// A row whose columns are still text: settings, run, networks, published ports.
type Raw = (Entry, String, Option<String>, String, Option<String>);

fn entry(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let entry = Entry {
        id: row.get(0)?,
        name: row.get(1)?,
        created_at: row.get(2)?,
        settings: Settings::default(),
        run: None,
        endpoints: Vec::new(),
        published: None,
    };
    Ok((entry, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn complete((mut entry, settings, run, endpoints, published): Raw) -> Result<Entry> {
    let what = || format!("the record of container {} cannot be read", entry.id);
    entry.settings = serde_json::from_str(&settings).kind(Kind::Corrupt, what)?;
    entry.run = run.map(|run| serde_json::from_str(&run)).transpose().kind(Kind::Corrupt, what)?;
    entry.endpoints = serde_json::from_str(&endpoints).kind(Kind::Corrupt, what)?;
    let published = published.map(|ports| serde_json::from_str::<WrittenPorts>(&ports));
    entry.published = published.transpose().kind(Kind::Corrupt, what)?.map(|ports| ports.0);
    Ok(entry)
}

/// All containers, the newest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Entry>> {
    let mut statement =
        connection.prepare(&format!("{COLUMNS} ORDER BY c.created_at DESC, c.id")).sql("list containers")?;
    let rows = statement.query_map([], entry).sql("list containers")?;
    rows.map(|row| complete(row.sql("list containers")?)).collect()
}

/// The container with this identifier, name, or unambiguous beginning of an identifier.
pub(crate) fn find(connection: &Connection, wanted: &str) -> Result<Entry> {
    let name = wanted.strip_prefix('/').unwrap_or(wanted);
    let exact = connection
        // Kept with the connection: to compile it takes longer than to run it.
        .prepare_cached(&format!("{COLUMNS} WHERE c.id = ?1 OR c.name = ?1"))
        .and_then(|mut statement| statement.query_row([name], entry).optional())
        .sql("look up a container")?;
    if let Some(row) = exact {
        return complete(row);
    }
    let missing = || Error::new(Kind::NotFound, format!("No such container: {wanted}"));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(missing());
    }
    // All identifiers with a prefix lie between it and it followed by a letter behind `f`.
    let mut statement = connection
        .prepare_cached(&format!("{COLUMNS} WHERE c.id >= ?1 AND c.id < ?1 || 'g' LIMIT 2"))
        .sql("look up a container")?;
    let mut rows = statement.query_map([name], entry).sql("look up a container")?;
    let first = rows.next().ok_or_else(missing)?.sql("look up a container")?;
    if rows.next().is_some() {
        return Err(Error::new(Kind::InvalidArgument, format!("Multiple IDs found with provided prefix: {wanted}"))
            .hint("give more digits, or the name"));
    }
    complete(first)
}

/// Adds a container; a name that is taken is a conflict.
pub(crate) fn insert(transaction: &Transaction<'_>, entry: &Entry) -> Result<()> {
    let settings = serde_json::to_string(&entry.settings).internal(|| "cannot write the container's record".into())?;
    let taken: Option<String> = transaction
        .query_row("SELECT id FROM container WHERE name = ?1", [&entry.name], |row| row.get(0))
        .optional()
        .sql("look up a container's name")?;
    if let Some(id) = taken {
        return Err(Error::new(
            Kind::Conflict,
            format!("Conflict. The container name \"/{}\" is already in use by container \"{id}\"", entry.name),
        )
        .hint("remove or rename that container, or choose another name"));
    }
    transaction
        .execute(
            "INSERT INTO container (id, name, image, created_at, auto_remove, settings) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![entry.id, entry.name, entry.settings.image_id, entry.created_at, entry.settings.auto_remove, settings],
        )
        .sql("record the container")?;
    entry.endpoints.iter().try_for_each(|endpoint| {
        crate::networks::table::add_endpoint(transaction, &entry.id, &endpoint.network_id, &endpoint.request)
    })
}

/// Notes what became of a run.
pub(crate) fn set_run(database: &mut Database, id: &str, run: &Run) -> Result<()> {
    let text = serde_json::to_string(run).internal(|| "cannot write the container's record".into())?;
    database.write(|t| {
        t.execute("UPDATE container SET run = ?2 WHERE id = ?1", params![id, text])
            .sql("record the container's run")?;
        if run.pid == 0 { crate::networks::table::release(t, id) } else { Ok(()) }
    })
}

/// From here on nothing can bring the container back: whoever finds it without an owner finishes its removal. `volumes`
/// says whether its anonymous volumes go too, which of a container that goes by itself they do.
pub(crate) fn mark_for_removal(database: &mut Database, id: &str, volumes: bool) -> Result<()> {
    let how = if volumes { WITH_VOLUMES } else { WITHOUT_VOLUMES };
    database.write(|t| {
        t.execute(
            "UPDATE container SET auto_remove = ?2 WHERE id = ?1 AND auto_remove <> ?3",
            params![id, how, WITH_VOLUMES],
        )
        .sql("mark the container for removal")?;
        Ok(())
    })
}

/// `container.auto_remove` of one that goes, with its anonymous volumes; what `--rm` asks for.
const WITH_VOLUMES: i64 = 1;
/// The same without them: what `rm` asks for.
const WITHOUT_VOLUMES: i64 = 2;

/// Whether the anonymous volumes go with the container.
pub(crate) fn volumes_go(connection: &Connection, id: &str) -> Result<bool> {
    connection
        .query_row("SELECT auto_remove = ?2 FROM container WHERE id = ?1", params![id, WITH_VOLUMES], |row| row.get(0))
        .optional()
        .sql("look up a container")
        .map(|goes| goes.unwrap_or(false))
}

/// Forgets a container, its address with it.
pub(crate) fn delete(database: &mut Database, id: &str) -> Result<()> {
    database.write(|t| {
        t.execute("DELETE FROM container WHERE id = ?1", [id]).sql("forget the container")?;
        Ok(())
    })
}

/// Whether the container goes when its run ends; `None` if it is not known.
pub(crate) fn goes_after_run(connection: &Connection, id: &str) -> Result<Option<bool>> {
    connection
        .query_row("SELECT auto_remove FROM container WHERE id = ?1", [id], |row| row.get(0))
        .optional()
        .sql("look up a container")
}

/// What its restart policy is now, without the rest of its settings.
pub(crate) fn restart_policy(connection: &Connection, id: &str) -> Result<RestartPolicy> {
    #[derive(serde::Deserialize)]
    struct Part {
        #[serde(default)]
        restart: RestartPolicy,
    }
    let settings: String = connection
        .query_row("SELECT settings FROM container WHERE id = ?1", [id], |row| row.get(0))
        .sql("look up a container's restart policy")?;
    serde_json::from_str(&settings).map(|part: Part| part.restart).internal(|| "cannot read a restart policy".into())
}

/// Gives the container another name.
pub(crate) fn rename(database: &mut Database, id: &str, name: &str) -> Result<()> {
    database.write(|t| {
        let taken: Option<String> = t
            .query_row("SELECT id FROM container WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .sql("look up a container's name")?;
        if taken.as_deref() == Some(id) {
            let text = format!("Renaming a container with the same name as its current name: {name}");
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        if let Some(owner) = taken {
            return Err(Error::new(
                Kind::Conflict,
                format!("Conflict. The container name \"/{name}\" is already in use by container \"{owner}\""),
            ));
        }
        t.execute("UPDATE container SET name = ?2 WHERE id = ?1", [id, name]).sql("rename the container")?;
        Ok(())
    })
}

/// Notes that a run has begun. A run that has ended since keeps what its end noted.
pub(crate) fn set_started(database: &mut Database, id: &str, run: &Run) -> Result<()> {
    let text = serde_json::to_string(run).internal(|| "cannot write the container's record".into())?;
    database.write(|t| {
        t.execute(
            "UPDATE container SET run = ?2 WHERE id = ?1 AND (run IS NULL OR json_extract(run, '$.started_at') < ?3)",
            params![id, text, run.started_at],
        )
        .sql("record the container's start")?;
        Ok(())
    })
}

/// Gives a container's addresses back.
pub(crate) fn release_addresses(database: &mut Database, id: &str) -> Result<()> {
    database.write(|t| crate::networks::table::release(t, id))
}

/// Changes what is recorded of a container's configuration.
pub(crate) fn change_settings(
    database: &mut Database,
    id: &str,
    change: impl FnOnce(&mut Settings) -> Result<()>,
) -> Result<()> {
    database.write(|t| change_settings_in(t, id, change))
}

/// The same within a transaction.
pub(crate) fn change_settings_in(
    t: &Transaction<'_>,
    id: &str,
    change: impl FnOnce(&mut Settings) -> Result<()>,
) -> Result<()> {
    let failed = || format!("the record of container {id} cannot be read");
    let text: Option<String> = t
        .query_row("SELECT settings FROM container WHERE id = ?1", [id], |row| row.get(0))
        .optional()
        .sql("look up a container")?;
    let text = text.ok_or_else(|| Error::new(Kind::NotFound, format!("No such container: {id}")))?;
    let mut settings: Settings = serde_json::from_str(&text).kind(Kind::Corrupt, failed)?;
    change(&mut settings)?;
    let text = serde_json::to_string(&settings).internal(|| "cannot write the container's record".into())?;
    t.execute("UPDATE container SET settings = ?2 WHERE id = ?1", [id, &text]).sql("change the container's record")?;
    Ok(())
}
