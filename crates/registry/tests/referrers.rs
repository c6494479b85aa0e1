//! Who refers to an image: by the interface for it, by a tag where there is none, and by servers that answer wrongly.

mod servers;

use oci::digest::Digest;
use oci::image::{Descriptor, media_type};
use oci::reference::Reference;
use registry::{Client, Error, Options};
use serde_json::json;
use servers::{RealRegistry, Server, answer, has_programs, manifest};

fn client() -> Client {
    Client::new(Options { retries: 0, ..Options::default() }).unwrap()
}

fn reference(server: &Server) -> Reference {
    format!("{}/app:1", server.domain()).parse().unwrap()
}

fn subject() -> Digest {
    Digest::sha256(b"subject")
}

fn entry(kind: &str, text: &str) -> Descriptor {
    Descriptor { artifact_type: Some(kind.into()), ..Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes()) }
}

fn index(entries: &[Descriptor]) -> Vec<u8> {
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries})).unwrap()
}

const INDEX: (&str, &str) = ("Content-Type", media_type::OCI_INDEX);

#[test]
fn pages_and_filters() {
    let server = Server::start(|request, stream| {
        assert_eq!(request.header("authorization"), None);
        let is_second = request.target.contains("page=2");
        // The link leads to another host: only what follows the question mark counts.
        let link = ("Link", "<https://evil.example/v2/x/referrers/y?page=2>; rel=\"next\"");
        match is_second {
            false => answer(stream, "200 OK", &[INDEX, link], &index(&[entry("a/b", "1"), entry("c/d", "2")])),
            true => answer(stream, "200 OK", &[INDEX], &index(&[entry("a/b", "3")])),
        }
    });
    let found = client().referrers(&reference(&server), &subject(), None).unwrap();
    assert_eq!((found.entries.len(), found.by_tag), (3, false));
    // This registry ignores the filter.
    let found = client().referrers(&reference(&server), &subject(), Some("a/b")).unwrap();
    assert_eq!(found.entries, [entry("a/b", "1"), entry("a/b", "3")]);
    assert_eq!(server.seen(&format!("/v2/app/referrers/{}?artifactType=a%2Fb", subject())), 1);
}

#[test]
fn a_tag_where_there_is_no_interface() {
    let tag = format!("/v2/app/manifests/sha256-{}", subject().hex());
    for refusal in ["404 Not Found", "405 Method Not Allowed", "200 OK"] {
        let tag = tag.clone();
        let server = Server::start(move |request, stream| match request.target == tag {
            true => answer(stream, "200 OK", &[INDEX], &index(&[entry("a/b", "1")])),
            // With 200 it is a page for people.
            false => answer(stream, refusal, &[("Content-Type", "text/html")], b"<html>"),
        });
        let found = client().referrers(&reference(&server), &subject(), None).unwrap();
        assert_eq!((found.entries.len(), found.by_tag), (1, true), "{refusal}");
    }
    let nothing = Server::start(|_, stream| answer(stream, "404 Not Found", &[], b""));
    assert!(client().referrers(&reference(&nothing), &subject(), None).unwrap().entries.is_empty());
}

#[test]
fn lists_that_are_none() {
    let layer = Descriptor::of(media_type::OCI_LAYER, b"x");
    for (bytes, expected) in [
        (manifest(&layer), "cannot be used"),
        (b"{\"schemaVersion\":2,\"manifests\":[{}]}".to_vec(), "cannot be used"),
        (b"nothing".to_vec(), "cannot be used"),
        (vec![b' '; 5 << 20], "more than 4194304 are not read"),
    ] {
        let server = Server::start(move |_, stream| answer(stream, "200 OK", &[INDEX], &bytes));
        let error = client().referrers(&reference(&server), &subject(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // A list that never ends.
    let page: Vec<Descriptor> = (0..2000).map(|n| entry("a/b", &n.to_string())).collect();
    let bytes = index(&page);
    let server = Server::start(move |_, stream| {
        answer(stream, "200 OK", &[INDEX, ("Link", "</v2/?n=1>; rel=\"next\"")], &bytes);
    });
    let error = client().referrers(&reference(&server), &subject(), None).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(server.requests().len() < 10);
    // A refusal is none of these.
    let server = Server::start(|_, stream| answer(stream, "403 Forbidden", &[], b""));
    assert!(matches!(client().referrers(&reference(&server), &subject(), None), Err(Error::Denied { .. })));
}

/// A manifest that says something about the one-byte layer's manifest.
fn about(subject: &Descriptor, kind: &str) -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
    let text = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind, "config": config,
        "layers": [config], "subject": subject, "annotations": {"made": "here"},
    });
    serde_json::to_vec(&text).unwrap()
}

/// Debian's registry has no such interface, so who pushes keeps the list; one that has it says so with `OCI-Subject`.
#[test]
fn who_pushes_keeps_the_list_where_the_registry_does_not() {
    if !has_programs(&["docker-registry"]) {
        return;
    }
    let server = RealRegistry::plain();
    let client = client();
    let name: Reference = format!("{}/app:1", server.domain()).parse().unwrap();
    client.upload_bytes(&name, b"{}").unwrap();
    client.upload_bytes(&name, b"x").unwrap();
    let image = manifest(&Descriptor::of(media_type::OCI_LAYER, b"x"));
    client.put_manifest(&name, media_type::OCI_MANIFEST, &image).unwrap();
    let subject = Descriptor::of(media_type::OCI_MANIFEST, &image);
    assert!(client.referrers(&name, &subject.digest, None).unwrap().entries.is_empty());
    for kind in ["a/signature", "a/list", "a/signature"] {
        let bytes = about(&subject, kind);
        let place = name.with_digest(Digest::sha256(&bytes));
        client.put_manifest(&place, media_type::OCI_MANIFEST, &bytes).unwrap();
    }
    let found = client.referrers(&name, &subject.digest, None).unwrap();
    assert_eq!((found.entries.len(), found.by_tag), (2, true));
    assert_eq!(found.entries[0].annotations["made"], "here");
    let found = client.referrers(&name, &subject.digest, Some("a/list")).unwrap();
    assert_eq!(found.entries[0].digest, Digest::sha256(&about(&subject, "a/list")));

    let knowing = Server::start(|request, stream| {
        assert_eq!(request.method, "PUT");
        answer(stream, "201 Created", &[("OCI-Subject", "sha256:x")], b"");
    });
    client.put_manifest(&reference(&knowing), media_type::OCI_MANIFEST, &about(&subject, "a/b")).unwrap();
    assert_eq!(knowing.requests().len(), 1);
}
