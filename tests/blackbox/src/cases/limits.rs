//! Limits: written to the cgroup as asked, and felt.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![limits:
    memory, out_of_memory, processors, shares_and_sets, process_count, own_cgroup, exec_is_limited_too, bad_limits,
    xray_shows_live_values,
];

/// A running container with these options, or a skip where an ordinary user has been given no cgroup to limit.
fn limited(sandbox: &Sandbox, options: &[&str]) -> Result<String> {
    needs_cgroups(sandbox)?;
    let mut all = vec!["--network", "none"];
    all.extend_from_slice(options);
    let id = sandbox.detached(&all, "echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    Ok(id)
}

fn needs_cgroups(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    if !host::is_root() && !host::pure_cgroup_v2() {
        return skip("an ordinary user gets no cgroup v1 of his own");
    }
    Ok(())
}

/// A value of the container's cgroup: the file of v2 or of v1 with its controller.
fn value(sandbox: &Sandbox, container: &str, v2: &str, (controller, v1): (&str, &str)) -> Result<String> {
    let directory: PathBuf = host::cgroup_of(sandbox.pid(container)?, controller)?;
    let file = directory.join(if host::pure_cgroup_v2() { v2 } else { v1 });
    Ok(fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?.trim().to_owned())
}

fn memory(sandbox: &Sandbox) -> Result<()> {
    let id = limited(sandbox, &["-m", "64m"])?;
    same!(value(sandbox, &id, "memory.max", ("memory", "memory.limit_in_bytes"))?, "67108864");
    same!(sandbox.inspect(&id)?["HostConfig"]["Memory"], 67_108_864);
    Ok(())
}

fn out_of_memory(sandbox: &Sandbox) -> Result<()> {
    needs_cgroups(sandbox)?;
    // The shell's variable grows until the kernel ends it.
    let script = "a=0123456789abcdef; while :; do a=$a$a; done";
    let output = sandbox.dhow([
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        "busybox",
        "sh",
        "-c",
        script,
    ])?;
    same!(output.code, 137);
    let state = sandbox.inspect("box")?["State"].clone();
    same!(state["OOMKilled"], true);
    same!(state["ExitCode"], 137);
    Ok(())
}

fn processors(sandbox: &Sandbox) -> Result<()> {
    let id = limited(sandbox, &["--cpus", "0.5"])?;
    if host::pure_cgroup_v2() {
        same!(value(sandbox, &id, "cpu.max", ("cpu", ""))?, "50000 100000");
    } else {
        same!(value(sandbox, &id, "", ("cpu", "cpu.cfs_quota_us"))?, "50000");
    }
    // Felt: a busy second of processor time takes about two.
    let started = Instant::now();
    let script =
        "while :; do read -r line </proc/self/stat; set -- $line; test $((${14} + ${15})) -ge 100 && break; done";
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "--cpus", "0.5", "busybox", "sh", "-c", script])?;
    same!(output.code, 0);
    ensure!(started.elapsed().as_secs_f64() > 1.6, "one second of processor time took {:?}", started.elapsed());
    Ok(())
}

fn shares_and_sets(sandbox: &Sandbox) -> Result<()> {
    if !host::is_root() {
        return skip("the cpuset controller is seldom delegated");
    }
    let id = limited(sandbox, &["--cpu-shares", "512", "--cpuset-cpus", "0"])?;
    if host::pure_cgroup_v2() {
        let weight: u32 = value(sandbox, &id, "cpu.weight", ("cpu", ""))?.parse()?;
        // 20 by the formula of old, 59 by the one of 2025.
        ensure!(weight == 20 || weight == 59, "cpu.weight is {weight}");
    } else {
        same!(value(sandbox, &id, "", ("cpu", "cpu.shares"))?, "512");
    }
    same!(value(sandbox, &id, "cpuset.cpus", ("cpuset", "cpuset.cpus"))?, "0");
    same!(sandbox.ok(["exec", &id, "nproc"])?, "1");
    Ok(())
}

fn process_count(sandbox: &Sandbox) -> Result<()> {
    let id = limited(sandbox, &["--pids-limit", "10"])?;
    same!(value(sandbox, &id, "pids.max", ("pids", "pids.max"))?, "10");
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all";
    let output = sandbox.dhow(["exec", &id, "sh", "-c", script])?;
    contains!(output.stderr, "can't fork");
    Ok(())
}

/// A container sees its own cgroup as the root of the hierarchy, and cannot write to it.
fn own_cgroup(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.busybox(
        &["--network", "none"],
        "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null && echo written; true",
    )?;
    ensure!(!text.contains("written"), "the container can make cgroups");
    if host::pure_cgroup_v2() {
        same!(text, "0::/");
    }
    let look = "p=$(cat /proc/self/cgroup); mkdir /sys/fs/cgroup/x 2>/dev/null && echo written; cd /sys/fs/cgroup/${p#0::} && cat cgroup.procs";
    let seen = sandbox.busybox(&["--network", "none", "--cgroupns", "host"], look);
    if host::pure_cgroup_v2() {
        let text = seen?;
        ensure!(!text.is_empty() && !text.contains("written"), "without a namespace: {text:?}");
    }
    Ok(())
}

fn exec_is_limited_too(sandbox: &Sandbox) -> Result<()> {
    let id = limited(sandbox, &["-m", "64m"])?;
    let exec = sandbox.spawn(["exec", &id, "sh", "-c", "exec sleep 777"])?;
    let directory = host::cgroup_of(sandbox.pid(&id)?, "memory")?;
    let seen = host::until("both processes are in the cgroup", sandbox.seconds(10), || {
        let all = fs::read_to_string(directory.join("cgroup.procs"))?.lines().count();
        Ok((all >= 2).then_some(()))
    });
    let mut exec = host::Background(exec);
    seen?;
    exec.0.kill()?;
    Ok(())
}

fn bad_limits(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let run =
        |flag: &str, value: &str| sandbox.dhow(["run", "--rm", "--network", "none", flag, value, "busybox", "true"]);
    run("-m", "abc")?.fails(125, &["abc"])?;
    // Docker's least is 6 MiB: below that a container cannot start.
    run("-m", "1k")?.fails(125, &["memory"])?;
    run("--cpus", "1000")?.fails(125, &["cpu"])?;
    run("--cpus", "-1")?.fails(125, &["cpu"])?;
    // Whoever has no cgroup hears that first.
    let named: &[&str] = if host::is_root() { &["999"] } else { &[] };
    run("--cpuset-cpus", "999")?.fails(125, named)?;
    run("--pids-limit", "many")?.fails(125, &["many"])?;
    run("--ulimit", "nosuch=1")?.fails(125, &["nosuch"])?;
    run("--shm-size", "-5")?.fails(125, &["-5"])?;
    same!(sandbox.ok(["ps", "-a", "-q"])?, "");
    Ok(())
}

fn xray_shows_live_values(sandbox: &Sandbox) -> Result<()> {
    let id = limited(sandbox, &["-m", "64m", "--pids-limit", "50"])?;
    let text = sandbox.ok(["xray", &id])?;
    ensure!(text.contains("67108864") || text.contains("64 MiB") || text.contains("64MiB"), "no memory limit: {text}");
    contains!(text, "50");
    Ok(())
}
