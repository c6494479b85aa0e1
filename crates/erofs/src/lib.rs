//! Images of EROFS, the kernel's read-only file system: a writer that needs one pass, and a reader.
//!
//! Owns the format on disk, as far as a container's layers need it; the source is the kernel's `fs/erofs/erofs_fs.h`. Knows no
//! archive, no layer and no mount.
//!
//! ```text
//! block 0        superblock at byte 1,024, behind it the inode of the root directory
//! then           as they come: whole blocks of files, and clusters of 16 blocks for inodes. An inode is followed by its
//!                attributes and by the last, partial block of its file, if that fits into the same block
//! at the end     blocks of directories, then the inodes of directories
//! ```
//!
//! What is not a directory is written as soon as its content is there, because everything about it is known but the number of
//! its names, which is corrected at the end. So memory is bounded by the number of names, never by data ([`Limits`]). All
//! inodes have the extended form: 64-bit sizes and times, 32-bit owners, nanoseconds. Files with holes consist of chunks
//! (Linux 5.15); everything else is flat. Nothing is compressed: the kernel then reads pages as they are, and the writer
//! costs a copy.
//!
//! The same calls give the same image, byte for byte.
#![forbid(unsafe_code)]

mod attributes;
mod checksum;
mod directory;
mod error;
mod format;
mod output;
mod pages;
mod reader;
mod refer;
mod tree;
mod writer;

pub use attributes::Attribute;
pub use error::Error;
pub use reader::{Entry, Found, Image};
pub use refer::Tag;
pub use tree::{Kind, Node};
pub use writer::{Blocks, Limits, Meta, Summary, Writer};
