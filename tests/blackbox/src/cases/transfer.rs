//! Images leave: save and push, and what others make of it.

use std::fs;
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
    push_refusals, push_zstd_and_plain,
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
    sandbox.load("layers20")?;
    let file = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    sandbox.ok(["save", "-o", &file, "debian:12", "layers20"])?;
    let script = "tar -xf \"$1\" -C \"$2\" && cd \"$2\"/blobs/sha256 && for f in *; do echo \"$f  $f\"; done | sha256sum -c --quiet && ls | wc -l";
    let directory = sandbox.path("files/out");
    fs::create_dir(&directory)?;
    let out = host::succeed(Command::new("sh").args(["-c", script, "sh", &file]).arg(&directory))?;
    // One layer and twenty, two configurations, two manifests.
    same!(out.trim(), "25");
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
    sandbox.load("layers20")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    let id = id.trim_start_matches("sha256:");
    let file = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    sandbox.ok(["save", "-o", &file, "layers20"])?;
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
    let origin = Registry::start(sandbox, &["debian", "layers20"], None)?;
    let target = Registry::empty(sandbox, "target", None)?;
    for (image, tag) in [("debian", "12"), ("layers20", "latest")] {
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
    let source = format!("docker://{}/copy/layers20:latest", target.address);
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
    sandbox.load("layers20")?;
    let (first, second) = (format!("{}/a/one:1", registry.address), format!("{}/b/two:2", registry.address));
    sandbox.ok(["tag", "layers20", &first])?;
    sandbox.ok(["push", &first])?;
    sandbox.ok(["tag", "layers20", &second])?;
    let text = sandbox.ok(["push", &second])?;
    same!(text.matches("Mounted from a/one").count(), 20, "{text}");
    ensure!(!text.contains("Pushed"), "{text}");
    same!(digest_at(&registry.address, "a/one", "1")?, digest_at(&registry.address, "b/two", "2")?);
    Ok(())
}

/// An image from Docker's archive had no manifest; it goes compressed, and with the same digest ever after.
fn push_what_was_loaded(sandbox: &Sandbox) -> Result<()> {
    needs(&["skopeo"])?;
    let registry = Registry::empty(sandbox, "target", None)?;
    let other = Registry::empty(sandbox, "other", None)?;
    sandbox.ok(["load", "-i", &sandbox.archive("debian", "docker")?])?;
    let name = format!("{}/debian:12", registry.address);
    sandbox.ok(["tag", "debian:12", &name])?;
    sandbox.ok(["push", &name])?;
    let raw = host::succeed(Command::new("skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}"),
    ]))?;
    let layer = &json(&raw)?["layers"][0];
    contains!(layer["mediaType"].to_string(), "gzip");
    ensure!(layer["size"].as_u64().unwrap_or(u64::MAX) < 80_000_000, "{layer}");
    let elsewhere = format!("{}/debian:12", other.address);
    sandbox.ok(["tag", "debian:12", &elsewhere])?;
    drop(registry);
    let output = sandbox.dhow(["push", &elsewhere])?;
    same!(output.stderr, "", "the same encoder gave another digest");
    same!(output.code, 0);
    contains!(output.stdout, format!("digest: {} size", digest_at(&other.address, "debian", "12")?));
    // It comes back as the same image.
    let id = sandbox.ok(["images", "-q", "--no-trunc", "debian:12"])?;
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
