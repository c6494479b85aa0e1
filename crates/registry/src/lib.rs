//! The client of image registries: the OCI distribution specification 1.1, pulling and pushing.
//!
//! A [`Client`] is plain blocking code to its callers and asynchronous inside; its runtime has one thread, which waits in
//! epoll(7) and ends with the client. It yields checked bytes and knows no store: who calls decides what is fetched at the
//! same time, by reading several [`BlobReader`]s on several threads.
//!
//! A registry is not trusted. Every byte is checked against a digest or bounded in length, text of its is shortened and
//! stripped of control characters, and credentials go to the host that they were stored for and nowhere else (`tokens`).
//!
//! Mirrors that an administrator named are asked first (`mirrors`), proxies are those of the environment (`proxy`).
#![forbid(unsafe_code)]

mod address;
mod blob;
mod challenge;
pub mod credentials;
mod error;
pub mod login;
mod manifests;
mod mirrors;
mod names;
mod options;
mod proxy;
mod referrers;
mod search;
mod session;
mod tokens;
mod transport;
mod trust;
mod upload;

pub use blob::BlobReader;
pub use error::{BoxError, Error};
pub use manifests::{RawDocument, Resolved};
pub use mirrors::{Configured, Parallelism};
pub use options::Options;
pub use proxy::Proxies;
pub use referrers::Referrers;
pub use search::Found;
pub use upload::{Mounted, Source};

use oci::image::{Descriptor, MAX_DOCUMENT};
use oci::platform::Platform;
use oci::reference::Reference;
use session::{Call, Session};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::runtime::{Handle, Runtime};

/// A client for any number of registries; clones share connections, tokens and the thread.
///
/// The methods block and must not be called inside an async task. When the last clone and the last [`BlobReader`] are
/// dropped, the thread has ended.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    // Before the runtime: connections are closed while it still runs.
    pub(crate) session: Session,
    runtime: Runtime,
}

impl Shared {
    fn handle(&self) -> &Handle {
        self.runtime.handle()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not spoken to anybody yet.
    ///
    /// # Errors
    /// [`Error::Start`] when the kernel gives no thread or no epoll instance.
    pub fn new(options: Options) -> Result<Client, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("dhow-registry")
            .enable_io()
            .enable_time()
            .build()
            .map_err(Error::Start)?;
        Ok(Client { shared: Arc::new(Shared { session: Session::new(options), runtime }) })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.shared.session
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.shared.handle().block_on(future)
    }

    /// How many layers are to be transferred at once; the caller's threads keep to it.
    ///
    /// # Errors
    /// [`Error::Configuration`] when a file about registries cannot be used.
    pub fn parallelism(&self) -> Result<Parallelism, Error> {
        self.session().mirrors().parallelism()
    }

    /// The image that `reference` means on `platform`: by digest if it has one, else by tag.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, Error> {
        self.shared.handle().block_on(self.shared.session.resolve(reference, platform))
    }

    /// The manifest or index itself, for no platform in particular.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn manifest(&self, reference: &Reference) -> Result<RawDocument, Error> {
        self.shared.handle().block_on(self.shared.session.manifest(reference))
    }

    /// Starts to receive a blob of the reference's repository.
    ///
    /// # Errors
    /// Any [`Error`] until the first byte; what comes later is found by reading.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        self.blob_counted(reference, descriptor, Arc::default())
    }

    /// Like [`Client::blob`]; adds the number of bytes received to `progress`, which several blobs may share.
    ///
    /// # Errors
    /// As for [`Client::blob`].
    pub fn blob_counted(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: Arc<AtomicU64>,
    ) -> Result<BlobReader, Error> {
        BlobReader::open(self.shared.clone(), reference, descriptor, progress)
    }

    /// A small blob as a whole, such as an image configuration: at most 4 MiB, checked.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a longer one, and any other [`Error`].
    pub fn small_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let what = format!("blob {} of {}", descriptor.digest, reference.familiar_name());
        if descriptor.size > MAX_DOCUMENT {
            return Err(Error::TooLarge { what, length: descriptor.size, at_least: false, limit: MAX_DOCUMENT });
        }
        let mut bytes = Vec::with_capacity(descriptor.size as usize);
        let mut reader = self.blob(reference, descriptor)?;
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => match error.downcast::<Error>() {
                Ok(inner) => Err(inner),
                Err(other) => Err(Error::Unreachable { host: reference.domain().to_owned(), source: other.into() }),
            },
        }
    }

    /// Whether the registry at `domain` (`host[:port]`) is there and lets us in with the credentials that we have.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it wants others, and any other [`Error`].
    pub fn ping(&self, domain: &str) -> Result<(), Error> {
        let scope = tokens::Scope { domain: domain.to_owned(), repository: String::new(), actions: "" };
        let call = Call {
            method: hyper::Method::GET,
            path: "/v2/".to_owned(),
            headers: hyper::HeaderMap::new(),
            body: bytes::Bytes::new(),
            scope: &scope,
            what: "the registry",
        };
        self.shared.handle().block_on(self.shared.session.call(&call)).map(|_| ())
    }
}
