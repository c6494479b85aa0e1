//! Making networks and ports asks the kernel for what concerns them, however many containers there are: what it answers is counted.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::case::{same, skip};
use crate::host;
use crate::sandbox::Sandbox;

/// Containers that are started between two counts.
const MORE: usize = 10;
/// Bytes for each of them that may come more: its route or address, were it asked for. A device is described by more than a thousand.
const EACH: usize = 300;

/// Bytes that dhow with these words receives by sockets, almost all of them from the kernel.
fn heard(sandbox: &Sandbox, words: &[&str]) -> Result<usize> {
    let log = sandbox.path("files/heard");
    let inner = sandbox.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "signal=none", "-e", "trace=recvfrom", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = sandbox.finish_command(command, "")?;
    same!(output.code, 0, "{}", output.stderr);
    let text = fs::read_to_string(&log)?;
    let lengths = text.lines().filter_map(|line| line.rsplit_once("= ")?.1.trim().parse::<usize>().ok());
    Ok(lengths.sum())
}

/// One of the tests in `networks`.
pub fn answers_do_not_grow(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    const VERBS: [&[&str]; 3] = [
        &["network", "create", "mine"],
        &["network", "rm", "mine"],
        &["run", "--rm", "-p", "8080:80", "busybox", "true"],
    ];
    sandbox.load("busybox")?;
    sandbox.detached(&[], "exec sleep 1000")?;
    let count = || VERBS.iter().map(|words| heard(sandbox, words)).collect::<Result<Vec<_>>>();
    // The first of them make what is missing.
    count()?;
    let before = count()?;
    for _ in 0..MORE {
        sandbox.detached(&[], "exec sleep 1000")?;
    }
    for ((words, before), after) in VERBS.iter().zip(before).zip(count()?) {
        eprintln!("{words:?}: {before} bytes, with {MORE} more containers {after}");
        ensure!(after <= before + EACH * MORE, "{words:?}: {before} bytes, with {MORE} more containers {after}");
    }
    Ok(())
}
