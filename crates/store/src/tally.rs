//! Counting a tree: what a layer should contain, what it does contain, and what it takes on disk.

use crate::directory::OPEN;
use crate::error::{During, SystemError, quoted};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, RawDir, Stat};
use std::collections::HashSet;
use std::mem::MaybeUninit;

/// What can be compared after a power cut: each name counts, and each name of a regular file counts its size, so that hard
/// links need no memory. Sums wrap: sparse files of an archive can claim more than there are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tally {
    pub(crate) names: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.names += 1;
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// The reverse of [`Tally::add`].
    pub(crate) fn take(&mut self, bytes: u64) {
        self.names = self.names.saturating_sub(1);
        self.bytes = self.bytes.wrapping_sub(bytes);
    }

    pub(crate) fn remove(&mut self, stat: &Stat) {
        self.names = self.names.saturating_sub(1);
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.bytes = self.bytes.wrapping_sub(stat.st_size.unsigned_abs());
        }
    }
}

/// A tree as it is.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// Bytes in blocks, as du(1) counts them: each inode once, the top directory too.
    pub(crate) disk: u64,
    linked: HashSet<(u64, u64)>,
}

/// Walks the tree below `directory`, without the directory itself in the tally.
pub(crate) fn measure(directory: BorrowedFd<'_>, label: &str) -> Result<Measured, SystemError> {
    let mut measured = Measured::default();
    let stat = fs::fstat(directory).during(|| format!("fstat({label})"))?;
    measured.disk += blocks(&stat);
    walk(directory, label, &mut measured)?;
    Ok(measured)
}

fn walk(directory: BorrowedFd<'_>, label: &str, measured: &mut Measured) -> Result<(), SystemError> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry.during(|| format!("getdents64({label}/…)"))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let failed =
            |call: &str, errno| SystemError::new(format!("{call}({label}/…, {})", quoted(name.to_bytes())), errno);
        let stat = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A container at work.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(errno) => return Err(failed("fstatat", errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        measured.tally.add(if kind == FileType::RegularFile { stat.st_size.unsigned_abs() } else { 0 });
        // Directories have one name, whatever their link count says.
        let seen =
            kind != FileType::Directory && stat.st_nlink > 1 && !measured.linked.insert((stat.st_dev, stat.st_ino));
        if !seen {
            measured.disk += blocks(&stat);
        }
        if kind == FileType::Directory {
            match fs::openat(directory, name, OPEN, Mode::empty()) {
                Ok(child) => walk(child.as_fd(), label, measured)?,
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(failed("openat", errno)),
            }
        }
    }
    Ok(())
}

fn blocks(stat: &Stat) -> u64 {
    stat.st_blocks.unsigned_abs() * 512
}
