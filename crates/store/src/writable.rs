//! A container's own directories for overlayfs: `upper` for what it writes, `work` for overlayfs itself. Where its size is limited
//! both are in a file system in the file `limited.ext4`.

use crate::Store;
use crate::blobs::new_directory;
use crate::changes::{self, Change};
use crate::copy::{self, As};
use crate::directory::{Directory, OPEN};
use crate::disk_image::{self, Top};
use crate::error::{During, StoreError, SystemError};
use crate::extract::extract;
use crate::layers::Layer;
use crate::merge::Stack;
use crate::pack;
use crate::record::{self, Backend};
use crate::shift::Shift;
use crate::staging::Staged;
use crate::tally;
use oci::digest::Digest;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

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
    shift: Arc<Shift>,
}

/// What a file of the layers gets at its end in a new container.
#[derive(Clone, Debug)]
pub struct Addition {
    /// Name of the directory below the root.
    pub directory: String,
    /// Name of the file in it. Where the layers have none that is a file, nothing is done.
    pub file: String,
    /// What is added, which ends in a line's end.
    pub line: String,
    /// Not if a line begins with the first, or its third field, between colons, is the second.
    pub unless: (String, String),
}

impl<'a> Writable<'a> {
    /// Makes the directories for a container on the given layers, topmost first. The merged root shows the upper directory's
    /// owner and mode, so those are copied from the topmost layer that says what they are.
    ///
    /// # Errors
    /// `EEXIST` if the container has them already, other system errors, [`StoreError::NoSuchLayer`].
    pub fn create(store: &'a Store, id: &str, layers: &[Digest]) -> Result<Writable<'a>, StoreError> {
        let writable = Writable::open(store, id)?;
        writable.make(layers, &[])?;
        Ok(writable)
    }

    /// As [`Writable::create`], with additions to files of the layers.
    ///
    /// # Errors
    /// As [`Writable::create`].
    pub fn make(&self, layers: &[Digest], additions: &[Addition]) -> Result<(), StoreError> {
        let store = self.store;
        let system = |source| StoreError::System { doing: "make the container's directories", source };
        let directory = store.root.create(NAME).and_then(|all| all.create(&self.id)).map_err(system)?;
        directory.make(WORK).map_err(system)?;
        // Under another name until it is complete: a kill in between leaves a container without directories, not one
        // with a root of the wrong owner.
        take_and_discard(store, &directory, UNFINISHED).map_err(system)?;
        let upper = new_directory(&directory, UNFINISHED)?;
        let of_layers = root_of_layers(store, layers)?;
        let nobodys = (!self.shift.is_empty()).then_some((0, 0, 0o755));
        if let Some((uid, gid, mode)) = of_layers.or(nobodys) {
            let (uid, gid) = self.shift.stored(uid, gid);
            copy_root(store, (uid, gid, mode), upper.as_fd()).map_err(system)?;
        }
        if !additions.is_empty() {
            let stack = store.layers().stack(layers)?;
            for addition in additions {
                self.add(&stack, upper.as_fd(), addition).map_err(system)?;
            }
        }
        fs::renameat_with(&directory, UNFINISHED, &directory, UPPER, fs::RenameFlags::NOREPLACE)
            .during(|| format!("renameat2({}, \"{UNFINISHED}\", \"{UPPER}\", RENAME_NOREPLACE)", directory.label()))
            .map_err(system)
    }

    /// Copies a file up, as overlayfs does, and adds to it.
    fn add(&self, layers: &Stack, upper: BorrowedFd<'_>, addition: &Addition) -> Result<(), SystemError> {
        let call = |call: &str| format!("{call}(<upper>/{}/{})", addition.directory, addition.file);
        let name = |text: &str| CString::new(text).map_err(|_| SystemError::new(call("openat"), Errno::INVAL));
        let (directory, file) = (name(&addition.directory)?, name(&addition.file)?);
        let from = layers.enter(&directory, self.store.ownership)?;
        let Some(found) = from.find(&file)?.filter(|found| found.kind() == fs::FileType::RegularFile) else {
            return Ok(());
        };
        let source = from.parts[found.part].as_fd();
        let text = read_small(source, &file)?;
        if has_line(&text, &addition.unless) {
            return Ok(());
        }
        // A last line without an end is not to go on in ours.
        let end: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
        match fs::mkdirat(upper, &directory, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            other => other.during(|| call("mkdirat"))?,
        }
        let to = fs::openat(upper, &directory, OPEN, Mode::empty()).during(|| call("openat"))?;
        let wanted = As { shift: (*self.shift).clone(), ..As::default() };
        copy::file(source, to.as_fd(), &file, self.store.ownership, &wanted)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = fs::openat(&to, &file, flags, Mode::empty()).during(|| call("openat"))?;
        let io =
            |error: std::io::Error| SystemError::new(call("write"), Errno::from_io_error(&error).unwrap_or(Errno::IO));
        File::from(target).write_all(&[end, addition.line.as_bytes()].concat()).map_err(io)?;
        copy::attributes(from.parts[0].as_fd(), to.as_fd(), self.store.ownership, &wanted)
    }

    /// The same container's, whose files are stored with other owners than the container sees.
    #[must_use]
    pub fn with_shift(self, shift: Shift) -> Writable<'a> {
        Writable { shift: Arc::new(shift), ..self }
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
        Ok(Writable { store, id: id.to_owned(), shift: Arc::default() })
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
        Ok(Stack::of(upper, Arc::clone(&self.shift)))
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

/// What is read of a file at most.
const LONGEST_FILE: u64 = 1 << 20;

/// Whether a file of lines with fields between colons has one of that name or number.
fn has_line(text: &[u8], (first, third): &(String, String)) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(first) || fields.nth(1) == Some(third)
    })
}

fn read_small(parent: BorrowedFd<'_>, file: &CStr) -> Result<Vec<u8>, SystemError> {
    let call = |call: &str| format!("{call}(<layer>/…/{file:?})");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = fs::openat(parent, file, flags, Mode::empty()).during(|| call("openat"))?;
    let mut text = Vec::new();
    let read = File::from(source).take(LONGEST_FILE).read_to_end(&mut text);
    read.map_err(|error| SystemError::new(call("read"), Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    Ok(text)
}

/// The beginning of `directory/file` as the layers show it, topmost first; none where that is no file.
pub(crate) fn read_of_layers(
    store: &Store,
    layers: &[Digest],
    directory: &CString,
    file: &CString,
) -> Result<Option<Vec<u8>>, StoreError> {
    let system = |source| StoreError::System { doing: "read a file of the layers", source };
    let stack = store.layers().stack(layers)?.enter(directory, store.ownership).map_err(system)?;
    match stack.find(file).map_err(system)?.filter(|found| found.kind() == fs::FileType::RegularFile) {
        Some(found) => read_small(stack.parts[found.part].as_fd(), file).map(Some).map_err(system),
        None => Ok(None),
    }
}

fn copy_root(store: &Store, from: Root, to: BorrowedFd<'_>) -> Result<(), SystemError> {
    let (uid, gid, mode) = from;
    if !store.ownership.single_id {
        fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .during(|| format!("fchown(<upper>, {uid}, {gid})"))?;
    }
    let mode = Mode::from_raw_mode(mode & 0o7777);
    fs::fchmod(to, mode).during(|| format!("fchmod(<upper>, {mode:?})"))
}
