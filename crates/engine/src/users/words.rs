//! The words of `--userns`, `--uidmap`, `--gidmap`, `--subuidname` and `--subgidname`.

use super::{IdMaps, ranges};
use crate::containers::options::Options;
use crate::error::{Error, Kind, Result};
use oci::runtime::LinuxIDMapping;

/// As many ranges as a map of the kernel has (user_namespaces(7), Linux 4.15).
const MOST_RANGES: usize = 340;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    /// The user namespace of the engine.
    Engines,
    /// A range that no other container has.
    Auto {
        /// How many ids; none if that is left to the engine.
        size: Option<u32>,
        /// Ids that are to be others.
        uids: Vec<LinuxIDMapping>,
        /// The same for groups.
        gids: Vec<LinuxIDMapping>,
    },
    /// The caller's id stays what it is, or becomes this one.
    KeepId { uid: Option<u32>, gid: Option<u32> },
    /// The caller's id is left out.
    NoMap,
    /// Exactly these.
    Maps(IdMaps),
}

impl Asked {
    /// Whether it can be had without showing files with other owners.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Asked::Engines) || matches!(self, Asked::Maps(maps) if maps.is_identity())
    }

    /// For errors.
    pub(super) fn name(&self) -> String {
        let ranges = |maps: &[LinuxIDMapping]| {
            let each = maps.iter().map(|map| format!("{}:{}:{}", map.container_id, map.host_id, map.size));
            each.collect::<Vec<_>>().join(",")
        };
        match self {
            Asked::Engines => "host".into(),
            Asked::Auto { .. } => "auto".into(),
            Asked::KeepId { .. } => "keep-id".into(),
            Asked::NoMap => "nomap".into(),
            Asked::Maps(maps) => ranges(&maps.uids),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// All that the options say about it.
pub(super) fn asked(options: &Options) -> Result<Asked> {
    let mode = options.userns_mode.as_deref().unwrap_or_default();
    let named = [("--subuidname", &options.sub_uid_name), ("--subgidname", &options.sub_gid_name)];
    let mapped = !options.uid_maps.is_empty() || !options.gid_maps.is_empty();
    let name = named.into_iter().find(|(_, name)| name.is_some());
    if !mapped && name.is_none() {
        return match mode {
            "private" => Err(invalid("--userns private needs --uidmap, --gidmap, --subuidname or --subgidname")
                .hint("--userns auto chooses ids by itself")),
            _ => self::mode(mode),
        };
    }
    if !matches!(mode, "" | "private") {
        let other = if mapped { "--uidmap and --gidmap" } else { "--subuidname and --subgidname" };
        return Err(invalid(format!("--userns {mode} and {other} exclude each other")));
    }
    let maps = match (mapped, name) {
        (true, Some((flag, _))) => return Err(invalid(format!("--uidmap, --gidmap and {flag} exclude each other"))),
        (true, None) => {
            let read = |flag: &str, texts: &[String]| texts.iter().map(|text| range(flag, text)).collect();
            let (uids, gids): (Result<Vec<_>>, Result<Vec<_>>) =
                (read("--uidmap", &options.uid_maps), read("--gidmap", &options.gid_maps));
            let (uids, gids) = (uids?, gids?);
            // One says it for both, as in Podman.
            match (uids.is_empty(), gids.is_empty()) {
                (true, _) => IdMaps::new(gids.clone(), gids),
                (_, true) => IdMaps::new(uids.clone(), uids),
                _ => IdMaps::new(uids, gids),
            }
        }
        (false, _) => {
            let either = options.sub_uid_name.as_deref().or(options.sub_gid_name.as_deref()).unwrap_or_default();
            let of = |flag: &str, file: &str, name: &Option<String>| {
                let name = name.as_deref().unwrap_or(either);
                let found = ranges::subordinate(file, None, Some(name));
                match found.is_empty() {
                    true => Err(invalid(format!("{flag} {name}: {file} has no ids for that name"))),
                    false => Ok(ranges::one_after_another(&found)),
                }
            };
            IdMaps::new(
                of("--subuidname", "/etc/subuid", &options.sub_uid_name)?,
                of("--subgidname", "/etc/subgid", &options.sub_gid_name)?,
            )
        }
    };
    checked(maps).map(Asked::Maps)
}

/// The word of `--userns`, as it is in a record.
pub(super) fn mode(word: &str) -> Result<Asked> {
    let (head, rest) = word.split_once(':').unwrap_or((word, ""));
    match head {
        "" | "host" | "private" if rest.is_empty() => Ok(Asked::Engines),
        "auto" => auto(word, rest),
        "keep-id" => keep_id(word, rest),
        "nomap" if rest.is_empty() => Ok(Asked::NoMap),
        "container" | "ns" => {
            Err(invalid(format!("--userns {word} is not supported: a user namespace is its container's own"))
                .hint("give both containers the same map, such as --userns 0:100000:65536"))
        }
        _ if head.bytes().all(|byte| byte.is_ascii_digit()) && !head.is_empty() => {
            let maps: Vec<_> = word.split(',').map(|text| range("--userns", text)).collect::<Result<_>>()?;
            checked(IdMaps::new(maps.clone(), maps)).map(Asked::Maps)
        }
        _ => Err(invalid(format!("--userns: invalid USER mode: {word}"))
            .hint("known are host, auto, keep-id, nomap, and maps: CONTAINER:HOST:SIZE[,…]")),
    }
}

fn auto(word: &str, rest: &str) -> Result<Asked> {
    let (mut size, mut uids, mut gids) = (None, Vec::new(), Vec::new());
    for (key, value) in options(word, rest)? {
        match key {
            "size" => {
                let number = value.parse().ok().filter(|size| (1..=1 << 30).contains(size));
                size = Some(number.ok_or_else(|| {
                    invalid(format!("--userns {word}: size {value:?} is no number of ids from 1 to {}", 1 << 30))
                })?);
            }
            "uidmapping" => uids.push(range("--userns auto:uidmapping", value)?),
            "gidmapping" => gids.push(range("--userns auto:gidmapping", value)?),
            _ => return Err(unknown(word, key, "size, uidmapping and gidmapping")),
        }
    }
    [&uids, &gids].into_iter().try_for_each(|maps| check(maps).map_err(invalid))?;
    Ok(Asked::Auto { size, uids, gids })
}

fn keep_id(word: &str, rest: &str) -> Result<Asked> {
    let (mut uid, mut gid) = (None, None);
    for (key, value) in options(word, rest)? {
        let slot = match key {
            "uid" => &mut uid,
            "gid" => &mut gid,
            _ => return Err(unknown(word, key, "uid and gid")),
        };
        let id = value.parse().ok().filter(|id| *id < u32::MAX - 1);
        *slot = Some(id.ok_or_else(|| invalid(format!("--userns {word}: {value:?} is no id")))?);
    }
    Ok(Asked::KeepId { uid, gid })
}

fn options<'a>(word: &str, rest: &'a str) -> Result<Vec<(&'a str, &'a str)>> {
    let pair = |text: &'a str| {
        text.split_once('=').ok_or_else(|| invalid(format!("--userns {word}: {text:?} is no KEY=VALUE")))
    };
    rest.split(',').filter(|text| !text.is_empty()).map(pair).collect()
}

fn unknown(word: &str, key: &str, known: &str) -> Error {
    invalid(format!("--userns {word}: unknown option {key:?}")).hint(format!("known are {known}"))
}

/// `CONTAINER:HOST[:SIZE]`.
fn range(flag: &str, text: &str) -> Result<LinuxIDMapping> {
    let wrong = || {
        invalid(format!("{flag} {text:?} is no map of ids"))
            .hint("expected CONTAINER:HOST[:SIZE], such as 0:100000:65536")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (container_id, host_id, size) = match parts.as_slice() {
        [container, host] => (*container, *host, "1"),
        [container, host, size] => (*container, *host, *size),
        _ => return Err(wrong()),
    };
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (number(container_id), number(host_id), number(size)) {
        (Some(container_id), Some(host_id), Some(size)) => Ok(LinuxIDMapping { container_id, host_id, size }),
        _ => Err(wrong()),
    }
}

fn checked(maps: IdMaps) -> Result<IdMaps> {
    for (what, maps) in [("user", &maps.uids), ("group", &maps.gids)] {
        check(maps).map_err(invalid)?;
        if super::outside(maps, 0).is_none() {
            let text = format!("the map of {what} ids leaves out 0, and a container is set up by its own root");
            return Err(invalid(text).hint("map 0, too, such as 0:100000:65536"));
        }
    }
    Ok(maps)
}

/// What the kernel would refuse without a word (user_namespaces(7)).
pub(super) fn check(maps: &[LinuxIDMapping]) -> std::result::Result<(), String> {
    if maps.len() > MOST_RANGES {
        return Err(format!("a map of ids has at most {MOST_RANGES} ranges"));
    }
    let shown = |map: &LinuxIDMapping| format!("{}:{}:{}", map.container_id, map.host_id, map.size);
    for map in maps {
        // The last number is no id.
        let fits = |first: u32| first.checked_add(map.size).is_some();
        if map.size == 0 || !fits(map.container_id) || !fits(map.host_id) {
            return Err(format!("the map {} has no ids, or such as there are not", shown(map)));
        }
    }
    for (at, one) in maps.iter().enumerate() {
        let meets = |first: fn(&LinuxIDMapping) -> u32, other: &LinuxIDMapping| {
            first(one) < first(other) + other.size && first(other) < first(one) + one.size
        };
        let overlaps =
            |other: &&LinuxIDMapping| meets(|map| map.container_id, other) || meets(|map| map.host_id, other);
        if let Some(other) = maps[at + 1..].iter().find(overlaps) {
            return Err(format!("the maps {} and {} overlap", shown(one), shown(other)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> LinuxIDMapping {
        LinuxIDMapping { container_id, host_id, size }
    }

    #[test]
    fn words() {
        let maps = |maps: &[LinuxIDMapping]| Asked::Maps(IdMaps::new(maps.into(), maps.into()));
        for (word, expected) in [
            ("", Asked::Engines),
            ("host", Asked::Engines),
            ("auto", Asked::Auto { size: None, uids: vec![], gids: vec![] }),
            ("auto:size=5", Asked::Auto { size: Some(5), uids: vec![], gids: vec![] }),
            (
                "auto:size=9,uidmapping=1:7:2,gidmapping=3:8",
                Asked::Auto { size: Some(9), uids: vec![map(1, 7, 2)], gids: vec![map(3, 8, 1)] },
            ),
            ("keep-id", Asked::KeepId { uid: None, gid: None }),
            ("keep-id:uid=1,gid=2", Asked::KeepId { uid: Some(1), gid: Some(2) }),
            ("nomap", Asked::NoMap),
            ("0:100000:65536", maps(&[map(0, 100_000, 65_536)])),
            ("0:5:10,10:90:1", maps(&[map(0, 5, 10), map(10, 90, 1)])),
        ] {
            assert_eq!(mode(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn refusals() {
        for (word, error) in [
            ("nosuch", "--userns: invalid USER mode: nosuch"),
            ("host:x", "--userns: invalid USER mode: host:x"),
            ("auto:size=0", "size \"0\" is no number of ids"),
            ("auto:size=x", "size \"x\" is no number of ids"),
            ("auto:color=1", "unknown option \"color\""),
            ("auto:size", "\"size\" is no KEY=VALUE"),
            ("auto:uidmapping=1", "\"1\" is no map of ids"),
            ("keep-id:uid=-1", "\"-1\" is no id"),
            ("container:a", "is not supported"),
            ("0:1:x", "\"0:1:x\" is no map of ids"),
            ("0:1:2:3", "is no map of ids"),
            ("0:1:0", "has no ids"),
            ("0:4294967295:1", "has no ids"),
            ("1:5:10", "leaves out 0"),
            ("0:5:10,9:50:1", "the maps 0:5:10 and 9:50:1 overlap"),
            ("0:5:10,10:14:1", "overlap"),
        ] {
            let found = mode(word).unwrap_err().to_string();
            assert!(found.contains(error), "{word}: {found}");
        }
    }

    #[test]
    fn flags_together() {
        let with = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            asked(&options)
        };
        let one = with(|options| options.uid_maps = vec!["0:7:9".into()]).unwrap();
        assert_eq!(one, Asked::Maps(IdMaps::new(vec![map(0, 7, 9)], vec![map(0, 7, 9)])));
        assert!(with(|options| options.userns_mode = Some("private".into())).is_err());
        assert!(with(|o| (o.userns_mode, o.gid_maps) = (Some("auto".into()), vec!["0:7:9".into()])).is_err());
        assert!(with(|o| (o.uid_maps, o.sub_uid_name) = (vec!["0:7:9".into()], Some("ann".into()))).is_err());
        assert!(with(|o| o.sub_uid_name = Some("nobody-has-this-name".into())).is_err());
    }
}
