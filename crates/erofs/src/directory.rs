//! Directories on disk: blocks of entries, sorted by name, each block with its names behind its entries.

use crate::error::Error;
use crate::format::{LONGEST_NAME, u16_at, u64_at};
use std::ops::Range;

const ENTRY: usize = 12;

/// One name as it is written: inode, type, name.
pub(crate) type Listed<'a> = (u64, u8, &'a [u8]);

/// Which names go into which block, and how much of the last one they take. Names are sorted, with `.` and `..`.
pub(crate) fn blocks<'a>(names: impl Iterator<Item = &'a [u8]>, block: usize) -> (Vec<Range<usize>>, usize) {
    let (mut all, mut begin, mut used, mut count) = (Vec::new(), 0, 0, 0);
    for name in names {
        let needed = ENTRY + name.len();
        if used + needed > block {
            all.push(begin..count);
            (begin, used) = (count, 0);
        }
        used += needed;
        count += 1;
    }
    all.push(begin..count);
    (all, used)
}

/// The bytes of one block, without what follows the last name.
pub(crate) fn encode(names: &[Listed<'_>], out: &mut Vec<u8>) {
    out.clear();
    let mut at = names.len() * ENTRY;
    for (inode, kind, name) in names {
        out.extend(inode.to_le_bytes());
        out.extend((at as u16).to_le_bytes());
        out.extend([*kind, 0]);
        at += name.len();
    }
    names.iter().for_each(|(_, _, name)| out.extend_from_slice(name));
}

/// The names in a block: inode and name.
pub(crate) fn decode(block: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let damaged = || Error::Damaged("a directory");
    let first = usize::from(u16_at(block, 8));
    if first == 0 || !first.is_multiple_of(ENTRY) || first > block.len() {
        return Err(damaged());
    }
    let begin = |index: usize| usize::from(u16_at(block, index * ENTRY + 8));
    let mut found = Vec::with_capacity(first / ENTRY);
    for index in 0..first / ENTRY {
        let end = if (index + 1) * ENTRY < first { begin(index + 1) } else { block.len() };
        let mut name = block.get(begin(index)..end).ok_or_else(damaged)?;
        if (index + 1) * ENTRY == first {
            name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        }
        if name.is_empty() || name.len() > LONGEST_NAME || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(damaged());
        }
        found.push((u64_at(block, index * ENTRY), name.to_vec()));
    }
    Ok(found)
}
