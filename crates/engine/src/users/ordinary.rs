//! An ordinary user's containers with ids of their own: which ids there are to give, and what follows from files that have
//! the ids of the outside on the disk.
//!
//! The user is 0 in the engine's user namespace ([`crate::rootless`]), the ranges of /etc/subuid follow from 1 on, and maps of
//! containers are written in those numbers, as with Podman.

use super::words::Asked;
use super::{AUTO, IdMaps, kept, no_range, ranges, used};
use crate::containers::record::Settings;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::Digest;
use oci::runtime::LinuxIDMapping;
use rusqlite::Connection;
use std::collections::BTreeSet;
use store::{Addition, Shift, Writable};

/// As many as a container gets at least that does not say how many, as with Podman.
const LEAST: u32 = 1024;

/// `nobody`, whom every distribution has and no range of a thousand ids reaches.
const NOBODY: u32 = 65_534;

/// The ids of the engine's user namespace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ids {
    /// The user outside.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// How many user ids there are from 0 on, range by range.
    uids: Vec<u32>,
    /// How many group ids.
    gids: Vec<u32>,
}

impl Ids {
    /// As the kernel has them.
    pub(super) fn read() -> Result<Ids> {
        let map = |name: &str| {
            std::fs::read_to_string(format!("/proc/self/{name}")).internal(|| format!("cannot read /proc/self/{name}"))
        };
        let ((uid, uids), (gid, gids)) = (outside_and_counts(&map("uid_map")?), outside_and_counts(&map("gid_map")?));
        Ok(Ids { uid, gid, uids, gids })
    }

    /// Whether there is anything to give.
    pub(super) fn check_range(&self, mode: &str) -> Result<()> {
        if all(&self.uids) > 1 && all(&self.gids) > 1 {
            return Ok(());
        }
        let text = format!(
            "--userns {mode} needs more ids than this user has: there is no range for them in /etc/subuid and /etc/subgid, \
             or no newuidmap and newgidmap"
        );
        Err(Error::new(Kind::Unavailable, text)
            .hint("`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER` gives one (package uidmap)"))
    }

    /// The kernel maps only what the engine has itself.
    fn check(&self, maps: &IdMaps) -> Result<()> {
        for (what, maps, count) in [("user", &maps.uids, all(&self.uids)), ("group", &maps.gids, all(&self.gids))] {
            let beyond = |map: &&LinuxIDMapping| u64::from(map.host_id) + u64::from(map.size) > u64::from(count);
            if let Some(map) = maps.iter().find(beyond) {
                let text = format!(
                    "the map {}:{}:{} has {what} ids that this user does not have: there are 0 to {}",
                    map.container_id,
                    map.host_id,
                    map.size,
                    count - 1
                );
                return Err(Error::new(Kind::InvalidArgument, text)
                    .hint("0 is the user, from 1 on follow the ranges of /etc/subuid and /etc/subgid"));
            }
        }
        Ok(())
    }
}

fn all(counts: &[u32]) -> u32 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// The kernel takes no range that goes over the end of one of the engine's own (user_namespaces(7): EPERM).
fn split(maps: &[LinuxIDMapping], counts: &[u32]) -> Vec<LinuxIDMapping> {
    let mut pieces = Vec::new();
    for map in maps {
        let (mut rest, mut end) = (*map, 0);
        for count in counts {
            end += count;
            let size = end.saturating_sub(rest.host_id).min(rest.size);
            if size > 0 {
                pieces.push(LinuxIDMapping { size, ..rest });
                rest.container_id += size;
                rest.host_id += size;
                rest.size -= size;
            }
        }
    }
    pieces
}

/// Whom 0 is outside, and how many ids follow one another from 0 on, range by range.
fn outside_and_counts(map: &str) -> (u32, Vec<u32>) {
    let (mut outside, mut end, mut counts) = (0, 0_u64, Vec::new());
    for line in map.lines() {
        let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            [inside, first, count] if *inside == end => {
                if end == 0 {
                    outside = *first;
                }
                end += count;
                counts.push(u32::try_from(*count).unwrap_or(u32::MAX));
            }
            _ => break,
        }
    }
    (u32::try_from(outside).unwrap_or(0), counts)
}

impl Settings {
    /// How the owners of its files on the disk differ from those that it sees.
    pub(crate) fn stored_shift(&self) -> Option<Shift> {
        self.id_maps.as_ref().filter(|maps| maps.shifted).map(IdMaps::shift)
    }

    /// Whom a file must belong to on the disk to be its root's; none where that is no question.
    pub(crate) fn stored_root(&self) -> Option<(u32, u32)> {
        self.id_maps.as_ref().filter(|maps| maps.shifted).and_then(|maps| maps.outside(0, 0))
    }

    /// Whether it has the user itself.
    pub(crate) fn has_the_user(&self) -> bool {
        let shift = self.id_maps.as_ref();
        shift.is_none_or(|maps| maps.uids.iter().any(|map| map.host_id == 0))
    }
}

impl Engine {
    pub(super) fn maps_of_a_user(
        &self,
        asked: &Asked,
        connection: &Connection,
        settings: &Settings,
    ) -> Result<Option<IdMaps>> {
        let ids = Ids::read()?;
        let (uids_count, gids_count) = (all(&ids.uids), all(&ids.gids));
        let mut maps = match asked {
            Asked::Engines => return Ok(None),
            Asked::Maps(maps) => maps.clone(),
            Asked::KeepId { uid, gid } => {
                IdMaps::new(kept(uid.unwrap_or(ids.uid), uids_count), kept(gid.unwrap_or(ids.gid), gids_count))
            }
            Asked::NoMap => {
                let but_the_user = |count| vec![LinuxIDMapping { container_id: 0, host_id: 1, size: count - 1 }];
                IdMaps::new(but_the_user(uids_count), but_the_user(gids_count))
            }
            Asked::Auto { size, uids, gids } => {
                let used = used(connection)?;
                let needed = size.map_or_else(|| self.needed_ids(settings), Ok)?;
                let pick = |count: u32, forced: &[LinuxIDMapping], of: fn(&IdMaps) -> &Vec<LinuxIDMapping>| {
                    let used: Vec<LinuxIDMapping> = used.iter().flat_map(of).copied().collect();
                    range(&[(1, count - 1)], &used, needed, size.is_none(), forced)
                };
                IdMaps::new(pick(uids_count, uids, |maps| &maps.uids)?, pick(gids_count, gids, |maps| &maps.gids)?)
            }
        };
        ids.check(&maps)?;
        (maps.uids, maps.gids) = (split(&maps.uids, &ids.uids), split(&maps.gids, &ids.gids));
        maps.shifted = !maps.is_identity();
        Ok(Some(maps))
    }

    /// How many ids the users and groups of the image take.
    fn needed_ids(&self, settings: &Settings) -> Result<u32> {
        let layers = self.digests(&settings.layers)?;
        let mut needed = LEAST;
        for file in [c"passwd", c"group"] {
            let text = self.store()?.layers().read(&layers, &c"etc".to_owned(), &file.to_owned());
            let text = text.internal(|| format!("cannot read {file:?} of the image"))?.unwrap_or_default();
            needed = needed.max(highest(&String::from_utf8_lossy(&text)).map_or(0, |id| id + 1));
        }
        Ok(needed.min(AUTO))
    }

    /// DiffIDs, topmost first, of layers that a record names lowest first.
    fn digests(&self, layers: &[String]) -> Result<Vec<Digest>> {
        let layers = layers.iter().rev().map(|text| text.parse());
        layers.collect::<std::result::Result<_, _>>().kind(Kind::Corrupt, || "a layer has no digest".into())
    }

    /// What a container writes to.
    pub(crate) fn writable_of(&self, entry: &Entry) -> Result<Writable<'_>> {
        let writable = Writable::open(self.store()?, &entry.id)
            .internal(|| format!("cannot find the files of container {}", entry.id))?;
        Ok(match entry.settings.stored_shift() {
            Some(shift) => writable.with_shift(shift),
            None => writable,
        })
    }

    /// Makes the layers of the container, and of images that are mounted in it, with the owners that it needs. Of those that are
    /// there nothing is made.
    pub(crate) fn make_shifted_layers(&self, settings: &Settings) -> Result<()> {
        let Some(shift) = settings.stored_shift() else { return Ok(()) };
        let mounted = settings.mounts.iter().filter_map(|mount| match &mount.source {
            crate::containers::options::MountSource::Image(image) => Some(&image.layers),
            _ => None,
        });
        for layers in mounted.chain([&settings.layers]) {
            let made = self.store()?.layers().make_shifted(&self.digests(layers)?, &shift);
            made.internal(|| "cannot make the image's files with the ids of the container".into())?;
        }
        Ok(())
    }

    /// Removes what [`Engine::make_shifted_layers`] made for ids that no container has any more; returns its bytes on disk.
    pub(crate) fn collect_shifted(&self) -> Result<u64> {
        let failed = || "cannot remove files for ids that no container has".to_owned();
        if !self.directories().data.join("shifted").is_dir() {
            return Ok(0);
        }
        // Moved away in one transaction, so that no container comes between the look and the move; removed after it.
        let taken = self.database()?.write(|transaction| {
            let keys: BTreeSet<String> = shifts(transaction)?.iter().map(Shift::key).collect();
            self.store()?.layers().take_shifted_but(&keys).internal(failed)
        })?;
        taken.discard().internal(failed)
    }

    /// Names of directories in `shifted` that containers use.
    pub(crate) fn shifted_keys(&self) -> Result<BTreeSet<String>> {
        Ok(shifts(self.database()?.read())?.iter().map(Shift::key).collect())
    }
}

/// Of all containers whose files have the ids of the outside.
fn shifts(connection: &Connection) -> Result<Vec<Shift>> {
    let all = super::all_maps(connection)?;
    Ok(all.iter().filter(|maps| maps.shifted).map(IdMaps::shift).collect())
}

/// The highest id in a file such as /etc/passwd, but `nobody` and what comes behind.
fn highest(text: &str) -> Option<u32> {
    let ids = text.lines().flat_map(|line| line.split(':').skip(2).take(2)).filter_map(|field| field.parse().ok());
    ids.filter(|id| *id < NOBODY).max()
}

/// A free range; with `nobody` one more id, for that user.
fn range(
    pool: &[(u32, u32)],
    used: &[LinuxIDMapping],
    size: u32,
    nobody: bool,
    forced: &[LinuxIDMapping],
) -> Result<Vec<LinuxIDMapping>> {
    let nobody = nobody && size <= NOBODY && !forced.iter().any(|map| map.container_id > size);
    let start = ranges::free(pool, used, size + u32::from(nobody)).ok_or_else(no_range_of_a_user)?;
    let mut forced = forced.to_vec();
    if nobody {
        forced.push(LinuxIDMapping { container_id: NOBODY, host_id: start + size, size: 1 });
    }
    ranges::with_forced(LinuxIDMapping { container_id: 0, host_id: start, size }, &forced)
}

fn no_range_of_a_user() -> Error {
    no_range().hint("remove containers that have one, ask for fewer (auto:size=N), or give the user more in /etc/subuid and /etc/subgid")
}

/// What `/etc/passwd` and `/etc/group` of a container with `keep-id` get, where the image does not know the user.
pub(crate) fn additions(settings: &Settings) -> Vec<Addition> {
    let is_kept = settings.userns_mode.split(':').next() == Some("keep-id");
    let Some(maps) = settings.id_maps.as_ref().filter(|maps| is_kept && maps.shifted) else { return Vec::new() };
    let user = |maps: &[LinuxIDMapping]| maps.iter().find(|map| map.host_id == 0).map_or(0, |map| map.container_id);
    let (number, group_number) = (user(&maps.uids), user(&maps.gids));
    let Ok(ids) = Ids::read() else { return Vec::new() };
    let own = (number, group_number) == (ids.uid, ids.gid);
    if number == 0 {
        return Vec::new();
    }
    let (uid, gid) = (&number.to_string(), &group_number.to_string());
    let host = if own { account("/etc/passwd", uid) } else { None };
    let group = if own { account("/etc/group", gid) } else { None };
    let field = |fields: &Option<Vec<String>>, at: usize| fields.as_ref().and_then(|fields| fields.get(at)).cloned();
    let (name, full) = (field(&host, 0).unwrap_or_else(|| uid.to_owned()), field(&host, 4).unwrap_or_default());
    let mounted = |home: &String| {
        let covers = |target: &str| {
            let rest = home.strip_prefix(target.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        settings.mounts.iter().any(|mount| covers(&mount.target))
    };
    let home = field(&host, 5).filter(mounted).unwrap_or_else(|| match settings.working_directory.as_str() {
        "" => "/".to_owned(),
        directory => directory.to_owned(),
    });
    let group = field(&group, 0).unwrap_or_else(|| gid.to_owned());
    let addition = |file: &str, line: String, unless: (String, String)| Addition {
        directory: "etc".into(),
        file: file.into(),
        line,
        unless,
    };
    let plain = |text: &str| !text.contains([':', '\n', '\0']);
    let mut all = Vec::new();
    if [&name, &full, &home].into_iter().all(|text| plain(text)) {
        let line = format!("{name}:*:{uid}:{gid}:{full}:{home}:/bin/sh\n");
        all.push(addition("passwd", line, (name.clone(), uid.to_owned())));
    }
    if plain(&group) && plain(&name) && group_number != 0 {
        all.push(addition("group", format!("{group}:x:{gid}:{name}\n"), (group, gid.to_owned())));
    }
    all
}

/// The fields of the line with that number in the third.
fn account(file: &str, id: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    lines.find(|fields| fields.get(2).is_some_and(|field| field == id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> LinuxIDMapping {
        LinuxIDMapping { container_id, host_id, size }
    }

    #[test]
    fn maps_of_the_kernel() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside_and_counts(text), (1000, vec![1, 65_536]));
        assert_eq!(outside_and_counts("0 1000 1\n"), (1000, vec![1]));
        assert_eq!(outside_and_counts("0 7 2\n3 9 5\n"), (7, vec![2]));
        let pieces = split(&[map(0, 0, 10), map(20, 12, 5)], &[1, 11, 5]);
        assert_eq!(pieces, [map(0, 0, 1), map(1, 1, 9), map(20, 12, 5)]);
        assert_eq!(split(&[map(0, 0, 20)], &[1, 11, 8]), [map(0, 0, 1), map(1, 1, 11), map(12, 12, 8)]);
    }

    #[test]
    fn the_user_keeps_their_id() {
        assert_eq!(kept(1000, 65_537), [map(0, 1, 1000), map(1000, 0, 1), map(1001, 1001, 64_536)]);
        // More than there are.
        assert_eq!(kept(200_000, 65_537), [map(0, 1, 65_536), map(200_000, 0, 1)]);
        assert_eq!(kept(65_536, 65_537), [map(0, 1, 65_536), map(65_536, 0, 1)]);
        assert_eq!(kept(0, 5), [map(0, 0, 5)]);
    }

    #[test]
    fn ranges_with_nobody() {
        let pool = [(1, 65_536)];
        assert_eq!(range(&pool, &[], 1024, true, &[]).unwrap(), [map(0, 1, 1024), map(NOBODY, 1025, 1)]);
        let used = [map(0, 1, 1024), map(NOBODY, 1025, 1)];
        assert_eq!(range(&pool, &used, 10, false, &[]).unwrap(), [map(0, 1026, 10)]);
        assert!(range(&pool, &used, 65_000, true, &[]).is_err());
        assert_eq!(highest("root:x:0:0::/:\nx:x:70000:5\na:x:9:2000:\nnobody:x:65534:65534\n"), Some(2000));
    }

    #[test]
    fn what_the_user_does_not_have() {
        let ids = Ids { uid: 1000, gid: 1000, uids: vec![1, 9], gids: vec![5] };
        assert!(ids.check(&IdMaps::new(vec![map(0, 0, 10)], vec![map(0, 1, 4)])).is_ok());
        let error = ids.check(&IdMaps::new(vec![map(0, 0, 10)], vec![map(0, 1, 5)])).unwrap_err().to_string();
        assert!(error.contains("0:1:5") && error.contains("0 to 4"), "{error}");
        assert!(Ids { uids: vec![1], ..ids }.check_range("auto").is_err());
    }
}
