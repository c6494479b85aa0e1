//! Containers that other OCI runtimes make: `--runtime`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![runtimes:
    crun_makes_a_container [Root], runc_makes_a_container [Root], by_configuration [Root], what_it_is_killed_by_is_swept [Root],
    a_runtime_that_fails [Root], names_that_are_refused, refused_to_ordinary_users [User],
];

fn installed(name: &str) -> Result<String> {
    match host::program(name) {
        Some(path) => Ok(path.display().to_string()),
        None => skip(format!("{name} is not installed")),
    }
}

fn crun_makes_a_container(sandbox: &Sandbox) -> Result<()> {
    let crun = installed("crun")?;
    let hidden = sandbox.ok(["info"])?.contains("hybrid");
    const SECOND: &str = "/sys/fs/cgroup/unified";
    if hidden {
        // crun refuses a machine with both versions of cgroups: in the test's own mount namespace there is one. It makes its
        // directories there all the same.
        host::succeed(Command::new("umount").args(["--lazy", SECOND]))?;
        host::succeed(Command::new("mount").args(["-t", "tmpfs", "none", SECOND]))?;
    }
    let lived = whole_life(sandbox, &crun);
    if hidden {
        host::succeed(Command::new("umount").args(["--lazy", SECOND]))?;
    }
    lived
}

fn runc_makes_a_container(sandbox: &Sandbox) -> Result<()> {
    whole_life(sandbox, &installed("runc")?)
}

fn whole_life(sandbox: &Sandbox, runtime: &str) -> Result<()> {
    sandbox.load("busybox")?;
    let base = ["run", "--rm", "--network", "none", "--runtime", runtime];
    let run = |more: &[&str], script: &str| sandbox.dhow([&base, more, &["busybox", "sh", "-c", script]].concat());
    let output = run(&[], "echo out; echo err >&2; id -u; hostname; exit 3")?;
    same!(output.code, 3, "{}", output.stderr);
    ensure!(output.stdout.starts_with("out\n0\n") && output.stderr == "err\n", "{} {}", output.stdout, output.stderr);
    // Its root, its limits, its mounts.
    let seen = run(
        &["-m", "64m", "-u", "nobody", "-v", "data:/data", "--tmpfs", "/tmp", "-e", "A=b", "-w", "/data"],
        "id -un; pwd; echo $A $HOME; cat /etc/hosts | tail -n 1; touch /tmp/x && echo made",
    )?
    .success()?;
    ensure!(seen.starts_with("nobody\n/data\nb ") && seen.ends_with("made"), "{seen}");
    // What the host forbids where a volume comes from.
    host::succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "nosuid,nodev,noexec", "tmpfs", "/mnt"]))?;
    let kept = ["/mnt:/y", "/mnt:/y:ro"].map(|volume| run(&["-v", volume], "grep ' /y ' /proc/mounts"));
    host::succeed(Command::new("umount").arg("/mnt"))?;
    for (seen, access) in kept.into_iter().zip(["rw", "ro"]) {
        contains!(seen?.success()?, format!("{access},nosuid,nodev,noexec"));
    }
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true";
    same!(run(&["-m", "64m"], limit)?.success()?, "67108864");
    let part = ["--mount", "type=image,src=busybox,dst=/other,image-subpath=bin", "--init"];
    contains!(run(&part, "ls /other/busybox; cat /proc/1/comm")?.success()?, "/other/busybox");
    contains!(run(&["-t"], "tty; stty size")?.success()?, "/dev/pts/0");
    let input = sandbox.dhow_with_input("text", [&base[..], &["-i", "busybox", "cat"]].concat())?;
    same!(input.success()?, "text");
    // What cannot be executed, as Docker has it.
    sandbox.dhow([&base[..], &["busybox", "nosuch"]].concat())?.fails(127, &["nosuch"])?;
    sandbox.dhow([&base[..], &["busybox", "/etc/passwd"]].concat())?.fails(126, &[])?;
    further_processes(sandbox, runtime)
}

fn further_processes(sandbox: &Sandbox, runtime: &str) -> Result<()> {
    let script = "trap 'exit 7' TERM; echo ready; i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.05; done";
    sandbox.detached(&["--name", "box", "--runtime", runtime], script)?;
    sandbox.wait_for_log("box", "ready")?;
    same!(sandbox.inspect("box")?["HostConfig"]["Runtime"], runtime);
    let output = sandbox.dhow([
        "exec",
        "-e",
        "A=b",
        "-w",
        "/home",
        "-u",
        "1000:5",
        "box",
        "sh",
        "-c",
        "pwd; echo $A; id -u; id -g; exit 4",
    ])?;
    same!((output.code, output.stdout.as_str()), (4, "/home\nb\n1000\n5\n"), "{}", output.stderr);
    sandbox.dhow(["exec", "box", "nosuch"])?.fails(127, &["nosuch"])?;
    contains!(sandbox.ok(["exec", "-t", "box", "tty"])?, "/dev/pts/");
    same!(sandbox.dhow_with_input("text", ["exec", "-i", "box", "cat"])?.success()?, "text");
    contains!(sandbox.ok(["exec", "box", "ip", "addr"])?, "eth0");
    contains!(sandbox.ok(["top", "box"])?, "sleep");
    let file = sandbox.file("file", "x")?;
    sandbox.ok(["cp", &file, "box:/copied"])?;
    contains!(sandbox.ok(["diff", "box"])?, "A /copied");
    sandbox.ok(["update", "-m", "32m", "--memory-swap", "-1", "box"])?;
    sandbox.ok(["pause", "box"])?;
    same!(sandbox.inspect("box")?["State"]["Status"], "paused");
    sandbox.ok(["unpause", "box"])?;
    sandbox.ok(["stop", "box"])?;
    same!(sandbox.inspect("box")?["State"]["ExitCode"], 7);
    sandbox.ok(["start", "box"])?;
    same!(sandbox.ok(["exec", "box", "cat", "/copied"])?, "x");
    sandbox.ok(["restart", "-t", "0", "box"])?;
    sandbox.ok(["kill", "box"])?;
    sandbox.wait_for_state("box", "exited")?;
    same!(sandbox.inspect("box")?["State"]["ExitCode"], 137);
    sandbox.ok(["start", "box"])?;
    sandbox
        .dhow(["checkpoint", "create", "box", "one"])?
        .fails(1, &["not supported for a container with --runtime"])?;
    sandbox.ok(["rm", "-f", "box"])?;
    leaves_nothing(sandbox)
}

fn leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let left: Vec<_> = std::fs::read_dir(sandbox.path("run/runtimes")).into_iter().flatten().flatten().collect();
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn by_configuration(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let runc = installed("runc")?;
    let file = sandbox.path("data/runtimes.json");
    std::fs::write(
        &file,
        json!({"mine": {"path": runc, "runtimeArgs": ["--debug"]}, "vm": {"runtimeType": "io.x.v2"}}).to_string(),
    )?;
    same!(sandbox.busybox(&["--network", "none", "--runtime", "mine"], "echo here")?, "here");
    let info = sandbox.ok(["info"])?;
    contains!(info, "Runtimes: dhow mine\n");
    let info: Value = serde_json::from_str(&sandbox.ok(["info", "--format", "json"])?)?;
    same!(info["Runtimes"]["mine"]["path"], runc.as_str());
    sandbox.dhow(["create", "--runtime", "vm", "busybox"])?.fails(1, &["vm", "shim of containerd"])?;
    // It is what it was when the container was made.
    sandbox.ok(["create", "--name", "box", "--network", "none", "--runtime", "mine", "busybox", "echo", "still"])?;
    std::fs::remove_file(&file)?;
    same!(sandbox.ok(["start", "-a", "box"])?, "still");
    same!(sandbox.inspect("box")?["HostConfig"]["Runtime"], "mine");
    std::fs::write(&file, "no json")?;
    sandbox.dhow(["create", "--runtime", "mine", "busybox"])?.fails(1, &["runtimes.json is not the JSON"])?;
    std::fs::remove_file(&file)?;
    // A restart policy runs it again, by the same runtime.
    sandbox.detached(
        &["--name", "again", "--network", "none", "--restart", "on-failure:2", "--runtime", &runc],
        "echo run; exit 1",
    )?;
    sandbox.wait_for_state("again", "exited")?;
    same!(sandbox.ok(["logs", "again"])?, "run\nrun\nrun");
    leaves_nothing(sandbox)
}

fn what_it_is_killed_by_is_swept(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let runc = installed("runc")?;
    let id = sandbox.detached(&["--name", "box", "--network", "none", "--runtime", &runc], "sleep 1000")?;
    let pid = sandbox.pid("box")?;
    let state: Value =
        serde_json::from_slice(&std::fs::read(sandbox.path("run/containers").join(&id).join("state.json"))?)?;
    let monitor =
        state["monitor_pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    rustix::process::kill_process(monitor.context("no monitor")?, rustix::process::Signal::KILL)?;
    sandbox.wait_for_state("box", "exited")?;
    host::until("the process is gone", sandbox.seconds(10), || {
        Ok((!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()))
    })?;
    leaves_nothing(sandbox)?;
    same!(sandbox.dhow(["system", "check"])?.code, 0);
    sandbox.ok(["start", "box"])?;
    same!(sandbox.ok(["exec", "box", "echo", "here"])?, "here");
    Ok(())
}

fn a_runtime_that_fails(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let output = sandbox.dhow(["run", "--network", "none", "--runtime", "/bin/false", "busybox", "true"])?;
    output.fails(125, &["false create failed without a word in its log"])?;
    leaves_nothing(sandbox)?;
    let file = sandbox.file("text", "no program")?;
    sandbox.dhow(["create", "--runtime", &file, "busybox"])?.fails(1, &["cannot execute the runtime"])?;
    let runc = installed("runc")?;
    for (flags, error) in [
        (&["--userns", "auto"][..], "a container with ids of its own"),
        (&["-v", "/tmp:/tmp:rshared"], "a shared mount"),
    ] {
        sandbox.dhow([&["create", "--runtime", &runc], flags, &["busybox"]].concat())?.fails(1, &[error])?;
    }
    Ok(())
}

fn names_that_are_refused(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox
        .dhow(["create", "--runtime", "nosuch", "busybox"])?
        .fails(1, &["unknown or invalid runtime name: nosuch"])?;
    sandbox.dhow(["create", "--runtime", "./crun", "busybox"])?.fails(1, &["the path is not absolute"])?;
    sandbox
        .dhow(["create", "--runtime", "/nonexistent", "busybox"])?
        .fails(1, &["cannot execute the runtime /nonexistent"])?;
    // What scripts write for Docker's default is dhow itself.
    same!(sandbox.busybox(&["--network", "none", "--runtime", "runc"], "echo here")?, "here");
    same!(sandbox.busybox(&["--network", "none", "--runtime", "dhow"], "echo here")?, "here");
    Ok(())
}

fn refused_to_ordinary_users(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let runc = installed("runc")?;
    sandbox.dhow(["create", "--runtime", &runc, "busybox"])?.fails(1, &["dhow's own runtime only"])
}
