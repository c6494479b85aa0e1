//! Unpacks an archive into a directory for overlayfs, one member at a time, in one pass.
//!
//! The archive is hostile: where a member goes is decided in `places`, never by a string path. The directory is new and
//! nobody else works in it, so a name that exists came from the same archive.
//!
//! Marks of the OCI layer format (image-spec, layer.md, "Whiteouts") become those of overlayfs (kernel,
//! Documentation/filesystems/overlayfs.rst): `.wh.x` a character device 0:0 called `x`, `.wh..wh..opq` an attribute of
//! its directory. A whiteout concerns lower layers only, wherever it stands in the archive; so one for a directory of this
//! layer makes that opaque, and a directory made where a whiteout or a file was is opaque too.
//!
//! System calls for a small file of root's: openat, write, utimensat, close. The rest only when something is unusual.

use crate::Ownership;
use crate::directory::Directory;
use crate::error::{During, EntryError, StoreError, SystemError, quoted};
use crate::late::{Late, Wish, times};
use crate::members::{self, Extracted, Meaning, components};
use crate::places::{Missing, Places};
use crate::replaced;
use crate::xattrs::{self, Target};
use archive::{Entry, Kind, Reader};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::io::BufRead;

/// One extraction.
pub(crate) struct Extractor {
    /// Parents of members.
    places: Places,
    /// Parents of hard links' targets, which are needed at the same time.
    targets: Places,
    ownership: Ownership,
    /// Whose files are made without asking.
    me: (u32, u32),
    /// Is the thread's umask 0?
    free_mask: bool,
    late: Late,
    out: Extracted,
}

/// Runs through a whole archive. The calling thread becomes the extraction's own: it gets a umask of its own.
pub(crate) fn extract<R: BufRead>(
    reader: &mut Reader<R>,
    root: OwnedFd,
    scratch: Directory,
    ownership: Ownership,
) -> Result<Extracted, StoreError> {
    let free_mask = kernel::private_umask::clear_umask_of_this_thread().is_ok();
    Extractor::new(root, scratch, ownership, free_mask)?.all(reader)
}

impl Extractor {
    fn new(root: OwnedFd, scratch: Directory, ownership: Ownership, free_mask: bool) -> Result<Extractor, StoreError> {
        let second = root.try_clone().map_err(|error| StoreError::System {
            doing: "unpack the layer",
            source: SystemError::new(
                "fcntl(<layer>, F_DUPFD_CLOEXEC)",
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            ),
        })?;
        Ok(Extractor {
            places: Places::new(root),
            targets: Places::new(second),
            ownership,
            me: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            free_mask,
            late: Late::new(scratch),
            out: Extracted::default(),
        })
    }

    fn all<R: BufRead>(mut self, reader: &mut Reader<R>) -> Result<Extracted, StoreError> {
        self.out.entries = members::each(reader, |entry, reader| self.member(entry, reader))?;
        self.finish()
    }

    fn member<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), EntryError> {
        let path = components(&entry.path)?;
        let (parents, name) = match members::meaning(&path)? {
            Meaning::Root => return self.root_entry(entry),
            Meaning::Nothing => return Ok(()),
            Meaning::Opaque(parents) => {
                let ownership = self.ownership;
                self.out.hides_lower |= parents.is_empty();
                return xattrs::set_opaque(self.parent(parents)?, ownership);
            }
            Meaning::Whiteout(parents, hidden) => return self.whiteout(parents, hidden),
            Meaning::File(parents, name) => (parents, name),
        };
        match &entry.kind {
            Kind::Regular => self.regular(entry, reader, parents, name),
            Kind::Directory => self.directory(entry, &path, parents, name),
            Kind::Symlink => self.symlink(entry, parents, name),
            Kind::HardLink => self.hard_link(entry, &path, parents, name),
            Kind::Fifo => self.node(entry, parents, name, FileType::Fifo, (0, 0)),
            Kind::Character { major, minor } => {
                self.node(entry, parents, name, FileType::CharacterDevice, (*major, *minor))
            }
            Kind::Block { major, minor } => self.node(entry, parents, name, FileType::BlockDevice, (*major, *minor)),
            Kind::Unknown(type_byte) => Err(EntryError::Kind(*type_byte)),
        }
    }

    /// The directory for a member, made with mode 0755 where the archive does not say.
    fn parent(&mut self, parents: &[&[u8]]) -> Result<BorrowedFd<'_>, EntryError> {
        let Extractor { places, ownership, out, free_mask, .. } = self;
        let mut make = |parent: BorrowedFd<'_>, name: &[u8], whiteout: bool| {
            if whiteout {
                // The name stays one name in the tally.
                fs::unlinkat(parent, name, AtFlags::empty()).during(|| format!("unlinkat({})", quoted(name)))?;
            } else {
                out.tally.add(0);
            }
            let mode = Mode::from_raw_mode(0o755);
            fs::mkdirat(parent, name, mode).during(|| format!("mkdirat(<layer>, {}, 0755)", quoted(name)))?;
            if !*free_mask {
                fs::chmodat(parent, name, mode, AtFlags::empty())
                    .during(|| format!("fchmodat(<layer>, {}, 0755)", quoted(name)))?;
            }
            if whiteout {
                make_opaque(parent, name, *ownership)?;
            }
            Ok(())
        };
        places.enter(parents, Missing::Make(&mut make))
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), EntryError> {
        if entry.kind != Kind::Directory {
            return Err(EntryError::Root);
        }
        self.out.root_entry = true;
        self.wish(entry, &[], false)
    }

    fn whiteout(&mut self, parents: &[&[u8]], hidden: &[u8]) -> Result<(), EntryError> {
        let ownership = self.ownership;
        let parent = self.parent(parents)?;
        match fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.out.tally.add(0);
                Ok(())
            }
            Err(Errno::EXIST) => {
                let stat = stat(parent, hidden)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    make_opaque(parent, hidden, ownership)?;
                }
                Ok(())
            }
            Err(errno) => {
                Err(SystemError::new(format!("mknodat(<layer>, {}, S_IFCHR, 0:0)", quoted(hidden)), errno).into())
            }
        }
    }

    fn regular<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
        parents: &[&[u8]],
        name: &[u8],
    ) -> Result<(), EntryError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let fd = self
            .create(parents, name, |parent| fs::openat(parent, name, flags, mode))?
            .during(|| format!("openat(<layer>, {}, O_WRONLY|O_CREAT|O_EXCL, {mode:?})", quoted(name)))?;
        self.out.tally.add(entry.size);
        self.out.size = self.out.size.saturating_add(entry.size);
        write_content(entry, reader, &fd, name)?;
        let owner = self.owner(entry)?;
        if let Some((uid, gid)) = owner {
            fs::fchown(&fd, Some(uid), Some(gid)).map_err(|errno| owner_error(entry, "fchown", errno))?;
        }
        // After the owner and the content: both take a capability or a set-id bit away.
        self.attributes(&Target::Open(fd.as_fd()), entry)?;
        if entry.mode & 0o7000 != 0 || !self.free_mask {
            let mode = Mode::from_raw_mode(entry.mode);
            fs::fchmod(&fd, mode).during(|| format!("fchmod({}, {mode:?})", quoted(name)))?;
        }
        fs::futimens(&fd, &times(entry.mtime)).during(|| format!("utimensat({})", quoted(name)))?;
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, path: &[&[u8]], parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o1777);
        let ownership = self.ownership;
        let parent = self.parent(parents)?;
        let call = || format!("mkdirat(<layer>, {}, {mode:?})", quoted(name));
        let fresh = match fs::mkdirat(parent, name, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let before = stat(parent, name)?;
                if FileType::from_raw_mode(before.st_mode) == FileType::Directory {
                    return self.wish(entry, path, false);
                }
                self.make_room(parents, name)?;
                let parent = self.parent(parents)?;
                fs::mkdirat(parent, name, mode).during(call)?;
                make_opaque(parent, name, ownership)?;
                true
            }
            Err(errno) => return Err(SystemError::new(call(), errno).into()),
        };
        self.out.tally.add(0);
        self.wish(entry, path, fresh)
    }

    /// Notes what a directory shall be at the end; `fresh` if it was just made with its mode.
    fn wish(&mut self, entry: &Entry, path: &[&[u8]], fresh: bool) -> Result<(), EntryError> {
        let owner = self.owner(entry)?.map(|(uid, gid)| (uid.as_raw(), gid.as_raw()));
        // A directory that was there can have got another owner from an entry before.
        let reset = (!fresh && !self.ownership.single_id).then_some(self.me);
        self.late.push(&Wish {
            path: path.join(&b'/'),
            mode: entry.mode & 0o7777,
            owner: owner.or(reset),
            mode_set: fresh && self.free_mask && entry.mode & 0o6000 == 0,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        })?;
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        self.create(parents, name, |parent| fs::symlinkat(&*entry.link, parent, name))?
            .during(|| format!("symlinkat({}, <layer>, {})", quoted(&entry.link), quoted(name)))?;
        self.out.tally.add(0);
        self.dress(entry, parents, name, false)
    }

    fn hard_link(&mut self, entry: &Entry, path: &[&[u8]], parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let problem = |problem| members::no_target(entry, problem);
        let target = members::link_target(entry, path)?;
        let Some((&target_name, target_parents)) = target.split_last() else { return Ok(()) };
        // A first look, since making room for the new name must not happen for a link that cannot be made.
        let found = self.targets.enter(target_parents, Missing::Fail).and_then(|parent| stat(parent, target_name));
        let found = match found {
            Ok(found) => found,
            Err(EntryError::System(error)) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => {
                return Err(problem("not in this layer"));
            }
            Err(error) => return Err(error),
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Directory {
            return Err(problem("a directory"));
        }
        let existing = self.parent(parents).and_then(|parent| stat(parent, name));
        if matches!(existing, Ok(there) if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)) {
            // Already this very file, by the same entry before or through a link among the parents.
            return Ok(());
        }
        self.make_room(parents, name)?;
        let missing = |error: &SystemError| matches!(error.errno(), Errno::NOENT | Errno::NOTDIR);
        let targets = match self.targets.enter(target_parents, Missing::Fail) {
            // It was in the directory that had to make room.
            Err(EntryError::System(error)) if missing(&error) => return Err(problem("not in this layer")),
            other => other?,
        };
        let parent = self.places.enter(parents, Missing::Fail)?;
        match fs::linkat(targets, target_name, parent, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(problem("not in this layer")),
            Err(errno) => {
                let call = format!("linkat(<layer>, {}, <layer>, {})", quoted(&entry.link), quoted(name));
                return Err(SystemError::new(call, errno).into());
            }
        }
        self.out.tally.add(if kind == FileType::RegularFile { found.st_size.unsigned_abs() } else { 0 });
        Ok(())
    }

    fn node(
        &mut self,
        entry: &Entry,
        parents: &[&[u8]],
        name: &[u8],
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), EntryError> {
        members::check_device(major, minor)?;
        let device = fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match self.create(parents, name, |parent| fs::mknodat(parent, name, kind, mode, device))? {
            Ok(()) => {}
            Err(Errno::PERM) if self.ownership.user_xattr && kind != FileType::Fifo => {
                self.out.warn(|| {
                    format!("{}: device {major}:{minor} cannot be made in a user namespace", quoted(&entry.path))
                });
                return Ok(());
            }
            Err(errno) => {
                let call = format!("mknodat(<layer>, {}, {kind:?}, {major}:{minor})", quoted(name));
                return Err(SystemError::new(call, errno).into());
            }
        }
        self.out.tally.add(0);
        self.dress(entry, parents, name, true)
    }

    /// Owner, attributes, mode and time of what cannot be opened.
    fn dress(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8], mode: bool) -> Result<(), EntryError> {
        let owner = self.owner(entry)?;
        let free_mask = self.free_mask;
        let parent = self.places.enter(parents, Missing::Fail)?;
        if let Some((uid, gid)) = owner {
            fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| owner_error(entry, "fchownat", errno))?;
        }
        let warnings = match entry.xattrs.is_empty() {
            true => Vec::new(),
            false => xattrs::apply(&Target::Named(parent, name), &entry.xattrs, &entry.path)?,
        };
        if mode && (entry.mode & 0o7000 != 0 || !free_mask) && !is_whiteout(entry) {
            // fchmodat follows links; this is a node that was just made, in a directory that nobody else works in.
            let mode = Mode::from_raw_mode(entry.mode);
            fs::chmodat(parent, name, mode, AtFlags::empty())
                .during(|| format!("fchmodat(<layer>, {}, {mode:?})", quoted(name)))?;
        }
        fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .during(|| format!("utimensat(<layer>, {})", quoted(name)))?;
        warnings.into_iter().for_each(|warning| self.out.warn(|| warning));
        Ok(())
    }

    fn attributes(&mut self, target: &Target<'_>, entry: &Entry) -> Result<(), EntryError> {
        if !entry.xattrs.is_empty() {
            let warnings = xattrs::apply(target, &entry.xattrs, &entry.path)?;
            warnings.into_iter().for_each(|warning| self.out.warn(|| warning));
        }
        Ok(())
    }

    /// Owner and group to be set; none if a new file has them anyway.
    fn owner(&self, entry: &Entry) -> Result<Option<(Uid, Gid)>, EntryError> {
        if self.ownership.single_id {
            return Ok(None);
        }
        let (uid, gid) = members::owner(entry)?;
        Ok(((uid, gid) != self.me).then_some((Uid::from_raw(uid), Gid::from_raw(gid))))
    }

    /// Calls `make`, and once more after making room if the name is taken.
    fn create<T>(
        &mut self,
        parents: &[&[u8]],
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<rustix::io::Result<T>, EntryError> {
        match make(self.parent(parents)?) {
            Err(Errno::EXIST) => {
                self.make_room(parents, name)?;
                Ok(make(self.parent(parents)?))
            }
            result => Ok(result),
        }
    }

    /// Takes away what an earlier entry put there: the last one wins.
    fn make_room(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let (mut tally, layer, number) = (self.out.tally, self.late.scratch(), self.out.replaced);
        let removed = replaced::put_aside(self.parent(parents)?, name, &layer, number, &mut tally);
        self.out.tally = tally;
        self.out.replaced += 1;
        match removed {
            Ok(()) => {
                self.forget();
                Ok(())
            }
            Err(error) if error.errno() == Errno::NOENT => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn forget(&mut self) {
        self.places.forget();
        self.targets.forget();
    }

    fn finish(mut self) -> Result<Extracted, StoreError> {
        let scratch = self.late.scratch();
        let late = std::mem::replace(&mut self.late, Late::new(scratch));
        late.for_each(|wish| {
            self.grant(&wish).map_err(|source| StoreError::Entry { path: quoted(&wish.path), source })
        })?;
        Ok(self.out.complete())
    }

    fn grant(&mut self, wish: &Wish) -> Result<(), EntryError> {
        let path: Vec<&[u8]> = wish.path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let directory = match self.places.enter(&path, Missing::Fail) {
            Ok(directory) => directory,
            // Replaced by something else later in the archive.
            Err(EntryError::System(error)) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(EntryError::Parent { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let warnings = grant(directory, wish)?;
        warnings.into_iter().for_each(|warning| self.out.warn(|| warning));
        Ok(())
    }
}

fn grant(directory: BorrowedFd<'_>, wish: &Wish) -> Result<Vec<String>, EntryError> {
    let path = || quoted(&wish.path);
    if let Some((uid, gid)) = wish.owner {
        fs::fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|errno| match errno {
            Errno::INVAL => EntryError::Owner { uid: uid.into(), gid: gid.into() },
            errno => SystemError::new(format!("fchown(<layer>/{}, {uid}, {gid})", path()), errno).into(),
        })?;
    }
    let warnings = xattrs::apply(&Target::Open(directory), &wish.xattrs, &wish.path)?;
    if !wish.mode_set {
        let mode = Mode::from_raw_mode(wish.mode);
        fs::fchmod(directory, mode).during(|| format!("fchmod(<layer>/{}, {mode:?})", path()))?;
    }
    fs::futimens(directory, &times(wish.mtime)).during(|| format!("utimensat(<layer>/{})", path()))?;
    Ok(warnings)
}

/// Writes a member's data to its file, leaving its holes.
pub(crate) fn write_content<R: BufRead>(
    entry: &Entry,
    reader: &mut Reader<R>,
    fd: &OwnedFd,
    name: &[u8],
) -> Result<(), EntryError> {
    let call = || format!("write(…/{}, …)", name.escape_ascii());
    while let Some((mut offset, mut bytes)) = reader.data()? {
        while !bytes.is_empty() {
            let written =
                if entry.sparse { rustix::io::pwrite(fd, bytes, offset) } else { rustix::io::write(fd, bytes) };
            let written = match written {
                Err(Errno::INTR) => continue,
                other => other.during(call)?,
            };
            bytes = &bytes[written..];
            offset += written as u64;
        }
    }
    if entry.sparse {
        fs::ftruncate(fd, entry.size).during(|| format!("ftruncate({}, {})", quoted(name), entry.size))?;
    }
    Ok(())
}

fn is_whiteout(entry: &Entry) -> bool {
    entry.kind == Kind::Character { major: 0, minor: 0 }
}

fn stat(parent: BorrowedFd<'_>, name: &[u8]) -> Result<fs::Stat, EntryError> {
    Ok(fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).during(|| format!("fstatat(<layer>, {})", quoted(name)))?)
}

fn make_opaque(parent: BorrowedFd<'_>, name: &[u8], ownership: Ownership) -> Result<(), EntryError> {
    let fd = fs::openat(parent, name, crate::directory::OPEN, Mode::empty())
        .during(|| format!("openat(<layer>, {}, O_DIRECTORY|O_NOFOLLOW)", quoted(name)))?;
    xattrs::set_opaque(fd.as_fd(), ownership)
}

fn owner_error(entry: &Entry, call: &str, errno: Errno) -> EntryError {
    match errno {
        // An id without a mapping.
        Errno::INVAL => EntryError::Owner { uid: entry.uid, gid: entry.gid },
        errno => {
            let call = format!("{call}(<layer>/{}, {}, {})", entry.path.escape_ascii(), entry.uid, entry.gid);
            SystemError::new(call, errno).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::{Header, Limits, Time, Writer};
    use std::os::unix::fs::PermissionsExt;

    /// Where a seccomp filter forbids unshare(2), every mode is set explicitly.
    #[test]
    fn modes_are_right_under_a_foreign_umask() {
        let mut writer = Writer::new(Vec::new());
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        for (path, kind, mode) in [
            (&b"implied/file"[..], Kind::Regular, 0o666),
            (b"directory", Kind::Directory, 0o777),
            (b"pipe", Kind::Fifo, 0o622),
            (b"link", Kind::Symlink, 0o777),
        ] {
            let (uid, gid) = (me.0.into(), me.1.into());
            let link = if kind == Kind::Symlink { &b"pipe"[..] } else { b"" };
            let header = Header { path, kind, link, size: 0, mode, uid, gid, mtime: Time::default(), xattrs: &[] };
            writer.append(&header).unwrap();
        }
        let archive = writer.finish().unwrap();
        let base = tempfile::tempdir().unwrap();
        let tree = base.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let root = fs::open(&tree, crate::directory::OPEN, Mode::empty()).unwrap();
        let scratch = Directory::create_all(base.path()).unwrap();
        let thread = std::thread::spawn(move || {
            kernel::private_umask::clear_umask_of_this_thread().unwrap();
            rustix::process::umask(Mode::from_raw_mode(0o077));
            let extractor = Extractor::new(root, scratch, Ownership::default(), false).unwrap();
            extractor.all(&mut Reader::new(&archive[..], Limits::default())).unwrap();
        });
        thread.join().unwrap();
        for (name, mode) in [("implied", 0o755), ("implied/file", 0o666), ("directory", 0o777), ("pipe", 0o622)] {
            assert_eq!(tree.join(name).metadata().unwrap().permissions().mode() & 0o7777, mode, "{name}");
        }
    }
}
