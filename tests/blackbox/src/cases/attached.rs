//! Clients that are attached: keys that let go of a container, and signals that are passed on or not. The terminal is that of script(1).

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![attached: detach_keys, signals_are_passed_on, signals_are_kept];

/// dhow with a terminal, whose other side are the child's streams.
fn in_terminal(sandbox: &Sandbox, words: &[&str]) -> Result<Child> {
    if host::program("script").is_none() {
        return skip("script is not installed");
    }
    let inner = sandbox.command(words);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
    let line: Vec<String> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(quoted).collect();
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &line.join(" "), "/dev/null"]).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start script")
}

fn ends(sandbox: &Sandbox, child: &mut Child) -> Result<ExitStatus> {
    host::until("it ends", sandbox.seconds(20), || Ok(child.try_wait()?))
}

/// Types the keys until the client has gone: it may not have the terminal to itself from its first moment.
fn let_go(sandbox: &Sandbox, child: &mut Child, input: &mut ChildStdin, keys: &str) -> Result<()> {
    host::until("it lets go", sandbox.seconds(20), || {
        // The other side is gone when the client is.
        drop(input.write_all(keys.as_bytes()));
        Ok(child.try_wait()?.map(drop))
    })
}

fn detach_keys(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "while read -r line; do echo \"seen $line\"; done";
    sandbox.detached(&["-it", "--network", "none", "--name", "box"], script)?;
    for (number, (options, keys)) in
        [(&["--detach-keys", "ctrl-x,d"][..], "\x18d"), (&[][..], "\x10\x11")].into_iter().enumerate()
    {
        let mut child = in_terminal(sandbox, &[&["attach"], options, &["box"]].concat())?;
        let mut input = child.stdin.take().context("no input")?;
        // The beginning of the keys alone is the container's.
        let text = format!("{}a{number}\n", &keys[..1]);
        input.write_all(text.as_bytes())?;
        sandbox.wait_for_log("box", &format!("a{number}\r\nseen "))?;
        let_go(sandbox, &mut child, &mut input, keys)?;
        same!(sandbox.inspect("box")?["State"]["Status"], "running");
    }
    // A session of exec goes on as well.
    let mut child = in_terminal(sandbox, &["exec", "-it", "box", "sh", "-c", "echo up > /up; sleep 4711"])?;
    let mut input = child.stdin.take().context("no input")?;
    host::until("it runs", sandbox.seconds(20), || {
        Ok((sandbox.dhow(["exec", "box", "cat", "/up"])?.code == 0).then_some(()))
    })?;
    let_go(sandbox, &mut child, &mut input, "\x10\x11")?;
    contains!(sandbox.ok(["top", "box"])?, "sleep 4711");
    Ok(())
}

const TELLS: &str = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.05; done";

fn signal(child: &Child) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGUSR1)?)
}

fn signals_are_passed_on(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let mut child = sandbox.spawn(["run", "--network", "none", "--name", "box", "busybox", "sh", "-c", TELLS])?;
    let mut output = child.stdout.take().context("no output")?;
    // It has the signals in hand before it copies the first byte.
    output.read_exact(&mut [0; 6])?;
    signal(&child)?;
    same!(ends(sandbox, &mut child)?.code(), Some(5));
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    same!(rest, "got it\n");
    Ok(())
}

fn signals_are_kept(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["run", "--sig-proxy=false", "--network", "none", "--name", "box", "busybox", "sh", "-c", TELLS];
    let mut child = sandbox.spawn(options)?;
    child.stdout.take().context("no output")?.read_exact(&mut [0; 6])?;
    signal(&child)?;
    // The signal is the client's own.
    ensure!(ends(sandbox, &mut child)?.code().is_none_or(|code| code != 5), "the container ended");
    same!(sandbox.inspect("box")?["State"]["Status"], "running");
    let log = sandbox.ok(["logs", "box"])?;
    same!(log, "ready");
    Ok(())
}
