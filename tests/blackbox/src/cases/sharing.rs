//! Namespaces of other containers and of the host, annotations, and rules for devices.

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![sharing:
    pid_of_another, ipc_of_another, uts_of_another, a_holder_of_namespaces, a_holder_that_is_away,
    members_come_back_with_their_holder, ends_with_the_sharer, of_what_does_not_run, links_to_nobody [Root], host_names, annotations_and_users,
    device_rules [Root], device_directories [Root],
];

fn link(sandbox: &Sandbox, name: &str, kind: &str) -> Result<String> {
    let pid = sandbox.pid(name)?;
    Ok(std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.display().to_string())
}

fn pid_of_another(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let first = sandbox.detached(&["--network", "none", "--name", "first"], "exec sleep 4711")?;
    // It sees the other's processes, and can signal them.
    let seen = sandbox.busybox(&["--network", "none", "--pid", "container:first"], "ps; kill -0 1")?;
    contains!(seen, "sleep 4711");
    sandbox.detached(&["--network", "none", "--name", "second", "--pid", "container:first"], "exec sleep 4712")?;
    same!(link(sandbox, "first", "pid")?, link(sandbox, "second", "pid")?);
    ensure!(link(sandbox, "first", "mnt")? != link(sandbox, "second", "mnt")?, "one mount namespace");
    same!(sandbox.inspect("second")?["HostConfig"]["PidMode"], format!("container:{first}"));
    // Only its own processes are shown, and go with it.
    let table = sandbox.ok(["top", "second", "-o", "pid,args"])?;
    contains!(table, "sleep 4712");
    ensure!(!table.contains("sleep 4711"), "{table}");
    sandbox.ok(["exec", "second", "true"])?;
    sandbox.ok(["stop", "-t", "0", "second"])?;
    ensure!(!sandbox.ok(["top", "first"])?.contains("sleep 4712"), "it is still there");
    Ok(())
}

fn ipc_of_another(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "echo shared > /dev/shm/note; exec sleep 1000";
    sandbox.detached(&["--network", "none", "--name", "first", "--ipc", "shareable"], script)?;
    sandbox.detached(&["--network", "none", "--name", "private"], script)?;
    let options = ["--network", "none", "--ipc", "container:first"];
    same!(sandbox.busybox(&options, "cat /dev/shm/note; echo back > /dev/shm/answer")?, "shared");
    same!(sandbox.ok(["exec", "first", "cat", "/dev/shm/answer"])?, "back");
    sandbox.detached(&["--network", "none", "--name", "second", "--ipc", "container:first"], "exec sleep 1000")?;
    same!(link(sandbox, "first", "ipc")?, link(sandbox, "second", "ipc")?);
    sandbox
        .dhow(["run", "--rm", "--ipc", "container:private", "--network", "none", "busybox", "true"])?
        .fails(125, &["non-shareable IPC"])?;
    sandbox
        .dhow(["run", "--rm", "--ipc", "container:nobody", "busybox", "true"])?
        .fails(125, &["no such container: nobody"])?;
    sandbox
        .dhow([
            "run",
            "--rm",
            "--network",
            "none",
            "--ipc",
            "container:first",
            "--sysctl",
            "kernel.shmmax=1",
            "busybox",
            "true",
        ])?
        .fails(125, &["is not allowed"])
}

fn uts_of_another(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["--network", "none", "--name", "first", "--hostname", "house", "--domainname", "example"];
    let first = sandbox.detached(&options, "exec sleep 1000")?;
    let shared = ["--network", "none", "--uts", "container:first"];
    same!(
        sandbox.busybox(&shared, "hostname; cat /etc/hostname /proc/sys/kernel/domainname")?,
        "house\nhouse\nexample"
    );
    sandbox.detached(&[&shared[..], &["--name", "second"]].concat(), "exec sleep 1000")?;
    same!(link(sandbox, "first", "uts")?, link(sandbox, "second", "uts")?);
    same!(sandbox.inspect("second")?["HostConfig"]["UTSMode"], format!("container:{first}"));
    let run = |options: &[&str]| sandbox.dhow([&["run", "--rm", "--network", "none"], options, &["busybox"]].concat());
    run(&["--uts", "container:first", "--hostname", "x"])?
        .fails(125, &["conflicting options: hostname and the UTS"])?;
    run(&["--uts", "container:nobody"])?.fails(125, &["no such container: nobody"])?;
    run(&["--uts", "container:"])?.fails(125, &["--uts: invalid UTS mode"])?;
    sandbox.ok(["stop", "-t", "0", "first"])?;
    run(&["--uts", "container:first"])?.fails(125, &["cannot join UTS of a non running container"])
}

/// All that a pod's containers share.
const KINDS: [&str; 4] = ["ipc", "net", "pid", "uts"];

fn links(sandbox: &Sandbox, name: &str, kinds: &[&str]) -> Result<Vec<String>> {
    kinds.iter().map(|kind| link(sandbox, name, kind).with_context(|| format!("{kind} of {name}"))).collect()
}

fn holder(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = ["--network", "none", "--ipc", "shareable", "--hostname", "pod", "--name", "pod"];
    sandbox.detached(&options, "exec sleep 1000").map(drop)
}

/// As pods have it: one container does nothing but hold the namespaces that the others are in.
fn a_holder_of_namespaces(sandbox: &Sandbox) -> Result<()> {
    holder(sandbox)?;
    let all = ["--network", "--pid", "--ipc", "--uts"].map(|flag| [flag, "container:pod"]).concat();
    let member = |name: &str, script: &str| sandbox.detached(&[&all[..], &["--name", name]].concat(), script);
    member("web", "echo here >/index.html; exec httpd -f -p 80 -h /")?;
    member("beside", "exec sleep 1000")?;
    let held = links(sandbox, "pod", &KINDS)?;
    for name in ["web", "beside"] {
        same!(links(sandbox, name, &KINDS)?, held, "{name}");
        ensure!(link(sandbox, name, "mnt")? != link(sandbox, "pod", "mnt")?, "one mount namespace");
    }
    let asks = ["exec", "beside", "wget", "-q", "-O", "-", "http://127.0.0.1/"];
    let answer = host::until("an answer", sandbox.seconds(10), || Ok(sandbox.dhow(asks)?.success().ok()))?;
    same!(answer, "here");
    same!(sandbox.ok(["exec", "beside", "hostname"])?, "pod");
    contains!(sandbox.ok(["exec", "beside", "ps"])?, "httpd");
    // Members come and go; what is held stays, and so do the others.
    sandbox.ok(["restart", "-t", "0", "web"])?;
    sandbox.ok(["rm", "-f", "web"])?;
    member("web", "exec sleep 1000")?;
    for name in ["pod", "web", "beside"] {
        same!(links(sandbox, name, &KINDS)?, held, "{name}");
    }
    // The holder's end is that of the process namespace and of all that are in it; afterwards they join what it has then.
    sandbox.ok(["restart", "-t", "0", "pod"])?;
    for name in ["web", "beside"] {
        sandbox.wait_for_state(name, "exited")?;
        same!(sandbox.inspect(name)?["State"]["ExitCode"], 137);
        sandbox.ok(["start", name])?;
    }
    let held = links(sandbox, "pod", &KINDS)?;
    for name in ["web", "beside"] {
        same!(links(sandbox, name, &KINDS)?, held, "{name}");
    }
    Ok(())
}

/// Without a process namespace of the holder's, members live on without it, in what it had.
fn a_holder_that_is_away(sandbox: &Sandbox) -> Result<()> {
    const SHARED: [&str; 3] = ["ipc", "net", "uts"];
    holder(sandbox)?;
    let some = ["--network", "--ipc", "--uts"].map(|flag| [flag, "container:pod"]).concat();
    let id = sandbox.detached(&[&some[..], &["--name", "member"]].concat(), "exec sleep 1000")?;
    let held = links(sandbox, "member", &SHARED)?;
    same!(links(sandbox, "pod", &SHARED)?, held);
    sandbox.ok(["stop", "-t", "0", "pod"])?;
    same!(links(sandbox, "member", &SHARED)?, held);
    contains!(sandbox.ok(["exec", "member", "ip", "address", "show", "lo"])?, "127.0.0.1");
    // Who is to start needs the holder, and says so; who runs is left alone.
    sandbox.ok(["create", "--name", "late", "--uts", "container:pod", "--network", "none", "busybox", "true"])?;
    sandbox.dhow(["start", "late"])?.fails(1, &["cannot join UTS of a non running container"])?;
    sandbox.ok(["start", "pod"])?;
    same!(links(sandbox, "member", &SHARED)?, held);
    ensure!(links(sandbox, "pod", &SHARED)? != held, "the holder got the namespaces of its last run");
    sandbox.ok(["restart", "-t", "0", "member"])?;
    same!(links(sandbox, "member", &SHARED)?, links(sandbox, "pod", &SHARED)?);
    // A holder that is gone is named when it is missed.
    sandbox.ok(["rm", "-f", "pod"])?;
    same!(sandbox.inspect("member")?["State"]["Status"], "running");
    sandbox.ok(["stop", "-t", "0", "member"])?;
    let pod = sandbox.inspect(&id)?["HostConfig"]["UTSMode"].as_str().unwrap_or_default().replace("container:", "");
    sandbox.dhow(["start", "member"])?.fails(1, &[&pod])
}

/// Who shares namespaces with one that is away is not given up.
fn members_come_back_with_their_holder(sandbox: &Sandbox) -> Result<()> {
    holder(sandbox)?;
    let options = ["--network", "none", "--pid", "container:pod", "--restart", "always", "--name", "member"];
    sandbox.detached(&options, "exec sleep 1000")?;
    sandbox.ok(["stop", "-t", "0", "pod"])?;
    let count = || -> Result<i64> { Ok(sandbox.inspect("member")?["RestartCount"].as_i64().unwrap_or(0)) };
    host::until("it has tried more than once", sandbox.seconds(20), || {
        Ok((status(sandbox, "member")? == "restarting" && count()? > 1).then_some(()))
    })?;
    sandbox.ok(["start", "pod"])?;
    sandbox.wait_for_state("member", "running")?;
    same!(links(sandbox, "member", &["pid"])?, links(sandbox, "pod", &["pid"])?);
    // A stop ends the waiting, and so does the end of what it waits for.
    sandbox.ok(["stop", "-t", "0", "pod"])?;
    sandbox.wait_for_state("member", "restarting")?;
    sandbox.ok(["stop", "-t", "0", "member"])?;
    same!(status(sandbox, "member")?, "exited");
    Ok(())
}

fn status(sandbox: &Sandbox, name: &str) -> Result<String> {
    sandbox.ok(["inspect", "--format", "{{.State.Status}}", name])
}

fn ends_with_the_sharer(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "first"], "exec sleep 1000")?;
    sandbox.detached(&["--network", "none", "--name", "second", "--pid", "container:first"], "exec sleep 1000")?;
    sandbox.ok(["stop", "-t", "0", "first"])?;
    // The end of a pid namespace's first process ends all in it.
    sandbox.wait_for_state("second", "exited")?;
    same!(sandbox.inspect("second")?["State"]["ExitCode"], 137);
    Ok(())
}

fn of_what_does_not_run(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--network", "none", "--name", "still", "busybox", "true"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--pid", "container:still", "busybox", "true"])?
        .fails(125, &["cannot join PID of a non running container"])?;
    same!(sandbox.ok(["ps", "-aq"])?.lines().count(), 1);
    sandbox.dhow(["run", "--pid", "container:", "busybox", "true"])?.fails(125, &["--pid"])
}

fn links_to_nobody(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (verb, code) in [("run", 125), ("create", 1)] {
        let output = sandbox.dhow([verb, "--name", "box", "--link", "nobody:x", "busybox", "true"])?;
        output.fails(code, &["could not get container for nobody", "no such container: nobody"])?;
        same!(sandbox.ok(["ps", "-aq"])?, "");
    }
    Ok(())
}

fn host_names(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    same!(sandbox.busybox(&["--network", "none", "--uts", "host"], "hostname")?, own.trim());
    Ok(())
}

fn annotations_and_users(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = [
        "create",
        "--network",
        "none",
        "--name",
        "box",
        "--annotation",
        "a.b/c=d=e",
        "--userns",
        "host",
        "--group-add",
        "77",
        "busybox",
        "id",
    ];
    sandbox.ok(options)?;
    let config = sandbox.inspect("box")?["HostConfig"].take();
    same!(config["Annotations"]["a.b/c"], "d=e");
    same!(config["UsernsMode"], "host");
    let plan = sandbox.ok(["run", "--dry-run", "--network", "none", "--annotation", "x=y", "busybox", "true"])?;
    contains!(plan, "\"x\": \"y\"");
    sandbox.dhow(["create", "--annotation", "x", "busybox"])?.fails(125, &["must be formatted as key=value"])
}

fn device_rules(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // /dev/fuse, which needs no capability.
    let script = "mknod /k c 10 229 && exec 3</k";
    if !std::path::Path::new("/dev/fuse").exists() {
        return crate::case::skip("there is no /dev/fuse");
    }
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])?;
    ensure!(output.code != 0, "the device could be used");
    let rule =
        ["run", "--rm", "--network", "none", "--device-cgroup-rule", "c 10:229 r", "busybox", "sh", "-c", script];
    let output = sandbox.dhow(rule)?;
    same!(output.code, 0, "{}", output.stderr);
    sandbox.ok(["create", "--name", "box", "--device-cgroup-rule", "c 1:11 r", "busybox", "true"])?;
    same!(sandbox.inspect("box")?["HostConfig"]["DeviceCgroupRules"][0], "c 1:11 r");
    for wrong in ["c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c a:b r"] {
        sandbox
            .dhow(["create", "--device-cgroup-rule", wrong, "busybox"])?
            .fails(1, &["invalid device cgroup format"])?;
    }
    Ok(())
}

fn device_directories(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let directory = sandbox.path("files").join("nodes");
    std::fs::create_dir_all(directory.join("sub"))?;
    for (name, numbers) in [("one", ["1", "3"]), ("sub/two", ["1", "5"])] {
        let mut command = std::process::Command::new("mknod");
        ensure!(command.arg(directory.join(name)).arg("c").args(numbers).status()?.success(), "mknod {name}");
    }
    let device = format!("{}:/dev/mine", directory.display());
    let script = "head -c 3 /dev/mine/sub/two | wc -c; echo x > /dev/mine/one && echo written";
    same!(sandbox.busybox(&["--network", "none", "--device", &device], script)?, "3\nwritten");
    Ok(())
}
