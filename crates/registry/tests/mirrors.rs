//! Mirrors and proxies as servers of our own: who is asked, and who gets to know what.

mod servers;

use oci::digest::Digest;
use oci::image::{Descriptor, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::credentials::Credentials;
use registry::{Client, Error, Options, Proxies};
use servers::{Server, answer, manifest};
use std::path::Path;

fn document() -> Vec<u8> {
    manifest(&Descriptor::new(media_type::OCI_LAYER, Digest::sha256(b"layer"), 5))
}

fn gives_manifest() -> Server {
    Server::start(|request, stream| match request.target.contains("/manifests/") {
        true => answer(stream, "200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], &document()),
        false => answer(stream, "404 Not Found", &[], b""),
    })
}

fn configured(directory: &Path, text: &str) -> Options {
    let file = directory.join("registries.conf");
    std::fs::write(&file, text).unwrap();
    Options { registries_files: vec![file], retries: 1, ..Options::default() }
}

fn platform() -> Platform {
    Platform::new("linux", "amd64", "")
}

#[test]
fn the_mirror_is_asked_first_and_the_registry_when_it_has_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mirror, upstream) = (gives_manifest(), gives_manifest());
    let empty = Server::start(|_, stream| answer(stream, "404 Not Found", &[], b""));
    let broken = Server::start(|_, stream| answer(stream, "500 Internal Server Error", &[], b""));
    let text = |mirrors: &[&Server]| {
        let mut text = format!("[[registry]]\nlocation = \"{}\"\n", upstream.domain());
        for mirror in mirrors {
            text += &format!("[[registry.mirror]]\nlocation = \"{}/sub\"\n", mirror.domain());
        }
        text
    };
    let name: Reference = format!("{}/team/app:1", upstream.domain()).parse().unwrap();
    let client = Client::new(configured(directory.path(), &text(&[&empty, &broken, &mirror]))).unwrap();
    client.resolve(&name, &platform()).unwrap();
    assert_eq!((empty.seen("/v2/sub/team/app/manifests/1"), broken.seen("/v2/sub/team/app/manifests/1")), (1, 1));
    assert_eq!((mirror.seen("/v2/sub/team/app/manifests/1"), upstream.requests().len()), (1, 0));
    let client = Client::new(configured(directory.path(), &text(&[&empty, &broken]))).unwrap();
    client.resolve(&name, &platform()).unwrap();
    assert_eq!(upstream.seen("/v2/team/app/manifests/1"), 1);
    // Nobody pushes to a mirror.
    let before = mirror.requests().len();
    let client = Client::new(configured(directory.path(), &text(&[&mirror]))).unwrap();
    assert!(client.put_manifest(&name, media_type::OCI_MANIFEST, b"{}").is_ok());
    assert_eq!(mirror.requests().len(), before);
}

#[test]
fn a_mirror_does_not_get_the_registrys_password() {
    let directory = tempfile::tempdir().unwrap();
    let ask = [("WWW-Authenticate", "Basic realm=\"give\"")];
    let mirror = Server::start(move |_, stream| answer(stream, "401 Unauthorized", &ask, b""));
    let upstream = gives_manifest();
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        upstream.domain(),
        mirror.domain()
    );
    let password = Credentials::Password { username: "u".into(), password: "p".into() };
    let options =
        Options { credentials: [(upstream.domain(), password)].into(), ..configured(directory.path(), &text) };
    let name: Reference = format!("{}/app:1", upstream.domain()).parse().unwrap();
    Client::new(options).unwrap().resolve(&name, &platform()).unwrap();
    assert!(!mirror.requests().is_empty());
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn headers_for_a_mirror_stay_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = gives_manifest();
    let place = format!("http://{}/v2/x/manifests/1", elsewhere.domain());
    let mirror = Server::start(move |_, stream| answer(stream, "307 Temporary Redirect", &[("Location", &place)], b""));
    let hosts = directory.path().join("r.test");
    std::fs::create_dir(&hosts).unwrap();
    let text = format!("[host.\"http://{0}\"]\n[host.\"http://{0}\".header]\nx-secret = \"s3\"\n", mirror.domain());
    std::fs::write(hosts.join("hosts.toml"), text).unwrap();
    let options = Options { certificate_directories: vec![directory.path().to_owned()], ..Options::default() };
    Client::new(options).unwrap().resolve(&"r.test/x:1".parse().unwrap(), &platform()).unwrap();
    assert_eq!(mirror.requests()[0].header("x-secret"), Some("s3"));
    assert!(mirror.requests()[0].target.ends_with("?ns=r.test"));
    assert_eq!(elsewhere.requests()[0].header("x-secret"), None);
}

#[test]
fn by_a_proxy() {
    let proxy = Server::start(|request, stream| match request.method.as_str() {
        "CONNECT" => answer(stream, "403 Forbidden", &[], b""),
        _ => answer(stream, "200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], &document()),
    });
    let address = format!("http://us:pw@{}", proxy.domain());
    let proxies = Proxies { http: address.clone(), https: address, none: "other.test".into() };
    let options = |insecure: &str| Options {
        proxies: proxies.clone(),
        insecure: vec![insecure.into()],
        retries: 0,
        ..Options::default()
    };
    // Plain requests are passed on whole; a tunnel is refused here, so the plain address is taken.
    let client = Client::new(options("r.test")).unwrap();
    client.resolve(&"r.test/app:1".parse().unwrap(), &platform()).unwrap();
    let seen = proxy.requests();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("CONNECT", "r.test:443"));
    assert_eq!(seen[1].target, "http://r.test/v2/app/manifests/1");
    assert_eq!(seen[1].header("host"), Some("r.test"));
    // us:pw
    assert!(seen.iter().all(|request| request.header("proxy-authorization") == Some("Basic dXM6cHc=")));
    let error = Client::new(options("x")).unwrap().resolve(&"r.test/app:1".parse().unwrap(), &platform()).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains("refuses: HTTP/1.1 403") && !text.contains("pw"), "{text}");
    let odd = Options { proxies: Proxies { https: "socks5://x".into(), ..Proxies::default() }, ..Options::default() };
    let error = Client::new(odd).unwrap().resolve(&"r.test/app:1".parse().unwrap(), &platform()).unwrap_err();
    assert!(matches!(error, Error::Proxy { .. }), "{error}");
}
