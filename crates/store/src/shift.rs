//! Owners of a tree that is looked at from outside its user namespace: as archives and as the kernel have them.

/// Ranges of ids: as a container has them, as they are outside, and how many.
pub type IdRange = (u32, u32, u32);

/// How owners in an archive and on the tree differ; by default not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

/// How the kernel shows who cannot be shown (`/proc/sys/kernel/overflowuid`).
pub(crate) const NOBODY: u32 = 65_534;

impl Shift {
    /// A short name, the same for the same ranges, for directories.
    pub fn key(&self) -> String {
        let text = |ranges: &[IdRange]| -> String {
            ranges.iter().map(|(inside, outside, count)| format!("{inside}:{outside}:{count},")).collect()
        };
        let all = format!("{};{}", text(&self.uids), text(&self.gids));
        oci::digest::Digest::sha256(all.as_bytes()).hex()[..16].to_owned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The owner of a file of the tree as its container sees it.
    pub(crate) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        if self.is_empty() {
            return (uid, gid);
        }
        let find = |ranges: &[IdRange], id| moved(ranges.iter().map(|&(inside, outside, n)| (outside, inside, n)), id);
        (find(&self.uids, uid).unwrap_or(NOBODY), find(&self.gids, gid).unwrap_or(NOBODY))
    }

    /// The owner of an archive's file as the tree has to have it; none for one that the container does not have.
    pub(crate) fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        if self.is_empty() {
            return Some((uid, gid));
        }
        Some((moved(self.uids.iter().copied(), uid)?, moved(self.gids.iter().copied(), gid)?))
    }

    /// The same with somebody for whom the container does not have: who is nobody there.
    pub(crate) fn stored(&self, uid: u32, gid: u32) -> (u32, u32) {
        if self.is_empty() {
            return (uid, gid);
        }
        let find = |ranges: &[IdRange], id| moved(ranges.iter().copied(), id).unwrap_or_else(|| nobodys(ranges));
        (find(&self.uids, uid), find(&self.gids, gid))
    }

    pub(crate) fn uid_inside(&self, uid: u32) -> Option<u32> {
        moved(self.uids.iter().map(|&(inside, outside, count)| (outside, inside, count)), uid)
    }

    pub(crate) fn gid_inside(&self, gid: u32) -> Option<u32> {
        moved(self.gids.iter().map(|&(inside, outside, count)| (outside, inside, count)), gid)
    }
}

/// The first id outside that is none of the container's.
fn nobodys(ranges: &[IdRange]) -> u32 {
    let mut id = 0;
    while let Some((_, from, count)) = ranges.iter().find(|(_, from, count)| (*from..from + count).contains(&id)) {
        id = from + count;
    }
    id
}

fn moved(mut ranges: impl Iterator<Item = IdRange>, id: u32) -> Option<u32> {
    ranges.find_map(|(from, to, count)| {
        let offset = id.checked_sub(from).filter(|offset| *offset < count)?;
        to.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let shift = Shift { uids: vec![(0, 1000, 10), (10, 5, 1)], gids: vec![(0, 700, 3)] };
        for (inside, outside) in [((0, 0), (1000, 700)), ((9, 2), (1009, 702)), ((10, 1), (5, 701))] {
            assert_eq!(shift.outside(inside.0, inside.1), Some(outside));
            assert_eq!(shift.inside(outside.0, outside.1), inside);
        }
        assert_eq!(shift.outside(11, 0), None);
        assert_eq!(shift.inside(0, 0), (NOBODY, NOBODY));
        assert_eq!(shift.stored(11, 2), (0, 702));
        assert_eq!(shift.stored(11, 3), (0, 0));
        let all = Shift { uids: vec![(0, 0, 5), (5, 5, 2)], gids: vec![(0, 0, 9)] };
        assert_eq!(all.stored(8, 9), (7, 9));
        assert_eq!((shift.key().len(), shift.key() == all.key()), (16, false));
        assert_eq!(Shift::default().inside(7, 8), (7, 8));
        assert_eq!(Shift::default().outside(7, 8), Some((7, 8)));
    }
}
