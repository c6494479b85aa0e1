//! Pushing: blobs in pieces, mounts from other repositories, manifests, and lists of tags (distribution specification, "Push").
//!
//! A blob goes up as a session: POST opens it, each PATCH brings a piece of 4 MiB with its place, PUT ends it with the digest.
//! So nothing has to be known of a stream before it is read, no piece is kept longer than until it has been taken, and what
//! was interrupted goes on where the registry says that it is. Whoever is asked is the registry itself; a session that is
//! somewhere else (a `Location` of another origin) gets no credentials, as everywhere (`session`).

use crate::address::{Address, percent_encoded};
use crate::error::Error;
use crate::session::{Call, Session, pause};
use crate::tokens::Scope;
use crate::{BlobReader, Client};
use bytes::Bytes;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LINK, LOCATION, RANGE};
use hyper::{HeaderMap, Method, StatusCode};
use oci::digest::{Algorithm, Digest, Hasher};
use oci::distribution::TagList;
use oci::image::{Descriptor, MAX_DOCUMENT};
use oci::reference::Reference;
use std::io::{ErrorKind, Read};
use tokio::runtime::Handle;

/// What some registries (GitHub's) take at most, and less than what costs a round trip to notice.
const PIECE: usize = 4 << 20;
/// No registry may make us keep more than this (`OCI-Chunk-Min-Length`).
const LARGEST_PIECE: usize = 32 << 20;
/// Pages of a list of tags that are read: a million tags.
const MAX_PAGES: usize = 1000;

/// How a blob got, or did not get, into a repository without being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// It is there now.
    Yes,
    /// The registry does not have it there, or does not give it.
    No,
}

/// What is to be sent, from its beginning.
pub type Source<'s> = Box<dyn Read + 's>;

fn push_scope(reference: &Reference) -> Scope {
    Scope { domain: reference.domain().to_owned(), repository: reference.path().to_owned(), actions: "pull,push" }
}

impl Client {
    /// The size of a blob if the repository has it.
    ///
    /// # Errors
    /// Any [`Error`] but that it is missing.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>, Error> {
        self.shared.handle().block_on(self.shared.session.has_blob(reference, digest))
    }

    /// Takes a blob over from another repository of the same registry.
    ///
    /// # Errors
    /// Any [`Error`]; that it cannot be had is none.
    pub fn mount_blob(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<Mounted, Error> {
        self.shared.handle().block_on(self.shared.session.mount(reference, digest, from))
    }

    /// Sends a blob of any length and returns its digest and size. `told` hears of the bytes taken so far.
    ///
    /// `open` gives the stream from its beginning. A connection that breaks costs one piece where the registry can go on with
    /// a session; Debian's and Docker's cannot when a piece was cut in two, and then everything is sent again.
    ///
    /// # Errors
    /// [`Error::Source`] when it cannot be read, any other [`Error`] of the registry; the session is then given up. With
    /// `expected`, [`Error::Corrupt`] when the stream had another digest.
    pub fn upload<'s>(
        &self,
        reference: &Reference,
        algorithm: Algorithm,
        expected: Option<&Digest>,
        open: &mut dyn FnMut() -> std::io::Result<Source<'s>>,
        told: &mut dyn FnMut(u64),
    ) -> Result<(Digest, u64), Error> {
        let upload = Upload {
            session: &self.shared.session,
            scope: push_scope(reference),
            what: format!("a blob of {}", reference.familiar_name()),
            repository: reference.path(),
        };
        // Only the network is asynchronous: the stream may be one of our own, which must not be read inside.
        let network = self.shared.handle();
        let mut attempt = 0;
        loop {
            let mut source = open().map_err(Error::Source)?;
            match upload.run(network, algorithm, expected, &mut *source, told) {
                Ok(sent) => return Ok(sent),
                Err(Ended::InSession(error)) if is_lost(&error) && attempt < self.shared.session.options.retries => {}
                Err(Ended::InSession(error) | Ended::Before(error)) => return Err(error),
            }
            network.block_on(async { tokio::time::sleep(pause(attempt)).await });
            attempt += 1;
        }
    }

    /// Sends a blob that is in memory: see [`Client::upload`].
    ///
    /// # Errors
    /// As for [`Client::upload`].
    pub fn upload_bytes(&self, reference: &Reference, bytes: &[u8]) -> Result<(Digest, u64), Error> {
        let digest = Digest::sha256(bytes);
        self.upload(reference, Algorithm::Sha256, Some(&digest), &mut || Ok(Box::new(bytes)), &mut |_| ())
    }

    /// Stores a manifest or index under the reference's tag or digest and returns its digest.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest, Error> {
        self.shared.handle().block_on(self.shared.session.put_manifest(reference, media_type, bytes))
    }

    /// Deletes a manifest, by digest or, where the registry can, by tag.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn delete_manifest(&self, reference: &Reference) -> Result<(), Error> {
        self.shared.handle().block_on(self.shared.session.delete_manifest(reference))
    }

    /// All tags of the reference's repository, in the registry's order.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        self.shared.handle().block_on(self.shared.session.tags(reference))
    }

    /// A blob as a stream from wherever it is, to be passed on: see [`Client::blob`].
    ///
    /// # Errors
    /// As for [`Client::blob`].
    pub fn blob_from(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        // Addresses that the descriptor names are for reading, not for passing on.
        let plain = Descriptor { urls: Vec::new(), ..descriptor.clone() };
        self.blob(reference, &plain)
    }
}

impl Session {
    async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>, Error> {
        let scope = push_scope(reference);
        let what = format!("blob {digest} of {}", reference.familiar_name());
        let path = format!("/v2/{}/blobs/{digest}", reference.path());
        match self.call(&call(Method::HEAD, path, &scope, &what)).await {
            Ok(response) => {
                let length = response.headers.get(hyper::header::CONTENT_LENGTH);
                let length = length.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
                response.body.discard().await;
                Ok(Some(length.unwrap_or(0)))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn mount(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<Mounted, Error> {
        let scope = push_scope(reference);
        let what = format!("blob {digest} of {}", reference.familiar_name());
        let path = format!("/v2/{}/blobs/uploads/?mount={digest}&from={}", reference.path(), percent_encoded(from));
        let response = match self.call(&call(Method::POST, path, &scope, &what)).await {
            Ok(response) => response,
            // Refused because of the other repository; without it we are welcome, or will hear it then.
            Err(Error::NotFound { .. } | Error::Denied { .. } | Error::Unauthorized { .. }) => return Ok(Mounted::No),
            Err(error) => return Err(error),
        };
        if response.status == StatusCode::CREATED {
            response.body.discard().await;
            return Ok(Mounted::Yes);
        }
        // The registry has opened a session instead, which we do not want.
        let session = Upload { session: self, scope, what, repository: reference.path() };
        let place = session.place(&response.headers, None);
        response.body.discard().await;
        if let Ok(place) = place {
            session.give_up(&place).await;
        }
        Ok(Mounted::No)
    }

    async fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest, Error> {
        let (digest, knows_subjects) = self.put_document(reference, media_type, bytes).await?;
        if !knows_subjects {
            self.record_referrer(reference, media_type, bytes, &digest).await?;
        }
        Ok(digest)
    }

    /// Stores a document; its digest, and whether the registry keeps lists of referrers itself.
    pub(crate) async fn put_document(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(Digest, bool), Error> {
        let scope = push_scope(reference);
        let name = reference.familiar();
        let mut call =
            call(Method::PUT, format!("/v2/{}/manifests/{}", reference.path(), reference.version()), &scope, &name);
        let problem =
            || Error::Protocol { host: scope.domain.clone(), problem: "a media type that cannot be sent".into() };
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).map_err(|_| problem())?);
        call.body = Bytes::copy_from_slice(bytes);
        let response = self.call(&call).await?;
        let announced = response.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        let announced: Option<Digest> = announced.and_then(|text| text.trim().parse().ok());
        let knows_subjects = response.headers.contains_key("oci-subject");
        response.body.discard().await;
        let digest = Digest::sha256(bytes);
        match announced {
            Some(actual) if actual != digest && actual.algorithm() == digest.algorithm() => {
                Err(Error::Corrupt { what: format!("the manifest of {name}"), expected: digest, actual })
            }
            _ => Ok((digest, knows_subjects)),
        }
    }

    async fn delete_manifest(&self, reference: &Reference) -> Result<(), Error> {
        let scope = Scope { actions: "delete", ..push_scope(reference) };
        let name = reference.familiar();
        let path = format!("/v2/{}/manifests/{}", reference.path(), reference.version());
        self.call(&call(Method::DELETE, path, &scope, &name)).await?.body.discard().await;
        Ok(())
    }

    async fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        let scope = Scope { actions: "pull", ..push_scope(reference) };
        let what = format!("the tags of {}", reference.familiar_name());
        let first = format!("/v2/{}/tags/list", reference.path());
        let (mut tags, mut path) = (Vec::new(), first.clone());
        for _ in 0..MAX_PAGES {
            let (headers, bytes) = self.fetch(&call(Method::GET, path, &scope, &what), &what, MAX_DOCUMENT).await?;
            let next = next_page(&headers);
            let problem = || Error::Protocol { host: scope.domain.clone(), problem: "a malformed list of tags".into() };
            let page: TagList = serde_json::from_slice(&bytes).map_err(|_| problem())?;
            tags.extend(page.tags.into_iter().filter(|tag| oci::reference::is_tag(tag)));
            match next {
                Some(query) => path = format!("{first}?{query}"),
                None => break,
            }
        }
        Ok(tags)
    }
}

/// `</v2/a/tags/list?last=x&n=100>; rel="next"`: only the query is taken, so that it leads nowhere else.
pub(crate) fn next_page(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(LINK)?.to_str().ok()?;
    Some(text.split_once('?')?.1.split_once('>')?.0.to_owned())
}

fn call<'a>(method: Method, path: String, scope: &'a Scope, what: &'a str) -> Call<'a> {
    Call { method, path, headers: HeaderMap::new(), body: Bytes::new(), scope, what }
}

/// One upload session.
struct Upload<'a> {
    session: &'a Session,
    scope: Scope,
    what: String,
    repository: &'a str,
}

impl Upload<'_> {
    fn run(
        &self,
        network: &Handle,
        algorithm: Algorithm,
        expected: Option<&Digest>,
        source: &mut dyn Read,
        told: &mut dyn FnMut(u64),
    ) -> Result<(Digest, u64), Ended> {
        let opened = network.block_on(self.begin()).map_err(Ended::Before)?;
        let result = self.pieces(network, &opened, algorithm, expected, source, told);
        if let Err((_, place)) = &result {
            network.block_on(self.give_up(place));
        }
        result.map_err(|(error, _)| Ended::InSession(error))
    }

    async fn begin(&self) -> Result<Opened, Error> {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        let response = self.session.call(&call(Method::POST, path, &self.scope, &self.what)).await?;
        let place = self.place(&response.headers, None)?;
        let least = response.headers.get("oci-chunk-min-length").and_then(|value| value.to_str().ok());
        let least: usize = least.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        response.body.discard().await;
        if least > LARGEST_PIECE {
            return Err(self.protocol(&format!("a wish for pieces of {least} bytes, more than we keep in memory")));
        }
        Ok(Opened { place, piece: PIECE.max(least) })
    }

    #[allow(clippy::result_large_err)] // Once for each blob.
    fn pieces(
        &self,
        network: &Handle,
        opened: &Opened,
        algorithm: Algorithm,
        expected: Option<&Digest>,
        source: &mut dyn Read,
        told: &mut dyn FnMut(u64),
    ) -> Result<(Digest, u64), (Error, Address)> {
        let mut place = opened.place.clone();
        let mut hasher = Hasher::new(algorithm);
        let mut taken = 0_u64;
        loop {
            let piece = match read_piece(source, opened.piece) {
                Ok(piece) => piece,
                Err(error) => return Err((Error::Source(error), place)),
            };
            hasher.update(&piece);
            let last = piece.len() < opened.piece;
            if last {
                let digest = hasher.finish();
                if let Some(expected) = expected.filter(|expected| **expected != digest) {
                    let what = self.what.clone();
                    return Err((Error::Corrupt { what, expected: expected.clone(), actual: digest }, place));
                }
                let size = taken + piece.len() as u64;
                // A short blob goes as a whole with the PUT; the rest of a long one with a PATCH, since some registries
                // take no body at the end of a session that had pieces.
                let whole = taken == 0;
                let body = if whole {
                    Bytes::from(piece)
                } else {
                    if !piece.is_empty() {
                        place = network.block_on(self.patch(place, taken, Bytes::from(piece)))?;
                    }
                    Bytes::new()
                };
                network.block_on(self.end(&place, body, &digest)).map_err(|error| (error, place))?;
                told(size);
                return Ok((digest, size));
            }
            let length = piece.len() as u64;
            place = network.block_on(self.patch(place, taken, Bytes::from(piece)))?;
            taken += length;
            told(taken);
        }
    }

    /// Sends one piece, as often as it takes, and returns where the next one goes.
    #[allow(clippy::result_large_err)] // Once for each piece.
    async fn patch(&self, mut place: Address, start: u64, piece: Bytes) -> Result<Address, (Error, Address)> {
        let end = start + piece.len() as u64;
        let mut from = start;
        let mut attempt = 0;
        loop {
            let body = piece.slice((from - start) as usize..);
            let mut call = call(Method::PATCH, String::new(), &self.scope, &self.what);
            call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            if let Ok(range) = HeaderValue::try_from(format!("{from}-{}", end - 1)) {
                call.headers.insert(CONTENT_RANGE, range);
            }
            call.body = body;
            let error = match self.session.call_at(&call, &place).await {
                Ok(response) => {
                    let next = self.place(&response.headers, Some(&place));
                    response.body.discard().await;
                    return next.map_err(|error| (error, place));
                }
                Err(error) => error,
            };
            if !may_go_on(&error) || attempt >= self.session.options.retries {
                return Err((error, place));
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
            match self.progress(&place).await {
                // The answer was lost, not the piece.
                Ok((next, has)) if has == end => return Ok(next),
                Ok((next, has)) if has >= start && has < end => (place, from) = (next, has),
                _ => return Err((error, place)),
            }
        }
    }

    /// Where the session is, and how many bytes it has.
    async fn progress(&self, place: &Address) -> Result<(Address, u64), Error> {
        let call = call(Method::GET, String::new(), &self.scope, &self.what);
        let response = self.session.call_at(&call, place).await?;
        let next = self.place(&response.headers, Some(place))?;
        // `0-499`; `0-0` is what registries say of an empty session, too.
        let range = response.headers.get(RANGE).and_then(|value| value.to_str().ok()).unwrap_or("0-0");
        let last: u64 =
            range.trim_start_matches("bytes=").split_once('-').and_then(|(_, end)| end.parse().ok()).unwrap_or(0);
        response.body.discard().await;
        Ok((next, if last == 0 { 0 } else { last + 1 }))
    }

    async fn end(&self, place: &Address, body: Bytes, digest: &Digest) -> Result<(), Error> {
        let separator = if place.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}digest={}", place.target, percent_encoded(&digest.to_string()));
        let end = Address { origin: place.origin.clone(), target };
        let mut call = call(Method::PUT, String::new(), &self.scope, &self.what);
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.body = body;
        let mut attempt = 0;
        loop {
            let error = match self.session.call_at(&call, &end).await {
                Ok(response) => {
                    response.body.discard().await;
                    return Ok(());
                }
                Err(error) => error,
            };
            // The answer may have been lost after the work was done.
            let path = format!("/v2/{}/blobs/{digest}", self.repository);
            let look = Call { method: Method::HEAD, path, body: Bytes::new(), headers: HeaderMap::new(), ..call };
            if (may_go_on(&error) || matches!(error, Error::NotFound { .. }))
                && let Ok(response) = self.session.call(&look).await
            {
                response.body.discard().await;
                return Ok(());
            }
            if !may_go_on(&error) || attempt >= self.session.options.retries {
                return Err(error);
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    /// Nothing of an abandoned session shall fill the registry's disk; it also forgets by itself.
    async fn give_up(&self, place: &Address) {
        let call = call(Method::DELETE, String::new(), &self.scope, &self.what);
        if let Ok(response) = self.session.call_at(&call, place).await {
            response.body.discard().await;
        }
    }

    fn place(&self, headers: &HeaderMap, from: Option<&Address>) -> Result<Address, Error> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        match (location, from) {
            (Some(location), _) => self.session.led_to(&self.scope, from, location),
            (None, Some(place)) => Ok(place.clone()),
            (None, None) => Err(self.protocol("an upload session without a place")),
        }
    }

    fn protocol(&self, problem: &str) -> Error {
        Error::Protocol { host: self.scope.domain.clone(), problem: problem.to_owned() }
    }
}

/// Where an upload failed.
enum Ended {
    /// There was no session.
    Before(Error),
    InSession(Error),
}

struct Opened {
    place: Address,
    /// Bytes in each piece but the last.
    piece: usize,
}

/// Fills a piece; a shorter one is the last.
fn read_piece(source: &mut dyn Read, length: usize) -> std::io::Result<Vec<u8>> {
    let mut piece = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match source.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece)
}

/// Whether a session is gone, or of no more use, while another may do.
fn is_lost(error: &Error) -> bool {
    may_go_on(error) || matches!(error, Error::NotFound { .. })
}

/// Whether the session may still be there, and asking it makes sense.
fn may_go_on(error: &Error) -> bool {
    matches!(
        error,
        Error::Unreachable { .. }
            | Error::Stalled { .. }
            | Error::TooManyRequests { .. }
            | Error::Status { status: 416 | 500 | 502 | 503 | 504, .. }
    )
}
