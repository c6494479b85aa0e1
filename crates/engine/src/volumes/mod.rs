//! Volumes: data that outlives the containers that use it.
//!
//! A volume is a row, and a directory `<data>/volumes/<name>/_data` unless its options say that the data are elsewhere.
//! Containers use it by a row of `volume_use`, made and gone with the container's own; a volume in use cannot be removed.
//!
//! ```text
//!               create, run -v            fill: the image's content, once, while empty
//!   (absent) ───────────────▶ row, empty ───────────────────────────────────────────▶ row, data
//!      ▲                                                                                  │
//!      └───────────────── rm, prune, rm -v, the end of a --rm container ──────────────────┘
//! ```
//!
//! What a kill leaves: whoever removes or fills a volume holds `<data>/volumes/.pending/<name>` (module `pending`), made
//! before and gone after. One that nobody holds is finished by the next sweep: the directory of a volume without a row
//! goes, content that was copied completely is moved into place, content that was not goes.
//!
//! Lock order: a container's lock, then a volume's (several by name), then the database.

mod address;
mod backup;
mod carry;
mod fill;
mod limited;
mod mounts;
mod options;
mod parts;
mod pending;
pub(crate) mod table;

pub(crate) use address::resolve as resolve_addresses;
pub(crate) use carry::Carried;
pub(crate) use mounts::Sources;
pub(crate) use options::{LIMITED, Source};
pub(crate) use pending::Held;

use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use table::Row;

/// What a new volume shall be.
#[derive(Clone, Debug, Default)]
pub struct NewVolume {
    /// Its name; absent or empty for an anonymous one.
    pub name: Option<String>,
    /// Its driver; empty or `local`.
    pub driver: String,
    /// Options of the driver: `type`, `device`, `o` as mount(8) has them.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Nobody chose the name.
    pub anonymous: bool,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Where its data are, or would be if its options did not say otherwise.
    pub mountpoint: PathBuf,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Identifiers of the containers that use it, running or not.
    pub containers: Vec<String>,
}

/// The only driver.
pub const DRIVER: &str = "local";

/// The label by which Docker's clients know a volume that nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// What pruning did.
#[derive(Clone, Debug, Default)]
pub struct PrunedVolumes {
    /// Names of the volumes that are gone.
    pub names: Vec<String>,
    /// Bytes on disk that they took.
    pub bytes: u64,
}

impl Engine {
    /// Makes a volume. One of that name that exists is returned as it is.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a bad name or option, [`Kind::NotFound`] for another driver.
    pub fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        self.put_right();
        check_driver(&new.driver)?;
        self.check_options(&new.options)?;
        let given = new.name.as_deref().filter(|name| !name.is_empty());
        let name = match given {
            Some(name) => name.to_owned(),
            None => crate::names::identifier()?,
        };
        check_name(&name)?;
        let mut labels = new.labels.clone();
        if given.is_none() {
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        let row = Row {
            anonymous: given.is_none(),
            created_at: crate::clock::now(),
            options: new.options.clone(),
            labels,
            name: name.clone(),
        };
        self.ensure_volume(&row)?;
        self.volume(&name)
    }

    /// All volumes by name.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        self.put_right();
        let database = self.database()?;
        let rows = table::all(database.read())?;
        rows.into_iter().map(|row| self.observe_volume(database.read(), row)).collect()
    }

    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        self.put_right();
        let database = self.database()?;
        let row = table::find(database.read(), name)?.ok_or_else(|| no_such_volume(name))?;
        self.observe_volume(database.read(), row)
    }

    /// Removes a volume with its data.
    ///
    /// # Errors
    /// [`Kind::Conflict`] while a container uses it, [`Kind::NotFound`] unless `force` is set.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        self.put_right();
        if table::find(self.database()?.read(), name)?.is_none() {
            return if force { Ok(()) } else { Err(no_such_volume(name)) };
        }
        let held = self.hold_volume(name)?;
        let removed = self.database()?.write(|t| {
            let users = table::users(t, name)?;
            if !users.is_empty() {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("remove {name}: volume is in use - [{}]", users.join(", ")),
                )
                .hint("remove the container first"));
            }
            table::delete(t, name)
        });
        let discarded = removed.and_then(|()| self.discard_volume(name));
        // What could not be removed now keeps its mark for the next sweep.
        discarded.and_then(|()| held.release())?;
        self.record_volume("destroy", name);
        Ok(())
    }

    /// Removes the volumes that no container uses and that `wanted` picks; of those that have a name only with `all`.
    pub fn prune_volumes(&self, all: bool, wanted: &dyn Fn(&Volume) -> bool) -> Result<PrunedVolumes> {
        let mut pruned = PrunedVolumes::default();
        for volume in self.volumes()? {
            if !volume.containers.is_empty() || !(all || volume.anonymous) || !wanted(&volume) {
                continue;
            }
            let bytes = self.volume_size(&volume.name)?;
            match self.remove_volume(&volume.name, true) {
                Ok(()) => {
                    pruned.bytes += bytes;
                    pruned.names.push(volume.name);
                }
                // A container took it meanwhile.
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Bytes that a volume's own directory takes on disk, as du(1) counts; what its options mount is not counted.
    pub fn volume_size(&self, name: &str) -> Result<u64> {
        let path = self.volume_data(name);
        if !path.is_dir() {
            return Ok(0);
        }
        let directory = store::disk_usage(&path).internal(|| format!("cannot measure volume {name}"))?;
        Ok(directory + self.limited_size(name))
    }

    /// Records a volume and makes its directory, unless it exists.
    pub(crate) fn ensure_volume(&self, row: &Row) -> Result<()> {
        if table::find(self.database()?.read(), &row.name)?.is_some() && self.volume_data(&row.name).is_dir() {
            return Ok(());
        }
        // A removal of that name may be at work, whose directory must not become this volume's.
        let held = self.hold_volume(&row.name)?;
        self.settle_volume(&row.name)?;
        self.database()?.write(|t| table::insert(t, row))?;
        self.make_volume_directory(&row.name)?;
        self.make_limited(&row.name, &row.options)?;
        held.release()?;
        self.record_volume("create", &row.name);
        Ok(())
    }

    /// Writes an event of a volume down.
    pub(crate) fn record_volume(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), DRIVER.to_owned())]);
        self.record_event(crate::events::Type::Volume, action, name, attributes);
    }

    fn observe_volume(&self, connection: &rusqlite::Connection, row: Row) -> Result<Volume> {
        Ok(Volume {
            mountpoint: self.volume_data(&row.name),
            containers: table::users(connection, &row.name)?,
            name: row.name,
            anonymous: row.anonymous,
            created_at: row.created_at,
            options: row.options,
            labels: row.labels,
        })
    }

    /// `<data>/volumes/<name>/_data`, Docker's place.
    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.volume_directory(name).join("_data")
    }

    pub(crate) fn volume_directory(&self, name: &str) -> PathBuf {
        self.directories().data.join("volumes").join(name)
    }

    pub(crate) fn make_volume_directory(&self, name: &str) -> Result<()> {
        // Nobody but us may reach a set-user-id program that a container has written (CVE-2021-41091).
        crate::directories::make(&self.directories().data.join("volumes"), 0o700)?;
        crate::directories::make(&self.volume_directory(name), 0o700)?;
        crate::directories::make(&self.volume_data(name), 0o755)
    }
}

pub(crate) fn no_such_volume(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("get {name}: no such volume"))
}

/// Only `local` exists.
pub(crate) fn check_driver(driver: &str) -> Result<()> {
    if matches!(driver, "" | DRIVER) {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("error looking up volume plugin {driver}: plugin {driver:?} not found"))
        .hint("dhow has the driver local only"))
}

/// Docker's rule; what follows it cannot lead out of a directory.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::new(
            Kind::InvalidArgument,
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.len() <= 255
        && name.bytes().all(good)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Error::new(
        Kind::InvalidArgument,
        format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
        ),
    )
    .hint("if you intended to pass a host directory, use an absolute path"))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names() {
        for good in ["data", "a1", "web_data.1-x", &"a".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", ".hidden", "-x", "a/b", "..", "a b", "a\n", "ä1", &"a".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
