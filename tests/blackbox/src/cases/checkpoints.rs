//! Checkpoint and restore, by the criu that is installed; where it does not work, that is what the test says.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![checkpoints:
    a_bundle_goes_on [Root], its_groups_come_again [Root], what_comes_from_the_host_comes_again [Root], refusals_of_the_runtime, a_container_goes_on [Root],
    a_container_that_is_left_running [Root], refusals_of_the_engine [Root], an_ordinary_user_is_told [User],
];

/// Counts a second's tenths in its memory, and says so in a file.
const COUNTER: &str =
    "i=0; while true; do i=$((i+1)); echo $i > /tmp/next; busybox mv /tmp/next /tmp/count; sleep 0.1; done";

pub fn criu() -> Result<()> {
    let check = match Command::new("criu").arg("check").stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return skip("criu is not installed"),
        other => other?,
    };
    if !check.status.success() {
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        return skip(format!("criu does not work here: {}", text.lines().next_back().unwrap_or_default()));
    }
    Ok(())
}

fn counter<'a>(sandbox: &'a Sandbox) -> Result<Bundle<'a>> {
    let mut bundle = Bundle::new(sandbox, COUNTER)?;
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["rlimits"] = json!([]);
    bundle.config["process"]["args"] = json!(["sh", "-c", COUNTER]);
    bundle.write()?;
    Ok(bundle)
}

fn count(bundle: &Bundle<'_>) -> u64 {
    let text = fs::read_to_string(bundle.path("rootfs/tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// criu mounts them, all by itself, in its working directory.
fn its_groups_come_again(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    let bundle = counter(sandbox)?;
    for (mode, directory) in [("soft", "images"), ("soft", "work"), ("full", "images")] {
        fs::create_dir_all(bundle.path("work"))?;
        bundle.detached(&["run", "-d", "one"])?;
        counts_beyond(sandbox, &bundle, 2)?;
        let flags = ["--manage-cgroups-mode", mode, "--image-path", "images", "--work-path", directory];
        bundle.oci(&[&["checkpoint"], &flags[..], &["one"]].concat())?.success()?;
        let before = count(&bundle);
        bundle.detached(&[&["restore", "-d"], &flags[..], &["one"]].concat())?;
        counts_beyond(sandbox, &bundle, before)?;
        same!(bundle.state("one")?["status"], "running");
        bundle.oci(&["delete", "--force", "one"])?.success()?;
        fs::remove_dir_all(bundle.path("images"))?;
        fs::remove_dir_all(bundle.path("work"))?;
        fs::remove_file(bundle.path("rootfs/tmp/count"))?;
    }
    Ok(())
}

fn counts_beyond(sandbox: &Sandbox, bundle: &Bundle<'_>, from: u64) -> Result<()> {
    host::until("counting", sandbox.seconds(10), || Ok((count(bundle) > from).then_some(())))
}

fn a_bundle_goes_on(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    let bundle = counter(sandbox)?;
    bundle.detached(&["run", "-d", "one"])?;
    counts_beyond(sandbox, &bundle, 5)?;
    bundle.oci(&["checkpoint", "--manage-cgroups-mode", "ignore", "one"])?.success()?;
    bundle.oci(&["state", "one"])?.fails(1, &["does not exist"])?;
    let before = count(&bundle);
    ensure!(bundle.path("checkpoint/inventory.img").exists(), "no image");
    // Under another name, twice: the files stay as they are.
    for id in ["two", "three"] {
        let words = ["restore", "-d", "--manage-cgroups-mode", "ignore", id];
        bundle.detached(&words)?;
        same!(bundle.state(id)?["status"], "running");
        counts_beyond(sandbox, &bundle, before + 3)?;
        // It did not begin anew.
        let now = count(&bundle);
        ensure!(now >= before, "{now} after {before}");
        same!(bundle.oci(&["exec", id, "echo", "inside"])?.success()?, "inside");
        bundle.oci(&["delete", "-f", id])?.success()?;
        fs::write(bundle.path("rootfs/tmp/count"), "0")?;
    }
    same!(bundle.oci(&["list", "-q"])?.success()?, "");
    Ok(())
}

/// Bind mounts through links, masks, a read-only path and the streams.
fn what_comes_from_the_host_comes_again(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    let mut bundle = counter(sandbox)?;
    fs::create_dir_all(bundle.path("rootfs/real"))?;
    symlink("/real", bundle.path("rootfs/link"))?;
    let source = sandbox.path("files/source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "from the host")?;
    bundle.config["mounts"].as_array_mut().context("mounts")?.push(json!({
        "destination": "/link/here", "source": source, "options": ["rbind", "ro"],
    }));
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/version", "/proc/acpi"]);
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    counts_beyond(sandbox, &bundle, 3)?;
    bundle.oci(&["checkpoint", "--manage-cgroups-mode", "ignore", "one"])?.success()?;
    bundle.detached(&["restore", "-d", "--manage-cgroups-mode", "ignore", "one"])?;
    let script =
        "cat /real/here/file; echo x > /real/here/file; stat -c %t:%T /proc/version; echo 1 > /proc/sys/kernel/msgmax";
    let output = bundle.oci(&["exec", "one", "sh", "-c", script])?;
    same!(output.stdout, "from the host1:3\n", "{}", output.stderr);
    same!(output.stderr.matches("Read-only file system").count(), 2, "{}", output.stderr);
    // The host saw none of the mounts that were made for this.
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!table.contains("/criu"), "{table}");
    Ok(())
}

fn refusals_of_the_runtime(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.oci(&["checkpoint", "nobody"])?.fails(1, &["does not exist"])?;
    bundle.detached(&["create", "one"])?;
    bundle.oci(&["checkpoint", "one"])?.fails(1, &["cannot be checkpointed in created state"])?;
    bundle.oci(&["start", "one"])?.success()?;
    bundle.oci(&["checkpoint", "--parent-path", "/absolute", "one"])?.fails(1, &["--parent-path"])?;
    bundle.oci(&["checkpoint", "--page-server", "nonsense", "one"])?.fails(1, &["ADDRESS:PORT"])?;
    bundle.oci(&["checkpoint", "--status-fd", "77", "one"])?.fails(1, &["--status-fd"])?;
    bundle.oci(&["restore", "two"])?.fails(1, &["no checkpoint"])?;
    let mut command = bundle.command(&["checkpoint", "one"]);
    command.env("PATH", "/nowhere");
    sandbox.finish_command(command, "")?.fails(1, &["criu", "not in $PATH"])?;
    same!(bundle.state("one")?["status"], "running");
    // What is no image leaves nothing behind.
    fs::create_dir(bundle.path("empty"))?;
    let output = bundle.oci(&["restore", "--image-path", "empty", "two"])?;
    ensure!(output.code == 1, "{output:?}");
    same!(bundle.oci(&["list", "-q"])?.success()?, "one");
    Ok(())
}

fn value(sandbox: &Sandbox, name: &str) -> Result<u64> {
    let text = sandbox.ok(["exec", name, "cat", "/tmp/count"])?;
    text.trim().parse().with_context(|| format!("{text:?} is no number"))
}

fn a_container_goes_on(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    sandbox.load("busybox")?;
    sandbox.ok(["run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", COUNTER])?;
    host::until("counting", sandbox.seconds(10), || Ok((value(sandbox, "one").unwrap_or(0) > 5).then_some(())))?;
    same!(sandbox.ok(["checkpoint", "create", "one", "first"])?, "first");
    same!(sandbox.inspect("one")?["State"]["Status"], "exited");
    same!(sandbox.ok(["checkpoint", "ls", "one"])?, "CHECKPOINT NAME\nfirst");
    same!(sandbox.ok(["start", "--checkpoint", "first", "one"])?, "one");
    same!(sandbox.inspect("one")?["State"]["Status"], "running");
    let now = value(sandbox, "one")?;
    ensure!(now > 5, "it began anew: {now}");
    host::until("counting", sandbox.seconds(10), || Ok((value(sandbox, "one")? > now).then_some(())))?;
    sandbox.ok(["stop", "-t", "0", "one"])?;
    // A start as always begins anew.
    sandbox.ok(["start", "one"])?;
    sandbox.ok(["checkpoint", "rm", "one", "first"])?;
    same!(sandbox.ok(["checkpoint", "ls", "one"])?, "CHECKPOINT NAME");
    sandbox.ok(["rm", "-f", "one"])?;
    Ok(())
}

fn a_container_that_is_left_running(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    sandbox.load("busybox")?;
    let place = sandbox.path("files/checkpoints").display().to_string();
    sandbox.ok([
        "run",
        "-d",
        "--name",
        "one",
        "--restart",
        "always",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        COUNTER,
    ])?;
    host::until("counting", sandbox.seconds(10), || Ok((value(sandbox, "one").unwrap_or(0) > 3).then_some(())))?;
    sandbox.ok(["checkpoint", "create", "--leave-running", "--checkpoint-dir", &place, "one", "c1"])?;
    same!(sandbox.inspect("one")?["State"]["Status"], "running");
    let output = sandbox.dhow(["checkpoint", "create", "--leave-running", "--checkpoint-dir", &place, "one", "c1"])?;
    output.fails(1, &["checkpoint with name c1 already exists"])?;
    // Its policy does not start it behind a checkpoint's back.
    sandbox.ok(["checkpoint", "create", "--checkpoint-dir", &place, "one", "c2"])?;
    same!(sandbox.inspect("one")?["State"]["Status"], "exited");
    sandbox.ok(["start", "--checkpoint", "c2", "--checkpoint-dir", &place, "one"])?;
    same!(sandbox.inspect("one")?["State"]["Status"], "running");
    sandbox.ok(["rm", "-f", "one"])?;
    Ok(())
}

fn refusals_of_the_engine(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "one", "busybox", "true"])?;
    sandbox.dhow(["checkpoint", "create", "one", "x"])?.fails(1, &["is not running"])?;
    sandbox.dhow(["checkpoint", "create", "nobody", "x"])?.fails(1, &["nobody"])?;
    sandbox.dhow(["checkpoint", "rm", "one", "x"])?.fails(1, &["checkpoint x does not exist"])?;
    sandbox.dhow(["start", "--checkpoint", "x", "one"])?.fails(1, &["checkpoint x does not exist"])?;
    sandbox.dhow(["checkpoint", "ls", "--checkpoint-dir", "/nowhere", "one"])?.success()?;
    sandbox.dhow(["checkpoint", "rm", "one", "../../x"])?.fails(1, &["Invalid checkpoint ID"])?;
    sandbox.ok(["rm", "one"])?;
    Ok(())
}

fn an_ordinary_user_is_told(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "100"])?;
    let output = sandbox.dhow(["checkpoint", "create", "one", "x"])?;
    contains!(output.stderr, "needs root of the machine");
    sandbox.ok(["rm", "-f", "one"])?;
    Ok(())
}
