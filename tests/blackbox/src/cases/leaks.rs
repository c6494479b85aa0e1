//! Nothing stays: after many runs, and after processes are killed at any moment.
//!
//! `DHOW_LEAK_RUNS` and `DHOW_LEAK_KILLS` are how many (1,000 and 200 where not given, less on an emulated processor).

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::audit::{Scope, Snapshot};
use crate::case::cases;
use crate::host;
use crate::sandbox::Sandbox;

cases![leaks:
    resting_monitors_are_small [Root], ready_for_an_end_and_not_for_ever [Root], many_runs [Alone, Long], killed_command_lines [Alone, Long], killed_monitors [Alone, Long], many_runs_at_once [Alone, Long],
];

fn count(sandbox: &Sandbox, variable: &str, usual: u32) -> u32 {
    let slow = if sandbox.is_slow() { usual / 20 } else { usual };
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(slow)
}

fn network() -> &'static str {
    if host::is_root() { "bridge" } else { "none" }
}

/// What is there after one container has come and gone: the bridge and its rules may stay.
fn warm(sandbox: &Sandbox) -> Result<Snapshot> {
    sandbox.load("busybox")?;
    sandbox.ok(["run", "--rm", "--network", network(), "busybox", "true"])?;
    thread::sleep(Duration::from_millis(300));
    sandbox.snapshot(Scope::All)
}

fn many_runs(sandbox: &Sandbox) -> Result<()> {
    let before = warm(sandbox)?;
    for number in 0..count(sandbox, "DHOW_LEAK_RUNS", 1000) {
        let output = sandbox.command(["run", "--rm", "--network", network(), "busybox", "true"]).output()?;
        ensure!(
            output.status.success(),
            "run {number}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    sandbox.settles_to(&before, Scope::All)
}

fn many_runs_at_once(sandbox: &Sandbox) -> Result<()> {
    let before = warm(sandbox)?;
    for _ in 0..count(sandbox, "DHOW_LEAK_RUNS", 1000) / 50 {
        let children = (0..10)
            .map(|_| sandbox.spawn(["run", "--rm", "--network", network(), "busybox", "true"]))
            .collect::<Result<Vec<_>>>()?;
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
    sandbox.settles_to(&before, Scope::All)
}

/// How long a run takes here.
fn usual(sandbox: &Sandbox) -> Result<Duration> {
    const RUNS: u32 = 5;
    let begin = Instant::now();
    for _ in 0..RUNS {
        sandbox.ok(["run", "--rm", "--network", network(), "busybox", "true"])?;
    }
    Ok(begin.elapsed() / RUNS)
}

/// Moments that differ from run to run, spread over a run's time and a little more, without a source of randomness.
fn moment(number: u32, usual: Duration) -> Duration {
    let part = f64::from(number.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
    usual.mul_f64(part * 1.3)
}

fn killed_command_lines(sandbox: &Sandbox) -> Result<()> {
    let before = warm(sandbox)?;
    let usual = usual(sandbox)?;
    for number in 0..count(sandbox, "DHOW_LEAK_KILLS", 200) {
        let mut child = sandbox
            .command(["run", "--rm", "--network", network(), "busybox", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(moment(number, usual));
        // It may have ended by itself.
        drop(child.kill());
        child.wait()?;
    }
    recovers(sandbox, &before)
}

fn killed_monitors(sandbox: &Sandbox) -> Result<()> {
    let before = warm(sandbox)?;
    let usual = usual(sandbox)?;
    for number in 0..count(sandbox, "DHOW_LEAK_KILLS", 200) {
        let mut child = sandbox
            .command(["run", "--rm", "--network", network(), "busybox", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(moment(number, usual));
        for pid in monitors(sandbox) {
            // It may have ended by itself.
            drop(host::succeed(Command::new("kill").args(["-KILL", &pid])));
        }
        if host::until("the command line ends", sandbox.seconds(10), || Ok(child.try_wait()?)).is_err() {
            drop(child.kill());
            child.wait()?;
            anyhow::bail!("the command line hangs when its monitor is killed (run {number})");
        }
    }
    recovers(sandbox, &before)
}

/// The monitors of this test: by the name they run under where the test has a process namespace of its own, else those that
/// hold a file of the test open.
fn monitors(sandbox: &Sandbox) -> Vec<String> {
    let ours = |pid: &str| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        command.starts_with(b"dhow-monitor")
            && (host::is_root()
                || files.flat_map(|file| fs::read_link(file.path())).any(|path| path.starts_with(sandbox.directory())))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| ours(name)).collect()
}

/// Memory of its own that a monitor may keep when nothing has been asked of it for a while, in KiB.
const AT_REST: u64 = 160;

/// There is one for each container, for as long as it runs.
fn resting_monitors_are_small(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "head -c 1000000 /dev/zero | tr '\\0' 'x'; yes | head -c 1000000; sleep 1000";
    let id = sandbox.ok(["run", "-d", "--network", "none", "busybox", "sh", "-c", script])?;
    let state = sandbox.path("run").join("containers").join(&id).join("state.json");
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(state)?)?;
    let place = format!("/proc/{}/smaps_rollup", state["monitor_pid"]);
    let own = || -> Result<u64> {
        let text = fs::read_to_string(&place)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("not in smaps_rollup")?;
        Ok(line.trim_end_matches("kB").trim().parse()?)
    };
    for _ in 0..3 {
        sandbox.ok(["exec", &id, "sh", "-c", "yes | head -c 300000"])?;
    }
    let mut least = u64::MAX;
    host::until("the monitor gives back what it used", sandbox.seconds(20), || {
        least = least.min(own()?);
        Ok((least <= AT_REST).then_some(()))
    })
    .map_err(|error| error.context(format!("{least} KiB of its own, {AT_REST} are allowed")))
}

/// A monitor opens the database when its container is asked to end, and lets go of it when the container does not.
fn ready_for_an_end_and_not_for_ever(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let id = sandbox.ok(["run", "-d", "--network", "none", "busybox", "sh", "-c", script])?;
    sandbox.wait_for_log(&id, "ready")?;
    let state = sandbox.path("run").join("containers").join(&id).join("state.json");
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(state)?)?;
    let descriptors = format!("/proc/{}/fd", state["monitor_pid"]);
    let database = sandbox.path("data").join("dhow.db");
    let open = || -> Result<bool> {
        let mut targets = fs::read_dir(&descriptors)?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        Ok(targets.any(|target| target == database))
    };
    ensure!(!open()?, "a monitor whose container runs has the database open");
    let mut kill = sandbox.spawn(["kill", "-s", "TERM", &id])?;
    host::until("the monitor opens the database", sandbox.seconds(5), || Ok(open()?.then_some(())))?;
    host::until("the monitor lets go of the database", sandbox.seconds(10), || Ok((!open()?).then_some(())))?;
    kill.kill()?;
    kill.wait()?;
    // It opens it again for the end itself.
    sandbox.ok(["kill", &id])?;
    let ended = sandbox.ok(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &id])?;
    ensure!(ended == "exited 137", "the end was not written down: {ended}");
    Ok(())
}

/// The next command finds what was left and removes it; containers that are known still can be removed.
fn recovers(sandbox: &Sandbox, before: &Snapshot) -> Result<()> {
    thread::sleep(Duration::from_millis(500));
    sandbox.ok(["run", "--rm", "--network", network(), "busybox", "true"])?;
    for id in sandbox.ok(["ps", "-a", "-q"])?.lines() {
        sandbox.ok(["rm", "-f", id])?;
    }
    sandbox.settles_to(before, Scope::All)
}
