//! `dhow oci`: containers in the mount namespace of the host, or of somebody else.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![oci_foreign_mounts:
    nothing_is_seen_on_the_host [Root], the_owner_of_the_namespace_notices_nothing [Root], with_a_user_namespace_by_path [Root],
    an_exec_is_in_the_containers_root [Root], what_hooks_mount_is_inside [Root], all_goes_with_the_last_process [Root],
    what_cannot_work_is_refused,
];

/// Without a mount namespace of its own, in the one at `path` or in the caller's.
fn share_mounts(bundle: &mut Bundle<'_>, path: Option<&str>) -> Result<()> {
    let list = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    list.retain(|namespace| namespace["type"] != "mount");
    list.extend(path.map(|path| json!({"type": "mount", "path": path})));
    bundle.write()
}

fn pid_of(bundle: &Bundle<'_>, id: &str) -> Result<i64> {
    bundle.state(id)?["pid"].as_i64().context("no pid")
}

/// The mounts of this test's own mount namespace.
fn table() -> Result<String> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?)
}

/// A process in a mount namespace of its own, with something mounted there.
struct Owner(Child);

impl Owner {
    fn new(sandbox: &Sandbox) -> Result<Self> {
        let place = sandbox.path("files/marked");
        fs::create_dir(&place)?;
        let script = format!("mount -t tmpfs marked {} && echo ready && exec sleep 1000", place.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let owner = Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        Ok(owner)
    }

    fn wait(&mut self) -> Result<String> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().context("no output")?).read_line(&mut line)?;
        same!(line, "ready\n");
        Ok(self.0.id().to_string())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// And everything that a configuration asks for is as with a namespace of its own.
fn nothing_is_seen_on_the_host(sandbox: &Sandbox) -> Result<()> {
    let script = "cat /etc/given /tmp/given; echo x > /etc/more && cat /etc/more; stat -c %F-%t:%T /dev/zero /proc/version; \
        echo x > /new; echo x > /tmp/given; echo x > /proc/sys/kernel/hostname; cat /proc/self/mountinfo; echo done; exec sleep 1000";
    let mut bundle = Bundle::new(sandbox, script)?;
    fs::write(bundle.path("rootfs/etc/given"), "of the image\n")?;
    let given = sandbox.path("files/given");
    fs::write(&given, "of the host\n")?;
    let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.push(json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    mounts.push(json!({"destination": "/tmp/given", "source": given, "options": ["bind", "ro", "rprivate"]}));
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/version"]);
    bundle.config["linux"]["rootfsPropagation"] = json!("rprivate");
    share_mounts(&mut bundle, None)?;
    // As systemd has them.
    host::succeed(Command::new("mount").args(["--make-rshared", "/"]))?;
    let before = table()?;
    bundle.detached(&["create", "one"])?;
    let pid = pid_of(&bundle, "one")?;
    same!(host::namespace(&pid.to_string(), "mnt")?, host::namespace("self", "mnt")?);
    same!(table()?, before, "created");
    bundle.oci(&["start", "one"])?.success()?;
    bundle.wait_for_output("done\n")?;
    same!(table()?, before, "running");
    same!(
        bundle.output(),
        "of the image\nof the host\nx\ncharacter special file-1:5\ncharacter special file-1:3\n\
        sh: can't create /new: Read-only file system\nsh: can't create /tmp/given: Read-only file system\n\
        sh: can't create /proc/sys/kernel/hostname: Read-only file system\ndone\n"
    );
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    same!(table()?, before, "deleted");
    host::succeed(Command::new("mount").args(["--make-rprivate", "/"]))?;
    Ok(())
}

fn the_owner_of_the_namespace_notices_nothing(sandbox: &Sandbox) -> Result<()> {
    let mut owner = Owner::new(sandbox)?;
    let pid = owner.wait()?;
    let mut bundle = Bundle::new(sandbox, "ls /; exec sleep 1000")?;
    share_mounts(&mut bundle, Some(&format!("/proc/{pid}/ns/mnt")))?;
    // Nobody else is in it.
    let look = || -> Result<_> {
        let root = fs::metadata(format!("/proc/{pid}/root/"))?;
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        Ok((fs::read_link(format!("/proc/{pid}/root"))?, root.dev(), root.ino(), table))
    };
    let before = look()?;
    contains!(before.3, "files/marked");
    let of_the_host = table()?;
    bundle.detached(&["run", "-d", "one"])?;
    same!(host::namespace(&pid_of(&bundle, "one")?.to_string(), "mnt")?, host::namespace(&pid, "mnt")?);
    bundle.wait_for_output("bin\ndev\netc\nproc\nsys\ntmp\n")?;
    same!(look()?, before, "running");
    same!(table()?, of_the_host, "running");
    let exec = bundle.command(&["exec", "one", "sh", "-c", "ls /"]);
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--mount=/proc/{pid}/ns/mnt")).arg(exec.get_program()).args(exec.get_args());
    for command in [exec, inside] {
        same!(sandbox.finish_command(command, "")?.success()?, "bin\ndev\netc\nproc\nsys\ntmp");
    }
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    same!(look()?, before, "deleted");
    // What stands there is not any namespace.
    share_mounts(&mut bundle, Some(&format!("/proc/{pid}/ns/uts")))?;
    bundle.oci(&["run", "one"])?.fails(1, &["join the mount namespace", "EINVAL"])?;
    same!(look()?, before, "refused");
    Ok(())
}

/// As the further containers of a pod may have both of its first one.
fn with_a_user_namespace_by_path(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "id -u; exec sleep 1000")?;
    let mut owner = Command::new("unshare");
    owner.args(["--user", "--map-root-user", "--mount", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut owner = Owner(owner.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let pid = owner.wait()?;
    // The group 5 is not mapped there.
    for mount in bundle.config["mounts"].as_array_mut().context("mounts")? {
        mount["options"] = json!(
            mount["options"].as_array().into_iter().flatten().filter(|each| *each != "gid=5").collect::<Vec<_>>()
        );
    }
    let list = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    list.push(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    share_mounts(&mut bundle, Some(&format!("/proc/{pid}/ns/mnt")))?;
    bundle.detached(&["run", "-d", "one"])?;
    bundle.wait_for_output("0\n")?;
    let inside = pid_of(&bundle, "one")?.to_string();
    for kind in ["user", "mnt"] {
        same!(host::namespace(&inside, kind)?, host::namespace(&pid, kind)?);
    }
    same!(bundle.oci(&["exec", "one", "ls", "/"])?.success()?, "bin\ndev\netc\nproc\nsys\ntmp");
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    // The host's is not that of the user namespace.
    share_mounts(&mut bundle, None)?;
    bundle.oci(&["run", "one"])?.fails(1, &["join the mount namespace", "EPERM"])
}

/// Never in that of the namespace, whatever the container's first process has done.
fn an_exec_is_in_the_containers_root(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    share_mounts(&mut bundle, None)?;
    bundle.detached(&["run", "-d", "one"])?;
    let script = "ls /; cd /tmp; ls ../../..; cat /proc/self/mountinfo; ls /proc/self/fd | wc -l";
    let names = "bin\ndev\netc\nproc\nsys\ntmp\n";
    let output = bundle.oci(&["exec", "--user", "1000", "one", "sh", "-c", script])?;
    same!(output.stdout, format!("{names}{names}4\n"), "{}", output.stderr);
    let first = pid_of(&bundle, "one")?;
    bundle.detached(&["exec", "--detach", "--pid-file", "pid", "one", "sleep", "1001"])?;
    let further = fs::read_to_string(bundle.path("pid"))?;
    let mount = |pid: &str| -> Result<(u64, u64)> {
        let status = fs::metadata(format!("/proc/{pid}/root/"))?;
        Ok((status.dev(), status.ino()))
    };
    same!(mount(&further)?, mount(&first.to_string())?);
    same!(host::namespace(&further, "mnt")?, host::namespace("self", "mnt")?);
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    // With both capabilities it can go to the root of its mount namespace, and nobody is taken along.
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
    }
    bundle.config["process"]["args"] = json!(["busybox", "nsenter", "--mount=/proc/self/ns/mnt", "sleep", "1000"]);
    bundle.write()?;
    bundle.detached(&["run", "-d", "two"])?;
    let escaped = pid_of(&bundle, "two")?.to_string();
    host::until("escaped", sandbox.seconds(10), || Ok((mount(&escaped)? == mount("self")?).then_some(())))?;
    let output = bundle.oci(&["exec", "two", "ls", "/"])?;
    ensure!(output.code != 0 && output.stdout.is_empty(), "{}", output.stdout);
    contains!(output.stderr, "the container's first process has left the container's root");
    Ok(())
}

/// They run before the container leaves the mount namespace that its root is assembled in.
fn what_hooks_mount_is_inside(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /given /etc/given")?;
    let given = sandbox.path("files/given");
    fs::write(&given, "of the host\n")?;
    for name in ["given", "etc/given"] {
        fs::write(bundle.path("rootfs").join(name), "")?;
    }
    let (root, given) = (bundle.path("rootfs").display().to_string(), given.display().to_string());
    let hook = |script: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]);
    let entering = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); exec nsenter -m -t $pid mount --bind {given} {root}/given"
    );
    bundle.config["hooks"] = json!({"createRuntime": hook(entering),
        "createContainer": hook(format!("exec mount --bind {given} ./etc/given"))});
    share_mounts(&mut bundle, None)?;
    let before = table()?;
    let output = bundle.oci(&["run", "one"])?;
    same!((output.code, output.stdout.as_str()), (0, "of the host\nof the host\n"), "{}", output.stderr);
    same!(table()?, before);
    Ok(())
}

/// A file that has no name any more, but is mounted in the container, needs its blocks for as long.
fn all_goes_with_the_last_process(sandbox: &Sandbox) -> Result<()> {
    let place = sandbox.path("files/blocks");
    fs::create_dir(&place)?;
    host::succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "blocks"]).arg(&place))?;
    let outcome = goes_with_the_last_process(sandbox, &place);
    host::succeed(Command::new("umount").arg(&place))?;
    outcome
}

fn goes_with_the_last_process(sandbox: &Sandbox, place: &Path) -> Result<()> {
    let free = || -> Result<u64> { Ok(rustix::fs::statvfs(place)?.f_bfree) };
    let empty = free()?;
    let freed = || host::until("the mounts are gone", sandbox.seconds(10), || Ok((free()? == empty).then_some(())));
    let mut bundle = Bundle::new(sandbox, "(exec sleep 1001) & exec sleep 1000")?;
    let file = place.join("file");
    let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.push(json!({"destination": "/tmp/file", "source": file, "options": ["bind"]}));
    fs::write(bundle.path("rootfs/tmp/file"), "")?;
    share_mounts(&mut bundle, None)?;
    let before = table()?;
    let start = |bundle: &Bundle<'_>, id: &str| -> Result<()> {
        fs::write(&file, vec![1; 8 << 20])?;
        bundle.detached(&["run", "-d", id])?;
        fs::remove_file(&file)?;
        ensure!(free()? < empty, "the file is not in the container");
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid_of(bundle, id)?)?).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        bundle.wait_for(id, "stopped")
    };
    start(&bundle, "one")?;
    freed()?;
    bundle.oci(&["exec", "one", "true"])?.fails(255, &["cannot exec in a stopped container"])?;
    bundle.oci(&["delete", "one"])?.success()?;
    // In the host's pid namespace nothing ends with the first process.
    let is_pid = |namespace: &Value| namespace["type"] == "pid";
    bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?.retain(|each| !is_pid(each));
    bundle.write()?;
    start(&bundle, "two")?;
    ensure!(free()? < empty, "the other process has lost its mounts");
    bundle.oci(&["kill", "--all", "two", "KILL"])?.success()?;
    freed()?;
    bundle.oci(&["delete", "two"])?.success()?;
    same!(table()?, before);
    Ok(())
}

fn what_cannot_work_is_refused(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    share_mounts(&mut bundle, None)?;
    let plain = bundle.config["linux"].clone();
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    for maps in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][maps] = map.clone();
    }
    let list = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    list.retain(|namespace| namespace["type"] != "user");
    let without_users = list.clone();
    list.push(json!({"type": "user"}));
    bundle.write()?;
    bundle
        .oci(&["run", "one"])?
        .fails(1, &["linux.namespaces: a new user namespace has no right to a mount namespace"])?;
    if !host::is_root() {
        return Ok(());
    }
    bundle.config["linux"] = plain;
    bundle.config["linux"]["namespaces"] = json!(without_users);
    for propagation in ["shared", "rslave", "unbindable"] {
        bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
        bundle.write()?;
        bundle
            .oci(&["run", "one"])?
            .fails(1, &["linux.rootfsPropagation: without a new mount namespace only private propagation works"])?;
    }
    bundle.config["linux"]["rootfsPropagation"] = json!("");
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    let images = sandbox.path("files/images").display().to_string();
    let refused = "a container without a mount namespace of its own can be neither checkpointed nor restored";
    bundle.oci(&["checkpoint", "--image-path", &images, "one"])?.fails(1, &[refused])?;
    ensure!(!Path::new(&images).exists(), "something was written");
    same!(bundle.state("one")?["status"], "running");
    Ok(())
}
