//! `tmpcopyup`: a tmpfs that begins with what the image has at its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::error::Error as SystemCall;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Depth at which an attacker's tree of directories ends the copy with an error.
const MAXIMUM_DEPTH: usize = 256;

/// Copies files, directories, links and nodes with owner and mode; both trees are the container's, so nothing is followed.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> kernel::Result<()> {
    copy_directory(from, to, 0)
        .map_err(|(name, errno)| SystemCall::new(format!("copy of {name:?} into the tmpfs"), errno))
}

type Failed = (String, Errno);

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Failed> {
    let here = |errno| (".".to_owned(), errno);
    if depth > MAXIMUM_DEPTH {
        return Err(here(Errno::LOOP));
    }
    let readable = open(from, ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(here)?;
    let status = rustix::fs::fstat(&readable).map_err(here)?;
    for entry in Dir::read_from(&readable).map_err(here)? {
        let entry = entry.map_err(here)?;
        let Ok(name) = entry.file_name().to_str() else { return Err(here(Errno::ILSEQ)) };
        if name != "." && name != ".." {
            copy_entry(readable.as_fd(), to, name, depth)?;
        }
    }
    // Last, since a mode without write permission or another owner may stop this process from adding to it.
    let target = open(to, ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(here)?;
    rustix::fs::fchown(&target, Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))
        .map_err(here)?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(status.st_mode)).map_err(here)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &str, depth: usize) -> Result<(), Failed> {
    let fail = |errno| (name.to_owned(), errno);
    let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let mode = Mode::from_raw_mode(status.st_mode);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)).map_err(fail)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let (below, target) = (open(from, name, flags).map_err(fail)?, open(to, name, flags).map_err(fail)?);
            return copy_directory(below.as_fd(), target.as_fd(), depth + 1)
                .map_err(|(inner, errno)| (format!("{name}/{inner}"), errno));
        }
        FileType::RegularFile => copy_file(from, to, name, status.st_size).map_err(fail)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new()).map_err(fail)?;
            rustix::fs::symlinkat(target, to, name).map_err(fail)?;
        }
        _ => rustix::fs::mknodat(to, name, kind, mode, status.st_rdev).map_err(fail)?,
    }
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    // After the owner, whose change clears the set-user-id bit.
    if kind == FileType::Symlink { Ok(()) } else { rustix::fs::chmodat(to, name, mode, AtFlags::empty()).map_err(fail) }
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &str, size: i64) -> Result<(), Errno> {
    let source = open(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    let mut left = usize::try_from(size).unwrap_or(0);
    while left > 0 {
        match rustix::fs::sendfile(&target, &source, None, left)? {
            0 => break,
            copied => left -= copied.min(left),
        }
    }
    Ok(())
}

fn open(directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())
}
