//! Secrets and configurations: small documents that are kept apart from images and volumes and given to containers as files.
//!
//! The content is in the database, whose file only its owner can read. A container remembers which it uses and as what; when
//! it starts, each becomes a file below its run directory (a tmpfs), with the owner and mode that were asked for, bound
//! read-only to its target. So neither an image made of the container nor a look at its configuration shows the content.
//! One that a container uses cannot be removed: the container could not start again.
//!
//! What a kill leaves: nothing of its own. The files go with the container's run directory.

mod place;
pub(crate) mod table;

pub(crate) use place::targets;

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most that one may hold, in bytes: Docker's and Podman's limit for secrets.
pub const LARGEST: usize = 500 << 10;

/// What a document is for. The two are kept alike and have names of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// Keys, passwords. Shown to nobody.
    #[default]
    Secret,
    /// Configuration files. Shown by `inspect`.
    Config,
}

impl SecretKind {
    /// The word for it, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            SecretKind::Secret => "secret",
            SecretKind::Config => "config",
        }
    }
}

/// One to be made.
#[derive(Clone, Debug, Default)]
pub struct NewSecret {
    /// What it is for.
    pub kind: SecretKind,
    /// Its name: letters, digits, `_`, `.` and `-`, at most 64 of them.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The content, as it is.
    pub content: Vec<u8>,
    /// Takes the place of one of that name that no container uses.
    pub replace: bool,
}

/// One without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// 25 letters and digits, as swarm's identifiers have.
    pub id: String,
    /// What it is for.
    pub kind: SecretKind,
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Bytes of content.
    pub size: u64,
    /// Identifiers of the containers that use it.
    pub containers: Vec<String>,
}

/// A secret or configuration in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretUse {
    /// What it is for.
    pub kind: SecretKind,
    /// Its name, or the beginning of its identifier.
    pub name: String,
    /// Its identifier; found by the engine.
    pub id: String,
    /// As what the container gets it.
    pub target: SecretTarget,
}

/// As what a container gets a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum SecretTarget {
    /// A file.
    File {
        /// Where: absolute, or below `/run/secrets` (secrets) or `/` (configurations). Empty: by its name there.
        path: String,
        /// Its owner, as the container numbers users.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its mode.
        mode: u32,
    },
    /// A variable of the environment.
    Environment {
        /// Its name. Empty: that of the secret.
        variable: String,
    },
}

impl Default for SecretTarget {
    fn default() -> SecretTarget {
        SecretTarget::File { path: String::new(), uid: 0, gid: 0, mode: 0o444 }
    }
}

impl Engine {
    /// Makes a secret.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a bad name or content that is empty or too large; [`Kind::Conflict`] for a name that is
    /// taken.
    pub fn create_secret(&self, new: &NewSecret) -> Result<Secret> {
        self.put_right();
        check(new)?;
        let row = Secret {
            id: identifier()?,
            kind: new.kind,
            name: new.name.clone(),
            created_at: crate::clock::now(),
            labels: new.labels.clone(),
            size: new.content.len() as u64,
            containers: Vec::new(),
        };
        self.database()?.write(|t| {
            if let Some(old) = table::named(t, new.kind, &new.name)? {
                let users = table::users(t, &old.id)?;
                if !new.replace {
                    let (kind, name) = (new.kind.name(), &new.name);
                    return Err(Error::new(Kind::Conflict, format!("{kind} {name} already exists")));
                }
                unused(&old, &users)?;
                table::delete(t, &old.id)?;
            }
            table::insert(t, &row, &new.content)
        })?;
        Ok(row)
    }

    /// All of a kind, by name.
    pub fn secrets(&self, kind: SecretKind) -> Result<Vec<Secret>> {
        let database = self.database()?;
        table::all(database.read(), kind)
    }

    /// The one of that name, identifier, or unambiguous beginning of an identifier.
    pub fn secret(&self, kind: SecretKind, wanted: &str) -> Result<Secret> {
        let database = self.database()?;
        let mut found = table::find(database.read(), kind, wanted)?;
        found.containers = table::users(database.read(), &found.id)?;
        Ok(found)
    }

    /// The content of one.
    pub fn secret_content(&self, kind: SecretKind, wanted: &str) -> Result<Vec<u8>> {
        let database = self.database()?;
        let found = table::find(database.read(), kind, wanted)?;
        table::content(database.read(), &found.id)
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`Kind::Conflict`] while a container uses it.
    pub fn remove_secret(&self, kind: SecretKind, wanted: &str) -> Result<()> {
        self.put_right();
        self.database()?.write(|t| {
            let found = table::find(t, kind, wanted)?;
            unused(&found, &table::users(t, &found.id)?)?;
            table::delete(t, &found.id)
        })
    }

    /// Finds the secrets that were asked for, and what they are in the container.
    pub(crate) fn settle_secrets(&self, asked: &[SecretUse]) -> Result<Vec<SecretUse>> {
        let mut settled: Vec<SecretUse> = Vec::new();
        for one in asked {
            let found = self.secret(one.kind, &one.name)?;
            let target = place::settle(one.kind, &found.name, &one.target)?;
            if settled.iter().any(|other| place::same(&other.target, &target)) {
                let message = format!("{} {}: another one has the same target", one.kind.name(), found.name);
                return Err(Error::new(Kind::InvalidArgument, message));
            }
            settled.push(SecretUse { kind: one.kind, name: found.name, id: found.id, target });
        }
        Ok(settled)
    }
}

fn check(new: &NewSecret) -> Result<()> {
    let invalid = |message: String| Err(Error::new(Kind::InvalidArgument, message));
    let kind = new.kind.name();
    let letters = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    let ends = |name: &str| name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if new.name.len() > 64 || !letters(&new.name) || !ends(&new.name) {
        return invalid(format!(
            "invalid {kind} name {:?}: only 64 [a-zA-Z0-9_.-] characters are allowed, and the first is no dash or dot",
            new.name
        ));
    }
    if new.content.is_empty() || new.content.len() > LARGEST {
        return invalid(format!("{kind} data must be larger than 0 and at most {LARGEST} bytes"));
    }
    Ok(())
}

fn unused(found: &Secret, users: &[String]) -> Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let (kind, name) = (found.kind.name(), &found.name);
    let short: Vec<&str> = users.iter().map(|id| id.get(..12).unwrap_or(id)).collect();
    let message = format!("{kind} '{name}' is in use by the following container: {}", short.join(", "));
    Err(Error::new(Kind::Conflict, message).hint("remove the container first"))
}

/// Swarm's form, which tools expect: 25 digits and small letters.
fn identifier() -> Result<String> {
    Ok(crate::names::identifier()?.chars().take(25).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, content: &[u8]) -> NewSecret {
        NewSecret { name: name.into(), content: content.into(), ..NewSecret::default() }
    }

    #[test]
    fn names_and_sizes() {
        for (name, content) in [("", &b"x"[..]), ("-a", b"x"), ("a/b", b"x"), ("../x", b"x"), ("a\n", b"x"), ("a", b"")]
        {
            assert_eq!(check(&new(name, content)).unwrap_err().kind(), Kind::InvalidArgument, "{name:?}");
        }
        assert!(check(&new("a", &vec![0; LARGEST + 1])).is_err());
        assert!(check(&new("db_password.1-x", &vec![0; LARGEST])).is_ok());
    }
}
