//! From a reference to the manifest for one platform, every step checked against its digest.

use crate::error::Error;
use crate::session::{Call, Session};
use crate::tokens::Scope;
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method};
use oci::digest::{Digest, Hasher};
use oci::distribution::accept_manifests;
use oci::image::{Descriptor, Document, MAX_DOCUMENT, Manifest, media_type};
use oci::platform::Platform;
use oci::reference::Reference;

/// An index of indexes of indexes has no honest use.
const MAX_DEPTH: usize = 3;

/// A manifest or index as the registry sent it; the bytes have the digest.
#[derive(Clone, Debug)]
pub struct RawDocument {
    /// Its media type, by its own word or by its content.
    pub media_type: String,
    /// The digest of `bytes`, and the one that was asked for or announced.
    pub digest: Digest,
    /// Exactly what came.
    pub bytes: Vec<u8>,
    /// The same, parsed.
    pub document: Document,
}

impl RawDocument {
    /// A descriptor of it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The index that the reference leads to, if it leads to one.
    pub index: Option<RawDocument>,
    /// The image's manifest as it came.
    pub raw: RawDocument,
    /// The same, parsed.
    pub manifest: Manifest,
}

impl Resolved {
    /// The digest that the reference stands for: the index's, or else the manifest's. `RepoDigests` show this one.
    pub fn digest(&self) -> &Digest {
        &self.index.as_ref().unwrap_or(&self.raw).digest
    }
}

pub(crate) fn pull_scope(reference: &Reference) -> Scope {
    Scope { domain: reference.domain().to_owned(), repository: reference.path().to_owned(), actions: "pull" }
}

impl Session {
    /// What the reference's digest or tag leads to.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<RawDocument, Error> {
        self.document(reference, None).await
    }

    /// The image for `platform`; an index is searched in the order of the platform's preferences.
    pub(crate) async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, Error> {
        let mut index = None;
        let mut raw = self.manifest(reference).await?;
        for _ in 0..MAX_DEPTH {
            let entry = match &raw.document {
                Document::Manifest(manifest) => {
                    let manifest = Manifest::clone(manifest);
                    if let Some(kind) = manifest.foreign_kind() {
                        let kind = crate::error::printable(kind, 200);
                        return Err(Error::NotAnImage { reference: reference.familiar(), kind });
                    }
                    return Ok(Resolved { index, raw, manifest });
                }
                Document::Index(list) => list.select(platform).cloned().ok_or_else(|| Error::NoPlatform {
                    reference: reference.familiar(),
                    wanted: Box::new(platform.clone()),
                    offered: list.platforms(),
                })?,
            };
            let next = self.document(&reference.with_digest(entry.digest.clone()), Some(&entry)).await?;
            index.get_or_insert(raw);
            raw = next;
        }
        let problem = format!("an index in an index, more than {MAX_DEPTH} deep");
        Err(Error::Protocol { host: reference.domain().to_owned(), problem })
    }

    async fn document(&self, reference: &Reference, expected: Option<&Descriptor>) -> Result<RawDocument, Error> {
        let name = reference.familiar();
        let what = format!("the manifest of {name}");
        let mut headers = HeaderMap::new();
        let accept = HeaderValue::from_str(&accept_manifests()).unwrap_or_else(|_| HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT, accept);
        let call = Call {
            method: Method::GET,
            path: format!("/v2/{}/manifests/{}", reference.path(), reference.version()),
            headers,
            body: Bytes::new(),
            scope: &pull_scope(reference),
            what: &name,
        };
        let (headers, bytes) = self.fetch(&call, &what, MAX_DOCUMENT).await?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (announced, content_type) = (header("docker-content-digest"), header(CONTENT_TYPE.as_str()));
        let digest = check_digest(reference, &what, announced.as_deref(), &bytes)?;
        if let Some(expected) = expected.filter(|expected| expected.size != bytes.len() as u64) {
            return Err(Error::Size { what, expected: expected.size, actual: bytes.len() as u64, at_least: false });
        }
        let unusable = |source| Error::Document { reference: name.clone(), source };
        let announced_types = [content_type.as_deref(), expected.map(|expected| expected.media_type.as_str())];
        let announced_types = announced_types.into_iter().flatten().filter(|name| !name.is_empty());
        let mut document = None;
        for media_type in announced_types.clone() {
            document = Some(Document::parse(&bytes, Some(media_type)).map_err(unusable)?);
        }
        let document = match document {
            Some(document) => document,
            None => Document::parse(&bytes, None).map_err(unusable)?,
        };
        let media_type = name_of(&document, content_type.as_deref());
        Ok(RawDocument { media_type, digest, bytes, document })
    }
}

/// The digest of the bytes, equal to the one asked for and to the one announced.
fn check_digest(reference: &Reference, what: &str, announced: Option<&str>, bytes: &[u8]) -> Result<Digest, Error> {
    // An algorithm that we do not have, or nonsense, says nothing; what was asked for by digest is checked all the same.
    let announced: Option<Digest> = announced.and_then(|text| text.trim().parse().ok());
    let mut computed = None;
    for expected in [reference.digest(), announced.as_ref()].into_iter().flatten() {
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(bytes);
        let actual = hasher.finish();
        if actual != *expected {
            return Err(Error::Corrupt { what: what.to_owned(), expected: expected.clone(), actual });
        }
        computed.get_or_insert(actual);
    }
    Ok(computed.unwrap_or_else(|| Digest::sha256(bytes)))
}

fn name_of(document: &Document, content_type: Option<&str>) -> String {
    let (own, fallback) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
        Document::Index(index) => (&index.media_type, media_type::OCI_INDEX),
    };
    let known = |name: &String| media_type::is_manifest(name) || media_type::is_index(name);
    let announced = content_type.map(media_type::essence);
    own.clone().filter(known).or(announced.filter(known)).unwrap_or_else(|| fallback.to_owned())
}
