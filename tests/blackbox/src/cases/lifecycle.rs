//! Containers that outlive the command that started them: start, stop, logs, exec, attach, wait, remove.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![lifecycle:
    detached_prints_its_id, create_and_start, stop_asks_first, stop_insists, stop_signal, kill_with_signal, wait_before_and_after,
    remove_running, unknown_container, short_ids_and_names, logs, logs_follow, logs_of_a_terminal, exec_codes, exec_options,
    exec_input, exec_in_stopped, exec_sees_the_container, attach_sees_output_and_gives_input, command_line_dies, monitor_dies,
    inspect_states, ps_columns, restart_keeps_data, info_and_version, interrupted_run,
];

fn detached_prints_its_id(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    ensure!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "no id: {id:?}");
    let text = sandbox.ok(["ps"])?;
    contains!(text, &id[..12]);
    contains!(text, "box");
    contains!(text, "Up ");
    same!(sandbox.ok(["ps", "-q"])?, &id[..12]);
    same!(sandbox.ok(["ps", "-q", "--no-trunc"])?, id);
    Ok(())
}

fn create_and_start(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "--name", "box", "busybox", "sh", "-c", "echo hi; exit 3"])?;
    contains!(sandbox.ok(["ps", "-a"])?, "Created");
    let output = sandbox.dhow(["start", "-a", "box"])?;
    same!((output.code, output.stdout.as_str()), (3, "hi\n"));
    // Without -a it prints what it started.
    same!(sandbox.ok(["start", "box"])?, "box");
    same!(sandbox.ok(["wait", &id])?, "3");
    Ok(())
}

fn stop_asks_first(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id =
        sandbox.detached(&["--network", "none"], "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")?;
    sandbox.wait_for_log(&id, "ready")?;
    same!(sandbox.ok(["stop", &id])?, id);
    same!(sandbox.ok(["wait", &id])?, "5");
    // Once more is no error.
    sandbox.ok(["stop", &id])?;
    Ok(())
}

fn stop_insists(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "trap '' TERM; echo ready; while :; do sleep 0.05; done")?;
    sandbox.wait_for_log(&id, "ready")?;
    let started = Instant::now();
    sandbox.ok(["stop", "-t", "1", &id])?;
    let time = started.elapsed();
    ensure!(time.as_secs_f64() >= 0.9 && time < sandbox.seconds(8), "it took {time:?}");
    same!(sandbox.ok(["wait", &id])?, "137");
    Ok(())
}

fn stop_signal(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "trap 'exit 6' USR1; echo ready; while :; do sleep 0.05; done";
    let id = sandbox.detached(&["--network", "none", "--stop-signal", "SIGUSR1", "--stop-timeout", "20"], script)?;
    sandbox.wait_for_log(&id, "ready")?;
    sandbox.ok(["stop", &id])?;
    same!(sandbox.ok(["wait", &id])?, "6");
    Ok(())
}

fn kill_with_signal(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "trap 'echo usr1' USR1; trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done";
    let id = sandbox.detached(&["--network", "none"], script)?;
    sandbox.wait_for_log(&id, "ready")?;
    sandbox.ok(["kill", "-s", "USR1", &id])?;
    sandbox.wait_for_log(&id, "usr1")?;
    sandbox.dhow(["kill", "-s", "NOSUCH", &id])?.fails(1, &["NOSUCH"])?;
    sandbox.ok(["kill", "--signal", "2", &id])?;
    same!(sandbox.ok(["wait", &id])?, "7");
    sandbox.dhow(["kill", &id])?.fails(1, &["not running"])
}

fn wait_before_and_after(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "sleep 0.5; exit 4")?;
    let waiting = sandbox.spawn(["wait", &id])?;
    same!(sandbox.ok(["wait", &id])?, "4");
    same!(String::from_utf8_lossy(&waiting.wait_with_output()?.stdout), "4\n");
    same!(sandbox.ok(["wait", &id])?, "4");
    Ok(())
}

fn remove_running(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    sandbox.dhow(["rm", &id])?.fails(1, &["running"])?;
    same!(sandbox.ok(["rm", "-f", &id])?, id);
    same!(sandbox.ok(["ps", "-a", "-q"])?, "");
    ensure!(!sandbox.path("data/containers").join(&id).exists(), "its directory is still there");
    ensure!(!sandbox.path("run/containers").join(&id).exists(), "its run directory is still there");
    Ok(())
}

fn unknown_container(sandbox: &Sandbox) -> Result<()> {
    for verb in ["start", "stop", "kill", "logs", "wait", "inspect", "attach", "rm"] {
        sandbox.dhow([verb, "nosuch"])?.fails(1, &["no such", "nosuch"])?;
    }
    sandbox.dhow(["exec", "nosuch", "true"])?.fails(1, &["no such container", "nosuch"])
}

fn short_ids_and_names(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "--name", "box", "busybox"])?;
    for word in [&id, &id[..12], &id[..5], "box"] {
        same!(sandbox.ok(["inspect", "--format", "{{.Id}}", word])?, id);
    }
    same!(sandbox.ok(["inspect", "--format", "{{.Name}}", &id])?, "/box");
    Ok(())
}

fn logs(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id =
        sandbox.detached(&["--network", "none"], "echo one; echo two >&2; sleep 0.2; echo three; printf 'no end'")?;
    sandbox.ok(["wait", &id])?;
    let output = sandbox.dhow(["logs", &id])?;
    same!(output.stdout, "one\nthree\nno end");
    same!(output.stderr, "two\n");
    same!(sandbox.dhow(["logs", "--tail", "1", &id])?.stdout, "no end");
    let stamped = sandbox.dhow(["logs", "-t", &id])?.stdout;
    let line = stamped.lines().next().context("no line")?;
    ensure!(line.starts_with("20") && line.contains('T') && line.ends_with("Z one"), "{line}");
    Ok(())
}

fn logs_follow(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done")?;
    let follow = sandbox.spawn(["logs", "-f", &id])?;
    // It ends by itself when the container does.
    let output = follow.wait_with_output()?;
    same!(String::from_utf8_lossy(&output.stdout), "1\n2\n3\n4\n5\n");
    ensure!(output.status.success(), "{}", output.status);
    Ok(())
}

fn logs_of_a_terminal(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["-t", "--network", "none"], "echo out; echo err >&2")?;
    sandbox.ok(["wait", &id])?;
    same!(sandbox.dhow(["logs", &id])?.stdout, "out\r\nerr\r\n");
    Ok(())
}

fn exec_codes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    same!(sandbox.dhow(["exec", &id, "sh", "-c", "exit 9"])?.code, 9);
    same!(sandbox.dhow(["exec", &id, "sh", "-c", "kill -9 $$"])?.code, 137);
    sandbox.dhow(["exec", &id, "nosuch"])?.fails(127, &["nosuch"])?;
    sandbox.dhow(["exec", &id, "/etc/passwd"])?.fails(126, &["/etc/passwd"])?;
    // The container is none the worse.
    same!(sandbox.ok(["exec", &id, "echo", "fine"])?, "fine");
    Ok(())
}

fn exec_options(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none", "-e", "A=1", "-w", "/tmp"], "exec sleep 1000")?;
    same!(sandbox.ok(["exec", &id, "sh", "-c", "echo $A; pwd"])?, "1\n/tmp");
    let text =
        sandbox.ok(["exec", "-e", "A=2", "-w", "/etc", "-u", "www-data", &id, "sh", "-c", "echo $A; pwd; id -un"])?;
    same!(text, "2\n/etc\nwww-data");
    same!(sandbox.ok(["exec", "-t", &id, "tty"])?, "/dev/pts/0\r");
    sandbox.ok(["exec", "-d", &id, "touch", "/tmp/detached"])?;
    host::until("the detached command ran", sandbox.seconds(10), || {
        Ok((sandbox.dhow(["exec", &id, "test", "-e", "/tmp/detached"])?.code == 0).then_some(()))
    })
}

fn exec_input(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    let text = "some input\n".repeat(20_000);
    let output = sandbox.dhow_with_input(&text, ["exec", "-i", &id, "cat"])?;
    ensure!(output.stdout == text, "{} of {} bytes came back", output.stdout.len(), text.len());
    same!(sandbox.dhow_with_input("ignored", ["exec", &id, "cat"])?.stdout, "");
    let output = sandbox.dhow(["exec", &id, "sh", "-c", "echo out; echo err >&2"])?;
    same!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    Ok(())
}

fn exec_in_stopped(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "true"])?;
    sandbox.dhow(["exec", &id, "true"])?.fails(1, &["not running"])
}

fn exec_sees_the_container(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "touch /mark; echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    let script = "ls /mark; cat /proc/1/comm; for n in pid net mnt ipc uts; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done";
    let text = sandbox.ok(["exec", &id, "sh", "-c", script])?;
    let lines: Vec<&str> = text.lines().collect();
    same!(lines[..2], ["/mark", "sleep"]);
    for pair in lines[2..].chunks(2) {
        same!(pair[0], pair[1]);
    }
    let limits = ["CapEff", "CapBnd", "NoNewPrivs", "Seccomp"];
    let status = sandbox.ok(["exec", &id, "sh", "-c", "cat /proc/self/status /proc/1/status"])?;
    for name in limits {
        let values: Vec<&str> = status.lines().filter(|line| line.starts_with(&format!("{name}:"))).collect();
        same!(values[0], values[1], "of exec and of the container");
    }
    Ok(())
}

fn attach_sees_output_and_gives_input(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(
        &["-i", "--network", "none"],
        "while read line; do test $line = end && exit 8; echo got $line; done",
    )?;
    let mut attached = sandbox.spawn(["attach", &id])?;
    let mut input = attached.stdin.take().context("no input")?;
    let mut output = BufReader::new(attached.stdout.take().context("no output")?);
    for word in ["a", "b"] {
        writeln!(input, "{word}")?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        same!(line, format!("got {word}\n"));
    }
    // The end of one attached input is not the end of the container's: others may attach.
    writeln!(input, "end")?;
    same!(attached.wait()?.code(), Some(8));
    Ok(())
}

/// The command line is killed; the container goes on, and is found again.
fn command_line_dies(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "i=0; while test $i -lt 1000; do echo $i; i=$((i+1)); sleep 0.05; done";
    let mut run = sandbox.spawn(["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script])?;
    sandbox.wait_for_log("box", "\n3\n")?;
    run.kill()?;
    run.wait()?;
    let seen = sandbox.ok(["logs", "box"])?.lines().count();
    host::until("the log grows", sandbox.seconds(10), || {
        Ok((sandbox.ok(["logs", "box"])?.lines().count() > seen + 5).then_some(()))
    })?;
    same!(sandbox.ok(["inspect", "--format", "{{.State.Running}}", "box"])?, "true");
    sandbox.ok(["stop", "-t", "0", "box"])?;
    Ok(())
}

/// The monitor is killed: its container does not run on unseen, and the next command knows.
fn monitor_dies(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    let pid = sandbox.pid(&id)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = stat.rsplit_once(") ").and_then(|(_, tail)| tail.split(' ').nth(1)).context("no parent")?.to_owned();
    host::succeed(std::process::Command::new("kill").args(["-9", &parent]))?;
    sandbox.wait_for_state(&id, "exited")?;
    host::until("the container's process has ended", sandbox.seconds(10), || {
        Ok((!std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
            || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")))
        .then_some(()))
    })?;
    sandbox.ok(["rm", &id])?;
    Ok(())
}

fn inspect_states(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "-e", "A=1", "busybox", "sh", "-c", "echo up; sleep 1000"])?;
    same!(sandbox.inspect(&id)?["State"]["Status"], "created");
    sandbox.ok(["start", &id])?;
    let running = sandbox.inspect(&id)?;
    same!(running["State"]["Status"], "running");
    same!(running["State"]["Running"], true);
    same!(running["Config"]["Image"], "busybox");
    same!(running["Config"]["Cmd"], serde_json::json!(["sh", "-c", "echo up; sleep 1000"]));
    same!(running["HostConfig"]["NetworkMode"], "none");
    sandbox.ok(["kill", &id])?;
    sandbox.ok(["wait", &id])?;
    let exited = sandbox.inspect(&id)?;
    same!(exited["State"]["Status"], "exited");
    same!(exited["State"]["ExitCode"], 137);
    same!(exited["State"]["Pid"], 0);
    same!(exited["State"]["OOMKilled"], false);
    let started = exited["State"]["StartedAt"].as_str().unwrap_or_default();
    ensure!(started.starts_with("20") && started.ends_with('Z'), "StartedAt is {started:?}");
    // Names that are nothing are an error after what was found was printed.
    let output = sandbox.dhow(["inspect", &id, "nosuch"])?;
    same!(output.code, 1);
    same!(serde_json::from_str::<Value>(&output.stdout)?.as_array().map(Vec::len), Some(1));
    Ok(())
}

fn ps_columns(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    let text = sandbox.ok(["ps"])?;
    for column in ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"] {
        contains!(text, column);
    }
    same!(sandbox.ok(["ps", "--format", "{{.ID}} {{.Image}} {{.Names}}"])?, format!("{} busybox box", &id[..12]));
    same!(sandbox.ok(["ps", "-q", "--filter", "name=box"])?, &id[..12]);
    same!(sandbox.ok(["ps", "-q", "--filter", "name=other"])?, "");
    Ok(())
}

fn restart_keeps_data(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "sh", "-c", "echo x >>/count; wc -l </count"])?;
    for number in ["1", "2", "3"] {
        same!(sandbox.ok(["start", "-a", &id])?, number);
    }
    Ok(())
}

fn info_and_version(sandbox: &Sandbox) -> Result<()> {
    let version = sandbox.ok(["version"])?;
    contains!(version.to_lowercase(), "version");
    sandbox.ok(["--version"])?;
    contains!(sandbox.ok(["info"])?, "ontainers");
    for verb in ["run", "pull", "load", "exec", "xray"] {
        contains!(sandbox.ok([verb, "--help"])?.to_lowercase(), "usage");
    }
    Ok(())
}

/// An interrupt at the terminal goes to the container, which decides.
fn interrupted_run(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let mut command = sandbox.command(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    same!(line, "ready\n");
    host::succeed(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    same!(rest, "caught\n");
    same!(child.wait()?.code(), Some(3));
    Ok(())
}
