//! The rows of the database that belong to secrets and configurations.

use super::{Secret, SecretKind};
use crate::database::Sql;
use crate::error::{Context, Error, Kind, Result};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

const COLUMNS: &str = "SELECT id, kind, name, created_at, labels, length(content) FROM secret";

type Raw = (Secret, String);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let kind: String = row.get(1)?;
    let secret = Secret {
        id: row.get(0)?,
        kind: if kind == SecretKind::Config.name() { SecretKind::Config } else { SecretKind::Secret },
        name: row.get(2)?,
        created_at: row.get(3)?,
        labels: Default::default(),
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        containers: Vec::new(),
    };
    Ok((secret, row.get(4)?))
}

fn complete((mut secret, labels): Raw) -> Result<Secret> {
    let what = || format!("the record of {} {} cannot be read", secret.kind.name(), secret.name);
    secret.labels = serde_json::from_str(&labels).kind(Kind::Corrupt, what)?;
    Ok(secret)
}

/// All of a kind by name.
pub(crate) fn all(connection: &Connection, kind: SecretKind) -> Result<Vec<Secret>> {
    let work = || {
        let mut statement = connection.prepare(&format!("{COLUMNS} WHERE kind = ?1 ORDER BY name"))?;
        statement.query_map([kind.name()], raw)?.collect::<rusqlite::Result<Vec<Raw>>>()
    };
    work().sql("list secrets")?.into_iter().map(complete).collect()
}

/// The one of that name.
pub(crate) fn named(connection: &Connection, kind: SecretKind, name: &str) -> Result<Option<Secret>> {
    connection
        .prepare(&format!("{COLUMNS} WHERE kind = ?1 AND name = ?2"))
        .and_then(|mut statement| statement.query_row([kind.name(), name], raw).optional())
        .sql("look up a secret")?
        .map(complete)
        .transpose()
}

/// The one of that name, identifier, or beginning of an identifier.
pub(crate) fn find(connection: &Connection, kind: SecretKind, wanted: &str) -> Result<Secret> {
    if let Some(found) = named(connection, kind, wanted)? {
        return Ok(found);
    }
    let mut fitting: Vec<Secret> = all(connection, kind)?;
    fitting.retain(|secret| !wanted.is_empty() && secret.id.starts_with(wanted));
    match fitting.pop() {
        Some(found) if fitting.is_empty() => Ok(found),
        Some(_) => {
            Err(Error::new(Kind::InvalidArgument, format!("{} {wanted} is ambiguous: give more digits", kind.name())))
        }
        None => Err(Error::new(Kind::NotFound, format!("no such {}: {wanted}", kind.name()))),
    }
}

/// The content.
pub(crate) fn content(connection: &Connection, id: &str) -> Result<Vec<u8>> {
    let found = connection
        .query_row("SELECT content FROM secret WHERE id = ?1", [id], |row| row.get(0))
        .optional()
        .sql("read a secret")?;
    found.ok_or_else(|| Error::new(Kind::NotFound, format!("no such secret: {id}")))
}

/// Adds one.
pub(crate) fn insert(transaction: &Transaction<'_>, secret: &Secret, content: &[u8]) -> Result<()> {
    let labels = serde_json::to_string(&secret.labels).internal(|| "cannot write the labels".into())?;
    transaction
        .execute(
            "INSERT INTO secret (id, kind, name, created_at, labels, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![secret.id, secret.kind.name(), secret.name, secret.created_at, labels, content],
        )
        .sql("record the secret")?;
    Ok(())
}

/// Removes one that nobody uses, and overwrites what it held: it must not stay in the file's free pages.
pub(crate) fn delete(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    transaction.execute_batch("PRAGMA secure_delete = ON").sql("forget the secret")?;
    transaction.execute("DELETE FROM secret WHERE id = ?1", [id]).sql("forget the secret")?;
    Ok(())
}

/// Notes that a container uses one.
pub(crate) fn add_use(transaction: &Transaction<'_>, secret: &str, container: &str) -> Result<()> {
    let done = transaction
        .execute(
            "INSERT INTO secret_use SELECT id, ?2 FROM secret WHERE id = ?1 ON CONFLICT DO NOTHING",
            [secret, container],
        )
        .sql("record the use of a secret")?;
    let again = || users(transaction, secret).is_ok_and(|users| users.iter().any(|user| user == container));
    // Removed between its look-up and now.
    if done == 0 && !again() {
        return Err(Error::new(Kind::NotFound, format!("no such secret: {secret}")));
    }
    Ok(())
}

/// Identifiers of the containers that use one.
pub(crate) fn users(connection: &Connection, id: &str) -> Result<Vec<String>> {
    let work = || {
        let mut statement =
            connection.prepare("SELECT container FROM secret_use WHERE secret = ?1 ORDER BY container")?;
        statement.query_map([id], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    work().sql("look up a secret's containers")
}
