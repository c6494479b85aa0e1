//! What one member of an archive says about itself.

/// A point in time: seconds since 1970 and nanoseconds (0 to 999,999,999) after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC; negative before.
    pub seconds: i64,
    /// Nanoseconds after the second.
    pub nanoseconds: u32,
}

/// What kind of file a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its bytes follow.
    Regular,
    /// A further name for a file that came before; the target is [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
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
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type byte that no format we know defines; its bytes follow.
    Unknown(u8),
}

/// Extended attributes: full names (`security.capability`) and values.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// One member of an archive. Names are bytes, exactly as stored: not normalised, perhaps absolute, perhaps with `..`.
/// They contain no NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a hard or symbolic link, otherwise empty.
    pub link: Vec<u8>,
    /// Size of the file in bytes, holes included; 0 for all that is not a regular file.
    pub size: u64,
    /// Permission bits with set-id and sticky bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Extended attributes, each name once.
    pub xattrs: Attributes,
    /// True if [`crate::Reader::data`] can leave holes.
    pub sparse: bool,
    /// Where its header starts, in bytes from the start of the archive.
    pub offset: u64,
}
