//! Logs: rotated, compressed, complete, and sent elsewhere.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![log_drivers:
    nothing_is_lost_in_rotation, following_across_rotation, since_until_tail, options_of_json_file, local_and_none, syslog,
    no_syslog, journald [Root], slow_readers, heavy_output,
];

/// The files of a container's log.
fn files(sandbox: &Sandbox, id: &str) -> Result<Vec<PathBuf>> {
    let directory = sandbox.path("data").join("containers").join(id);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.to_string_lossy().contains("-json.log"));
    files.sort();
    Ok(files)
}

fn numbers(from: u32, to: u32) -> String {
    (from..=to).map(|number| format!("{number}\n")).collect()
}

fn nothing_is_lost_in_rotation(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["--network", "none", "--log-opt", "max-size=200k", "--log-opt", "max-file=60", "--name", "box"];
    let id = sandbox.detached(&options, "seq 1 60000; sleep 1; echo end")?;
    sandbox.wait_for_state("box", "exited")?;
    let text = sandbox.dhow(["logs", "box"])?.stdout;
    ensure!(text == numbers(1, 60_000) + "end\n", "the log has {} lines", text.lines().count());
    let packed: Vec<PathBuf> =
        files(sandbox, &id)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "gz")).collect();
    ensure!(packed.len() > 10, "compressed are {packed:?}");
    // Docker's tools, and everybody else's, can read them.
    let mut command = std::process::Command::new("gzip");
    command.arg("-dc").arg(&packed[0]);
    let lines = String::from_utf8(command.output()?.stdout)?;
    ensure!(
        lines.lines().all(|line| line.starts_with("{\"log\":\"") && line.ends_with("\"}")),
        "lines: {}",
        &lines[..200]
    );
    for path in files(sandbox, &id)? {
        ensure!(path.metadata()?.len() <= 220_000, "{} is too long", path.display());
    }
    // The last lines of the whole, however many files they are in.
    same!(sandbox.dhow(["logs", "--tail", "20000", "box"])?.stdout, numbers(40_002, 60_000) + "end\n");
    Ok(())
}

fn following_across_rotation(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["--network", "none", "--log-opt", "max-size=50k", "--log-opt", "max-file=40", "--name", "box"];
    let script =
        "for part in 0 1 2 3 4 5 6 7 8 9; do seq $((part * 2000 + 1)) $((part * 2000 + 2000)); sleep 0.1; done";
    sandbox.detached(&options, script)?;
    let output = sandbox.dhow(["logs", "-f", "box"])?;
    ensure!(output.stdout == numbers(1, 20_000), "followed {} lines", output.stdout.lines().count());
    Ok(())
}

fn since_until_tail(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox
        .detached(&["--network", "none", "--name", "box"], "echo one; sleep 0.5; echo two; sleep 0.5; echo three")?;
    sandbox.wait_for_state("box", "exited")?;
    let stamped = sandbox.ok(["logs", "-t", "box"])?;
    let times: Vec<&str> = stamped.lines().filter_map(|line| line.split(' ').next()).collect();
    same!(times.len(), 3);
    same!(sandbox.ok(["logs", "--since", times[1], "box"])?, "two\nthree");
    same!(sandbox.ok(["logs", "--until", times[1], "box"])?, "one\ntwo");
    same!(sandbox.ok(["logs", "-n", "1", "box"])?, "three");
    same!(sandbox.ok(["logs", "--tail", "0", "box"])?, "");
    same!(sandbox.ok(["logs", "--since", "1h", "--until", "30m", "box"])?, "");
    sandbox.dhow(["logs", "--since", "never", "box"])?.fails(1, &["invalid value for \"since\""])
}

fn options_of_json_file(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(
        &[
            "--network",
            "none",
            "--name",
            "box",
            "--label",
            "app=web",
            "-e",
            "MODE=test",
            "--log-opt",
            "labels=app",
            "--log-opt",
            "env=MODE",
            "--log-opt",
            "tag={{.Name}}",
        ],
        "echo hi",
    )?;
    sandbox.wait_for_log("box", "hi")?;
    let line = std::fs::read_to_string(&files(sandbox, &id)?[0])?;
    contains!(line, "\"attrs\":{\"MODE\":\"test\",\"app\":\"web\",\"tag\":\"box\"}");
    same!(sandbox.ok(["logs", "box"])?, "hi");
    contains!(sandbox.ok(["logs", "--details", "box"])?, "MODE=test,app=web");
    for (driver, option, words) in [
        ("paper", "a=b", "no log driver named 'paper'"),
        ("json-file", "foo=bar", "unknown log opt 'foo' for json-file log driver"),
        ("json-file", "mode=fast", "logging mode not supported: fast"),
        ("json-file", "max-size=many", "max-size=many"),
        ("syslog", "syslog-facility=kitchen", "invalid syslog facility"),
        ("none", "max-size=1m", "invalid logging opts for driver none"),
    ] {
        let arguments = ["create", "--log-driver", driver, "--log-opt", option, "busybox", "true"];
        let output = sandbox.dhow(arguments)?;
        ensure!(output.code != 0, "{driver} {option} was taken");
        // Docker's command line refuses the last by itself, before it asks for a container.
        output.fails(if driver == "none" { 125 } else { 1 }, &[words])?;
    }
    Ok(())
}

fn local_and_none(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "local", "--log-driver", "local"], "echo hi; echo oops >&2")?;
    sandbox.wait_for_state("local", "exited")?;
    let output = sandbox.dhow(["logs", "local"])?;
    same!((output.stdout.as_str(), output.stderr.as_str()), ("hi\n", "oops\n"));
    same!(sandbox.inspect("local")?["HostConfig"]["LogConfig"]["Type"], "local");
    sandbox.detached(&["--network", "none", "--name", "none", "--log-driver", "none"], "echo hi")?;
    sandbox.dhow(["logs", "none"])?.fails(1, &["does not support reading"])
}

fn syslog(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let path = sandbox.path("files").join("log.sock");
    let server = UnixDatagram::bind(&path)?;
    server.set_read_timeout(Some(sandbox.seconds(10)))?;
    let address = format!("syslog-address=unixgram://{}", path.display());
    sandbox.detached(
        &[
            "--network",
            "none",
            "--name",
            "box",
            "--log-driver",
            "syslog",
            "--log-opt",
            &address,
            "--log-opt",
            "tag={{.Name}}",
            "--log-opt",
            "syslog-facility=local0",
            "--log-opt",
            "syslog-format=rfc5424",
        ],
        "echo hello; sleep 0.1; echo trouble >&2",
    )?;
    let mut buffer = [0; 2000];
    for (number, text) in [("<134>1 ", "hello"), ("<131>1 ", "trouble")] {
        let length = server.recv(&mut buffer)?;
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        ensure!(message.starts_with(number) && message.ends_with(text) && message.contains(" box "), "{message}");
    }
    // What goes elsewhere can still be read here.
    contains!(sandbox.wait_for_log("box", "hello")?, "hello");
    Ok(())
}

fn no_syslog(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let address = format!("syslog-address=unixgram://{}", sandbox.path("files").join("nobody").display());
    let arguments =
        ["run", "--rm", "--network", "none", "--log-driver", "syslog", "--log-opt", &address, "busybox", "true"];
    sandbox.dhow(arguments)?.fails(125, &["nobody"])?;
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}

fn journald(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // In the test's own mount namespace.
    let directory = std::path::Path::new("/run/systemd/journal");
    let below = if directory.is_dir() { directory } else { std::path::Path::new("/run") };
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(below).status()?;
    if !mounted.success() {
        return skip("no directory for a journal's socket can be made");
    }
    let result = journal_gets_lines(sandbox, directory);
    ensure!(std::process::Command::new("umount").args(["-l"]).arg(below).status()?.success(), "umount");
    result
}

fn journal_gets_lines(sandbox: &Sandbox, directory: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let server = UnixDatagram::bind(directory.join("socket"))?;
    server.set_read_timeout(Some(sandbox.seconds(10)))?;
    let options = [
        "--network",
        "none",
        "--name",
        "box",
        "--log-driver",
        "journald",
        "--label",
        "app=web",
        "--log-opt",
        "labels=app",
    ];
    let id = sandbox.detached(&options, "echo hello")?;
    let mut buffer = [0; 2000];
    let length = server.recv(&mut buffer)?;
    let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
    for line in [
        format!("CONTAINER_ID_FULL={id}\n"),
        "CONTAINER_NAME=box\n".into(),
        "APP=web\n".into(),
        "PRIORITY=6\n".into(),
        "MESSAGE=hello\n".into(),
    ] {
        contains!(message, line);
    }
    Ok(())
}

fn slow_readers(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "head -c 3000000 /dev/zero | tr '\\0' 'x'; echo done > /done; sleep 1000";
    for (name, mode) in [("waits", &[][..]), ("goes-on", &["--log-opt", "mode=non-blocking"][..])] {
        let options = [&["run", "--network", "none", "--name", name], mode, &["busybox", "sh", "-c", script]].concat();
        // Nobody reads its output.
        let mut child = sandbox.spawn(options)?;
        sandbox.wait_for_state(name, "running")?;
        let written = || -> Result<bool> {
            Ok(sandbox.command(["exec", name, "test", "-e", "/done"]).output()?.status.success())
        };
        if mode.is_empty() {
            std::thread::sleep(Duration::from_millis(500));
            ensure!(!written()?, "it did not wait for its reader");
            let mut out = child.stdout.take().context("no output")?;
            let mut text = vec![0; 3_000_000];
            out.read_exact(&mut text)?;
            host::until("everything is written", sandbox.seconds(10), || Ok(written()?.then_some(())))?;
        } else {
            host::until("everything is written", sandbox.seconds(10), || Ok(written()?.then_some(())))?;
        }
        sandbox.ok(["rm", "-f", name])?;
        drop(child.kill());
        child.wait()?;
    }
    Ok(())
}

fn heavy_output(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // Two writers at once, all kept: no line may be lost or torn.
    let options = ["--network", "none", "--log-opt", "max-size=4m", "--log-opt", "max-file=100", "--name", "box"];
    let script = "seq 1 150000 & seq 1 150000 >&2 & wait";
    sandbox.detached(&options, script)?;
    host::until("it has ended", sandbox.seconds(60), || {
        Ok((sandbox.ok(["inspect", "-f", "{{.State.Status}}", "box"])? == "exited").then_some(()))
    })?;
    let output = sandbox.command(["logs", "box"]).output()?;
    let expected = numbers(1, 150_000);
    ensure!(output.stdout == expected.as_bytes(), "stdout has {} bytes", output.stdout.len());
    ensure!(output.stderr == expected.as_bytes(), "stderr has {} bytes", output.stderr.len());
    Ok(())
}
