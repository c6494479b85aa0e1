//! The rows of the database that belong to images.

use crate::database::Sql;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::Digest;
use oci::image::ImageConfig;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, HashMap};

/// An image with its names and layers.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub id: String,
    pub manifest: String,
    pub created: String,
    pub size: u64,
    /// Canonical names.
    pub names: Vec<String>,
    /// DiffIDs, lowest first.
    pub layers: Vec<String>,
    pub containers: usize,
    /// Labels of its configuration; not of images from before they were recorded.
    pub labels: Option<BTreeMap<String, String>>,
}

const COLUMNS: &str = "SELECT id, manifest, created, size, labels, (SELECT count(*) FROM container WHERE container.image = image.id) FROM image";

fn bare(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let labels = row.get_ref(4)?.as_str_or_null()?;
    Ok(Row {
        id: row.get(0)?,
        manifest: row.get(1)?,
        created: row.get(2)?,
        size: row.get::<_, i64>(3)?.cast_unsigned(),
        // What cannot be read is asked of the configuration.
        labels: labels.and_then(|labels| serde_json::from_str(labels).ok()),
        containers: row.get::<_, u32>(5)? as usize,
        names: Vec::new(),
        layers: Vec::new(),
    })
}

fn complete(connection: &Connection, mut row: Row) -> rusqlite::Result<Row> {
    let mut names = connection.prepare("SELECT name FROM image_name WHERE image = ?1 ORDER BY name")?;
    row.names = names.query_map([&row.id], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut layers = connection.prepare("SELECT diff_id FROM image_layer WHERE image = ?1 ORDER BY position")?;
    row.layers = layers.query_map([&row.id], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(row)
}

/// All images, by three queries however many there are.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Row>> {
    let work = || {
        let mut rows = without_layers(connection)?;
        let mut layers = by_image(connection, "SELECT image, diff_id FROM image_layer ORDER BY image, position")?;
        for row in &mut rows {
            row.layers = layers.remove(&row.id).unwrap_or_default();
        }
        rusqlite::Result::Ok(rows)
    };
    work().sql("list images")
}

/// All images with their names, as lists show them: without layers.
pub(crate) fn lines(connection: &Connection) -> Result<Vec<Row>> {
    without_layers(connection).sql("list images")
}

fn without_layers(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(COLUMNS)?;
    let mut rows = statement.query_map([], bare)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut names = by_image(connection, "SELECT image, name FROM image_name ORDER BY name")?;
    for row in &mut rows {
        row.names = names.remove(&row.id).unwrap_or_default();
    }
    Ok(rows)
}

/// The texts in the second column by the images in the first.
fn by_image(connection: &Connection, query: &str) -> rusqlite::Result<HashMap<String, Vec<String>>> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    while let Some(row) = rows.next()? {
        found.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(found)
}

/// How many images there are.
pub(crate) fn count(connection: &Connection) -> Result<usize> {
    let count: u32 = connection.query_row("SELECT count(*) FROM image", [], |row| row.get(0)).sql("count images")?;
    Ok(count as usize)
}

/// Notes the labels of images from before they were recorded.
pub(crate) fn set_labels(transaction: &Transaction<'_>, id: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    transaction
        .execute("UPDATE image SET labels = ?2 WHERE id = ?1", [id, &text(labels)?])
        .sql("record the image's labels")?;
    Ok(())
}

fn text(labels: &BTreeMap<String, String>) -> Result<String> {
    serde_json::to_string(labels).internal(|| "cannot write the image's labels".into())
}

/// The image of a canonical name.
pub(crate) fn by_name(connection: &Connection, name: &str) -> Result<Option<Row>> {
    let work = || {
        let query = format!("{COLUMNS} WHERE id = (SELECT image FROM image_name WHERE name = ?1)");
        let row = connection.prepare(&query)?.query_row([name], bare).optional()?;
        row.map(|row| complete(connection, row)).transpose()
    };
    work().sql("look up an image")
}

/// The image of a whole identifier.
pub(crate) fn by_id(connection: &Connection, id: &str) -> Result<Option<Row>> {
    let work = || {
        let row = connection.prepare(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id], bare).optional()?;
        row.map(|row| complete(connection, row)).transpose()
    };
    work().sql("look up an image")
}

/// The image whose identifier begins so; more than one is an error.
pub(crate) fn by_prefix(connection: &Connection, hex: &str) -> Result<Option<Row>> {
    let low = format!("sha256:{hex}");
    let work = || {
        let query = format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map([&low], bare)?.collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().map(|row| complete(connection, row)).collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut rows = work().sql("look up an image")?;
    if rows.len() > 1 {
        return Err(Error::new(Kind::InvalidArgument, format!("image identifier {hex:?} is ambiguous"))
            .hint("give more digits"));
    }
    Ok(rows.pop())
}

/// Records an image; recording it again changes nothing.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    (id, manifest): (&Digest, &Digest),
    config: &ImageConfig,
    (size, layers): (u64, &[&Digest]),
) -> Result<()> {
    let labels = text(&config.config.labels)?;
    let id = id.to_string();
    let work = || {
        let new = transaction.execute(
            "INSERT INTO image (id, manifest, created, size, labels) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            params![id, manifest.to_string(), config.created, size.cast_signed(), labels],
        )?;
        if new == 1 {
            for (position, diff_id) in layers.iter().enumerate() {
                let layer = params![id, position as u32, diff_id.to_string()];
                transaction.execute("INSERT INTO image_layer VALUES (?1, ?2, ?3)", layer)?;
            }
        }
        Ok(())
    };
    work().sql("record the image")
}

/// Makes `name` mean the image; it may have meant another.
pub(crate) fn set_name(transaction: &Transaction<'_>, name: &str, id: &str) -> Result<()> {
    transaction
        .execute(
            "INSERT INTO image_name VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET image = excluded.image",
            [name, id],
        )
        .sql("record the image's name")?;
    Ok(())
}

/// Removes a name.
pub(crate) fn remove_name(transaction: &Transaction<'_>, name: &str) -> Result<()> {
    transaction.execute("DELETE FROM image_name WHERE name = ?1", [name]).sql("remove the image's name")?;
    Ok(())
}

/// Removes an image with its names.
pub(crate) fn delete(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    transaction.execute("DELETE FROM image WHERE id = ?1", [id]).sql("remove the image")?;
    Ok(())
}

/// Whether any image has the layer.
pub(crate) fn layer_in_use(connection: &Connection, diff_id: &str) -> Result<bool> {
    let count: i64 = connection
        .prepare("SELECT EXISTS (SELECT 1 FROM image_layer WHERE diff_id = ?1)")
        .and_then(|mut statement| statement.query_row([diff_id], |row| row.get(0)))
        .sql("look up a layer")?;
    Ok(count != 0)
}

/// Whether any image has this document as manifest or configuration.
pub(crate) fn blob_in_use(connection: &Connection, digest: &str) -> Result<bool> {
    let count: i64 = connection
        .query_row("SELECT EXISTS (SELECT 1 FROM image WHERE id = ?1 OR manifest = ?1)", [digest], |row| row.get(0))
        .sql("look up a blob")?;
    Ok(count != 0)
}

/// Makes another manifest the image's.
pub(crate) fn set_manifest(transaction: &Transaction<'_>, id: &str, manifest: &str) -> Result<()> {
    transaction
        .execute("UPDATE image SET manifest = ?2 WHERE id = ?1", [id, manifest])
        .sql("record the image's manifest")?;
    Ok(())
}

/// Images that have any of the layers.
pub(crate) fn with_layers(connection: &Connection, layers: &[oci::digest::Digest]) -> Result<Vec<Row>> {
    let work = || {
        let mut ids = std::collections::BTreeSet::new();
        let mut statement = connection.prepare("SELECT image FROM image_layer WHERE diff_id = ?1")?;
        for layer in layers {
            let found = statement.query_map([layer.to_string()], |row| row.get::<_, String>(0))?;
            ids.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        let mut one = connection.prepare(&format!("{COLUMNS} WHERE id = ?1"))?;
        let rows = ids.iter().map(|id| one.query_row([id], bare));
        rows.map(|row| complete(connection, row?)).collect::<rusqlite::Result<Vec<_>>>()
    };
    work().sql("look up the images of layers")
}

/// Identifiers of the containers made from an image, and of those that mount it.
pub(crate) fn containers_of(connection: &Connection, id: &str) -> Result<Vec<String>> {
    let work = || {
        let mut statement = connection.prepare(
            "SELECT id FROM container WHERE image = ?1
             OR id IN (SELECT container FROM image_mount WHERE image = ?1) ORDER BY created_at",
        )?;
        statement.query_map([id], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    work().sql("look up an image's containers")
}

/// Whether the image is known.
pub(crate) fn exists(connection: &Connection, id: &str) -> Result<bool> {
    let count: i64 = connection
        .query_row("SELECT EXISTS (SELECT 1 FROM image WHERE id = ?1)", [id], |row| row.get(0))
        .sql("look up an image")?;
    Ok(count != 0)
}
