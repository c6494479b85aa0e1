//! Which file a log file is, whatever its name is by then.
//!
//! The inode alone does not say: ext4 gives a new file the number of one that was just removed, and a compressed log file
//! outlives the one that it was made from. With the time of birth (statx(2), Linux 4.11; ext4, XFS, btrfs, and tmpfs since 6.6)
//! it does. Where there is none, the inode has to do.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};

/// Of an open file.
pub(crate) fn of(file: &File) -> std::io::Result<u64> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    match rustix::fs::statx(file.as_fd(), c"", AtFlags::EMPTY_PATH, wanted) {
        Ok(status) => Ok(mix(&status)),
        Err(rustix::io::Errno::NOSYS) => Ok(rustix::fs::fstat(file)?.st_ino),
        Err(errno) => Err(errno.into()),
    }
}

/// Of the file that a name stands for now.
pub(crate) fn at(path: &Path) -> std::io::Result<u64> {
    match rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::BTIME) {
        Ok(status) => Ok(mix(&status)),
        Err(rustix::io::Errno::NOSYS) => Ok(rustix::fs::stat(path)?.st_ino),
        Err(errno) => Err(errno.into()),
    }
}

/// One number of both: the few bits of an inode's number that are in use above the nanoseconds of its birth.
fn mix(status: &Statx) -> u64 {
    if status.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return status.stx_ino;
    }
    let birth =
        (status.stx_btime.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(status.stx_btime.tv_nsec.into());
    birth ^ status.stx_ino.rotate_right(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut known = std::collections::HashSet::new();
        for _ in 0..20 {
            let file = File::create(&path).unwrap();
            let identity = of(&file).unwrap();
            assert_eq!(at(&path).unwrap(), identity);
            std::fs::rename(&path, directory.path().join("log.1")).unwrap();
            assert_eq!(of(&file).unwrap(), identity, "a rename makes it another file");
            std::fs::remove_file(directory.path().join("log.1")).unwrap();
            assert!(known.insert(identity), "an inode that was given again looks like the file before");
            // Times of birth have the grain of the kernel's tick; a log takes longer to fill.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
