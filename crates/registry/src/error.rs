//! Everything that can go wrong between us and a registry, one sentence each.
//!
//! Text that a registry wrote is shortened and stripped of control characters before it gets in here.

use crate::credentials::CredentialError;
use oci::digest::Digest;
use oci::image::InvalidDocument;
use oci::platform::Platform;
use std::time::Duration;

/// Any error from below, for the chain of causes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client could not start.
    #[error("starting the registry client failed")]
    Start(#[source] std::io::Error),
    /// No connection, or it broke before the answer.
    #[error("registry {host} cannot be reached")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The reason.
        source: BoxError,
    },
    /// The registry's certificate is not trusted, or TLS could not be agreed on.
    #[error("a secure connection to {host} cannot be made ({hint})")]
    Tls {
        /// Host and port.
        host: String,
        /// One thing to do.
        hint: String,
        /// The reason.
        source: BoxError,
    },
    /// No byte came for too long.
    #[error("registry {host} sent nothing for {} seconds", waited.as_secs())]
    Stalled {
        /// Host and port.
        host: String,
        /// How long we waited.
        waited: Duration,
    },
    /// Not logged in, or with the wrong password (401).
    #[error(
        "registry {host} wants a login for {what} (unauthorized: authentication required){}",
        if *.had_credentials { "; the stored credentials were refused" } else { "" }
    )]
    Unauthorized {
        /// The registry as the user named it.
        host: String,
        /// The repository or `the registry`.
        what: String,
        /// Whether credentials were sent.
        had_credentials: bool,
    },
    /// Logged in, but not allowed (403).
    #[error("registry {host} denies access to {what}{}", parenthesised(.message))]
    Denied {
        /// The registry as the user named it.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry said.
        message: String,
    },
    /// No such manifest, repository or blob (404).
    #[error("{what} is not in registry {host}{}", parenthesised(.message))]
    NotFound {
        /// The registry as the user named it.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry said.
        message: String,
    },
    /// The rate limit is used up, and the wait is too long or was in vain (429).
    #[error("registry {host} limits the number of requests{}", wait_text(.retry_after))]
    TooManyRequests {
        /// The registry as the user named it.
        host: String,
        /// How long the registry asked us to wait, if it said so.
        retry_after: Option<Duration>,
    },
    /// Any other refusal.
    #[error("registry {host} answered {status} to the request for {what}{}", parenthesised(.message))]
    Status {
        /// The registry as the user named it, or the host that a redirect led to.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// The answer breaks the protocol.
    #[error("registry {host} answered with {problem}")]
    Protocol {
        /// Host.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A redirect or a token server address that is not followed.
    #[error("registry {host} sends us to {target:?}, which is refused: {reason}")]
    Redirect {
        /// The registry.
        host: String,
        /// Where it leads.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// The content is not what its digest says.
    #[error("{what} is corrupt: expected {expected}, got {actual}")]
    Corrupt {
        /// The blob or manifest.
        what: String,
        /// The digest that was asked for or announced.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// What is to be sent cannot be read.
    #[error("what is to be pushed cannot be read")]
    Source(#[source] std::io::Error),
    /// The content has another length than its descriptor says.
    #[error("{what} has the wrong size: expected {expected} bytes, got {}{actual}", if *.at_least { "at least " } else { "" })]
    Size {
        /// The blob or manifest.
        what: String,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes that came.
        actual: u64,
        /// Whether we stopped counting there.
        at_least: bool,
    },
    /// A document longer than we read.
    #[error("{what} has {}{length} bytes; more than {limit} are not read", if *.at_least { "at least " } else { "" })]
    TooLarge {
        /// The manifest, configuration or answer.
        what: String,
        /// Its length in bytes.
        length: u64,
        /// Whether we stopped counting there.
        at_least: bool,
        /// The most that is read.
        limit: u64,
    },
    /// A transfer broke off again and again.
    #[error("the transfer of {what} broke off at byte {received} of {size}, {attempts} times in a row")]
    Interrupted {
        /// The blob.
        what: String,
        /// Bytes received and kept.
        received: u64,
        /// Bytes in all.
        size: u64,
        /// Attempts without progress.
        attempts: u32,
        /// The last reason.
        source: BoxError,
    },
    /// The manifest cannot be used.
    #[error("the manifest of {reference} cannot be used")]
    Document {
        /// The image.
        reference: String,
        /// The reason.
        source: InvalidDocument,
    },
    /// An artifact that is not a container image.
    #[error("{reference} is not a container image but {kind:?}")]
    NotAnImage {
        /// The artifact.
        reference: String,
        /// Its artifact type or configuration media type.
        kind: String,
    },
    /// The index has nothing for this platform.
    #[error("{reference} has no image for {wanted} (it has {})", list(.offered))]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// A file about registries and mirrors cannot be used. Never ignored: it may be what keeps us from asking somebody.
    #[error("{} cannot be used", path.display())]
    Configuration {
        /// The file.
        path: std::path::PathBuf,
        /// The reason.
        source: BoxError,
    },
    /// The environment names a proxy that cannot be used.
    #[error("the environment has {problem}, for {host}")]
    Proxy {
        /// Who was to be reached.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An administrator does not want this registry to be used.
    #[error("registry {host} is blocked: registries.conf says so for {prefix:?}")]
    Blocked {
        /// The registry.
        host: String,
        /// The entry.
        prefix: String,
    },
    /// The stored credentials cannot be used. Never ignored: a broken configuration must not lead to another account.
    #[error("the credentials for registry {host} cannot be read")]
    Credentials {
        /// The registry.
        host: String,
        /// The reason.
        source: CredentialError,
    },
}

impl Error {
    /// The error that a [`BlobReader`](crate::BlobReader) put into an [`std::io::Error`].
    pub fn from_io(error: &std::io::Error) -> Option<&Error> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

fn parenthesised(message: &str) -> String {
    match message.is_empty() {
        true => String::new(),
        false => format!(" ({message})"),
    }
}

fn wait_text(retry_after: &Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("; try again in {} seconds", wait.as_secs().max(1)),
        None => "; try again later".to_owned(),
    }
}

fn list(platforms: &[Platform]) -> String {
    match platforms.is_empty() {
        true => "none".to_owned(),
        // A hostile index can have a hundred thousand.
        false => platforms.iter().take(20).map(|p| printable(&p.to_string(), 60)).collect::<Vec<_>>().join(", "),
    }
}

/// Somebody else's text for a message: no control characters, at most `limit` characters.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}
