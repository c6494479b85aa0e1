//! Ordinary users: ids, owners on the host, what is refused and how.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![rootless:
    root_is_the_user [User], subordinate_owner [User], bridge_needs_pasta [User], limits_without_cgroup [User],
    host_network [User], host_processes_end_too [User], without_runtime_directory [User], terminal_group [User],
    second_command_joins [User], killed_monitor [User], private_directories,
];

fn uid() -> Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

fn has_range(sandbox: &Sandbox) -> Result<bool> {
    Ok(sandbox.busybox(&["--network", "none"], "cat /proc/self/uid_map")?.lines().count() > 1)
}

fn root_is_the_user(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(sandbox.busybox(&["--network", "none"], "id -u")?, "0");
    let map = sandbox.busybox(&["--network", "none"], "head -n 1 /proc/self/uid_map")?;
    same!(map.split_whitespace().collect::<Vec<_>>(), ["0", uid()?.to_string().as_str(), "1"]);
    Ok(())
}

fn subordinate_owner(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    if !has_range(sandbox)? {
        return skip("this user has no subordinate ids");
    }
    sandbox.file("shared/own", "")?;
    let volume = format!("{}:/v", sandbox.path("files/shared").display());
    let run = |script: &str| sandbox.busybox(&["--network", "none", "-v", &volume], script);
    run("touch /v/root; mkdir /v/deep; touch /v/deep/other; chown -R 1000:1000 /v/deep")?;
    let owner = |name: &str| Ok::<_, anyhow::Error>(fs::metadata(sandbox.path("files/shared").join(name))?.uid());
    same!(owner("root")?, uid()?);
    ensure!(owner("deep")? != uid()?, "the directory of user 1000 belongs to the user");
    // Files of subordinate ids go by dhow, too.
    run("rm -r /v/deep")?;
    ensure!(!sandbox.path("files/shared/deep").exists());
    Ok(())
}

fn bridge_needs_pasta(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // A directory of programs that has everything but pasta, and one that has a pasta which cannot run.
    let (without, broken) = (sandbox.path("files/without"), sandbox.path("files/broken"));
    for directory in [&without, &broken] {
        fs::create_dir(directory)?;
    }
    let _ = without;
    sandbox.file("broken/pasta", "#!/bin/sh\nexit 1\n")?;
    fs::set_permissions(broken.join("pasta"), fs::Permissions::from_mode(0o755))?;
    let mut command = sandbox.command(["run", "--rm", "busybox", "true"]);
    command.env("PATH", format!("{}:{}", broken.display(), std::env::var("PATH")?));
    sandbox.finish_command(command, "")?.fails(125, &["pasta ended", "--network host", "--network none"])
}

fn limits_without_cgroup(sandbox: &Sandbox) -> Result<()> {
    if host::pure_cgroup_v2() {
        return skip("a cgroup may be delegated here");
    }
    sandbox.load("busybox")?;
    let limited = ["run", "--rm", "--network", "none", "-m", "64m", "busybox", "true"];
    sandbox.dhow(limited)?.fails(125, &["limits need a cgroup", "delegated"])
}

fn host_network(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let inside = sandbox.busybox(&["--network", "host"], "readlink /proc/self/ns/net; ls /sys/class/net")?;
    contains!(inside, host::namespace("self", "net")?);
    let script = "grep ' /sys ' /proc/mounts; ! touch /sys/fs/cgroup/x 2>/dev/null";
    contains!(sandbox.busybox(&["--network", "host"], script)?, "ro");
    Ok(())
}

fn host_processes_end_too(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "(sleep 7531; true) & sleep 7532 & sleep 0.1";
    sandbox.busybox(&["--network", "none", "--pid", "host"], script)?;
    let processes = fs::read_dir("/proc")?.flatten().filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\x00753")
    });
    same!(processes.count(), 0);
    Ok(())
}

fn without_runtime_directory(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let mut command = sandbox.command(["run", "--rm", "--network", "none", "busybox", "echo", "fine"]);
    command.env_remove("XDG_RUNTIME_DIR");
    same!(sandbox.finish_command(command, "")?.success()?, "fine");
    Ok(())
}

fn terminal_group(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    if !has_range(sandbox)? {
        return skip("this user has no subordinate ids");
    }
    contains!(sandbox.busybox(&["--network", "none"], "grep devpts /proc/mounts")?, "gid=");
    Ok(())
}

fn second_command_joins(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let first = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    let second = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    let namespace = |container: &str| host::namespace(&sandbox.pid(container)?.to_string(), "user");
    same!(namespace(&first)?, namespace(&second)?);
    contains!(sandbox.ok(["xray", &first])?, "shared by all containers of this user");
    Ok(())
}

fn killed_monitor(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    let pid = sandbox.pid(&id)?;
    let state = fs::read_to_string(sandbox.path("run/containers").join(&id).join("state.json"))?;
    let state: serde_json::Value = serde_json::from_str(&state)?;
    let monitor = state["monitor_pid"].as_i64().context("no monitor")?;
    host::succeed(std::process::Command::new("kill").args(["-9", &monitor.to_string()]))?;
    sandbox.wait_for_state(&id, "exited")?;
    host::until("its process is gone", sandbox.seconds(10), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
    })
}

/// The database has the containers' environments in it (CVE-2021-41091 is about modes that are too wide).
fn private_directories(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.busybox(&["--network", "none"], "true")?;
    let own = [("data/dhow.db", 0o600), ("data/layers", 0o700), ("data/containers", 0o700), ("run", 0o700)];
    for (name, expected) in own.into_iter().chain([("data", 0o711)]) {
        let mode = fs::metadata(sandbox.path(name))?.permissions().mode() & 0o777;
        same!(mode & !expected, 0, "{name} has mode {mode:o}");
    }
    Ok(())
}
