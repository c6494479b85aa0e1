//! What can go wrong in the store, in words, with the failed system call as strace would print it.

use archive::TarError;
use archive::decompress::DecompressError;
use oci::digest::Digest;
use rustix::io::Errno;
use std::fmt;
use std::io;

/// A system call that failed, printed as `openat(<layer>, "etc/passwd", O_CREAT|O_EXCL): ENOSPC (No space left on device)`.
#[derive(Debug)]
pub struct SystemError {
    call: String,
    errno: Errno,
}

impl SystemError {
    pub(crate) fn new(call: impl Into<String>, errno: Errno) -> SystemError {
        SystemError { call: call.into(), errno }
    }

    /// The error number, for those who decide by it.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno.raw_os_error()).to_string();
        let text = error.split(" (os error").next().unwrap_or_default();
        write!(f, "{}: {} ({text})", self.call, errno_name(self.errno))
    }
}

impl std::error::Error for SystemError {}

fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::ACCESS => "EACCES",
        Errno::BADF => "EBADF",
        Errno::BUSY => "EBUSY",
        Errno::DQUOT => "EDQUOT",
        Errno::EXIST => "EEXIST",
        Errno::FBIG => "EFBIG",
        Errno::INTR => "EINTR",
        Errno::INVAL => "EINVAL",
        Errno::IO => "EIO",
        Errno::ISDIR => "EISDIR",
        Errno::LOOP => "ELOOP",
        Errno::MFILE => "EMFILE",
        Errno::MLINK => "EMLINK",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NFILE => "ENFILE",
        Errno::NODATA => "ENODATA",
        Errno::NOENT => "ENOENT",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSPC => "ENOSPC",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTDIR => "ENOTDIR",
        Errno::NOTEMPTY => "ENOTEMPTY",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::PERM => "EPERM",
        Errno::RANGE => "ERANGE",
        Errno::ROFS => "EROFS",
        Errno::XDEV => "EXDEV",
        Errno::TOOBIG => "E2BIG",
        other => return format!("errno {}", other.raw_os_error()),
    };
    name.to_owned()
}

/// Attaches the call to an errno: `mkdirat(..).during(|| format!("mkdirat(…)"))`.
pub(crate) trait During<T> {
    fn during<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SystemError>;
}

impl<T> During<T> for rustix::io::Result<T> {
    fn during<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SystemError> {
        self.map_err(|errno| SystemError::new(call(), errno))
    }
}

/// A name in an error: quoted, with anything unprintable escaped.
pub(crate) fn quoted(name: &[u8]) -> String {
    format!("\"{}\"", name.escape_ascii())
}

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The kernel said no.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The call.
        #[source]
        source: SystemError,
    },
    /// The stream that a blob or layer comes from failed: the network, a file, a digest that does not match.
    #[error("read the incoming data")]
    Source(#[source] io::Error),
    /// The stream is not compressed as it should be.
    #[error("decompress the layer")]
    Decompress(#[source] DecompressError),
    /// The archive is malformed.
    #[error("read the layer's archive")]
    Archive(#[source] TarError),
    /// One member of the archive cannot be unpacked, or must not be.
    #[error("unpack {path}")]
    Entry {
        /// Its name as in the archive, quoted and escaped.
        path: String,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// The unpacked content has another digest than the image's configuration says.
    #[error("the layer's content does not match its diffID: expected {expected}, got {actual}")]
    DiffId {
        /// Announced.
        expected: Digest,
        /// Computed.
        actual: Digest,
        /// What else was wrong with the archive, if anything.
        #[source]
        archive: Option<Box<StoreError>>,
    },
    /// A blob's content has another digest than its name.
    #[error("the blob's content does not match its digest: expected {expected}, got {actual}")]
    BlobDigest {
        /// Announced, or the name it is stored by.
        expected: Digest,
        /// Computed.
        actual: Digest,
    },
    /// A blob is longer or shorter than announced or allowed.
    #[error("blob {digest} has {} {actual} bytes instead of {expected}", if *actual > *expected { "at least" } else { "only" })]
    BlobSize {
        /// Its digest.
        digest: Digest,
        /// Announced size, or most bytes allowed.
        expected: u64,
        /// Bytes seen.
        actual: u64,
    },
    /// There is no such blob.
    #[error("no blob {0} in the store")]
    NoSuchBlob(Digest),
    /// There is no such layer.
    #[error("no layer {0} in the store")]
    NoSuchLayer(Digest),
    /// The layer was unpacked by a version of dhow that did not note how the archive was made.
    #[error("layer {0} was unpacked by an older dhow: its archive cannot be put together again")]
    NoRecipe(Digest),
    /// A file of ours does not say what it should.
    #[error("{file} is damaged")]
    Damaged {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The store was made by a dhow that is newer than this one.
    #[error("the store has format {found}; this program knows format {known}")]
    Format {
        /// On disk.
        found: String,
        /// Ours.
        known: u32,
    },
    /// New layers shall be images of EROFS, and the kernel did not mount one that was made as a trial.
    #[error("EROFS images cannot be mounted here, from files or by loop devices: use the back end \"directories\"")]
    NoImages(#[source] SystemError),
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// Writing an archive to its receiver failed.
    #[error("write the archive")]
    Sink(#[source] io::Error),
}

impl StoreError {
    /// The error number if a system call of ours failed, to tell a full disk from the rest.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            StoreError::System { source, .. } => Some(source.errno()),
            StoreError::Entry { source: EntryError::System(source), .. } => Some(source.errno()),
            _ => None,
        }
    }
}

/// Why one member of a layer's archive is not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// `..` in a name. No program that makes layers writes it.
    #[error("the name contains \"..\"")]
    DotDot,
    /// An empty name, or one with a NUL.
    #[error("the name is empty or contains a NUL")]
    Name,
    /// More than 4,095 bytes, which no system call accepts, or more than 1,024 levels.
    #[error("the name is too long ({length} bytes)")]
    NameTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// `.` as anything but a directory would replace the layer's root.
    #[error("the root of a layer must be a directory")]
    Root,
    /// `.wh.`, `.wh..` and `.wh...` would remove the directory they stand in or its parent.
    #[error("a whiteout of nothing, \".\" or \"..\"")]
    Whiteout,
    /// A parent exists and is neither a directory nor a link to one inside the layer.
    #[error("{parent} is in the way: it is not a directory")]
    Parent {
        /// Which, quoted.
        parent: String,
    },
    /// Something of another kind is there already.
    #[error("cannot overwrite {old} with {new}")]
    Replace {
        /// What is there.
        old: &'static str,
        /// What was to come.
        new: &'static str,
    },
    /// A hard link's target is missing, is itself, or lies outside.
    #[error("the hard link's target {target} is {problem}")]
    LinkTarget {
        /// Quoted.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A type byte that no format defines.
    #[error("unknown member type {0:#04x}")]
    Kind(u8),
    /// Device numbers that the kernel does not have.
    #[error("device number {major}:{minor} is out of range")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An owner that does not exist in this user namespace, or not in Linux at all.
    #[error("owner {uid}:{gid} does not exist here: more ids are needed in /etc/subuid and /etc/subgid")]
    Owner {
        /// Owner.
        uid: u64,
        /// Group.
        gid: u64,
    },
    /// The data could not be read.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// The image cannot hold it.
    #[error("{0}: unpack it into directories instead (docs/images.md)")]
    Image(erofs::Error),
}
