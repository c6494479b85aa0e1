//! Copying a tree: owners, modes, times, extended attributes, holes and hard links, by descriptor, following nothing.
//!
//! The same walk makes the shifted forms of layers (module `shifted`): other owners, overlayfs's own marks, and in place of the
//! data a reference to it.

use crate::Ownership;
use crate::directory::OPEN;
use crate::error::{During, StoreError, SystemError, quoted};
use crate::merge::Stack;
use crate::shift::Shift;
use crate::xattrs::{self, Target};
use crate::{merge, owners};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Levels after which a tree is refused: each has a descriptor and a stack frame.
const DEPTH: usize = 512;

/// Copies everything in one directory into another, and at last the directory's own attributes.
///
/// What cannot be had in a user namespace (device nodes) or on the target's file system (attributes) is left out; sockets
/// are, as in an archive.
///
/// # Errors
/// System errors; what was copied until then stays.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, ownership: Ownership) -> Result<(), StoreError> {
    whole(from, to, ownership, &As::default()).map_err(failed)
}

/// How a copy is to differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct As {
    /// Owners.
    pub(crate) shift: Shift,
    /// With the marks by which overlayfs takes a directory for opaque.
    pub(crate) marks: bool,
    /// Where the trees are below the directory that overlayfs is given for data; data that takes more than a block is then
    /// referred to there, and not copied.
    pub(crate) data: Vec<Vec<u8>>,
}

/// A file of one block takes no more than a reference to it, an attribute with a path, does.
const ONE_BLOCK: u64 = 4096;

/// What fits into an attribute on any file system.
const LONGEST_REFERENCE: usize = 1024;

/// As [`copy_tree`], with differences.
pub(crate) fn whole(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    ownership: Ownership,
    wanted: &As,
) -> Result<(), SystemError> {
    let mut copier = Copier::new(to, ownership, wanted);
    let source = fs::openat(from, c".", OPEN, Mode::empty()).during(|| "openat(<source>, \".\", O_DIRECTORY)");
    source.and_then(|source| copier.directory(source.as_fd(), to, 0))
}

/// Copies what a stack of layers shows; the data of the nth layer is in the nth place that is `wanted`.
pub(crate) fn merged(from: &Stack, to: BorrowedFd<'_>, ownership: Ownership, wanted: &As) -> Result<(), SystemError> {
    Copier::new(to, ownership, wanted).merged(from, to, 0)
}

/// Copies one regular file, with other owners.
pub(crate) fn file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    ownership: Ownership,
    wanted: &As,
) -> Result<(), SystemError> {
    let copier = Copier { path: name.to_bytes().to_vec(), ..Copier::new(to, ownership, wanted) };
    copier.file(from, to, name)
}

/// As [`copy_attributes`], with differences.
pub(crate) fn attributes(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    ownership: Ownership,
    wanted: &As,
) -> Result<(), SystemError> {
    Copier::new(to, ownership, wanted).directory_attributes(from, to)
}

/// Gives one directory the owner, mode, attributes and times of another.
///
/// # Errors
/// System errors.
pub fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, ownership: Ownership) -> Result<(), StoreError> {
    attributes(from, to, ownership, &As::default()).map_err(failed)
}

fn failed(source: SystemError) -> StoreError {
    StoreError::System { doing: "copy a tree", source }
}

struct Copier<'a> {
    top: BorrowedFd<'a>,
    ownership: Ownership,
    wanted: &'a As,
    path: Vec<u8>,
    /// The number of the layer that is copied from.
    layer: usize,
    /// Where the copies of inodes with several names are.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a> Copier<'a> {
    fn new(top: BorrowedFd<'a>, ownership: Ownership, wanted: &'a As) -> Copier<'a> {
        Copier { top, ownership, wanted, path: Vec::new(), layer: 0, linked: HashMap::new() }
    }

    fn merged(&mut self, from: &Stack, to: BorrowedFd<'_>, depth: usize) -> Result<(), SystemError> {
        self.check_depth(depth)?;
        for name in from.names()? {
            let Some(found) = from.find(&name)? else { continue };
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend(name.to_bytes());
            if found.kind() == FileType::Directory {
                fs::mkdirat(to, &name, Mode::RWXU).map_err(|errno| self.failed("mkdirat", errno))?;
                let target =
                    fs::openat(to, &name, OPEN, Mode::empty()).map_err(|errno| self.failed("openat", errno))?;
                self.merged(&from.enter(&name, self.ownership)?, target.as_fd(), depth + 1)?;
            } else {
                self.layer = from.origin(found.part);
                self.name(from.parts[found.part].as_fd(), to, &name, depth)?;
            }
            self.path.truncate(length);
        }
        match from.parts.first() {
            Some(topmost) => self.directory_attributes(topmost.as_fd(), to),
            None => Ok(()),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), SystemError> {
        match depth > DEPTH {
            true => Err(SystemError::new(format!("openat({}, <more than {DEPTH} levels>)", self.label()), Errno::LOOP)),
            false => Ok(()),
        }
    }

    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), SystemError> {
        self.check_depth(depth)?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut listing = RawDir::new(from, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.during(|| format!("getdents64({})", self.label()))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend(name.to_bytes());
            self.name(from, to, name, depth)?;
            self.path.truncate(length);
        }
        self.directory_attributes(from, to)
    }

    fn name(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), SystemError> {
        let stat = match fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("fstatat", errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && self.link(&stat, to, name)? {
            return Ok(());
        }
        match kind {
            FileType::Directory => {
                fs::mkdirat(to, name, Mode::RWXU).map_err(|errno| self.failed("mkdirat", errno))?;
                let open = |parent| fs::openat(parent, name, OPEN, Mode::empty());
                let source = open(from).map_err(|errno| self.failed("openat", errno))?;
                let target = open(to).map_err(|errno| self.failed("openat", errno))?;
                return self.directory(source.as_fd(), target.as_fd(), depth + 1);
            }
            FileType::RegularFile => return self.file(from, to, name),
            FileType::Symlink => {
                let target =
                    fs::readlinkat(from, name, Vec::new()).map_err(|errno| self.failed("readlinkat", errno))?;
                fs::symlinkat(&target, to, name).map_err(|errno| self.failed("symlinkat", errno))?;
            }
            FileType::Socket | FileType::Unknown => return Ok(()),
            kind => match fs::mknodat(to, name, kind, Mode::RUSR, stat.st_rdev) {
                Ok(()) => {}
                Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
                Err(errno) => return Err(self.failed("mknodat", errno)),
            },
        }
        self.named_attributes(from, to, name, &stat)
    }

    /// Makes another name for an inode that was copied already.
    fn link(&mut self, stat: &Stat, to: BorrowedFd<'_>, name: &CStr) -> Result<bool, SystemError> {
        let inode = (stat.st_dev, stat.st_ino);
        match self.linked.get(&inode) {
            Some(first) => {
                fs::linkat(self.top, &**first, to, name, AtFlags::empty())
                    .map_err(|errno| self.failed("linkat", errno))?;
                Ok(true)
            }
            None => {
                self.linked.insert(inode, self.path.clone());
                Ok(false)
            }
        }
    }

    fn file(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), SystemError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = fs::openat(from, name, flags, Mode::empty()).map_err(|errno| self.failed("openat", errno))?;
        let stat = fs::fstat(&source).map_err(|errno| self.failed("fstat", errno))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target =
            fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| self.failed("openat", errno))?;
        let size = stat.st_size.unsigned_abs();
        if !self.refer(&target, size)? {
            content(&source, &target, size).map_err(|errno| self.failed("copy_file_range", errno))?;
        }
        self.owner(&stat, |uid, gid| fs::fchown(&target, Some(uid), Some(gid)))?;
        self.attributes(from, name.to_bytes(), &Target::Open(target.as_fd()))?;
        // After the owner, whose change takes set-id bits away.
        fs::fchmod(&target, mode(&stat)).map_err(|errno| self.failed("fchmod", errno))?;
        fs::futimens(&target, &times(&stat)).map_err(|errno| self.failed("utimensat", errno))
    }

    /// Marks an empty file as one whose data overlayfs finds elsewhere (Documentation/filesystems/overlayfs.rst, "Metadata only
    /// copy up" and "Data-only lower layers"); false if the data must be copied. The size comes last, as a power cut may
    /// leave less than was done: a file of the right size has its marks.
    fn refer(&self, target: &OwnedFd, size: u64) -> Result<bool, SystemError> {
        let Some(data) = self.wanted.data.get(self.layer).filter(|_| size > ONE_BLOCK) else { return Ok(false) };
        let place = [&data[..], b"/", &self.path].concat();
        if place.len() > LONGEST_REFERENCE {
            return Ok(false);
        }
        let set = |name: &str, value: &[u8]| fs::fsetxattr(target, name, value, fs::XattrFlags::empty());
        match set("user.overlay.redirect", &place).and_then(|()| set("user.overlay.metacopy", b"")) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE | Errno::OPNOTSUPP) => {
                fs::fremovexattr(target, "user.overlay.redirect").ok();
                return Ok(false);
            }
            Err(errno) => return Err(self.failed("fsetxattr", errno)),
        }
        fs::ftruncate(target, size).map_err(|errno| self.failed("ftruncate", errno))?;
        Ok(true)
    }

    fn named_attributes(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<(), SystemError> {
        self.owner(stat, |uid, gid| fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
        self.attributes(from, name.to_bytes(), &Target::Named(to, name.to_bytes()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            fs::chmodat(to, name, mode(stat), AtFlags::empty()).map_err(|errno| self.failed("fchmodat", errno))?;
        }
        fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed("utimensat", errno))
    }

    fn directory_attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), SystemError> {
        let stat = fs::fstat(from).map_err(|errno| self.failed("fstat", errno))?;
        self.owner(&stat, |uid, gid| fs::fchown(to, Some(uid), Some(gid)))?;
        self.attributes(from, b".", &Target::Open(to))?;
        if self.wanted.marks && merge::is_opaque(from, self.ownership)? {
            xattrs::set_opaque(to, self.ownership).map_err(|_| self.failed("fsetxattr", Errno::IO))?;
        }
        fs::fchmod(to, mode(&stat)).map_err(|errno| self.failed("fchmod", errno))?;
        fs::futimens(to, &times(&stat)).map_err(|errno| self.failed("utimensat", errno))
    }

    fn owner(&self, stat: &Stat, change: impl FnOnce(Uid, Gid) -> rustix::io::Result<()>) -> Result<(), SystemError> {
        if self.ownership.single_id {
            return Ok(());
        }
        let (uid, gid) = self.wanted.shift.stored(stat.st_uid, stat.st_gid);
        change(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(|errno| self.failed("fchownat", errno))
    }

    /// What the target's file system cannot keep is left out, as in a layer.
    fn attributes(&self, from: BorrowedFd<'_>, name: &[u8], target: &Target<'_>) -> Result<(), SystemError> {
        let mut found = xattrs::read(from, name).map_err(|errno| self.failed("listxattr", errno))?;
        owners::to_stored(&mut found, &self.wanted.shift);
        match xattrs::apply(target, &found, &self.path) {
            Ok(_left_out) => Ok(()),
            Err(crate::error::EntryError::System(error)) => Err(error),
            // Not reached: attributes have system errors only.
            Err(_) => Err(self.failed("setxattr", Errno::IO)),
        }
    }

    fn label(&self) -> String {
        format!("<tree>/{}", quoted(&self.path))
    }

    fn failed(&self, call: &str, errno: Errno) -> SystemError {
        SystemError::new(format!("{call}({})", self.label()), errno)
    }
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    // Nanoseconds of a stat are below 10^9.
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies what is not a hole; a file that shrinks meanwhile keeps its first size.
fn content(from: &OwnedFd, to: &OwnedFd, size: u64) -> rustix::io::Result<()> {
    let mut at = 0;
    while at < size {
        let data = match fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno),
        };
        let end = fs::seek(from, SeekFrom::Hole(data)).unwrap_or(size).min(size);
        if end <= data || !piece(from, to, data, end)? {
            break;
        }
        at = end;
    }
    fs::ftruncate(to, size)
}

/// Copies a range; false if the source ended before.
fn piece(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> rustix::io::Result<bool> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let wanted = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), wanted) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return by_buffer(from, to, read_at, end);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn by_buffer(from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> rustix::io::Result<bool> {
    let mut buffer = vec![0; 128 << 10];
    while at < end {
        let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer[..wanted], at))?;
        if count == 0 {
            return Ok(false);
        }
        let mut done = 0;
        while done < count {
            let offset = at + done as u64;
            done += rustix::io::retry_on_intr(|| rustix::io::pwrite(to, &buffer[done..count], offset))?;
        }
        at += count as u64;
    }
    Ok(true)
}
