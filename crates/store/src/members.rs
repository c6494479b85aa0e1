//! What the members of a layer's archive mean, whatever the layer becomes: `extract` makes a directory of them, `imager` an image.
//!
//! Marks of the OCI layer format: image-spec, layer.md, "Whiteouts".

use crate::error::{EntryError, StoreError, quoted};
use crate::tally::Tally;
use archive::{Entry, Reader};
use std::io::BufRead;

const MOST_WARNINGS: usize = 100;
/// PATH_MAX without the NUL.
const LONGEST_PATH: usize = 4095;
const MOST_LEVELS: usize = 256;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Extracted {
    pub(crate) size: u64,
    pub(crate) entries: u64,
    pub(crate) tally: Tally,
    /// Did the archive say what the root shall be?
    pub(crate) root_entry: bool,
    /// Did it make the root opaque?
    pub(crate) hides_lower: bool,
    /// How often something that was there had to give way.
    pub(crate) replaced: u64,
    pub(crate) warnings: Vec<String>,
    /// Warnings more than are kept.
    left_out: u64,
}

impl Extracted {
    pub(crate) fn warn(&mut self, warning: impl FnOnce() -> String) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(warning());
        } else {
            self.left_out += 1;
        }
    }

    /// At the end of the archive.
    pub(crate) fn complete(mut self) -> Extracted {
        if self.left_out > 0 {
            self.warnings.push(format!("and {} more warnings", self.left_out));
        }
        self
    }
}

/// Runs through a whole archive; returns the number of members.
pub(crate) fn each<R: BufRead>(
    reader: &mut Reader<R>,
    mut member: impl FnMut(&Entry, &mut Reader<R>) -> Result<(), EntryError>,
) -> Result<u64, StoreError> {
    let mut entries = 0;
    while let Some(entry) = reader.next().map_err(StoreError::Archive)? {
        entries += 1;
        member(&entry, reader).map_err(|source| match source {
            EntryError::Archive(source) => StoreError::Archive(source),
            source => StoreError::Entry { path: quoted(&entry.path), source },
        })?;
    }
    Ok(entries)
}

/// What a name says.
pub(crate) enum Meaning<'a> {
    /// The root of the layer.
    Root,
    /// Nothing at all.
    Nothing,
    /// The directory with these parents hides what is below it in other layers.
    Opaque(&'a [&'a [u8]]),
    /// The name in that directory hides one in other layers.
    Whiteout(&'a [&'a [u8]], &'a [u8]),
    /// A file of that name in that directory.
    File(&'a [&'a [u8]], &'a [u8]),
}

/// What the name `path` says.
pub(crate) fn meaning<'a>(path: &'a [&'a [u8]]) -> Result<Meaning<'a>, EntryError> {
    let Some((&name, parents)) = path.split_last() else { return Ok(Meaning::Root) };
    // Docker's AUFS kept its own files under such names; no other program gives them a meaning.
    let opaque = name == b".wh..wh..opq";
    let private = |name: &&[u8]| name.starts_with(b".wh..wh.");
    if parents.iter().any(private) || (private(&name) && !opaque) {
        return Ok(Meaning::Nothing);
    }
    if opaque {
        return Ok(Meaning::Opaque(parents));
    }
    match name.strip_prefix(b".wh.") {
        Some(b"" | b"." | b"..") => Err(EntryError::Whiteout),
        Some(hidden) => Ok(Meaning::Whiteout(parents, hidden)),
        None => Ok(Meaning::File(parents, name)),
    }
}

/// A member's name as a list of names; empty for the root.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, EntryError> {
    if path.is_empty() || path.contains(&0) {
        return Err(EntryError::Name);
    }
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&&b".."[..]) {
        return Err(EntryError::DotDot);
    }
    if path.len() > LONGEST_PATH || names.len() > MOST_LEVELS {
        return Err(EntryError::NameTooLong { length: path.len() });
    }
    Ok(names)
}

/// Where the hard link called `path` leads, as a list of names: to another name in the layer.
pub(crate) fn link_target<'a>(entry: &'a Entry, path: &[&[u8]]) -> Result<Vec<&'a [u8]>, EntryError> {
    let target = components(&entry.link).map_err(|_| no_target(entry, "outside the layer or no name"))?;
    match target.is_empty() {
        true => Err(no_target(entry, "the layer itself")),
        false if target == path => Err(no_target(entry, "the link itself")),
        false => Ok(target),
    }
}

/// Why a hard link cannot be made.
pub(crate) fn no_target(entry: &Entry, problem: &'static str) -> EntryError {
    EntryError::LinkTarget { target: quoted(&entry.link), problem }
}

/// Linux has 12 bits for the major number and 20 for the minor; mknod(2) would silently cut off the rest.
pub(crate) fn check_device(major: u32, minor: u32) -> Result<(), EntryError> {
    if major >= 1 << 12 || minor >= 1 << 20 { Err(EntryError::Device { major, minor }) } else { Ok(()) }
}

/// Owner and group. All bits set means "leave it" to chown(2).
pub(crate) fn owner(entry: &Entry) -> Result<(u32, u32), EntryError> {
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    id(entry.uid).zip(id(entry.gid)).ok_or(EntryError::Owner { uid: entry.uid, gid: entry.gid })
}
