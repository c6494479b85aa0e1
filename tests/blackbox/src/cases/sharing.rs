//! Namespaces of other containers and of the host, annotations, and rules for devices.

use anyhow::{Result, ensure};

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;

cases![sharing:
    pid_of_another, ipc_of_another, ends_with_the_sharer, of_what_does_not_run, host_names, annotations_and_users,
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
