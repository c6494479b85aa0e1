//! Lists do not ask once for each thing: what a full store costs is in `cargo xtask bench lists`, here system calls are counted.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::case::{cases, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![lists: calls_do_not_grow [Root], columns_are_those_of_inspect, no_process_is_looked_up];

/// Containers and images that are made between two counts.
const MORE: usize = 24;

/// Calls of dhow with these words.
fn calls(sandbox: &Sandbox, words: &[&str]) -> Result<usize> {
    let log = sandbox.path("files/calls");
    let inner = sandbox.command(words);
    let mut command = Command::new("strace");
    // The first to open the database reads its log, whose length depends on what was done before.
    command.args(["-f", "-qq", "-e", "signal=none", "-e", "trace=!pread64", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = sandbox.finish_command(command, "")?;
    same!(output.code, 0, "{}", output.stderr);
    Ok(fs::read_to_string(&log)?.lines().count())
}

fn calls_do_not_grow(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    const VERBS: [(&[&str], usize); 5] = [
        (&["ps", "-a"], 0),
        (&["ps", "-a", "--format", "json"], 0),
        (&["images", "-q"], 0),
        (&["images", "--format", "json"], 0),
        // Each image has two documents here, and each container a directory with some in it, which are looked at.
        (&["system", "df"], 60),
    ];
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "first", "busybox", "true"])?;
    sandbox.ok(["commit", "first", "made:0"])?;
    let count = || VERBS.iter().map(|(words, _)| calls(sandbox, words)).collect::<Result<Vec<_>>>();
    // The first of them may make what is missing.
    count()?;
    let before = count()?;
    for number in 1..=MORE {
        sandbox.ok(["create", "busybox", "true"])?;
        sandbox.ok(["commit", "-m", &number.to_string(), "first", &format!("made:{number}")])?;
    }
    for (((words, each), before), after) in VERBS.iter().zip(before).zip(count()?) {
        let allowed = before + each * MORE + MORE / 2;
        ensure!(after <= allowed, "{words:?}: {before} calls, with {MORE} more {after}");
    }
    Ok(())
}

/// Whether a container runs is asked of the lock that its monitor holds, and not of the table of processes.
fn no_process_is_looked_up(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    sandbox.load("busybox")?;
    let mut pids = vec![];
    for name in ["one", "two"] {
        sandbox.ok(["run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000"])?;
        pids.push(sandbox.ok(["inspect", "-f", "{{.State.Pid}}", name])?);
    }
    let count = calls(sandbox, &["ps", "--format", "json"])?;
    let log = fs::read_to_string(sandbox.path("files/calls"))?;
    ensure!(count > 10 && log.contains("state.json"), "{log}");
    for pid in pids {
        ensure!(!log.contains(&format!("/proc/{pid}/")), "process {pid} is looked up:\n{log}");
    }
    sandbox.ok(["rm", "-f", "one", "two"]).map(drop)
}

fn columns_are_those_of_inspect(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["create", "--name", "one", "--label", "a=1", "-v", "kept:/kept", "--hostname", "here"];
    sandbox.ok(options.into_iter().chain(["busybox", "sh", "-c", "exit 3"]))?;
    let row = "{{.Names}} {{.Image}} {{.Command}} {{.Labels}} {{.Mounts}} {{.LocalVolumes}} {{.State}} {{.Networks}}";
    let list = |words: &[&str]| sandbox.ok([&["ps", "-a", "--no-trunc", "--format", row], words].concat());
    let networks =
        sandbox.ok(["inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", "one"])?;
    same!(list(&[])?, format!("one busybox \"sh -c 'exit 3'\" a=1 kept 1 created {networks}"));
    sandbox.dhow(["start", "-a", "one"])?.fails(3, &[])?;
    sandbox.ok(["rename", "one", "two"])?;
    same!(list(&["-f", "exited=3"])?, format!("two busybox \"sh -c 'exit 3'\" a=1 kept 1 exited {networks}"));
    same!(sandbox.ok(["ps", "-aq", "-f", &format!("network={networks}")])?.lines().count(), 1);
    let table = sandbox.ok(["ps", "-a"])?;
    ensure!(table.contains("Exited (3)") && table.contains("\"sh -c 'exit 3'\""), "{table}");
    sandbox.ok(["update", "--restart", "no", "two"])?;
    same!(list(&["-f", "label=a=1"])?, format!("two busybox \"sh -c 'exit 3'\" a=1 kept 1 exited {networks}"));
    sandbox.ok(["rm", "-v", "two"]).map(drop)
}
