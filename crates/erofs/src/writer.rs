//! The writer: a tree of names that grows in any order, and content that is written as it comes.

use crate::attributes::{self, Attribute, Shared};
use crate::checksum::crc32c;
use crate::directory::{self, Listed};
use crate::error::Error;
use crate::format::{
    CHUNKS, COMPAT_CHECKSUM, COMPAT_MTIME, DEVICE, HEAD, INCOMPAT_CHUNKS, INCOMPAT_DEVICES, INLINE, INODE, Inode,
    LINKS_AT, LONGEST_NAME, MAGIC, NO_BLOCK, PLAIN, ROOT_AT, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT,
    S_IFREG, SLOT, SUPER_AT, device, summed, type_in_directory,
};
use crate::output::Output;
use crate::refer::{self, Device};
use crate::tree::{Directory, Kind, Node, Tree};
use std::fs::File;

/// A file's last block is kept beside its inode if the file has at most this many whole ones: more are read in a row, and one
/// more block is nothing to them.
const INLINE_UP_TO: u64 = 16;
/// What the kernel reads at once.
const PAGE: u64 = 4096;
/// Chunks of a file with holes: so few that their map stays small, however large the file.
pub(crate) const MOST_CHUNKS: u64 = 1 << 16;
/// The largest chunk that the format knows, 2^31 blocks.
const LARGEST_CHUNK: u32 = 31;

/// The size of an image's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocks {
    /// 4 KiB, and the last piece of a small file beside its inode: for every kernel.
    #[default]
    Pages,
    /// 512 bytes, and no content beside an inode, so that all of it has places that another image can refer to
    /// ([`Writer::refer`]). Linux 6.4.
    Sectors,
}

impl Blocks {
    pub(crate) fn bits(self) -> u32 {
        match self {
            Blocks::Pages => 12,
            Blocks::Sectors => 9,
        }
    }
}

/// What the writer may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory for names, in bytes, about 100 and its length for each.
    pub memory: usize,
}

impl Default for Limits {
    /// 256 MiB, which is enough for two million names.
    fn default() -> Limits {
        Limits { memory: 256 << 20 }
    }
}

/// What a file has beside its type and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change, in seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds after them.
    pub nanoseconds: u32,
    /// Extended attributes: full names and values. See [`Writer::can_store`].
    pub attributes: Vec<Attribute>,
}

impl Meta {
    pub(crate) fn memory(&self) -> usize {
        self.attributes.iter().map(|(name, value)| name.len() + value.len() + 48).sum()
    }

    pub(crate) fn inode(&self, kind: u16, layout: u16, size: u64, place: u32) -> Inode {
        Inode {
            layout,
            mode: kind | self.mode & !S_IFMT,
            size,
            place,
            uid: self.uid,
            gid: self.gid,
            seconds: self.seconds,
            nanoseconds: self.nanoseconds,
            links: 1,
            ..Inode::default()
        }
    }
}

/// What has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image.
    pub size: u64,
    /// Inodes that can be reached from the root.
    pub inodes: u64,
}

/// Writes one image. See the module for the order of things; everything that fails leaves a file that is no image.
pub struct Writer {
    pub(crate) output: Output,
    tree: Tree,
    shared: Shared,
    limits: Limits,
    blocks: Blocks,
    /// Images that this one refers to.
    pub(crate) devices: Vec<Device>,
    numbered: u32,
    pub(crate) chunked: bool,
    file: Option<Content>,
}

/// The file that is being written.
struct Content {
    size: u64,
    first: u64,
    whole: u64,
    tail: Vec<u8>,
    tail_inline: bool,
    chunks: Option<Chunks>,
}

struct Chunks {
    bits: u32,
    blocks: Vec<u32>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("blocks", &self.output.blocks()).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer to an empty file, which must be open for writing. The image has a root directory with the given meta.
    pub fn new(file: File, root: Meta, limits: Limits) -> Writer {
        Writer::with_blocks(file, root, limits, Blocks::Pages)
    }

    /// As [`Writer::new`], with blocks of another size.
    pub fn with_blocks(file: File, root: Meta, limits: Limits, blocks: Blocks) -> Writer {
        let mut tree = Tree::default();
        tree.add_directory(Node(0), root);
        let (output, shared) = (Output::new(file, blocks.bits()), Shared::default());
        Writer { output, tree, shared, limits, blocks, devices: Vec::new(), numbered: 1, chunked: false, file: None }
    }

    /// The root directory.
    pub fn root(&self) -> Node {
        Node(0)
    }

    /// Can an attribute of that name be stored? `user.`, `trusted.`, `security.` and the two of POSIX ACLs can.
    pub fn can_store(name: &[u8]) -> bool {
        attributes::is_storable(name)
    }

    /// What a node is.
    pub fn kind(&self, node: Node) -> Kind {
        self.tree.item(node).kind
    }

    /// Where its inode is in the image, for what is not a directory; see [`crate::Image::inode`].
    pub fn place(&self, node: Node) -> u64 {
        self.tree.item(node).place / SLOT
    }

    /// The node of that name in a directory.
    pub fn child(&self, parent: Node, name: &[u8]) -> Option<Node> {
        self.tree.directory(parent)?.names.get(name).copied()
    }

    /// The directory above one; the root's is itself.
    pub fn parent(&self, node: Node) -> Node {
        self.tree.directory(node).map_or(Node(0), |directory| directory.parent)
    }

    /// Where a symbolic link leads; empty for anything else.
    pub fn target(&self, node: Node) -> &[u8] {
        let item = self.tree.item(node);
        if item.kind == Kind::Symlink { &self.tree.targets[item.more as usize] } else { b"" }
    }

    /// Names and nodes in a directory, sorted.
    pub fn names(&self, node: Node) -> impl Iterator<Item = (&[u8], Node)> {
        self.tree.directory(node).into_iter().flat_map(|found| found.names.iter().map(|(name, node)| (&**name, *node)))
    }

    /// A directory's meta, to be changed.
    pub fn directory_meta(&mut self, node: Node) -> Option<&mut Meta> {
        self.tree.directory_mut(node).map(|directory| &mut directory.meta)
    }

    /// Gives a node that is no directory a name; what had the name loses it. The name has 1 to 255 bytes, no `/` and no NUL,
    /// and is not `.` or `..`.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Damaged`] for an impossible name.
    pub fn link(&mut self, parent: Node, name: &[u8], node: Node) -> Result<(), Error> {
        let forbidden = |byte: &u8| matches!(byte, 0 | b'/');
        if name.is_empty() || name.len() > LONGEST_NAME || matches!(name, b"." | b"..") || name.iter().any(forbidden) {
            return Err(Error::Damaged("an impossible name"));
        }
        self.tree.link(parent, name, node);
        if self.tree.memory > self.limits.memory { Err(Error::TooMany) } else { Ok(()) }
    }

    /// Takes a name away, and all below it; `None` if there is no such name.
    pub fn unlink(&mut self, parent: Node, name: &[u8]) -> Option<Node> {
        self.tree.unlink(parent, name)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of [`Writer::link`].
    pub fn directory(&mut self, parent: Node, name: &[u8], meta: Meta) -> Result<Node, Error> {
        let node = self.tree.add_directory(parent, meta);
        self.link(parent, name, node)?;
        Ok(node)
    }

    /// Begins a file of `size` bytes; with `holes` where nothing is written, and otherwise written from its start to its end.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn begin_file(&mut self, size: u64, holes: bool) -> Result<(), Error> {
        let (block, bits) = (self.output.block() as u64, self.output.bits);
        let (mut first, mut whole, mut chunks) = (0, size >> bits, None);
        let rest = size % block;
        if holes && size >= PAGE {
            let blocks = size.div_ceil(block);
            let least = PAGE.trailing_zeros() - bits;
            let bits = (least..=LARGEST_CHUNK).find(|bits| blocks.div_ceil(1 << bits) <= MOST_CHUNKS);
            let bits = bits.ok_or(Error::TooLarge)?;
            chunks = Some(Chunks { bits, blocks: vec![NO_BLOCK; blocks.div_ceil(1 << bits) as usize] });
            self.chunked = true;
        } else {
            // Attributes are not known yet; the end decides again whether it fits.
            let inline = self.blocks == Blocks::Pages
                && rest > 0
                && whole <= INLINE_UP_TO
                && rest as usize + INODE <= self.output.block();
            whole += u64::from(rest > 0 && !inline);
            if size > INLINE_UP_TO * PAGE {
                self.output.align(PAGE);
            }
            first = self.output.reserve(whole)?;
        }
        let tail_inline = chunks.is_none() && (whole << bits) < size;
        self.file = Some(Content { size, first, whole, tail: Vec::new(), tail_inline, chunks });
        Ok(())
    }

    /// Writes a part of the file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::TooLarge`].
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Err(Error::Damaged("content without a file")) };
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > file.size) {
            return Err(Error::Damaged("content behind the file's end"));
        }
        if let Some(chunks) = &mut file.chunks {
            return chunks.write(offset, bytes, file.size, &mut self.output);
        }
        let bits = self.output.bits;
        let tail_at = file.whole << bits;
        let whole = bytes.len().min(usize::try_from(tail_at.saturating_sub(offset)).unwrap_or(usize::MAX));
        if whole > 0 {
            self.output.append((file.first << bits) + offset, &bytes[..whole])?;
        }
        if whole < bytes.len() {
            // Less than a block, by the choice of `whole`.
            file.tail.resize((offset + whole as u64 - tail_at) as usize, 0);
            file.tail.extend_from_slice(&bytes[whole..]);
        }
        Ok(())
    }

    /// Ends the file and gives it its meta. It has no name yet.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::TooLarge`], [`Error::Attributes`].
    pub fn end_file(&mut self, meta: &Meta) -> Result<Node, Error> {
        let Some(mut file) = self.file.take() else { return Err(Error::Damaged("content without a file")) };
        let (attributes, units) = self.attributes(&meta.attributes)?;
        let kind = Kind::Regular { size: file.size };
        if let Some(chunks) = &file.chunks {
            let mut inode = meta.inode(S_IFREG, CHUNKS, file.size, chunks.bits);
            inode.attribute_units = units;
            let map: Vec<u8> = chunks.blocks.iter().flat_map(|block| block.to_le_bytes()).collect();
            return self.place_inode(inode, &attributes, &map, kind);
        }
        let mut first = if file.whole > 0 { file.first as u32 } else { NO_BLOCK };
        if file.tail_inline {
            file.tail.resize(file.size as usize % self.output.block(), 0);
            if INODE + attributes.len() + file.tail.len() > self.output.block() {
                // The attributes took its room. It gets a block, and so do those before it, to be in a row.
                first = self.move_behind(&file)?;
                (file.tail_inline, file.tail) = (false, Vec::new());
            }
        }
        let layout = if file.tail_inline { INLINE } else { PLAIN };
        let mut inode = meta.inode(S_IFREG, layout, file.size, first);
        inode.attribute_units = units;
        self.place_inode(inode, &attributes, &file.tail, kind)
    }

    /// Copies a small file's blocks to where its last one has a place, too.
    fn move_behind(&mut self, file: &Content) -> Result<u32, Error> {
        let first = self.output.reserve(file.whole + 1)?;
        self.output.flush_content()?;
        let (mut block, bits) = (vec![0; self.output.block()], self.output.bits);
        for index in 0..file.whole {
            self.output.read((file.first + index) << bits, &mut block)?;
            self.output.append((first + index) << bits, &block)?;
        }
        self.output.append((first + file.whole) << bits, &file.tail)?;
        Ok(first as u32)
    }

    /// A symbolic link, without a name yet. The target has 1 to 4,095 bytes.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::TooLarge`], [`Error::Attributes`], [`Error::Damaged`] for an impossible target.
    pub fn symlink(&mut self, meta: &Meta, target: &[u8]) -> Result<Node, Error> {
        if target.is_empty() || target.len() >= HEAD || target.contains(&0) {
            return Err(Error::Damaged("an impossible target of a symbolic link"));
        }
        let (attributes, units) = self.attributes(&meta.attributes)?;
        let inline = INODE + attributes.len() + target.len() <= self.output.block();
        let mut first = NO_BLOCK;
        if !inline {
            let block = self.output.reserve(target.len().div_ceil(self.output.block()) as u64)?;
            self.output.append(block << self.output.bits, target)?;
            first = block as u32;
        }
        let layout = if inline { INLINE } else { PLAIN };
        let mut inode = meta.inode(S_IFLNK, layout, target.len() as u64, first);
        inode.attribute_units = units;
        inode.number = self.number();
        let at = self.output.place([&inode.encode(), &attributes, if inline { target } else { b"" }])?;
        Ok(self.tree.add_symlink(at, target))
    }

    /// A device or pipe, without a name yet. A whiteout is the character device 0:0.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::TooLarge`], [`Error::Attributes`], [`Error::Damaged`] for another kind.
    pub fn special(&mut self, meta: &Meta, kind: Kind) -> Result<Node, Error> {
        let (mode, place) = match kind {
            Kind::Character { major, minor } => (S_IFCHR, device(major, minor)),
            Kind::Block { major, minor } => (S_IFBLK, device(major, minor)),
            Kind::Fifo => (S_IFIFO, 0),
            _ => return Err(Error::Damaged("a special file of no special kind")),
        };
        let (attributes, units) = self.attributes(&meta.attributes)?;
        let mut inode = meta.inode(mode, PLAIN, 0, place);
        inode.attribute_units = units;
        self.place_inode(inode, &attributes, b"", kind)
    }

    pub(crate) fn attributes(&mut self, attributes: &[Attribute]) -> Result<(Vec<u8>, u16), Error> {
        self.shared.encode(attributes, usize::MAX, &mut self.output)
    }

    pub(crate) fn place_inode(
        &mut self,
        mut inode: Inode,
        attributes: &[u8],
        rest: &[u8],
        kind: Kind,
    ) -> Result<Node, Error> {
        inode.number = self.number();
        let at = self.output.place([&inode.encode(), attributes, rest])?;
        Ok(self.tree.add(at, kind, 0))
    }

    fn number(&mut self) -> u32 {
        self.numbered = self.numbered.wrapping_add(1);
        self.numbered
    }

    /// Writes the directories and the superblock. Gives the file back, complete but not synced.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::TooLarge`], [`Error::Attributes`].
    pub fn finish(mut self) -> Result<(File, Summary), Error> {
        let order = self.tree.reachable();
        let placed = self.place_directories(&order)?;
        self.output.flush()?;
        for item in &self.tree.items {
            if item.kind != Kind::Directory && item.links > 1 {
                self.output.write(item.place + LINKS_AT, &item.links.to_le_bytes())?;
            }
        }
        let identity = self.write_directories(&order, &placed)?;
        let files = self.tree.items.iter().filter(|item| item.kind != Kind::Directory && item.links > 0).count();
        let inodes = (order.len() + files) as u64;
        self.output.flush()?;
        refer::write_devices(&self)?;
        self.output.write(0, &self.first_block(&placed[0], inodes, identity))?;
        let size = self.output.blocks() << self.output.bits;
        Ok((self.output.finish()?, Summary { size, inodes }))
    }

    /// Finds a place for each directory: first the blocks of all, then the inodes of all.
    fn place_directories(&mut self, order: &[Node]) -> Result<Vec<Placed>, Error> {
        let (mut all, block, bits) = (Vec::with_capacity(order.len()), self.output.block(), self.output.bits);
        for node in order {
            let Some(directory) = self.tree.directory(*node) else { continue };
            let names = with_dots(directory, *node, &self.tree);
            let (blocks, used) = directory::blocks(names.iter().map(|each| each.2), block);
            let is_root = node.0 == 0;
            let room = if is_root { HEAD - ROOT_AT - INODE } else { usize::MAX };
            let (attributes, units) = self.shared.encode(&directory.meta.attributes, room, &mut self.output)?;
            if is_root && attributes.len() > room {
                return Err(Error::Attributes);
            }
            let inline = !is_root && used < block && INODE + attributes.len() + used <= block;
            let whole = blocks.len() - usize::from(inline);
            let size = ((blocks.len() - 1) * block + used) as u64;
            let first = self.output.reserve(whole as u64)?;
            all.push(Placed { at: ROOT_AT as u64, first, whole, used, size, inline, units, attributes });
        }
        let mut at = self.output.reserve(0)? << bits;
        for placed in all.iter_mut().skip(1) {
            let behind = if placed.inline { placed.used } else { 0 };
            let length = INODE + placed.attributes.len() + behind;
            let left = block - at as usize % block;
            if length > left {
                at += left as u64;
            }
            placed.at = at;
            at = (at + length as u64).next_multiple_of(SLOT);
        }
        let first = self.output.reserve(0)?;
        self.output.reserve(at.div_ceil(block as u64).saturating_sub(first))?;
        for (node, placed) in order.iter().zip(&all) {
            self.tree.items[node.0 as usize].place = placed.at;
        }
        Ok(all)
    }

    /// Returns a sum over all names, sizes and places.
    fn write_directories(&mut self, order: &[Node], placed: &[Placed]) -> Result<u128, Error> {
        let mut identity = Sum::default();
        self.devices.iter().for_each(|device| identity.add(&device.tag));
        let (block, bits) = (self.output.block(), self.output.bits);
        let mut bytes = Vec::with_capacity(block);
        for (node, place) in order.iter().zip(placed) {
            let Some(directory) = self.tree.directory(*node) else { continue };
            let names = with_dots(directory, *node, &self.tree);
            let (blocks, _) = directory::blocks(names.iter().map(|each| each.2), block);
            for (index, range) in blocks.into_iter().take(place.whole).enumerate() {
                directory::encode(&names[range], &mut bytes);
                identity.add(&bytes);
                bytes.resize(block, 0);
                self.output.append((place.first + index as u64) << bits, &bytes)?;
            }
        }
        for (node, place) in order.iter().zip(placed) {
            let Some(directory) = self.tree.directory(*node) else { continue };
            let inode = self.directory_inode(*node, directory, place);
            identity.add(&inode.encode());
            if node.0 == 0 {
                continue;
            }
            let mut whole = [&inode.encode()[..], &place.attributes].concat();
            if place.inline {
                let names = with_dots(directory, *node, &self.tree);
                let (mut blocks, _) = directory::blocks(names.iter().map(|each| each.2), block);
                if let Some(last) = blocks.pop() {
                    directory::encode(&names[last], &mut bytes);
                    identity.add(&bytes);
                    whole.extend_from_slice(&bytes);
                }
            }
            self.output.append(place.at, &whole)?;
        }
        Ok(identity.value())
    }

    fn directory_inode(&self, node: Node, directory: &Directory, place: &Placed) -> Inode {
        let first = if place.whole > 0 { place.first as u32 } else { NO_BLOCK };
        let layout = if place.inline { INLINE } else { PLAIN };
        let mut inode = directory.meta.inode(S_IFDIR, layout, place.size, first);
        inode.attribute_units = place.units;
        // `.`, and the name that the root does not have.
        inode.links = self.tree.item(node).links + if node.0 == 0 { 2 } else { 1 };
        inode.number = (place.at / SLOT) as u32;
        inode
    }

    fn first_block(&self, root: &Placed, inodes: u64, identity: u128) -> Vec<u8> {
        let mut block = vec![0; HEAD];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(SUPER_AT, &MAGIC.to_le_bytes());
        put(SUPER_AT + 8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(SUPER_AT + 12, &[self.output.bits as u8]);
        put(SUPER_AT + 14, &((ROOT_AT as u64 / SLOT) as u16).to_le_bytes());
        put(SUPER_AT + 16, &inodes.to_le_bytes());
        put(SUPER_AT + 36, &(self.output.blocks() as u32).to_le_bytes());
        // Inodes and shared attributes are counted from block 0; so is everything else.
        put(SUPER_AT + 48, &identity.to_le_bytes());
        let chunks = if self.chunked { INCOMPAT_CHUNKS } else { 0 };
        let devices = if self.devices.is_empty() { 0 } else { INCOMPAT_DEVICES };
        put(SUPER_AT + 80, &(chunks | devices).to_le_bytes());
        put(SUPER_AT + 86, &(self.devices.len() as u16).to_le_bytes());
        put(SUPER_AT + 88, &((HEAD / DEVICE) as u16).to_le_bytes());
        if let Some(directory) = self.tree.directory(Node(0)) {
            put(ROOT_AT, &self.directory_inode(Node(0), directory, root).encode());
            put(ROOT_AT + INODE, &root.attributes);
        }
        let sum = crc32c(&block[SUPER_AT..summed(self.output.bits)]);
        block[SUPER_AT + 4..SUPER_AT + 8].copy_from_slice(&sum.to_le_bytes());
        block
    }
}

/// Where a directory goes.
struct Placed {
    /// Its inode.
    at: u64,
    /// Its first block, and how many it has.
    first: u64,
    whole: usize,
    /// Bytes of the last block, which may be behind the inode.
    used: usize,
    size: u64,
    inline: bool,
    units: u16,
    attributes: Vec<u8>,
}

/// A directory's names as they are written: sorted, with itself and its parent.
fn with_dots<'a>(directory: &'a Directory, node: Node, tree: &Tree) -> Vec<Listed<'a>> {
    let listed = |name: &'a [u8], node: Node| {
        let item = tree.item(node);
        (item.place / SLOT, type_in_directory(mode_of(item.kind)), name)
    };
    let mut names: Vec<Listed<'a>> = directory.names.iter().map(|(name, node)| listed(name, *node)).collect();
    for (name, node) in [(&b"."[..], node), (b"..", directory.parent)] {
        let at = names.partition_point(|other| other.2 < name);
        names.insert(at, listed(name, node));
    }
    names
}

fn mode_of(kind: Kind) -> u16 {
    match kind {
        Kind::Regular { .. } => S_IFREG,
        Kind::Directory => S_IFDIR,
        Kind::Symlink => S_IFLNK,
        Kind::Character { .. } => S_IFCHR,
        Kind::Block { .. } => S_IFBLK,
        Kind::Fifo => S_IFIFO,
    }
}

impl Chunks {
    fn write(&mut self, mut offset: u64, mut bytes: &[u8], size: u64, output: &mut Output) -> Result<(), Error> {
        let length = (output.block() as u64) << self.bits;
        while !bytes.is_empty() {
            let (index, within) = (offset / length, offset % length);
            let count = bytes.len().min(usize::try_from(length - within).unwrap_or(usize::MAX));
            let chunk = &mut self.blocks[index as usize];
            if *chunk == NO_BLOCK {
                // The last one ends with the file.
                let blocks = (size - index * length).min(length).div_ceil(output.block() as u64);
                *chunk = output.reserve(blocks)? as u32;
            }
            output.append((u64::from(*chunk) << output.bits) + within, &bytes[..count])?;
            offset += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

/// A name for the image, of 128 bits, by FNV-1a. Two images that differ in it only by their content may have one; the kernel
/// only wants to tell lower layers of an overlay apart.
struct Sum(u128);

impl Default for Sum {
    fn default() -> Sum {
        Sum(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn value(&self) -> u128 {
        self.0
    }
}
