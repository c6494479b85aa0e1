//! A container's own directories for overlayfs: `upper` for what it writes, `work` for overlayfs itself. Where its size is limited
//! both are in a file system in the file `limited.ext4`.

use crate::Store;
use crate::blobs::new_directory;
use crate::changes::{self, Change};
use crate::directory::{Directory, OPEN};
use crate::disk_image::{self, Top};
use crate::error::{During, StoreError, SystemError};
use crate::extract::extract;
use crate::layers::Layer;
use crate::merge::Stack;
use crate::pack;
use crate::record::{self, Backend};
use crate::staging::Staged;
use crate::tally;
use oci::digest::Digest;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, Gid, Mode, Uid};
use rustix::io::Errno;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

const NAME: &str = "containers";
const UPPER: &str = "upper";
const WORK: &str = "work";
const UNFINISHED: &str = "upper.new";
/// A file system of limited size with the two directories in it, instead of them.
const LIMITED: &str = "limited.ext4";

/// The writable directories of one container, in `containers/<id>`, which the engine keeps other files in.
#[derive(Debug)]
pub struct Writable<'a> {
    store: &'a Store,
    id: String,
}

impl<'a> Writable<'a> {
    /// Makes the directories for a container on the given layers, topmost first. The merged root shows the upper directory's
    /// owner and mode, so those are copied from the topmost layer that says what they are.
    ///
    /// # Errors
    /// `EEXIST` if the container has them already, other system errors, [`StoreError::NoSuchLayer`].
    pub fn create(store: &'a Store, id: &str, layers: &[Digest]) -> Result<Writable<'a>, StoreError> {
        let writable = Writable::open(store, id)?;
        let system = |source| StoreError::System { doing: "make the container's directories", source };
        let directory = store.root.create(NAME).and_then(|all| all.create(id)).map_err(system)?;
        directory.make(WORK).map_err(system)?;
        // Under another name until it is complete: a kill in between leaves a container without directories, not one
        // with a root of the wrong owner.
        take_and_discard(store, &directory, UNFINISHED).map_err(system)?;
        let upper = new_directory(&directory, UNFINISHED)?;
        if let Some(root) = root_of_layers(store, layers)? {
            copy_root(store, root, upper.as_fd()).map_err(system)?;
        }
        fs::renameat_with(&directory, UNFINISHED, &directory, UPPER, fs::RenameFlags::NOREPLACE)
            .during(|| format!("renameat2({}, \"{UNFINISHED}\", \"{UPPER}\", RENAME_NOREPLACE)", directory.label()))
            .map_err(system)?;
        Ok(writable)
    }

    /// As [`Writable::create`], but with room for `size` bytes and no more: a sparse file with a file system in it, which is
    /// mounted, detached, for whoever needs it (`kernel::loops`). Needs loop devices, and so real root.
    ///
    /// # Errors
    /// `EFBIG` for what no file system can be, other system errors, [`StoreError::NoSuchLayer`].
    pub fn create_limited(
        store: &'a Store,
        id: &str,
        layers: &[Digest],
        size: u64,
    ) -> Result<Writable<'a>, StoreError> {
        let writable = Writable::open(store, id)?;
        let system = |source| StoreError::System { doing: "make the container's limited directory", source };
        let directory = store.root.create(NAME).and_then(|all| all.create(id)).map_err(system)?;
        let owner = root_of_layers(store, layers)?.unwrap_or((0, 0, 0o755));
        let tops = [Top { name: UPPER, owner }, Top { name: WORK, owner: (0, 0, 0o700) }];
        disk_image::create(&directory, LIMITED, size, &tops)?;
        Ok(writable)
    }

    /// The directories of a container that exists. Looks at nothing.
    ///
    /// # Errors
    /// `EINVAL` if `id` could be anything but one plain name.
    pub fn open(store: &'a Store, id: &str) -> Result<Writable<'a>, StoreError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(plain) {
            let source = SystemError::new(format!("openat(<root>/{NAME}, {id:?})"), Errno::INVAL);
            return Err(StoreError::System { doing: "find the container's directories", source });
        }
        Ok(Writable { store, id: id.to_owned() })
    }

    /// Whether there is everything that a mount needs.
    pub fn is_made(&self) -> bool {
        let directory = self.directory();
        self.is_limited() || (directory.join(UPPER).exists() && directory.join(WORK).exists())
    }

    /// Whether its size is limited: then both directories are in a file system in the file above them.
    pub fn is_limited(&self) -> bool {
        self.directory().join(LIMITED).is_file()
    }

    /// The upper directory.
    pub fn upper(&self) -> PathBuf {
        self.above().join(UPPER)
    }

    /// The work directory.
    pub fn work(&self) -> PathBuf {
        self.above().join(WORK)
    }

    fn above(&self) -> PathBuf {
        if self.is_limited() { self.directory().join(LIMITED) } else { self.directory() }
    }

    /// `containers/<id>`.
    pub fn directory(&self) -> PathBuf {
        self.store.path.join(NAME).join(&self.id)
    }

    /// Removes both directories and leaves the container's other files. That they are missing is no error.
    ///
    /// # Errors
    /// System errors; what was left is removed by the next [`Store::sweep`].
    pub fn remove(self) -> Result<(), StoreError> {
        let system = |source| StoreError::System { doing: "remove the container's directories", source };
        let directory = match self.store.root.open(&format!("{NAME}/{}", self.id)) {
            Err(error) if error.errno() == Errno::NOENT => return Ok(()),
            other => other.map_err(system)?,
        };
        for name in [UPPER, WORK, UNFINISHED] {
            take_and_discard(self.store, &directory, name).map_err(system)?;
        }
        directory.unlink(LIMITED).map_err(system)
    }

    /// Removes `containers/<id>` with everything in it. That it is missing is no error.
    ///
    /// # Errors
    /// As [`Writable::remove`].
    pub fn remove_all(self) -> Result<(), StoreError> {
        let system = |source| StoreError::System { doing: "remove the container's directory", source };
        let all = self.store.root.create(NAME).map_err(system)?;
        take_and_discard(self.store, &all, &self.id).map_err(system)
    }

    /// What the container changed in the given layers, topmost first. An empty directory or file that only the container has,
    /// at one of the absolute paths `mount_points`, is no change.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], system errors.
    pub fn changes(&self, layers: &[Digest], mount_points: &[&str]) -> Result<Vec<Change>, StoreError> {
        let lower = self.store.layers().stack(layers)?;
        changes::changes(&self.stack()?, &lower, self.store.ownership, mount_points)
            .map_err(|source| StoreError::System { doing: "compare the container with its layers", source })
    }

    /// Writes what the container changed as an OCI layer archive (plain tar), without what is empty at one of the absolute
    /// paths `mount_points`. Returns the sink.
    ///
    /// # Errors
    /// [`StoreError::Sink`], system errors.
    pub fn pack<W: Write>(&self, mount_points: &[&str], sink: W) -> Result<W, StoreError> {
        pack::changes(&self.stack()?, self.store.ownership, mount_points, sink)
    }

    /// Adds what [`Writable::pack`] wrote to fresh directories: changes, whiteouts, and what the archive says of the root.
    /// The archive is hostile, as a layer's is.
    ///
    /// # Errors
    /// As [`crate::Layers::import`]; what came before it stays, so that the caller removes the directories.
    pub fn add_changes(&self, source: impl Read + Send) -> Result<(), StoreError> {
        let system = |source| StoreError::System { doing: "fill the container's directory", source };
        let upper = self.open_upper().map_err(system)?;
        let scratch = Staged::new(self.store, "changes").map_err(system)?;
        let (directory, ownership) = (scratch.directory().clone(), self.store.ownership);
        let unpack = move || {
            let plain = BufReader::with_capacity(128 << 10, source);
            let mut reader = archive::Reader::new(plain, archive::Limits::default());
            extract(&mut reader, upper, directory, ownership).map(drop)
        };
        // A thread of its own, as it gets a umask of its own.
        let done = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("unpack".to_owned()).spawn_scoped(scope, unpack);
            let thread = thread.map_err(StoreError::Thread)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        done.and(scratch.discard().map_err(system))
    }

    /// Stores what the container changed as a new layer, for `docker commit`.
    ///
    /// # Errors
    /// Those of [`Writable::pack`] and [`crate::Layers::import`].
    pub fn commit(&self, mount_points: &[&str]) -> Result<Layer, StoreError> {
        let (from, to) = std::io::pipe().map_err(StoreError::Sink)?;
        std::thread::scope(|scope| {
            let packer = std::thread::Builder::new()
                .name("pack".to_owned())
                .spawn_scoped(scope, move || {
                    self.pack(mount_points, std::io::BufWriter::with_capacity(64 << 10, to)).map(drop)
                })
                .map_err(StoreError::Thread)?;
            let layer = self.store.layers().import(None, from);
            let packed = packer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (layer, packed) {
                // When the import fails it closes the pipe, and packing fails for that.
                (Err(error), Err(StoreError::Sink(_)) | Ok(())) => Err(error),
                (Ok(layer), Ok(())) => Ok(layer),
                (layer, Err(error)) => {
                    // The archive ended early and was still well formed: a layer that nobody asked for.
                    if let Ok(layer) = layer
                        && !layer.existed
                    {
                        self.store.layers().remove(&layer.diff_id)?;
                    }
                    Err(error)
                }
            }
        })
    }

    /// Writes the container's whole tree on the given layers, topmost first, as a plain tar. Mounts are not in it. Returns
    /// the sink.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`], [`StoreError::Sink`], system errors.
    pub fn export<W: Write>(&self, layers: &[Digest], sink: W) -> Result<W, StoreError> {
        let mut stack = self.stack()?;
        stack.parts.append(&mut self.store.layers().stack(layers)?.parts);
        pack::merged(&stack, self.store.ownership, sink)
    }

    fn stack(&self) -> Result<Stack, StoreError> {
        let upper = self.open_upper();
        let upper = upper.map_err(|source| StoreError::System { doing: "open the container's directory", source })?;
        Ok(Stack { parts: vec![upper] })
    }

    /// The upper directory; a limited one is mounted for this descriptor alone.
    fn open_upper(&self) -> Result<OwnedFd, SystemError> {
        match self.store.root.open_fd(&format!("{NAME}/{}/{UPPER}", self.id)) {
            Err(error) if error.errno() == Errno::NOENT && self.is_limited() => {
                let path = self.directory().join(LIMITED);
                let mounted = kernel::loops::mount_ext4(&path);
                let mounted = mounted.map_err(|error| SystemError::new(error.call(), error.errno()))?;
                fs::openat(&mounted, UPPER, OPEN, Mode::empty())
                    .during(|| format!("openat(<mount of {path:?}>, \"{UPPER}\")"))
            }
            other => other,
        }
    }

    /// What the container has written, in bytes of its files, as Docker counts: 0 for one that wrote none.
    ///
    /// # Errors
    /// System errors.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        self.measured().map(|measured| measured.tally.bytes)
    }

    /// What the container has written, in bytes on disk as du(1) counts.
    ///
    /// # Errors
    /// System errors.
    pub fn disk_usage(&self) -> Result<u64, StoreError> {
        self.measured().map(|measured| measured.disk)
    }

    fn measured(&self) -> Result<tally::Measured, StoreError> {
        self.open_upper()
            .and_then(|upper| tally::measure(upper.as_fd(), UPPER))
            .map_err(|source| StoreError::System { doing: "measure the container's directory", source })
    }
}

pub(crate) fn take_and_discard(store: &Store, from: &Directory, name: &str) -> Result<(), SystemError> {
    match Staged::take(store, from, name) {
        Ok(staged) => staged.discard(),
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        Err(error) => Err(error),
    }
}

/// Owner, group and mode.
type Root = (u32, u32, u32);

/// What a layer says about the root directory. An image is asked without mounting it.
fn root_of(layer: &Directory, backend: Backend) -> Result<Root, SystemError> {
    match backend {
        Backend::Directory => {
            let tree = layer.open(record::TREE)?;
            let stat = fs::fstat(&tree).during(|| format!("fstat({})", tree.label()))?;
            Ok((stat.st_uid, stat.st_gid, stat.st_mode))
        }
        Backend::Erofs => {
            let root = crate::image::open(layer).and_then(|image| Ok(image.root()?.meta));
            let root = root.map_err(|error| crate::image::failed(layer, &error))?;
            Ok((root.uid, root.gid, root.mode.into()))
        }
    }
}

/// What the topmost layer that has a word about the root directory says of it.
fn root_of_layers(store: &Store, layers: &[Digest]) -> Result<Option<Root>, StoreError> {
    for layer in layers {
        let record = store.layers().record(layer)?;
        if record.root_entry {
            let path = format!("{}/{}", crate::layers::NAME, layer.hex());
            let root = store.root.open(&path).and_then(|directory| root_of(&directory, record.backend));
            return root.map(Some).map_err(|source| StoreError::System { doing: "look at a layer's root", source });
        }
    }
    Ok(None)
}

fn copy_root(store: &Store, from: Root, to: rustix::fd::BorrowedFd<'_>) -> Result<(), SystemError> {
    let (uid, gid, mode) = from;
    if !store.ownership.single_id {
        fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .during(|| format!("fchown(<upper>, {uid}, {gid})"))?;
    }
    let mode = Mode::from_raw_mode(mode & 0o7777);
    fs::fchmod(to, mode).during(|| format!("fchmod(<upper>, {mode:?})"))
}
