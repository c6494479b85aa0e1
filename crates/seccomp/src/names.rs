//! From a name to its row in the table of numbers, through a hash table that the compiler fills.

use crate::numbers::ROWS;

const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;
static TABLE: [u16; SLOTS] = fill();

/// FNV-1a, which can be computed at compile time and is good enough for 500 words.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 15) as usize % SLOTS
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

const fn fill() -> [u16; SLOTS] {
    let mut table = [EMPTY; SLOTS];
    let mut row = 0;
    while row < ROWS.len() {
        let mut slot = hash(ROWS[row].name.as_bytes());
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = row as u16;
        row += 1;
    }
    table
}

const fn search(table: &[u16; SLOTS], name: &str) -> Option<u16> {
    let mut slot = hash(name.as_bytes());
    while table[slot] != EMPTY {
        if same(ROWS[table[slot] as usize].name.as_bytes(), name.as_bytes()) {
            return Some(table[slot]);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// The row of a system call; `None` for names of other processors and of later kernels.
pub(crate) fn row(name: &str) -> Option<u16> {
    search(&TABLE, name)
}

/// The rows of names that are known to be in the table: a wrong one does not compile.
pub(crate) const fn rows<const COUNT: usize>(names: [&str; COUNT]) -> [u16; COUNT] {
    const FILLED: &[u16; SLOTS] = &fill();
    let mut rows = [0; COUNT];
    let mut at = 0;
    while at < COUNT {
        rows[at] = match search(FILLED, names[at]) {
            Some(row) => row,
            None => panic!("a system call that is not in the table"),
        };
        at += 1;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_row() {
        for (index, found) in ROWS.iter().enumerate() {
            assert_eq!(row(found.name).map(usize::from), Some(index), "{}", found.name);
        }
        assert!(row("").is_none() && row("no_such_call").is_none() && row("Read").is_none());
        assert!(ROWS.is_sorted_by_key(|row| row.name));
    }
}
