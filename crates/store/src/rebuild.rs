//! The archive that a layer came from, byte for byte, from its tree and its recipe (`archive::recipe`).
//!
//! Contents are looked for where the archive's name leads, by the same walk as at the extraction. In a layer whose archive
//! took a place twice that may be another content; there each part is compared with its CRC-32 first and, if it is not it,
//! looked for among all files of that size, those that had to give way (module `replaced`) included. What decides in the end is
//! the digest of the whole.

use crate::directory::{Directory, OPEN};
use crate::error::StoreError;
use crate::image;
use crate::places::{Missing, Places};
use crate::record::{self, Backend, Record};
use crate::replaced;
use archive::recipe::{Player, Step};
use erofs::{Found, Image, Kind};
use oci::digest::{Digest, Hasher};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A layer's archive as a stream; see [`crate::Layers::rebuild`].
pub struct Rebuilt {
    diff_id: Digest,
    size: u64,
    player: Player<File>,
    layer: Directory,
    /// Of a layer that is one.
    image: Option<Arc<Image>>,
    places: Places,
    /// Must contents be compared before they are believed?
    doubtful: bool,
    /// Files by size, listed when the first content is not where its name leads.
    by_size: Option<BySize>,
    /// `None` at the end.
    hasher: Option<Hasher>,
    done: u64,
    now: Now,
    member: Option<(Vec<u8>, u64)>,
    file: Option<Content>,
}

/// Where content is.
enum Content {
    File(File),
    Image(Arc<Image>, Box<Found>),
}

impl Content {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Content::File(file) => file.read_at(out, offset),
            Content::Image(image, found) => image.read(found, offset, out).map_err(io::Error::other),
        }
    }
}

/// Where a regular file is: its path from the layer's directory, or its inode in the image.
#[derive(Clone)]
enum Candidate {
    Path(Vec<u8>),
    Inode(u64),
}

/// Regular files by their size.
type BySize = HashMap<u64, Vec<Candidate>>;

enum Now {
    Literal { bytes: Vec<u8>, used: usize },
    Data { offset: u64, left: u64 },
}

impl std::fmt::Debug for Rebuilt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuilt").field("diff_id", &self.diff_id).field("done", &self.done).finish_non_exhaustive()
    }
}

impl Rebuilt {
    pub(crate) fn open(layer: &Directory, tree: OwnedFd, record: Record) -> Result<Rebuilt, StoreError> {
        let doing = "put the layer's archive together";
        if record.recipe.is_none() {
            return Err(StoreError::NoRecipe(record.diff_id));
        }
        let system = |source| StoreError::System { doing, source };
        let recipe = layer.file(record::RECIPE, OFlags::RDONLY).map_err(system)?;
        let player = Player::new(File::from(recipe)).map_err(StoreError::Source)?;
        Ok(Rebuilt {
            hasher: Some(Hasher::new(record.diff_id.algorithm())),
            diff_id: record.diff_id,
            size: record.archive_size,
            player,
            layer: layer.clone(),
            image: match record.backend {
                Backend::Directory => None,
                Backend::Erofs => {
                    Some(Arc::new(image::open(layer).map_err(|error| system(image::failed(layer, &error)))?))
                }
            },
            places: Places::new(tree),
            doubtful: record.replaced,
            by_size: None,
            done: 0,
            now: Now::Literal { bytes: Vec::new(), used: 0 },
            member: None,
            file: None,
        })
    }

    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next step of the recipe; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        match self.player.next()? {
            None => {
                if let Some(hasher) = self.hasher.take() {
                    let actual = hasher.finish();
                    if actual != self.diff_id || self.done != self.size {
                        return Err(self.changed(&format!("its archive now has the digest {actual}")));
                    }
                }
                return Ok(false);
            }
            Some(Step::Literal(bytes)) => self.now = Now::Literal { bytes, used: 0 },
            Some(Step::File { path, size }) => {
                self.member = Some((path, size));
                self.file = None;
            }
            Some(Step::Data { offset, length, crc }) => {
                self.find(offset, length, crc)?;
                self.now = Now::Data { offset, left: length };
            }
        }
        Ok(true)
    }

    fn changed(&self, how: &str) -> io::Error {
        let text = format!("layer {} was changed on disk: {how}", self.diff_id);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// Opens the file that has the content.
    fn find(&mut self, offset: u64, length: u64, crc: u32) -> io::Result<()> {
        let Some((path, size)) = self.member.clone() else { return Err(self.changed("its recipe names no file")) };
        if self.file.is_none() {
            self.file = by_name(&mut self.places, &path);
        }
        if !self.doubtful {
            return match self.file {
                Some(_) => Ok(()),
                None => Err(self.changed(&format!("{} is missing", crate::error::quoted(&path)))),
            };
        }
        if let Some(file) = &self.file
            && has(file, offset, length, crc)?
        {
            return Ok(());
        }
        if self.by_size.is_none() {
            self.by_size = Some(self.list()?);
        }
        let candidates = self.by_size.as_ref().and_then(|all| all.get(&size)).cloned().unwrap_or_default();
        for candidate in candidates {
            if let Some(file) = self.look_into(candidate)?
                && has(&file, offset, length, crc)?
            {
                self.file = Some(file);
                return Ok(());
            }
        }
        Err(self.changed(&format!("the content of {} is missing", crate::error::quoted(&path))))
    }

    fn look_into(&self, candidate: Candidate) -> io::Result<Option<Content>> {
        match (candidate, &self.image) {
            (Candidate::Path(path), _) => {
                let top = self.layer.open_fd(".").map_err(io::Error::other)?;
                Ok(by_name(&mut Places::new(top), &path))
            }
            (Candidate::Inode(inode), Some(image)) => {
                let found = image.inode(inode).map_err(io::Error::other)?;
                Ok(Some(Content::Image(image.clone(), Box::new(found))))
            }
            (Candidate::Inode(_), None) => Ok(None),
        }
    }

    fn list(&self) -> io::Result<BySize> {
        let mut all = HashMap::new();
        if let Some(image) = &self.image {
            in_image(image, &mut all).map_err(io::Error::other)?;
            if self.layer.exists(replaced::LIST).map_err(io::Error::other)? {
                let list = self.layer.file(replaced::LIST, OFlags::RDONLY).map_err(io::Error::other)?;
                aside(BufReader::new(File::from(list)), &mut all)?;
            }
            return Ok(all);
        }
        for name in [record::TREE, replaced::NAME] {
            match fs::openat(&self.layer, name, OPEN, Mode::empty()) {
                Ok(directory) => list(&directory, &mut name.as_bytes().to_vec(), &mut all)?,
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(all)
    }
}

impl Read for Rebuilt {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.now {
                Now::Literal { bytes, used } => {
                    let count = out.len().min(bytes.len() - *used);
                    out[..count].copy_from_slice(&bytes[*used..*used + count]);
                    *used += count;
                    count
                }
                Now::Data { offset, left } => {
                    let most = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let count = match &self.file {
                        Some(file) if most > 0 => file.read_at(&mut out[..most], *offset)?,
                        _ => 0,
                    };
                    *offset += count as u64;
                    *left -= count as u64;
                    if count == 0 && *left > 0 {
                        return Err(self.changed("a file is shorter than it was"));
                    }
                    count
                }
            };
            if count > 0 {
                self.done += count as u64;
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&out[..count]);
                }
                return Ok(count);
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

fn by_name(places: &mut Places, path: &[u8]) -> Option<Content> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|n| !n.is_empty() && *n != b".").collect();
    let (name, parents) = names.split_last()?;
    let parent = places.enter(parents, Missing::Fail).ok()?;
    open(parent, name)
}

/// Opens a regular file; anything else is none. The tree is ours, so nobody changes it between the two calls.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Option<Content> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    fs::openat(parent, name, flags, Mode::empty()).ok().map(|fd| Content::File(File::from(fd)))
}

fn has(file: &Content, mut offset: u64, length: u64, crc: u32) -> io::Result<bool> {
    let end = offset + length;
    let mut sum = archive::recipe::Crc32::default();
    let mut buffer = vec![0; 64 << 10];
    while offset < end {
        let most = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let count = file.read_at(&mut buffer[..most], offset)?;
        if count == 0 {
            return Ok(false);
        }
        sum.update(&buffer[..count]);
        offset += count as u64;
    }
    Ok(sum.value() == crc)
}

fn list(directory: &OwnedFd, path: &mut Vec<u8>, all: &mut BySize) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let length = path.len();
        path.push(b'/');
        path.extend(name.to_bytes());
        let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => list(&fs::openat(directory, name, OPEN, Mode::empty())?, path, all)?,
            FileType::RegularFile if stat.st_size > 0 => {
                all.entry(stat.st_size.unsigned_abs()).or_default().push(Candidate::Path(path.clone()));
            }
            _ => {}
        }
        path.truncate(length);
    }
    Ok(())
}

fn in_image(image: &Image, all: &mut BySize) -> Result<(), erofs::Error> {
    let mut directories = vec![image.root()?];
    while let Some(directory) = directories.pop() {
        for entry in image.entries(&directory)? {
            let found = image.inode(entry.inode)?;
            match found.kind {
                Kind::Directory => directories.push(found),
                Kind::Regular { size } if size > 0 => {
                    all.entry(size).or_default().push(Candidate::Inode(entry.inode));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The files of an image that no name leads to, see [`replaced::LIST`].
fn aside(list: impl BufRead, all: &mut BySize) -> io::Result<()> {
    for line in list.lines() {
        let line = line?;
        let numbers = line.split_once(' ').and_then(|(inode, size)| Some((inode.parse().ok()?, size.parse().ok()?)));
        if let Some((inode, size)) = numbers {
            all.entry(size).or_default().push(Candidate::Inode(inode));
        }
    }
    Ok(())
}
