//! Directories back into archives: one layer with its whiteouts, or a whole stack as the container sees it.
//!
//! The archive is reproducible: names in byte order, whole seconds (as Docker writes them), no user names. Sockets cannot be
//! archived and are left out. A file that shrinks while it is read is filled with zeros up to the size in its header.

use crate::Ownership;
use crate::error::{During, StoreError, SystemError, quoted};
use crate::merge::{Found, Stack, is_opaque};
use crate::shift::Shift;
use crate::{owners, xattrs};
use archive::{Attributes, Header, Kind, Time, Writer};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Writes one layer in the OCI format: overlayfs's marks become `.wh.` names.
pub(crate) fn layer<W: Write>(tree: &Stack, ownership: Ownership, sink: W) -> Result<W, StoreError> {
    Packer::new(ownership, sink, true).finish(tree)
}

/// The same without the empty directories and files at some paths.
pub(crate) fn changes<W: Write>(
    tree: &Stack,
    ownership: Ownership,
    mount_points: &[&str],
    sink: W,
) -> Result<W, StoreError> {
    let mut packer = Packer::new(ownership, sink, true);
    packer.left_out = relative(mount_points);
    packer.finish(tree)
}

/// Paths as the packer has them.
pub(crate) fn relative(paths: &[&str]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| path.trim_start_matches('/').into()).collect()
}

/// Writes what the stack shows.
pub(crate) fn merged<W: Write>(tree: &Stack, ownership: Ownership, sink: W) -> Result<W, StoreError> {
    Packer::new(ownership, sink, false).finish(tree)
}

/// Writes a directory and what is in it under the archive name `name`, which may be `.`. What the kernel shows of itself
/// (procfs, sysfs, cgroups) is left out but for the directory that it is mounted on. Returns the sink.
///
/// # Errors
/// [`StoreError::Sink`], system errors.
pub fn pack_tree<W: Write>(
    directory: OwnedFd,
    name: &[u8],
    ownership: Ownership,
    shift: &Shift,
    sink: W,
) -> Result<W, StoreError> {
    let mut packer = Packer::new(ownership, sink, false);
    packer.path = name.to_vec();
    let stat = fs::fstat(&directory).during(|| "fstat(<directory>)").map_err(system)?;
    packer.member(directory.as_fd(), &c".".to_owned(), &stat, (Kind::Directory, &[]), shift)?;
    packer.finish(&Stack::of(directory, Arc::new(shift.clone())))
}

/// Writes one name of a directory, which is no directory itself, under the archive name `name`. Returns the sink.
///
/// # Errors
/// `ENOENT` if it is gone; [`StoreError::Sink`], system errors.
pub fn pack_entry<W: Write>(
    parent: BorrowedFd<'_>,
    entry: &CStr,
    name: &[u8],
    ownership: Ownership,
    shift: &Shift,
    sink: W,
) -> Result<W, StoreError> {
    let mut packer = Packer::new(ownership, sink, false);
    packer.path = name.to_vec();
    let stat = fs::statat(parent, entry, fs::AtFlags::SYMLINK_NOFOLLOW);
    let stat = stat.during(|| format!("fstatat({})", quoted(entry.to_bytes()))).map_err(system)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let call = || format!("fstatat({})", quoted(entry.to_bytes()));
            return Err(system(SystemError::new(call(), Errno::ISDIR)));
        }
        FileType::Socket | FileType::Unknown => {
            let call = format!("archive the socket {}", quoted(entry.to_bytes()));
            return Err(system(SystemError::new(call, Errno::OPNOTSUPP)));
        }
        kind => packer.file(parent, &entry.to_owned(), &stat, kind, shift)?,
    }
    packer.writer.finish().map_err(StoreError::Sink)
}

/// Levels after which a tree is refused: each has a descriptor and a stack frame.
const DEPTH: usize = 512;

struct Packer<W> {
    depth: usize,
    /// Left out when they are empty.
    left_out: Vec<Vec<u8>>,
    writer: Writer<W>,
    ownership: Ownership,
    /// Write marks instead of obeying them.
    marks: bool,
    path: Vec<u8>,
    /// Names of inodes that have several.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

fn system(source: SystemError) -> StoreError {
    StoreError::System { doing: "read the tree for an archive", source }
}

impl<W: Write> Packer<W> {
    fn new(ownership: Ownership, sink: W, marks: bool) -> Packer<W> {
        Packer {
            depth: 0,
            left_out: Vec::new(),
            writer: Writer::new(sink),
            ownership,
            marks,
            path: Vec::new(),
            linked: HashMap::new(),
        }
    }

    fn finish(mut self, tree: &Stack) -> Result<W, StoreError> {
        self.directory(tree)?;
        self.writer.finish().map_err(StoreError::Sink)
    }

    fn directory(&mut self, stack: &Stack) -> Result<(), StoreError> {
        let opaque = match stack.parts.first() {
            Some(top) if self.marks => is_opaque(top.as_fd(), self.ownership).map_err(system)?,
            _ => false,
        };
        if opaque {
            // First, as the specification asks of those who write.
            self.mark(b".wh..wh..opq")?;
        }
        for name in stack.names().map_err(system)? {
            match stack.find(&name).map_err(system)? {
                Some(found) => self.name(stack, &name, &found)?,
                // Without marks a whiteout just hides; with marks there is one layer, so nothing else was found.
                None if self.marks => self.mark(&[b".wh.", name.as_bytes()].concat())?,
                None => {}
            }
        }
        Ok(())
    }

    fn name(&mut self, stack: &Stack, name: &CString, found: &Found) -> Result<(), StoreError> {
        let length = self.path.len();
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend(name.as_bytes());
        let parent = stack.parts[found.part].as_fd();
        if self.left_out.contains(&self.path)
            && is_empty(parent, name, &found.stat, &self.path, &self.left_out).map_err(system)?
        {
            self.path.truncate(length);
            return Ok(());
        }
        let shift = stack.shift_of(found.part);
        let result = match found.kind() {
            FileType::Directory => {
                self.member(parent, name, &found.stat, (Kind::Directory, &[]), shift).and_then(|()| {
                    let child = stack.enter(name, self.ownership).map_err(system)?;
                    if child.parts.first().is_some_and(is_kernels_own) {
                        return Ok(());
                    }
                    if self.depth > DEPTH {
                        let call = format!("openat({}, <more than {DEPTH} levels>)", self.label());
                        return Err(system(SystemError::new(call, Errno::LOOP)));
                    }
                    self.depth += 1;
                    let done = self.directory(&child);
                    self.depth -= 1;
                    done
                })
            }
            FileType::Socket | FileType::Unknown => Ok(()),
            kind => self.file(parent, name, &found.stat, kind, shift),
        };
        self.path.truncate(length);
        result
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        stat: &Stat,
        kind: FileType,
        shift: &Shift,
    ) -> Result<(), StoreError> {
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&inode) {
                let target = first.clone();
                return self.member(parent, name, stat, (Kind::HardLink, &target), shift);
            }
            self.linked.insert(inode, self.path.clone());
        }
        let (major, minor) = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
        match kind {
            FileType::Symlink => match fs::readlinkat(parent, name, Vec::new()) {
                Ok(target) => self.member(parent, name, stat, (Kind::Symlink, target.as_bytes()), shift),
                Err(Errno::NOENT | Errno::INVAL) => Ok(()),
                Err(errno) => Err(system(SystemError::new(format!("readlinkat({})", self.label()), errno))),
            },
            FileType::CharacterDevice => {
                self.member(parent, name, stat, (Kind::Character { major, minor }, &[]), shift)
            }
            FileType::BlockDevice => self.member(parent, name, stat, (Kind::Block { major, minor }, &[]), shift),
            FileType::Fifo => self.member(parent, name, stat, (Kind::Fifo, &[]), shift),
            _ => self.regular(parent, name, shift),
        }
    }

    fn regular(&mut self, parent: BorrowedFd<'_>, name: &CString, shift: &Shift) -> Result<(), StoreError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match fs::openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Vanished or replaced.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            Err(errno) => {
                let call = format!("openat({}, O_RDONLY|O_NOFOLLOW)", self.label());
                return Err(system(SystemError::new(call, errno)));
            }
        };
        let stat = fs::fstat(&fd).during(|| format!("fstat({})", self.label())).map_err(system)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let attributes = self.attributes(parent, name, shift)?;
        let size = stat.st_size.unsigned_abs();
        let (uid, gid) = shift.inside(stat.st_uid, stat.st_gid);
        let header = Header {
            size,
            uid: uid.into(),
            gid: gid.into(),
            ..header(&self.path, &stat, Kind::Regular, &[], &attributes)
        };
        let mut file = Reporting { file: File::from(fd), error: None };
        let filled = (&mut file).chain(io::repeat(0));
        let result = self.writer.append_data(&header, filled);
        match (file.error, result) {
            (Some(errno), _) => Err(system(SystemError::new(format!("read({})", self.label()), errno))),
            (None, result) => result.map_err(StoreError::Sink),
        }
    }

    /// A member without data.
    fn member(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        stat: &Stat,
        (kind, link): (Kind, &[u8]),
        shift: &Shift,
    ) -> Result<(), StoreError> {
        let attributes = if kind == Kind::HardLink { Vec::new() } else { self.attributes(parent, name, shift)? };
        let (uid, gid) = shift.inside(stat.st_uid, stat.st_gid);
        let owned = Header { uid: uid.into(), gid: gid.into(), ..header(&self.path, stat, kind, link, &attributes) };
        self.writer.append(&owned).map_err(StoreError::Sink)
    }

    fn mark(&mut self, name: &[u8]) -> Result<(), StoreError> {
        let path = match self.path.is_empty() {
            true => name.to_vec(),
            false => [&self.path[..], b"/", name].concat(),
        };
        let header = Header {
            path: &path,
            kind: Kind::Regular,
            link: &[],
            size: 0,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: &[],
        };
        self.writer.append(&header).map_err(StoreError::Sink)
    }

    fn attributes(&self, parent: BorrowedFd<'_>, name: &CString, shift: &Shift) -> Result<Attributes, StoreError> {
        let mut found = xattrs::read(parent, name.as_bytes())
            .map_err(|errno| system(SystemError::new(format!("listxattr({})", self.label()), errno)))?;
        owners::to_shown(&mut found, shift);
        Ok(found)
    }

    fn label(&self) -> String {
        quoted(&self.path)
    }
}

/// Whether a file has no byte, or a directory nothing but further mount points. Paths have no slash at their begin.
pub(crate) fn is_empty(
    parent: BorrowedFd<'_>,
    name: &CString,
    stat: &Stat,
    path: &[u8],
    mount_points: &[Vec<u8>],
) -> Result<bool, SystemError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(stat.st_size == 0),
        FileType::Directory => {}
        _ => return Ok(false),
    }
    let child = match fs::openat(parent, name, crate::directory::OPEN, Mode::empty()) {
        Ok(child) => Stack { parts: vec![child], ..Stack::default() },
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(SystemError::new(format!("openat({})", quoted(name.as_bytes())), errno)),
    };
    for name in child.names()? {
        let path = [path, b"/", name.as_bytes()].concat();
        let empty = match child.find(&name)? {
            Some(found) if mount_points.contains(&path) => {
                is_empty(child.parts[0].as_fd(), &name, &found.stat, &path, mount_points)?
            }
            _ => false,
        };
        if !empty {
            return Ok(false);
        }
    }
    Ok(true)
}

/// File systems whose files are not data (magic numbers of linux/magic.h): procfs, sysfs, cgroup, cgroup2, securityfs,
/// debugfs, tracefs, devpts, mqueue.
fn is_kernels_own(directory: &OwnedFd) -> bool {
    const MAGIC: [u64; 9] =
        [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x7363_6673, 0x6462_6720, 0x7472_6163, 0x1cd1, 0x1980_0202];
    fs::fstatfs(directory).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|magic| MAGIC.contains(&magic)))
}

fn header<'a>(path: &'a [u8], stat: &Stat, kind: Kind, link: &'a [u8], xattrs: &'a [(Vec<u8>, Vec<u8>)]) -> Header<'a> {
    Header {
        path,
        kind,
        link,
        size: 0,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid.into(),
        gid: stat.st_gid.into(),
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        xattrs,
    }
}

/// A file whose own errors are told from those of the archive's receiver.
struct Reporting {
    file: File,
    error: Option<Errno>,
}

impl Read for Reporting {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.read(out).inspect_err(|error| self.error = Errno::from_io_error(error))
    }
}
