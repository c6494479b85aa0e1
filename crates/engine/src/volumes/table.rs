//! The rows of the database that belong to volumes.

use crate::database::Sql;
use crate::error::{Context, Kind, Result};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;

/// One row of `volume`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub name: String,
    pub anonymous: bool,
    pub created_at: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

const COLUMNS: &str = "SELECT name, anonymous, created_at, options, labels FROM volume";

type Raw = (String, bool, String, String, String);

fn raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn complete((name, anonymous, created_at, options, labels): Raw) -> Result<Row> {
    let what = || format!("the record of volume {name} cannot be read");
    let options = serde_json::from_str(&options).kind(Kind::Corrupt, what)?;
    let labels = serde_json::from_str(&labels).kind(Kind::Corrupt, what)?;
    Ok(Row { name, anonymous, created_at, options, labels })
}

/// All volumes by name.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Row>> {
    let work = || {
        let mut statement = connection.prepare(&format!("{COLUMNS} ORDER BY name"))?;
        statement.query_map([], raw)?.collect::<rusqlite::Result<Vec<Raw>>>()
    };
    work().sql("list volumes")?.into_iter().map(complete).collect()
}

/// The volume of that name.
pub(crate) fn find(connection: &Connection, name: &str) -> Result<Option<Row>> {
    connection
        .prepare(&format!("{COLUMNS} WHERE name = ?1"))
        .and_then(|mut statement| statement.query_row([name], raw).optional())
        .sql("look up a volume")?
        .map(complete)
        .transpose()
}

/// Adds a volume; one that exists stays as it is.
pub(crate) fn insert(transaction: &Transaction<'_>, row: &Row) -> Result<()> {
    let text = |map: &BTreeMap<String, String>| {
        serde_json::to_string(map).internal(|| "cannot write the volume's record".into())
    };
    transaction
        .execute(
            "INSERT INTO volume VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            params![row.name, row.created_at, row.anonymous, text(&row.options)?, text(&row.labels)?],
        )
        .sql("record the volume")?;
    Ok(())
}

/// Forgets a volume that nobody uses.
pub(crate) fn delete(transaction: &Transaction<'_>, name: &str) -> Result<()> {
    transaction.execute("DELETE FROM volume WHERE name = ?1", [name]).sql("forget the volume")?;
    Ok(())
}

/// Identifiers of the containers that use a volume.
pub(crate) fn users(connection: &Connection, name: &str) -> Result<Vec<String>> {
    let work = || {
        let mut statement =
            connection.prepare("SELECT container FROM volume_use WHERE volume = ?1 ORDER BY container")?;
        statement.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    work().sql("look up a volume's containers")
}

/// Notes that a container uses a volume, which must exist.
pub(crate) fn add_use(transaction: &Transaction<'_>, volume: &str, container: &str) -> Result<()> {
    transaction
        .execute("INSERT INTO volume_use VALUES (?1, ?2) ON CONFLICT DO NOTHING", [volume, container])
        .sql("record the use of a volume")?;
    Ok(())
}

/// Notes that a container does not use a volume any more.
pub(crate) fn remove_use(transaction: &Transaction<'_>, volume: &str, container: &str) -> Result<()> {
    transaction
        .execute("DELETE FROM volume_use WHERE volume = ?1 AND container = ?2", [volume, container])
        .sql("forget the use of a volume")?;
    Ok(())
}

/// Notes that a container does not mount an image any more.
pub(crate) fn remove_image_mount(transaction: &Transaction<'_>, image: &str, container: &str) -> Result<()> {
    transaction
        .execute("DELETE FROM image_mount WHERE image = ?1 AND container = ?2", [image, container])
        .sql("forget the use of an image")?;
    Ok(())
}

/// The anonymous volumes that only this container uses.
pub(crate) fn only_of(connection: &Connection, container: &str) -> Result<Vec<String>> {
    let work = || {
        let mut statement = connection.prepare(
            "SELECT u.volume FROM volume_use u JOIN volume v ON v.name = u.volume
             WHERE u.container = ?1 AND v.anonymous
             AND NOT EXISTS (SELECT 1 FROM volume_use o WHERE o.volume = u.volume AND o.container <> ?1)
             ORDER BY u.volume",
        )?;
        statement.query_map([container], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    work().sql("look up a container's volumes")
}

/// Notes that a container mounts an image.
pub(crate) fn add_image_mount(transaction: &Transaction<'_>, image: &str, container: &str) -> Result<()> {
    transaction
        .execute("INSERT INTO image_mount VALUES (?1, ?2) ON CONFLICT DO NOTHING", [image, container])
        .sql("record the use of an image")?;
    Ok(())
}
