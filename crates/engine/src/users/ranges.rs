//! Ranges of ids: whose they are (subuid(5)), and which are free.

use crate::error::{Error, Kind, Result};
use oci::runtime::LinuxIDMapping;

/// Podman's name for who owns the ids of containers with `auto`.
const OWNER: &str = "containers";

/// Where /etc/subuid gives that user none: ids that systemd's table of them (systemd.io/UIDS-GIDS) leaves unused, 4,094
/// times 65,536.
const DEFAULT: (u32, u32) = (0x7000_0000, 0x0FFE_0000);

/// The ranges that containers with `auto` get theirs from.
pub(super) fn pool(file: &str) -> Vec<(u32, u32)> {
    let given = subordinate(file, None, Some(OWNER));
    if given.is_empty() { vec![DEFAULT] } else { given }
}

/// The ranges of a user in a file such as /etc/subuid: `name-or-uid:first:count`.
pub(crate) fn subordinate(file: &str, uid: Option<u32>, name: Option<&str>) -> Vec<(u32, u32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| range(line, uid, name)).collect()
}

fn range(line: &str, uid: Option<u32>, name: Option<&str>) -> Option<(u32, u32)> {
    let mut fields = line.trim().split(':');
    let owner = fields.next()?;
    if Some(owner) != name && (uid.is_none() || owner.parse().ok() != uid) {
        return None;
    }
    let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (range.1 > 0).then_some(range)
}

/// The container's ids from 0 on are those of the ranges, one range after the other.
pub(super) fn one_after_another(ranges: &[(u32, u32)]) -> Vec<LinuxIDMapping> {
    let mut inside: u32 = 0;
    let mut maps = Vec::new();
    for &(first, count) in ranges {
        let size = count.min(u32::MAX - inside).min(u32::MAX - first);
        maps.push(LinuxIDMapping { container_id: inside, host_id: first, size });
        inside += size;
    }
    maps.retain(|map| map.size > 0);
    maps
}

/// The first of `size` ids in a row that are in the pool and nobody's.
pub(super) fn free(pool: &[(u32, u32)], used: &[LinuxIDMapping], size: u32) -> Option<u32> {
    let mut used: Vec<(u64, u64)> =
        used.iter().map(|map| (map.host_id.into(), u64::from(map.host_id) + u64::from(map.size))).collect();
    used.sort_unstable();
    pool.iter().find_map(|&(first, count)| {
        let end = (u64::from(first) + u64::from(count)).min(u32::MAX.into());
        let mut start = u64::from(first);
        for &(from, to) in &used {
            if from >= start + u64::from(size) {
                break;
            }
            start = start.max(to);
        }
        (start + u64::from(size) <= end).then(|| u32::try_from(start).ok()).flatten()
    })
}

/// A range with some of the container's ids taken out and given others.
pub(super) fn with_forced(all: LinuxIDMapping, forced: &[LinuxIDMapping]) -> Result<Vec<LinuxIDMapping>> {
    let mut forced = forced.to_vec();
    forced.sort_by_key(|map| map.container_id);
    let (mut maps, mut next) = (Vec::new(), 0_u32);
    // `size` counts the ids from 0 on; a forced one behind them is one more.
    let piece = |from: u32, to: u32| {
        let to = to.min(all.size);
        (from < to).then(|| LinuxIDMapping { container_id: from, host_id: all.host_id + from, size: to - from })
    };
    for map in &forced {
        maps.extend(piece(next, map.container_id));
        maps.push(*map);
        next = map.container_id.saturating_add(map.size);
    }
    maps.extend(piece(next, all.size));
    super::words::check(&maps)
        .map_err(|problem| Error::new(Kind::InvalidArgument, format!("--userns auto: {problem}")))?;
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> LinuxIDMapping {
        LinuxIDMapping { container_id, host_id, size }
    }

    #[test]
    fn lines_of_subuid() {
        assert_eq!(range("ann:100000:65536", Some(1000), Some("ann")), Some((100_000, 65_536)));
        assert_eq!(range("1000:5:6", Some(1000), None), Some((5, 6)));
        for line in ["bob:1:2", "", "ann", "ann:x:2", "ann:1:0", "1001:1:1"] {
            assert_eq!(range(line, Some(1000), Some("ann")), None, "{line}");
        }
        assert_eq!(range("1000:5:6", None, Some("ann")), None);
        assert_eq!(one_after_another(&[(100, 10), (500, 5)]), [map(0, 100, 10), map(10, 500, 5)]);
    }

    #[test]
    fn ranges_do_not_overlap() {
        let pool = [(1000, 100), (5000, 1000)];
        assert_eq!(free(&pool, &[], 100), Some(1000));
        assert_eq!(free(&pool, &[map(0, 1000, 50)], 50), Some(1050));
        assert_eq!(free(&pool, &[map(0, 1000, 50)], 51), Some(5000));
        // A gap that is wide enough is used again.
        assert_eq!(free(&pool, &[map(0, 5000, 10), map(0, 1000, 100), map(0, 5030, 10)], 20), Some(5010));
        assert_eq!(free(&pool, &[map(0, 990, 20)], 10), Some(1010));
        assert_eq!(free(&pool, &[], 1001), None);
        let mut used = Vec::new();
        for _ in 0..100 {
            let start = free(&[DEFAULT], &used, 65_536).unwrap();
            assert!(used.iter().all(|other: &LinuxIDMapping| start.abs_diff(other.host_id) >= 65_536));
            used.insert(0, map(0, start, 65_536));
        }
    }

    #[test]
    fn forced_ids() {
        let all = map(0, 1000, 10);
        assert_eq!(with_forced(all, &[]).unwrap(), [all]);
        assert_eq!(with_forced(all, &[map(3, 7, 2)]).unwrap(), [map(0, 1000, 3), map(3, 7, 2), map(5, 1005, 5)]);
        assert_eq!(with_forced(all, &[map(0, 7, 1)]).unwrap(), [map(0, 7, 1), map(1, 1001, 9)]);
        assert_eq!(with_forced(all, &[map(20, 7, 1)]).unwrap(), [map(0, 1000, 10), map(20, 7, 1)]);
        assert!(with_forced(all, &[map(3, 1005, 1)]).is_err());
    }
}
