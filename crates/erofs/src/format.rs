//! Numbers and structures on disk, little-endian.

use crate::error::Error;

/// The first block of every image that is written here, and the largest block.
pub(crate) const HEAD: usize = 4096;
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
pub(crate) const SUPER_AT: usize = 1024;
pub(crate) const SUPER_SIZE: usize = 128;
/// Inodes are numbered by their place in units of this.
pub(crate) const SLOT: u64 = 32;
pub(crate) const INODE: usize = 64;
/// The root's inode is behind the superblock, since its number has 16 bits.
pub(crate) const ROOT_AT: usize = SUPER_AT + SUPER_SIZE;
/// "No block": a hole, or a file without content.
pub(crate) const NO_BLOCK: u32 = u32::MAX;
pub(crate) const LONGEST_NAME: usize = 255;

pub(crate) const COMPAT_CHECKSUM: u32 = 1;
pub(crate) const COMPAT_MTIME: u32 = 2;
pub(crate) const INCOMPAT_CHUNKS: u32 = 4;
pub(crate) const INCOMPAT_DEVICES: u32 = 8;

/// One of the other images that an image refers to: a tag, its blocks, and its first block among all blocks.
pub(crate) const DEVICE: usize = 128;
pub(crate) const TAG: usize = 64;

pub(crate) const PLAIN: u16 = 0;
pub(crate) const INLINE: u16 = 2;
pub(crate) const CHUNKS: u16 = 4;
/// In a chunk's format: eight bytes for each chunk instead of four.
pub(crate) const CHUNK_INDEXES: u32 = 0x20;

pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFDIR: u16 = 0o040_000;
pub(crate) const S_IFREG: u16 = 0o100_000;
pub(crate) const S_IFLNK: u16 = 0o120_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFIFO: u16 = 0o010_000;
pub(crate) const S_IFSOCK: u16 = 0o140_000;

/// An inode, in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) layout: u16,
    /// Units of the attributes behind it; 0 without any.
    pub(crate) attribute_units: u16,
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// First block, device number, or format of the chunks.
    pub(crate) place: u32,
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) links: u32,
}

/// Where in an inode its number of names is.
pub(crate) const LINKS_AT: u64 = 44;

impl Inode {
    pub(crate) fn encode(&self) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        // The lowest bit: the extended form.
        bytes[0..2].copy_from_slice(&(1 | self.layout << 1).to_le_bytes());
        bytes[2..4].copy_from_slice(&self.attribute_units.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.mode.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.place.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.uid.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.gid.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.seconds.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.nanoseconds.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.links.to_le_bytes());
        bytes
    }

    /// From at least 64 bytes; `epoch` is the time of compact inodes. Returns the length on disk, too.
    pub(crate) fn decode(bytes: &[u8; INODE], epoch: (i64, u32)) -> Result<(Inode, usize), Error> {
        let format = u16_at(bytes, 0);
        if format >> 5 != 0 {
            return Err(Error::Unknown("an unknown form of inodes"));
        }
        let mut inode = Inode {
            layout: format >> 1 & 7,
            attribute_units: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            place: u32_at(bytes, 16),
            number: u32_at(bytes, 20),
            ..Inode::default()
        };
        if format & 1 == 1 {
            inode.size = u64_at(bytes, 8);
            (inode.uid, inode.gid) = (u32_at(bytes, 24), u32_at(bytes, 28));
            inode.seconds = u64_at(bytes, 32).cast_signed();
            (inode.nanoseconds, inode.links) = (u32_at(bytes, 40), u32_at(bytes, 44));
            return Ok((inode, INODE));
        }
        inode.size = u32_at(bytes, 8).into();
        (inode.uid, inode.gid) = (u16_at(bytes, 24).into(), u16_at(bytes, 26).into());
        inode.seconds = epoch.0.wrapping_add(u32_at(bytes, 12).into());
        inode.nanoseconds = epoch.1;
        let single = inode.mode & S_IFMT != S_IFDIR && format & 0x10 != 0;
        inode.links = if single { 1 } else { u16_at(bytes, 6).into() };
        Ok((inode, INODE / 2))
    }
}

/// The kernel's form of a device number: twelve bits of major, twenty of minor.
pub(crate) fn device(major: u32, minor: u32) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xfff00) << 12
}

/// Major and minor.
pub(crate) fn parts_of_device(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00)
}

/// What a directory says about the type of a name.
pub(crate) fn type_in_directory(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFSOCK => 6,
        S_IFLNK => 7,
        _ => 0,
    }
}

/// Where the bytes end over which a superblock has its sum: they are those of its block, or of the one it begins.
pub(crate) fn summed(bits: u32) -> usize {
    if 1 << bits > SUPER_AT { 1 << bits } else { SUPER_AT + (1 << bits) }
}

// The three below are called with offsets that lie in the slice; beyond its end everything is 0.

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}
