//! Images: load, pull, list, tag, inspect, remove.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same};
use crate::host;
use crate::registry::{Layout, Registry};
use crate::sandbox::Sandbox;

cases![images:
    load_both_forms, load_from_input, load_other_compressions, load_is_idempotent, list, tag_and_remove, remove_in_use,
    image_inspect, shared_layers_are_kept_once, index_picks_this_processor, debian_runs, pull, pull_again_says_so,
    pull_by_digest, pull_compressions, run_pulls_what_is_missing, pull_policies, basic_authentication, info_names_insecure_registries, archives_of_others,
];

fn load_both_forms(sandbox: &Sandbox) -> Result<()> {
    for form in ["oci", "docker"] {
        let text = sandbox.ok(["load", "-i", &sandbox.archive("busybox", form)?])?;
        contains!(text, "Loaded image: busybox:latest");
        same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
        sandbox.ok(["rmi", "busybox"])?;
    }
    Ok(())
}

fn load_from_input(sandbox: &Sandbox) -> Result<()> {
    let archive = fs::File::open(sandbox.archive("busybox", "docker")?)?;
    let output = sandbox.command(["load"]).stdin(archive).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    Ok(())
}

fn load_other_compressions(sandbox: &Sandbox) -> Result<()> {
    for tag in ["zstd", "plain"] {
        sandbox.load(&format!("busybox-{tag}"))?;
        let image = format!("busybox:{tag}");
        same!(sandbox.ok(["run", "--rm", "--network", "none", &image, "echo", "runs"])?, "runs");
    }
    Ok(())
}

fn load_is_idempotent(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let before = sandbox.ok(["images", "-q", "--no-trunc"])?;
    sandbox.load("busybox")?;
    same!(sandbox.ok(["images", "-q", "--no-trunc"])?, before);
    same!(before.lines().count(), 1);
    Ok(())
}

fn list(sandbox: &Sandbox) -> Result<()> {
    same!(sandbox.ok(["images", "-q"])?, "");
    sandbox.load("busybox")?;
    let text = sandbox.ok(["images"])?;
    for word in ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "busybox", "latest"] {
        contains!(text, word);
    }
    same!(sandbox.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"])?, "busybox:latest");
    same!(sandbox.ok(["images", "-q", "nosuch"])?, "");
    Ok(())
}

fn tag_and_remove(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["tag", "busybox", "registry.example/team/app:1.0"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "registry.example/team/app:1.0", "echo", "same"])?, "same");
    contains!(sandbox.ok(["rmi", "busybox:latest"])?, "Untagged: busybox:latest");
    contains!(sandbox.ok(["rmi", "registry.example/team/app:1.0"])?, "Deleted: sha256:");
    same!(sandbox.ok(["images", "-q"])?, "");
    let layers = fs::read_dir(sandbox.path("data/layers")).map(Iterator::count).unwrap_or(0);
    same!(layers, 0, "the layer's directory was not given back");
    sandbox.dhow(["rmi", "busybox"])?.fails(1, &["no such image", "busybox"])?;
    sandbox.dhow(["tag", "nosuch", "x"])?.fails(1, &["no such image"])
}

fn remove_in_use(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "echo", "still here"])?;
    sandbox.dhow(["rmi", "busybox"])?.fails(1, &[&id[..12]])?;
    same!(sandbox.ok(["start", "-a", &id])?, "still here");
    // By force the name goes; the container keeps its layers.
    sandbox.ok(["rmi", "-f", "busybox"])?;
    same!(sandbox.ok(["start", "-a", &id])?, "still here");
    Ok(())
}

fn image_inspect(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let all: Value = serde_json::from_str(&sandbox.ok(["image", "inspect", "busybox"])?)?;
    let image = &all[0];
    same!(image["RepoTags"], serde_json::json!(["busybox:latest"]));
    same!(image["Config"]["Cmd"], serde_json::json!(["sh"]));
    same!(image["Architecture"], "amd64");
    same!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    same!(sandbox.ok(["image", "inspect", "--format", "{{.Os}}", "busybox"])?, "linux");
    sandbox.dhow(["image", "inspect", "nosuch"])?.fails(1, &["no such image", "nosuch"])
}

fn shared_layers_are_kept_once(sandbox: &Sandbox) -> Result<()> {
    let layers = || fs::read_dir(sandbox.path("data/layers")).map(Iterator::count).context("read data/layers");
    sandbox.load("debian")?;
    same!(layers()?, 1);
    sandbox.load("redis")?;
    same!(layers()?, 2);
    sandbox.ok(["rmi", "debian:12"])?;
    same!(layers()?, 2);
    same!(
        sandbox
            .ok(["run", "--rm", "--network", "none", "--entrypoint", "cat", "redis:7", "/etc/debian_version"])?
            .starts_with("12"),
        true
    );
    Ok(())
}

fn index_picks_this_processor(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("multi")?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "multi", "cat", "/README"])?, "amd64");
    Ok(())
}

fn debian_runs(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("debian")?;
    let script =
        "dpkg --audit && dpkg -l | grep -c ^ii; stat -c '%a %U' /usr/bin/passwd /tmp; ls -l /usr/bin/perl5* | wc -l";
    let text = sandbox.ok(["run", "--rm", "--network", "none", "debian:12", "sh", "-c", script])?;
    contains!(text, "4755 root\n1777 root");
    Ok(())
}

fn pull(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox", "multi"], None)?;
    let name = format!("{}/library/busybox", registry.address);
    let text = sandbox.ok(["pull", &name])?;
    contains!(text, "Digest: sha256:");
    contains!(text, format!("{name}:latest"));
    same!(sandbox.ok(["run", "--rm", "--network", "none", &name, "echo", "runs"])?, "runs");
    let multi = format!("{}/library/multi", registry.address);
    same!(sandbox.ok(["run", "--rm", "--network", "none", &multi, "cat", "/README"])?, "amd64");
    // -q prints the name only.
    same!(sandbox.ok(["pull", "-q", &name])?, format!("{name}:latest"));
    Ok(())
}

fn pull_again_says_so(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let name = format!("{}/library/busybox", registry.address);
    contains!(sandbox.ok(["pull", &name])?, "Downloaded newer image");
    contains!(sandbox.ok(["pull", &name])?, "up to date");
    // The image is here, and what it had was this name: Docker's own tests want no word of its layers.
    sandbox.ok(["tag", &name, "kept:1"])?;
    sandbox.ok(["rmi", &name])?;
    let again = sandbox.ok(["pull", &name])?;
    contains!(again, "Downloaded newer image");
    ensure!(!again.contains("Already exists"), "{again}");
    Ok(())
}

fn pull_by_digest(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let (digest, _) = Layout::unpack(sandbox, "busybox")?.manifest()?;
    let name = format!("{}/library/busybox@{digest}", registry.address);
    sandbox.ok(["pull", &name])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", &name, "echo", "runs"])?, "runs");
    let wrong = format!("{}/library/busybox@sha256:{}", registry.address, "0".repeat(64));
    sandbox.dhow(["pull", &wrong])?.fails(1, &["unknown"])
}

fn pull_compressions(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    for tag in ["zstd", "plain"] {
        let name = format!("{}/library/busybox:{tag}", registry.address);
        same!(sandbox.ok(["run", "--rm", "--network", "none", &name, "echo", "runs"])?, "runs");
    }
    Ok(())
}

fn run_pulls_what_is_missing(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["layers20", "busybox"], None)?;
    let name = format!("{}/library/busybox", registry.address);
    let output = sandbox.dhow(["run", "--rm", "--network", "none", &name, "echo", "runs"])?;
    // Progress is no output of the command.
    same!(output.stdout, "runs\n");
    contains!(output.stderr, "Unable to find image");
    sandbox.ok(["pull", &format!("{}/library/layers20", registry.address)])?;
    Ok(())
}

fn pull_policies(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let name = format!("{}/library/busybox", registry.address);
    sandbox
        .dhow(["run", "--rm", "--pull", "never", "--network", "none", &name, "true"])?
        .fails(125, &["no such image"])?;
    sandbox.ok(["run", "--rm", "--pull", "always", "--network", "none", &name, "true"])?;
    drop(registry);
    sandbox.ok(["run", "--rm", "--network", "none", &name, "true"])?;
    sandbox.dhow(["run", "--rm", "--pull", "always", "--network", "none", &name, "true"])?.fails(125, &["refused"])
}

fn basic_authentication(sandbox: &Sandbox) -> Result<()> {
    let Some(htpasswd) = host::program("htpasswd") else { return crate::case::skip("htpasswd is not installed") };
    let line = host::succeed(Command::new(htpasswd).args(["-nbB", "user", "secret"]))?;
    let file = sandbox.file("htpasswd", line)?;
    let registry = Registry::start(sandbox, &["busybox"], Some(&file))?;
    let name = format!("{}/library/busybox", registry.address);
    // Clients look for these words.
    sandbox.dhow(["pull", &name])?.fails(1, &["login", "unauthorized: authentication required"])?;
    let login = |account: &str| -> Result<()> {
        fs::create_dir_all(sandbox.path("docker"))?;
        let text = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{account}\"}}}}}}", registry.address);
        Ok(fs::write(sandbox.path("docker/config.json"), text)?)
    };
    // user:secret, then user:wrong.
    login("dXNlcjpzZWNyZXQ=")?;
    sandbox.ok(["pull", &name])?;
    sandbox.ok(["rmi", &name])?;
    login("dXNlcjp3cm9uZw==")?;
    let output = sandbox.dhow(["pull", &name])?;
    ensure!(!output.stderr.contains("wrong") && !output.stderr.contains("dXNlc"), "the password is in the error");
    output.fails(1, &["login"])
}

fn info_names_insecure_registries(sandbox: &Sandbox) -> Result<()> {
    let text = "[[registry]]\nprefix = 'plain.example:5000'\nlocation = 'plain.example:5000'\ninsecure = true\n";
    let file = sandbox.file("registries.conf", text)?;
    let info = |words: &[&str]| -> Result<String> {
        let mut command = sandbox.command([&["info"], words].concat());
        command.env("CONTAINERS_REGISTRIES_CONF", &file).env("HTTPS_PROXY", "http://me:secret@proxy.example:3128");
        host::succeed(&mut command)
    };
    let text = info(&[])?;
    contains!(text, "Insecure Registries:\n plain.example:5000\n ::1/128\n 127.0.0.0/8\n");
    contains!(text, "HTTPS Proxy: http://xxxxx:xxxxx@proxy.example:3128\n");
    let secure = "{{(index .RegistryConfig.IndexConfigs \"plain.example:5000\").Secure}} {{.HttpsProxy}}";
    same!(info(&["--format", secure])?.trim(), "false http://xxxxx:xxxxx@proxy.example:3128");
    // What it cannot read it says, and the rest all the same.
    fs::write(&file, "[[registry]\n")?;
    contains!(info(&["--format", "{{.Warnings}}"])?, "registries.conf");
    Ok(())
}

/// An image copied by skopeo is the same image.
fn archives_of_others(sandbox: &Sandbox) -> Result<()> {
    if host::program("skopeo").is_none() {
        return crate::case::skip("skopeo is not installed");
    }
    let source = format!("oci-archive:{}", sandbox.archive("busybox", "oci")?);
    let archive = sandbox.path("files/skopeo.tar");
    let target = format!("docker-archive:{}:by-skopeo:1", archive.display());
    host::succeed(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]))?;
    sandbox.ok(["load", "-i", &archive.to_string_lossy()])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "by-skopeo:1", "echo", "runs"])?, "runs");
    Ok(())
}
