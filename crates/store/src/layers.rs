//! The unpacked layers, by diffID.

use crate::boot;
use crate::directory::{Directory, OPEN};
use crate::error::{During, StoreError, SystemError};
use crate::image;
use crate::import::{self, ImportOptions, Imported, Target};
use crate::merge::{self, Stack};
use crate::merged::{self, MergedCheck};
use crate::pack;
use crate::rebuild::Rebuilt;
use crate::record::{self, Backend, Record};
use crate::removal::Removal;
use crate::shift::Shift;
use crate::shifted::{self, ShiftedCheck};
use crate::staging::Staged;
use crate::tally;
use crate::verity;
use crate::{Store, blobs};
use erofs::Blocks;
use oci::digest::Digest;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

pub(crate) const NAME: &str = "layers";

/// What is known about a layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the plain archive.
    pub diff_id: Digest,
    /// Bytes in regular files, hard links once.
    pub size: u64,
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of the plain archive.
    pub archive_size: u64,
    /// What could not be kept as the archive said: devices in a user namespace, attributes. One sentence each.
    pub warnings: Vec<String>,
    /// How it is stored.
    pub backend: Backend,
    /// Where it is: for [`Backend::Directory`] the lower directory for overlayfs, for [`Backend::Erofs`] the image, whose name
    /// ends in `.erofs`.
    pub path: PathBuf,
    /// True if the archive makes the root opaque. overlayfs does not look for the mark on the root of a layer, so the
    /// layers below must be left out of the mount; [`Layers::lower`] does.
    pub hides_lower: bool,
    /// True if an import found it already here.
    pub existed: bool,
}

/// The layers of a store.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    store: &'a Store,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(store: &'a Store) -> Layers<'a> {
        Layers { store }
    }

    /// Unpacks a layer from its archive, plain or compressed with gzip or zstd, hashing the plain archive in the same pass.
    ///
    /// With an expected diffID, a layer that is here already, or that another process is unpacking, is not unpacked again;
    /// nothing is then read from `source`. Without one, the stream is always read to its end.
    ///
    /// # Errors
    /// See [`StoreError`]; after any error nothing of the layer is left.
    pub fn import(&self, expected: Option<&Digest>, source: impl Read) -> Result<Layer, StoreError> {
        self.import_with(expected, source, &ImportOptions::default())
    }

    /// As [`Layers::import`], with limits of the caller's.
    ///
    /// # Errors
    /// As [`Layers::import`].
    pub fn import_with(
        &self,
        expected: Option<&Digest>,
        source: impl Read,
        options: &ImportOptions,
    ) -> Result<Layer, StoreError> {
        let doing = "unpack the layer";
        let system = |source| StoreError::System { doing, source };
        let staged = match expected {
            None => Staged::new(self.store, "layer").map_err(system)?,
            Some(diff_id) => {
                let here = || self.is_here(diff_id);
                match Staged::named(self.store, &format!("layer-{}", diff_id.hex()), here).map_err(system)? {
                    Some(staged) => staged,
                    None => return Ok(Layer { existed: true, ..self.get(diff_id)? }),
                }
            }
        };
        let directory = staged.directory().clone();
        let made = self.form().and_then(|blocks| {
            let imported = self.unpack(expected, source, options, &directory, blocks)?;
            self.note(&directory, imported, if blocks.is_some() { Backend::Erofs } else { Backend::Directory })
        });
        match made {
            Ok(record) => self.publish(staged, record),
            Err(error) => {
                // The first error is the one to tell; what cannot be removed now goes with the next sweep.
                staged.discard().ok();
                Err(error)
            }
        }
    }

    /// What a new layer becomes: an image with such blocks, or a directory.
    fn form(&self) -> Result<Option<Blocks>, StoreError> {
        if self.store.backend == Backend::Directory {
            return Ok(None);
        }
        if let Some(&blocks) = self.store.blocks.get() {
            return Ok(Some(blocks));
        }
        match image::try_mount(self.store)? {
            Ok(blocks) => Ok(Some(*self.store.blocks.get_or_init(|| blocks))),
            Err(_) if self.store.or_directories => Ok(None),
            Err(error) => Err(StoreError::NoImages(error)),
        }
    }

    fn unpack(
        &self,
        expected: Option<&Digest>,
        source: impl Read,
        options: &ImportOptions,
        directory: &Directory,
        blocks: Option<Blocks>,
    ) -> Result<Imported, StoreError> {
        let target = match blocks {
            None => Target::Tree(blobs::new_directory(directory, record::TREE)?),
            Some(blocks) => Target::Image(image::create(directory)?, blocks),
        };
        import::run(source, target, directory.clone(), self.store.ownership, expected, options)
    }

    /// Seals an image, and writes the record.
    fn note(&self, directory: &Directory, imported: Imported, backend: Backend) -> Result<Record, StoreError> {
        let system = |source| StoreError::System { doing: "put the layer in its place", source };
        let Imported { diff_id, archive_size, extracted } = imported;
        let recipe = directory.size(record::RECIPE).map_err(system)?;
        let verity = match backend {
            Backend::Directory => None,
            Backend::Erofs => verity::seal(directory, record::IMAGE).map_err(system)?,
        };
        let record = Record {
            version: 1,
            diff_id,
            backend,
            size: extracted.size,
            entries: extracted.entries,
            archive_size,
            root_entry: extracted.root_entry,
            hides_lower: extracted.hides_lower,
            recipe: Some(recipe),
            replaced: extracted.replaced > 0,
            verity,
            tally: extracted.tally,
            warnings: extracted.warnings,
        };
        write_record(directory, &record)?;
        Ok(record)
    }

    /// Moves the layer to its place.
    fn publish(&self, staged: Staged, record: Record) -> Result<Layer, StoreError> {
        let system = |source| StoreError::System { doing: "put the layer in its place", source };
        let diff_id = record.diff_id.clone();
        let mark = boot::mark(self.store, &format!("layer-{}", diff_id.hex())).map_err(system)?;
        let layers = self.store.root.create(NAME).map_err(system)?;
        match staged.publish(&layers, diff_id.hex()) {
            Ok(()) => Ok(self.layer(record)),
            Err((staged, error)) => {
                staged.discard().map_err(system)?;
                boot::unmark(self.store, &mark).map_err(system)?;
                if matches!(error.errno(), Errno::EXIST | Errno::NOTEMPTY) {
                    // Unpacked by someone else at the same time, without an expected diffID on one side.
                    return Ok(Layer { existed: true, ..self.get(&diff_id)? });
                }
                Err(system(error))
            }
        }
    }

    /// Is the layer here? One system call.
    ///
    /// # Errors
    /// System errors other than that it is missing.
    pub fn contains(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        self.is_here(diff_id).map_err(|source| StoreError::System { doing: "look for a layer", source })
    }

    fn is_here(&self, diff_id: &Digest) -> Result<bool, SystemError> {
        self.store.root.exists(&format!("{NAME}/{}", diff_id.hex()))
    }

    /// The directory or image of a layer, see [`Layer::path`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Damaged`], system errors.
    pub fn path(&self, diff_id: &Digest) -> Result<PathBuf, StoreError> {
        Ok(self.get(diff_id)?.path)
    }

    /// The lower directories for a mount of these layers, topmost first: their paths, without those below a layer whose
    /// root is opaque, each layer once; or the one image that was merged of them ([`Layers::merge`]). An image that fs-verity sealed is the one that was stored.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Damaged`], `EUCLEAN` for another image, system errors.
    pub fn lower(&self, layers: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
        if let Some(path) = merged::lower(self.store, layers)? {
            return Ok(vec![path]);
        }
        let mut paths = Vec::with_capacity(layers.len());
        for (at, diff_id) in layers.iter().enumerate() {
            // All that a layer shows it shows where it is for the first time, and overlayfs takes no directory twice (ELOOP).
            if layers[..at].contains(diff_id) {
                continue;
            }
            let record = self.record(diff_id)?;
            if let Some(noted) = &record.verity {
                let checked = verity::check(&self.open_layer(diff_id)?, record::IMAGE, noted);
                checked.map_err(|source| StoreError::System { doing: "check the image of a layer", source })?;
            }
            paths.push(self.place(diff_id, record.backend));
            if record.hides_lower {
                break;
            }
        }
        Ok(paths)
    }

    fn place(&self, diff_id: &Digest, backend: Backend) -> PathBuf {
        let name = match backend {
            Backend::Directory => record::TREE,
            Backend::Erofs => record::IMAGE,
        };
        self.store.path.join(NAME).join(diff_id.hex()).join(name)
    }

    /// The first mebibyte of `directory/file` as the layers, topmost first, show it; none where that is no regular file.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], system errors.
    pub fn read(
        &self,
        layers: &[Digest],
        directory: &std::ffi::CString,
        file: &std::ffi::CString,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        crate::writable::read_of_layers(self.store, layers, directory, file)
    }

    /// Makes one image of these layers, topmost first, for [`Layers::lower`] (module `merged`), unless there is one. False where they
    /// cannot be merged, and are mounted one by one.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Damaged`], system errors.
    pub fn merge(&self, layers: &[Digest]) -> Result<bool, StoreError> {
        merged::make(self.store, layers)
    }

    /// The name of the image that is merged of these layers, topmost first: of its directory in `merged`, whether it is there or not.
    pub fn merged_name(layers: &[Digest]) -> Digest {
        merged::name(layers)
    }

    /// Removes a merged image. That it is missing is no error.
    ///
    /// # Errors
    /// System errors.
    pub fn remove_merged(&self, name: &str) -> Result<(), StoreError> {
        merged::remove(self.store, name).map_err(|source| StoreError::System { doing: "remove a merged image", source })
    }

    /// Removes all merged images but those of these names.
    ///
    /// # Errors
    /// System errors.
    pub fn retain_merged(&self, names: &std::collections::BTreeSet<String>) -> Result<(), StoreError> {
        merged::retain(self.store, names)
    }

    /// Looks at all merged images: whether they are what would be made now.
    ///
    /// # Errors
    /// System errors.
    pub fn check_merged(&self) -> Result<Vec<MergedCheck>, StoreError> {
        merged::check(self.store)
    }

    /// Makes the shifted forms of layers, topmost first, that are missing, or that this kernel cannot mount (module `shifted`).
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Damaged`], `EOPNOTSUPP` for a layer that is an image, system errors.
    pub fn make_shifted(&self, layers: &[Digest], shift: &Shift) -> Result<(), StoreError> {
        shifted::make(self.store, layers, shift)
    }

    /// As [`Layers::lower`], the shifted forms. Whether they are there is not looked at.
    ///
    /// # Errors
    /// As [`Layers::lower`].
    pub fn lower_shifted(&self, layers: &[Digest], shift: &Shift) -> Result<Vec<PathBuf>, StoreError> {
        shifted::lower(self.store, layers, shift)
    }

    /// Removes the shifted forms for all but these [`Shift::key`]s; returns what they took on disk, in bytes. The caller knows that
    /// no container uses them, and that none comes meanwhile.
    ///
    /// # Errors
    /// System errors.
    pub fn take_shifted_but(&self, keys: &std::collections::BTreeSet<String>) -> Result<shifted::Taken, StoreError> {
        shifted::take_all_but(self.store, keys)
    }

    /// Removes one shifted form. That it is missing is no error.
    ///
    /// # Errors
    /// System errors.
    pub fn remove_shifted(&self, key: &str, name: &str) -> Result<(), StoreError> {
        shifted::remove_one(self.store, key, name)
            .map_err(|source| StoreError::System { doing: "remove a form of layers with other owners", source })
    }

    /// Looks at all shifted forms: whether they belong to a layer that is here, and have its names and sizes.
    ///
    /// # Errors
    /// System errors.
    pub fn check_shifted(&self) -> Result<Vec<ShiftedCheck>, StoreError> {
        shifted::check(self.store)
    }

    /// The root directory of an unpacked layer; of an image it is mounted, for this descriptor alone.
    pub(crate) fn open_tree(&self, diff_id: &Digest) -> Result<OwnedFd, SystemError> {
        let layer = format!("{NAME}/{}", diff_id.hex());
        match self.store.root.open_fd(&format!("{layer}/{}", record::TREE)) {
            Err(error) if error.errno() == Errno::NOENT => {
                let image = format!("{layer}/{}", record::IMAGE);
                if !self.store.root.exists(&image)? {
                    return Err(error);
                }
                // A record that cannot be read is told by those who need what is in it.
                if let Ok(Record { verity: Some(noted), .. }) = self.record(diff_id) {
                    verity::check(&self.store.root.open(&layer)?, record::IMAGE, &noted)?;
                }
                image::mount(&self.store.path.join(image))
            }
            other => other,
        }
    }

    /// A layer's record.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Damaged`], system errors.
    pub fn get(&self, diff_id: &Digest) -> Result<Layer, StoreError> {
        Ok(self.layer(self.record(diff_id)?))
    }

    pub(crate) fn record(&self, diff_id: &Digest) -> Result<Record, StoreError> {
        let file = format!("{NAME}/{}/{}", diff_id.hex(), record::FILE);
        let fd = match self.store.root.file(&file, OFlags::RDONLY) {
            Err(error) if error.errno() == Errno::NOENT => return Err(StoreError::NoSuchLayer(diff_id.clone())),
            other => other.map_err(|source| StoreError::System { doing: "read a layer's record", source })?,
        };
        let mut text = Vec::new();
        File::from(fd).read_to_end(&mut text).map_err(|error| blobs::file_error("read", &file, &error))?;
        Record::parse(&text, file)
    }

    fn layer(&self, record: Record) -> Layer {
        Layer {
            path: self.place(&record.diff_id, record.backend),
            diff_id: record.diff_id,
            backend: record.backend,
            size: record.size,
            entries: record.entries,
            archive_size: record.archive_size,
            warnings: record.warnings,
            hides_lower: record.hides_lower,
            existed: false,
        }
    }

    /// All layers, sorted by diffID.
    ///
    /// # Errors
    /// System errors.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let system = |source| StoreError::System { doing: "list the layers", source };
        let layers = self.store.root.create(NAME).map_err(system)?;
        let entries = layers.entries().map_err(system)?;
        Ok(entries.iter().filter_map(|(name, _)| blobs::digest_of_hex(name)).collect())
    }

    /// Removes a layer, and returns when its files are gone too: [`Layers::removal`] of one. False if there is no such layer.
    ///
    /// # Errors
    /// System errors. What could not be deleted is left to [`Store::sweep`].
    pub fn remove(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let mut removal = self.removal();
        let existed = removal.take(diff_id)?;
        removal.finish().map(|()| existed)
    }

    /// To remove several layers, none yet.
    pub fn removal(&self) -> Removal<'a> {
        Removal::new(self.store)
    }

    /// What a layer takes on disk, in bytes, as du(1) counts.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], system errors.
    pub fn disk_usage(&self, diff_id: &Digest) -> Result<u64, StoreError> {
        self.measured(diff_id).map(|measured| measured.disk)
    }

    /// Writes a layer as an OCI layer archive: plain tar with `.wh.` names, reproducible, but not the bytes that it was
    /// imported from, so its digest is another. Returns the sink.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Sink`], system errors.
    pub fn pack<W: Write>(&self, diff_id: &Digest, sink: W) -> Result<W, StoreError> {
        pack::layer(&self.stack(std::slice::from_ref(diff_id))?, self.store.ownership, sink)
    }

    /// The layer's archive as it was imported, byte for byte, put together from the tree and what was noted at the import.
    /// Its digest is compared with the diffID at its end: bytes that turned out not to be the archive's end in an error.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::NoRecipe`], system errors.
    pub fn rebuild(&self, diff_id: &Digest) -> Result<Rebuilt, StoreError> {
        let (layer, record) = (self.open_layer(diff_id)?, self.record(diff_id)?);
        let tree = self.open_tree(diff_id);
        let tree = tree.map_err(|source| StoreError::System { doing: "open a layer", source })?;
        Rebuilt::open(&layer, tree, record)
    }

    /// What differs from the `old` layers to the `new` ones, each topmost first, as overlayfs shows them.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], system errors.
    pub fn compare(&self, old: &[Digest], new: &[Digest]) -> Result<Vec<crate::Change>, StoreError> {
        // A layer that both have is opened once, so that its files are known by their inodes.
        let mut opened = HashMap::new();
        let (old, new) = (self.stack_with(&mut opened, old)?, self.stack_with(&mut opened, new)?);
        crate::compare::compare(&old, &new, self.store.ownership)
            .map_err(|source| StoreError::System { doing: "compare two stacks of layers", source })
    }

    /// The trees of layers, topmost first.
    pub(crate) fn stack(&self, layers: &[Digest]) -> Result<Stack, StoreError> {
        self.stack_with(&mut HashMap::new(), layers)
    }

    fn stack_with(&self, opened: &mut HashMap<Digest, OwnedFd>, layers: &[Digest]) -> Result<Stack, StoreError> {
        let system = |source| StoreError::System { doing: "open a layer", source };
        let mut parts = Vec::with_capacity(layers.len());
        for diff_id in layers {
            if !opened.contains_key(diff_id) {
                let tree = match self.open_tree(diff_id) {
                    Err(error) if error.errno() == Errno::NOENT => {
                        return Err(StoreError::NoSuchLayer(diff_id.clone()));
                    }
                    other => other.map_err(system)?,
                };
                opened.insert(diff_id.clone(), tree);
            }
            // An open directory of its own, since two that list it share a position otherwise.
            let tree = fs::openat(&opened[diff_id], c".", OPEN, Mode::empty()).during(|| "openat(<layer>, \".\")");
            let tree = tree.map_err(system)?;
            let last = merge::is_opaque(tree.as_fd(), self.store.ownership)
                .map_err(|source| StoreError::System { doing: "open a layer", source })?;
            parts.push(tree);
            if last {
                break;
            }
        }
        Ok(Stack { parts, ..Stack::default() })
    }

    pub(crate) fn open_layer(&self, diff_id: &Digest) -> Result<Directory, StoreError> {
        match self.store.root.open(&format!("{NAME}/{}", diff_id.hex())) {
            Err(error) if error.errno() == Errno::NOENT => Err(StoreError::NoSuchLayer(diff_id.clone())),
            other => other.map_err(|source| StoreError::System { doing: "open a layer", source }),
        }
    }

    fn measured(&self, diff_id: &Digest) -> Result<tally::Measured, StoreError> {
        let directory = self.open_layer(diff_id)?;
        tally::measure(directory.as_fd(), directory.label())
            .map_err(|source| StoreError::System { doing: "measure a layer", source })
    }

    /// Does the tree have as many names and bytes as were unpacked? Reads no content: [`Layers::rebuild`] does.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`] if it vanishes meanwhile, [`StoreError::Damaged`], system errors.
    pub fn verify_tree(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        self.record(diff_id)?;
        self.is_whole(diff_id)
    }

    /// Does the tree have as many names and bytes as were unpacked?
    pub(crate) fn is_whole(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let record = match self.record(diff_id) {
            // Torn like the rest.
            Err(StoreError::Damaged { .. } | StoreError::NoSuchLayer(_)) => return Ok(false),
            other => other?,
        };
        let directory = self.open_layer(diff_id)?;
        let system = |source| StoreError::System { doing: "check a layer", source };
        if let Some(recipe) = record.recipe
            && directory.size(record::RECIPE).ok() != Some(recipe)
        {
            return Ok(false);
        }
        let measured = self.open_tree(diff_id).and_then(|tree| tally::measure(tree.as_fd(), directory.label()));
        match (measured, record.backend) {
            (Ok(found), _) => Ok(found.tally == record.tally),
            // What the kernel says of an image that is none, or is cut off or has a hole.
            (Err(error), Backend::Erofs) if image::is_damage(error.errno()) => Ok(false),
            (Err(error), _) => Err(system(error)),
        }
    }
}

fn write_record(directory: &Directory, record: &Record) -> Result<(), StoreError> {
    let file = record::FILE;
    let fd = directory
        .file(file, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
        .map_err(|source| StoreError::System { doing: "write a layer's record", source })?;
    let text = serde_json::to_vec(record).map_err(|source| StoreError::Damaged { file: file.to_owned(), source })?;
    File::from(fd).write_all(&text).map_err(|error| blobs::file_error("write", file, &error))
}
