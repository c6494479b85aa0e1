use super::*;
use std::path::Path;

/// The endpoints as `ORIGIN PATH`, with a star at the registry itself.
fn asked(options: Options, domain: &str, repository: &str, purpose: Purpose) -> Result<Vec<String>, String> {
    let plan = Mirrors::new(Arc::new(options)).plan(domain, repository, purpose).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    })?;
    let shown = |endpoint: &Endpoint| {
        let origins: Vec<String> = endpoint.origins.iter().map(ToString::to_string).collect();
        let path = endpoint.path(&format!("/v2/{repository}/manifests/1"), repository);
        format!("{}{path}{}", origins.join("|"), if endpoint.is_registry { " *" } else { "" })
    };
    Ok(plan.endpoints.iter().map(shown).collect())
}

fn with_file(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn nothing_is_configured() {
    let plain = |domain| asked(Options::default(), domain, "a/b", Purpose::ByTag).unwrap();
    assert_eq!(plain("docker.io"), ["https://registry-1.docker.io/v2/a/b/manifests/1 *"]);
    assert_eq!(plain("localhost:5000"), ["https://localhost:5000|http://localhost:5000/v2/a/b/manifests/1 *"]);
}

/// The examples of containerd's own documentation.
#[test]
fn hosts_toml() {
    let directory = tempfile::tempdir().unwrap();
    let options = || Options { certificate_directories: vec![directory.path().to_owned()], ..Options::default() };
    with_file(
        directory.path(),
        "docker.io/hosts.toml",
        r#"
        server = "https://docker.io"
        [host."https://z-first.example"]
          capabilities = ["pull", "resolve"]
          ca = "/etc/certs/mirror.pem"
          [host."https://z-first.example".header]
            x-custom-2 = ["value1", "value2"]
        [host."http://a-second.example:5000/v2/mirror"]
          capabilities = ["pull"]
          override_path = true
          client = [["/a.cert", "/a.key"]]
        "#,
    );
    with_file(directory.path(), "_default/hosts.toml", "[host.\"https://all.example/cache\"]\n");
    assert_eq!(
        asked(options(), "docker.io", "library/x", Purpose::ByTag).unwrap(),
        [
            "https://z-first.example/v2/library/x/manifests/1?ns=docker.io",
            "https://docker.io/v2/library/x/manifests/1 *"
        ]
    );
    assert_eq!(
        asked(options(), "docker.io", "library/x", Purpose::ByDigest).unwrap()[1],
        "http://a-second.example:5000/v2/mirror/library/x/manifests/1?ns=docker.io"
    );
    assert_eq!(asked(options(), "docker.io", "library/x", Purpose::Own).unwrap().len(), 1);
    assert_eq!(
        asked(options(), "quay.io", "x", Purpose::ByTag).unwrap(),
        ["https://all.example/cache/v2/x/manifests/1?ns=quay.io", "https://quay.io/v2/x/manifests/1 *"]
    );
    let plan = Mirrors::new(Arc::new(options())).plan("docker.io", "x", Purpose::ByDigest).unwrap();
    assert_eq!(plan.endpoints[0].headers.get_all("x-custom-2").iter().count(), 2);
    assert_eq!(plan.trust[0].1.authorities, [PathBuf::from("/etc/certs/mirror.pem")]);
    assert!(plan.trust[1].1.anybody && plan.trust[1].1.identity.is_some() && !plan.trust[0].1.anybody);
    with_file(directory.path(), "docker.io/hosts.toml", "server = [");
    let error = asked(options(), "docker.io", "x", Purpose::ByTag).unwrap_err();
    assert!(error.contains("docker.io/hosts.toml cannot be used"), "{error}");
    with_file(directory.path(), "docker.io/hosts.toml", "[host.\"https://no host\"]\n");
    let error = asked(options(), "docker.io", "x", Purpose::ByTag).unwrap_err();
    assert!(error.contains("not the address of a host"), "{error}");
}

#[test]
fn registries_conf() {
    let directory = tempfile::tempdir().unwrap();
    let options = || Options {
        certificate_directories: vec![],
        registries_files: vec![directory.path().join("registries.conf")],
        registries_directories: vec![directory.path().join("registries.conf.d")],
        ..Options::default()
    };
    with_file(
        directory.path(),
        "registries.conf",
        r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        prefix = "docker.io"
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub"
        [[registry.mirror]]
        location = "insecure.example:5000"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/team"
        location = "internal.example/sub/team"
        insecure = true
        [[registry]]
        prefix = "*.corp.example"
        location = "proxy.example/corp"
        [[registry]]
        location = "bad.example"
        blocked = true
        "#,
    );
    let by = |domain, repository, purpose| asked(options(), domain, repository, purpose);
    assert_eq!(
        by("docker.io", "library/x", Purpose::ByTag).unwrap(),
        [
            "https://mirror.example/v2/hub/library/x/manifests/1",
            "https://registry-1.docker.io/v2/library/x/manifests/1 *"
        ]
    );
    assert_eq!(
        by("docker.io", "library/x", Purpose::ByDigest).unwrap()[1],
        "https://insecure.example:5000|http://insecure.example:5000/v2/library/x/manifests/1"
    );
    assert_eq!(
        by("docker.io", "team/x", Purpose::ByTag).unwrap(),
        ["https://internal.example|http://internal.example/v2/sub/team/x/manifests/1 *"]
    );
    assert_eq!(by("docker.io", "teamwork/x", Purpose::Own).unwrap().len(), 1);
    assert_eq!(
        by("a.corp.example:5000", "x", Purpose::ByTag).unwrap(),
        ["https://proxy.example/v2/corp/x/manifests/1 *"]
    );
    assert!(by("bad.example", "x", Purpose::ByTag).unwrap_err().contains("is blocked"));
    with_file(directory.path(), "registries.conf.d/1.conf", "[[registry]]\nlocation = \"bad.example\"\n");
    assert!(by("bad.example", "x", Purpose::ByTag).is_ok());
    with_file(directory.path(), "registries.conf.d/2.conf", "[registries.search]\nregistries = ['x']\n");
    assert!(by("bad.example", "x", Purpose::ByTag).unwrap_err().contains("version 1"));
}

#[test]
fn dockers_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    let text =
        r#"{"registry-mirrors":["https://m.example/"],"insecure-registries":["r.example:5000","10.0.0.0/8"],"x":1}"#;
    std::fs::write(&file, text).unwrap();
    let options = || Options { certificate_directories: vec![], daemon_file: Some(file.clone()), ..Options::default() };
    let by = |domain, purpose| asked(options(), domain, "x", purpose).unwrap();
    assert_eq!(by("docker.io", Purpose::ByTag)[0], "https://m.example/v2/x/manifests/1");
    assert_eq!(by("docker.io", Purpose::ByTag).len(), 2);
    assert_eq!(by("docker.io", Purpose::Own).len(), 1);
    assert_eq!(by("quay.io", Purpose::ByTag), ["https://quay.io/v2/x/manifests/1 *"]);
    for insecure in ["r.example:5000", "10.1.2.3:80"] {
        assert!(by(insecure, Purpose::ByTag)[0].contains("|http://"), "{insecure}");
    }
    for secure in ["r.example", "11.1.2.3:80"] {
        assert!(!by(secure, Purpose::ByTag)[0].contains("http://"), "{secure}");
    }
    let Configured { mirrors, insecure, insecure_networks } = Configured::read(&options()).unwrap();
    assert_eq!(mirrors, ["https://m.example/"]);
    assert_eq!((insecure, insecure_networks), (vec!["r.example:5000".to_owned()], vec!["10.0.0.0/8".to_owned()]));
}
