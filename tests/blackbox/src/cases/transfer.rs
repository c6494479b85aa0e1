//! Images leave: save and push, and what others make of it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same};
use crate::host;
use crate::registry::Registry;
use crate::sandbox::Sandbox;

cases![transfer:
    save_and_load_again, save_layers_bit_for_bit, save_several_and_by_id, save_for_others, save_refusals,
    push_keeps_the_digest, push_to_a_second_repository_sends_nothing, push_what_was_loaded, push_all_tags, push_quiet,
    push_refusals, push_zstd_and_plain, login_and_logout, login_refusals, login_with_a_helper, mirrors_are_asked_first, manifest_lists,
    search, push_what_was_committed,
];

fn json(text: &str) -> Result<Value> {
    Ok(serde_json::from_str(text)?)
}

/// The digest that a registry has under a name.
fn digest_at(address: &str, repository: &str, tag: &str) -> Result<String> {
    let name = format!("docker://{address}/{repository}:{tag}");
    let raw = host::succeed(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]))?;
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, raw.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(format!("sha256:{}", text.split(' ').next().unwrap_or_default()))
}

fn needs(programs: &[&str]) -> Result<()> {
    match programs.iter().find(|name| host::program(name).is_none()) {
        Some(name) => crate::case::skip(format!("{name} is not installed")),
        None => Ok(()),
    }
}

fn save_and_load_again(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    for format in ["docker-archive", "oci-archive"] {
        let file = sandbox.path("files/saved.tar");
        let name = file.to_string_lossy().into_owned();
        sandbox.ok(["save", "--format", format, "-o", &name, "busybox"])?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions());
        same!(mode & 0o777, 0o600);
        // To standard output it is the same archive.
        let output = sandbox.command(["save", "--format", format, "busybox"]).output()?;
        ensure!(output.stdout == fs::read(&file)?, "two archives of one image differ");
        sandbox.ok(["rmi", "busybox"])?;
        contains!(sandbox.ok(["load", "-i", &name])?, "Loaded image: busybox:latest");
        same!(sandbox.ok(["images", "-q", "--no-trunc"])?, id);
        same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    }
    Ok(())
}

fn save_layers_bit_for_bit(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("debian")?;
    sandbox.load("multi")?;
    let file = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    sandbox.ok(["save", "-o", &file, "debian:12", "multi"])?;
    let script = "tar -xf \"$1\" -C \"$2\" && cd \"$2\"/blobs/sha256 && for f in *; do echo \"$f  $f\"; done | sha256sum -c --quiet && ls | wc -l";
    let directory = sandbox.path("files/out");
    fs::create_dir(&directory)?;
    let out = host::succeed(Command::new("sh").args(["-c", script, "sh", &file]).arg(&directory))?;
    // One layer and two, two configurations, two manifests.
    same!(out.trim(), "7");
    Ok(())
}

fn save_several_and_by_id(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.load("multi")?;
    sandbox.ok(["tag", "busybox", "registry.example/team/app:1.0"])?;
    sandbox.ok(["tag", "busybox", "busybox:other"])?;
    let file = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    // A name without a tag is all its tags; an image is in the archive once.
    sandbox.ok(["save", "-o", &file, "busybox", "registry.example/team/app:1.0", "multi"])?;
    let list = json(&host::succeed(Command::new("tar").args(["-xOf", &file, "manifest.json"]))?)?;
    same!(list.as_array().map(Vec::len), Some(2));
    same!(list[0]["RepoTags"], serde_json::json!(["busybox:latest", "busybox:other", "registry.example/team/app:1.0"]));
    let id = sandbox.ok(["images", "-q", "--no-trunc", "busybox:latest"])?;
    sandbox.ok(["save", "-o", &file, &id])?;
    let list = json(&host::succeed(Command::new("tar").args(["-xOf", &file, "manifest.json"]))?)?;
    same!(list[0]["RepoTags"], serde_json::json!([]));
    sandbox.ok(["rmi", "-f", &id])?;
    contains!(sandbox.ok(["load", "-i", &file])?, format!("Loaded image ID: {id}"));
    Ok(())
}

/// skopeo and podman read it, and agree on what it is.
fn save_for_others(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    sandbox.load("multi")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    let id = id.trim_start_matches("sha256:");
    let file = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    sandbox.ok(["save", "-o", &file, "multi"])?;
    for source in [format!("docker-archive:{file}"), format!("oci-archive:{file}")] {
        let target = sandbox.path("files/copy");
        fs::create_dir(&target)?;
        let directory = format!("dir:{}", target.display());
        host::succeed(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &directory]))?;
        let manifest = json(&fs::read_to_string(target.join("manifest.json"))?)?;
        same!(manifest["config"]["digest"], format!("sha256:{id}"), "by {source}");
        fs::remove_dir_all(&target)?;
    }
    if host::program("podman").is_some() && host::is_root() {
        let (root, run) = (sandbox.path("files/podman"), sandbox.path("files/podman-run"));
        let podman = |arguments: &[&str]| {
            let mut command = Command::new("podman");
            command
                .arg("--root")
                .arg(&root)
                .arg("--runroot")
                .arg(&run)
                .args(["--storage-driver", "vfs"])
                .args(arguments);
            host::succeed(&mut command)
        };
        podman(&["load", "-q", "-i", &file])?;
        contains!(podman(&["images", "-q", "--no-trunc"])?, id);
        podman(&["rmi", "-a", "-f"])?;
    }
    Ok(())
}

fn save_refusals(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let file = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    sandbox.dhow(["save", "-o", &file, "nosuch"])?.fails(1, &["no such image", "nosuch"])?;
    sandbox.dhow(["save", "-o", &file, "--platform", "linux/arm64", "busybox"])?.fails(1, &["linux/arm64"])?;
    sandbox.dhow(["save", "-o", "/nosuch/directory/x.tar", "busybox"])?.fails(1, &["no such file or directory"])?;
    let left = fs::read_dir(sandbox.path("files"))?.count();
    same!(left, 0, "a refused save leaves a file");
    // A file of the layer that somebody changed: no archive with another digest comes out.
    let tree = fs::read_dir(sandbox.path("data/layers"))?.next().context("no layer")??.path().join("tree/bin/busybox");
    if host::is_root() && tree.exists() {
        let mut bytes = fs::read(&tree)?;
        bytes[1000] ^= 1;
        fs::write(&tree, bytes)?;
        sandbox.dhow(["save", "-o", &file, "busybox"])?.fails(1, &["changed on disk"])?;
        same!(fs::read_dir(sandbox.path("files"))?.count(), 0);
    }
    Ok(())
}

fn push_keeps_the_digest(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let origin = Registry::start(sandbox, &["debian", "busybox"], None)?;
    let target = Registry::empty(sandbox, "target", None)?;
    for (image, tag) in [("debian", "12"), ("busybox", "latest")] {
        let name = format!("{}/library/{image}:{tag}", origin.address);
        sandbox.ok(["pull", "-q", &name])?;
        let new = format!("{}/copy/{image}:{tag}", target.address);
        sandbox.ok(["tag", &name, &new])?;
        let text = sandbox.ok(["push", &new])?;
        let original = digest_at(&origin.address, &format!("library/{image}"), tag)?;
        contains!(text, format!("The push refers to repository [{}/copy/{image}]", target.address));
        contains!(text, ": Pushed");
        contains!(text, format!("{tag}: digest: {original} size: "));
        same!(digest_at(&target.address, &format!("copy/{image}"), tag)?, original);
        // Again, there is nothing to do.
        let again = sandbox.ok(["push", &new])?;
        contains!(again, "Layer already exists");
        ensure!(!again.contains("Pushed"), "{again}");
        contains!(
            sandbox.ok(["image", "inspect", "-f", "{{.RepoDigests}}", &new])?,
            format!("{}/copy/{image}@{original}", target.address)
        );
    }
    // What arrived is the image.
    let check = sandbox.path("files/check");
    fs::create_dir(&check)?;
    let source = format!("docker://{}/copy/busybox:latest", target.address);
    let directory = format!("dir:{}", check.display());
    host::succeed(Command::new("skopeo").args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &source,
        &directory,
    ]))?;
    Ok(())
}

fn push_to_a_second_repository_sends_nothing(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let registry = Registry::empty(sandbox, "target", None)?;
    sandbox.load("multi")?;
    let (first, second) = (format!("{}/a/one:1", registry.address), format!("{}/b/two:2", registry.address));
    sandbox.ok(["tag", "multi", &first])?;
    sandbox.ok(["push", &first])?;
    sandbox.ok(["tag", "multi", &second])?;
    let text = sandbox.ok(["push", &second])?;
    same!(text.matches("Mounted from a/one").count(), 2, "{text}");
    ensure!(!text.contains("Pushed"), "{text}");
    same!(digest_at(&registry.address, "a/one", "1")?, digest_at(&registry.address, "b/two", "2")?);
    Ok(())
}

/// An image from Docker's archive had no manifest; it goes compressed, and with the same digest ever after.
fn push_what_was_loaded(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let registry = Registry::empty(sandbox, "target", None)?;
    let other = Registry::empty(sandbox, "other", None)?;
    sandbox.ok(["load", "-i", &sandbox.archive("busybox", "docker")?])?;
    let name = format!("{}/busybox:latest", registry.address);
    sandbox.ok(["tag", "busybox:latest", &name])?;
    sandbox.ok(["push", &name])?;
    let raw = host::succeed(Command::new("skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}"),
    ]))?;
    let layer = &json(&raw)?["layers"][0];
    contains!(layer["mediaType"].to_string(), "gzip");
    ensure!(layer["size"].as_u64().unwrap_or(u64::MAX) < 1_500_000, "{layer}");
    let elsewhere = format!("{}/busybox:latest", other.address);
    sandbox.ok(["tag", "busybox:latest", &elsewhere])?;
    drop(registry);
    let output = sandbox.dhow(["push", &elsewhere])?;
    same!(output.stderr, "", "the same encoder gave another digest");
    same!(output.code, 0);
    contains!(output.stdout, format!("digest: {} size", digest_at(&other.address, "busybox", "latest")?));
    // It comes back as the same image.
    let id = sandbox.ok(["images", "-q", "--no-trunc", "busybox:latest"])?;
    sandbox.ok(["rmi", "-f", &id])?;
    sandbox.ok(["pull", "-q", &elsewhere])?;
    same!(sandbox.ok(["images", "-q", "--no-trunc", &elsewhere])?, id);
    Ok(())
}

fn push_all_tags(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let registry = Registry::empty(sandbox, "target", None)?;
    sandbox.load("busybox")?;
    let name = format!("{}/box", registry.address);
    for tag in ["a", "b"] {
        sandbox.ok(["tag", "busybox", &format!("{name}:{tag}")])?;
    }
    sandbox.dhow(["push", "-a", &format!("{name}:a")])?.fails(1, &["tag can't be used with --all-tags"])?;
    let text = sandbox.ok(["push", "-a", &name])?;
    contains!(text, "\na: digest: ");
    contains!(text, "\nb: digest: ");
    let tags =
        host::succeed(Command::new("skopeo").args(["list-tags", "--tls-verify=false", &format!("docker://{name}")]))?;
    let mut tags: Vec<String> = serde_json::from_value(json(&tags)?["Tags"].take())?;
    tags.sort();
    same!(tags, ["a", "b"]);
    Ok(())
}

fn push_quiet(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::empty(sandbox, "target", None)?;
    sandbox.load("busybox")?;
    let name = format!("{}/box", registry.address);
    sandbox.ok(["tag", "busybox", &name])?;
    same!(sandbox.ok(["push", "-q", &name])?, format!("{name}:latest"));
    contains!(sandbox.ok(["push", &name])?, "Using default tag: latest");
    Ok(())
}

fn push_refusals(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox
        .dhow(["push", "127.0.0.1:1/nosuch"])?
        .fails(1, &["does not exist locally with the tag: 127.0.0.1:1/nosuch"])?;
    sandbox.ok(["tag", "busybox", "127.0.0.1:1/box"])?;
    sandbox.dhow(["push", "127.0.0.1:1/box"])?.fails(1, &["refused"])?;
    sandbox.dhow(["push", &format!("busybox@sha256:{}", "0".repeat(64))])?.fails(1, &["digest reference"])?;
    sandbox.dhow(["push", "--platform", "linux/s390x", "127.0.0.1:1/box"])?.fails(1, &["linux/s390x"])
}

fn push_zstd_and_plain(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let origin = Registry::start(sandbox, &["busybox"], None)?;
    let target = Registry::empty(sandbox, "target", None)?;
    for tag in ["zstd", "plain"] {
        let (name, new) =
            (format!("{}/library/busybox:{tag}", origin.address), format!("{}/box:{tag}", target.address));
        sandbox.ok(["pull", "-q", &name])?;
        sandbox.ok(["tag", &name, &new])?;
        sandbox.ok(["push", &new])?;
        same!(digest_at(&target.address, "box", tag)?, digest_at(&origin.address, "library/busybox", tag)?);
    }
    Ok(())
}

fn with_password(sandbox: &Sandbox) -> Result<Registry> {
    let Some(htpasswd) = host::program("htpasswd") else { return crate::case::skip("htpasswd is not installed") };
    let line = host::succeed(Command::new(htpasswd).args(["-nbB", "user", "sec ret:"]))?;
    let file = sandbox.file("htpasswd", line)?;
    Registry::empty(sandbox, "target", Some(&file))
}

fn login_and_logout(sandbox: &Sandbox) -> Result<()> {
    let registry = with_password(sandbox)?;
    sandbox.load("busybox")?;
    let name = format!("{}/team/box:1", registry.address);
    sandbox.ok(["tag", "busybox", &name])?;
    sandbox.dhow(["push", &name])?.fails(1, &["login"])?;
    let login = ["login", "-u", "user", "--password-stdin", &registry.address];
    let output = sandbox.dhow_with_input("sec ret:\n", login)?;
    contains!(output.stderr, "stored unencrypted");
    contains!(output.success()?, "Login Succeeded");
    let file = sandbox.path("docker/config.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions());
    same!(mode & 0o777, 0o600);
    // user:sec ret:
    contains!(fs::read_to_string(&file)?, "dXNlcjpzZWMgcmV0Og==");
    sandbox.ok(["push", &name])?;
    sandbox.ok(["rmi", &name])?;
    sandbox.ok(["pull", "-q", &name])?;
    // skopeo reads the same file.
    if host::program("skopeo").is_some() {
        let source = format!("docker://{name}");
        let authfile = file.to_string_lossy().into_owned();
        host::succeed(Command::new("skopeo").args([
            "inspect",
            "--tls-verify=false",
            "--authfile",
            &authfile,
            &source,
        ]))?;
    }
    contains!(sandbox.ok(["logout", &registry.address])?, "Removing login credentials for");
    contains!(sandbox.ok(["logout", &registry.address])?, "Removing login credentials for");
    sandbox.dhow(["pull", &name])?.fails(1, &["login"])
}

fn login_refusals(sandbox: &Sandbox) -> Result<()> {
    let registry = with_password(sandbox)?;
    let at = registry.address.as_str();
    let output = sandbox.dhow(["login", "-u", "user", "-p", "wr0ng", at])?;
    contains!(output.stderr, "Using --password via the CLI is insecure");
    ensure!(!output.stderr.contains("wr0ng"), "the password is in the error");
    output.fails(1, &["refused"])?;
    ensure!(!sandbox.path("docker/config.json").exists(), "a refused login was kept");
    sandbox.dhow(["login", "--password-stdin", at])?.fails(1, &["Must provide --username"])?;
    sandbox.dhow(["login", "-p", "x", "--password-stdin", "-u", "u", at])?.fails(1, &["mutually exclusive"])?;
    sandbox.dhow(["login", at])?.fails(1, &["non TTY device"])?;
    sandbox.dhow(["login", "-u", "u", "-p", "p", "no host"])?.fails(1, &["not the name of a registry"])?;
    // A broken file is not replaced.
    fs::create_dir_all(sandbox.path("docker"))?;
    fs::write(sandbox.path("docker/config.json"), "{")?;
    sandbox.dhow_with_input("sec ret:", ["login", "-u", "user", "--password-stdin", at])?.fails(1, &["config.json"])?;
    same!(fs::read_to_string(sandbox.path("docker/config.json"))?, "{");
    Ok(())
}

fn login_with_a_helper(sandbox: &Sandbox) -> Result<()> {
    let registry = with_password(sandbox)?;
    let kept = sandbox.path("files/kept").to_string_lossy().into_owned();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\nstore) cat >{kept};;\nget) cat {kept} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\nerase) rm -f {kept};;\nesac\n"
    );
    let helper = sandbox.file("bin/docker-credential-ours", script)?;
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::create_dir_all(sandbox.path("docker"))?;
    fs::write(sandbox.path("docker/config.json"), r#"{"credsStore":"ours"}"#)?;
    let path = format!("{}:{}", sandbox.path("files/bin").display(), std::env::var("PATH")?);
    let run = |input: &str, arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        command.env("PATH", &path);
        sandbox.finish_command(command, input)
    };
    let at = registry.address.as_str();
    let output = run("sec ret:", &["login", "-u", "user", "--password-stdin", at])?;
    ensure!(!output.stderr.contains("unencrypted"), "{}", output.stderr);
    output.success()?;
    contains!(fs::read_to_string(&kept)?, "\"Secret\":\"sec ret:\"");
    ensure!(!fs::read_to_string(sandbox.path("docker/config.json"))?.contains("auth\""), "the password is in the file");
    sandbox.load("busybox")?;
    let name = format!("{at}/box:1");
    sandbox.ok(["tag", "busybox", &name])?;
    run("", &["push", &name])?.success()?;
    run("", &["logout", at])?.success()?;
    ensure!(!fs::exists(&kept)?, "the helper still has it");
    run("", &["push", &name])?.fails(1, &["login"])
}

fn mirrors_are_asked_first(sandbox: &Sandbox) -> Result<()> {
    let mirror = Registry::start(sandbox, &["busybox"], None)?;
    let text = format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{}\"\n[[registry]]\nlocation = \"bad.test\"\nblocked = true\n",
        mirror.address
    );
    let file = sandbox.file("registries.conf", text)?;
    let run = |arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        command.env("CONTAINERS_REGISTRIES_CONF", &file);
        sandbox.finish_command(command, "")
    };
    run(&["pull", "-q", "busybox"])?.success()?;
    // It has the name that was asked for, not the mirror's.
    same!(sandbox.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"])?, "busybox:latest");
    run(&["pull", "bad.test/x"])?.fails(1, &["blocked"])
}

fn manifest_lists(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let registry = Registry::empty(sandbox, "target", None)?;
    sandbox.load("busybox")?;
    let at = |name: &str| format!("{}/{name}", registry.address);
    for name in ["a:1", "b:1"] {
        sandbox.ok(["tag", "busybox", &at(name)])?;
        sandbox.ok(["push", "-q", &at(name)])?;
    }
    let manifest = json(&sandbox.ok(["manifest", "inspect", &at("a:1")])?)?;
    same!(manifest["schemaVersion"], 2);
    let verbose = json(&sandbox.ok(["manifest", "inspect", "-v", &at("a:1")])?)?;
    same!(verbose["Ref"], at("a:1"));
    ensure!(verbose["Descriptor"]["digest"].is_string() && verbose["OCIManifest"].is_object(), "{verbose}");
    let list = at("list:1");
    contains!(
        sandbox.ok(["manifest", "create", &list, &at("a:1"), &at("b:1")])?,
        format!("Created manifest list {list}")
    );
    sandbox.dhow(["manifest", "create", &list, &at("a:1")])?.fails(1, &["--amend"])?;
    sandbox.ok(["manifest", "annotate", "--arch", "arm64", "--variant", "v8", &list, &at("b:1")])?;
    sandbox.dhow(["manifest", "annotate", "--arch", "arm64", &list, &at("c:1")])?.fails(1, &["does not exist in"])?;
    let index = json(&sandbox.ok(["manifest", "inspect", &list])?)?;
    same!(index["manifests"][1]["platform"]["architecture"], "arm64");
    let digest = sandbox.ok(["manifest", "push", "-p", &list])?;
    same!(digest_at(&registry.address, "list", "1")?, digest);
    sandbox.dhow(["manifest", "rm", &list])?.fails(1, &["no such manifest"])?;
    // It is an image for this processor, taken from another repository.
    sandbox.ok(["rmi", "-f", "busybox", &at("a:1"), &at("b:1")])?;
    sandbox.ok(["image", "prune", "-a", "-f"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", &list, "echo", "runs"])?, "runs");
    let all = json(&sandbox.ok(["manifest", "inspect", "-v", &list])?)?;
    same!(all.as_array().map(Vec::len), Some(2));
    sandbox.dhow(["manifest", "inspect", &at("nosuch:1")])?.fails(1, &["not found"])
}

fn search(sandbox: &Sandbox) -> Result<()> {
    let address = crate::registry::serve(|request, stream| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let body = match path.starts_with("/v1/search?q=red%20is&n=") {
            true => {
                r#"{"results":[{"name":"redis","description":"in\u001b[31m red","star_count":12,"is_official":true},{"name":"x/redis","description":null,"star_count":1}]}"#
            }
            false => "{}",
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })?;
    let term = format!("{address}/red is");
    let text = sandbox.ok(["search", &term])?;
    for word in ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "redis", "[OK]"] {
        contains!(text, word);
    }
    ensure!(!text.contains('\u{1b}'), "{text:?}");
    same!(sandbox.ok(["search", "--format", "{{.Name}}", "-f", "stars=5", &term])?, "redis");
    same!(sandbox.ok(["search", "--format", "{{.Name}}", "-f", "is-official=false", &term])?, "x/redis");
    sandbox.dhow(["search", "--limit", "0", &term])?.fails(125, &["limit"])
}

/// A committed layer goes compressed, those below it as they were; what arrives is the image, and saves bit for bit.
fn push_what_was_committed(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::empty(sandbox, "target", None)?;
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "sh", "-c", "echo new >/file; rm /bin/vi"])?;
    sandbox.ok(["start", "-a", &id])?;
    let name = format!("{}/box:1", registry.address);
    let image = sandbox.ok(["commit", &id, &name])?;
    sandbox.ok(["rm", &id])?;
    sandbox.ok(["push", "-q", &name])?;
    let manifest = json(&sandbox.ok(["manifest", "inspect", &name])?)?;
    let kinds = manifest["layers"].as_array().context("no layers")?.iter().map(|layer| layer["mediaType"].to_string());
    ensure!(kinds.clone().count() == 2 && kinds.clone().all(|kind| kind.contains("gzip")), "{manifest}");
    sandbox.ok(["image", "prune", "-a", "-f"])?;
    sandbox.ok(["pull", "-q", &name])?;
    same!(sandbox.ok(["images", "-q", "--no-trunc"])?, image);
    same!(sandbox.ok(["run", "--rm", "--network", "none", &name, "cat", "/file"])?, "new");
    contains!(sandbox.ok(["system", "check"])?, "1 images, 2 layers, 2 documents: 0 problems");
    contains!(sandbox.ok(["image", "diff", &name])?, "D /bin/vi");
    Ok(())
}
