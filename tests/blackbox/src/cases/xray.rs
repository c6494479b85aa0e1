//! `dhow xray`: what the kernel says of a container.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains};
use crate::host;
use crate::sandbox::Sandbox;

cases![xray: text, processes_and_neighbours, json, stopped, tree];

fn text(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox
        .detached(&["--network", "none", "--cap-drop", "ALL", "--cap-add", "CHOWN"], "echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    let text = sandbox.ok(["xray", &id])?;
    let lower = text.to_lowercase();
    for section in ["namespace", "cgroup", "layer", "mount", "capabilit", "seccomp", "network"] {
        contains!(lower, section);
    }
    contains!(lower, "chown");
    // The inode numbers of namespaces as they are now.
    let pid = sandbox.pid(&id)?.to_string();
    for kind in ["net", "pid", "mnt"] {
        let link = host::namespace(&pid, kind)?;
        let number = link.trim_start_matches(|letter: char| !letter.is_ascii_digit()).trim_end_matches(']').to_owned();
        contains!(text, &number);
    }
    Ok(())
}

/// Other processes, limits, ids, and whose namespaces it is in; what a container says of itself says nothing to the terminal.
fn processes_and_neighbours(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "sleep 4711 & exec sh -c 'sleep 4712; :' \u{1b}[31mred";
    sandbox.detached(&["--network", "none", "--name", "first", "--ulimit", "nofile=77:99"], script)?;
    sandbox.detached(&["--network", "container:first", "--name", "second"], "exec sleep 1000")?;
    host::until("both sleep", sandbox.seconds(10), || {
        let text = sandbox.ok(["xray", "first"])?;
        Ok((text.contains("sleep 4711") && text.contains("sleep 4712")).then_some(()))
    })?;
    let text = sandbox.ok(["xray", "first"])?;
    contains!(text, "77 files, at most 99");
    contains!(text, "shared with second");
    contains!(text, "\\u{1b}[31mred");
    ensure!(!text.contains('\u{1b}'), "{text:?}");
    let wanted = if host::is_root() { "as here" } else { "0 is " };
    ensure!(text.lines().any(|line| line.contains("user ids") && line.contains(wanted)), "{text}");
    contains!(sandbox.ok(["xray", "second"])?, "shared with first");
    Ok(())
}

fn json(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    let value: Value = serde_json::from_str(&sandbox.ok(["xray", "--format", "json", &id])?)?;
    ensure!(value.is_object() || value.is_array(), "{value}");
    Ok(())
}

fn stopped(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "true"])?;
    let output = sandbox.dhow(["xray", &id])?;
    // What is not there is not shown; a panic or an empty answer would be wrong either way.
    ensure!(output.code == 0 || output.stderr.to_lowercase().contains("not running"), "{output:?}");
    Ok(())
}

/// Who shares what: two containers of one image, of which one has joined the other's namespaces.
fn tree(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    sandbox.detached(&["--network", "none", "--name", "first", "-v", "data:/data"], script)?;
    sandbox.detached(&["--network", "container:first", "--name", "second", "-v", "data:/in:ro"], script)?;
    let text = sandbox.ok(["xray", "--tree"])?;
    let inode = host::namespace(&sandbox.pid("first")?.to_string(), "net")?;
    let shown = inode.replace(':', " ");
    contains!(text, &format!("─ {shown}\n│  ├─ "));
    contains!(text, "second  (/in, read-only)");
    contains!(text, "busybox:latest  (image)");
    let tree: Value = serde_json::from_str(&sandbox.ok(["xray", "--tree", "--format", "json"])?)?;
    let names: Vec<&str> = tree.as_array().into_iter().flatten().filter_map(|part| part["Name"].as_str()).collect();
    ensure!(names == ["Namespaces", "Networks", "Volumes", "Layers"], "{names:?}");
    sandbox.dhow(["xray", "--tree", "first"])?.fails(125, &["--tree"])?;
    sandbox.dhow(["xray"])?.fails(1, &["requires at least 1 argument"])
}
