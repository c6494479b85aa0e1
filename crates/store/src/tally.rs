//! Counting a tree: what a layer should contain, what it does contain, and what it takes on disk.

use crate::DiskUsage;
use crate::directory::OPEN;
use crate::error::{During, SystemError, quoted};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, RawDir, Stat};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CStr;
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
    /// Inodes with several names that were counted, and their bytes.
    linked: HashMap<(u64, u64), u64>,
}

impl Measured {
    fn count(&mut self, stat: &Stat) {
        // Directories have one name, whatever their link count says.
        let several = FileType::from_raw_mode(stat.st_mode) != FileType::Directory && stat.st_nlink > 1;
        let seen = several && self.linked.insert((stat.st_dev, stat.st_ino), blocks(stat)).is_some();
        if !seen {
            self.disk += blocks(stat);
        }
    }
}

/// Walks the tree below `directory`, each name in it by itself; names that are not UTF-8 count in the sum only.
pub(crate) fn measure_each(directory: BorrowedFd<'_>, label: &str) -> Result<DiskUsage, SystemError> {
    let stat = fs::fstat(directory).during(|| format!("fstat({label})"))?;
    let mut usage = DiskUsage { all: blocks(&stat), each: BTreeMap::new() };
    // Inodes of several names by what they were counted with: a file that two entries share is there once.
    let mut linked = HashSet::new();
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry.during(|| format!("getdents64({label})"))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let mut measured = Measured::default();
        visit(directory, name, label, &mut measured)?;
        usage.all += measured.disk;
        for (inode, bytes) in measured.linked {
            if !linked.insert(inode) {
                usage.all -= bytes;
            }
        }
        if let Ok(name) = name.to_str() {
            usage.each.insert(name.to_owned(), measured.disk);
        }
    }
    Ok(usage)
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
        if name != c"." && name != c".." {
            visit(directory, name, label, measured)?;
        }
    }
    Ok(())
}

/// Counts a name and what is below it.
fn visit(directory: BorrowedFd<'_>, name: &CStr, label: &str, measured: &mut Measured) -> Result<(), SystemError> {
    let failed = |call: &str, errno| SystemError::new(format!("{call}({label}/…, {})", quoted(name.to_bytes())), errno);
    let stat = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // A container at work.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("fstatat", errno)),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    measured.tally.add(if kind == FileType::RegularFile { stat.st_size.unsigned_abs() } else { 0 });
    measured.count(&stat);
    if kind == FileType::Directory {
        match fs::openat(directory, name, OPEN, Mode::empty()) {
            Ok(child) => walk(child.as_fd(), label, measured)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(failed("openat", errno)),
        }
    }
    Ok(())
}

fn blocks(stat: &Stat) -> u64 {
    stat.st_blocks.unsigned_abs() * 512
}

#[cfg(test)]
mod tests {

    #[test]
    fn a_file_of_two_entries_is_there_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("one/file"), vec![b'x'; 1 << 20]).unwrap();
        std::fs::hard_link(directory.path().join("one/file"), directory.path().join("two/file")).unwrap();
        std::fs::write(directory.path().join("two/other"), vec![b'x'; 4096]).unwrap();
        let usage = crate::disk_usage_of_each(directory.path()).unwrap();
        assert_eq!(usage.all, crate::disk_usage(directory.path()).unwrap());
        for name in ["one", "two"] {
            assert_eq!(usage.each[name], crate::disk_usage(&directory.path().join(name)).unwrap(), "{name}");
        }
        assert!(usage.all < usage.each.values().sum());
    }
}
