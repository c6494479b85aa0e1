//! User namespaces of containers: what `--userns` and its kin ask for, and the ids that come out of it.
//!
//! A container without maps has the ids of its engine. One with maps has a user namespace of its own, and the maps are in
//! its record from its creation to its removal: that is all there is to remember of the ranges that `auto` has handed out.
//! On the disk its files keep the ids that it sees itself (`runtime`, idmapped mounts), or, for an ordinary user, have those that
//! they are outside ([`IdMaps::shifted`], `store`, module `shifted`).

mod ordinary;
mod ranges;
mod words;

use crate::containers::options::Options;
use crate::containers::record::Settings;
use crate::database::Sql;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use oci::runtime::LinuxIDMapping;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use words::Asked;

pub(crate) use ordinary::additions;
pub(crate) use ranges::subordinate;

/// Which ids a container has, and which they are outside: in its engine's user namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<LinuxIDMapping>,
    /// Group ids.
    pub gids: Vec<LinuxIDMapping>,
    /// On the disk its files have the ids of the outside, as they cannot be shown with others there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shifted: bool,
}

/// Where the kernel's last id begins: `(uid_t) -1` is no id.
const ALL: u32 = u32::MAX;

impl IdMaps {
    fn new(uids: Vec<LinuxIDMapping>, gids: Vec<LinuxIDMapping>) -> IdMaps {
        IdMaps { uids, gids, shifted: false }
    }

    /// Whether every id is the same outside.
    pub(crate) fn is_identity(&self) -> bool {
        self.uids.iter().chain(&self.gids).all(|map| map.container_id == map.host_id)
    }

    /// The same for archives.
    pub(crate) fn shift(&self) -> store::Shift {
        let ranges =
            |maps: &[LinuxIDMapping]| maps.iter().map(|map| (map.container_id, map.host_id, map.size)).collect();
        store::Shift { uids: ranges(&self.uids), gids: ranges(&self.gids) }
    }

    /// A file's owner as the engine has to write it; none for one that the container does not have.
    pub(crate) fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((outside(&self.uids, uid)?, outside(&self.gids, gid)?))
    }
}

fn outside(maps: &[LinuxIDMapping], id: u32) -> Option<u32> {
    let found = maps.iter().find(|map| id.checked_sub(map.container_id).is_some_and(|offset| offset < map.size))?;
    found.host_id.checked_add(id - found.container_id)
}

fn same(size: u32) -> LinuxIDMapping {
    LinuxIDMapping { container_id: 0, host_id: 0, size }
}

impl Host {
    /// As a container with these maps finds it.
    pub(crate) fn within(&self, maps: &IdMaps) -> Host {
        let contains = |id: u32| outside(&maps.gids, id).is_some();
        let mut sorted = maps.gids.clone();
        sorted.sort_by_key(|map| map.container_id);
        let end = sorted.iter().fold(0_u64, |end, map| match u64::from(map.container_id) == end {
            true => end + u64::from(map.size),
            false => end,
        });
        Host {
            user_namespace: true,
            single_id: matches!(maps.uids.as_slice(), [one] if one.size == 1),
            tty_group: contains(5),
            last_group: u32::try_from(end.saturating_sub(1)).unwrap_or(u32::MAX).min(self.last_group),
            ..self.clone()
        }
    }
}

/// Ids of a container with `auto` that says nothing about their number: as many as images count on.
const AUTO: u32 = 65_536;

impl Engine {
    /// At creation: what was asked becomes maps, with ranges that nobody has.
    pub(crate) fn settle_users(&self, settings: &mut Settings, options: &Options) -> Result<()> {
        let asked = words::asked(options)?;
        if let Asked::Engines = asked {
            return Ok(());
        }
        if settings.pid_mode.starts_with("container:") {
            // procfs can be mounted only by the owner of the pid namespace (kernel: proc_init_fs_context, since 3.8).
            let text = "--userns and --pid container:… exclude each other: the processes of another container are those of its \
                        user namespace";
            return Err(
                Error::new(Kind::InvalidArgument, text).hint("give ids to the container whose processes are shared")
            );
        }
        let user = match self.host()?.user_namespace {
            true => Some(ordinary::Ids::read()?),
            false => None,
        };
        if let Some(user) = user.as_ref().filter(|_| !asked.is_identity()) {
            user.check_range(&asked.name())?;
        }
        settings.id_maps = self.maps(&asked, self.database()?.read(), settings)?;
        // As in Podman, whom the image names comes before an ordinary user.
        if let (Asked::KeepId { uid, gid }, None) = (&asked, &options.user)
            && (uid.is_some() || gid.is_some() || user.is_some())
            && (user.is_none() || settings.user.is_empty())
        {
            let own = user.map_or((0, 0), |user| (user.uid, user.gid));
            settings.user = format!("{}:{}", uid.unwrap_or(own.0), gid.unwrap_or(own.1));
        }
        Ok(())
    }

    /// In the transaction that records the container: somebody else may have got the same range meanwhile.
    pub(crate) fn claim_ranges(&self, connection: &Connection, settings: &mut Settings) -> Result<()> {
        if let Ok(asked @ Asked::Auto { .. }) = words::mode(&settings.userns_mode) {
            settings.id_maps = self.maps(&asked, connection, settings)?;
        }
        Ok(())
    }

    fn maps(&self, asked: &Asked, connection: &Connection, settings: &Settings) -> Result<Option<IdMaps>> {
        if self.host()?.user_namespace {
            return self.maps_of_a_user(asked, connection, settings);
        }
        Ok(match asked {
            Asked::Engines => None,
            Asked::Maps(maps) => Some(maps.clone()),
            Asked::KeepId { uid, gid } => Some(IdMaps::new(kept(uid.unwrap_or(0), ALL), kept(gid.unwrap_or(0), ALL))),
            Asked::NoMap => {
                let text = "--userns nomap leaves the user who calls out of the container, and root of the machine \
                            cannot be left out of what root runs";
                return Err(Error::new(Kind::InvalidArgument, text).hint("use --userns auto"));
            }
            Asked::Auto { size, uids, gids } => {
                let used = used(connection)?;
                let size = size.unwrap_or(AUTO);
                let pick = |file: &str, forced: &[LinuxIDMapping], of: fn(&IdMaps) -> &Vec<LinuxIDMapping>| {
                    let used: Vec<LinuxIDMapping> = used.iter().flat_map(of).copied().collect();
                    let start = ranges::free(&ranges::pool(file), &used, size).ok_or_else(no_range)?;
                    ranges::with_forced(LinuxIDMapping { container_id: 0, host_id: start, size }, forced)
                };
                Some(IdMaps::new(
                    pick("/etc/subuid", uids, |maps| &maps.uids)?,
                    pick("/etc/subgid", gids, |maps| &maps.gids)?,
                ))
            }
        })
    }
}

/// The caller keeps their id, which is 0 outside, under the number `target`; everybody else keeps theirs of `all`, as far as
/// there is room beside it.
fn kept(target: u32, all: u32) -> Vec<LinuxIDMapping> {
    if target == 0 {
        return vec![same(all)];
    }
    let part = |container_id, host_id, size| LinuxIDMapping { container_id, host_id, size };
    let below = target.min(all - 1);
    let mut maps = vec![part(0, 1, below), part(target, 0, 1)];
    if let Some(size) = all.checked_sub(target.saturating_add(1)) {
        maps.push(part(target + 1, target + 1, size));
    }
    maps.retain(|map| map.size > 0);
    maps
}

/// The maps of all containers that there are, but of those that have all ids: they share them with everybody anyway.
fn used(connection: &Connection) -> Result<Vec<IdMaps>> {
    const QUERY: &str = "SELECT json_extract(settings, '$.id_maps') AS maps FROM container WHERE maps IS NOT NULL \
                         AND json_extract(settings, '$.userns_mode') NOT LIKE 'keep-id%' \
                         AND json_extract(settings, '$.userns_mode') NOT LIKE 'nomap%'";
    maps_by(connection, QUERY)
}

/// The maps of all containers.
fn all_maps(connection: &Connection) -> Result<Vec<IdMaps>> {
    maps_by(connection, "SELECT json_extract(settings, '$.id_maps') AS maps FROM container WHERE maps IS NOT NULL")
}

fn maps_by(connection: &Connection, query: &str) -> Result<Vec<IdMaps>> {
    let mut statement = connection.prepare(query).sql("look up the ids of containers")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).sql("look up the ids of containers")?;
    rows.map(|row| {
        let text = row.sql("look up the ids of containers")?;
        serde_json::from_str(&text)
            .map_err(|error| Error::caused(Kind::Corrupt, "the ids of a container cannot be read", error))
    })
    .collect()
}

fn no_range() -> Error {
    Error::new(Kind::Unavailable, "there is no range of ids left for --userns auto")
        .hint("remove containers that have one, ask for fewer (auto:size=N), or give the user \"containers\" more in /etc/subuid and /etc/subgid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> LinuxIDMapping {
        LinuxIDMapping { container_id, host_id, size }
    }

    #[test]
    fn owners_outside() {
        let maps = IdMaps::new(vec![map(0, 1000, 10), map(10, 5, 1)], vec![map(0, 7, 20)]);
        assert_eq!(maps.outside(0, 0), Some((1000, 7)));
        assert_eq!(maps.outside(9, 19), Some((1009, 26)));
        assert_eq!(maps.outside(10, 1), Some((5, 8)));
        assert_eq!(maps.outside(11, 1), None);
        assert_eq!(maps.outside(1, 20), None);
    }

    #[test]
    fn root_keeps_its_id() {
        assert_eq!(kept(0, ALL), [map(0, 0, u32::MAX)]);
        let maps = kept(1000, ALL);
        assert_eq!(maps, [map(0, 1, 1000), map(1000, 0, 1), map(1001, 1001, u32::MAX - 1001)]);
        assert!(words::check(&maps).is_ok());
    }

    #[test]
    fn a_host_within() {
        let outer = Host {
            user_namespace: false,
            single_id: false,
            tty_group: true,
            last_group: i32::MAX.cast_unsigned(),
            kernel: seccomp::KernelVersion(6, 1),
            apparmor: false,
            selinux: false,
        };
        let inner = outer.within(&IdMaps::new(vec![map(0, 1, 1)], vec![map(10, 9, 5), map(0, 50, 10)]));
        assert!(inner.user_namespace && inner.single_id && inner.tty_group);
        assert_eq!(inner.last_group, 14);
        assert!(!outer.within(&IdMaps::new(vec![map(0, 1, 9)], vec![map(0, 1, 4)])).tty_group);
    }
}
