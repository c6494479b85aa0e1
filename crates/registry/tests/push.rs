//! Pushing, to Debian's docker-registry and to servers that misbehave.

mod servers;

use oci::digest::{Algorithm, Digest};
use oci::image::{Descriptor, media_type};
use oci::reference::Reference;
use registry::credentials::Credentials;
use registry::{Client, Error, Mounted, Options};
use servers::{RealRegistry, Request, Server, answer, hang_up, has_programs, manifest};
use std::io::Read;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn upload(client: &Client, name: &Reference, bytes: &[u8]) -> Result<(Digest, u64), Error> {
    client.upload(name, Algorithm::Sha256, None, &mut || Ok(Box::new(bytes)), &mut |_| ())
}

#[test]
fn a_real_registry_takes_everything() {
    if !has_programs(&["docker-registry"]) {
        return;
    }
    let server = RealRegistry::plain();
    let client = Client::new(Options::default()).unwrap();
    let name = reference(&format!("{}/team/app:1", server.domain()));
    // Empty, one piece, exactly two pieces, and more.
    for length in [0, 5, 4 << 20, 8 << 20, (9 << 20) + 17] {
        let bytes = noise(length);
        let digest = Digest::sha256(&bytes);
        assert_eq!(client.has_blob(&name, &digest).unwrap(), None);
        let mut last = 0;
        let told = &mut |done| last = done;
        let sent =
            client.upload(&name, Algorithm::Sha256, Some(&digest), &mut || Ok(Box::new(&bytes[..])), told).unwrap();
        assert_eq!((sent.0.clone(), sent.1, last), (digest.clone(), length as u64, length as u64));
        assert_eq!(client.has_blob(&name, &digest).unwrap(), Some(length as u64));
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &bytes);
        let mut back = Vec::new();
        client.blob(&name, &descriptor).unwrap().read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }
    let layer = Descriptor::of(media_type::OCI_LAYER, &noise(5));
    let other = reference(&format!("{}/team/other:1", server.domain()));
    assert_eq!(client.mount_blob(&other, &layer.digest, "team/app").unwrap(), Mounted::Yes);
    assert_eq!(client.mount_blob(&other, &Digest::sha256(b"nobody has it"), "team/app").unwrap(), Mounted::No);
    upload(&client, &other, b"{}").unwrap();
    let document = manifest(&layer);
    let digest = client.put_manifest(&other, media_type::OCI_MANIFEST, &document).unwrap();
    assert_eq!(client.manifest(&other).unwrap().bytes, document);
    for n in 0..30 {
        client.put_manifest(&other.with_tag(&format!("t{n}")).unwrap(), media_type::OCI_MANIFEST, &document).unwrap();
    }
    assert_eq!(client.tags(&other).unwrap().len(), 31);
    assert!(matches!(client.tags(&reference(&format!("{}/no/such", server.domain()))), Err(Error::NotFound { .. })));
    assert_eq!(digest, Digest::sha256(&document));
}

#[test]
fn a_source_that_fails_or_lies_leaves_nothing() {
    if !has_programs(&["docker-registry"]) {
        return;
    }
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 < 100 { Ok(out.len().min(100_000)) } else { Err(std::io::Error::other("no more")) }
        }
    }
    let server = RealRegistry::plain();
    let client = Client::new(Options::default()).unwrap();
    let name = reference(&format!("{}/app:1", server.domain()));
    let error =
        client.upload(&name, Algorithm::Sha256, None, &mut || Ok(Box::new(Broken(0))), &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
    let expected = Digest::sha256(b"something else");
    let wrong =
        client.upload(&name, Algorithm::Sha256, Some(&expected), &mut || Ok(Box::new(&b"this"[..])), &mut |_| ());
    assert!(matches!(wrong, Err(Error::Corrupt { .. })));
    assert_eq!(client.has_blob(&name, &Digest::sha256(b"this")).unwrap(), None);
}

/// A registry in memory whose connection breaks in the middle of pieces, with and without having taken them.
#[test]
fn goes_on_where_it_was_interrupted() {
    let stored = Mutex::new(Vec::new());
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request: &Request, stream: &mut TcpStream| {
        let mut stored = stored.lock().unwrap();
        let at = "/v2/app/blobs/uploads/1?state=x";
        let range = |length: usize| format!("0-{}", length.max(1) - 1);
        match request.method.as_str() {
            "POST" => answer(stream, "202 Accepted", &[("Location", at)], b""),
            "PATCH" => {
                let start: usize = request.header("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
                if start != stored.len() {
                    return answer(stream, "416 Range Not Satisfiable", &[], b"");
                }
                match count.fetch_add(1, Ordering::SeqCst) {
                    // Lost before anything was taken, after a part, and after all of it.
                    0 => return hang_up(stream),
                    1 => {
                        stored.extend(&request.body[..1000]);
                        return hang_up(stream);
                    }
                    2 => {
                        stored.extend(&request.body);
                        return hang_up(stream);
                    }
                    3 => return answer(stream, "503 Service Unavailable", &[], b""),
                    _ => stored.extend(&request.body),
                }
                answer(stream, "202 Accepted", &[("Location", at), ("Range", &range(stored.len()))], b"");
            }
            "GET" if request.target == at => {
                answer(stream, "204 No Content", &[("Location", at), ("Range", &range(stored.len()))], b"");
            }
            "PUT" => {
                let digest = request.target.split("digest=").nth(1).unwrap().replace("%3A", ":");
                assert_eq!(digest, Digest::sha256(&stored).to_string());
                answer(stream, "201 Created", &[], b"");
            }
            _ => answer(stream, "404 Not Found", &[], b""),
        }
    });
    let client = Client::new(Options::default()).unwrap();
    let bytes = noise(10 << 20);
    let (digest, size) = upload(&client, &reference(&format!("{}/app:1", server.domain())), &bytes).unwrap();
    assert_eq!((digest, size), (Digest::sha256(&bytes), 10 << 20));
    assert!(server.requests().iter().filter(|request| request.method == "PATCH").count() >= 5);
}

/// An upload session on another host gets the bytes that the user pushes there on the registry's word, and no password.
#[test]
fn no_password_for_a_session_elsewhere() {
    let thief = Server::start(|request, stream| match request.method.as_str() {
        "PUT" => answer(stream, "201 Created", &[], b""),
        _ => answer(stream, "401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"give\"")], b""),
    });
    let place = format!("http://{}/steal", thief.domain());
    let server = Server::start(move |request, stream| match request.header("authorization") {
        None => answer(stream, "401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"r\"")], b""),
        Some(_) => answer(stream, "202 Accepted", &[("Location", &place)], b""),
    });
    let password = Credentials::Password { username: "u".into(), password: "p".into() };
    let options = Options { credentials: [(server.domain(), password)].into(), retries: 1, ..Options::default() };
    let client = Client::new(options).unwrap();
    let name = reference(&format!("{}/app:1", server.domain()));
    upload(&client, &name, b"short").unwrap();
    // A long one asks the thief, who asks for a password.
    assert!(matches!(upload(&client, &name, &noise(9 << 20)), Err(Error::Unauthorized { .. })));
    assert!(!thief.requests().is_empty());
    assert!(thief.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn no_session_in_the_clear_or_nowhere() {
    for (location, wanted) in [("http://example.test/x", "named as insecure"), ("ftp://x/", "not an http")] {
        let server = Server::start(move |_, stream| answer(stream, "202 Accepted", &[("Location", location)], b""));
        let client = Client::new(Options::default()).unwrap();
        let error = upload(&client, &reference(&format!("{}/app:1", server.domain())), b"x").unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let server = Server::start(|_, stream| answer(stream, "202 Accepted", &[], b""));
    let client = Client::new(Options::default()).unwrap();
    let error = upload(&client, &reference(&format!("{}/app:1", server.domain())), b"x").unwrap_err();
    assert!(error.to_string().contains("without a place"), "{error}");
    let server = Server::start(|request, stream| match request.method.as_str() {
        "POST" => answer(stream, "202 Accepted", &[("Location", "/u"), ("OCI-Chunk-Min-Length", "99999999999")], b""),
        _ => answer(stream, "204 No Content", &[], b""),
    });
    let client = Client::new(Options::default()).unwrap();
    let error = upload(&client, &reference(&format!("{}/app:1", server.domain())), b"x").unwrap_err();
    assert!(error.to_string().contains("more than we keep in memory"), "{error}");
}
