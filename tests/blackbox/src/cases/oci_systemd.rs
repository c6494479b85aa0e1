//! `dhow oci --systemd-cgroup`: containers in scopes of systemd, the machine's or the user's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::{Output, Sandbox};

cases![
    oci_systemd: a_scope_has_the_limits [Systemd], a_scope_ends_with_its_container [Systemd], out_of_the_group_of_a_login [Systemd],
    a_scope_of_one_process [Systemd], a_scope_that_is_in_use [Systemd], what_is_set_later_is_in_force [Systemd],
    a_scope_that_failed [Systemd], without_systemd_there_are_all_controllers [Root]
];

/// The variables with which a user's systemd is found.
const OF_THE_USER: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// A container in a scope of its own.
struct Scope<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle<'a>,
    unit: String,
    /// Commands stay in the group that the tests are in.
    here: bool,
}

impl<'a> Scope<'a> {
    fn new(sandbox: &'a Sandbox) -> Result<Self> {
        if !host::pure_cgroup_v2() {
            return skip("systemd does not have the cgroups here");
        }
        let bus = std::env::var_os("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("bus"));
        if !host::is_root() && !bus.is_some_and(|bus| bus.exists()) {
            return skip("this user has no systemd of its own");
        }
        let mut bundle = Bundle::new(sandbox, "sleep 1000")?;
        let name = sandbox.directory().file_name().context("a name")?.to_string_lossy().replace('.', "-");
        bundle.config["linux"]["cgroupsPath"] = json!(format!(":dhowtest:{name}"));
        bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
        bundle.write()?;
        Ok(Self { sandbox, bundle, unit: format!("dhowtest-{name}.scope"), here: false })
    }

    fn oci(&self, words: &[&str]) -> Result<Output> {
        let inner = self.bundle.command(&[&["--systemd-cgroup"], words].concat());
        // From where the user's systemd has the processes, as in a terminal of a desktop, where the kernel lets everybody move them.
        let mut command = Command::new("systemd-run");
        command.args((!host::is_root()).then_some("--user")).args(["--scope", "--quiet", "--collect"]);
        command.arg(inner.get_program()).args(inner.get_args());
        if self.here {
            command = Command::new(inner.get_program());
            command.args(inner.get_args());
        }
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).current_dir(self.bundle.place());
        command.envs(OF_THE_USER.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let file = fs::File::options().append(true).create(true).open(self.sandbox.path("files/output"))?;
        if words.contains(&"-d") || words.starts_with(&["create"]) {
            // What stays has its streams elsewhere, or nobody would see their end.
            command.stdout(file.try_clone()?).stderr(file).stdin(std::process::Stdio::null());
            let status = command.status()?;
            ensure!(status.success(), "{words:?}: {status}: {}", self.bundle.output());
            return self.bundle.oci(&["state", "one"]);
        }
        self.sandbox.finish_command(command, "")
    }

    /// What systemd says of the unit.
    fn property(&self, name: &str) -> Result<String> {
        let mut command = Command::new("systemctl");
        if !host::is_root() {
            command.arg("--user");
        }
        Ok(host::succeed(command.args(["show", "--value", "-p", name, &self.unit]))?.trim().to_owned())
    }

    /// What the kernel says in the group of the container's first process.
    fn file(&self, name: &str) -> Result<String> {
        let pid = self.bundle.state("one")?["pid"].as_i64().context("a pid")?;
        let group = host::cgroup_of(pid, "memory")?;
        ensure!(group.iter().any(|part| part == self.unit.as_str()), "{} is not in {}", group.display(), self.unit);
        Ok(fs::read_to_string(group.join(name))?.trim().to_owned())
    }
}

/// Of the unit as well as of the files, so that a reload of systemd does not bring others back.
fn a_scope_has_the_limits(sandbox: &Sandbox) -> Result<()> {
    let scope = Scope::new(sandbox)?;
    scope.oci(&["run", "-d", "one"])?.success()?;
    same!(scope.property("ActiveState")?, "active");
    same!(scope.property("Slice")?, if host::is_root() { "system.slice" } else { "user.slice" });
    same!(scope.property("MemoryMax")?, "67108864");
    same!(scope.property("TasksMax")?, "50");
    same!(scope.file("memory.max")?, "67108864");
    same!(scope.file("pids.max")?, "50");
    scope.oci(&["update", "--memory", "33554432", "--pids-limit", "40", "one"])?.success()?;
    same!(scope.file("memory.max")?, "33554432");
    same!(scope.property("MemoryMax")?, "33554432");
    same!(scope.property("TasksMax")?, "40");
    same!(scope.oci(&["exec", "one", "cat", "/proc/self/cgroup"])?.success()?, "0::/");
    scope.oci(&["delete", "--force", "one"])?.success().map(drop)
}

fn a_scope_ends_with_its_container(sandbox: &Sandbox) -> Result<()> {
    let scope = Scope::new(sandbox)?;
    scope.oci(&["run", "-d", "one"])?.success()?;
    scope.oci(&["pause", "one"])?.success()?;
    same!(scope.bundle.state("one")?["status"], "paused");
    scope.oci(&["resume", "one"])?.success()?;
    contains!(scope.oci(&["ps", "one"])?.success()?, "sleep");
    scope.oci(&["kill", "one", "KILL"])?.success()?;
    scope.bundle.wait_for("one", "stopped")?;
    scope.oci(&["delete", "one"])?.success()?;
    ensure!(matches!(scope.property("ActiveState")?.as_str(), "inactive" | "failed"), "the unit is still there");
    Ok(())
}

/// As after `ssh` or `su --login`: in a scope that is the machine's systemd's, out of which the kernel lets root alone move a process.
fn out_of_the_group_of_a_login(sandbox: &Sandbox) -> Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    if host::is_root() || !own.contains("/session-") {
        return skip("it is for a user's login");
    }
    let mut scope = Scope::new(sandbox)?;
    scope.here = true;
    // What the container's first program sees: the root of its cgroup namespace is the scope only if it was there before that was made.
    scope.bundle.config["process"]["args"] = json!(["sh", "-c", "cat /proc/self/cgroup; exec sleep 1000"]);
    scope.bundle.write()?;
    scope.oci(&["run", "-d", "one"])?.success()?;
    scope.bundle.wait_for_output("0::/\n")?;
    same!(scope.file("memory.max")?, "67108864");
    same!(scope.property("TasksMax")?, "50");
    same!(scope.oci(&["exec", "one", "cat", "/proc/self/cgroup"])?.success()?, "0::/");
    let pid = scope.bundle.state("one")?["pid"].as_i64().context("a pid")?;
    let below = host::cgroup_of(pid, "memory")?.join("below");
    fs::create_dir(&below)?;
    same!(scope.oci(&["exec", "--cgroup", "below", "one", "cat", "/proc/self/cgroup"])?.success()?, "0::/below");
    scope.oci(&["delete", "--force", "one"])?.success()?;
    scope.oci(&["create", "one"])?.success()?;
    same!(scope.file("memory.max")?, "67108864");
    scope.oci(&["start", "one"])?.success()?;
    scope.oci(&["delete", "--force", "one"])?.success()?;
    scope.bundle.config["process"]["args"] = json!(["cat", "/proc/self/cgroup"]);
    scope.bundle.write()?;
    same!(scope.oci(&["run", "one"])?.success()?, "0::/");
    same!(fs::read_to_string("/proc/self/cgroup")?, own);
    Ok(())
}

/// Who makes the container is in its scope for a while, and takes nothing of what it may have.
fn a_scope_of_one_process(sandbox: &Sandbox) -> Result<()> {
    let mut scope = Scope::new(sandbox)?;
    scope.bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    scope.bundle.config["linux"]["resources"]["pids"] = json!({"limit": 1});
    scope.bundle.write()?;
    for here in [false, true] {
        scope.here = here;
        scope.oci(&["run", "-d", "one"])?.success()?;
        same!(scope.file("pids.max")?, "1");
        same!(scope.file("pids.current")?, "1");
        same!(scope.property("TasksMax")?, "1");
        scope.oci(&["delete", "--force", "one"])?.success()?;
    }
    Ok(())
}

/// systemd would put a container beside others, and into a group that is frozen, where it never wakes.
fn a_scope_that_is_in_use(sandbox: &Sandbox) -> Result<()> {
    let scope = Scope::new(sandbox)?;
    scope.oci(&["run", "-d", "one"])?.success()?;
    scope.oci(&["run", "two"])?.fails(1, &["cgroup is not empty"])?;
    let pid = scope.bundle.state("one")?["pid"].as_i64().context("a pid")?;
    let group = host::cgroup_of(pid, "memory")?;
    scope.oci(&["delete", "--force", "one"])?.success()?;
    host::until("the scope goes", sandbox.seconds(10), || Ok((!group.exists()).then_some(())))?;
    fs::create_dir(&group)?;
    fs::write(group.join("cgroup.freeze"), "1")?;
    let refused = scope.oci(&["run", "two"])?;
    fs::remove_dir(&group)?;
    refused.fails(1, &["unexpectedly frozen"])
}

/// systemd writes what it knows of a unit whenever that changes, so it must know all, or be told first.
fn what_is_set_later_is_in_force(sandbox: &Sandbox) -> Result<()> {
    let scope = Scope::new(sandbox)?;
    scope.oci(&["run", "-d", "one"])?.success()?;
    let update = |words: &[&str]| scope.oci(&[&["update"], words, &["one"]].concat())?.success();
    update(&["--cpu-period", "50000"])?;
    same!(scope.file("cpu.max")?, "max 50000");
    update(&["--cpu-quota", "60000", "--cpu-period", "90000"])?;
    same!(scope.file("cpu.max")?, "60300 90000");
    same!(scope.property("CPUQuotaPerSecUSec")?, "670ms");
    update(&["--cpu-quota", "-1"])?;
    same!(scope.file("cpu.max")?, "max 90000");
    update(&["--pids-limit", "40"])?;
    same!(scope.file("cpu.max")?, "max 90000");
    update(&["--memory", "67108864", "--memory-swap", "134217728"])?;
    update(&["--memory", "-1"])?;
    same!(scope.file("memory.max")?, "max");
    same!(scope.file("memory.swap.max")?, "max");
    update(&["--cpu-idle", "1"])?;
    same!(scope.file("cpu.idle")?, "1");
    update(&["--cpu-share", "1024"])?;
    same!(scope.file("cpu.idle")?, "0");
    scope.oci(&["delete", "--force", "one"])?.success().map(drop)
}

/// It is there to be asked why, until its container is deleted. How long it may run is said by an annotation.
fn a_scope_that_failed(sandbox: &Sandbox) -> Result<()> {
    let mut scope = Scope::new(sandbox)?;
    scope.bundle.config["annotations"] = json!({
        "org.systemd.property.RuntimeMaxSec": "2",
        "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
    });
    scope.bundle.write()?;
    scope.oci(&["run", "-d", "one"])?.success()?;
    same!(scope.property("TimeoutStopUSec")?, "7s");
    scope.bundle.wait_for("one", "stopped")?;
    host::until("it has failed", sandbox.seconds(10), || {
        Ok((scope.property("ActiveState")? == "failed").then_some(()))
    })?;
    scope.oci(&["delete", "one"])?.success()?;
    same!(scope.property("ActiveState")?, "inactive");
    Ok(())
}

/// Also those that nobody limits: the container may have an init system that hands them on.
fn without_systemd_there_are_all_controllers(sandbox: &Sandbox) -> Result<()> {
    if !host::pure_cgroup_v2() {
        return skip("only cgroup v2 hands controllers on");
    }
    let bundle = Bundle::new(sandbox, "sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let group = host::cgroup_of(bundle.state("one")?["pid"].as_i64().context("a pid")?, "memory")?;
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
    bundle.oci(&["update", "--memory", "67108864", "one"])?.success()?;
    let update = bundle.path("update.json");
    fs::write(&update, json!({"memory": {"limit": 1024, "swap": 2048, "checkBeforeUpdate": true}}).to_string())?;
    bundle.oci(&["update", "-r", &update.display().to_string(), "one"])?.fails(1, &["rejecting memory+swap limit"])?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    same!(controllers, fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?);
    Ok(())
}
