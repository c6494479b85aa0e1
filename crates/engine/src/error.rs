//! The engine's one error type: what went wrong, whose fault it is, and what to do about it.
//!
//! Front ends branch on [`Kind`] (to an exit status, an HTTP status, a gRPC code) and print the message, the chain of
//! causes and the hint. The message never repeats its source.

use std::error::Error as StdError;

/// Classes of failure. Each front end maps them to its own codes in exactly one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The container, image, volume or network does not exist.
    NotFound,
    /// The name is taken, or the object is in a state that does not allow this.
    Conflict,
    /// The caller asked for something malformed or contradictory.
    InvalidArgument,
    /// The object is already in the state asked for.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The kernel or a registry refused for lack of permission.
    Forbidden,
    /// A registry cannot be reached, or this machine lacks what was asked for.
    Unavailable,
    /// Data that does not match its digest or its format.
    Corrupt,
    /// The program to be run does not exist in the container (exit status 127).
    CommandNotFound,
    /// The program to be run cannot be executed (exit status 126).
    CommandNotExecutable,
    /// What is to be mounted in the container does not exist (exit status 127, as from Docker's client).
    SourceNotFound,
    /// Everything else: a failing system call, a full disk.
    Internal,
}

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of the engine's operations.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with a sentence that names the thing at fault.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: None, source: None }
    }

    /// The same with its cause.
    pub fn caused(kind: Kind, message: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error { kind, message: message.into(), hint: None, source: Some(source.into()) }
    }

    /// Adds what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the user can do, if there is something.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Adds a sentence and a kind to any error.
pub(crate) trait Context<T> {
    /// Wraps an error as [`Kind::Internal`].
    fn internal(self, message: impl FnOnce() -> String) -> Result<T>;
    /// Wraps an error as `kind`.
    fn kind(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn internal(self, message: impl FnOnce() -> String) -> Result<T> {
        self.kind(Kind::Internal, message)
    }

    fn kind(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::caused(kind, message(), source))
    }
}
