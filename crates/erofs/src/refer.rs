//! An image whose files are in other images: names and inodes are its own, content is not.
//!
//! The other images are its devices (`fs/erofs/super.c`, a table behind the first block), mounted with it by `device=`. Their blocks
//! are numbered on, behind a range that is kept for the image itself, so a file of one run is an inode and nothing else, whichever
//! image it is in.

use crate::error::Error;
use crate::format::{CHUNKS, DEVICE, HEAD, Inode, NO_BLOCK, PLAIN, S_IFREG, TAG};
use crate::reader::{Found, Image};
use crate::tree::{Kind, Node};
use crate::writer::{Limits, Meta, Writer};
use std::fs::File;

/// A name for one of the other images, for who looks into the table. Not empty.
pub type Tag = [u8; TAG];

/// Blocks that are kept for the image itself, 8 GiB, which is far more than its names can take.
const OWN: u32 = 1 << 24;

pub(crate) struct Device {
    pub(crate) tag: Tag,
    blocks: u32,
    /// Its first block among all.
    base: u32,
}

impl Writer {
    /// As [`Writer::with_blocks`], an image that refers to others, which all have blocks of the size that is asked of the first.
    /// When it is mounted they are named in the same order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more blocks than there are numbers, [`Error::Unknown`] for other blocks, [`Error::File`].
    pub fn referring(file: File, root: Meta, limits: Limits, others: &[(Tag, &Image)]) -> Result<Writer, Error> {
        let blocks = others.first().map(|(_, image)| image.blocks()).unwrap_or_default();
        let mut writer = Writer::with_blocks(file, root, limits, blocks.ok_or(MIXED)?);
        let mut base = OWN;
        for (tag, image) in others {
            if image.blocks() != blocks {
                return Err(MIXED);
            }
            let count = u32::try_from(image.size() >> writer.output.bits).map_err(|_| Error::TooLarge)?;
            writer.devices.push(Device { tag: *tag, blocks: count, base });
            base = base.checked_add(count).filter(|&end| end < NO_BLOCK).ok_or(Error::TooLarge)?;
        }
        let table = others.len() * DEVICE;
        writer.output.reserve(table.div_ceil(writer.output.block()) as u64)?;
        Ok(writer)
    }

    /// A regular file with the content of one in another image, by that image's number; without a name yet. The meta is its own.
    ///
    /// # Errors
    /// [`Error::Unknown`] for content that has no place of its own there, [`Error::Damaged`] for a place outside of the image,
    /// [`Error::File`], [`Error::TooLarge`], [`Error::Attributes`].
    pub fn refer(&mut self, meta: &Meta, image: usize, source: &Image, file: &Found) -> Result<Node, Error> {
        let (attributes, units) = self.attributes(&meta.attributes)?;
        let (raw, kind) = (file.raw(), Kind::Regular { size: file.raw().size });
        let device = self.devices.get(image).ok_or(Error::Damaged("the number of another image"))?;
        let mut inode = Inode { attribute_units: units, ..meta.inode(S_IFREG, raw.layout, raw.size, NO_BLOCK) };
        match (file.kind, raw.layout) {
            (Kind::Regular { size: 0 }, _) => inode.layout = PLAIN,
            (Kind::Regular { size }, PLAIN) => {
                inode.place = device.placed(raw.place, size.div_ceil(self.output.block() as u64))?;
            }
            (Kind::Regular { .. }, CHUNKS) => {
                let map = source.chunks(file)?;
                // The last chunk ends with the file; the others are whole.
                let length = 1_u64 << (raw.place & 0x1f);
                let all = raw.size.div_ceil(self.output.block() as u64);
                let mut bytes = Vec::with_capacity(map.len() * 4);
                for (index, first) in map.into_iter().enumerate() {
                    let blocks = (all - index as u64 * length).min(length);
                    bytes.extend(device.placed(first, blocks)?.to_le_bytes());
                }
                inode.place = raw.place;
                self.chunked = true;
                return self.place_inode(inode, &attributes, &bytes, kind);
            }
            _ => return Err(Error::Unknown("content without a place of its own")),
        }
        self.place_inode(inode, &attributes, b"", kind)
    }
}

const MIXED: Error = Error::Unknown("blocks of another size");

impl Device {
    /// The number of a block of the device among all; the run from there is in the device.
    fn placed(&self, block: u32, count: u64) -> Result<u32, Error> {
        if block == NO_BLOCK {
            return Ok(NO_BLOCK);
        }
        match u64::from(block).checked_add(count).is_some_and(|end| end <= u64::from(self.blocks)) {
            true => Ok(self.base + block),
            false => Err(Error::Damaged("content outside the image")),
        }
    }
}

/// Writes the table of devices, which has its place from the beginning.
pub(crate) fn write_devices(writer: &Writer) -> Result<(), Error> {
    if writer.devices.is_empty() {
        return Ok(());
    }
    if writer.output.blocks() > u64::from(OWN) {
        return Err(Error::TooLarge);
    }
    let mut table = Vec::with_capacity(writer.devices.len() * DEVICE);
    for device in &writer.devices {
        let end = table.len() + DEVICE;
        table.extend(device.tag);
        table.extend(device.blocks.to_le_bytes());
        table.extend(device.base.to_le_bytes());
        table.resize(end, 0);
    }
    writer.output.write(HEAD as u64, &table)
}
