//! The reader. It believes nothing: every place is checked by the read that goes there, and every length has a bound.

use crate::attributes::{self, Attribute};
use crate::checksum::crc32c;
use crate::directory;
use crate::error::Error;
use crate::format::{
    CHUNK_INDEXES, CHUNKS, COMPAT_CHECKSUM, HEAD, INCOMPAT_CHUNKS, INLINE, INODE, Inode, MAGIC, NO_BLOCK, PLAIN,
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, SLOT, SUPER_AT, SUPER_SIZE, parts_of_device, summed,
    u16_at, u32_at, u64_at,
};
use crate::pages::Pages;
use crate::tree::Kind;
use crate::writer::{Blocks, MOST_CHUNKS, Meta};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Powers of two: the sizes of blocks that are read.
const SMALLEST: u32 = 9;
const LARGEST: u32 = 12;
/// Bytes of a directory that are read at once.
const PIECE: usize = 64 << 10;

/// No directory of ours is larger; 16 million names of the longest kind.
const LARGEST_DIRECTORY: u64 = 4 << 30;

/// An image, open for reading.
#[derive(Debug)]
pub struct Image {
    file: File,
    /// The size of a block, as a power of two.
    bits: u32,
    /// Where inodes and shared attributes are counted from, in bytes.
    inodes_at: u64,
    shared_at: u64,
    root: u64,
    size: u64,
    count: u64,
    epoch: (i64, u32),
    pages: Pages,
}

/// A file in an image.
#[derive(Clone, Debug)]
pub struct Found {
    /// The number of its inode.
    pub inode: u64,
    /// What it is.
    pub kind: Kind,
    /// Names that lead to it; of a directory as stat(2) counts them.
    pub links: u32,
    /// Owner, mode, time; the attributes are empty, see [`Image::attributes`].
    pub meta: Meta,
    raw: Inode,
    /// Where the bytes behind the inode are: attributes, then content.
    behind: u64,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Without `/`, never `.` or `..`.
    pub name: Vec<u8>,
    /// The number of its inode.
    pub inode: u64,
}

impl Found {
    pub(crate) fn raw(&self) -> &Inode {
        &self.raw
    }
}

impl Image {
    /// Reads and checks the superblock.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is none, [`Error::Unknown`] if it asks for more than is known here, [`Error::File`].
    pub fn open(file: File) -> Result<Image, Error> {
        let size = file.metadata().map_err(Error::file("read"))?.len();
        let mut block = vec![0; HEAD];
        read_exact(&file, 0, &mut block[..usize::try_from(size).unwrap_or(HEAD).min(HEAD)])?;
        let (sums, head) = (u32_at(&block, SUPER_AT + 8), SUPER_AT);
        if u32_at(&block, head) != MAGIC {
            return Err(Error::Damaged("no superblock"));
        }
        let bits = u32::from(block[head + 12]);
        if !(SMALLEST..=LARGEST).contains(&bits) {
            return Err(Error::Unknown("blocks of another size than 512 bytes to 4 KiB"));
        }
        if sums & COMPAT_CHECKSUM != 0 {
            let stored = u32_at(&block, head + 4);
            block[head + 4..head + 8].fill(0);
            if crc32c(&block[head..summed(bits)]) != stored {
                return Err(Error::Damaged("the superblock's checksum"));
            }
        }
        // The first bit only says how compressed blocks are padded.
        if u32_at(&block, head + 80) & !(INCOMPAT_CHUNKS | 1) != 0 {
            return Err(Error::Unknown("features"));
        }
        let image = Image {
            bits,
            inodes_at: u64::from(u32_at(&block, head + 40)) << bits,
            shared_at: u64::from(u32_at(&block, head + 44)) << bits,
            root: u16_at(&block, head + 14).into(),
            count: u64_at(&block, head + 16),
            epoch: (u64_at(&block, head + 24).cast_signed(), u32_at(&block, head + 32)),
            size,
            file,
            pages: Pages::default(),
        };
        if u64::from(u32_at(&block, head + 36)) << bits > size || size < (head + SUPER_SIZE) as u64 {
            return Err(Error::Damaged("it is cut off"));
        }
        Ok(image)
    }

    /// The size of its blocks; none for one that the writer does not write.
    pub fn blocks(&self) -> Option<Blocks> {
        [Blocks::Pages, Blocks::Sectors].into_iter().find(|blocks| blocks.bits() == self.bits)
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The first block of each chunk of a file that consists of such.
    pub(crate) fn chunks(&self, file: &Found) -> Result<Vec<u32>, Error> {
        if file.raw.place & CHUNK_INDEXES != 0 {
            return Err(Error::Unknown("content on another device"));
        }
        let bits = self.bits + (file.raw.place & 0x1f);
        let count = file.raw.size.div_ceil(1 << bits);
        if count > MOST_CHUNKS {
            return Err(Error::Damaged("the number of chunks"));
        }
        let at = file.behind + attributes::length(file.raw.attribute_units) as u64;
        let mut bytes = vec![0; count as usize * 4];
        read_exact(&self.file, at, &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|word| u32_at(word, 0)).collect())
    }

    /// Number of inodes, as the superblock says.
    pub fn inodes(&self) -> u64 {
        self.count
    }

    /// The root directory.
    ///
    /// # Errors
    /// Those of [`Image::inode`].
    pub fn root(&self) -> Result<Found, Error> {
        self.inode(self.root)
    }

    /// The file with that number.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unknown`], [`Error::File`].
    pub fn inode(&self, inode: u64) -> Result<Found, Error> {
        let outside = || Error::Damaged("an inode outside the image");
        let at = inode.checked_mul(SLOT).and_then(|at| at.checked_add(self.inodes_at)).ok_or_else(outside)?;
        let mut bytes = [0; INODE];
        let available = self.size.saturating_sub(at).min(INODE as u64) as usize;
        if available < INODE / 2 {
            return Err(outside());
        }
        self.pages.read(&self.file, self.size, (at, &mut bytes[..available]))?;
        let (raw, length) = Inode::decode(&bytes, self.epoch)?;
        let (major, minor) = parts_of_device(raw.place);
        let kind = match raw.mode & S_IFMT {
            S_IFREG => Kind::Regular { size: raw.size },
            S_IFDIR => Kind::Directory,
            S_IFLNK => Kind::Symlink,
            S_IFCHR => Kind::Character { major, minor },
            S_IFBLK => Kind::Block { major, minor },
            S_IFIFO => Kind::Fifo,
            _ => return Err(Error::Damaged("the type of a file")),
        };
        if raw.size > i64::MAX.unsigned_abs() {
            return Err(Error::Damaged("the size of a file"));
        }
        let meta = Meta {
            mode: raw.mode & !S_IFMT,
            uid: raw.uid,
            gid: raw.gid,
            seconds: raw.seconds,
            nanoseconds: raw.nanoseconds,
            attributes: Vec::new(),
        };
        Ok(Found { inode, kind, links: raw.links, meta, raw, behind: at + length as u64 })
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// [`Error::Damaged`], also for what is no directory; [`Error::File`].
    pub fn entries(&self, directory: &Found) -> Result<Vec<Entry>, Error> {
        if directory.kind != Kind::Directory || directory.raw.size > LARGEST_DIRECTORY {
            return Err(Error::Damaged("a directory"));
        }
        let mut found: Vec<Entry> = Vec::new();
        let most = usize::try_from(directory.raw.size).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; most.next_multiple_of(1 << self.bits)];
        let mut offset = 0;
        while offset < directory.raw.size {
            let length = self.read(directory, offset, &mut piece)?;
            for block in piece[..length].chunks(1 << self.bits) {
                for (inode, name) in directory::decode(block)? {
                    if name == b"." || name == b".." {
                        continue;
                    }
                    if found.last().is_some_and(|last| last.name >= name) {
                        return Err(Error::Damaged("the order of a directory"));
                    }
                    found.push(Entry { name, inode });
                }
            }
            offset += piece.len() as u64;
        }
        Ok(found)
    }

    /// The file of that name in a directory.
    ///
    /// # Errors
    /// Those of [`Image::entries`].
    pub fn child(&self, directory: &Found, name: &[u8]) -> Result<Option<Found>, Error> {
        let entries = self.entries(directory)?;
        let found = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)).ok();
        found.map(|index| self.inode(entries[index].inode)).transpose()
    }

    /// Reads content: a file's, a link's target, a directory's blocks. Fills `out` unless the content ends before.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it lies outside the image, [`Error::Unknown`] if it is compressed, [`Error::File`].
    pub fn read(&self, file: &Found, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let has_content = matches!(file.kind, Kind::Regular { .. } | Kind::Directory | Kind::Symlink);
        let size = if has_content { file.raw.size } else { 0 };
        let count = out.len().min(usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let (place, length) = self.map(file, at)?;
            let part = (count - done).min(usize::try_from(length).unwrap_or(usize::MAX));
            let out = &mut out[done..done + part];
            match place {
                Some(place) => read_exact(&self.file, place, out)?,
                None => out.fill(0),
            }
            done += part;
        }
        Ok(count)
    }

    /// Where the byte at `offset`, which is in the file, is in the image, and how many follow it there; `None` in a hole.
    fn map(&self, file: &Found, offset: u64) -> Result<(Option<u64>, u64), Error> {
        let raw = &file.raw;
        let content = file.behind + attributes::length(raw.attribute_units) as u64;
        let block = |block: u32| u64::from(block) << self.bits;
        match raw.layout {
            PLAIN if raw.place == NO_BLOCK => Ok((None, raw.size - offset)),
            PLAIN => Ok((Some(block(raw.place) + offset), raw.size - offset)),
            INLINE => {
                let whole = raw.size >> self.bits << self.bits;
                match whole.checked_sub(offset) {
                    Some(left @ 1..) => Ok((Some(block(raw.place) + offset), left)),
                    _ => Ok((Some(content + (offset - whole)), raw.size - offset)),
                }
            }
            CHUNKS => {
                let bits = self.bits + (raw.place & 0x1f);
                let unit = if raw.place & CHUNK_INDEXES != 0 { 8 } else { 4 };
                let (index, within) = (offset >> bits, offset & ((1 << bits) - 1));
                let mut bytes = [0; 8];
                // No overflow: a file has at most 2^51 chunks.
                let at = content.next_multiple_of(unit) + index * unit;
                read_exact(&self.file, at, &mut bytes[..unit as usize])?;
                // The longer form has the high bits and a device before the block.
                let first = u32_at(&bytes, unit as usize - 4);
                if unit == 8 && first != NO_BLOCK && u32_at(&bytes, 0) != 0 {
                    return Err(Error::Unknown("content on another device"));
                }
                let left = ((1_u64 << bits) - within).min(raw.size - offset);
                Ok(((first != NO_BLOCK).then(|| block(first) + within), left))
            }
            _ => Err(Error::Unknown("compressed content")),
        }
    }

    /// Extended attributes with full names, sorted by name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unknown`], [`Error::File`].
    pub fn attributes(&self, file: &Found) -> Result<Vec<Attribute>, Error> {
        let mut bytes = vec![0; attributes::length(file.raw.attribute_units)];
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        self.pages.read(&self.file, self.size, (file.behind, &mut bytes))?;
        let (places, mut at) = attributes::shared_places(&bytes)?;
        let mut found = Vec::new();
        for place in places {
            let place = self.shared_at + u64::from(place) * 4;
            let mut header = [0; 4];
            self.pages.read(&self.file, self.size, (place, &mut header))?;
            let mut entry = vec![0; attributes::entry_length(&header)];
            self.pages.read(&self.file, self.size, (place, &mut entry))?;
            found.push(attributes::decode(&entry)?);
        }
        while at + 4 <= bytes.len() {
            let length = attributes::entry_length(&bytes[at..]);
            let entry = bytes.get(at..at + length).ok_or(Error::Damaged("an attribute"))?;
            found.push(attributes::decode(entry)?);
            at += length;
        }
        found.sort();
        Ok(found)
    }
}

pub(crate) fn read_exact(file: &File, at: u64, out: &mut [u8]) -> Result<(), Error> {
    file.read_exact_at(out, at).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput => Error::Damaged("it is cut off"),
        _ => Error::File { call: "read", source },
    })
}
