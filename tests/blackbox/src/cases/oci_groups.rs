//! `dhow oci`: where a container's processes are limited, what it sees of that, and the documents that say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![oci_groups:
    names_in_another_case_are_the_same [Root], names_in_another_case_hide_and_mask, without_a_namespace_of_them_the_path_leads_there,
    the_machines_options_stay [Root], a_limit_that_is_none_is_warned_of [Root], a_class_of_service_needs_resctrl, an_exec_goes_where_it_is_told [Root], an_exec_follows_the_first_process [Root],
    without_a_path_it_is_where_its_caller_is [Root], limits_that_a_group_has_hold [Root],
    an_ordinary_users_is_in_its_own_tree [Systemd],
];

/// As Go's programs write and read them: `CPU` beside `cpu`, `Limit` for `limit`.
fn names_in_another_case_are_the_same(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.config["linux"]["resources"]["cpu"] = json!({"shares": 512, "cpus": "0"});
    bundle.config["linux"]["resources"]["CPU"] = json!({"Mems": "0", "Shares": 256});
    bundle.config["linux"]["Resources"] = json!({"PIDS": {"Limit": 20}});
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    let pid = bundle.state("one")?["pid"].as_i64().context("a pid")?;
    let value = |controller: &str, file: &str| -> Result<String> {
        Ok(fs::read_to_string(host::cgroup_of(pid, controller)?.join(file))?.trim().to_owned())
    };
    same!(value("pids", "pids.max")?, "20");
    same!(value("cpuset", "cpuset.cpus")?, "0");
    same!(value("cpuset", "cpuset.mems")?, "0");
    if !host::pure_cgroup_v2() {
        same!(value("cpu", "cpu.shares")?, "256");
    }
    let update = bundle.path("update.json");
    let change = |text: &str| -> Result<()> {
        fs::write(&update, text)?;
        bundle.oci(&["update", "-r", &update.display().to_string(), "one"])?.success().map(drop)
    };
    change(r#"{"Pids": {"LIMIT": 30}}"#)?;
    same!(value("pids", "pids.max")?, "30");
    change(r#"{"pids": {"limit": 40}, "PIDS": {"limit": 50}}"#)?;
    same!(value("pids", "pids.max")?, "50");
    let mut process = bundle.config["process"].clone();
    process.as_object_mut().context("a process")?.remove("args");
    process["Args"] = json!(["echo", "said"]);
    fs::write(bundle.path("process.json"), process.to_string())?;
    same!(bundle.oci(&["exec", "--process", "process.json", "one"])?.success()?, "said");
    Ok(())
}

/// A filter or a mask that is not seen for its name would leave the container without it.
fn names_in_another_case_hide_and_mask(sandbox: &Sandbox) -> Result<()> {
    let script = "cat /tmp/hidden; grep NoNewPrivs /proc/self/status; cd /tmp && mkdir made 2>/dev/null; ls /tmp";
    let mut bundle = Bundle::new(sandbox, script)?;
    for name in ["grep", "mkdir"] {
        std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin").join(name))?;
    }
    fs::write(bundle.path("rootfs/tmp/hidden"), "shown\n")?;
    let linux = bundle.config["linux"].as_object_mut().context("linux")?;
    linux.remove("maskedPaths");
    linux.insert("maskedpaths".to_owned(), json!(["/tmp/hidden"]));
    let rule = json!({"Names": ["mkdir", "mkdirat"], "Action": "SCMP_ACT_ERRNO"});
    linux.insert("SecComp".to_owned(), json!({"DefaultAction": "SCMP_ACT_ALLOW", "sysCalls": [rule]}));
    let process = bundle.config["process"].as_object_mut().context("a process")?;
    process.remove("noNewPrivileges");
    process.insert("NoNewPrivileges".to_owned(), json!(true));
    bundle.write()?;
    same!(bundle.oci(&["run", "one"])?.stdout, "NoNewPrivs:\t1\nhidden\n");
    Ok(())
}

fn without(bundle: &mut Bundle<'_>, kind: &str) -> Result<()> {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != kind);
    Ok(())
}

/// Prints whether the path that the kernel names leads to a group with processes in it, and what can be written to.
const LOOK: &str = "
    while IFS=: read n c p; do
        case $c in '') d=/sys/fs/cgroup$p;; memory) d=/sys/fs/cgroup/memory;; *) continue;; esac
        [ -d $d ] && [ -n \"$(cat $d/cgroup.procs)\" ] && echo leads $c
    done < /proc/self/cgroup
    for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made 2>/dev/null && echo made in $d; done; true";

/// cAdvisor and the like look for groups, their own among them, where `/proc/PID/cgroup` says. In v1 that leads nowhere, with
/// any runtime: there each tree shows the container's group alone.
fn without_a_namespace_of_them_the_path_leads_there(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, LOOK)?;
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/mkdir"))?;
    without(&mut bundle, "cgroup")?;
    bundle.write()?;
    let expected = if host::pure_cgroup_v2() { "leads" } else { "leads memory" };
    same!(bundle.oci(&["run", "one"])?.success()?, expected);
    if host::is_root() {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?.push(json!({"type": "user"}));
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        bundle.write()?;
        same!(bundle.oci(&["run", "one"])?.success()?, expected);
    }
    Ok(())
}

/// cgroup v2 mounted in the machine's own namespace of cgroups takes its options for all (nsdelegate, memory_recursiveprot).
fn the_machines_options_stay(sandbox: &Sandbox) -> Result<()> {
    let options = || -> Result<String> {
        let table = fs::read_to_string("/proc/mounts")?;
        Ok(table.lines().filter(|line| line.contains(" cgroup2 ")).collect::<Vec<_>>().join("\n"))
    };
    let before = options()?;
    let mut bundle = Bundle::new(sandbox, "cat /proc/mounts")?;
    without(&mut bundle, "cgroup")?;
    bundle.write()?;
    let inside = bundle.oci(&["run", "one"])?.success()?;
    same!(options()?, before);
    if host::pure_cgroup_v2() {
        let line = inside.lines().find(|line| line.contains(" /sys/fs/cgroup cgroup2 ")).context(inside.clone())?;
        contains!(line, "ro,");
    }
    // By its own name as well, where it is what is mounted there already.
    let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    mounts.push(json!({"type": "cgroup2", "source": "x", "destination": "/tree", "options": ["ro", "nosuid"]}));
    bundle.write()?;
    let inside = bundle.oci(&["run", "two"])?.success()?;
    same!(options()?, before);
    let line = inside.lines().find(|line| line.contains(" /tree cgroup2 ")).context(inside.clone())?;
    contains!(line, "ro,nosuid");
    if !before.is_empty() {
        bundle.config["mounts"].as_array_mut().context("mounts")?.pop();
        let named = json!({"type": "cgroup2", "source": "x", "destination": "/tree", "options": ["nsdelegate"]});
        bundle.config["mounts"].as_array_mut().context("mounts")?.push(named);
        bundle.write()?;
        bundle.oci(&["run", "three"])?.fails(1, &["the option nsdelegate would be the whole machine's"])?;
        same!(options()?, before);
    }
    Ok(())
}

/// Kernel memory has had no limit since Linux 5.4. runc ignores one, too, and says so.
fn a_limit_that_is_none_is_warned_of(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20, "kernel": 32 << 20}});
    bundle.write()?;
    let log = sandbox.path("files/log.json").display().to_string();
    let warned = |verb: &[&str]| -> Result<()> {
        drop(fs::remove_file(&log));
        bundle.detached(&[&["--log", &log, "--log-format", "json"], verb].concat())?;
        let text = fs::read_to_string(&log)?;
        let line: Value = serde_json::from_str(text.lines().next().context("no warning")?)?;
        same!(line["level"], "warning");
        contains!(line["msg"].as_str().unwrap_or_default(), "memory.kernel is not enforced");
        Ok(())
    };
    warned(&["create", "one"])?;
    warned(&["update", "--kernel-memory", "16m", "one"])?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    Ok(())
}

/// No machine of ours has Intel RDT; cgroup::resctrl has the tests of what happens on one that does.
fn a_class_of_service_needs_resctrl(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let features: Value = serde_json::from_str(&bundle.oci(&["features"])?.success()?)?;
    same!(features["linux"]["intelRdt"], json!({"enabled": true, "schemata": true, "monitoring": true}));
    bundle.config["linux"]["intelRdt"] =
        json!({"closID": "gold", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f", "enableMonitoring": true});
    bundle.write()?;
    let plan: Value = serde_json::from_str(&bundle.oci(&["plan", &bundle.place()])?.success()?)?;
    let expected = json!({"class": "gold", "named": true, "agreed": ["L3:0=f", "MB:0=20"], "monitoring": true});
    same!(plan["intelRdt"], expected);
    if fs::read_to_string("/proc/mounts")?.lines().any(|line| line.split(' ').nth(2) == Some("resctrl")) {
        return skip("this machine has resctrl");
    }
    bundle.oci(&["run", "one"])?.fails(1, &["linux.intelRdt: needs the file system resctrl, which "])?;
    same!(bundle.oci(&["list", "-q"])?.success()?, "");
    bundle.config["linux"]["intelRdt"] = json!({"closID": "../gold"});
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["closID", "no name of a class"])?;
    bundle.config["linux"].as_object_mut().context("linux")?.remove("intelRdt");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write()?;
    bundle.detached(&["create", "one"])?;
    bundle.oci(&["update", "--l3-cache-schema", "L3:0=f", "one"])?.fails(1, &["non-existent Intel RDT"])?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    Ok(())
}

fn writable(bundle: &mut Bundle<'_>) -> Result<()> {
    for mount in bundle.config["mounts"].as_array_mut().context("mounts")? {
        if mount["destination"] == "/sys/fs/cgroup" {
            mount["options"].as_array_mut().context("options")?.retain(|option| option != "ro");
        }
    }
    for name in ["grep", "mkdir", "rmdir"] {
        std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin").join(name))?;
    }
    bundle.write()
}

/// Whoever names a group gets that one or hears why not; who names none is where the first process is.
fn an_exec_goes_where_it_is_told(sandbox: &Sandbox) -> Result<()> {
    if !host::pure_cgroup_v2() {
        return skip("groups of v1 can have processes and groups");
    }
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    writable(&mut bundle)?;
    bundle.detached(&["run", "-d", "one"])?;
    let own = ["cat", "/proc/self/cgroup"];
    let exec = |flags: &[&str], words: &[&str]| bundle.oci(&[&["exec"], flags, &["one"], words].concat());
    same!(exec(&["--cgroup", "/"], &own)?.success()?, "0::/");
    let move_down = "mkdir /sys/fs/cgroup/below && echo 1 > /sys/fs/cgroup/below/cgroup.procs";
    exec(&[], &["sh", "-c", move_down])?.success()?;
    let hand_down = "echo $$ > /sys/fs/cgroup/below/cgroup.procs; echo +memory > /sys/fs/cgroup/cgroup.subtree_control";
    exec(&[], &["sh", "-c", hand_down])?.success()?;
    same!(exec(&[], &own)?.success()?, "0::/below");
    same!(exec(&["--cgroup", "below"], &own)?.success()?, "0::/below");
    exec(&["--cgroup", "/"], &own)?.fails(255, &["error adding pid", "Device or resource busy"])?;
    Ok(())
}

/// Also out of a group that somebody removed since; before, such an exec stayed in its caller's.
fn an_exec_follows_the_first_process(sandbox: &Sandbox) -> Result<()> {
    if !host::pure_cgroup_v2() {
        return skip("v1 has a group for each controller");
    }
    let name = sandbox.directory().file_name().context("a name")?.to_string_lossy().replace('.', "-");
    let other = PathBuf::from(format!("/sys/fs/cgroup/dhow-test-{name}"));
    fs::create_dir(&other)?;
    let outcome = moved_out(sandbox, &other);
    host::until("the group is gone", sandbox.seconds(10), || Ok(fs::remove_dir(&other).ok()))?;
    outcome
}

fn moved_out(sandbox: &Sandbox, other: &Path) -> Result<()> {
    let script = format!("echo 1 > {}/cgroup.procs && echo moved; exec sleep 1000", other.display());
    let mut bundle = Bundle::new(sandbox, &script)?;
    without(&mut bundle, "cgroup")?;
    writable(&mut bundle)?;
    bundle.detached(&["run", "-d", "one"])?;
    bundle.wait_for_output("moved\n")?;
    let path = bundle.config["linux"]["cgroupsPath"].as_str().context("a path")?.to_owned();
    fs::remove_dir(format!("/sys/fs/cgroup{path}"))?;
    let seen = bundle.oci(&["exec", "one", "cat", "/proc/self/cgroup"])?.success()?;
    let named = bundle.oci(&["exec", "--cgroup", "/", "one", "true"])?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    same!(seen, format!("0::/{}", other.file_name().context("a name")?.display()));
    named.fails(255, &["error adding pid to cgroup", "no such file or directory"])?;
    Ok(())
}

/// A batch job's or a login's limits hold for the containers of it (v2: but for its innermost group, which has processes).
fn without_a_path_it_is_where_its_caller_is(sandbox: &Sandbox) -> Result<()> {
    let name = sandbox.directory().file_name().context("a name")?.to_string_lossy().replace('.', "-");
    let unified = host::pure_cgroup_v2();
    let tree = Path::new("/sys/fs/cgroup").join(if unified { "" } else { "memory" });
    let job = tree.join(format!("dhow-test-{name}"));
    let caller = if unified { job.join("caller") } else { job.clone() };
    fs::create_dir_all(&caller)?;
    let outcome = inside_of_a_job(sandbox, (&job, &caller), &name);
    for group in [&caller, &job] {
        host::until("the group is gone", sandbox.seconds(10), || {
            Ok((!group.exists() || fs::remove_dir(group).is_ok()).then_some(()))
        })?;
    }
    outcome
}

fn inside_of_a_job(sandbox: &Sandbox, (job, caller): (&Path, &Path), id: &str) -> Result<()> {
    let groups = || -> Result<Vec<PathBuf>> {
        let all = fs::read_dir(job)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|path| path.is_dir() && path != caller).collect())
    };
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let run = |bundle: &Bundle<'_>| -> Result<i64> {
        let inner = bundle.command(&["run", "-d", id]);
        let mut command = Command::new("sh");
        let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        command.args(["-c", script]).arg(caller).arg(inner.get_program()).args(inner.get_args());
        let file = || fs::File::options().append(true).create(true).open(sandbox.path("files/output"));
        command.current_dir(bundle.place()).stdin(Stdio::null()).stdout(file()?).stderr(file()?);
        ensure!(command.status()?.success(), "{}", bundle.output());
        bundle.state(id)?["pid"].as_i64().context("a pid")
    };
    for (path, expected) in
        [(Value::Null, job.join(id)), (json!(format!("dhow/{id}-x")), job.join(format!("dhow/{id}-x")))]
    {
        let linux = bundle.config["linux"].as_object_mut().context("linux")?;
        linux.remove("cgroupsPath");
        if !path.is_null() {
            linux.insert("cgroupsPath".to_owned(), path);
        }
        bundle.write()?;
        let pid = run(&bundle)?;
        same!(host::cgroup_of(pid, "memory")?, expected);
        bundle.oci(&["pause", id])?.success()?;
        bundle.oci(&["resume", id])?.success()?;
        bundle.oci(&["update", "--memory", "67108864", id])?.success()?;
        let limit = expected.join(if host::pure_cgroup_v2() { "memory.max" } else { "memory.limit_in_bytes" });
        same!(fs::read_to_string(limit)?.trim(), "67108864");
        let exec = bundle.oci(&["exec", id, "cat", "/proc/self/cgroup"])?.success()?;
        ensure!(
            host::pure_cgroup_v2() || exec.contains(&format!("/{id}\n")) || exec.contains(&format!("/{id}-x")),
            "{exec}"
        );
        let first = rustix::process::Pid::from_raw(pid.try_into()?).context("a pid")?;
        rustix::process::kill_process(first, rustix::process::Signal::KILL)?;
        bundle.wait_for(id, "stopped")?;
        bundle.oci(&["delete", id])?.success()?;
        ensure!(!expected.exists(), "{} is still there", expected.display());
    }
    // What was above stays, as with any path.
    fs::remove_dir(job.join("dhow"))?;
    same!(groups()?, Vec::<PathBuf>::new());
    Ok(())
}

/// A batch system makes a group, limits it, and names it: what the configuration does not say stays.
fn limits_that_a_group_has_hold(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let path = bundle.config["linux"]["cgroupsPath"].as_str().context("a path")?.to_owned();
    let unified = host::pure_cgroup_v2();
    let tree = Path::new("/sys/fs/cgroup").join(if unified { "" } else { "pids" });
    let group = tree.join(path.trim_start_matches('/'));
    let parent = group.parent().context("a parent")?;
    let seen = |bundle: &Bundle<'_>| -> Result<(String, String)> {
        bundle.detached(&["run", "-d", "one"])?;
        let pid = bundle.state("one")?["pid"].as_i64().context("a pid")?;
        let limit = fs::read_to_string(host::cgroup_of(pid, "pids")?.join("pids.max"))?.trim().to_owned();
        let memory = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        let memory = fs::read_to_string(host::cgroup_of(pid, "memory")?.join(memory))?.trim().to_owned();
        bundle.oci(&["delete", "--force", "one"])?.success()?;
        ensure!(!group.exists(), "{} is still there", group.display());
        Ok((limit, memory))
    };
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    bundle.write()?;
    fs::create_dir_all(parent)?;
    for above in [&tree, parent].into_iter().filter(|_| unified) {
        fs::write(above.join("cgroup.subtree_control"), "+pids +memory")?;
    }
    fs::create_dir(&group)?;
    fs::write(group.join("pids.max"), "40")?;
    same!(seen(&bundle)?, ("40".to_owned(), "67108864".to_owned()));
    same!(seen(&bundle)?.0, "max");
    Ok(())
}

/// Beside what its own systemd started it in; from a login, which is elsewhere, the kernel lets it move nothing there.
fn an_ordinary_users_is_in_its_own_tree(sandbox: &Sandbox) -> Result<()> {
    if host::is_root() || !host::pure_cgroup_v2() {
        return skip("is about ordinary users, to whom systemd gives a tree of cgroup v2");
    }
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let inner = bundle.command(&["run", "-d", "one"]);
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--scope", "--quiet", "--collect"]).arg(inner.get_program()).args(inner.get_args());
    let file = || fs::File::options().append(true).create(true).open(sandbox.path("files/output"));
    command.current_dir(bundle.place()).stdin(Stdio::null()).stdout(file()?).stderr(file()?);
    ensure!(command.status()?.success(), "{}", bundle.output());
    let pid = bundle.state("one")?["pid"].as_i64().context("a pid")?;
    let group = host::cgroup_of(pid, "memory")?;
    contains!(group.display().to_string(), "/user@");
    ensure!(group.ends_with("one"), "{} is not its own", group.display());
    let seen = bundle.oci(&["exec", "one", "cat", "/proc/self/cgroup"])?.success()?;
    ensure!(seen.starts_with("0::/"), "{seen}");
    contains!(bundle.oci(&["ps", "one"])?.success()?, "sleep");
    bundle.oci(&["pause", "one"])?.success()?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    ensure!(!group.exists(), "{} is still there", group.display());
    Ok(())
}
