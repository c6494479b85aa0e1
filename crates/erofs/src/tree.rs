//! The names of an image while it is written.

use crate::writer::Meta;
use std::collections::BTreeMap;

/// Something in the image: a file, a link, a directory. Valid for the writer that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub(crate) u32);

/// What a [`Node`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    Regular {
        /// Bytes, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

pub(crate) struct Item {
    /// The place of the inode; of a directory it is known at the end.
    pub(crate) place: u64,
    /// Names; of a directory, directories in it.
    pub(crate) links: u32,
    pub(crate) kind: Kind,
    /// Index of a directory's entries, or of a symbolic link's target.
    pub(crate) more: u32,
}

pub(crate) struct Directory {
    pub(crate) parent: Node,
    pub(crate) names: BTreeMap<Box<[u8]>, Node>,
    pub(crate) meta: Meta,
}

#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) items: Vec<Item>,
    pub(crate) directories: Vec<Directory>,
    /// Where symbolic links lead, for those that walk the tree.
    pub(crate) targets: Vec<Box<[u8]>>,
    /// An estimate of the memory, in bytes.
    pub(crate) memory: usize,
}

impl Tree {
    pub(crate) fn add(&mut self, place: u64, kind: Kind, more: u32) -> Node {
        let links = 0;
        self.items.push(Item { place, links, kind, more });
        self.memory += size_of::<Item>();
        // As many as there are numbers never fit into the memory that is allowed.
        Node((self.items.len() - 1) as u32)
    }

    pub(crate) fn add_directory(&mut self, parent: Node, meta: Meta) -> Node {
        self.memory += size_of::<Directory>() + meta.memory();
        self.directories.push(Directory { parent, names: BTreeMap::new(), meta });
        self.add(0, Kind::Directory, (self.directories.len() - 1) as u32)
    }

    pub(crate) fn add_symlink(&mut self, place: u64, target: &[u8]) -> Node {
        self.memory += target.len() + size_of::<Box<[u8]>>();
        self.targets.push(target.into());
        self.add(place, Kind::Symlink, (self.targets.len() - 1) as u32)
    }

    pub(crate) fn item(&self, node: Node) -> &Item {
        &self.items[node.0 as usize]
    }

    pub(crate) fn directory(&self, node: Node) -> Option<&Directory> {
        let item = self.item(node);
        (item.kind == Kind::Directory).then(|| &self.directories[item.more as usize])
    }

    pub(crate) fn directory_mut(&mut self, node: Node) -> Option<&mut Directory> {
        let item = &self.items[node.0 as usize];
        (item.kind == Kind::Directory).then(|| &mut self.directories[item.more as usize])
    }

    /// Gives `node` a name; what had it loses it.
    pub(crate) fn link(&mut self, parent: Node, name: &[u8], node: Node) {
        self.unlink(parent, name);
        let Some(directory) = self.directory_mut(parent) else { return };
        directory.names.insert(name.into(), node);
        // A pointer, a length and a number, in nodes that are two thirds full.
        self.memory += name.len() + 40;
        self.items[node.0 as usize].links += 1;
        if self.item(node).kind == Kind::Directory {
            self.items[parent.0 as usize].links += 1;
        }
    }

    /// Takes a name away, and all below it.
    pub(crate) fn unlink(&mut self, parent: Node, name: &[u8]) -> Option<Node> {
        let node = self.directory_mut(parent)?.names.remove(name)?;
        if self.item(node).kind == Kind::Directory {
            let links = &mut self.items[parent.0 as usize].links;
            *links = links.saturating_sub(1);
        }
        let mut gone = vec![node];
        while let Some(node) = gone.pop() {
            let links = &mut self.items[node.0 as usize].links;
            *links = links.saturating_sub(1);
            if let Some(directory) = self.directory(node) {
                gone.extend(directory.names.values());
            }
        }
        Some(node)
    }

    /// All directories that have a place in the tree, each before what is in it.
    pub(crate) fn reachable(&self) -> Vec<Node> {
        let (mut all, mut next) = (Vec::new(), vec![Node(0)]);
        while let Some(node) = next.pop() {
            all.push(node);
            let Some(directory) = self.directory(node) else { continue };
            let inner = directory.names.values().rev();
            next.extend(inner.filter(|node| self.item(**node).kind == Kind::Directory));
        }
        all
    }
}
