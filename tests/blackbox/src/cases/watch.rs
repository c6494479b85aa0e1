//! Looking at containers and changing them while they run: stats, top, update, prune.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;

cases![watch:
    device_in_an_image [User],
    rarer_limits [Root],
    stats_once, stats_of_work, stats_stream, top, update_limits [Root], update_restart_policy, update_wrong, prune, terminal_sizes,
    warnings,
];

fn rows(sandbox: &Sandbox, arguments: &[&str]) -> Result<Vec<Value>> {
    let all = [&["stats", "--no-stream", "--format", "json"], arguments].concat();
    sandbox.ok(all)?.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

fn stats_once(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    sandbox.ok(["create", "--network", "none", "--name", "still", "busybox", "true"])?;
    let table = sandbox.ok(["stats", "--no-stream"])?;
    let head = table.lines().next().unwrap_or_default();
    let words: Vec<&str> = head.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    same!(words, ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]);
    same!(table.lines().count(), 2);
    contains!(table, &id[..12]);
    let rows_all = rows(sandbox, &["--all"])?;
    same!(rows_all.len(), 2);
    let still = rows_all.iter().find(|row| row["Name"] == "still").context("still")?;
    same!(still["MemUsage"], "0B / 0B");
    let named = rows(sandbox, &["--no-trunc", "box"])?;
    same!(named[0]["ID"], id.as_str());
    same!(named[0]["Container"], "box");
    same!(sandbox.ok(["stats", "--no-stream", "--format", "{{.Name}}: {{.NetIO}}", "box"])?, "box: 0B / 0B");
    sandbox.dhow(["stats", "--no-stream", "nobody"])?.fails(1, &["no such container: nobody"])
}

fn stats_of_work(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "busy"], "while :; do :; done")?;
    let row = rows(sandbox, &["busy"])?.remove(0);
    let number =
        |key: &str| -> f64 { row[key].as_str().unwrap_or_default().trim_end_matches('%').parse().unwrap_or(-1.0) };
    if number("PIDs") == 0.0 {
        // An ordinary user to whom no cgroup is delegated.
        return crate::case::skip("no cgroup to read");
    }
    ensure!(number("CPUPerc") > 5.0 && number("CPUPerc") < 150.0, "{row}");
    ensure!(number("PIDs") >= 1.0, "{row}");
    contains!(row["MemUsage"].as_str().unwrap_or_default(), "iB / ");
    Ok(())
}

fn stats_stream(sandbox: &Sandbox) -> Result<()> {
    use std::io::Read;
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    let mut child = sandbox.spawn(["stats"])?;
    let mut text = String::new();
    let mut buffer = [0; 1000];
    let mut out = child.stdout.take().context("no output")?;
    while text.matches("CONTAINER ID").count() < 2 {
        let read = out.read(&mut buffer)?;
        ensure!(read > 0, "ended after {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    contains!(text, "\x1b[H");
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn top(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box"], "sleep 1001 & exec sleep 1002")?;
    let pid = sandbox.pid("box")?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    let table = sandbox.ok(["top", "box"])?;
    let titles: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    same!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    same!(table.lines().count(), 3);
    contains!(table, "sleep 1002");
    let chosen = sandbox.ok(["top", "box", "-o", "pid,comm"])?;
    contains!(chosen.lines().nth(1).unwrap_or_default(), &pid.to_string());
    contains!(chosen, "sleep");
    contains!(sandbox.ok(["top", "box", "aux"])?, "%CPU");
    sandbox.dhow(["top", "box", "-o", "comm"])?.fails(1, &["Couldn't find PID field"])?;
    sandbox.dhow(["top", "box", "-o", "pid,nonsense"])?.fails(1, &["format specifier \"nonsense\""])?;
    sandbox.ok(["stop", "-t", "0", "box"])?;
    sandbox.dhow(["top", "box"])?.fails(1, &["is not running"])
}

/// What the container sees of its own limit, on either version.
const MEMORY: &str = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
const PIDS: &str = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/*/pids.max 2>/dev/null | head -n 1";

fn update_limits(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "-m", "64m", "--pids-limit", "64"], "exec sleep 1000")?;
    same!(sandbox.ok(["exec", "box", "sh", "-c", MEMORY])?, (64 << 20).to_string());
    same!(rows(sandbox, &["box"])?[0]["MemUsage"].as_str().is_some_and(|text| text.ends_with("iB / 64MiB")), true);
    same!(sandbox.ok(["update", "-m", "128m", "--pids-limit", "77", "--cpus", "0.5", "box"])?, "box");
    same!(sandbox.ok(["exec", "box", "sh", "-c", MEMORY])?, (128 << 20).to_string());
    same!(sandbox.ok(["exec", "box", "sh", "-c", PIDS])?, "77");
    let config = sandbox.inspect("box")?["HostConfig"].take();
    same!(
        (&config["Memory"], &config["PidsLimit"], &config["NanoCpus"]),
        (&(128 << 20).into(), &77.into(), &500_000_000.into())
    );
    // Down again, and it stays after a restart.
    sandbox.ok(["update", "-m", "32m", "--pids-limit", "0", "box"])?;
    same!(sandbox.ok(["exec", "box", "sh", "-c", MEMORY])?, (32 << 20).to_string());
    same!(sandbox.ok(["exec", "box", "sh", "-c", PIDS])?, "max");
    sandbox.ok(["restart", "-t", "0", "box"])?;
    same!(sandbox.ok(["exec", "box", "sh", "-c", MEMORY])?, (32 << 20).to_string());
    // One that does not run is changed for its next run.
    sandbox.ok(["stop", "-t", "0", "box"])?;
    sandbox.ok(["update", "-m", "48m", "box"])?;
    sandbox.ok(["start", "box"])?;
    same!(sandbox.ok(["exec", "box", "sh", "-c", MEMORY])?, (48 << 20).to_string());
    Ok(())
}

/// Limits that only one of the cgroup versions has are in force, or refused by name.
fn rarer_limits(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (flag, file, value) in [
        ("--memory-swappiness=7", "memory/memory.swappiness", "7"),
        ("--oom-kill-disable", "memory/memory.oom_control", "oom_kill_disable 1"),
        ("--cpu-shares=512", "cpu/cpu.shares", "512"),
    ] {
        let script = format!("cat /sys/fs/cgroup/{file} 2>/dev/null || echo v2");
        let output =
            sandbox.dhow(["run", "--rm", "--network", "none", "-m", "64m", flag, "busybox", "sh", "-c", &script])?;
        match output.code {
            0 => ensure!(output.stdout.contains(value) || output.stdout.contains("v2"), "{flag}: {}", output.stdout),
            _ => output.fails(125, &["has no such limit"])?,
        }
    }
    sandbox.ok(["create", "--network", "none", "--name", "box", "--memory-swappiness", "7", "busybox", "true"])?;
    same!(sandbox.inspect("box")?["HostConfig"]["MemorySwappiness"], 7);
    sandbox.dhow(["create", "--blkio-weight", "5", "busybox"])?.fails(1, &["from 10 to 1000"])?;
    sandbox.dhow(["create", "--memory-swappiness", "101", "busybox"])?.fails(125, &["range is 0-100"])?;
    sandbox.dhow(["create", "--device-read-bps", "sda:1mb", "busybox"])?.fails(125, &["bad format for device path"])?;
    let output =
        sandbox.dhow(["create", "--network", "none", "--device-read-bps", "/dev/null:1mb", "busybox", "true"])?;
    output.fails(1, &["\"/dev/null\" is not a block device"])
}

fn update_restart_policy(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box"], "echo run; exec sleep 1000")?;
    sandbox.wait_for_log("box", "run")?;
    sandbox.ok(["update", "--restart", "always", "box"])?;
    let pid = sandbox.pid("box")?.to_string();
    // In the test's own pid namespace, so this is the process.
    ensure!(std::process::Command::new("kill").args(["-KILL", &pid]).status()?.success(), "kill {pid}");
    sandbox.wait_for_log("box", "run\nrun\n")?;
    sandbox.ok(["update", "--restart", "no", "box"])?;
    sandbox.wait_for_state("box", "running")?;
    let pid = sandbox.pid("box")?.to_string();
    ensure!(std::process::Command::new("kill").args(["-KILL", &pid]).status()?.success(), "kill {pid}");
    sandbox.wait_for_state("box", "exited")?;
    sandbox.detached(&["--rm", "--network", "none", "--name", "goes"], "exec sleep 1000")?;
    sandbox.dhow(["update", "--restart", "always", "goes"])?.fails(1, &["because AutoRemove is enabled"])
}

fn update_wrong(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--network", "none", "--name", "box", "busybox", "true"])?;
    sandbox.dhow(["update", "box"])?.fails(1, &["must provide one or more flags"])?;
    sandbox.dhow(["update", "-m", "1k", "box"])?.fails(1, &["too small"])?;
    sandbox.dhow(["update", "--restart", "maybe", "box"])?.fails(1, &["unknown policy"])?;
    sandbox.dhow(["update", "-m", "64m", "nobody"])?.fails(1, &["no such container"])
}

fn prune(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "runs"], "exec sleep 1000")?;
    sandbox.ok([
        "run",
        "--network",
        "none",
        "--name",
        "wrote",
        "busybox",
        "sh",
        "-c",
        "head -c 100000 /dev/zero > /file",
    ])?;
    sandbox.ok(["create", "--network", "none", "--name", "keep", "--label", "keep=yes", "busybox", "true"])?;
    let output = sandbox.dhow_with_input("n\n", ["container", "prune"])?;
    same!(output.code, 0);
    contains!(output.stdout, "This will remove all stopped containers");
    same!(sandbox.ok(["ps", "-aq"])?.lines().count(), 3);
    same!(sandbox.ok(["container", "prune", "-f", "--filter", "until=24h"])?, "Total reclaimed space: 0B");
    let text = sandbox.ok(["container", "prune", "-f", "--filter", "label!=keep"])?;
    contains!(text, "Deleted Containers:\n");
    contains!(text, "Total reclaimed space: 100kB");
    sandbox.dhow_with_input("y\n", ["container", "prune"])?.success()?;
    same!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"])?, "runs");
    sandbox.dhow(["container", "prune", "-f", "--filter", "name=x"])?.fails(1, &["invalid filter 'name'"])
}

/// A terminal has the caller's size from its first moment: `script` gives dhow one of 40 by 100.
fn terminal_sizes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let inner = |words: &str| -> Result<String> {
        let command = sandbox.command(["x"]);
        let program: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .filter(|word| *word != "x")
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &format!("stty rows 40 cols 100; {} {words}", program.join(" ")), "/dev/null"]);
        let output = script.stdin(std::process::Stdio::null()).output();
        match output {
            Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            Err(_) => crate::case::skip("there is no script(1)"),
        }
    };
    contains!(inner("run --rm --network none -t busybox stty size")?, "40 100");
    sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    contains!(inner("exec -t box stty size")?, "40 100");
    Ok(())
}

fn warnings(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // Whatever this machine lacks, the container's own output stays clean.
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "echo", "hi"])?;
    same!((output.stdout.as_str(), output.stderr.as_str()), ("hi\n", ""));
    Ok(())
}

/// A device node in a layer, which an ordinary user cannot make, is left out, and that is said.
fn device_in_an_image(sandbox: &Sandbox) -> Result<()> {
    let mut header = [0u8; 512];
    for (at, text) in [
        (0, "dev/null"),
        (100, "0000666"),
        (108, "0000000"),
        (116, "0000000"),
        (124, "00000000000"),
        (136, "00000000000"),
        (148, "        "),
        (156, "3"),
        (257, "ustar"),
        (263, "00"),
        (329, "0000001"),
        (337, "0000003"),
    ] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut layer = header.to_vec();
    layer.extend([0; 1024]);
    let path = sandbox.file("image/layer.tar", &layer)?;
    let digest = String::from_utf8(std::process::Command::new("sha256sum").arg(&path).output()?.stdout)?;
    let digest = digest.split_whitespace().next().context("no digest")?.to_owned();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["/x"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    sandbox.file("image/config.json", config.to_string())?;
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["device:1"], "Layers": ["layer.tar"] }]);
    sandbox.file("image/manifest.json", manifest.to_string())?;
    let (directory, archive) = (sandbox.path("files/image"), sandbox.path("files/image.tar"));
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(directory).arg("-cf").arg(&archive).args(["manifest.json", "config.json", "layer.tar"]);
    ensure!(tar.status()?.success(), "tar");
    let output = sandbox.dhow(["load".as_ref(), "-i".as_ref(), archive.as_os_str()])?;
    same!(output.code, 0, "{}", output.stderr);
    contains!(output.stderr, "WARNING: layer ");
    contains!(output.stderr, "dev/null");
    Ok(())
}
