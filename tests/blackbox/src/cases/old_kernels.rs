//! Kernels that lack a system call: each answers ENOSYS in turn, and every verb does what it did, or says what is lost.
//!
//! The filter is loaded by perl, which every Debian has and which can make any system call.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::{Output, Sandbox};

cases![old_kernels:
    verbs_without_openat2, verbs_without_clone3, verbs_without_mount_setattr, verbs_without_close_range,
    verbs_without_statx, verbs_without_pidfd_open, fsopen_is_needed_and_named, run_and_exec_of_the_engine [Root],
];

/// Loads a filter that answers ENOSYS to one number, for itself and what it executes; numbers of x86-64.
const RUNNER: &str = r#"
my $number = shift;
my $i = sub { pack("SCCL", @_) };
my $code = $i->(0x20,0,0,0) . $i->(0x15,0,1,$number) . $i->(0x06,0,0,0x00050026) . $i->(0x06,0,0,0x7fff0000);
my $program = pack("Sx6Q", 4, unpack("Q", pack("P", $code)));
$> == 0 or syscall(157, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
syscall(157, 22, 2, unpack("Q", pack("P", $program)), 0, 0) == 0 or die "seccomp: $!";
exec { $ARGV[0] } @ARGV or die "exec: $!";
"#;

/// A command of `dhow oci` on a kernel without a system call.
struct Old<'a> {
    bundle: Bundle<'a>,
    sandbox: &'a Sandbox,
    number: u32,
}

impl<'a> Old<'a> {
    fn new(sandbox: &'a Sandbox, number: u32) -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            return skip("the numbers are those of x86-64");
        }
        if host::program("perl").is_none() {
            return skip("no perl to load the filter");
        }
        Ok(Self { bundle: Bundle::new(sandbox, "exec sleep 1000")?, sandbox, number })
    }

    fn wrap(&self, command: &Command) -> Command {
        wrapped(self.number, command)
    }

    fn oci(&self, words: &[&str]) -> Result<Output> {
        self.sandbox.finish_command(self.wrap(&self.bundle.command(words)), "")
    }

    fn detached(&self, words: &[&str]) -> Result<()> {
        let path = self.sandbox.path("files/output");
        let file = || fs::File::options().append(true).create(true).open(&path);
        let mut command = self.wrap(&self.bundle.command(words));
        let status = command.stdin(Stdio::null()).stdout(file()?).stderr(file()?).status()?;
        ensure!(status.success(), "{words:?}: {status}: {}", self.bundle.output());
        Ok(())
    }

    /// Every verb that touches a container.
    fn all_verbs(&mut self) -> Result<()> {
        let root = host::is_root();
        self.bundle.config["root"]["readonly"] = json!(true);
        self.bundle.config["linux"]["maskedPaths"] = json!(["/proc/cpuinfo", "/proc/acpi"]);
        self.bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
        self.bundle.config["process"]["args"] =
            json!(["sh", "-c", "cat /proc/cpuinfo; echo x > /x; echo 1 > /proc/sys/kernel/msgmax; ls /proc/self/fd"]);
        self.bundle.write()?;
        let output = self.oci(&["run", "one"])?;
        same!(output.stdout, "0\n1\n2\n3\n", "{}", output.stderr);
        same!(output.stderr.matches("Read-only file system").count(), 2, "{}", output.stderr);
        self.bundle.script("echo started; exec sleep 1000")?;
        self.detached(&["create", "two"])?;
        let status = |old: &Self| -> Result<Value> {
            let state: Value = serde_json::from_str(&old.oci(&["state", "two"])?.success()?)?;
            Ok(state["status"].clone())
        };
        same!(status(self)?, "created");
        self.oci(&["start", "two"])?.success()?;
        same!(status(self)?, "running");
        same!(self.oci(&["exec", "two", "sh", "-c", "echo $((6*7)); ls /proc/self/fd"])?.success()?, "42\n0\n1\n2\n3");
        if root {
            same!(self.oci(&["exec", "-u", "7:8", "--cwd", "/tmp", "two", "id"])?.success()?, "uid=7 gid=8");
            self.oci(&["pause", "two"])?.success()?;
            same!(status(self)?, "paused");
            self.oci(&["resume", "two"])?.success()?;
            self.oci(&["update", "--pids-limit", "33", "two"])?.success()?;
            contains!(self.oci(&["events", "--stats", "two"])?.success()?, "\"limit\":33");
            self.oci(&["ps", "-f", "json", "two"])?.success()?;
        }
        same!(self.oci(&["list", "-q"])?.success()?, "two");
        self.oci(&["kill", "two", "KILL"])?.success()?;
        self.bundle.wait_for("two", "stopped")?;
        self.oci(&["delete", "two"])?.success()?;
        same!(self.oci(&["list", "-q"])?.success()?, "");
        Ok(())
    }
}

fn wrapped(number: u32, command: &Command) -> Command {
    let mut wrapped = Command::new("perl");
    wrapped.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped.args(["-e", RUNNER]).arg(number.to_string()).arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}

fn verbs_without_openat2(sandbox: &Sandbox) -> Result<()> {
    let mut old = Old::new(sandbox, 437)?;
    old.all_verbs()?;
    // The walk by hand holds what openat2 held: no link leads out.
    let outside = sandbox.path("files/outside");
    fs::create_dir(&outside)?;
    std::os::unix::fs::symlink(&outside, old.bundle.path("rootfs/way-out"))?;
    let mounts = old.bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.push(json!({"destination": "/way-out/made", "type": "tmpfs", "source": "tmpfs"}));
    old.bundle.config["root"]["readonly"] = json!(false);
    old.bundle.script("true")?;
    old.oci(&["run", "three"])?;
    same!(fs::read_dir(&outside)?.count(), 0, "something was made outside");
    Ok(())
}

fn verbs_without_clone3(sandbox: &Sandbox) -> Result<()> {
    Old::new(sandbox, 435)?.all_verbs()
}

fn verbs_without_mount_setattr(sandbox: &Sandbox) -> Result<()> {
    let mut old = Old::new(sandbox, 442)?;
    old.all_verbs()?;
    // One mount can be changed in another way; what has more below is refused, and nothing is left.
    let source = sandbox.path("files").display().to_string();
    let mounts = old.bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.push(json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["rbind", "rro"]}));
    old.bundle.script("echo x > /tmp/new")?;
    let output = old.oci(&["run", "three"])?;
    ensure!(output.code == 1 && output.stderr.contains("Read-only file system"), "{}", output.stderr);
    old.bundle.config["mounts"].as_array_mut().and_then(|mounts| mounts.last_mut()).context("a mount")?["source"] =
        json!("/dev");
    old.bundle.script("true")?;
    old.oci(&["run", "three"])?.fails(1, &["mount_setattr", "ENOSYS"])?;
    same!(old.oci(&["list", "-q"])?.success()?, "");
    Ok(())
}

fn verbs_without_close_range(sandbox: &Sandbox) -> Result<()> {
    Old::new(sandbox, 436)?.all_verbs()
}

fn verbs_without_statx(sandbox: &Sandbox) -> Result<()> {
    Old::new(sandbox, 332)?.all_verbs()
}

fn verbs_without_pidfd_open(sandbox: &Sandbox) -> Result<()> {
    let old = Old::new(sandbox, 434)?;
    // A container runs, as clone(2) gives the descriptor; what would have to find a process again says what it lacks.
    old.bundle.script("echo made; exit 3")?;
    let output = old.oci(&["run", "one"])?;
    same!((output.code, output.stdout.as_str()), (3, "made\n"), "{}", output.stderr);
    old.bundle.script("exec sleep 1000")?;
    old.detached(&["run", "-d", "two"])?;
    old.oci(&["exec", "two", "true"])?.fails(255, &["pidfd_open", "ENOSYS"])?;
    old.oci(&["kill", "two", "KILL"])?.fails(1, &["pidfd_open", "ENOSYS"])?;
    same!(old.oci(&["list", "-q"])?.success()?, "two");
    Ok(())
}

fn fsopen_is_needed_and_named(sandbox: &Sandbox) -> Result<()> {
    let old = Old::new(sandbox, 430)?;
    old.oci(&["run", "one"])?.fails(1, &["fsopen", "ENOSYS"])?;
    same!(old.oci(&["list", "-q"])?.success()?, "");
    Ok(())
}

fn run_and_exec_of_the_engine(sandbox: &Sandbox) -> Result<()> {
    if !cfg!(target_arch = "x86_64") || host::program("perl").is_none() {
        return skip("needs perl, and the numbers of x86-64");
    }
    sandbox.load("busybox")?;
    for (name, number) in
        [("openat2", 437), ("clone3", 435), ("mount_setattr", 442), ("close_range", 436), ("statx", 332)]
    {
        let command = sandbox.command(["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo $((6*7))"]);
        let output = sandbox.finish_command(wrapped(number, &command), "")?;
        same!(output.stdout, "42\n", "{name}: {}", output.stderr);
        let command = sandbox.command(["run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "100"]);
        sandbox.finish_command(wrapped(number, &command), "")?.success()?;
        let command = sandbox.command(["exec", name, "id", "-u"]);
        same!(sandbox.finish_command(wrapped(number, &command), "")?.success()?, "0", "{name}");
        let command = sandbox.command(["rm", "-f", name]);
        sandbox.finish_command(wrapped(number, &command), "")?.success()?;
    }
    Ok(())
}
