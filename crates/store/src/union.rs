//! The names of several images as overlayfs shows them, in one: the rules are those of `merge`, and neither whiteouts nor overlayfs's
//! own attributes are left.
//!
//! Memory is bounded by names: those of the result by the writer's limit, those of the directory that is being read by the same.

use erofs::{Entry, Error, Found, Image, Kind, Limits, Meta, Node, Summary, Tag, Writer};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// overlayfs shows none of these.
const OWN: &[u8] = b"trusted.overlay.";
const LONGEST_TARGET: usize = 4096;

/// An inode: the number of its image, and its own.
type Place = (usize, u64);

pub(crate) struct Union<'a> {
    images: Vec<&'a Image>,
    writer: Writer,
    /// Files of several names.
    linked: HashMap<Place, Node>,
    /// Directories whose names are still to be read: all parts that merge, topmost first.
    waiting: Vec<(Node, Vec<Place>)>,
    memory: usize,
}

/// What is known about a name.
enum Shown {
    /// A whiteout.
    Nothing,
    File(Place, Box<Found>),
    /// Its parts, and whether those of lower layers are parts as well.
    Directory(Vec<Place>, bool),
}

impl<'a> Union<'a> {
    /// Of the layers' images, topmost first.
    pub(crate) fn new(file: File, images: &[(Tag, &'a Image)]) -> Result<Union<'a>, Error> {
        let limits = Limits::default();
        let memory = limits.memory;
        let [(_, top), ..] = images else { return Err(Error::Damaged("an image of no layers")) };
        let root = meta(top, &top.root()?)?;
        let writer = Writer::referring(file, root, limits, images)?;
        let images: Vec<&Image> = images.iter().map(|(_, image)| *image).collect();
        let roots = images.iter().enumerate().map(|(number, image)| Ok((number, image.root()?.inode)));
        let parts = roots.collect::<Result<Vec<Place>, Error>>()?;
        let waiting = vec![(writer.root(), parts)];
        Ok(Union { images, writer, linked: HashMap::new(), waiting, memory })
    }

    pub(crate) fn finish(mut self) -> Result<(File, Summary), Error> {
        while let Some((node, parts)) = self.waiting.pop() {
            for (name, shown) in self.names(&parts)? {
                match shown {
                    Shown::Nothing => {}
                    Shown::File(place, found) => self.file(node, &name, place, &found)?,
                    Shown::Directory(parts, _) => {
                        let Some(&(number, inode)) = parts.first() else { continue };
                        let image = self.images[number];
                        let meta = meta(image, &image.inode(inode)?)?;
                        let made = self.writer.directory(node, &name, meta)?;
                        self.waiting.push((made, parts));
                    }
                }
            }
        }
        self.writer.finish()
    }

    /// All names of a directory.
    fn names(&self, parts: &[Place]) -> Result<BTreeMap<Vec<u8>, Shown>, Error> {
        let mut names: BTreeMap<Vec<u8>, Shown> = BTreeMap::new();
        let mut memory = 0;
        for &(number, inode) in parts {
            let image = self.images[number];
            for Entry { name, inode } in image.entries(&image.inode(inode)?)? {
                let place = (number, inode);
                match names.get_mut(&name) {
                    Some(Shown::Directory(parts, open)) if *open => {
                        let found = image.inode(inode)?;
                        *open = found.kind == Kind::Directory && !is_opaque(image, &found)?;
                        if found.kind == Kind::Directory {
                            parts.push(place);
                        }
                    }
                    Some(_) => {}
                    None => {
                        memory += name.len() + size_of::<Found>() + 2 * size_of::<Shown>();
                        if memory > self.memory {
                            return Err(Error::TooMany);
                        }
                        names.insert(name, shown(image, place)?);
                    }
                }
            }
        }
        Ok(names)
    }

    fn file(&mut self, parent: Node, name: &[u8], place: Place, found: &Found) -> Result<(), Error> {
        let node = match self.linked.get(&place) {
            Some(node) => *node,
            None => {
                let node = self.inode(place.0, found)?;
                if found.links > 1 {
                    self.linked.insert(place, node);
                }
                node
            }
        };
        self.writer.link(parent, name, node)
    }

    fn inode(&mut self, number: usize, found: &Found) -> Result<Node, Error> {
        let image = self.images[number];
        let meta = meta(image, found)?;
        match found.kind {
            Kind::Regular { .. } => self.writer.refer(&meta, number, image, found),
            Kind::Symlink => {
                let mut target = vec![0; LONGEST_TARGET];
                let length = image.read(found, 0, &mut target)?;
                self.writer.symlink(&meta, &target[..length])
            }
            kind => self.writer.special(&meta, kind),
        }
    }
}

fn shown(image: &Image, place: Place) -> Result<Shown, Error> {
    let found = image.inode(place.1)?;
    Ok(match found.kind {
        Kind::Character { major: 0, minor: 0 } => Shown::Nothing,
        Kind::Directory => {
            let open = !is_opaque(image, &found)?;
            Shown::Directory(vec![place], open)
        }
        _ => Shown::File(place, Box::new(found)),
    })
}

fn is_opaque(image: &Image, found: &Found) -> Result<bool, Error> {
    Ok(image.attributes(found)?.iter().any(|(name, value)| name == OPAQUE && value == b"y"))
}

fn meta(image: &Image, found: &Found) -> Result<Meta, Error> {
    let mut attributes = image.attributes(found)?;
    attributes.retain(|(name, _)| !name.starts_with(OWN));
    Ok(Meta { attributes, ..found.meta.clone() })
}
