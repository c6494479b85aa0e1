//! Owners in extended attributes: the root of a file's capabilities (capabilities(7), "Namespaced file capabilities") and the
//! names in access control lists (acl(5)).
//!
//! As the kernel gives and takes them they have the ids of whoever asks, here those outside of the container.

use crate::shift::Shift;
use archive::Attributes;

const CAPABILITIES: &[u8] = b"security.capability";
const LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// `VFS_CAP_REVISION_MASK`, `VFS_CAP_REVISION_2` and `VFS_CAP_REVISION_3` of linux/capability.h, in the first word.
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
/// Bytes of the second revision; the third has the root's id behind them.
const REVISION_2_SIZE: usize = 20;

/// Attributes as the container has them, to those on the disk.
pub(crate) fn to_stored(attributes: &mut Attributes, shift: &Shift) {
    if shift.is_empty() {
        return;
    }
    for (name, value) in attributes {
        if name == CAPABILITIES {
            let root = shift.stored(root_of(value).unwrap_or(0), 0).0;
            set_root(value, Some(root));
        } else if LISTS.contains(&name.as_slice()) {
            change_list(value, |user, id| if user { shift.stored(id, 0).0 } else { shift.stored(0, id).1 });
        }
    }
}

/// And back.
pub(crate) fn to_shown(attributes: &mut Attributes, shift: &Shift) {
    if shift.is_empty() {
        return;
    }
    for (name, value) in attributes {
        if name == CAPABILITIES {
            if let Some(inside) = root_of(value).and_then(|root| shift.uid_inside(root)) {
                set_root(value, (inside != 0).then_some(inside));
            }
        } else if LISTS.contains(&name.as_slice()) {
            change_list(value, |user, id| {
                let inside = if user { shift.uid_inside(id) } else { shift.gid_inside(id) };
                inside.unwrap_or(crate::shift::NOBODY)
            });
        }
    }
}

/// Whose root capabilities are for; none for the second revision, which means that of whoever reads it.
fn root_of(value: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
    (word(0)? & REVISION_MASK == REVISION_3).then(|| word(REVISION_2_SIZE))?
}

fn set_root(value: &mut Vec<u8>, root: Option<u32>) {
    let Some(first) = value.get(..4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes) else { return };
    if !matches!(first & REVISION_MASK, REVISION_2 | REVISION_3) || value.len() < REVISION_2_SIZE {
        return;
    }
    let revision = if root.is_some() { REVISION_3 } else { REVISION_2 };
    value.truncate(REVISION_2_SIZE);
    value[..4].copy_from_slice(&(first & !REVISION_MASK | revision).to_le_bytes());
    value.extend(root.iter().flat_map(|root| root.to_le_bytes()));
}

/// A version, then entries of tag, permissions and id (linux/posix_acl_xattr.h).
fn change_list(value: &mut [u8], change: impl Fn(bool, u32) -> u32) {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if matches!(tag, USER | GROUP) {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&change(tag == USER, id).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let shift = Shift { uids: vec![(0, 100, 10)], gids: vec![(0, 200, 10)] };
        let capabilities = [&0x0200_0001_u32.to_le_bytes()[..], &[7; 16]].concat();
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, id) in [(1_u16, u32::MAX), (2, 3), (8, 4), (0x10, u32::MAX)] {
            list.extend([&tag.to_le_bytes()[..], &6_u16.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        let before: Attributes = vec![
            (CAPABILITIES.to_vec(), capabilities),
            (LISTS[0].to_vec(), list),
            (b"user.other".to_vec(), b"\x02\0\0\0".to_vec()),
        ];
        let mut attributes = before.clone();
        to_stored(&mut attributes, &shift);
        assert_eq!(root_of(&attributes[0].1), Some(100));
        assert_eq!((attributes[1].1[16], attributes[1].1[24], attributes[1].1[8]), (103, 204, 0xff));
        assert_eq!(attributes[2], before[2]);
        to_shown(&mut attributes, &shift);
        assert_eq!(attributes, before);
        // What is no such attribute stays what it is.
        let mut odd: Attributes = vec![(CAPABILITIES.to_vec(), vec![1, 2]), (LISTS[1].to_vec(), vec![1])];
        let same = odd.clone();
        to_stored(&mut odd, &shift);
        to_shown(&mut odd, &shift);
        assert_eq!(odd, same);
    }
}
