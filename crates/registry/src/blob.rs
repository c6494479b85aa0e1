//! A blob as a stream that checks itself: size and digest, and a broken transfer goes on where it broke off.

use crate::Shared;
use crate::error::Error;
use crate::manifests::pull_scope;
use crate::session::{Call, Session, pause};
use crate::transport::{Body, Response};
use bytes::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use hyper::{HeaderMap, Method, StatusCode};
use oci::digest::Hasher;
use oci::image::{Descriptor, media_type};
use oci::reference::Reference;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// This much more makes up for the failures before it; else a server could send a byte with each connection for ever.
const PROGRESS: u64 = 1 << 20;

/// A blob being received; made by [`Client::blob`](crate::Client::blob).
///
/// Reading to the end means that the size and the digest are right: the last bytes are handed out only after that check.
/// Anything else is an [`io::Error`] with an [`Error`] in it, see [`Error::from_io`]; reading on gives the same kind of error.
/// Whoever does not need the end (a tar reader stops before the padding) calls [`BlobReader::finish`].
///
/// Reads block the thread that reads, which also does the work; several readers on several threads share nothing but the
/// kept connections. Not for use inside an async task.
pub struct BlobReader {
    shared: Arc<Shared>,
    reference: Reference,
    descriptor: Descriptor,
    what: String,
    body: Option<Body>,
    /// Received and checked, not yet read.
    chunk: Bytes,
    /// Bytes received and hashed.
    received: u64,
    /// Bytes to throw away because the server started again at 0.
    skip: u64,
    hasher: Option<Hasher>,
    failures: u32,
    received_at_failure: u64,
    is_given_up: bool,
    progress: Arc<AtomicU64>,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("descriptor", &self.descriptor)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl BlobReader {
    pub(crate) fn open(
        shared: Arc<Shared>,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: Arc<AtomicU64>,
    ) -> Result<BlobReader, Error> {
        let mut reader = BlobReader {
            shared: shared.clone(),
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            what: format!("blob {} of {}", descriptor.digest, reference.familiar_name()),
            body: None,
            chunk: Bytes::new(),
            received: 0,
            skip: 0,
            hasher: Some(Hasher::new(descriptor.digest.algorithm())),
            failures: 0,
            received_at_failure: 0,
            is_given_up: false,
            progress,
        };
        shared.handle().block_on(reader.request())?;
        Ok(reader)
    }

    /// Bytes received so far, to be read from any thread while this one reads.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// The blob's length in bytes.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Reads and checks what is left.
    ///
    /// # Errors
    /// As for reading.
    pub fn finish(mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        loop {
            self.chunk = Bytes::new();
            if !shared.handle().block_on(self.fill())? {
                return Ok(());
            }
        }
    }

    /// Gets the next piece; `false` at the end. After an error there are only errors.
    async fn fill(&mut self) -> Result<bool, Error> {
        if self.is_given_up {
            let problem = format!("{}, which was given up before", self.what);
            return Err(Error::Protocol { host: self.reference.domain().to_owned(), problem });
        }
        let result = self.next().await;
        if result.is_err() {
            self.is_given_up = true;
            self.body = None;
        }
        result
    }

    async fn next(&mut self) -> Result<bool, Error> {
        loop {
            let next = match &mut self.body {
                // The end was reached and checked.
                _ if self.hasher.is_none() => return Ok(false),
                Some(body) => body.chunk().await,
                None => self.request().await.map(|()| Some(Bytes::new())),
            };
            match next {
                Ok(Some(chunk)) => {
                    if self.take(chunk)? {
                        self.release_at_end().await;
                        return Ok(true);
                    }
                }
                Ok(None) if self.received == self.descriptor.size => {
                    self.check()?;
                    return Ok(false);
                }
                Ok(None) => self.interrupted("the server ended it".into()).await?,
                Err(error) if is_temporary(&error) => self.interrupted(error.into()).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts and hashes a piece; whether there is something to read now.
    fn take(&mut self, mut chunk: Bytes) -> Result<bool, Error> {
        if self.skip > 0 {
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            chunk = chunk.slice(skipped as usize..);
        }
        if chunk.is_empty() {
            return Ok(false);
        }
        let total = self.received + chunk.len() as u64;
        if total > self.descriptor.size {
            return Err(self.wrong_size(total, true));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.received = total;
        self.progress.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if total == self.descriptor.size {
            // The last bytes wait for the check.
            self.check()?;
        }
        self.chunk = chunk;
        Ok(true)
    }

    fn check(&mut self) -> Result<(), Error> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let actual = hasher.finish();
        match actual == self.descriptor.digest {
            true => Ok(()),
            false => Err(Error::Corrupt { what: self.what.clone(), expected: self.descriptor.digest.clone(), actual }),
        }
    }

    /// Gives the connection back once the size is reached. A server that does not say at once that this was the end is not
    /// waited for.
    async fn release_at_end(&mut self) {
        if self.received == self.descriptor.size
            && let Some(mut body) = self.body.take()
        {
            tokio::time::timeout(Duration::from_millis(10), body.chunk()).await.ok();
        }
    }

    fn wrong_size(&self, actual: u64, at_least: bool) -> Error {
        Error::Size { what: self.what.clone(), expected: self.descriptor.size, actual, at_least }
    }

    /// Notes a failure and waits; too many without progress are the end.
    async fn interrupted(&mut self, source: crate::error::BoxError) -> Result<(), Error> {
        self.body = None;
        if self.received >= self.received_at_failure + PROGRESS {
            self.failures = 0;
        }
        self.received_at_failure = self.received;
        self.failures += 1;
        if self.failures > self.shared.session.options.retries {
            return Err(Error::Interrupted {
                what: self.what.clone(),
                received: self.received,
                size: self.descriptor.size,
                attempts: self.failures,
                source,
            });
        }
        tokio::time::sleep(pause(self.failures - 1)).await;
        Ok(())
    }

    /// Asks for the blob from where we are.
    async fn request(&mut self) -> Result<(), Error> {
        let response = send(&self.shared.session, &self.reference, &self.descriptor, &self.what, self.received).await?;
        let protocol =
            |problem: &str| Error::Protocol { host: self.reference.domain().to_owned(), problem: problem.to_owned() };
        if response.headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            return Err(protocol("a blob in an encoding that was not asked for"));
        }
        let starts_at = match response.status {
            StatusCode::PARTIAL_CONTENT => {
                range_start(&response.headers).ok_or_else(|| protocol("a malformed Content-Range"))?
            }
            _ => 0,
        };
        if starts_at != self.received && starts_at != 0 {
            return Err(protocol("another range than was asked for"));
        }
        self.skip = self.received - starts_at;
        if let Some(length) = response.body.announced_length() {
            let total = starts_at.saturating_add(length);
            if total != self.descriptor.size {
                return Err(self.wrong_size(total, false));
            }
        }
        self.body = Some(response.body);
        Ok(())
    }
}

async fn send(
    session: &Session,
    reference: &Reference,
    descriptor: &Descriptor,
    what: &str,
    from: u64,
) -> Result<Response, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if from > 0
        && let Ok(value) = HeaderValue::try_from(format!("bytes={from}-"))
    {
        headers.insert(RANGE, value);
    }
    let scope = pull_scope(reference);
    let path = format!("/v2/{}/blobs/{}", reference.path(), descriptor.digest);
    let call = Call { method: Method::GET, path, headers, body: Bytes::new(), scope: &scope, what };
    let error = match session.call(&call).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    // Only layers that say so come from elsewhere, and only when the registry has none.
    if matches!(error, Error::NotFound { .. }) && media_type::is_foreign_layer(&descriptor.media_type) {
        for url in descriptor.urls.iter().take(8) {
            if let Ok(response) = session.get_foreign(&call, url).await {
                return Ok(response);
            }
        }
    }
    Err(error)
}

/// The first position in `Content-Range: bytes first-last/length`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Whether asking again may help.
fn is_temporary(error: &Error) -> bool {
    matches!(
        error,
        Error::Unreachable { .. } | Error::Stalled { .. } | Error::Status { status: 500 | 502 | 503 | 504, .. }
    )
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for BlobReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() {
            let shared = self.shared.clone();
            shared.handle().block_on(self.fill()).map_err(io::Error::other)?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.chunk.len());
        self.chunk = self.chunk.slice(amount..);
    }
}
