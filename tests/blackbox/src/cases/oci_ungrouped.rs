//! `dhow oci` where an ordinary user can have no cgroup, as with cgroup v1: what callers ask of a container all the same.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![
    oci_ungrouped: processes_are_found [User], a_change_of_no_limit [User], the_callers_groups_are_shown [User],
    a_multiplexer_of_terminals_is_its_own [User], names_are_set_as_parameters
];

/// Without a group of its own.
fn ungrouped<'a>(sandbox: &'a Sandbox, script: &str) -> Result<Bundle<'a>> {
    if host::pure_cgroup_v2() {
        return skip("a user may have groups here");
    }
    Bundle::again(sandbox, script)
}

impl Bundle<'_> {
    /// With a namespace of processes that is the caller's.
    fn among_the_callers_processes(&mut self) -> Result<()> {
        let list = self.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
        list.retain(|each| each["type"] != "pid");
        let list = self.config["mounts"].as_array_mut().context("mounts")?;
        let proc = list.iter_mut().find(|each| each["destination"] == "/proc").context("a procfs")?;
        // A user can mount none of others' namespaces.
        *proc = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        self.write()
    }

    fn processes(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.oci(&["ps", "--format", "json", "one"])?.success()?)?)
    }
}

/// `docker top`, `ctr tasks kill --all`, and `docker kill` of a container with `--pid host`, which stayed and was told to be gone.
fn processes_are_found(sandbox: &Sandbox) -> Result<()> {
    for shared in [false, true] {
        let mut bundle = ungrouped(sandbox, "sleep 1000 & sleep 1000 & echo ready; wait")?;
        if shared {
            bundle.among_the_callers_processes()?;
        }
        let ways: [&[&str]; 3] =
            [&["kill", "one", "KILL"], &["kill", "--all", "one", "KILL"], &["delete", "--force", "one"]];
        for way in ways {
            fs::write(sandbox.path("files/output"), "")?;
            bundle.detached(&["run", "-d", "one"])?;
            bundle.wait_for_output("ready")?;
            let processes = bundle.processes()?;
            same!(processes.len(), 3, "{processes:?}");
            ensure!(processes.contains(&bundle.state("one")?["pid"]), "{processes:?}");
            bundle.oci(way)?.success()?;
            let alive = || processes.iter().any(|pid| runs(pid).unwrap_or(false));
            host::until("all have ended", sandbox.seconds(10), || Ok((!alive()).then_some(())))?;
            if way[0] == "kill" {
                bundle.wait_for("one", "stopped")?;
                same!(bundle.processes()?.len(), 0);
                bundle.oci(&["kill", "--all", "one", "KILL"])?.success()?;
                bundle.oci(&["delete", "one"])?.success()?;
            }
        }
    }
    Ok(())
}

fn runs(pid: &Value) -> Result<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(!text.rsplit_once(')').context("a name")?.1.starts_with(" Z"))
}

/// `docker update --restart` has the runtime change nothing.
fn a_change_of_no_limit(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = ungrouped(sandbox, "sleep 1000")?;
    bundle.config["linux"]["resources"] = json!({"memory": {}, "cpu": {}, "pids": null});
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    for nothing in ["{}", r#"{"memory": {"limit": 0}, "cpu": {"cpus": ""}, "unified": null}"#] {
        let file = sandbox.file("changes.json", nothing)?;
        bundle.oci(&["update", "--resources", &file, "one"])?.success()?;
    }
    bundle.oci(&["update", "--memory", "67108864", "one"])?.fails(1, &["the container has no cgroup"])
}

/// As with runc: its programs look for the limits that they have.
fn the_callers_groups_are_shown(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = ungrouped(sandbox, "true")?;
    bundle.config["process"]["args"] =
        json!(["sh", "-c", "cat /groups/memory/memory.limit_in_bytes; ls /groups; echo 1 > /groups/memory/tasks"]);
    let options = ["nosuid", "noexec", "nodev", "ro"];
    let mount = json!({"destination": "/groups", "type": "cgroup", "source": "cgroup", "options": options});
    bundle.config["mounts"].as_array_mut().context("mounts")?.push(mount);
    for own in [false, true] {
        if own {
            let list = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
            list.retain(|each| each["type"] != "cgroup");
            list.push(json!({"type": "cgroup"}));
        }
        bundle.write()?;
        let output = bundle.oci(&["run", "one"])?;
        let group = host::cgroup_of(std::process::id().into(), "memory")?;
        same!(output.stdout.lines().next(), fs::read_to_string(group.join("memory.limit_in_bytes"))?.lines().next());
        contains!(output.stdout, "\ncpu");
        contains!(output.stderr, "Read-only file system");
        ensure!(!output.stdout.contains("cgroup.controllers"), "it is shown as v2: {}", output.stdout);
    }
    Ok(())
}

/// `--privileged` names all of the host's devices. The host's `/dev/ptmx`, bound, finds no terminals beside itself.
fn a_multiplexer_of_terminals_is_its_own(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec 3<>/dev/ptmx && ls /dev/pts && head -c 3 /dev/zero | wc -c")?;
    for name in ["head", "wc"] {
        std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin").join(name))?;
    }
    let device =
        |path: &str, minor: u32, major: u32| json!({"path": path, "type": "c", "major": major, "minor": minor});
    bundle.config["linux"]["devices"] = json!([device("/dev/ptmx", 2, 5), device("/dev/zero", 5, 1)]);
    bundle.write()?;
    same!(bundle.oci(&["run", "one"])?.success()?, "0\nptmx\n3");
    Ok(())
}

/// As Docker asks for `--domainname`. Root of a user namespace may not write to these files.
fn names_are_set_as_parameters(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname")?;
    bundle.config["linux"]["sysctl"] = json!({"kernel.hostname": "one", "kernel.domainname": "example.org"});
    bundle.write()?;
    same!(bundle.oci(&["run", "one"])?.success()?, "one\nexample.org");
    Ok(())
}
