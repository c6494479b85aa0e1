//! Extended attributes as an inode has them: some behind it, some shared with others.
//!
//! A name begins with one of the prefixes that have numbers; others cannot be stored. What is large, or was there before, is
//! written once, by itself, and named by its place.

use crate::error::Error;
use crate::format::{u16_at, u32_at};
use crate::output::Output;
use std::collections::HashMap;

/// An extended attribute: full name and value.
pub type Attribute = (Vec<u8>, Vec<u8>);

const HEADER: usize = 12;
/// An attribute with a larger value is always shared.
const LARGE: usize = 1 << 10;
/// Bytes of attributes that are remembered in order to share them.
const REMEMBERED: usize = 1 << 20;

const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// Can an attribute of that name be stored?
pub(crate) fn is_storable(name: &[u8]) -> bool {
    name.len() <= 255 && split(name).is_some_and(|(number, rest)| matches!(number, 2 | 3) == rest.is_empty())
}

fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix)?)))
}

/// What was written before.
#[derive(Default)]
pub(crate) struct Shared {
    /// With its number once it is shared.
    known: HashMap<Vec<u8>, Option<u32>>,
    bytes: usize,
}

impl Shared {
    /// The bytes behind an inode for its attributes, and their number of units. All are shared when they would not fit into
    /// `room`.
    pub(crate) fn encode(
        &mut self,
        attributes: &[Attribute],
        room: usize,
        output: &mut Output,
    ) -> Result<(Vec<u8>, u16), Error> {
        if attributes.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let whole = HEADER + attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        for (name, value) in attributes {
            let (number, rest) = split(name).ok_or(Error::Attributes)?;
            let length = u16::try_from(value.len()).map_err(|_| Error::Attributes);
            let mut entry = vec![rest.len() as u8, number];
            // 64 KiB is the kernel's limit for a value, and one more than there are numbers.
            entry.extend(length?.to_le_bytes());
            entry.extend(rest);
            entry.extend(value);
            entry.resize(entry.len().next_multiple_of(4), 0);
            match self.place(entry, value.len() > LARGE || whole > room, output)? {
                Ok(place) => shared.push(place),
                Err(entry) => own.extend(entry),
            }
        }
        let count = u8::try_from(shared.len()).map_err(|_| Error::Attributes)?;
        let mut bytes = vec![0; HEADER];
        bytes[4] = count;
        shared.iter().for_each(|place| bytes.extend(place.to_le_bytes()));
        bytes.extend(own);
        let units = u16::try_from((bytes.len() - HEADER) / 4 + 1).map_err(|_| Error::Attributes)?;
        Ok((bytes, units))
    }

    /// Where the entry is; the entry itself if it belongs behind its inode.
    fn place(&mut self, entry: Vec<u8>, must: bool, output: &mut Output) -> Result<Result<u32, Vec<u8>>, Error> {
        let before = match self.known.get(&entry) {
            Some(Some(place)) => return Ok(Ok(*place)),
            Some(None) => true,
            None => false,
        };
        let remembered = before || self.bytes + entry.len() <= REMEMBERED;
        let placed = match must || before {
            // 32 bits of four bytes each: beyond 16 GiB nothing is shared any more.
            true => match u32::try_from(output.place([&entry, &[], &[]])? / 4) {
                Ok(place) => Ok(place),
                Err(_) if must => return Err(Error::TooLarge),
                Err(_) => Err(()),
            },
            false => Err(()),
        };
        if remembered {
            if !before {
                self.bytes += entry.len();
            }
            self.known.insert(entry.clone(), placed.ok());
        }
        Ok(placed.map_err(|()| entry))
    }
}

/// Length of what is behind an inode, by its number of units.
pub(crate) fn length(units: u16) -> usize {
    if units == 0 { 0 } else { HEADER + 4 * (usize::from(units) - 1) }
}

/// The places of the shared attributes, and where the others begin.
pub(crate) fn shared_places(bytes: &[u8]) -> Result<(Vec<u32>, usize), Error> {
    let count = bytes.get(4).copied().map_or(0, usize::from);
    let end = HEADER + 4 * count;
    if end > bytes.len() {
        return Err(Error::Damaged("shared attributes"));
    }
    Ok(((0..count).map(|at| u32_at(bytes, HEADER + 4 * at)).collect(), end))
}

/// Length of the entry whose first four bytes are given.
pub(crate) fn entry_length(header: &[u8]) -> usize {
    (4 + usize::from(header[0]) + usize::from(u16_at(header, 2))).next_multiple_of(4)
}

/// Name and value of a whole entry.
pub(crate) fn decode(entry: &[u8]) -> Result<Attribute, Error> {
    let (name, value) = (usize::from(entry[0]), usize::from(u16_at(entry, 2)));
    let prefix = PREFIXES.iter().find(|(_, number)| *number == entry[1]);
    let (prefix, _) = prefix.ok_or(Error::Unknown("an unknown prefix of attributes"))?;
    let part = |from: usize, length: usize| entry.get(from..from + length).ok_or(Error::Damaged("an attribute"));
    Ok(([*prefix, part(4, name)?].concat(), part(4 + name, value)?.to_vec()))
}
