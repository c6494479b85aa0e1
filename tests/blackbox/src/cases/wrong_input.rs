//! Wrong input and hostile machines: each gets one sentence and its exit code, and leaves nothing.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::{self, Layout, Registry};
use crate::sandbox::Sandbox;

cases![wrong_input:
    unknown_image, unreachable_registry, bad_reference, corrupt_layer_in_pull, corrupt_layer_in_archive, truncated_archive,
    not_an_archive, missing_archive, huge_manifest, layer_bomb [Root], disk_full [Root], read_only_state [Root],
    no_user_namespaces [User], layer_that_lies_about_its_size, archive_that_climbs, unknown_verb,
];

/// Nothing that was begun is left in the store.
fn nothing_staged(sandbox: &Sandbox) -> Result<()> {
    for directory in ["data/staging", "data/layers"] {
        let left = fs::read_dir(sandbox.path(directory)).map(Iterator::count).unwrap_or(0);
        same!(left, 0, "left in {directory}");
    }
    Ok(())
}

fn unknown_image(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let name = format!("{}/library/nosuch", registry.address);
    sandbox.dhow(["pull", &name])?.fails(1, &[&name, "unknown"])?;
    sandbox.dhow(["run", "--rm", &name])?.fails(125, &[&name, "unknown"])?;
    let tag = format!("{}/library/busybox:nosuch", registry.address);
    sandbox.dhow(["pull", &tag])?.fails(1, &[&tag, "unknown"])
}

fn unreachable_registry(sandbox: &Sandbox) -> Result<()> {
    let name = format!("{}/app", registry::free_address()?);
    sandbox.dhow(["pull", &name])?.fails(1, &[&name, "refused"])?;
    sandbox.dhow(["run", "--rm", &name, "true"])?.fails(125, &["refused"])?;
    sandbox.dhow(["pull", "no-such-host.invalid/app"])?.fails(1, &["no-such-host.invalid"])
}

fn bad_reference(sandbox: &Sandbox) -> Result<()> {
    for name in ["UPPER", "a:b:c", "name@sha256:short", "", "-x/y", "a//b"] {
        let output = sandbox.dhow(["pull", "--", name])?;
        output.fails(1, &[])?;
    }
    sandbox.dhow(["run", "--rm", "UPPER"])?.fails(125, &["lower"])
}

fn corrupt_layer_in_pull(sandbox: &Sandbox) -> Result<()> {
    let layout = Layout::unpack(sandbox, "busybox")?;
    let digest = layout.layer(0)?;
    flip(&layout.blob(&digest))?;
    let name = format!("{}/app", layout.serve()?);
    let output = sandbox.dhow(["pull", &name])?;
    digests_named(&output.stderr, &digest)?;
    output.fails(1, &[&digest])?;
    nothing_staged(sandbox)
}

fn corrupt_layer_in_archive(sandbox: &Sandbox) -> Result<()> {
    let layout = Layout::unpack(sandbox, "busybox")?;
    let digest = layout.layer(0)?;
    flip(&layout.blob(&digest))?;
    let archive = layout.pack(sandbox, "corrupt.tar")?;
    let output = sandbox.dhow(["load", "-i", &archive])?;
    digests_named(&output.stderr, &digest)?;
    output.fails(1, &[&digest])?;
    nothing_staged(sandbox)
}

/// The last byte of a gzip stream is part of the length of what it holds: only the digest of the blob is sure to notice.
fn flip(file: &std::path::Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // The archive's files are read-only in some layouts.
    fs::remove_file(file)?;
    fs::write(file, bytes)?;
    Ok(())
}

/// The error names the blob, and expected and actual digest.
fn digests_named(text: &str, expected: &str) -> Result<()> {
    contains!(text, expected);
    let digests =
        text.split("sha256:").skip(1).map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>());
    let other = digests.filter(|hex| hex.len() == 64 && !expected.ends_with(hex.as_str())).count();
    ensure!(other > 0, "no actual digest in: {text}");
    Ok(())
}

fn truncated_archive(sandbox: &Sandbox) -> Result<()> {
    for form in ["oci", "docker"] {
        let whole = fs::read(sandbox.archive("busybox", form)?)?;
        for part in [whole.len() / 2, 700, 1] {
            let file = sandbox.file("cut.tar", &whole[..part])?;
            sandbox.dhow(["load", "-i", &file])?.fails(1, &["archive"])?;
        }
    }
    nothing_staged(sandbox)
}

fn not_an_archive(sandbox: &Sandbox) -> Result<()> {
    for (name, bytes) in
        [("text.tar", "just text\n".repeat(1000).into_bytes()), ("zeros.tar", vec![0; 10_240]), ("empty.tar", vec![])]
    {
        let file = sandbox.file(name, bytes)?;
        sandbox.dhow(["load", "-i", &file])?.fails(1, &["archive"])?;
    }
    Ok(())
}

fn missing_archive(sandbox: &Sandbox) -> Result<()> {
    sandbox.dhow(["load", "-i", "/no/such.tar"])?.fails(1, &["/no/such.tar", "no such file"])
}

/// A manifest of 100 MB is refused before it is read.
fn huge_manifest(sandbox: &Sandbox) -> Result<()> {
    let address = registry::serve(|request, stream| {
        if !request.contains("/manifests/") {
            return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}");
        }
        // Without a length, so that only reading tells.
        let kind = "application/vnd.oci.image.manifest.v1+json";
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{{\"schemaVersion\":2,\"x\":\""
        )?;
        let filling = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            stream.write_all(&filling)?;
        }
        stream.write_all(b"\"}")
    })?;
    let name = format!("{address}/app");
    sandbox.dhow(["pull", &name])?.fails(1, &["manifest"])
}

/// Half a gigabyte of zeros in half a megabyte does not fill a small disk for good: what was written is given back.
fn layer_bomb(sandbox: &Sandbox) -> Result<()> {
    let _disk = small_disk(sandbox, "64m")?;
    let archive = sandbox.path("files/bomb.tar");
    let script = "cd $1 && mkdir layer && truncate -s 512M zeros && tar -c zeros | gzip -1 >layer/layer.tar && rm zeros &&
        id=$(yes '' | head -c 32 | sha256sum | cut -c 1-64) &&
        echo '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:'$id'\"]}}' >config.json &&
        echo '[{\"Config\":\"config.json\",\"RepoTags\":[\"bomb:latest\"],\"Layers\":[\"layer/layer.tar\"]}]' >manifest.json &&
        tar -cf bomb.tar manifest.json config.json layer";
    host::succeed(Command::new("sh").args(["-c", script, "sh"]).arg(sandbox.path("files")))?;
    let output = sandbox.dhow(["load", "-i", &archive.to_string_lossy()])?;
    ensure!(output.code == 1, "exit code {}: {}", output.code, output.stderr);
    nothing_staged(sandbox)
}

/// A file system of this size where dhow keeps its data.
fn small_disk(sandbox: &Sandbox, size: &str) -> Result<Mounted> {
    let data = sandbox.path("data");
    fs::create_dir_all(&data)?;
    host::succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "small-disk"]).arg(&data))?;
    Ok(Mounted(data))
}

/// Unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // The test's mount namespace ends soon anyway.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn disk_full(sandbox: &Sandbox) -> Result<()> {
    let _disk = small_disk(sandbox, "40m")?;
    let archive = sandbox.archive("debian", "oci")?;
    sandbox.dhow(["load", "-i", &archive])?.fails(1, &["no space left"])?;
    nothing_staged(sandbox)?;
    // What fits still works.
    sandbox.load("busybox")?;
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    sandbox.clear();
    Ok(())
}

fn read_only_state(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let data = sandbox.path("data");
    host::succeed(Command::new("mount").args(["--bind"]).arg(&data).arg(&data))?;
    let _mounted = Mounted(data.clone());
    host::succeed(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&data))?;
    sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "true"])?.fails(125, &["read-only"])?;
    let archive = sandbox.archive("debian", "oci")?;
    sandbox.dhow(["load", "-i", &archive])?.fails(1, &["read-only"])
}

/// An administrator has forbidden user namespaces: the sentence says which switch.
fn no_user_namespaces(sandbox: &Sandbox) -> Result<()> {
    let inner = sandbox.command(["run", "--rm", "--network", "none", "dhow/hello"]);
    let script =
        "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"";
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    if host::succeed(Command::new("unshare").args(["--user", "--map-current-user", "--keep-caps", "true"])).is_err() {
        return skip("unshare cannot make the namespace that forbids");
    }
    sandbox.finish_command(outer, "")?.fails(125, &["user namespace"])
}

fn layer_that_lies_about_its_size(sandbox: &Sandbox) -> Result<()> {
    let layout = Layout::unpack(sandbox, "busybox")?;
    let digest = layout.layer(0)?;
    let mut bytes = fs::read(layout.blob(&digest))?;
    bytes.extend_from_slice(&[0; 100_000]);
    fs::write(layout.blob(&digest), bytes)?;
    let name = format!("{}/app", layout.serve()?);
    sandbox.dhow(["pull", &name])?.fails(1, &[&digest])?;
    nothing_staged(sandbox)
}

/// A layer with names that climb out, absolute names and links to follow: whatever is made of it, it is made inside.
fn archive_that_climbs(sandbox: &Sandbox) -> Result<()> {
    let script = r#"cd "$1" && mkdir -p tree work layer && ln -s "$1/target" tree/link && mkdir -p target &&
        echo evil >work/evil && tar -cf layer.tar -C tree link &&
        tar -rPf layer.tar --transform="s|.*|../../../../../../..$1/target/climbed|" work/evil &&
        tar -rPf layer.tar --transform="s|.*|$1/target/absolute|" work/evil &&
        tar -rPf layer.tar --transform="s|.*|link/through|" work/evil && mv layer.tar layer/ &&
        id=$(sha256sum <layer/layer.tar | cut -c 1-64) &&
        echo '{"architecture":"amd64","os":"linux","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":["sha256:'$id'"]}}' >config.json &&
        echo '[{"Config":"config.json","RepoTags":["climb:latest"],"Layers":["layer/layer.tar"]}]' >manifest.json &&
        tar -cf climb.tar manifest.json config.json layer"#;
    host::succeed(Command::new("sh").args(["-c", script, "sh"]).arg(sandbox.path("files")))?;
    let output = sandbox.dhow(["load", "-i", &sandbox.path("files/climb.tar").to_string_lossy()])?;
    ensure!(output.code <= 1 && !output.stderr.contains("panicked"), "exit code {}: {}", output.code, output.stderr);
    let made: Vec<_> = fs::read_dir(sandbox.path("files/target"))?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(made.is_empty(), "made outside: {made:?}");
    Ok(())
}

fn unknown_verb(sandbox: &Sandbox) -> Result<()> {
    let output = sandbox.dhow(["no-such-verb"])?;
    ensure!(output.code != 0 && output.stderr.contains("no-such-verb"), "exit code {}: {}", output.code, output.stderr);
    let status = sandbox.command(["ps", "--no-such-flag"]).stderr(Stdio::null()).status()?;
    same!(status.code().context("no code")?, 125);
    Ok(())
}
