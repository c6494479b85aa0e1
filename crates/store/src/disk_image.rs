//! A sized directory as a sparse file with an ext4 file system in it, written here: no mkfs is needed.
//!
//! The file system is plain: blocks of 4 KiB, all of a group's tables at its beginning, a journal, no copies of the superblock
//! (`sparse_super2` without any), no checksums. The size that is asked for is what can be written; tables, journal and what the
//! kernel keeps back come on top, and take nothing of the disk until they are used.
//!
//! Layout by Documentation/filesystems/ext4 of Linux; `e2fsck -fn` finds nothing to complain about (tests).

use crate::blobs;
use crate::directory::Directory;
use crate::error::{During, StoreError};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 4096;
const BLOCKS_PER_GROUP: u64 = 8 * BLOCK;
const INODE: u64 = 256;
const INODES_PER_BLOCK: u64 = BLOCK / INODE;
/// The least that the kernel takes.
const JOURNAL: u64 = 1024;
/// Below, there is an inode for each block; above, for each four, as mke2fs has it.
const SMALL: u64 = (512 << 20) / BLOCK;
/// 32 bits count blocks.
const MOST: u64 = 15 << 40;

const ROOT: u32 = 2;
const JOURNAL_INODE: u32 = 8;
/// Inodes that mean something to the kernel.
const RESERVED: u64 = 10;
/// The first other one, of `lost+found` where there is that.
const FIRST: u32 = 11;

/// A directory at the top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Top<'a> {
    pub(crate) name: &'a str,
    /// Owner, group and permissions.
    pub(crate) owner: (u32, u32, u32),
}

/// Where everything is, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    blocks: u64,
    groups: u64,
    inodes_per_group: u64,
    /// Blocks of a group's inodes.
    table: u64,
    /// Blocks of the groups' descriptors.
    descriptors: u64,
    /// Blocks of directories.
    directories: u64,
}

impl Layout {
    /// Room for so many blocks of data.
    fn of(data: u64, directories: u64) -> Layout {
        let inodes_per_group = match data < SMALL {
            true => data.next_multiple_of(INODES_PER_BLOCK).clamp(1024, BLOCKS_PER_GROUP),
            false => BLOCKS_PER_GROUP / 4,
        };
        let table = inodes_per_group / INODES_PER_BLOCK;
        let mut blocks = data;
        loop {
            let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
            let layout = Layout {
                blocks,
                groups,
                inodes_per_group,
                table,
                descriptors: (groups * 32).div_ceil(BLOCK),
                directories,
            };
            // ext4_calculate_resv_clusters: a fiftieth, 4096 blocks at most, is kept back for what must not fail.
            let kept = (blocks / 50).min(4096);
            let free = blocks.saturating_sub(layout.first() + (groups - 1) * (2 + table) + kept);
            let last = blocks - (groups - 1) * BLOCKS_PER_GROUP;
            // A last group without room for its own tables grows until it has some.
            let missing = data.saturating_sub(free).max((layout.taken(groups - 1) + 64).saturating_sub(last));
            if missing == 0 {
                return layout;
            }
            blocks += missing;
        }
    }

    /// Blocks at the beginning of the first group that are not free.
    fn first(self) -> u64 {
        1 + self.descriptors + 2 + self.table + JOURNAL + self.directories
    }

    /// Blocks at the beginning of a group that are not free.
    fn taken(self, group: u64) -> u64 {
        if group == 0 { self.first() } else { 2 + self.table }
    }

    /// The first block of a group's bitmaps; its inodes follow behind two blocks.
    fn bitmaps(self, group: u64) -> u64 {
        if group == 0 { 1 + self.descriptors } else { group * BLOCKS_PER_GROUP }
    }

    fn size(self, group: u64) -> u64 {
        (self.blocks - group * BLOCKS_PER_GROUP).min(BLOCKS_PER_GROUP)
    }

    fn journal(self) -> u64 {
        self.bitmaps(0) + 2 + self.table
    }

    fn directory(self, number: u64) -> u64 {
        self.journal() + JOURNAL + number
    }

    fn free(self) -> u64 {
        (0..self.groups).map(|group| self.size(group) - self.taken(group)).sum()
    }
}

/// A block that is being written; numbers are little-endian.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(length: u64) -> Bytes {
        Bytes(vec![0; length as usize])
    }

    fn put(&mut self, place: usize, bytes: &[u8]) {
        self.0[place..place + bytes.len()].copy_from_slice(bytes);
    }

    fn put16(&mut self, place: usize, value: u64) {
        self.put(place, &(value as u16).to_le_bytes());
    }

    fn put32(&mut self, place: usize, value: u64) {
        self.put(place, &(value as u32).to_le_bytes());
    }

    fn set_bits(&mut self, bits: std::ops::Range<u64>) {
        for bit in bits {
            self.0[(bit / 8) as usize] |= 1 << (bit % 8);
        }
    }
}

/// Makes a file with such a file system; under another name until it is complete.
pub(crate) fn create(directory: &Directory, name: &str, size: u64, tops: &[Top<'_>]) -> Result<(), StoreError> {
    let system = |source| StoreError::System { doing: "make a file system of limited size", source };
    let unfinished = format!("{name}.new");
    // Of one who was killed.
    directory.unlink(&unfinished).map_err(system)?;
    let file = directory.file(&unfinished, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map_err(system)?;
    let mut uuid = [0; 16];
    rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())
        .during(|| "getrandom(…, 16, 0)")
        .map_err(system)?;
    let written = write(&File::from(file), size, uuid, tops)
        .map_err(|error| blobs::file_error("write", &unfinished, &error))
        .and_then(|()| directory.rename(&unfinished, directory, name).map_err(system));
    if written.is_err() {
        // The first error is the one to tell.
        directory.unlink(&unfinished).unwrap_or_default();
    }
    written
}

/// Writes a file system with room for `size` bytes to an empty file.
///
/// # Errors
/// `EFBIG` above 15 TiB; those of write(2).
pub(crate) fn write(file: &File, size: u64, uuid: [u8; 16], tops: &[Top<'_>]) -> io::Result<()> {
    if size > MOST {
        return Err(rustix::io::Errno::FBIG.into());
    }
    let below = below(tops);
    let layout = Layout::of(size.div_ceil(BLOCK).max(64), 1 + below.len() as u64);
    file.set_len(layout.blocks * BLOCK)?;
    let at = |block: u64, bytes: &Bytes| file.write_all_at(&bytes.0, block * BLOCK);
    let mut descriptors = Bytes::new(layout.descriptors * BLOCK);
    for group in 0..layout.groups {
        let used = if group == 0 { RESERVED + below.len() as u64 } else { 0 };
        let mut blocks = Bytes::new(BLOCK);
        blocks.set_bits(0..layout.taken(group));
        blocks.set_bits(layout.size(group)..BLOCKS_PER_GROUP);
        let mut inodes = Bytes::new(BLOCK);
        inodes.set_bits(0..used);
        inodes.set_bits(layout.inodes_per_group..8 * BLOCK);
        at(layout.bitmaps(group), &blocks)?;
        at(layout.bitmaps(group) + 1, &inodes)?;
        let place = group as usize * 32;
        for (field, value) in [0, 1, 2].into_iter().enumerate() {
            descriptors.put32(place + field * 4, layout.bitmaps(group) + value);
        }
        descriptors.put16(place + 12, layout.size(group) - layout.taken(group));
        descriptors.put16(place + 14, layout.inodes_per_group - used);
        descriptors.put16(place + 16, if group == 0 { 1 + below.len() as u64 } else { 0 });
    }
    at(1, &descriptors)?;
    let inodes = inodes(layout, &below);
    at(layout.bitmaps(0) + 2, &inodes)?;
    at(layout.journal(), &journal())?;
    let directories = directories(&below);
    directories.iter().enumerate().try_for_each(|(number, bytes)| at(layout.directory(number as u64), bytes))?;
    // Last, since without it there is no file system.
    at(0, &superblock(layout, uuid, below.len() as u64, &inodes))
}

/// What the root directory has. A file system that is somebody's volume begins with nothing in it; e2fsck would like one to have
/// `lost+found`.
fn below<'a>(tops: &[Top<'a>]) -> Vec<Top<'a>> {
    let lost_and_found = (!tops.is_empty()).then_some(Top { name: "lost+found", owner: (0, 0, 0o700) });
    lost_and_found.into_iter().chain(tops.iter().copied()).collect()
}

/// The first block of inodes: the root directory, the journal, and the directories below.
fn inodes(layout: Layout, below: &[Top<'_>]) -> Bytes {
    let mut bytes = Bytes::new(BLOCK);
    let directory = 0o040_000;
    inode(&mut bytes, ROOT, (directory | 0o755, 0, 0), 2 + below.len() as u64, (layout.directory(0), 1));
    inode(&mut bytes, JOURNAL_INODE, (0o100_600, 0, 0), 1, (layout.journal(), JOURNAL));
    for (number, top) in below.iter().enumerate() {
        let (user, group, mode) = top.owner;
        let owner = (directory | u64::from(mode & 0o7777), user, group);
        inode(&mut bytes, FIRST + number as u32, owner, 2, (layout.directory(1 + number as u64), 1));
    }
    bytes
}

fn inode(bytes: &mut Bytes, number: u32, owner: (u64, u32, u32), links: u64, (start, blocks): (u64, u64)) {
    const EXTENTS: u64 = 0x8_0000;
    let place = (u64::from(number - 1) * INODE) as usize;
    let (mode, user, group) = owner;
    bytes.put16(place, mode);
    bytes.put16(place + 2, u64::from(user) & 0xffff);
    bytes.put32(place + 4, blocks * BLOCK);
    bytes.put16(place + 24, u64::from(group) & 0xffff);
    bytes.put16(place + 26, links);
    bytes.put32(place + 28, blocks * BLOCK / 512);
    bytes.put32(place + 32, EXTENTS);
    // A header: its mark, one extent of at most four, no level below. Then the extent: first block, length, place.
    for (field, value) in [0xf30a, 1, 4, 0].into_iter().enumerate() {
        bytes.put16(place + 40 + field * 2, value);
    }
    bytes.put16(place + 56, blocks);
    bytes.put32(place + 60, start);
    bytes.put16(place + 120, u64::from(user >> 16));
    bytes.put16(place + 122, u64::from(group >> 16));
    bytes.put16(place + 128, 32);
}

/// The blocks of the root directory, and of those in it.
fn directories(below: &[Top<'_>]) -> Vec<Bytes> {
    let below: Vec<(&str, u32)> =
        below.iter().enumerate().map(|(number, top)| (top.name, FIRST + number as u32)).collect();
    let mut all = vec![directory(ROOT, &below)];
    all.extend(below.iter().map(|(_, number)| directory(*number, &[])));
    all
}

fn directory(number: u32, below: &[(&str, u32)]) -> Bytes {
    let mut bytes = Bytes::new(BLOCK);
    let entries: Vec<(&str, u32)> = [(".", number), ("..", ROOT)].into_iter().chain(below.iter().copied()).collect();
    let mut place = 0;
    for (index, (name, inode)) in entries.iter().enumerate() {
        let length = match index + 1 == entries.len() {
            // The last one reaches to the end.
            true => BLOCK as usize - place,
            false => (8 + name.len()).next_multiple_of(4),
        };
        bytes.put32(place, u64::from(*inode));
        bytes.put16(place + 4, length as u64);
        // A directory.
        bytes.put(place + 6, &[name.len() as u8, 2]);
        bytes.put(place + 8, name.as_bytes());
        place += length;
    }
    bytes
}

/// The journal's superblock, which is big-endian: empty, and clean.
fn journal() -> Bytes {
    let mut bytes = Bytes::new(BLOCK);
    // Its mark, that it is a superblock of version 2, no sequence; then the size of a block, all blocks, the first one of the
    // log, and the first sequence.
    for (field, value) in [0xc03b_3998_u32, 4, 0, BLOCK as u32, JOURNAL as u32, 1, 1].into_iter().enumerate() {
        bytes.put(field * 4, &value.to_be_bytes());
    }
    // One file system uses it.
    bytes.put(64, &1_u32.to_be_bytes());
    bytes
}

fn superblock(layout: Layout, uuid: [u8; 16], below: u64, inodes: &Bytes) -> Bytes {
    // Journal, extended attributes, hashed directories, and copies of the superblock only where it says: nowhere.
    const COMPATIBLE: u64 = 0x4 | 0x8 | 0x20 | 0x200;
    // Types in directories, extents.
    const INCOMPATIBLE: u64 = 0x2 | 0x40;
    // Large and huge files, many links, large inodes.
    const READ_ONLY: u64 = 0x2 | 0x8 | 0x20 | 0x40;
    let mut block = Bytes::new(BLOCK);
    let mut put32 = |place: usize, value: u64| block.put32(1024 + place, value);
    put32(0, layout.groups * layout.inodes_per_group);
    put32(4, layout.blocks);
    put32(12, layout.free());
    put32(16, layout.groups * layout.inodes_per_group - RESERVED - below);
    // The size of a block, and of what is given at once: 1024 << 2.
    put32(24, 2);
    put32(28, 2);
    put32(32, BLOCKS_PER_GROUP);
    put32(36, BLOCKS_PER_GROUP);
    put32(40, layout.inodes_per_group);
    put32(76, 1);
    put32(84, u64::from(FIRST));
    put32(92, COMPATIBLE);
    put32(96, INCOMPATIBLE);
    put32(100, READ_ONLY);
    put32(224, u64::from(JOURNAL_INODE));
    // Extended attributes and ACLs.
    put32(256, 0x4 | 0x8);
    // Hashes of names by unsigned letters.
    put32(352, 0x2);
    let mut put16 = |place: usize, value: u64| block.put16(1024 + place, value);
    // Never checked by count.
    put16(54, 0xffff);
    put16(56, 0xef53);
    // Clean; after an error read-only.
    put16(58, 1);
    put16(60, 2);
    put16(88, INODE);
    put16(348, 32);
    put16(350, 32);
    block.put(1024 + 104, &uuid);
    // The seed of hashes, half MD4.
    block.put(1024 + 236, &uuid);
    // How names are hashed, and that a copy of the journal's place follows.
    block.put(1024 + 252, &[1, 1]);
    let journal = (u64::from(JOURNAL_INODE - 1) * INODE) as usize;
    let place = inodes.0[journal + 40..journal + 100].to_vec();
    block.put(1024 + 268, &place);
    block.put32(1024 + 268 + 64, JOURNAL * BLOCK);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const TOPS: [Top<'static>; 2] =
        [Top { name: "upper", owner: (1000, 100_000, 0o1777) }, Top { name: "work", owner: (0, 0, 0o700) }];

    #[test]
    fn what_is_asked_for_is_free() {
        for data in [64, 2560, 32_000, 32_768, 100_000, 131_072, 1 << 20, 100 << 20] {
            let layout = Layout::of(data, 4);
            let kept = (layout.blocks / 50).min(4096);
            assert!(layout.free() >= data + kept, "{data}: {layout:?}");
            assert!(layout.free() <= data + kept + 70_000, "{data}: {layout:?}");
            assert!(layout.blocks < 1 << 32);
        }
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "what is skipped is counted by what it prints")]
    fn e2fsck_finds_it_sound() {
        if Command::new("e2fsck").arg("-V").output().is_err() {
            println!("SKIP: e2fsck is not installed");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        for size in [1, 10 << 20, 127 << 20, 128 << 20, 129 << 20, 600 << 20, 40 << 30] {
            let path = directory.path().join("image");
            let file = File::create(&path).unwrap();
            write(&file, size, *b"0123456789abcdef", &TOPS).unwrap();
            let output = Command::new("e2fsck").arg("-fn").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{size}: {said}{}", String::from_utf8_lossy(&output.stderr));
            let taken = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512;
            assert!(taken < (256 << 10) + size / 8192, "{size} takes {taken}");
            std::fs::remove_file(path).unwrap();
        }
        let file = File::create(directory.path().join("large")).unwrap();
        assert!(write(&file, MOST + 1, [0; 16], &TOPS).is_err());
    }
}
