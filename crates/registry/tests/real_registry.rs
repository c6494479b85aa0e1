//! Against Debian's docker-registry, with images that skopeo pushed: plain, with a password, with TLS.

mod servers;

use oci::image::ImageConfig;
use oci::platform::Platform;
use oci::reference::Reference;
use registry::credentials::Credentials;
use registry::{Client, Error, Options};
use servers::{Layout, RealRegistry, has_programs};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const PROGRAMS: [&str; 3] = ["docker-registry", "skopeo", "gzip"];

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64", "")
}

#[test]
fn pulls_by_tag_digest_and_platform() {
    if !has_programs(&PROGRAMS) {
        return;
    }
    let server = RealRegistry::plain();
    let layout = Layout::make(3 << 20);
    let name = format!("{}/team/app", server.domain());
    layout.push("multi", &format!("{name}:1"), &[]);
    layout.push("single", &format!("{name}:single"), &[]);
    let client = Client::new(Options::default()).unwrap();
    client.ping(&server.domain()).unwrap();

    let image = client.resolve(&reference(&format!("{name}:1")), &amd64()).unwrap();
    assert_eq!(*image.digest(), layout.index);
    assert!(image.index.is_some());
    let config = client.small_blob(&reference(&name), &image.manifest.config).unwrap();
    let config = ImageConfig::parse(&config).unwrap();
    assert_eq!(config.platform.architecture, "amd64");
    config.check_layers(&image.manifest).unwrap();

    let arm = client.resolve(&reference(&format!("{name}:1")), &Platform::new("linux", "arm64", "")).unwrap();
    assert_ne!(arm.raw.digest, image.raw.digest);
    let by_digest = client.resolve(&reference(&format!("{name}@{}", image.raw.digest)), &amd64()).unwrap();
    assert_eq!(by_digest.raw.bytes, image.raw.bytes);
    assert!(by_digest.index.is_none());
    let single = client.resolve(&reference(&format!("{name}:single")), &amd64()).unwrap();
    assert_eq!(single.raw.digest, image.raw.digest);

    let error = client.resolve(&reference(&format!("{name}:1")), &Platform::new("linux", "s390x", "")).unwrap_err();
    assert!(error.to_string().ends_with("has no image for linux/s390x (it has linux/arm64, linux/amd64)"), "{error}");
    let error = client.resolve(&reference(&format!("{name}:2")), &amd64()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
    let error = client.resolve(&reference(&format!("{}/no/such", server.domain())), &amd64()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn layers_come_on_several_threads() {
    if !has_programs(&PROGRAMS) {
        return;
    }
    let server = RealRegistry::plain();
    let layout = Layout::make(8 << 20);
    let name = reference(&format!("{}/app:1", server.domain()));
    layout.push("multi", &name.to_string(), &[]);
    let client = Client::new(Options::default()).unwrap();
    let image = client.resolve(&name, &amd64()).unwrap();
    let layer = &image.manifest.layers[0];
    let counter = Arc::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut bytes = Vec::new();
                let mut reader = client.blob_counted(&name, layer, Arc::clone(&counter)).unwrap();
                reader.read_to_end(&mut bytes).unwrap();
                assert!(bytes == layout.layer);
                reader.finish().unwrap();
            });
        }
    });
    assert_eq!(counter.load(Ordering::Relaxed), 4 * layer.size);
}

#[test]
fn the_thread_ends_with_the_last_user() {
    if !has_programs(&PROGRAMS) {
        return;
    }
    let server = RealRegistry::plain();
    let layout = Layout::make(1 << 20);
    let name = reference(&format!("{}/app:1", server.domain()));
    layout.push("single", &name.to_string(), &[]);
    // Other tests have threads, too, so this one is counted in a process of its own.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "only_in_a_process_of_its_own", "--nocapture", "--ignored", "--test-threads=1"])
        .env("DHOW_TEST_IMAGE", name.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "run by the_thread_ends_with_the_last_user"]
fn only_in_a_process_of_its_own() {
    let Ok(name) = std::env::var("DHOW_TEST_IMAGE") else { return };
    let name = reference(&name);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let client = Client::new(Options::default()).unwrap();
    let image = client.resolve(&name, &amd64()).unwrap();
    let reader = client.blob(&name, &image.manifest.layers[0]).unwrap();
    assert_eq!(threads(), before + 1);
    drop(client);
    reader.finish().unwrap();
    assert_eq!(threads(), before);
}

fn with_password() -> RealRegistry {
    RealRegistry::start(|directory| {
        let file = directory.join("htpasswd");
        let output = Command::new("htpasswd").args(["-Bbn", "user", "pass:word"]).output().unwrap();
        std::fs::write(&file, output.stdout).unwrap();
        (String::new(), format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display()))
    })
}

fn config_dir(directory: &Path, text: &str) -> Options {
    std::fs::write(directory.join("config.json"), text).unwrap();
    Options { config_dir: Some(directory.to_owned()), ..Options::default() }
}

#[test]
fn passwords_from_docker_configuration() {
    if !has_programs(&PROGRAMS) || !has_programs(&["htpasswd"]) {
        return;
    }
    let server = with_password();
    let layout = Layout::make(1 << 20);
    let name = reference(&format!("{}/app:1", server.domain()));
    layout.push("single", &name.to_string(), &["--dest-creds", "user:pass:word"]);

    let error = Client::new(Options::default()).unwrap().resolve(&name, &amd64()).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { had_credentials: false, .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("registry {} wants a login", server.domain())), "{error}");

    let home = tempfile::tempdir().unwrap();
    // dXNlcjpwYXNzOndvcmQ= is user:pass:word.
    let text = format!(r#"{{"auths":{{"http://{}/v1/":{{"auth":"dXNlcjpwYXNzOndvcmQ="}}}}}}"#, server.domain());
    let client = Client::new(config_dir(home.path(), &text)).unwrap();
    let image = client.resolve(&name, &amd64()).unwrap();
    client.blob(&name, &image.manifest.layers[0]).unwrap().finish().unwrap();
    client.ping(&server.domain()).unwrap();

    let mut options = Options::default();
    let wrong = Credentials::Password { username: "user".into(), password: "wrong".into() };
    options.credentials.insert(server.domain(), wrong);
    let error = Client::new(options).unwrap().resolve(&name, &amd64()).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { had_credentials: true, .. }), "{error:?}");

    let error = Client::new(config_dir(home.path(), "{")).unwrap().resolve(&name, &amd64()).unwrap_err();
    assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
}

#[test]
fn certificates_are_checked() {
    if !has_programs(&PROGRAMS) || !has_programs(&["openssl"]) {
        return;
    }
    let server = RealRegistry::start(|directory| {
        let (certificate, key) = (directory.join("server.crt"), directory.join("server.key"));
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry.test"])
            .args(["-addext", "subjectAltName=DNS:registry.test"])
            .args(["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let http = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        (http, String::new())
    });
    let layout = Layout::make(2 << 20);
    layout.push("single", &format!("{}/app:1", server.domain()), &[]);
    // A name that is not loopback by name, so that TLS is a must; it leads here by a hosts file of the test's own.
    let home = tempfile::tempdir().unwrap();
    let hosts = home.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 registry.test other.test\n").unwrap();
    let authority = format!("registry.test:{}", server.port);
    let name = reference(&format!("{authority}/app:1"));
    let options = || Options {
        hosts_file: hosts.clone(),
        certificate_directories: vec![home.path().join("certs.d")],
        ..Options::default()
    };

    let error = Client::new(options()).unwrap().resolve(&name, &amd64()).unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("certs.d/{authority}/ca.crt")), "{error}");

    let insecure = Options { insecure: vec![authority.clone()], ..options() };
    Client::new(insecure).unwrap().resolve(&name, &amd64()).unwrap();

    let trusted = home.path().join("certs.d").join(&authority);
    std::fs::create_dir_all(&trusted).unwrap();
    std::fs::copy(server.directory.path().join("server.crt"), trusted.join("ca.crt")).unwrap();
    let client = Client::new(options()).unwrap();
    let image = client.resolve(&name, &amd64()).unwrap();
    client.blob(&name, &image.manifest.layers[0]).unwrap().finish().unwrap();

    // The right authority and the wrong name.
    let other = home.path().join("certs.d").join(format!("other.test:{}", server.port));
    std::fs::create_dir_all(&other).unwrap();
    std::fs::copy(server.directory.path().join("server.crt"), other.join("ca.crt")).unwrap();
    let name = reference(&format!("other.test:{}/app:1", server.port));
    let error = Client::new(options()).unwrap().resolve(&name, &amd64()).unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");

    // Loopback by address: any certificate will do, as with Docker.
    let name = reference(&format!("{}/app:1", server.domain()));
    Client::new(options()).unwrap().resolve(&name, &amd64()).unwrap();
}

/// In `directory`: `server.crt` for `registry.test`, and two authorities with a client each, of which a server is to believe `ours`
/// and so `known`, and not `theirs` and `stranger`. All with their `.key`.
fn certificates(directory: &Path) {
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    for (authority, client) in [("ours", "known"), ("theirs", "stranger")] {
        let [secret, public] = ["key", "crt"].map(|end| format!("{authority}.{end}"));
        let name = format!("/CN={authority}");
        let files = ["-subj", &name, "-keyout", &secret, "-out", &public];
        openssl(&[&["req", "-x509", "-days", "2"], &key[..], &files].concat());
        let [own, request, signed] = ["key", "csr", "cert"].map(|end| format!("{client}.{end}"));
        let name = format!("/CN={client}");
        openssl(&[&["req"], &key[..], &["-subj", &name, "-keyout", &own, "-out", &request]].concat());
        let sign =
            ["x509", "-req", "-days", "2", "-in", &request, "-CA", &public, "-CAkey", &secret, "-CAcreateserial"];
        openssl(&[&sign[..], &["-extfile", "extensions", "-out", &signed]].concat());
    }
    let names = "subjectAltName=DNS:registry.test,IP:127.0.0.1";
    let files = ["-addext", names, "-keyout", "server.key", "-out", "server.crt"];
    openssl(&[&["req", "-x509", "-days", "2", "-subj", "/CN=registry.test"], &key[..], &files].concat());
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn clients_show_their_certificate() {
    if !has_programs(&PROGRAMS) || !has_programs(&["openssl"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    std::fs::write(at("extensions"), "extendedKeyUsage = clientAuth\n").unwrap();
    certificates(home.path());
    let server = RealRegistry::start(|_| {
        let [public, secret, clients] =
            ["server.crt", "server.key", "ours.crt"].map(|name| at(name).display().to_string());
        let tls = format!("  tls:\n    certificate: {public}\n    key: {secret}\n    clientcas:\n      - {clients}\n");
        (tls, String::new())
    });
    let show = |directory: &Path, certificate: &str, key: &str| {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::copy(at(&format!("{certificate}.cert")), directory.join("client.cert")).unwrap();
        std::fs::copy(at(&format!("{key}.key")), directory.join("client.key")).unwrap();
    };
    let identity = at("skopeo");
    show(&identity, "known", "known");
    let layout = Layout::make(1 << 20);
    layout.push("single", &format!("{}/app:1", server.domain()), &["--dest-cert-dir", &identity.display().to_string()]);

    std::fs::write(at("hosts"), "127.0.0.1 registry.test\n").unwrap();
    let authority = format!("registry.test:{}", server.port);
    let trusted = at("certs.d").join(&authority);
    std::fs::create_dir_all(&trusted).unwrap();
    std::fs::copy(at("server.crt"), trusted.join("ca.crt")).unwrap();
    let name = reference(&format!("{authority}/app:1"));
    let resolve = || {
        let directories = vec![at("certs.d")];
        let options = Options { hosts_file: at("hosts"), certificate_directories: directories, ..Options::default() };
        let client = Client::new(options)?;
        let image = client.resolve(&name, &amd64())?;
        client.blob(&name, &image.manifest.layers[0])?.finish()
    };

    // Nothing to show, and then something that the server does not take.
    for certificate in [None, Some("stranger")] {
        certificate.into_iter().for_each(|certificate| show(&trusted, certificate, certificate));
        let error = resolve().unwrap_err();
        assert!(matches!(error, Error::Tls { .. } | Error::Unreachable { .. }), "{error:?}");
        let said = chain(&error).to_lowercase();
        assert!(said.contains("alert") || said.contains("certificate"), "{said}");
    }
    show(&trusted, "known", "known");
    resolve().unwrap();
    // A mistake on our side is told by the file.
    show(&trusted, "known", "stranger");
    let error = resolve().unwrap_err();
    assert!(chain(&error).contains("TLS cannot be set up"), "{}", chain(&error));
    std::fs::remove_file(trusted.join("client.key")).unwrap();
    let error = resolve().unwrap_err();
    assert!(chain(&error).contains("client.key"), "{}", chain(&error));

    // The same by containerd's hosts.toml, which names both files.
    std::fs::remove_file(trusted.join("client.cert")).unwrap();
    let [authorities, certificate, key] = ["server.crt", "known.cert", "known.key"].map(at);
    let host = format!("https://{authority}");
    let toml =
        format!("server = {host:?}\n[host.{host:?}]\nca = {authorities:?}\nclient = [[{certificate:?}, {key:?}]]\n");
    std::fs::write(trusted.join("hosts.toml"), toml).unwrap();
    resolve().unwrap();
}
