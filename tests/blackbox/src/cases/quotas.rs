//! Limits of size: of a container's own layer (`--storage-opt size=`) and of a volume (`--opt size=`).

use std::fs;

use anyhow::{Result, ensure};

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;

cases![quotas:
    a_layer_has_a_size [Root], its_files_are_seen [Root], nothing_is_left_of_a_kill [Root], a_volume_has_a_size [Root],
    sizes_that_cannot_be, only_root_has_them [User],
];

/// Files of this test that have a loop device.
fn devices(sandbox: &Sandbox) -> Result<usize> {
    let own = sandbox.path("data").display().to_string();
    let mut found = 0;
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let behind = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        found += usize::from(behind.contains(&own) || behind.contains("limited.ext4 (deleted)"));
    }
    Ok(found)
}

/// Devices go with their last user, whom the kernel ends in its own time.
fn no_device_stays(sandbox: &Sandbox) -> Result<()> {
    crate::host::until("no loop device", sandbox.seconds(20), || Ok((devices(sandbox)? == 0).then_some(())))
}

fn a_layer_has_a_size(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["--name", "small", "--storage-opt", "size=24m", "--network", "none"];
    // What fits fits, and one byte more than there is does not.
    let script = "dd if=/dev/zero of=/fits bs=1M count=20 2>&1 | tail -n1; df -m / | tail -n1 | awk '{print $2}';
        dd if=/dev/zero of=/rest bs=1M count=20 2>&1 | grep -o 'No space left on device'; rm /rest; echo done >/last; stat -c %s /fits";
    let said = sandbox.ok([&["run"], options.as_slice(), &["busybox", "sh", "-c", script]].concat())?;
    for word in ["No space left on device", "20971520"] {
        contains!(said, word);
    }
    let shown: u64 = said.lines().filter_map(|line| line.trim().parse().ok()).next().unwrap_or(0);
    ensure!((23..=26).contains(&shown), "df shows {shown} MiB: {said}");
    same!(sandbox.ok(["inspect", "-f", "{{json .HostConfig.StorageOpt}}", "small"])?, "{\"size\":\"24m\"}");
    // It is still there, and still limited, in the next run.
    same!(sandbox.ok(["start", "-a", "small"]).is_ok(), true);
    no_device_stays(sandbox)?;
    let data = sandbox.path("data/containers");
    let taken = || -> Result<u64> {
        let text = crate::host::succeed(std::process::Command::new("du").arg("-sm").arg(&data))?;
        Ok(text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0))
    };
    ensure!((20..=32).contains(&taken()?), "on disk {} MiB", taken()?);
    let df = sandbox.ok(["system", "df", "--format", "{{.Type}} {{.Size}}"])?;
    ensure!(df.lines().any(|line| line.starts_with("Containers 2") && line.ends_with("MB")), "{df}");
    sandbox.ok(["rm", "small"])?;
    ensure!(taken()? <= 1, "after rm {} MiB", taken()?);
    // No limit.
    sandbox.ok(["run", "--rm", "--network", "none", "--storage-opt", "size=0", "busybox", "true"]).map(drop)
}

fn its_files_are_seen(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["run", "-d", "--name", "small", "--storage-opt", "size=16m", "--network", "none"];
    let script = "echo one >/etc/one; rm /etc/passwd; mkdir -m 700 /made; exec sleep 1000";
    sandbox.ok(options.into_iter().chain(["busybox", "sh", "-c", script]))?;
    sandbox.ok(["exec", "small", "sh", "-c", "until test -d /made; do sleep 0.01; done"])?;
    for running in [true, false] {
        if !running {
            sandbox.ok(["kill", "small"])?;
            no_device_stays(sandbox)?;
        }
        let diff = sandbox.ok(["diff", "small"])?;
        for line in ["A /etc/one", "D /etc/passwd", "A /made"] {
            contains!(diff, line);
        }
        sandbox.file("two", "two\n")?;
        let file = sandbox.path("files/two").display().to_string();
        sandbox.ok(["cp", &file, &format!("small:/made/{running}")])?;
        contains!(sandbox.ok(["cp", &format!("small:/made/{running}"), "-"])?, "two");
        contains!(sandbox.ok(["ps", "-as", "--format", "{{.Size}}"])?, "B (virtual");
        let image = format!("of-small:{running}");
        sandbox.ok(["commit", "small", &image])?;
        let test = format!("test \"$(cat /etc/one)\" = one && test ! -e /etc/passwd && cat /made/{running}");
        same!(sandbox.ok(["run", "--rm", "--network", "none", &image, "sh", "-c", &test])?, "two");
        let archive = sandbox.path("files/all.tar").display().to_string();
        sandbox.ok(["export", "-o", &archive, "small"])?;
        contains!(crate::host::succeed(std::process::Command::new("tar").args(["-tf", &archive]))?, "etc/one");
    }
    sandbox.ok(["start", "small"])?;
    same!(sandbox.ok(["exec", "small", "cat", "/made/true", "/made/false"])?, "two\ntwo");
    sandbox.ok(["rm", "-f", "small"])?;
    no_device_stays(sandbox)
}

fn nothing_is_left_of_a_kill(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["run", "-d", "--name", "small", "--storage-opt", "size=16m", "--network", "none"];
    sandbox.ok(options.into_iter().chain(["busybox", "sh", "-c", "echo kept >/kept; exec sleep 1000"]))?;
    sandbox.ok(["exec", "small", "sh", "-c", "until test -s /kept; do sleep 0.01; done; sync"])?;
    let state =
        fs::read_dir(sandbox.path("run/containers"))?.flatten().next().map(|entry| entry.path().join("state.json"));
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(state.unwrap_or_default())?)?;
    let monitor = state["monitor_pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
    ensure!(monitor.is_some(), "{state}");
    rustix::process::kill_process(monitor.unwrap_or(rustix::process::Pid::INIT), rustix::process::Signal::KILL)?;
    // The next command puts it right.
    sandbox.ok(["ps", "-a"])?;
    no_device_stays(sandbox)?;
    sandbox.ok(["start", "small"])?;
    same!(sandbox.ok(["exec", "small", "cat", "/kept"])?, "kept");
    sandbox.ok(["rm", "-f", "small"])?;
    no_device_stays(sandbox)?;
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    Ok(())
}

fn a_volume_has_a_size(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["volume", "create", "--opt", "size=8m", "small"])?;
    same!(sandbox.ok(["volume", "inspect", "-f", "{{json .Options}}", "small"])?, "{\"size\":\"8m\"}");
    let run = |script: &str| {
        sandbox.dhow(["run", "--rm", "--network", "none", "-v", "small:/etc", "busybox", "sh", "-c", script])
    };
    // Copy-up, as into any other volume; then two containers share it.
    same!(run("test -s /etc/passwd && ls -A /etc | grep -c lost")?.stdout.trim(), "0");
    run("echo mine >/etc/mine")?.success()?;
    run("dd if=/dev/zero of=/etc/much bs=1M count=12")?.fails(1, &["No space left on device"])?;
    sandbox.ok(["run", "-d", "--name", "one", "--network", "none", "-v", "small:/s", "busybox", "sleep", "1000"])?;
    same!(run("rm -f /etc/much; cat /etc/mine")?.success()?.trim(), "mine");
    same!(sandbox.ok(["exec", "one", "sh", "-c", "test ! -e /s/much && cat /s/mine"])?, "mine");
    sandbox.ok(["rm", "-f", "one"])?;
    // Looked at from outside.
    let archive = sandbox.path("files/volume.tar").display().to_string();
    sandbox.ok(["volume", "export", "-o", &archive, "small"])?;
    contains!(crate::host::succeed(std::process::Command::new("tar").args(["-xOf", &archive, "./mine"]))?, "mine");
    sandbox.ok(["create", "--name", "two", "-v", "small:/s", "busybox", "true"])?;
    contains!(sandbox.ok(["cp", "two:/s/mine", "-"])?, "mine");
    contains!(
        sandbox.ok([
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "small:/s:ro",
            "busybox",
            "sh",
            "-c",
            "cat /s/mine; echo x >/s/x || echo refused"
        ])?,
        "refused"
    );
    sandbox.ok(["rm", "two"])?;
    no_device_stays(sandbox)?;
    sandbox.ok(["volume", "rm", "small"])?;
    same!(sandbox.path("data/volumes/small").exists(), false);
    Ok(())
}

fn sizes_that_cannot_be(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (option, words) in [
        ("size=much", "invalid size: 'much'"),
        ("size=100t", "too large"),
        ("inodes=5", "unknown storage option: inodes"),
    ] {
        let output = sandbox.dhow(["create", "--storage-opt", option, "busybox", "true"])?;
        output.fails(1, &[words])?;
    }
    sandbox.dhow(["volume", "create", "--opt", "size=x", "v"])?.fails(1, &["invalid size: 'x'"])?;
    same!(sandbox.ok(["ps", "-aq"])?, "");
    same!(sandbox.ok(["volume", "ls", "-q"])?, "");
    Ok(())
}

fn only_root_has_them(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "--storage-opt", "size=1g", "busybox", "true"])?;
    output.fails(125, &["--storage-opt size needs root"])?;
    sandbox
        .dhow(["volume", "create", "--opt", "size=1g", "v"])?
        .fails(1, &["quota size requested but no quota support"])
}
