//! What refers to a manifest: signatures, attestations, lists of parts (distribution specification 1.1, "Listing Referrers").
//!
//! A registry without that interface (404) keeps the list under a tag made of the digest, `sha256-<hex>`, and whoever pushes a
//! manifest with a subject there keeps the list (`record`). Two who do so at once can lose an entry: the registry has nothing
//! with which they could take turns, and the specification knows it.

use crate::Client;
use crate::error::Error;
use crate::manifests::pull_scope;
use crate::session::{Call, Session};
use crate::upload::next_page;
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method};
use oci::digest::Digest;
use oci::image::{Descriptor, Document, Index, MAX_DOCUMENT, media_type};
use oci::reference::Reference;
use serde::Deserialize;
use std::collections::BTreeMap;

/// More than this refer to no honest image, and a registry must not fill our memory.
const MOST: usize = 10_000;

/// What a registry has about a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// Descriptors of the manifests that refer to it, in the registry's order.
    pub entries: Vec<Descriptor>,
    /// The registry has no interface for it; the list was under a tag.
    pub by_tag: bool,
}

impl Client {
    /// The manifests that name `digest` in the reference's repository as their subject; with `artifact_type`, those of that
    /// kind. The list is the registry's word: whoever relies on an entry checks what it leads to.
    ///
    /// # Errors
    /// Any [`Error`]; that there are none is none.
    pub fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        self.block_on(self.session().referrers(reference, digest, artifact_type))
    }
}

/// The tag that stands for the list where there is no interface: the digest with a dash, of bounded length.
pub(crate) fn fallback_tag(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex().get(..64).unwrap_or(digest.hex()))
}

/// What decides about a manifest's place in such a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithSubject {
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Session {
    pub(crate) async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let mut found = match self.referrers_by_interface(reference, digest, artifact_type).await? {
            Some(entries) => Referrers { entries, by_tag: false },
            None => Referrers { entries: self.referrers_by_tag(reference, digest).await?, by_tag: true },
        };
        // A registry may filter, and need not.
        if let Some(wanted) = artifact_type {
            found.entries.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
        }
        Ok(found)
    }

    /// `None` where there is no such interface.
    async fn referrers_by_interface(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let scope = pull_scope(reference);
        let what = format!("what refers to {digest} in {}", reference.familiar_name());
        let first = format!("/v2/{}/referrers/{digest}", reference.path());
        let query = artifact_type.map(|kind| format!("artifactType={}", crate::address::percent_encoded(kind)));
        let mut accept = HeaderMap::new();
        accept.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
        let (mut entries, mut next) = (Vec::new(), Some(query));
        while let Some(query) = next {
            let path = query.map_or_else(|| first.clone(), |query| format!("{first}?{query}"));
            let call = Call {
                method: Method::GET,
                path,
                headers: accept.clone(),
                body: Bytes::new(),
                scope: &scope,
                what: &what,
            };
            let (headers, bytes) = match self.fetch(&call, &what, MAX_DOCUMENT).await {
                Ok(answer) => answer,
                Err(Error::NotFound { .. } | Error::Status { status: 400 | 405 | 501, .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !media_type::is_index(&media_type::essence(kind)) {
                // A page for people; the interface answers with an index.
                return Ok(None);
            }
            next = next_page(&headers).map(Some);
            entries.extend(index_of(reference, &bytes)?.manifests);
            if entries.len() > MOST {
                let problem = format!("more than {MOST} referrers");
                return Err(Error::Protocol { host: reference.domain().to_owned(), problem });
            }
        }
        Ok(Some(entries))
    }

    async fn referrers_by_tag(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
        match self.manifest(&tagged(reference, digest)?).await {
            Ok(found) => match found.document {
                Document::Index(index) => Ok(index.manifests),
                // Somebody's tag that only looks like one.
                Document::Manifest(_) => Ok(Vec::new()),
            },
            Err(Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// After a push to a registry that did not say that it knows of subjects: enters the manifest into the list.
    pub(crate) async fn record_referrer(
        &self,
        reference: &Reference,
        kind: &str,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<(), Error> {
        let Ok(manifest) = serde_json::from_slice::<WithSubject>(bytes) else { return Ok(()) };
        let Some(subject) = manifest.subject else { return Ok(()) };
        let place = tagged(reference, &subject.digest)?;
        let mut entries = self.referrers_by_tag(reference, &subject.digest).await?;
        if entries.iter().any(|entry| entry.digest == *digest) {
            return Ok(());
        }
        let mut entry = Descriptor::new(kind, digest.clone(), bytes.len() as u64);
        entry.artifact_type = manifest.artifact_type.or(manifest.config.map(|config| config.media_type));
        entry.annotations = manifest.annotations.unwrap_or_default();
        entries.push(entry);
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: entries,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let problem = |_| Error::Protocol {
            host: reference.domain().to_owned(),
            problem: "referrers that cannot be listed".into(),
        };
        let bytes = serde_json::to_vec(&index).map_err(problem)?;
        self.put_document(&place, media_type::OCI_INDEX, &bytes).await.map(drop)
    }
}

fn tagged(reference: &Reference, digest: &Digest) -> Result<Reference, Error> {
    let problem =
        |_| Error::Protocol { host: reference.domain().to_owned(), problem: "a digest that is no tag".into() };
    reference.without_version().with_tag(&fallback_tag(digest)).map_err(problem)
}

fn index_of(reference: &Reference, bytes: &[u8]) -> Result<Index, Error> {
    match Document::parse(bytes, Some(media_type::OCI_INDEX)) {
        Ok(Document::Index(index)) => Ok(index),
        Ok(Document::Manifest(_)) => {
            let problem = "a manifest in place of a list of referrers".to_owned();
            Err(Error::Protocol { host: reference.domain().to_owned(), problem })
        }
        Err(source) => Err(Error::Document { reference: reference.familiar(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_digest_is_a_tag() {
        for digest in [Digest::sha256(b""), format!("sha512:{}", "a".repeat(128)).parse().unwrap()] {
            let tag = fallback_tag(&digest);
            assert!(oci::reference::is_tag(&tag), "{tag}");
            assert!(tag.ends_with(&digest.hex()[..64]));
        }
    }
}
