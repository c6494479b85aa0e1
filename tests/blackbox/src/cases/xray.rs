//! `dhow xray`: what the kernel says of a container.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains};
use crate::host;
use crate::sandbox::Sandbox;

cases![xray: text, json, stopped];

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
