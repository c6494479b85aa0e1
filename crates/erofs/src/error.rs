//! What can go wrong.

use std::io;

/// Why an image could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file of the image failed; for the writer nearly always a full disk.
    #[error("{call} the EROFS image")]
    File {
        /// `write`, `read` or `truncate`.
        call: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// More than 2^32 blocks of 4 KiB, 16 TiB.
    #[error("the content is too large for an EROFS image (16 TiB)")]
    TooLarge,
    /// The names need more memory than [`crate::Limits::memory`].
    #[error("the content has too many names for an EROFS image")]
    TooMany,
    /// One file's attributes cannot be stored together: over 255 large ones, or over 256 KiB of small ones.
    #[error("a file has too many extended attributes for an EROFS image")]
    Attributes,
    /// An image does not say what it should. The text names the field.
    #[error("the EROFS image is damaged: {0}")]
    Damaged(&'static str),
    /// An image uses something that this reader does not know, such as compression.
    #[error("the EROFS image has {0}, which is not read here")]
    Unknown(&'static str),
}

impl Error {
    pub(crate) fn file(call: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::File { call, source }
    }

    /// The kernel's word, if it was the file that failed.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Error::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
