//! Reading a stack of layer directories as overlayfs shows it, without mounting it.
//!
//! The rules are those of the kernel's Documentation/filesystems/overlayfs.rst: a character device 0:0 hides the name in the
//! layers below; directories of one name merge unless one is opaque; anything else hides what is below. The features that would
//! make a layer say more (`redirect_dir`, `metacopy`) are off in dhow's mounts.
//!
//! A container may be running in the topmost directory: what vanishes while it is read is left out.

use crate::Ownership;
use crate::directory::OPEN;
use crate::error::{During, SystemError, quoted};
use crate::shift::Shift;
use crate::xattrs;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, RawDir, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// One directory as a stack, topmost first: those parts of the layers that are visible in it.
#[derive(Default)]
pub(crate) struct Stack {
    pub(crate) parts: Vec<OwnedFd>,
    /// How owners in the topmost parts differ from those that are meant.
    pub(crate) shift: Arc<Shift>,
    /// How many parts that are.
    pub(crate) shifted: usize,
    /// Which of the stack's own layers each part is of; empty where all of them are parts.
    pub(crate) origins: Vec<usize>,
}

static AS_IT_IS: Shift = Shift { uids: Vec::new(), gids: Vec::new() };

/// A name in a [`Stack`].
pub(crate) struct Found {
    /// Which part it is in.
    pub(crate) part: usize,
    pub(crate) stat: Stat,
}

impl Found {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl Stack {
    /// One directory whose owners are shifted.
    pub(crate) fn of(directory: OwnedFd, shift: Arc<Shift>) -> Stack {
        Stack { parts: vec![directory], shift, shifted: 1, origins: Vec::new() }
    }

    /// How the owners in a part differ from those that are meant.
    pub(crate) fn shift_of(&self, part: usize) -> &Shift {
        if part < self.shifted { &self.shift } else { &AS_IT_IS }
    }

    /// The number of the layer, topmost first, that a part is of.
    pub(crate) fn origin(&self, part: usize) -> usize {
        self.origins.get(part).copied().unwrap_or(part)
    }

    /// Finds a name; `None` if no part has it or a whiteout hides it.
    pub(crate) fn find(&self, name: &CString) -> Result<Option<Found>, SystemError> {
        for (part, directory) in self.parts.iter().enumerate() {
            if let Some(stat) = stat(directory.as_fd(), name)? {
                return Ok((!is_whiteout(&stat)).then_some(Found { part, stat }));
            }
        }
        Ok(None)
    }

    /// The directory of that name: all parts that merge into it. Empty if it vanished.
    pub(crate) fn enter(&self, name: &CString, ownership: Ownership) -> Result<Stack, SystemError> {
        let mut parts = Vec::new();
        let (mut shifted, mut origins) = (0, Vec::new());
        for (part, directory) in self.parts.iter().enumerate() {
            match fs::openat(directory, name, OPEN, Mode::empty()) {
                Ok(child) => {
                    let last = is_opaque(child.as_fd(), ownership)?;
                    parts.push(child);
                    shifted += usize::from(part < self.shifted);
                    origins.push(self.origin(part));
                    if last {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // A whiteout, or a file that hides the rest.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => {
                    let call = format!("openat(<layer>/…, {}, O_DIRECTORY|O_NOFOLLOW)", quoted(name.as_bytes()));
                    return Err(SystemError::new(call, errno));
                }
            }
        }
        Ok(Stack { parts, shift: Arc::clone(&self.shift), shifted, origins })
    }

    /// All names in any part, sorted, whiteouts too.
    pub(crate) fn names(&self) -> Result<BTreeSet<CString>, SystemError> {
        let mut all = BTreeSet::new();
        for directory in &self.parts {
            names(directory.as_fd(), &mut all)?;
        }
        Ok(all)
    }
}

fn names(directory: BorrowedFd<'_>, all: &mut BTreeSet<CString>) -> Result<(), SystemError> {
    fs::seek(directory, fs::SeekFrom::Start(0)).during(|| "lseek(<layer>/…, 0)")?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry.during(|| "getdents64(<layer>/…)")?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            all.insert(entry.file_name().to_owned());
        }
    }
    Ok(())
}

/// `None` if there is no such name.
pub(crate) fn stat(directory: BorrowedFd<'_>, name: &CString) -> Result<Option<Stat>, SystemError> {
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(SystemError::new(format!("fstatat(<layer>/…, {})", quoted(name.as_bytes())), errno)),
    }
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn is_opaque(directory: BorrowedFd<'_>, ownership: Ownership) -> Result<bool, SystemError> {
    let name = xattrs::opaque_name(ownership);
    let mut value = [0_u8; 8];
    match fs::fgetxattr(directory, name, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(SystemError::new(format!("fgetxattr(<layer>/…, \"{name}\")"), errno)),
    }
}
