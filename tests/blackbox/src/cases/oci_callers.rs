//! Docker's and containerd's daemons over `dhow oci` in place of runc, as Debian has them; of root, and of an ordinary user, in namespaces
//! such as rootlesskit makes for them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::same::peer;
use crate::sandbox::{Output, Sandbox};

cases![
    oci_callers: docker_of_root [Root], docker_of_a_user [User], containerd_of_root [Root], containerd_of_a_user [User]
];

/// They write below `/run`; files elsewhere are the test's.
const OF_A_USER: &str = "ip link set lo up; mount -t tmpfs tmpfs /run; exec \"$@\"";

/// A daemon in namespaces of its own, and how its client is called.
struct Daemon<'a> {
    sandbox: &'a Sandbox,
    child: Child,
    client: Vec<String>,
    runtime: String,
}

impl<'a> Daemon<'a> {
    /// The test is skipped, with the reason, where it does not start.
    fn start(sandbox: &'a Sandbox, words: &[String], client: Vec<String>, ready: &str) -> Result<Self> {
        if host::pure_cgroup_v2() && !host::is_root() {
            return skip("a user's daemon wants systemd here");
        }
        let Some(program) = host::program(&words[0]) else { return skip(format!("{} is not installed", words[0])) };
        let dhow = std::env::var_os("DHOW_BIN").context("DHOW_BIN")?;
        std::os::unix::fs::symlink(dhow, sandbox.path("files/runc"))?;
        let log = fs::File::create(sandbox.path("files/log"))?;
        let mut command = Command::new("unshare");
        if host::is_root() {
            command.args(["--net", "--mount", "sh", "-euc", peer::ENTER, "enter"]);
        } else {
            command.args([
                "--user",
                "--map-auto",
                "--map-root-user",
                "--net",
                "--mount",
                "sh",
                "-euc",
                OF_A_USER,
                "enter",
            ]);
        }
        command.arg(program).args(&words[1..]).env("XDG_RUNTIME_DIR", sandbox.path("files"));
        if !host::is_root() {
            // What dockerd takes for a sign that it is in such namespaces, and then wants to have, to publish ports.
            let programs = sandbox.path("files/bin");
            fs::create_dir(&programs)?;
            std::os::unix::fs::symlink("/bin/false", programs.join("rootlesskit-docker-proxy"))?;
            command.env("ROOTLESSKIT_STATE_DIR", sandbox.path("files/rootlesskit"));
            command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("start a daemon")?;
        let runtime = sandbox.path("files/runc").display().to_string();
        let mut daemon = Self { sandbox, child, client, runtime };
        let answers = host::until("it answers", sandbox.seconds(30), || {
            ensure!(daemon.child.try_wait()?.is_none(), "it has ended");
            Ok(daemon.command(&[ready]).output()?.status.success().then_some(()))
        });
        if let Err(error) = answers {
            let log = fs::read_to_string(sandbox.path("files/log")).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(3).collect();
            return skip(format!("{} does not start here: {error}: {}", words[0], end.join(" / ")));
        }
        Ok(daemon)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.client[0]);
        let child = self.child.id().to_string();
        command.args(self.client[1..].iter().map(|word| word.replace("CHILD", &child))).args(words);
        command.env("HOME", self.sandbox.path("files")).env("LC_ALL", "C");
        command
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        self.sandbox.finish_command(self.command(words), "")
    }

    fn ok(&self, words: &[&str]) -> Result<String> {
        self.run(words)?.success()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // What fails here has ended already.
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        drop(host::until("the daemon ends", self.sandbox.seconds(15), || Ok(self.child.try_wait()?)));
        drop(self.child.kill());
        drop(self.child.wait());
        drop(
            Command::new("sh")
                .args(["-c", "rmdir /sys/fs/cgroup/dhow-callers /sys/fs/cgroup/*/dhow-callers 2>/dev/null"])
                .status(),
        );
    }
}

fn path(sandbox: &Sandbox, name: &str) -> String {
    sandbox.path("files").join(name).display().to_string()
}

fn docker<'a>(sandbox: &'a Sandbox) -> Result<Daemon<'a>> {
    let socket = format!("unix://{}", path(sandbox, "docker.sock"));
    let Some(client) = host::program("docker") else { return skip("docker is not installed") };
    let mut words = ["dockerd", "--host", &socket, "--bridge", "none", "--iptables=false", "--userland-proxy=false"]
        .map(str::to_owned)
        .to_vec();
    let places = [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")];
    words.extend(places.map(|(flag, name)| format!("{flag}={}", path(sandbox, name))));
    words.extend([
        "--add-runtime".to_owned(),
        format!("dhow={}", path(sandbox, "runc")),
        "--default-runtime=dhow".to_owned(),
    ]);
    words.push(if host::is_root() { "--cgroup-parent=/dhow-callers" } else { "--rootless" }.to_owned());
    words.extend(host::is_root().then(|| "--exec-opt=native.cgroupdriver=cgroupfs".to_owned()));
    let client = vec![client.display().to_string(), "--host".to_owned(), socket];
    let daemon = Daemon::start(sandbox, &words, client, "version")?;
    daemon.ok(&["load", "-i", &sandbox.archive("busybox", "docker")?])?;
    Ok(daemon)
}

fn docker_of_root(sandbox: &Sandbox) -> Result<()> {
    let daemon = docker(sandbox)?;
    docker_runs(&daemon)?;
    docker_life(&daemon)?;
    let box_ = |words: &[&str]| daemon.ok(&[words, &["box"]].concat());
    daemon.ok(&["run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "1000"])?;
    box_(&["pause"])?;
    same!(box_(&["inspect", "--format", "{{.State.Status}}"])?, "paused");
    box_(&["unpause"])?;
    box_(&["update", "--memory", "32m", "--memory-swap", "-1", "--cpus", "0.5", "--pids-limit", "50"])?;
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    contains!(daemon.run(&["exec", "box", "sh", "-c", limit])?.stdout, "33554432");
    contains!(box_(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}"])?, "/ 32MiB");
    box_(&["rm", "-f"])?;
    let fill = "x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo ${#x}";
    let words = ["run", "--name", "box", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", fill];
    same!(daemon.run(&words)?.code, 137);
    same!(box_(&["inspect", "--format", "{{.State.OOMKilled}}"])?, "true");
    box_(&["rm"]).map(drop)
}

/// Without cgroups, as these cannot be had with v1.
fn docker_of_a_user(sandbox: &Sandbox) -> Result<()> {
    let daemon = docker(sandbox)?;
    contains!(daemon.ok(&["info", "--format", "{{.SecurityOptions}}"])?, "rootless");
    docker_runs(&daemon)?;
    docker_life(&daemon)
}

fn docker_runs(daemon: &Daemon<'_>) -> Result<()> {
    let run = |options: &[&str], words: &[&str]| daemon.run(&[&["run", "--rm"], options, &["busybox"], words].concat());
    let output = run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    same!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    same!(run(&[], &["/etc/passwd"])?.code, 126);
    same!(run(&[], &["nosuch"])?.code, 127);
    let input = daemon.sandbox.finish_command(daemon.command(&["run", "--rm", "-i", "busybox", "cat"]), "text")?;
    same!(input.success()?, "text");
    contains!(run(&["-t"], &["tty"])?.success()?, "/dev/pts/0");
    contains!(run(&["--init"], &["cat", "/proc/1/comm"])?.success()?, "init");
    let options = ["--user", "1000:5", "--cap-drop", "ALL", "--read-only", "--workdir", "/home"];
    contains!(
        run(&options, &["sh", "-c", "pwd; id; touch /x 2>&1"])?.stdout,
        "/home\nuid=1000 gid=5 groups=5\ntouch: /x: Read-only"
    );
    same!(run(&["--privileged"], &["sh", "-c", "exec 3<>/dev/ptmx; ls /dev/pts"])?.success()?, "0\nptmx");
    let name = run(&["--domainname", "example.org"], &["cat", "/proc/sys/kernel/domainname"])?;
    same!(name.success()?, "example.org");
    same!(run(&["--sysctl", "kernel.msgmax=1000"], &["cat", "/proc/sys/kernel/msgmax"])?.success()?, "1000");
    same!(run(&["--network", "host", "--ipc", "shareable"], &["true"])?.code, 0);
    Ok(())
}

fn docker_life(daemon: &Daemon<'_>) -> Result<()> {
    let box_ = |words: &[&str]| daemon.ok(&[words, &["box"]].concat());
    let state = |what: &str| box_(&["inspect", "--format", &format!("{{{{.State.{what}}}}}")]);
    let script = "trap 'exit 7' TERM; echo ready; while true; do sleep 0.1; done";
    daemon.ok(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script])?;
    host::until("it is ready", daemon.sandbox.seconds(10), || Ok(box_(&["logs"])?.contains("ready").then_some(())))?;
    same!(daemon.run(&["exec", "box", "sh", "-c", "exit 4"])?.code, 4);
    // Docker's own number: 20.10 says 126.
    contains!(daemon.run(&["exec", "box", "nosuch"])?.stdout, "executable file not found in $PATH");
    contains!(daemon.ok(&["exec", "-t", "box", "tty"])?, "/dev/pts/0");
    contains!(box_(&["top"])?, "sleep 0.1");
    box_(&["update", "--restart", "on-failure:1"])?;
    box_(&["stop"])?;
    same!(state("ExitCode")?, "7");
    box_(&["start"])?;
    box_(&["restart", "--time", "1"])?;
    box_(&["kill"])?;
    same!(box_(&["wait"])?, "137");
    box_(&["rm"])?;
    if !host::is_root() {
        // Docker 20.10 wants a new procfs of processes that are not the user's.
        return Ok(());
    }
    daemon.ok(&["run", "-d", "--name", "box", "--pid", "host", "busybox", "sleep", "1000"])?;
    let pid = state("Pid")?;
    box_(&["kill"])?;
    same!(box_(&["wait"])?, "137");
    ensure!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid} is still there");
    box_(&["rm"]).map(drop)
}

fn containerd<'a>(sandbox: &'a Sandbox) -> Result<Daemon<'a>> {
    let Some(client) = host::program("ctr") else { return skip("ctr is not installed") };
    let socket = path(sandbox, "containerd.sock");
    let text = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{socket}\"\n",
        path(sandbox, "root"),
        path(sandbox, "state")
    );
    let configuration = sandbox.file("containerd.toml", text)?;
    let words = ["containerd", "--config", &configuration].map(str::to_owned);
    let user: &[&str] = if host::is_root() { &[] } else { &["--user", "--preserve-credentials"] };
    let enter = [&["nsenter", "--target", "CHILD", "--mount", "--net"], user].concat();
    let mut enter: Vec<String> = enter.into_iter().map(str::to_owned).collect();
    enter.extend([client.display().to_string(), "--address".to_owned(), socket]);
    let daemon = Daemon::start(sandbox, &words, enter, "version")?;
    daemon.ok(&["images", "import", &sandbox.archive("busybox", "oci")?])?;
    Ok(daemon)
}

impl Daemon<'_> {
    /// `ctr run` with these options.
    fn ctr_run(&self, options: &[&str], id: &str, words: &[&str]) -> Result<Output> {
        // It asks for a weight unless it is told not to.
        let own = format!("/dhow-callers/{id}");
        let group = if host::is_root() {
            ["--cgroup", &own, "--cpu-shares", "512"]
        } else {
            ["--cgroup", "", "--cpu-shares", "0"]
        };
        let base = [&["run", "--runc-binary", &self.runtime][..], &group].concat();
        self.run(&[&base[..], options, &["docker.io/library/busybox:latest", id], words].concat())
    }
}

fn containerd_of_root(sandbox: &Sandbox) -> Result<()> {
    let daemon = containerd(sandbox)?;
    containerd_life(&daemon)?;
    same!(daemon.ctr_run(&["-d", "--memory-limit", "67108864"], "box", &["sleep", "1000"])?.code, 0);
    let task = |words: &[&str]| daemon.ok(&[&["tasks"], words].concat());
    task(&["pause", "box"])?;
    contains!(task(&["ls"])?, "PAUSED");
    task(&["resume", "box"])?;
    contains!(task(&["metrics", "box"])?, "67108864");
    task(&["delete", "--force", "box"])?;
    daemon.ok(&["containers", "delete", "box"]).map(drop)
}

fn containerd_of_a_user(sandbox: &Sandbox) -> Result<()> {
    containerd_life(&containerd(sandbox)?)
}

fn containerd_life(daemon: &Daemon<'_>) -> Result<()> {
    let task = |words: &[&str]| daemon.ok(&[&["tasks"], words].concat());
    let exec = |words: &[&str]| daemon.run(&[&["tasks", "exec", "--exec-id", "x", "box"], words].concat());
    let output = daemon.ctr_run(&["--rm"], "one", &["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    same!((output.code, output.stdout.as_str()), (7, "out\n"), "{}", output.stderr);
    daemon.ctr_run(&["--rm"], "two", &["nosuch"])?.fails(1, &["executable file not found"])?;
    let script = "sleep 1000 & sleep 1000 & wait";
    same!(daemon.ctr_run(&["-d"], "box", &["sh", "-c", script])?.code, 0);
    same!(exec(&["sh", "-c", "exit 4"])?.code, 4);
    exec(&["nosuch"])?.fails(1, &["executable file not found"])?;
    let tty = format!(
        "{} tasks exec --exec-id y --tty box tty",
        daemon.client.join(" ").replace("CHILD", &daemon.child.id().to_string())
    );
    let mut on_terminal = Command::new("script");
    on_terminal.args(["--quiet", "--return", "--command", &tty, "/dev/null"]);
    contains!(daemon.sandbox.finish_command(on_terminal, "")?.success()?, "/dev/pts/0");
    same!(task(&["ps", "box"])?.lines().count(), 4);
    task(&["kill", "--all", "--signal", "KILL", "box"])?;
    host::until("it has ended", daemon.sandbox.seconds(10), || Ok(task(&["ls"])?.contains("STOPPED").then_some(())))?;
    // It says the container's exit status.
    same!(daemon.run(&["tasks", "delete", "box"])?.code, 0);
    daemon.ok(&["containers", "delete", "box"])?;
    same!(daemon.ctr_run(&["-d"], "box", &["sleep", "1000"])?.code, 0);
    task(&["delete", "--force", "box"])?;
    daemon.ok(&["containers", "delete", "box"]).map(drop)
}
