//! Writes an archive as an image of EROFS, one member at a time, in one pass; the counterpart of `extract`.
//!
//! What a member means `members` decides for both, and the tests of the store hold both to them. The difference:
//! the tree is in memory, so a name costs no system call, and the content goes to the image as it comes. Nothing is resolved
//! by the kernel; links among the parents are followed here, inside the layer.
//!
//! Directories and whiteouts that no member describes get the time of the member that needed them: the same archive gives the
//! same image.

use crate::acceptable;
use crate::directory::Directory;
use crate::error::{EntryError, StoreError, SystemError, quoted};
use crate::members::{self, Extracted, Meaning, components};
use crate::replaced;
use archive::{Entry, Kind, Reader};
use erofs::{Blocks, Kind as Type, Limits, Meta, Node, Writer};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, BufWriter, Write};

/// Links that are followed in one name, as in the kernel.
const MOST_LINKS: usize = 40;

const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// Runs through a whole archive. `scratch` is the layer's directory.
pub(crate) fn write_image<R: BufRead>(
    reader: &mut Reader<R>,
    (image, blocks): (File, Blocks),
    scratch: Directory,
) -> Result<Extracted, StoreError> {
    let root = Meta { mode: 0o755, ..Meta::default() };
    let writer = Writer::with_blocks(image, root, Limits::default(), blocks);
    let mut imager = Imager { writer, out: Extracted::default(), replaced: None, scratch };
    imager.out.entries = members::each(reader, |entry, reader| imager.member(entry, reader))?;
    imager.finish()
}

struct Imager {
    writer: Writer,
    out: Extracted,
    /// The list of what had to give way.
    replaced: Option<BufWriter<File>>,
    scratch: Directory,
}

/// What to do about a missing or unsuitable parent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Fail,
}

impl Imager {
    fn member<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), EntryError> {
        let path = components(&entry.path)?;
        let (parents, name) = match members::meaning(&path)? {
            Meaning::Root => return self.root_entry(entry),
            Meaning::Nothing => return Ok(()),
            Meaning::Opaque(parents) => {
                self.out.hides_lower |= parents.is_empty();
                let parent = self.enter(parents, entry, Missing::Make)?;
                self.make_opaque(parent);
                return Ok(());
            }
            Meaning::Whiteout(parents, hidden) => return self.whiteout(entry, parents, hidden),
            Meaning::File(parents, name) => (parents, name),
        };
        if path.iter().any(|name| name.len() > 255) {
            let call = format!("openat(<layer>, {})", quoted(name));
            return Err(SystemError::new(call, Errno::NAMETOOLONG).into());
        }
        match &entry.kind {
            Kind::Regular => self.regular(entry, reader, parents, name),
            Kind::Directory => self.directory(entry, parents, name),
            Kind::Symlink => self.symlink(entry, parents, name),
            Kind::HardLink => self.hard_link(entry, &path, parents, name),
            Kind::Fifo => self.special(entry, parents, name, Type::Fifo),
            Kind::Character { major, minor } => {
                self.special(entry, parents, name, Type::Character { major: *major, minor: *minor })
            }
            Kind::Block { major, minor } => {
                self.special(entry, parents, name, Type::Block { major: *major, minor: *minor })
            }
            Kind::Unknown(type_byte) => Err(EntryError::Kind(*type_byte)),
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), EntryError> {
        if entry.kind != Kind::Directory {
            return Err(EntryError::Root);
        }
        self.out.root_entry = true;
        self.describe(self.writer.root(), entry)
    }

    /// The directory at `path`; those that are missing are made with mode 0755.
    fn enter(&mut self, path: &[&[u8]], entry: &Entry, missing: Missing) -> Result<Node, EntryError> {
        let mut here = self.writer.root();
        for (at, name) in path.iter().enumerate() {
            let call = || format!("openat(<layer>, {}, O_DIRECTORY|O_NOFOLLOW)", quoted(&path[..=at].join(&b'/')));
            let parent = || EntryError::Parent { parent: quoted(&path[..=at].join(&b'/')) };
            here = match self.writer.child(here, name).map(|node| (node, self.writer.kind(node))) {
                Some((node, Type::Directory)) => node,
                Some((node, Type::Symlink)) => self.follow(here, node).ok_or_else(parent)?,
                Some((_, Type::Character { major: 0, minor: 0 })) if missing == Missing::Make => {
                    // A whiteout. The name stays one name in the tally.
                    let made = self.make_directory(here, name, implied(entry))?;
                    self.make_opaque(made);
                    made
                }
                Some(_) if missing == Missing::Make => return Err(parent()),
                Some(_) => return Err(SystemError::new(call(), Errno::NOTDIR).into()),
                None if missing == Missing::Make => {
                    self.out.tally.add(0);
                    self.make_directory(here, name, implied(entry))?
                }
                None => return Err(SystemError::new(call(), Errno::NOENT).into()),
            };
        }
        Ok(here)
    }

    /// The directory that a symbolic link in `directory` leads to, with the layer as root.
    fn follow(&self, directory: Node, link: Node) -> Option<Node> {
        let mut links = 1;
        let mut here = directory;
        // The last is the next.
        let mut names: Vec<Vec<u8>> = Vec::new();
        let push = |names: &mut Vec<Vec<u8>>, here: &mut Node, target: &[u8]| {
            if target.starts_with(b"/") {
                *here = self.writer.root();
            }
            let parts = target.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
            names.extend(parts.rev().map(<[u8]>::to_vec));
        };
        push(&mut names, &mut here, self.writer.target(link));
        while let Some(name) = names.pop() {
            if name == b".." {
                here = self.writer.parent(here);
                continue;
            }
            let node = self.writer.child(here, &name)?;
            match self.writer.kind(node) {
                Type::Directory => here = node,
                Type::Symlink if links < MOST_LINKS => {
                    links += 1;
                    push(&mut names, &mut here, self.writer.target(node));
                }
                _ => return None,
            }
        }
        Some(here)
    }

    fn make_directory(&mut self, parent: Node, name: &[u8], meta: Meta) -> Result<Node, EntryError> {
        if name.len() > 255 {
            let call = format!("mkdirat(<layer>, {}, 0755)", quoted(name));
            return Err(SystemError::new(call, Errno::NAMETOOLONG).into());
        }
        self.writer.directory(parent, name, meta).map_err(EntryError::from)
    }

    fn make_opaque(&mut self, directory: Node) {
        if let Some(meta) = self.writer.directory_meta(directory) {
            set(&mut meta.attributes, OPAQUE.0.to_vec(), OPAQUE.1.to_vec());
        }
    }

    /// Gives a directory what the archive says, on top of what an earlier entry said.
    fn describe(&mut self, directory: Node, entry: &Entry) -> Result<(), EntryError> {
        let new = self.meta(entry, Type::Directory)?;
        if let Some(meta) = self.writer.directory_meta(directory) {
            let old = std::mem::replace(meta, Meta { attributes: Vec::new(), ..new });
            meta.attributes = old.attributes;
            new.attributes.into_iter().for_each(|(name, value)| set(&mut meta.attributes, name, value));
        }
        Ok(())
    }

    fn meta(&mut self, entry: &Entry, kind: Type) -> Result<Meta, EntryError> {
        let (uid, gid) = members::owner(entry)?;
        let (attributes, warnings) = acceptable::attributes(entry, kind)?;
        warnings.into_iter().for_each(|warning| self.out.warn(|| warning));
        let mode = match kind {
            Type::Symlink => 0o777,
            Type::Character { major: 0, minor: 0 } => entry.mode & 0o777,
            _ => entry.mode & 0o7777,
        };
        Ok(Meta {
            mode: mode as u16,
            uid,
            gid,
            seconds: entry.mtime.seconds,
            nanoseconds: entry.mtime.nanoseconds,
            attributes,
        })
    }

    fn whiteout(&mut self, entry: &Entry, parents: &[&[u8]], hidden: &[u8]) -> Result<(), EntryError> {
        if hidden.len() > 255 {
            let call = format!("mknodat(<layer>, {}, S_IFCHR, 0:0)", quoted(hidden));
            return Err(SystemError::new(call, Errno::NAMETOOLONG).into());
        }
        let parent = self.enter(parents, entry, Missing::Make)?;
        match self.writer.child(parent, hidden) {
            None => {
                let meta = Meta { mode: 0, ..implied(entry) };
                let node = self.writer.special(&meta, Type::Character { major: 0, minor: 0 })?;
                self.writer.link(parent, hidden, node)?;
                self.out.tally.add(0);
            }
            Some(node) if self.writer.kind(node) == Type::Directory => self.make_opaque(node),
            Some(_) => {}
        }
        Ok(())
    }

    fn regular<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
        parents: &[&[u8]],
        name: &[u8],
    ) -> Result<(), EntryError> {
        let parent = self.enter(parents, entry, Missing::Make)?;
        self.make_room(parent, name)?;
        self.out.tally.add(entry.size);
        self.out.size = self.out.size.saturating_add(entry.size);
        self.writer.begin_file(entry.size, entry.sparse)?;
        while let Some((offset, bytes)) = reader.data()? {
            self.writer.write(offset, bytes)?;
        }
        let meta = self.meta(entry, Type::Regular { size: entry.size })?;
        let node = self.writer.end_file(&meta)?;
        Ok(self.writer.link(parent, name, node)?)
    }

    fn directory(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let parent = self.enter(parents, entry, Missing::Make)?;
        let before = self.writer.child(parent, name);
        if let Some(node) = before
            && self.writer.kind(node) == Type::Directory
        {
            return self.describe(node, entry);
        }
        self.make_room(parent, name)?;
        let meta = self.meta(entry, Type::Directory)?;
        let made = self.make_directory(parent, name, meta)?;
        self.out.tally.add(0);
        if before.is_some() {
            self.make_opaque(made);
        }
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let failed = |errno| {
            let call = format!("symlinkat({}, <layer>, {})", quoted(&entry.link), quoted(name));
            Err(SystemError::new(call, errno).into())
        };
        match entry.link.len() {
            0 => return failed(Errno::NOENT),
            4096.. => return failed(Errno::NAMETOOLONG),
            _ => {}
        }
        let parent = self.enter(parents, entry, Missing::Make)?;
        self.make_room(parent, name)?;
        let meta = self.meta(entry, Type::Symlink)?;
        let node = self.writer.symlink(&meta, &entry.link)?;
        self.out.tally.add(0);
        Ok(self.writer.link(parent, name, node)?)
    }

    fn hard_link(&mut self, entry: &Entry, path: &[&[u8]], parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let problem = |problem| members::no_target(entry, problem);
        let target = members::link_target(entry, path)?;
        let Some((&target_name, target_parents)) = target.split_last() else { return Ok(()) };
        let find = |imager: &mut Imager| match imager.enter(target_parents, entry, Missing::Fail) {
            Ok(directory) => Ok(imager.writer.child(directory, target_name)),
            Err(EntryError::System(_)) => Ok(None),
            Err(error) => Err(error),
        };
        let node = find(self)?.ok_or_else(|| problem("not in this layer"))?;
        let kind = self.writer.kind(node);
        if kind == Type::Directory {
            return Err(problem("a directory"));
        }
        let parent = self.enter(parents, entry, Missing::Make)?;
        if self.writer.child(parent, name) == Some(node) {
            // Already this very file, by the same entry before or through a link among the parents.
            return Ok(());
        }
        self.make_room(parent, name)?;
        // It may have been in the directory that had to make room.
        if find(self)? != Some(node) {
            return Err(problem("not in this layer"));
        }
        self.writer.link(parent, name, node)?;
        self.out.tally.add(if let Type::Regular { size } = kind { size } else { 0 });
        Ok(())
    }

    fn special(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8], kind: Type) -> Result<(), EntryError> {
        if let Type::Character { major, minor } | Type::Block { major, minor } = kind {
            members::check_device(major, minor)?;
        }
        let parent = self.enter(parents, entry, Missing::Make)?;
        self.make_room(parent, name)?;
        let meta = self.meta(entry, kind)?;
        let node = self.writer.special(&meta, kind)?;
        self.out.tally.add(0);
        Ok(self.writer.link(parent, name, node)?)
    }

    /// Takes away what an earlier entry put there: the last one wins. Content stays in the image, and its place is noted, since it
    /// belongs to the archive.
    fn make_room(&mut self, parent: Node, name: &[u8]) -> Result<(), EntryError> {
        let Some(node) = self.writer.unlink(parent, name) else { return Ok(()) };
        self.out.replaced += 1;
        let mut gone = vec![node];
        while let Some(node) = gone.pop() {
            let mut size = 0;
            match self.writer.kind(node) {
                Type::Directory => gone.extend(self.writer.names(node).map(|(_, node)| node)),
                Type::Regular { size: bytes } => size = bytes,
                _ => {}
            }
            self.out.tally.take(size);
            if size > 0 {
                self.note_replaced(self.writer.place(node), size)?;
            }
        }
        Ok(())
    }

    fn note_replaced(&mut self, inode: u64, size: u64) -> Result<(), EntryError> {
        if self.replaced.is_none() {
            let file = self.scratch.file(replaced::LIST, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
            self.replaced = Some(BufWriter::new(File::from(file)));
        }
        let Some(list) = &mut self.replaced else { return Ok(()) };
        writeln!(list, "{inode} {size}").map_err(|error| list_error(&error).into())
    }

    fn finish(mut self) -> Result<Extracted, StoreError> {
        let system = |source| StoreError::System { doing: "unpack the layer", source };
        if let Some(list) = &mut self.replaced {
            list.flush().map_err(|error| system(list_error(&error)))?;
        }
        self.writer.finish().map_err(|error| match EntryError::from(error) {
            EntryError::System(source) => system(source),
            source => StoreError::Entry { path: quoted(b"/"), source },
        })?;
        Ok(self.out.complete())
    }
}

fn list_error(error: &std::io::Error) -> SystemError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    SystemError::new(format!("write(<staging>/…/{})", replaced::LIST), errno)
}

/// Of what no member describes.
fn implied(entry: &Entry) -> Meta {
    let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
    Meta { mode: 0o755, seconds, nanoseconds, ..Meta::default() }
}

fn set(attributes: &mut Vec<erofs::Attribute>, name: Vec<u8>, value: Vec<u8>) {
    match attributes.iter_mut().find(|(other, _)| *other == name) {
        Some((_, old)) => *old = value,
        None => attributes.push((name, value)),
    }
}

impl From<erofs::Error> for EntryError {
    fn from(error: erofs::Error) -> EntryError {
        let call = |errno| SystemError::new("pwrite(<layer>/image.erofs)", errno).into();
        match error {
            erofs::Error::File { source, .. } => call(Errno::from_io_error(&source).unwrap_or(Errno::IO)),
            erofs::Error::TooLarge => call(Errno::FBIG),
            error => EntryError::Image(error),
        }
    }
}
