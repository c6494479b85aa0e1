//! `dhow oci`: what a container costs in system calls, which a machine's mood does not change.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![oci_calls: the_first_execution_does_nothing_but_the_second [Root], a_container_costs_so_many [Root]];

/// The calls of the runtime with these words, and of what it starts.
fn calls(sandbox: &Sandbox, bundle: &Bundle<'_>, words: &[&str]) -> Result<Vec<String>> {
    let log = sandbox.path("files/calls");
    let inner = bundle.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(bundle.path("")).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = sandbox.finish_command(command, "")?;
    same!(output.code, 0, "{}", output.stderr);
    // The first word is the process.
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    Ok(text.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start().to_owned())).collect())
}

/// Before the C library: it would ask the processor for its features, and for memory by `brk`, twice for each container.
fn the_first_execution_does_nothing_but_the_second(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    if !cfg!(target_arch = "x86_64") {
        return skip("an entry point of x86-64");
    }
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let calls = calls(sandbox, &bundle, &["exec", "one", "true"])?;
    let names: Vec<&str> = calls.iter().filter_map(|call| Some(call.split_once('(')?.0)).take(7).collect();
    same!(names, ["execve", "open_tree", "mount_setattr", "mmap", "openat", "execve", "brk"]);
    let second = calls.get(5).context("no second execution")?;
    ensure!(second.starts_with("execve(\"/proc/self/fd/"), "{second}");
    Ok(())
}

/// With the ten trees of a machine with cgroup v1 `run` makes 767, and `exec` 285; of a simpler
/// bundle 594 and 239, where it had been 814 and 325 beside those of the first execution. On v2 there is one tree.
fn a_container_costs_so_many(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let exec = calls(sandbox, &bundle, &["exec", "one", "true"])?.len();
    ensure!(exec <= 350, "exec: {exec} calls");
    // Its group would be in the way.
    bundle.oci(&["delete", "-f", "one"])?.success()?;
    bundle.script("true")?;
    let run = calls(sandbox, &bundle, &["run", "two"])?.len();
    ensure!(run <= 900, "run: {run} calls");
    Ok(())
}
