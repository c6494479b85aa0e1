//! Unpacks an archive onto a tree that others work in at the same time, such as a running container's.
//!
//! Neither the archive nor the tree is trusted: every directory is resolved beneath the tree's root with openat2(2) and
//! `RESOLVE_IN_ROOT`, so that links among the parents lead somewhere inside (CVE-2018-15664, CVE-2019-14271), and the last
//! name is made by descriptor and never followed. Names of whiteouts mean nothing here.

use crate::Ownership;
use crate::directory::Directory;
use crate::error::{During, EntryError, StoreError, SystemError, quoted};
use crate::late::times;
use crate::remove;
use crate::shift::Shift;
use crate::xattrs::{self, Target};
use archive::decompress::{self, Decompressor};
use archive::{Entry, Kind, Reader};
use kernel::beneath::{self, Limits};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::io::{BufRead, BufReader, Read};

/// Bytes of directories' names that are remembered for their times; later ones get theirs at once.
const REMEMBERED: usize = 16 << 20;

/// Whose files the unpacked ones are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// As the archive says.
    #[default]
    Archive,
    /// The caller's.
    Caller,
    /// All of one user and group.
    All(u32, u32),
}

/// How an archive is unpacked onto a tree.
#[derive(Clone, Debug, Default)]
pub struct Onto {
    /// Whose files they are.
    pub owners: Owners,
    /// Refuse to replace a directory by something else and the reverse.
    pub keep_kinds: bool,
    /// Members below the first name are unpacked below the second: `(old, new)`; an empty old name stands for all.
    pub rename: Option<(Vec<u8>, Vec<u8>)>,
    /// The owners that come out of it are others on the tree.
    pub shift: Shift,
}

/// Unpacks an archive, compressed or not, into `directory`, an absolute path resolved beneath `root`, which must exist.
///
/// # Errors
/// [`StoreError::Entry`] for a member that cannot be unpacked; what came before it stays. System errors.
pub fn unpack_onto(
    root: BorrowedFd<'_>,
    directory: &[u8],
    source: impl Read,
    options: &Onto,
    ownership: Ownership,
) -> Result<(), StoreError> {
    let plain = Decompressor::new(source, decompress::Limits::default()).map_err(StoreError::Decompress)?;
    let mut reader = Reader::new(BufReader::with_capacity(128 << 10, plain), archive::Limits::default());
    let mut unpacker = Unpacker { root, directory, options, ownership, parent: None, late: Vec::new(), remembered: 0 };
    while let Some(entry) = reader.next().map_err(StoreError::Archive)? {
        unpacker.member(&entry, &mut reader).map_err(|source| match source {
            EntryError::Archive(source) => StoreError::Archive(source),
            source => StoreError::Entry { path: quoted(&entry.path), source },
        })?;
    }
    unpacker.finish();
    Ok(())
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    directory: &'a [u8],
    options: &'a Onto,
    ownership: Ownership,
    /// The directory of the last member, by its path beneath the root: the next one is nearly always in the same.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, which change with each name made in them.
    late: Vec<(Vec<u8>, archive::Time)>,
    remembered: usize,
}

impl Unpacker<'_> {
    fn member<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), EntryError> {
        let path = self.place(&entry.path)?;
        let Some((name, parents)) = path.split_last() else {
            // The directory that is unpacked into is as it is, as in Docker.
            return Ok(());
        };
        self.enter(parents)?;
        // `enter` has just set it.
        let Some((_, parent)) = self.parent.as_ref() else { return Err(EntryError::Name) };
        let parent = parent.try_clone().map_err(|error| {
            SystemError::new("fcntl(<directory>, F_DUPFD_CLOEXEC)", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let parent = parent.as_fd();
        let exists = self.make_room(parent, name, entry)?;
        match &entry.kind {
            Kind::Directory => {
                if !exists {
                    fs::mkdirat(parent, &**name, Mode::RWXU).during(|| format!("mkdirat({})", quoted(name)))?;
                }
                return self.directory(parent, name, &path, entry);
            }
            Kind::Regular => return self.regular(parent, name, entry, reader),
            Kind::Symlink => {
                fs::symlinkat(&*entry.link, parent, &**name).during(|| format!("symlinkat({})", quoted(name)))?;
            }
            Kind::HardLink => return self.hard_link(parent, name, entry),
            Kind::Fifo => node(parent, name, FileType::Fifo, 0)?,
            Kind::Character { major, minor } => {
                node(parent, name, FileType::CharacterDevice, fs::makedev(*major, *minor))?;
            }
            Kind::Block { major, minor } => node(parent, name, FileType::BlockDevice, fs::makedev(*major, *minor))?,
            Kind::Unknown(type_byte) => return Err(EntryError::Kind(*type_byte)),
        }
        self.dress(parent, name, entry)
    }

    /// The names of a member's path, renamed as asked.
    fn place(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, EntryError> {
        let mut names: Vec<Vec<u8>> = crate::members::components(path)?.into_iter().map(<[u8]>::to_vec).collect();
        match &self.options.rename {
            Some((old, new)) if old.is_empty() => names.insert(0, new.clone()),
            Some((old, new)) if names.first() == Some(old) => names[0].clone_from(new),
            _ => {}
        }
        Ok(names)
    }

    fn beneath(&self, names: &[Vec<u8>]) -> Vec<u8> {
        let mut path = self.directory.to_vec();
        for name in names {
            path.push(b'/');
            path.extend(name);
        }
        path
    }

    /// Opens the directory of a member, making what is missing below the one that is unpacked into.
    fn enter(&mut self, parents: &[Vec<u8>]) -> Result<(), EntryError> {
        let path = self.beneath(parents);
        if self.parent.as_ref().is_some_and(|(known, _)| *known == path) {
            return Ok(());
        }
        let found = match (open(self.root, &path), parents.split_last()) {
            (Err(Errno::NOENT), Some((name, above))) => {
                self.enter(above)?;
                if let Some((_, parent)) = &self.parent {
                    let made = fs::mkdirat(parent, &**name, Mode::from_raw_mode(0o755));
                    // A dangling link stands there.
                    if made == Err(Errno::EXIST) {
                        return Err(EntryError::Parent { parent: quoted(&path) });
                    }
                    made.during(|| format!("mkdirat({}, 0755)", quoted(&path)))?;
                }
                open(self.root, &path)
            }
            (found, _) => found,
        };
        match found {
            Ok(fd) => self.parent = Some((path, fd)),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(EntryError::Parent { parent: quoted(&path) }),
            Err(errno) => {
                return Err(SystemError::new(format!("openat2(<root>, {}, O_DIRECTORY)", quoted(&path)), errno).into());
            }
        }
        Ok(())
    }

    /// Removes what is in the way; true if a directory is there for a directory.
    fn make_room(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<bool, EntryError> {
        let stat = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(SystemError::new(format!("fstatat({})", quoted(name)), errno).into()),
        };
        let there = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let comes = entry.kind == Kind::Directory;
        if there && comes {
            return Ok(true);
        }
        if self.options.keep_kinds && there != comes {
            return Err(EntryError::Replace {
                old: if there { "directory" } else { "non-directory" },
                new: if comes { "directory" } else { "non-directory" },
            });
        }
        if there {
            self.parent = None;
            let call = |call: &str| format!("{call}({})", quoted(name));
            let fd = fs::openat(parent, name, crate::directory::OPEN, Mode::empty()).during(|| call("openat"))?;
            remove::content(&Directory::from_fd(fd, "<replaced>"))?;
            fs::unlinkat(parent, name, AtFlags::REMOVEDIR).during(|| call("rmdir"))?;
        } else {
            fs::unlinkat(parent, name, AtFlags::empty()).during(|| format!("unlinkat({})", quoted(name)))?;
        }
        Ok(false)
    }

    fn regular<R: BufRead>(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), EntryError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .during(|| format!("openat({}, O_WRONLY|O_CREAT|O_EXCL)", quoted(name)))?;
        crate::extract::write_content(entry, reader, &fd, name)?;
        self.owner(entry, |uid, gid| fs::fchown(&fd, Some(uid), Some(gid)))?;
        self.attributes(&Target::Open(fd.as_fd()), entry)?;
        let mode = Mode::from_raw_mode(entry.mode);
        fs::fchmod(&fd, mode).during(|| format!("fchmod({}, {mode:?})", quoted(name)))?;
        fs::futimens(&fd, &times(entry.mtime)).during(|| format!("utimensat({})", quoted(name)))?;
        Ok(())
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[Vec<u8>],
        entry: &Entry,
    ) -> Result<(), EntryError> {
        let fd = fs::openat(parent, name, crate::directory::OPEN, Mode::empty())
            .during(|| format!("openat({}, O_DIRECTORY|O_NOFOLLOW)", quoted(name)))?;
        self.owner(entry, |uid, gid| fs::fchown(&fd, Some(uid), Some(gid)))?;
        self.attributes(&Target::Open(fd.as_fd()), entry)?;
        let mode = Mode::from_raw_mode(entry.mode);
        fs::fchmod(&fd, mode).during(|| format!("fchmod({}, {mode:?})", quoted(name)))?;
        fs::futimens(&fd, &times(entry.mtime)).during(|| format!("utimensat({})", quoted(name)))?;
        let path = self.beneath(path);
        if self.remembered + path.len() < REMEMBERED {
            self.remembered += path.len();
            self.late.push((path, entry.mtime));
        }
        Ok(())
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), EntryError> {
        let problem = |problem| EntryError::LinkTarget { target: quoted(&entry.link), problem };
        let target = self.place(&entry.link).map_err(|_| problem("outside the archive or no name"))?;
        let (last, above) = target.split_last().ok_or_else(|| problem("the directory itself"))?;
        let above = open(self.root, &self.beneath(above)).map_err(|_| problem("not there"))?;
        let stat = fs::statat(&above, &**last, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| problem("not there"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(problem("a directory"));
        }
        fs::linkat(&above, &**last, parent, name, AtFlags::empty())
            .during(|| format!("linkat({}, {})", quoted(last), quoted(name)))?;
        Ok(())
    }

    fn dress(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), EntryError> {
        self.owner(entry, |uid, gid| fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
        self.attributes(&Target::Named(parent, name), entry)?;
        if entry.kind != Kind::Symlink {
            let path = quoted(name);
            self.mode(parent, name, entry).during(|| format!("fchmodat({path})"))?;
        }
        fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .during(|| format!("utimensat({})", quoted(name)))?;
        Ok(())
    }

    /// A node was just made; were it exchanged for a link since, chmod(2) must not follow that.
    fn mode(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
        use rustix::fd::AsRawFd;
        let node = fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&node)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), Mode::from_raw_mode(entry.mode))
    }

    fn owner(&self, entry: &Entry, change: impl FnOnce(Uid, Gid) -> rustix::io::Result<()>) -> Result<(), EntryError> {
        let (uid, gid) = match self.options.owners {
            Owners::Caller => return Ok(()),
            Owners::All(uid, gid) => (uid.into(), gid.into()),
            Owners::Archive => (entry.uid, entry.gid),
        };
        if self.ownership.single_id {
            return Ok(());
        }
        let missing = EntryError::Owner { uid, gid };
        let own = |id: u64| u32::try_from(id).ok();
        let Some((uid, gid)) = own(uid).zip(own(gid)).and_then(|(uid, gid)| self.options.shift.outside(uid, gid))
        else {
            return Err(missing);
        };
        let (uid, gid) = (u64::from(uid), u64::from(gid));
        let (Ok(user), Ok(group)) = (u32::try_from(uid), u32::try_from(gid)) else { return Err(missing) };
        if user == u32::MAX || group == u32::MAX {
            return Err(missing);
        }
        match change(Uid::from_raw(user), Gid::from_raw(group)) {
            Ok(()) => Ok(()),
            // An id without a mapping.
            Err(Errno::INVAL) => Err(missing),
            Err(errno) => {
                Err(SystemError::new(format!("fchownat({}, {uid}, {gid})", quoted(&entry.path)), errno).into())
            }
        }
    }

    /// What cannot be kept here is left out, as in Docker.
    fn attributes(&self, target: &Target<'_>, entry: &Entry) -> Result<(), EntryError> {
        xattrs::apply(target, &entry.xattrs, &entry.path).map(drop)
    }

    fn finish(&mut self) {
        for (path, time) in self.late.drain(..).rev() {
            // One that was removed or exchanged meanwhile needs no time.
            if let Ok(fd) = open(self.root, &path) {
                let link = std::os::fd::AsRawFd::as_raw_fd(&fd);
                let path = format!("/proc/self/fd/{link}");
                fs::utimensat(fs::CWD, path, &times(time), AtFlags::empty()).unwrap_or_default();
            }
        }
    }
}

fn node(parent: BorrowedFd<'_>, name: &[u8], kind: FileType, device: u64) -> Result<(), EntryError> {
    fs::mknodat(parent, name, kind, Mode::RUSR, device).during(|| format!("mknodat({}, {kind:?})", quoted(name)))?;
    Ok(())
}

/// Opens a directory beneath the root; names need not be UTF-8.
fn open(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match std::str::from_utf8(path) {
        Ok(text) => beneath::open(root, text, flags, Mode::empty(), Limits::default()).map_err(|error| error.errno()),
        Err(_) => {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let opened = (0..128).map(|_| fs::openat2(root, path, flags, Mode::empty(), resolve));
            opened.into_iter().find(|result| !matches!(result, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
        }
    }
}
