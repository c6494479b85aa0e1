//! Restart policies: kept without a server, ended by a stop, and after a crash or a boot as Docker's daemon keeps them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![restart:
    on_failure_counts, always_until_stopped, success_is_no_failure, pauses_double, stop_in_the_pause, restart_keeps_the_process_count,
    restart_of_one_that_goes, killed_monitor, boot, the_unit_is_understood [Root], shutdown_is_no_stop, halt_and_boot, wrong_policies, waiting_and_attaching,
];

fn count(sandbox: &Sandbox, name: &str) -> Result<i64> {
    sandbox.inspect(name)?["RestartCount"].as_i64().context("no RestartCount")
}

fn status(sandbox: &Sandbox, name: &str) -> Result<String> {
    sandbox.ok(["inspect", "-f", "{{.State.Status}}", name])
}

fn on_failure_counts(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "--restart", "on-failure:2"], "echo run; exit 3")?;
    sandbox.wait_for_state("box", "exited")?;
    host::until("three runs", sandbox.seconds(10), || {
        Ok((sandbox.ok(["logs", "box"])? == "run\nrun\nrun" && status(sandbox, "box")? == "exited").then_some(()))
    })?;
    let inspect = sandbox.inspect("box")?;
    same!(inspect["RestartCount"], 2);
    same!(inspect["State"]["ExitCode"], 3);
    same!(inspect["HostConfig"]["RestartPolicy"]["Name"], "on-failure");
    same!(inspect["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 2);
    // Whoever starts it counts from the beginning.
    sandbox.ok(["start", "box"])?;
    host::until("six runs", sandbox.seconds(10), || {
        Ok((sandbox.ok(["logs", "box"])?.lines().count() == 6).then_some(()))
    })?;
    Ok(())
}

fn always_until_stopped(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "--restart", "always"], "echo run; exit 0")?;
    host::until("some restarts", sandbox.seconds(10), || Ok((count(sandbox, "box")? >= 2).then_some(())))?;
    sandbox.ok(["stop", "box"])?;
    same!(status(sandbox, "box")?, "exited");
    let runs = sandbox.ok(["logs", "box"])?.lines().count();
    std::thread::sleep(Duration::from_millis(1200));
    same!(sandbox.ok(["logs", "box"])?.lines().count(), runs);
    Ok(())
}

fn success_is_no_failure(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "--restart", "on-failure"], "echo run")?;
    sandbox.wait_for_state("box", "exited")?;
    std::thread::sleep(Duration::from_millis(300));
    same!(sandbox.ok(["logs", "box"])?, "run");
    same!(count(sandbox, "box")?, 0);
    Ok(())
}

fn pauses_double(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let begin = Instant::now();
    sandbox.detached(&["--network", "none", "--name", "box", "--restart", "on-failure:4"], "exit 1")?;
    host::until("four restarts", sandbox.seconds(20), || {
        Ok((count(sandbox, "box")? == 4 && status(sandbox, "box")? == "exited").then_some(()))
    })?;
    // 100 + 200 + 400 + 800 ms.
    let took = begin.elapsed();
    ensure!(took >= Duration::from_millis(1500), "four restarts in {took:?}");
    Ok(())
}

fn stop_in_the_pause(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "--restart", "always"], "exit 7")?;
    host::until("a longer pause", sandbox.seconds(10), || Ok((count(sandbox, "box")? >= 3).then_some(())))?;
    sandbox.wait_for_state("box", "restarting")?;
    contains!(sandbox.ok(["ps"])?, "Restarting (7)");
    let inspect = sandbox.inspect("box")?;
    same!(inspect["State"]["Running"], true);
    same!(inspect["State"]["Restarting"], true);
    same!(inspect["State"]["ExitCode"], 7);
    sandbox.dhow(["exec", "box", "true"])?.fails(1, &["is restarting, wait until the container is running"])?;
    sandbox.dhow(["attach", "box"])?.fails(1, &["restarting container"])?;
    sandbox.dhow(["rm", "box"])?.fails(1, &["stop the container"])?;
    sandbox.ok(["stop", "box"])?;
    let inspect = sandbox.inspect("box")?;
    same!(inspect["State"]["Status"], "exited");
    same!(inspect["State"]["ExitCode"], 7);
    sandbox.ok(["start", "box"])?;
    host::until("it restarts again", sandbox.seconds(10), || Ok((count(sandbox, "box")? >= 1).then_some(())))?;
    sandbox.ok(["rm", "-f", "box"])?;
    sandbox.dhow(["inspect", "box"])?.fails(1, &["no such object"])
}

fn restart_keeps_the_process_count(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box"], "echo run; exec sleep 1000")?;
    sandbox.wait_for_log("box", "run")?;
    let before = sandbox.pid("box")?;
    same!(sandbox.ok(["restart", "-t", "0", "box"])?, "box");
    let after = sandbox.pid("box")?;
    ensure!(before != after, "the same process");
    same!(sandbox.wait_for_log("box", "run\nrun")?, "run\nrun\n");
    same!(count(sandbox, "box")?, 0);
    // One that has ended is started.
    sandbox.ok(["kill", "box"])?;
    sandbox.wait_for_state("box", "exited")?;
    sandbox.ok(["restart", "box"])?;
    same!(status(sandbox, "box")?, "running");
    Ok(())
}

fn restart_of_one_that_goes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--rm", "--network", "none", "--name", "box"], "exec sleep 1000")?;
    sandbox.ok(["restart", "-t", "0", "box"])?;
    same!(status(sandbox, "box")?, "running");
    sandbox.ok(["kill", "box"])?;
    host::until("it is gone", sandbox.seconds(10), || {
        Ok((sandbox.command(["inspect", "box"]).output()?.status.code() == Some(1)).then_some(()))
    })
}

fn monitor_pid(sandbox: &Sandbox, id: &str) -> Result<i32> {
    let text = std::fs::read_to_string(sandbox.path("run").join("containers").join(id).join("state.json"))?;
    let state: serde_json::Value = serde_json::from_str(&text)?;
    Ok(i32::try_from(state["monitor_pid"].as_i64().context("no monitor")?)?)
}

pub(super) fn signal_monitor(sandbox: &Sandbox, id: &str, signal: &str) -> Result<()> {
    let pid = monitor_pid(sandbox, id)?.to_string();
    ensure!(std::process::Command::new("kill").args([signal, &pid]).status()?.success(), "kill {signal} {pid}");
    host::until("the monitor is gone", sandbox.seconds(10), || {
        Ok((!std::path::Path::new("/proc").join(&pid).join("exe").exists()).then_some(()))
    })
}

fn killed_monitor(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let keep = sandbox.detached(&["--network", "none", "--restart", "unless-stopped"], "exec sleep 1000")?;
    let end = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    for id in [&keep, &end] {
        signal_monitor(sandbox, id, "-KILL")?;
    }
    sandbox.ok(["ps"])?;
    same!(status(sandbox, &keep)?, "running");
    same!(count(sandbox, &keep)?, 1);
    same!(status(sandbox, &end)?, "exited");
    same!(sandbox.inspect(&end)?["State"]["ExitCode"], 255);
    Ok(())
}

fn boot(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "exec sleep 1000";
    for (name, policy, stop) in [
        ("always", "always", false),
        ("always-stopped", "always", true),
        ("unless", "unless-stopped", false),
        ("unless-stopped", "unless-stopped", true),
        ("failure", "on-failure", false),
        ("none", "no", false),
    ] {
        let id = sandbox.detached(&["--network", "none", "--name", name, "--restart", policy], script)?;
        if stop {
            sandbox.ok(["stop", "-t", "0", &id])?;
        } else {
            // What a power cut leaves: no process, no run directory.
            let cgroup = sandbox.pid(name)?.to_string();
            signal_monitor(sandbox, &id, "-KILL")?;
            ensure!(std::process::Command::new("kill").args(["-KILL", &cgroup]).status()?.success(), "kill");
            host::until("it is dead", sandbox.seconds(10), || {
                Ok((!std::path::Path::new("/proc").join(&cgroup).join("exe").exists()).then_some(()))
            })?;
            let run = sandbox.path("run").join("containers").join(&id);
            std::fs::rename(&run, sandbox.path("files").join(name))?;
        }
    }
    sandbox.ok(["create", "--network", "none", "--name", "fresh", "--restart", "always", "busybox", "true"])?;
    let mut started: Vec<String> = sandbox.ok(["system", "boot"])?.lines().map(str::to_owned).collect();
    started.sort();
    same!(started, ["always", "always-stopped", "failure", "unless"]);
    same!(status(sandbox, "unless-stopped")?, "exited");
    same!(status(sandbox, "none")?, "exited");
    same!(status(sandbox, "fresh")?, "created");
    same!(sandbox.inspect("none")?["State"]["ExitCode"], 255);
    // Once more does nothing.
    same!(sandbox.ok(["system", "boot"])?, "");
    Ok(())
}

/// The unit file of the package, with this program in the place of the installed one.
fn the_unit_is_understood(sandbox: &Sandbox) -> Result<()> {
    if host::program("systemd-analyze").is_none() {
        return skip("systemd-analyze is not installed");
    }
    let unit = include_str!("../../../../dist/dhow.service");
    let program = sandbox.command([""; 0]).get_program().to_string_lossy().into_owned();
    contains!(unit, "ExecStart=/usr/bin/dhow system boot\n");
    let path = sandbox.file("dhow.service", unit.replace("/usr/bin/dhow", &program))?;
    let mut command = std::process::Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no", &path]);
    let output = sandbox.finish_command(command, "")?;
    same!((output.code, output.stderr.contains("dhow.service")), (0, false), "{}", output.stderr);
    Ok(())
}

fn shutdown_is_no_stop(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(
        &["--network", "none", "--name", "box", "--restart", "unless-stopped"],
        "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    )?;
    sandbox.wait_for_log("box", "ready")?;
    // As systemd does when the machine goes down.
    signal_monitor(sandbox, &id, "-TERM")?;
    same!(status(sandbox, "box")?, "exited");
    same!(sandbox.ok(["system", "boot"])?, "box");
    same!(status(sandbox, "box")?, "running");
    Ok(())
}

fn halt_and_boot(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "trap 'sleep 0.5; exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("without", "no")] {
        let options = ["--network", "none", "--name", name, "--restart", policy, "--stop-signal", "USR1"];
        sandbox.detached(&options, script)?;
        sandbox.wait_for_log(name, "ready")?;
    }
    let mut halted: Vec<String> = sandbox.ok(["system", "halt"])?.lines().map(str::to_owned).collect();
    halted.sort();
    same!(halted, ["always", "unless"]);
    for name in ["always", "unless"] {
        same!(sandbox.ok(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name])?, "exited 7");
    }
    same!(status(sandbox, "without")?, "running");
    same!(sandbox.ok(["system", "halt"])?, "");
    let mut booted: Vec<String> = sandbox.ok(["system", "boot"])?.lines().map(str::to_owned).collect();
    booted.sort();
    same!(booted, ["always", "unless"]);
    Ok(())
}

fn wrong_policies(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (policy, words) in [
        ("sometimes", "unknown policy 'sometimes'"),
        ("always:2", "only with 'on-failure'"),
        ("on-failure:x", "must be an integer"),
        ("on-failure:-1", "cannot be negative"),
    ] {
        sandbox.dhow(["run", "--restart", policy, "busybox", "true"])?.fails(125, &[words])?;
    }
    sandbox
        .dhow(["run", "--rm", "--restart", "always", "busybox", "true"])?
        .fails(125, &["cannot specify both --restart and --rm"])?;
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}

fn waiting_and_attaching(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // The command line leaves with the first run's status, as Docker's does.
    let output = sandbox.dhow([
        "run",
        "--network",
        "none",
        "--name",
        "box",
        "--restart",
        "on-failure:1",
        "busybox",
        "sh",
        "-c",
        "echo once; exit 4",
    ])?;
    same!((output.code, output.stdout.as_str()), (4, "once\n"));
    sandbox.wait_for_state("box", "exited")?;
    // A wrong program is not tried again.
    sandbox
        .dhow(["run", "--network", "none", "--name", "bad", "--restart", "always", "busybox", "nonesuch"])?
        .fails(127, &[])?;
    same!(status(sandbox, "bad")?, "created");
    Ok(())
}
