//! Blobs and layers on disk, and the writable directories of containers.
//!
//! Owns everything below the data root but the state database, the volumes and the files that the engine keeps in a
//! container's directory. Knows no image, no reference and no registry; whoever calls decides what is kept.
//!
//! ```text
//! <root>/                      0700
//!   boot                       "1 <boot id>": format of the store, and the boot in which it was last checked
//!   blobs/<algorithm>/<hex>    content-addressed, 0600
//!   layers/<hex of diffID>/
//!     layer.json               the record (module `record`)
//!     recipe                   with it and the tree the archive is put together again (module `rebuild`)
//!     replaced/                files of the archive that a later member took the place of, if there are any
//!     tree/                    the unpacked layer: a lower directory for overlayfs
//!     image.erofs              or the layer as one file (module `image`); then `replaced.list` instead of `replaced/`
//!   merged/<key of layers>/    one image for many (module `merged`)
//!   shifted/<key of a shift>/<name>/
//!     form.json                of which layers it is (module `shifted`)
//!     by-reference/            their names with other owners, the data in `layers`
//!     tree/                    or a copy of one layer with other owners
//!   containers/<id>/{upper,work}
//!   containers/<id>/limited.ext4   instead of both for one whose layer has a size (module `disk_image`)
//!   staging/<name>             whatever is being made or removed, locked with flock(2) by its owner
//!   unsettled/<name>           empty marks for what is not known to be on stable storage
//! ```
//!
//! # Locks
//! 1. `<root>` itself: held while the store is checked after a boot. Nothing else is held when it is taken.
//! 2. A staging entry: held by whoever fills or empties it. A layer's entry is called `layer-<hex>`, so two imports of
//!    one layer meet there: the second waits and then finds the layer. A process holds any number of them but waits
//!    for one only while it holds none that another waits for: waiting is only for `layer-<hex>`, and an import takes one.
//!
//! A lock is on the inode, and the name may have gone when the lock is obtained; so whoever gets it looks whether the name still
//! leads to the inode, and starts over if not.
//!
//! # Crash of the process
//! Whatever is not finished lies in `staging` with no lock on it; [`Store::sweep`] removes it. A layer appears in
//! `layers` by one rename of a directory that holds tree and record, so it is complete or absent. Removal is the same
//! rename backwards. A mark in `unsettled` without its layer means nothing and goes with [`Store::forget_marks`], or at the next boot.
//!
//! # Power cut
//! Nothing on the way of a pull waits for the disk: no fsync per file, no syncfs. Instead each new layer and blob first
//! gets a mark in `unsettled`; the file system's journal keeps the order of the two, so a layer that survives without its
//! mark was settled. The first [`Store::open`] after a boot looks at what is marked: a blob is hashed, a layer is walked and
//! its number of names and sum of file sizes compared with its record. ext4 (`data=ordered` and `journal`), XFS and btrfs
//! set a file's size when its data is on disk, so a torn tree is seen by its sizes (ext4 without a journal or with
//! `data=writeback` promises nothing; there [`Store::settle`] after each pull is the only safe way). What does not match is removed, and
//! the engine finds the layer absent. [`Store::settle`] does one syncfs and removes the marks; calling it in a quiet moment
//! only saves the check.
#![forbid(unsafe_code)]

mod acceptable;
mod blobs;
mod boot;
mod changes;
mod chunks;
mod compare;
mod copy;
mod directory;
mod disk_image;
mod error;
mod extract;
mod image;
mod imager;
mod import;
mod late;
mod layers;
mod members;
mod merge;
mod merged;
mod onto;
mod owners;
mod pack;
mod places;
mod rebuild;
mod record;
mod removal;
mod remove;
mod replaced;
mod scatter;
mod scratch;
mod shift;
mod shifted;
mod staging;
mod tally;
mod union;
mod verity;
mod writable;
mod xattrs;

pub use blobs::Blobs;
pub use changes::{Change, ChangeKind};
pub use copy::{copy_attributes, copy_tree};
pub use error::{EntryError, StoreError, SystemError};
pub use import::ImportOptions;
pub use layers::{Layer, Layers};
pub use merged::MergedCheck;
pub use onto::{Onto, Owners, unpack_onto};
pub use pack::{pack_entry, pack_tree};
pub use rebuild::Rebuilt;
pub use record::Backend;
pub use removal::Removal;
pub use scratch::Scratch;
pub use shift::{IdRange, Shift};
pub use shifted::{ShiftedCheck, Taken};
pub use staging::Swept;
pub use writable::{Addition, Writable};

use directory::Directory;
use rustix::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// How owners, devices and overlay attributes can be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// True in a user namespace: overlayfs is mounted with `userxattr`, so its marks are `user.overlay.*` instead of
    /// `trusted.overlay.*`, and device nodes are left out with a warning.
    pub user_xattr: bool,
    /// True when only one id is mapped: every file then belongs to it, whatever the archive says.
    pub single_id: bool,
}

/// A store, open. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Store {
    root: Directory,
    path: PathBuf,
    ownership: Ownership,
    backend: Backend,
    /// Directories in place of `backend` where that cannot be.
    or_directories: bool,
    /// The blocks of new images, once they were tried: each mount and its end wait for other processors.
    blocks: Arc<OnceLock<erofs::Blocks>>,
}

impl Store {
    /// Opens the store below `root`, makes what is missing, and after a boot checks what may have been torn.
    ///
    /// # Errors
    /// System errors (`EROFS`, `EACCES`, `ENOSPC`), and [`StoreError::Format`] for a newer format.
    pub fn open(root: impl AsRef<Path>, ownership: Ownership) -> Result<Store, StoreError> {
        Store::open_in_boot(root.as_ref(), ownership, &boot::current()?)
    }

    fn open_in_boot(path: &Path, ownership: Ownership, boot_id: &str) -> Result<Store, StoreError> {
        let root = Directory::create_all(path)?;
        let store = Store {
            root,
            path: path.to_owned(),
            ownership,
            backend: Backend::Directory,
            or_directories: false,
            blocks: Arc::default(),
        };
        boot::check(&store, boot_id)?;
        Ok(store)
    }

    /// The content-addressed blobs.
    pub fn blobs(&self) -> Blobs<'_> {
        Blobs::new(self)
    }

    /// The unpacked layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// The same store, with new layers stored in another way. Those that are there stay as they are.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Store {
        Store { backend, or_directories: false, ..self }
    }

    /// As [`Store::with_backend`], and where this kernel mounts no images from this file system, new layers are directories.
    #[must_use]
    pub fn with_backend_if_possible(self, backend: Backend) -> Store {
        Store { backend, or_directories: true, ..self }
    }

    /// Can this kernel, and this process, mount the images of [`Backend::Erofs`] from this file system, as files or by loop devices?
    /// Tried with a small one.
    ///
    /// # Errors
    /// System errors of making it, a full disk for instance.
    pub fn can_mount_images(&self) -> Result<bool, StoreError> {
        Ok(image::try_mount(self)?.is_ok())
    }

    /// How this store keeps owners and attributes.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what dead processes left in `staging`, and nothing that a live one works on.
    ///
    /// # Errors
    /// System errors of the listing; what cannot be removed is reported in [`Swept`], since the rest can.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        staging::sweep(self)
    }

    /// What lies in `staging` and belongs to nobody alive, without removing it.
    ///
    /// # Errors
    /// System errors.
    pub fn abandoned(&self) -> Result<Vec<String>, StoreError> {
        staging::abandoned(self)
    }

    /// Removes `name` in a directory of the engine on this file system, with all that is in it. That it is missing is no
    /// error.
    ///
    /// # Errors
    /// System errors; what was left is removed by the next [`Store::sweep`].
    pub fn discard(&self, parent: &Path, name: &str) -> Result<(), StoreError> {
        let system = |source| StoreError::System { doing: "remove a directory", source };
        match Directory::existing(parent).map_err(system)? {
            Some(parent) => writable::take_and_discard(self, &parent, name).map_err(system),
            None => Ok(()),
        }
    }

    /// Makes a file with an empty ext4 file system in it that has room for `size` bytes, for `kernel::loops`. It is there
    /// completely or not at all, and takes next to nothing of the disk until something is written.
    ///
    /// # Errors
    /// `EFBIG` for what no file system can be, other system errors.
    pub fn make_limited(&self, directory: &Path, name: &str, size: u64) -> Result<(), StoreError> {
        let system = |source| StoreError::System { doing: "make a file system of limited size", source };
        let missing = || SystemError::new(format!("open({directory:?}, O_DIRECTORY)"), rustix::io::Errno::NOENT);
        let directory = Directory::existing(directory).and_then(|found| found.ok_or_else(missing)).map_err(system)?;
        disk_image::create(&directory, name, size, &[])
    }

    /// Removes the marks (module head, "Power cut") of what was removed: with `gone` of these, otherwise of whatever is not in
    /// its place. Whoever calls it knows that nobody is storing anything: a mark comes before what it is of.
    ///
    /// # Errors
    /// System errors.
    pub fn forget_marks(&self, gone: Option<&[oci::digest::Digest]>) -> Result<(), StoreError> {
        boot::forget(self, gone)
    }

    /// Waits until everything stored so far is on stable storage, and notes it, so that the check after the next boot has
    /// nothing to do. Takes as long as the disk takes.
    ///
    /// # Errors
    /// `EIO` and other system errors; everything then stays marked.
    pub fn settle(&self) -> Result<(), StoreError> {
        boot::settle(self)
    }
}

/// What a directory takes on disk, in bytes as du(1) counts: each inode once, the directory too.
///
/// # Errors
/// System errors.
pub fn disk_usage(directory: &Path) -> Result<u64, StoreError> {
    let system = |source| StoreError::System { doing: "measure a directory", source };
    match Directory::existing(directory).map_err(system)? {
        Some(found) => tally::measure(found.as_fd(), found.label()).map(|measured| measured.disk).map_err(system),
        None => Ok(0),
    }
}

/// What a directory takes on disk, and what each name in it does.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Bytes as du(1) counts them: each inode once, the directory too.
    pub all: u64,
    /// Bytes of each name by itself; what two of them share is counted for both.
    pub each: std::collections::BTreeMap<String, u64>,
}

/// Measures a directory and what is in it in one walk. One that is missing takes nothing.
///
/// # Errors
/// System errors.
pub fn disk_usage_of_each(directory: &Path) -> Result<DiskUsage, StoreError> {
    let system = |source| StoreError::System { doing: "measure a directory", source };
    match Directory::existing(directory).map_err(system)? {
        Some(found) => tally::measure_each(found.as_fd(), found.label()).map_err(system),
        None => Ok(DiskUsage::default()),
    }
}
