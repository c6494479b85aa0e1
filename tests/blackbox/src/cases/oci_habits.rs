//! `dhow oci`: what callers that had runc before rely on without asking for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![oci_habits:
    cpus_of_the_caller_are_its_own, a_container_that_waits_hears_signals, signals_are_heard_once_it_is_known, wrong_wishes_are_named,
    what_cannot_be_started_has_ended, hooks_find_the_root_where_it_is_said_to_be [Root],
    nothing_nested_appears_on_the_host [Root], root_of_a_user_namespace_is_its_user [User],
];

/// Nobody who is bound to one CPU (taskset, a service with `CPUAffinity=`) binds containers to it; an exec can ask for it.
fn cpus_of_the_caller_are_its_own(sandbox: &Sandbox) -> Result<()> {
    let wanted = fs::read_to_string("/proc/self/status")?;
    let wanted = wanted.lines().find(|line| line.starts_with("Cpus_allowed_list:")).context("no Cpus_allowed_list")?;
    if !wanted.contains(['-', ',']) {
        return skip("one CPU");
    }
    let mut bundle = Bundle::new(sandbox, "cat /proc/self/status; sleep 1000")?;
    let bound = |words: &[&str], bundle: &Bundle<'_>| {
        let command = bundle.command(words);
        let mut bound = Command::new("taskset");
        bound.args(["--cpu-list", "0"]).arg(command.get_program()).args(command.get_args());
        bound.current_dir(bundle.path("")).stdin(Stdio::null());
        bound
    };
    let file = || fs::File::options().append(true).create(true).open(sandbox.path("files/output"));
    let status = bound(&["run", "-d", "one"], &bundle).stdout(file()?).stderr(file()?).status()?;
    ensure!(status.success(), "{}", bundle.output());
    bundle.wait_for_output(&format!("{wanted}\n"))?;
    let output = sandbox.finish_command(bound(&["exec", "one", "cat", "/proc/self/status"], &bundle), "")?.success()?;
    contains!(output, format!("{wanted}\n"));
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"});
    bundle.config["process"]["args"] = json!(["cat", "/proc/self/status"]);
    fs::write(bundle.path("process.json"), bundle.config["process"].to_string())?;
    let output = bundle.oci(&["--debug", "exec", "--process", "process.json", "one"])?;
    same!(output.code, 0);
    contains!(output.stdout, "Cpus_allowed_list:\t1\n");
    contains!(output.stderr, "nsexec container setup: affinity: 0x3");
    Ok(())
}

/// The first process of a pid namespace is deaf to a signal that it does not wait for: it would stay, and so would whoever
/// asked it to end.
fn a_container_that_waits_hears_signals(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "sleep 1000")?;
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        bundle.detached(&["create", signal])?;
        same!(bundle.state(signal)?["status"], "created");
        bundle.oci(&["kill", signal, signal])?.success()?;
        bundle.wait_for(signal, "stopped")?;
        bundle.oci(&["start", signal])?.fails(1, &["stopped"])?;
        bundle.oci(&["delete", signal])?.success()?;
    }
    // One that is started goes on as before: what was held back while it waited is not for its program.
    bundle.script("trap 'echo heard' TERM; echo ready; while true; do sleep 0.1; done")?;
    bundle.detached(&["create", "one"])?;
    bundle.oci(&["start", "one"])?.success()?;
    bundle.wait_for_output("ready")?;
    bundle.oci(&["kill", "one", "TERM"])?.success()?;
    bundle.wait_for_output("heard")
}

/// Also by a process that does not wait yet, because its maker has still to do something (here: to tell somebody who does not
/// listen). The kernel would throw away what the first process of a pid namespace does not hold back.
fn signals_are_heard_once_it_is_known(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "sleep 1000")?;
    let socket = sandbox.path("files/pidfd");
    let listener = UnixListener::bind(&socket)?;
    rustix::net::listen(&listener, 0)?;
    let full = UnixStream::connect(&socket)?;
    let mut command = bundle.command(&["create", "--pidfd-socket", &socket.display().to_string(), "one"]);
    let file = || fs::File::options().append(true).create(true).open(sandbox.path("files/output"));
    let mut create = command.stdin(Stdio::null()).stdout(file()?).stderr(file()?).spawn()?;
    let pid = host::until("the container is known", sandbox.seconds(10), || {
        Ok(bundle.state("one").ok().and_then(|state| state["pid"].as_i64()).filter(|pid| *pid > 0))
    })?;
    let pid = rustix::process::Pid::from_raw(pid.try_into()?).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    drop(full);
    let (_full, _connection) = (listener.accept()?, listener.accept()?);
    ensure!(create.wait()?.success(), "{}", bundle.output());
    bundle.wait_for("one", "stopped")
}

/// In the words that are looked for by those who had runc before.
fn wrong_wishes_are_named(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let notify = |syscall: &str, socket: &str| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "listenerPath": socket, "syscalls": [{"names": [syscall], "action": "SCMP_ACT_NOTIFY"}]})
    };
    let socket = sandbox.path("files/nobody.sock").display().to_string();
    bundle.config["linux"]["seccomp"] = notify("write", &socket);
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["SCMP_ACT_NOTIFY cannot be used for the write syscall"])?;
    bundle.config["linux"]["seccomp"] = notify("mkdir", &socket);
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["failed to connect with seccomp agent", "nobody.sock"])?;
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [],
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]});
    bundle.write()?;
    let output = bundle.oci(&["--debug", "run", "one"])?;
    same!(output.code, 0, "{}", output.stderr);
    contains!(output.stderr, "seccomp filter flags: 2");
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_NOBODY_HAS", "CAP_KILL"]);
    }
    bundle.config["process"]["args"] = json!(["cat", "/proc/self/status"]);
    bundle.write()?;
    let output = bundle.oci(&["run", "one"])?;
    same!(output.code, 0, "{}", output.stderr);
    contains!(output.stderr, "ignoring unknown or unavailable capabilities: [CAP_NOBODY_HAS]");
    contains!(output.stdout, "CapEff:\t0000000000000020");
    Ok(())
}

/// As hooks do that give a container devices and libraries of the host: they enter its mount namespace, or run in it, and mount
/// beneath the root's path.
fn hooks_find_the_root_where_it_is_said_to_be(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /given /etc/given")?;
    let (place, given) = (bundle.path("rootfs"), sandbox.path("files/given"));
    fs::write(&given, "of the host\n")?;
    for name in ["given", "etc/given"] {
        fs::write(place.join(name), "")?;
    }
    let (root, given) = (place.display().to_string(), given.display().to_string());
    let hook = |script: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]);
    let entering = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); exec nsenter -m -t $pid mount --bind {given} {root}/given"
    );
    for kind in ["prestart", "createRuntime"] {
        bundle.config["hooks"] = json!({(kind): hook(entering.clone()),
            "createContainer": hook(format!("exec mount --bind {given} ./etc/given"))});
        bundle.write()?;
        let output = bundle.oci(&["run", kind])?;
        same!((output.code, output.stdout.as_str()), (0, "of the host\nof the host\n"), "{kind}: {}", output.stderr);
        ensure!(!fs::read_to_string("/proc/self/mountinfo")?.contains(&root), "mounted on the host");
        same!(fs::read_to_string(place.join("given"))?, "");
    }
    Ok(())
}

/// And can be deleted at once.
fn what_cannot_be_started_has_ended(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    bundle.config["hooks"] = json!({"startContainer": [{"path": "/bin/false", "args": ["false"]}]});
    bundle.write()?;
    for _ in 0..10 {
        bundle.detached(&["create", "one"])?;
        bundle.oci(&["start", "one"])?.fails(1, &["startContainer"])?;
        bundle.oci(&["delete", "one"])?.success()?;
    }
    Ok(())
}

/// Where the host's mounts are shared, as systemd has them. What the namespace's root may not look into is copied outside of it.
fn nothing_nested_appears_on_the_host(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /mnt/x/file")?;
    let shared = sandbox.path("files/shared");
    for name in ["a/x", "b"] {
        fs::create_dir_all(shared.join(name))?;
    }
    fs::write(shared.join("b/file"), "b\n")?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o700))?;
    host::succeed(Command::new("mount").arg("--bind").args([&shared, &shared]))?;
    host::succeed(Command::new("mount").arg("--make-shared").arg(&shared))?;
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().context("namespaces")?.push(json!({"type": "user"}));
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    let list = bundle.config["mounts"].as_array_mut().context("mounts")?;
    for (place, source) in [("/mnt", "a"), ("/mnt/x", "b")] {
        list.push(json!({"destination": place, "source": shared.join(source), "options": ["rbind", "rprivate"]}));
    }
    fs::create_dir(bundle.path("rootfs/mnt"))?;
    bundle.write()?;
    bundle.detached(&["create", "one"])?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    bundle.oci(&["start", "one"])?.success()?;
    bundle.wait_for_output("b\n")?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    host::succeed(Command::new("umount").args(["--recursive", "--lazy"]).arg(&shared))?;
    ensure!(!table.contains("shared/a/x"), "{table}");
    Ok(())
}

/// podman of an ordinary user calls its runtime as root of a user namespace, which has no rights over `/run`.
fn root_of_a_user_namespace_is_its_user(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    for maps in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][maps] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    }
    bundle.write()?;
    let directory = sandbox.path("files/run");
    fs::create_dir(&directory)?;
    let file = || fs::File::options().append(true).create(true).open(sandbox.path("files/output"));
    let mut create = Command::new("unshare");
    create.arg("--map-root-user").arg(bundle.command(&[]).get_program()).args(["oci", "create", "one"]);
    create.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("XDG_RUNTIME_DIR", &directory);
    let status = create.current_dir(bundle.path("")).stdin(Stdio::null()).stdout(file()?).stderr(file()?).status()?;
    ensure!(status.success(), "{}", bundle.output());
    let mut delete = Command::new(bundle.command(&[]).get_program());
    delete.arg("oci").arg("--root").arg(directory.join("dhow-oci")).args(["delete", "--force", "one"]);
    sandbox.finish_command(delete, "")?.success().map(drop)
}
