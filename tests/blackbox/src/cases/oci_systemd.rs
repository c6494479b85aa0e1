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

cases![oci_systemd: a_scope_has_the_limits [Systemd], a_scope_ends_with_its_container [Systemd]];

/// The variables with which a user's systemd is found.
const OF_THE_USER: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// A container in a scope of its own.
struct Scope<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle<'a>,
    unit: String,
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
        Ok(Self { sandbox, bundle, unit: format!("dhowtest-{name}.scope") })
    }

    fn oci(&self, words: &[&str]) -> Result<Output> {
        let inner = self.bundle.command(&[&["--systemd-cgroup"], words].concat());
        // From where the user's systemd has the processes, as in a terminal of a desktop: out of the group of a login nobody but
        // root may move one there.
        let mut command = Command::new("systemd-run");
        command.args((!host::is_root()).then_some("--user")).args(["--scope", "--quiet", "--collect"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).current_dir(self.bundle.place());
        command.envs(OF_THE_USER.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let file = fs::File::options().append(true).create(true).open(self.sandbox.path("files/output"))?;
        if words.contains(&"-d") {
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
