//! What differs between two stacks of layers, as overlayfs shows them: two images, or a layer and what it lies on.
//!
//! A file is compared by its inode first (layers that both stacks have), then by what stat(2) says, then by content, since two
//! builds of the same thing differ in times only too often. Extended attributes count.

use crate::Ownership;
use crate::changes::{Change, ChangeKind};
use crate::error::{During, SystemError, quoted};
use crate::merge::{Found, Stack};
use crate::xattrs;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, FileType, Mode, OFlags};
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// All differences from `old` to `new`, a directory before what is in it, names in byte order. What is below a directory that
/// was added or is gone is listed, too.
pub(crate) fn compare(old: &Stack, new: &Stack, ownership: Ownership) -> Result<Vec<Change>, SystemError> {
    let mut walk = Walk { ownership, out: Vec::new(), path: Vec::new() };
    walk.directory(old, new)?;
    Ok(walk.out)
}

struct Walk {
    ownership: Ownership,
    out: Vec<Change>,
    path: Vec<u8>,
}

impl Walk {
    fn directory(&mut self, old: &Stack, new: &Stack) -> Result<(), SystemError> {
        let mut names = old.names()?;
        names.extend(new.names()?);
        for name in names {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend(name.as_bytes());
            self.name(old, new, &name)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn name(&mut self, old: &Stack, new: &Stack, name: &CString) -> Result<(), SystemError> {
        let (before, after) = (old.find(name)?, new.find(name)?);
        let kind = match (&before, &after) {
            (None, None) => return Ok(()),
            (None, Some(_)) => Some(ChangeKind::Added),
            (Some(_), None) => Some(ChangeKind::Deleted),
            (Some(before), Some(after)) => {
                let same = same(old, before, new, after, name)?;
                (!same).then_some(ChangeKind::Modified)
            }
        };
        if let Some(kind) = kind {
            self.out.push(Change { path: self.path.clone(), kind });
        }
        let is_directory =
            |found: &Option<Found>| found.as_ref().is_some_and(|found| found.kind() == FileType::Directory);
        let enter = |stack: &Stack, found: &Option<Found>| match is_directory(found) {
            true => stack.enter(name, self.ownership),
            false => Ok(Stack::default()),
        };
        if is_directory(&before) || is_directory(&after) {
            let (old, new) = (enter(old, &before)?, enter(new, &after)?);
            self.directory(&old, &new)?;
        }
        Ok(())
    }
}

fn same(old: &Stack, before: &Found, new: &Stack, after: &Found, name: &CString) -> Result<bool, SystemError> {
    let (a, b) = (&before.stat, &after.stat);
    let inode = (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    let kind = before.kind();
    if inode && kind != FileType::Directory {
        return Ok(true);
    }
    let is_file = kind == FileType::RegularFile;
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if a.st_mode != b.st_mode
        || (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid)
        || (is_file && a.st_size != b.st_size)
        || (is_device && a.st_rdev != b.st_rdev)
    {
        return Ok(false);
    }
    let (left, right) = (old.parts[before.part].as_fd(), new.parts[after.part].as_fd());
    let failed = |call: &str, errno| SystemError::new(format!("{call}(<layer>/…, {})", quoted(name.as_bytes())), errno);
    let attributes = |parent| xattrs::read(parent, name.as_bytes()).map_err(|errno| failed("listxattr", errno));
    if attributes(left)? != attributes(right)? {
        return Ok(false);
    }
    match kind {
        FileType::Symlink => {
            let target = |parent| fs::readlinkat(parent, name, Vec::new()).map_err(|errno| failed("readlinkat", errno));
            Ok(target(left)? == target(right)?)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let open = |parent| -> Result<OwnedFd, SystemError> {
                fs::openat(parent, name, flags, Mode::empty())
                    .during(|| format!("openat(<layer>/…, {}, O_RDONLY|O_NOFOLLOW)", quoted(name.as_bytes())))
            };
            same_content(&File::from(open(left)?), &File::from(open(right)?), name)
        }
        _ => Ok(true),
    }
}

fn same_content(a: &File, b: &File, name: &CString) -> Result<bool, SystemError> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut offset = 0;
    loop {
        let read = |file: &File, buffer: &mut [u8]| {
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) => {
                        let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
                        return Err(SystemError::new(format!("pread({})", quoted(name.as_bytes())), errno));
                    }
                }
            }
            Ok(filled)
        };
        let (first, second) = (read(a, &mut left)?, read(b, &mut right)?);
        if first != second || left[..first] != right[..second] {
            return Ok(false);
        }
        if first == 0 {
            return Ok(true);
        }
        offset += first as u64;
    }
}
