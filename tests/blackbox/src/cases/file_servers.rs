//! Volumes in file systems of servers: what the kernel is asked for. A server is not needed, nor a kernel that has such file systems:
//! what dhow asks is in strace's record, and what the kernel says to it is told.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::case::{cases, contains, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![file_servers: what_the_kernel_is_asked_for [Root], names_without_an_address];

/// Calls about mounts, of dhow with these words, and what it says to its failure.
fn mounts(sandbox: &Sandbox, words: &[&str]) -> Result<(String, String)> {
    let log = sandbox.path("files/mounts");
    let inner = sandbox.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "200", "-e", "signal=none", "-e", "trace=mount,fsopen,fsconfig", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = sandbox.finish_command(command, "")?;
    ensure!(output.code == 125, "exit code {}: {}", output.code, output.stderr);
    Ok((fs::read_to_string(&log)?, output.stderr))
}

fn what_the_kernel_is_asked_for(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    sandbox.load("busybox")?;
    // A name of /etc/hosts: nobody is asked. Nobody answers at port 1 either, so that a kernel with NFS gives up at once.
    let options =
        ["-o", "type=nfs", "-o", "device=:/export", "-o", "o=addr=localhost,port=1,nfsvers=4.2,rw,soft,nolock"];
    sandbox.ok([&["volume", "create"][..], &options, &["data"]].concat())?;
    // To make a container needs no server.
    sandbox.ok(["create", "--name", "box", "--network", "none", "-v", "data:/data", "busybox", "true"])?;
    let (asked, said) = mounts(sandbox, &["run", "--rm", "--network", "none", "-v", "data:/data", "busybox", "true"])?;
    ensure!(asked.contains("fsopen(\"nfs\""), "{asked}");
    ensure!(said.contains("nfs") && said.contains("/data"), "{said}");
    if fs::read_to_string("/proc/filesystems")?.lines().any(|line| line.ends_with("\tnfs")) {
        for option in ["\"source\", \":/export\"", "\"port\", \"1\"", "\"nfsvers\", \"4.2\"", "\"soft\"", "\"nolock\""]
        {
            contains!(asked, option);
        }
        ensure!(asked.contains("\"addr\", \"127.0.0.1\"") || asked.contains("\"addr\", \"::1\""), "{asked}");
    }
    Ok(())
}

fn names_without_an_address(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // No name server knows a name with an empty label.
    let options = ["-o", "type=nfs", "-o", "device=:/export", "-o", "o=addr=no..where,rw"];
    sandbox.ok([&["volume", "create"][..], &options, &["data"]].concat())?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "-v", "data:/data", "busybox", "true"])?;
    let words = ["failed to mount local volume", "no..where"];
    sandbox.dhow(["start", "box"])?.fails(1, &words)?;
    sandbox.dhow(["run", "--rm", "--network", "none", "-v", "data:/data", "busybox", "true"])?.fails(125, &words)
}
