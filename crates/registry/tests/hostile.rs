//! Registries that lie, stall, break off or want our passwords.

mod servers;

use oci::digest::Digest;
use oci::image::{Descriptor, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::credentials::Credentials;
use registry::{Client, Error, Options};
use servers::{Request, Server, answer, hang_up, head, manifest, noise};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MANIFEST: &str = "/v2/app/manifests/1";

fn reference(server: &Server) -> Reference {
    format!("{}/app:1", server.domain()).parse().unwrap()
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64", "")
}

fn client() -> Client {
    Client::new(Options::default()).unwrap()
}

fn with_password(server: &Server, more: Options) -> Client {
    let password = Credentials::Password { username: "user".into(), password: "secret".into() };
    Client::new(Options { credentials: [(server.domain(), password)].into(), ..more }).unwrap()
}

fn resolve(server: &Server) -> Result<registry::Resolved, Error> {
    client().resolve(&reference(server), &amd64())
}

fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER_GZIP, bytes)
}

fn serve_manifest(stream: &mut TcpStream, bytes: &[u8]) {
    answer(stream, "200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], bytes);
}

/// Reads a blob to the end.
fn read(client: &Client, server: &Server, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut reader = client.blob(&reference(server), descriptor)?;
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            assert!(reader.read(&mut [0; 10]).is_err(), "after an error there is no end");
            Err(error.downcast().unwrap())
        }
    }
}

#[test]
fn huge_manifests_are_not_read() {
    let announced = Server::start(|_, stream| {
        head(stream, "200 OK", &[("Content-Length", "104857600")]);
        stream.write_all(&[b' '; 1000]).ok();
    });
    let error = resolve(&announced).unwrap_err().to_string();
    assert!(error.contains("has 104857600 bytes; more than 4194304 are not read"), "{error}");

    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let endless = Server::start(move |_, stream| {
        head(stream, "200 OK", &[("Transfer-Encoding", "chunked")]);
        let chunk = [b"10000\r\n".to_vec(), vec![b' '; 65536], b"\r\n".to_vec()].concat();
        while counter.load(Ordering::Relaxed) < 100 << 20 && stream.write_all(&chunk).is_ok() {
            counter.fetch_add(65536, Ordering::Relaxed);
        }
        hang_up(stream);
    });
    let error = resolve(&endless).unwrap_err();
    assert!(matches!(error, Error::TooLarge { at_least: true, .. }), "{error}");
    assert!(sent.load(Ordering::Relaxed) < 32 << 20, "{sent:?}");
}

#[test]
fn wrong_digests_of_manifests() {
    let bytes = manifest(&layer(b"x"));
    let other = Digest::sha256(b"other");
    let header = other.to_string();
    let (sent, announced) = (bytes.clone(), header.clone());
    let server =
        Server::start(move |_, stream| answer(stream, "200 OK", &[("Docker-Content-Digest", &announced)], &sent));
    let error = resolve(&server).unwrap_err();
    let expected = format!("is corrupt: expected {other}, got {}", Digest::sha256(&bytes));
    assert!(error.to_string().ends_with(&expected), "{error}");

    let server = Server::start(move |_, stream| serve_manifest(stream, &bytes));
    let name: Reference = format!("{}/app@{other}", server.domain()).parse().unwrap();
    assert!(matches!(client().resolve(&name, &amd64()), Err(Error::Corrupt { .. })));
}

#[test]
fn documents_that_are_no_images() {
    let config = |kind: &str| {
        let config = Descriptor::of(kind, b"{}");
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "config": config, "layers": []})).unwrap()
    };
    let table: [(Vec<u8>, &str, &str); 5] = [
        (config("application/vnd.cncf.helm.config.v1+json"), media_type::OCI_MANIFEST, "is not a container image but"),
        (
            b"{\"schemaVersion\":1}".to_vec(),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "cannot be used",
        ),
        (config(media_type::OCI_CONFIG), media_type::OCI_INDEX, "cannot be used"),
        (b"<html>".to_vec(), "text/html", "cannot be used"),
        (b"{\"schemaVersion\":2,\"manifests\":[]}".to_vec(), media_type::OCI_INDEX, "(it has none)"),
    ];
    for (bytes, content_type, expected) in table {
        let server =
            Server::start(move |_, stream| answer(stream, "200 OK", &[("Content-Type", content_type)], &bytes));
        let error = resolve(&server).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_index_of_itself_ends() {
    // A size that is right and a digest that cannot be: the first step already fails; a chain of honest ones is bounded.
    let inner = manifest(&layer(b"x"));
    let wrap = |bytes: &[u8], kind: &str| {
        let mut entry = Descriptor::of(kind, bytes);
        entry.platform = Some(amd64());
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [entry]})).unwrap()
    };
    let mut chain = vec![inner];
    for depth in 0..5 {
        let kind = if depth == 0 { media_type::OCI_MANIFEST } else { media_type::OCI_INDEX };
        chain.push(wrap(chain.last().unwrap(), kind));
    }
    let start = |top: usize| {
        let chain = chain.clone();
        Server::start(move |request, stream| {
            let by_digest = chain.iter().find(|bytes| request.target.ends_with(&Digest::sha256(bytes).to_string()));
            answer(stream, "200 OK", &[], by_digest.unwrap_or(&chain[top]));
        })
    };
    assert!(resolve(&start(2)).is_ok());
    let error = resolve(&start(5)).unwrap_err().to_string();
    assert!(error.contains("an index in an index"), "{error}");
}

#[test]
fn corrupt_and_missized_blobs() {
    let good = noise(3 << 20);
    let mut bad = good.clone();
    bad[2 << 20] ^= 1;
    let sent = bad.clone();
    let server = Server::start(move |_, stream| answer(stream, "200 OK", &[], &sent));
    let descriptor = layer(&good);
    let mut reader = client().blob(&reference(&server), &descriptor).unwrap();
    let mut bytes = Vec::new();
    let error = reader.read_to_end(&mut bytes).unwrap_err();
    let expected = format!(
        "blob {0} of {1}/app is corrupt: expected {0}, got {2}",
        descriptor.digest,
        server.domain(),
        Digest::sha256(&bad)
    );
    assert_eq!(error.to_string(), expected);
    assert!((bytes.len() as u64) < descriptor.size, "the last bytes are never handed out");

    let mut longer = descriptor.clone();
    longer.size += 1;
    let error = read(&client(), &server, &longer).unwrap_err();
    assert!(matches!(error, Error::Size { at_least: false, .. }), "{error}");

    let sent = good.clone();
    let endless = Server::start(move |_, stream| {
        head(stream, "200 OK", &[("Transfer-Encoding", "chunked")]);
        stream.write_all(format!("{:x}\r\n", sent.len()).as_bytes()).ok();
        stream.write_all(&sent).ok();
        stream.write_all(b"\r\n5\r\nhello\r\n0\r\n\r\n").ok();
    });
    let shorter = Descriptor { size: descriptor.size - 7, ..descriptor };
    let error = read(&client(), &endless, &shorter).unwrap_err();
    assert!(matches!(error, Error::Size { at_least: true, .. }), "{error}");
}

/// A server that breaks off each answer after some bytes; `honours` says whether it knows `Range`.
fn breaking_off(bytes: Vec<u8>, after: usize, honours: bool) -> Server {
    Server::start(move |request, stream| {
        let from =
            request.header("range").and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.filter(|_| honours).unwrap_or(0);
        let length = (bytes.len() - from).to_string();
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        match from {
            0 => head(stream, "200 OK", &[("Content-Length", &length)]),
            _ => head(stream, "206 Partial Content", &[("Content-Length", &length), ("Content-Range", &range)]),
        }
        let end = (from + after).min(bytes.len());
        stream.write_all(&bytes[from..end]).ok();
        if end < bytes.len() {
            hang_up(stream);
        }
    })
}

#[test]
fn broken_transfers_go_on() {
    let bytes = noise(5 << 20);
    let server = breaking_off(bytes.clone(), 2 << 20, true);
    assert!(read(&client(), &server, &layer(&bytes)).unwrap() == bytes);
    let ranges: Vec<_> = server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 3);
    assert!(ranges[0].is_none() && ranges[1].as_ref().unwrap().starts_with("bytes=2"), "{ranges:?}");

    // Without ranges the second answer starts over, and what is known is thrown away.
    let count = AtomicUsize::new(0);
    let sent = bytes.clone();
    let server = Server::start(move |_, stream| {
        let end = if count.fetch_add(1, Ordering::Relaxed) == 0 { 1 << 20 } else { sent.len() };
        head(stream, "200 OK", &[("Content-Length", &sent.len().to_string())]);
        stream.write_all(&sent[..end]).ok();
        if end < sent.len() {
            hang_up(stream);
        }
    });
    assert!(read(&client(), &server, &layer(&bytes)).unwrap() == bytes);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn without_progress_the_transfer_ends() {
    let bytes = noise(1 << 20);
    let server = breaking_off(bytes.clone(), 1000, false);
    let client = Client::new(Options { retries: 2, ..Options::default() }).unwrap();
    let error = read(&client, &server, &layer(&bytes)).unwrap_err();
    assert!(matches!(error, Error::Interrupted { attempts: 3, .. }), "{error}");
    assert!(error.to_string().contains("broke off at byte 1000 of 1048576, 3 times in a row"), "{error}");

    // Nobody may feed us a byte with each connection for ever.
    let server = breaking_off(bytes.clone(), 1, true);
    let error = read(&client, &server, &layer(&bytes)).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert_eq!(server.requests().len(), 3);

    let server = Server::start(|_, stream| {
        let range = [("Content-Length", "1048575"), ("Content-Range", "bytes 1-1048575/1048576")];
        head(stream, "206 Partial Content", &range);
    });
    let error = read(&client, &server, &layer(&bytes)).unwrap_err();
    assert!(error.to_string().contains("another range than was asked for"), "{error}");
}

#[test]
fn stalls_are_noticed() {
    let options = || Options { stall_timeout: Duration::from_millis(200), retries: 0, ..Options::default() };
    let bytes = noise(1 << 20);
    let sent = bytes.clone();
    let server = Server::start(move |request, stream| {
        if request.target.contains("/blobs/") {
            head(stream, "200 OK", &[("Content-Length", &sent.len().to_string())]);
            stream.write_all(&sent[..5000]).ok();
        }
        std::thread::sleep(Duration::from_secs(3));
    });
    let start = Instant::now();
    let client = Client::new(options()).unwrap();
    let error = client.resolve(&reference(&server), &amd64()).unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    let error = read(&client, &server, &layer(&bytes)).unwrap_err();
    assert!(matches!(error, Error::Interrupted { received: 5000, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn nobody_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name: Reference = format!("127.0.0.1:{port}/app").parse().unwrap();
    let error = client().resolve(&name, &amd64()).unwrap_err();
    assert_eq!(error.to_string(), format!("registry 127.0.0.1:{port} cannot be reached"));
    let mut text = String::new();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!("{cause}; "));
        source = cause.source();
    }
    assert!(text.contains("refused"), "{text}");

    let files = tempfile::tempdir().unwrap();
    let resolver = files.path().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let options = Options { resolver_file: resolver, ..Options::default() };
    let name: Reference = "registry.invalid/app".parse().unwrap();
    let error = Client::new(options).unwrap().resolve(&name, &amd64()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn redirects_take_no_credentials_along() {
    let bytes = noise(100_000);
    let sent = bytes.clone();
    let storage = Server::start(move |_, stream| answer(stream, "200 OK", &[], &sent));
    let location = format!("http://127.0.0.1:{}/bucket/x?signature=1", storage.port);
    let server = Server::start(move |request, stream| match request.header("authorization") {
        None => answer(stream, "401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"x\"")], b""),
        Some(_) => answer(stream, "307 Temporary Redirect", &[("Location", &location)], b""),
    });
    let client = with_password(&server, Options::default());
    assert!(read(&client, &server, &layer(&bytes)).unwrap() == bytes);
    let there = storage.requests();
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].header("authorization"), None);
    assert_eq!(server.requests().last().unwrap().header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

#[test]
fn storage_cannot_ask_for_credentials() {
    // The host that we were redirected to asks for a password: it gets none, neither itself nor at its realm.
    let realm = Server::start(|_, stream| answer(stream, "200 OK", &[], b"{\"token\":\"t\"}"));
    let challenge = format!("Bearer realm=\"http://127.0.0.1:{}/token\"", realm.port);
    let storage = Server::start(move |_, stream| {
        answer(stream, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
    });
    let location = format!("http://127.0.0.1:{}/x", storage.port);
    let server = Server::start(move |_, stream| answer(stream, "302 Found", &[("Location", &location)], b""));
    let client = with_password(&server, Options::default());
    let error = read(&client, &server, &layer(b"x")).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(realm.requests().is_empty());
    assert!(storage.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn redirects_that_are_not_followed() {
    for (location, expected) in [
        ("http://registry.example/x", "neither this machine nor named as insecure"),
        ("file:///etc/passwd", "not an http or https address"),
        ("https://user:password@registry.example/", "not an http or https address"),
        ("", "more than 10 redirects"),
    ] {
        let server = Server::start(move |_, stream| answer(stream, "302 Found", &[("Location", location)], b""));
        let error = resolve(&server).unwrap_err().to_string();
        assert!(error.contains(expected), "{location}: {error}");
        assert!(server.requests().len() <= 11);
    }
}

#[test]
fn foreign_layers_get_no_credentials() {
    let bytes = noise(1000);
    let sent = bytes.clone();
    let elsewhere = Server::start(move |_, stream| answer(stream, "200 OK", &[], &sent));
    let server = Server::start(|request, stream| match request.header("authorization") {
        None => answer(stream, "401 Unauthorized", &[("WWW-Authenticate", "Basic")], b""),
        Some(_) => answer(stream, "404 Not Found", &[], b"{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}"),
    });
    let client = with_password(&server, Options::default());
    let url = format!("http://127.0.0.1:{}/layer", elsewhere.port);
    let mut descriptor = Descriptor { urls: vec![url], ..Descriptor::of(media_type::DOCKER_FOREIGN_LAYER, &bytes) };
    assert!(read(&client, &server, &descriptor).unwrap() == bytes);
    assert_eq!(elsewhere.requests()[0].header("authorization"), None);

    // An ordinary layer comes from the registry or not at all.
    descriptor.media_type = media_type::OCI_LAYER_GZIP.into();
    let error = read(&client, &server, &descriptor).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(elsewhere.requests().len(), 1);
}

/// A registry that wants a token from `realm`, and a manifest behind it.
fn with_token(
    realm: impl Fn(u16) -> String + Send + Sync + 'static,
    token: impl Fn(&Request) -> String + Send + Sync + 'static,
) -> Server {
    let valid = Arc::new(Mutex::new(String::new()));
    let own_port = Arc::new(AtomicUsize::new(0));
    let port = own_port.clone();
    let server = Server::start(move |request, stream| {
        if request.target.starts_with("/token") {
            let token = token(request);
            *valid.lock().unwrap() = token.clone();
            let status = if token.is_empty() { "401 Unauthorized" } else { "200 OK" };
            return answer(stream, status, &[], format!("{{\"token\":\"{token}\",\"expires_in\":300}}").as_bytes());
        }
        let expected = format!("Bearer {}", valid.lock().unwrap());
        if expected != "Bearer " && request.header("authorization") == Some(&expected) {
            return serve_manifest(stream, &manifest(&layer(b"x")));
        }
        let realm = realm(port.load(Ordering::SeqCst) as u16);
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:app:pull\"");
        answer(stream, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
    });
    own_port.store(server.port as usize, Ordering::SeqCst);
    server
}

fn own_realm(port: u16) -> String {
    format!("http://127.0.0.1:{port}/token")
}

#[test]
fn tokens_are_fetched_once() {
    let server = with_token(own_realm, |_| "anonymous".into());
    let client = client();
    for _ in 0..3 {
        client.resolve(&reference(&server), &amd64()).unwrap();
    }
    assert_eq!(server.seen("/token?service=test&scope=repository%3Aapp%3Apull&client_id=dhow"), 1);
    assert_eq!(server.seen(MANIFEST), 4);
    assert!(
        server
            .requests()
            .iter()
            .all(|request| !request.header("authorization").is_some_and(|v| v.starts_with("Basic")))
    );
}

#[test]
fn a_token_that_is_no_longer_good_is_fetched_again() {
    let count = AtomicUsize::new(0);
    let server = with_token(own_realm, move |_| format!("t{}", count.fetch_add(1, Ordering::SeqCst)));
    let client = client();
    client.resolve(&reference(&server), &amd64()).unwrap();
    // Somebody else's token takes its place on the server.
    self::client().resolve(&reference(&server), &amd64()).unwrap();
    client.resolve(&reference(&server), &amd64()).unwrap();
    assert_eq!(server.seen("/token"), 3);
}

#[test]
fn passwords_and_identity_tokens_become_tokens() {
    let server = with_token(own_realm, |request| match request.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") if request.target.contains("account=user") => "good".into(),
        _ => String::new(),
    });
    with_password(&server, Options::default()).resolve(&reference(&server), &amd64()).unwrap();
    let error = resolve(&server).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { had_credentials: false, .. }), "{error}");

    let server = with_token(own_realm, |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let is_exchange = request.method == "POST"
            && body.contains("grant_type=refresh_token")
            && body.contains("refresh_token=identity")
            && body.contains("scope=repository%3Aapp%3Apull");
        if is_exchange { "good".into() } else { String::new() }
    });
    let mut options = Options::default();
    options.credentials.insert(server.domain(), Credentials::IdentityToken("identity".into()));
    Client::new(options).unwrap().resolve(&reference(&server), &amd64()).unwrap();
}

#[test]
fn hostile_realms_get_nothing() {
    // 127.0.0.1 sends us to another host: without a password it may, with one it must be named.
    let other = Server::start(|_, stream| answer(stream, "200 OK", &[], b"{\"token\":\"t\"}"));
    for (realm, expected) in [
        ("https://evil.example/token".to_owned(), "would go to a host that has nothing to do with the registry"),
        ("http://evil.example/token".to_owned(), "neither this machine nor named as insecure"),
        ("file:///etc/passwd".to_owned(), "not an http or https address"),
        (format!("http://127.0.0.1:{}@evil.example/", other.port), "not an http or https address"),
        ("/token".to_owned(), "not an http or https address"),
    ] {
        let server = with_token(move |_| realm.clone(), |_| "t".into());
        let error = with_password(&server, Options::default()).resolve(&reference(&server), &amd64()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(other.requests().is_empty());

    // A token server that sends us elsewhere with the password.
    let location = format!("http://127.0.0.1:{}/", other.port);
    let forwarding = Server::start(move |_, stream| answer(stream, "302 Found", &[("Location", &location)], b""));
    let realm = own_realm(forwarding.port);
    let server = with_token(move |_| realm.clone(), |_| "t".into());
    let error = with_password(&server, Options::default()).resolve(&reference(&server), &amd64()).unwrap_err();
    assert!(error.to_string().contains("must not send us elsewhere"), "{error}");
    assert!(other.requests().is_empty());
}

#[test]
fn endless_401_ends() {
    let server = Server::start(|request, stream| {
        if request.target.starts_with("/token") {
            return answer(stream, "200 OK", &[], b"{\"token\":\"t\"}");
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
        answer(stream, "401 Unauthorized", &[("WWW-Authenticate", &realm)], b"");
    });
    let error = resolve(&server).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_eq!(server.requests().len(), 3);

    for challenge in ["", "Negotiate", "Bearer realm=\"never closed", "Digest nonce=\"x\""] {
        let server = Server::start(move |_, stream| {
            answer(stream, "401 Unauthorized", &[("WWW-Authenticate", challenge)], b"");
        });
        assert!(matches!(resolve(&server), Err(Error::Unauthorized { .. })));
        assert_eq!(server.requests().len(), 1);
    }

    for token in ["", "{}", "{\"token\":\"a\\r\\nb\"}", "{\"token\":7}"] {
        let server = Server::start(move |request, stream| {
            if request.target.starts_with("/token") {
                return answer(stream, "200 OK", &[], token.as_bytes());
            }
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
            answer(stream, "401 Unauthorized", &[("WWW-Authenticate", &realm)], b"");
        });
        assert!(matches!(resolve(&server), Err(Error::Protocol { .. })), "{token}");
    }
}

#[test]
fn refusals_are_told_apart() {
    let status = |status: &'static str| {
        Server::start(move |_, stream| {
            let body = b"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"not \\u001b[31myours\"}]}";
            answer(stream, status, &[("Retry-After", "3600")], body);
        })
    };
    let error = resolve(&status("403 Forbidden")).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }));
    assert!(error.to_string().ends_with("(DENIED: not  [31myours)"), "{error}");
    let error = resolve(&status("404 Not Found")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = resolve(&status("429 Too Many Requests")).unwrap_err();
    assert!(error.to_string().ends_with("try again in 3600 seconds"), "{error}");
    let error = resolve(&status("418 I'm a teapot")).unwrap_err();
    assert!(matches!(error, Error::Status { status: 418, .. }), "{error}");
}

#[test]
fn later_means_later() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_, stream| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(stream, "429 Too Many Requests", &[("Retry-After", "1")], b""),
        1 => answer(stream, "503 Service Unavailable", &[], b"<html>"),
        2 => hang_up(stream),
        _ => serve_manifest(stream, &manifest(&layer(b"x"))),
    });
    let start = Instant::now();
    resolve(&server).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn kept_connections_that_died_are_replaced() {
    let server = Server::start(|_, stream| {
        serve_manifest(stream, &manifest(&layer(b"x")));
        // Promised to stay, and goes.
        hang_up(stream);
    });
    let client = client();
    for _ in 0..3 {
        client.resolve(&reference(&server), &amd64()).unwrap();
    }
    // A request may have reached the server just before it went.
    assert!((3..=5).contains(&server.requests().len()));
}

#[test]
fn nonsense_is_an_error() {
    for text in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 999999 x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"]
    {
        let server = Server::start(move |_, stream| {
            stream.write_all(text.as_bytes()).ok();
            hang_up(stream);
        });
        let client = Client::new(Options { retries: 0, ..Options::default() }).unwrap();
        let error = client.resolve(&reference(&server), &amd64()).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. } | Error::Unreachable { .. }), "{text}: {error}");
    }
}
