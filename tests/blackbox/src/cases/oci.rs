//! `dhow oci`: the command line of an OCI runtime, as other engines call it.

use std::fs;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::{Output, Sandbox};

cases![oci:
    run_gives_the_exit_status, create_waits_for_start, a_container_ends_and_is_deleted, exec_takes_everything,
    exec_has_runcs_failures, missing_programs_are_told_at_create, failures_are_logged_as_json, hooks_get_the_state,
    a_terminal_goes_to_the_console_socket, pidfd_and_preserved_descriptors, kill_all_reaches_orphans [Root],
    pause_and_resume [Root], update_and_events [Root], processes_are_listed [Root],
    a_killed_create_leaves_what_delete_removes, two_starts_start_once, called_as_runc, called_as_crun, documents,
    bad_bundles_make_nothing, the_root_is_entered_without_pivot [Root],
];

/// A bundle with busybox, and a state directory.
pub struct Bundle<'a> {
    sandbox: &'a Sandbox,
    directory: PathBuf,
    /// What `config.json` says.
    pub config: Value,
}

impl<'a> Bundle<'a> {
    /// As [`Bundle::new`], with a root file system that nobody has changed yet.
    pub fn again(sandbox: &'a Sandbox, script: &str) -> Result<Self> {
        let directory = sandbox.path("files/bundle");
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        Self::new(sandbox, script)
    }

    /// A container that runs this script.
    pub fn new(sandbox: &'a Sandbox, script: &str) -> Result<Self> {
        let directory = sandbox.path("files/bundle");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(directory.join("rootfs").join(name))?;
        }
        if !std::path::Path::new("/bin/busybox").exists() {
            return skip("no /bin/busybox to make a root file system of");
        }
        fs::create_dir_all(sandbox.path("files/state"))?;
        fs::copy("/bin/busybox", directory.join("rootfs/bin/busybox"))?;
        for name in ["cat", "echo", "env", "false", "id", "ls", "ps", "pwd", "sh", "sleep", "stat", "true", "tty"] {
            std::os::unix::fs::symlink("busybox", directory.join("rootfs/bin").join(name))?;
        }
        let mut bundle = Self { sandbox, directory, config: Value::Null };
        let mut words = vec!["spec", "--bundle"];
        let place = bundle.place();
        words.push(&place);
        if !host::is_root() {
            words.push("--rootless");
        }
        bundle.oci(&words)?.success()?;
        bundle.config = serde_json::from_str(&fs::read_to_string(bundle.directory.join("config.json"))?)?;
        bundle.config["process"]["terminal"] = json!(false);
        bundle.config["process"]["args"] = json!(["sh", "-c", script]);
        if host::is_root() {
            let name = sandbox.directory().file_name().unwrap_or_default().to_string_lossy().into_owned();
            bundle.config["linux"]["cgroupsPath"] = json!(format!("/dhow/oci{}", name.replace('.', "-")));
        }
        bundle.write()?;
        Ok(bundle)
    }

    /// Writes `config.json`.
    pub fn write(&self) -> Result<()> {
        Ok(fs::write(self.directory.join("config.json"), self.config.to_string())?)
    }

    /// Path of the bundle.
    pub fn place(&self) -> String {
        self.directory.display().to_string()
    }

    /// A path in the bundle.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The command `dhow oci --root … WORDS`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("DHOW_BIN").unwrap_or_default());
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.arg("oci").arg("--root").arg(self.sandbox.path("files/state")).args(words);
        command.current_dir(if self.directory.exists() { &self.directory } else { self.sandbox.directory() });
        command
    }

    /// Runs `dhow oci` to its end. What it leaves behind does not hold its output open.
    pub fn oci(&self, words: &[&str]) -> Result<Output> {
        self.sandbox.finish_command(self.command(words), "")
    }

    /// Runs `dhow oci` with its streams in files, as a container that stays has them too.
    pub fn detached(&self, words: &[&str]) -> Result<()> {
        let file = || fs::File::options().append(true).create(true).open(self.sandbox.path("files/output"));
        let status = self.command(words).stdin(Stdio::null()).stdout(file()?).stderr(file()?).status()?;
        ensure!(status.success(), "{words:?}: {status}: {}", self.output());
        Ok(())
    }

    /// What detached containers wrote.
    pub fn output(&self) -> String {
        fs::read_to_string(self.sandbox.path("files/output")).unwrap_or_default()
    }

    /// A field of the state.
    pub fn state(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.oci(&["state", id])?.success()?)?)
    }

    /// Waits for a status.
    pub fn wait_for(&self, id: &str, status: &str) -> Result<()> {
        host::until(&format!("{id} is {status}"), self.sandbox.seconds(10), || {
            Ok((self.state(id)?["status"] == status).then_some(()))
        })
    }

    /// Waits for it.
    pub fn wait_for_output(&self, text: &str) -> Result<()> {
        host::until(&format!("{text:?} in the output"), self.sandbox.seconds(10), || {
            Ok(self.output().contains(text).then_some(()))
        })
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        let words = ["list", "-q"];
        let Ok(output) = self.command(&words).output() else { return };
        for id in String::from_utf8_lossy(&output.stdout).lines() {
            drop(end(self.command(&["delete", "--force", id])));
        }
    }
}

/// Runs a command while reaping all others: what an `exec --detach` leaves is ours, and as long as it is not reaped the
/// kernel keeps the container's first process.
fn end(mut command: Command) -> Result<()> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = rustix::process::Pid::from_child(&child);
    host::until("deleted", std::time::Duration::from_secs(20), || {
        let reaped = rustix::process::wait(rustix::process::WaitOptions::NOHANG)?;
        Ok(reaped.is_some_and(|(reaped, _)| reaped == pid).then_some(()))
    })
}

fn run_gives_the_exit_status(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "echo out; echo err >&2; exit 42")?;
    let output = bundle.oci(&["run", "one"])?;
    same!((output.code, output.stdout.as_str(), output.stderr.as_str()), (42, "out\n", "err\n"));
    // Nothing of it stays.
    same!(bundle.oci(&["list", "-q"])?.success()?, "");
    bundle.script("exec sleep 1000")?;
    let mut child = bundle.command(&["run", "two"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    host::until("two", sandbox.seconds(10), || Ok((bundle.oci(&["state", "two"])?.code == 0).then_some(())))?;
    bundle.wait_for("two", "running")?;
    // A signal to the runtime is one to the container, whose first process is deaf to all but this.
    bundle.oci(&["kill", "two", "KILL"])?.success()?;
    same!(child.wait()?.code(), Some(137));
    Ok(())
}

impl Bundle<'_> {
    /// Another script in the same bundle.
    pub fn script(&self, script: &str) -> Result<()> {
        let mut config = self.config.clone();
        config["process"]["args"] = json!(["sh", "-c", script]);
        Ok(fs::write(self.directory.join("config.json"), config.to_string())?)
    }
}

fn create_waits_for_start(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "echo started; exec sleep 1000")?;
    bundle.config["annotations"] = json!({"a.key": "its value"});
    bundle.write()?;
    let pid_file = sandbox.path("files/pid").display().to_string();
    bundle.detached(&["create", "--pid-file", &pid_file, "one"])?;
    let state = bundle.state("one")?;
    same!(state["status"], "created");
    same!(state["id"], "one");
    same!(state["bundle"], bundle.place());
    same!(state["annotations"]["a.key"], "its value");
    let pid = state["pid"].as_i64().context("no pid")?;
    same!(fs::read_to_string(&pid_file)?, pid.to_string());
    // Its namespaces exist, its program does not run.
    // A user may not look into a process that waits: nobody who could trace it may get at what it holds open.
    if host::is_root() {
        ensure!(
            host::namespace(&pid.to_string(), "mnt")? != host::namespace("self", "mnt")?,
            "no namespace of its own"
        );
    }
    same!(bundle.output(), "");
    bundle.oci(&["create", "one"])?.fails(1, &["already exists"])?;
    bundle.oci(&["start", "one"])?.success()?;
    bundle.wait_for_output("started")?;
    same!(bundle.state("one")?["status"], "running");
    same!(bundle.state("one")?["pid"], pid);
    bundle.oci(&["start", "one"])?.fails(1, &["cannot start an already running container"])
}

fn a_container_ends_and_is_deleted(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    bundle.oci(&["delete", "one"])?.fails(1, &["cannot delete container one that is not stopped: running"])?;
    bundle.oci(&["kill", "one", "SIGKILL"])?.success()?;
    bundle.wait_for("one", "stopped")?;
    same!(bundle.state("one")?["pid"], 0);
    bundle.oci(&["kill", "one", "KILL"])?.fails(1, &["container not running"])?;
    bundle.oci(&["start", "one"])?.fails(1, &["cannot start a container that has stopped"])?;
    bundle.oci(&["delete", "one"])?.success()?;
    bundle.oci(&["state", "one"])?.fails(1, &["container does not exist"])?;
    bundle.oci(&["delete", "one"])?.fails(1, &["does not exist"])?;
    bundle.oci(&["delete", "--force", "one"])?.success()?;
    bundle.detached(&["run", "-d", "two"])?;
    bundle.oci(&["delete", "-f", "two"])?.success()?;
    // One that was never started needs no force.
    bundle.detached(&["create", "three"])?;
    bundle.oci(&["delete", "three"])?.success()?;
    same!(bundle.oci(&["list", "-q"])?.success()?, "");
    Ok(())
}

fn exec_takes_everything(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let exec = |words: &[&str]| bundle.oci(&[&["exec"], words].concat());
    same!(exec(&["one", "sh", "-c", "echo $$; exit 7"])?.code, 7);
    same!(exec(&["--cwd", "/tmp", "one", "pwd"])?.success()?, "/tmp");
    contains!(exec(&["-e", "COLOR=blue", "one", "env"])?.success()?, "COLOR=blue");
    let status = exec(&["one", "cat", "/proc/self/status"])?.success()?;
    contains!(status, "NoNewPrivs:\t1");
    contains!(status, "CapEff:\t0000000020000420");
    let status = exec(&["--cap", "CAP_SYS_TIME", "one", "cat", "/proc/self/status"])?.success()?;
    contains!(status, "CapEff:\t0000000022000420");
    if host::is_root() {
        same!(exec(&["-u", "1000:50", "-g", "77", "one", "id"])?.success()?, "uid=1000 gid=50 groups=77");
    }
    // It shares everything with the first process.
    for kind in ["mnt", "pid", "uts", "ipc", "cgroup"] {
        let both = exec(&["one", "sh", "-c", &format!("stat -L -c %i /proc/1/ns/{kind} /proc/self/ns/{kind}")])?;
        let both = both.success()?;
        let (first, second) = both.split_once('\n').context("two numbers")?;
        same!(first, second);
    }
    let file = sandbox.file("process.json", json!({
        "args": ["sh", "-c", "pwd; id -u; echo $A"], "env": ["PATH=/bin", "A=from the file"], "cwd": "/etc", "user": {},
    }).to_string())?;
    same!(exec(&["--process", &file, "one"])?.success()?, "/etc\n0\nfrom the file");
    let pid_file = sandbox.path("files/exec.pid").display().to_string();
    bundle.detached(&["exec", "-d", "--pid-file", &pid_file, "one", "sleep", "1000"])?;
    let pid = fs::read_to_string(&pid_file)?;
    same!(host::namespace(&pid, "pid")?, host::namespace(&bundle.state("one")?["pid"].to_string(), "pid")?);
    Ok(())
}

fn exec_has_runcs_failures(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let exec = |words: &[&str]| bundle.oci(&[&["exec"], words].concat());
    exec(&["one", "no-such-program"])?.fails(255, &["executable file not found in $PATH"])?;
    exec(&["one", "/no/such"])?.fails(255, &["no such file or directory"])?;
    exec(&["one", "/etc"])?.fails(255, &["permission denied"])?;
    exec(&["--cwd", "/nowhere", "one", "true"])?.fails(255, &["/nowhere", "no such file or directory"])?;
    exec(&["two", "true"])?.fails(255, &["container does not exist"])?;
    exec(&["--tty", "--detach", "one", "true"])?.fails(255, &["console socket"])?;
    exec(&["--preserve-fds", "2", "one", "true"])?.fails(255, &["descriptor 3 is not open"])?;
    exec(&["--cap", "CAP_FLY", "one", "true"])?.fails(255, &["CAP_FLY"])?;
    bundle.oci(&["kill", "one", "9"])?.success()?;
    bundle.wait_for("one", "stopped")?;
    exec(&["one", "true"])?.fails(255, &["cannot exec in a stopped container"])
}

fn missing_programs_are_told_at_create(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let wanted = "executable file not found in $PATH";
    for (program, words) in
        [("no-such-program", wanted), ("/no/such", "no such file or directory"), ("/etc", "permission denied")]
    {
        bundle.config["process"]["args"] = json!([program]);
        bundle.write()?;
        bundle.oci(&["create", "one"])?.fails(1, &[words])?;
        same!(bundle.oci(&["list", "-q"])?.success()?, "");
    }
    Ok(())
}

fn failures_are_logged_as_json(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "true")?;
    let log = sandbox.path("files/log.json").display().to_string();
    for id in ["one", "two"] {
        let output = bundle.oci(&["--log", &log, "--log-format", "json", "start", id])?;
        same!((output.code, output.stderr.as_str()), (1, "container does not exist\n"));
    }
    let text = fs::read_to_string(&log)?;
    same!(text.lines().count(), 2);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        same!(line["level"], "error");
        same!(line["msg"], "container does not exist");
        ensure!(line["time"].is_string(), "no time: {line}");
    }
    Ok(())
}

fn hooks_get_the_state(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let notes = sandbox.path("files/notes");
    fs::create_dir(&notes)?;
    let mut hooks = serde_json::Map::new();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let script = format!("cat > {}/{kind}; echo {kind} >> {}/order", notes.display(), notes.display());
        hooks.insert(kind.to_owned(), json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
    }
    let inside = "cat > /tmp/startContainer";
    hooks.insert("startContainer".to_owned(), json!([{"path": "/bin/sh", "args": ["sh", "-c", inside]}]));
    bundle.config["hooks"] = Value::Object(hooks);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write()?;
    bundle.detached(&["create", "one"])?;
    same!(fs::read_to_string(notes.join("order"))?, "prestart\ncreateRuntime\ncreateContainer\n");
    bundle.oci(&["start", "one"])?.success()?;
    bundle.oci(&["delete", "-f", "one"])?.success()?;
    same!(fs::read_to_string(notes.join("order"))?, "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");
    let state = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_str(&fs::read_to_string(path)?)?) };
    for (kind, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state = state(notes.join(kind))?;
        same!(state["status"], status, "{kind}");
        same!(state["id"], "one");
        same!(state["bundle"], bundle.place());
    }
    same!(state(bundle.path("rootfs/tmp/startContainer"))?["status"], "created");
    // One that fails ends the container, and its words are told.
    let fail = "cat >/dev/null; echo 'no device' >&2; exit 3";
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", fail]}]});
    bundle.write()?;
    bundle.oci(&["create", "two"])?.fails(1, &["status 3", "no device"])?;
    same!(bundle.oci(&["list", "-q"])?.success()?, "");
    Ok(())
}

/// Accepts one connection and takes one descriptor with its message.
fn receive(listener: &UnixListener) -> Result<(OwnedFd, Vec<u8>)> {
    let (connection, _) = listener.accept()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 100];
    let received =
        rustix::net::recvmsg(&connection, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok((descriptor, text[..received.bytes].to_vec()));
        }
    }
    anyhow::bail!("no descriptor")
}

fn a_terminal_goes_to_the_console_socket(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "tty; echo on the terminal; exec sleep 1000")?;
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write()?;
    bundle.oci(&["create", "one"])?.fails(1, &["console socket"])?;
    let socket = sandbox.path("files/console").display().to_string();
    let listener = UnixListener::bind(&socket)?;
    bundle.detached(&["create", "--console-socket", &socket, "one"])?;
    let (terminal, _) = receive(&listener)?;
    bundle.oci(&["start", "one"])?.success()?;
    let mut terminal = fs::File::from(terminal);
    let mut seen = String::new();
    while !seen.contains("on the terminal") {
        let mut buffer = [0; 100];
        let length = terminal.read(&mut buffer)?;
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    contains!(seen, "/dev/");
    bundle.detached(&["exec", "--tty", "--detach", "--console-socket", &socket, "one", "tty"])?;
    let (terminal, _) = receive(&listener)?;
    let mut buffer = [0; 100];
    let length = fs::File::from(terminal).read(&mut buffer)?;
    contains!(String::from_utf8_lossy(&buffer[..length]), "/dev/pts/");
    Ok(())
}

fn pidfd_and_preserved_descriptors(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "cat <&3; ls /proc/self/fd; exec sleep 1000")?;
    let socket = sandbox.path("files/pidfd").display().to_string();
    let listener = UnixListener::bind(&socket)?;
    let file = sandbox.file("given", "from outside\n")?;
    // The shell opens 3, which is handed on, and 4, which is not.
    let output = sandbox.path("files/output").display().to_string();
    let words = ["run", "-d", "--preserve-fds", "1", "--pidfd-socket", &socket, "one"];
    let command = bundle.command(&words);
    let mut line: Vec<String> = vec![command.get_program().to_string_lossy().into_owned()];
    line.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    let script = format!("exec \"$@\" 3<{file} 4<{file} >{output} 2>&1");
    let status = Command::new("sh").args(["-c", &script, "sh"]).args(line).current_dir(bundle.place()).status()?;
    ensure!(status.success(), "{status}: {}", bundle.output());
    let (pidfd, _) = receive(&listener)?;
    bundle.wait_for_output("from outside\n0\n1\n2\n3\n")?;
    let after = bundle.output();
    ensure!(!after.contains("\n5\n"), "descriptors leaked: {after}");
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)?;
    bundle.wait_for("one", "stopped")
}

fn kill_all_reaches_orphans(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "(exec sleep 1001) & exec sleep 1000")?;
    // In the host's pid namespace nothing ends with the first process.
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    let count = || -> Result<usize> {
        let list: Vec<i32> = serde_json::from_str(&bundle.oci(&["ps", "-f", "json", "one"])?.success()?)?;
        Ok(list.len())
    };
    host::until("two processes", sandbox.seconds(10), || Ok((count()? == 2).then_some(())))?;
    bundle.oci(&["kill", "--all", "one", "KILL"])?.success()?;
    host::until("no process", sandbox.seconds(10), || Ok((count()? == 0).then_some(())))?;
    bundle.oci(&["delete", "one"])?.success()?;
    Ok(())
}

fn pause_and_resume(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    bundle.oci(&["resume", "one"])?.fails(1, &["container not paused"])?;
    bundle.oci(&["pause", "one"])?.success()?;
    same!(bundle.state("one")?["status"], "paused");
    bundle.oci(&["exec", "one", "true"])?.fails(255, &["cannot exec in a paused container"])?;
    bundle.oci(&["resume", "one"])?.success()?;
    same!(bundle.state("one")?["status"], "running");
    same!(bundle.oci(&["exec", "one", "echo", "on"])?.success()?, "on");
    // A paused one dies all the same.
    bundle.oci(&["pause", "one"])?.success()?;
    bundle.oci(&["kill", "one", "KILL"])?.success()?;
    bundle.wait_for("one", "stopped")?;
    bundle.oci(&["pause", "one"])?.fails(1, &["container not running"])
}

fn update_and_events(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    bundle.oci(&["update", "--memory", "64m", "--pids-limit", "20", "one"])?.success()?;
    let usage = |bundle: &Bundle<'_>| -> Result<Value> {
        Ok(serde_json::from_str(&bundle.oci(&["events", "--stats", "one"])?.success()?)?)
    };
    let seen = usage(&bundle)?;
    same!((seen["type"].as_str(), seen["id"].as_str()), (Some("stats"), Some("one")));
    same!(seen["data"]["memory"]["usage"]["limit"], 64 << 20);
    same!(seen["data"]["pids"]["limit"], 20);
    ensure!(seen["data"]["pids"]["current"].as_i64() >= Some(1), "{seen}");
    let file = sandbox.file("resources.json", r#"{"memory": {"limit": 33554432}, "pids": {"limit": 10}}"#)?;
    bundle.oci(&["update", "-r", &file, "one"])?.success()?;
    same!(usage(&bundle)?["data"]["memory"]["usage"]["limit"], 32 << 20);
    bundle.oci(&["update", "--cpuset-cpus", "999", "one"])?.fails(1, &["cpu"])?;
    bundle.oci(&["events", "--stats", "two"])?.fails(1, &["does not exist"])
}

fn processes_are_listed(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let pid = bundle.state("one")?["pid"].to_string();
    same!(bundle.oci(&["ps", "--format", "json", "one"])?.success()?, format!("[{pid}]"));
    if host::program("ps").is_some() {
        let table = bundle.oci(&["ps", "one"])?.success()?;
        same!(table.lines().count(), 2);
        contains!(table, "sleep 1000");
    }
    let list: Value = serde_json::from_str(&bundle.oci(&["list", "--format", "json"])?.success()?)?;
    same!(list[0]["id"], "one");
    same!(list[0]["pid"].to_string(), pid);
    contains!(bundle.oci(&["list"])?.success()?, "ID          PID         STATUS      BUNDLE");
    Ok(())
}

fn a_killed_create_leaves_what_delete_removes(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let mark = sandbox.path("files/hook-runs").display().to_string();
    // It ends when it is told to: nothing of it may be there at the end, however busy the machine is.
    let script = format!("echo $$ > {mark}.new; mv {mark}.new {mark}; while [ -e {mark} ]; do sleep 0.1; done");
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    bundle.write()?;
    let mut child = bundle.command(&["create", "one"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    host::until("the hook", sandbox.seconds(10), || Ok(fs::exists(&mark)?.then_some(())))?;
    same!(bundle.state("one")?["status"], "creating");
    bundle.oci(&["delete", "nobody"])?.fails(1, &[])?;
    child.kill()?;
    child.wait()?;
    let hook = fs::read_to_string(&mark)?.trim().to_owned();
    fs::remove_file(&mark)?;
    host::until("the hook has ended", sandbox.seconds(20), || {
        let status = fs::read_to_string(format!("/proc/{hook}/status")).unwrap_or_default();
        Ok((status.is_empty() || status.contains("State:\tZ")).then_some(()))
    })?;
    bundle.wait_for("one", "stopped")?;
    bundle.oci(&["delete", "one"])?.success()?;
    bundle.config["hooks"] = json!({});
    bundle.write()?;
    bundle.detached(&["create", "one"])
}

fn two_starts_start_once(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "echo started; exec sleep 1000")?;
    for id in ["a", "b", "c"] {
        bundle.detached(&["create", id])?;
        let start = || bundle.command(&["start", id]).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let children = [start()?, start()?, start()?];
        let mut succeeded = 0;
        for mut child in children {
            succeeded += usize::from(child.wait()?.success());
        }
        same!(succeeded, 1);
        bundle.oci(&["delete", "-f", id])?.success()?;
        // The next one has the same cgroup.
    }
    Ok(())
}

fn called_as_runc(sandbox: &Sandbox) -> Result<()> {
    let link = sandbox.path("files/runc");
    std::os::unix::fs::symlink(std::env::var_os("DHOW_BIN").context("DHOW_BIN")?, &link)?;
    let output = host::succeed(Command::new(&link).arg("--version"))?;
    ensure!(output.starts_with("runc version "), "{output}");
    contains!(output, "spec: 1.");
    let bundle = Bundle::new(sandbox, "echo as runc")?;
    let mut command = Command::new(&link);
    command.arg("--root").arg(sandbox.path("files/state")).args(["run", "--bundle", &bundle.place(), "one"]);
    same!(host::succeed(&mut command)?, "as runc\n");
    Ok(())
}

/// What podman says to crun.
fn called_as_crun(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /proc/self/cgroup")?;
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 50}});
    fs::rename(bundle.path("config.json"), bundle.path("other.json"))?;
    fs::write(bundle.path("other.json"), bundle.config.to_string())?;
    let log = sandbox.path("files/log").display().to_string();
    let globals = ["--log", &log, "--cgroup-manager=disabled"];
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    namespaces.retain(|each| each["type"] != "cgroup");
    fs::write(bundle.path("other.json"), bundle.config.to_string())?;
    let inside = bundle.oci(&[&globals[..], &["run", "-f", "other.json", "one"]].concat())?.success()?;
    same!(inside, fs::read_to_string("/proc/self/cgroup")?.trim_end(), "the caller's groups");
    contains!(fs::read_to_string(&log)?, "linux.resources is not enforced");
    fs::remove_file(&log)?;
    bundle.oci(&[&globals[..], &["--log-level=error", "run", "-f", "other.json", "one"]].concat())?.success()?;
    ensure!(!std::path::Path::new(&log).exists(), "{}", fs::read_to_string(&log)?);
    Ok(())
}

fn documents(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "true")?;
    bundle.oci(&["spec"])?.fails(1, &["exists"])?;
    let features: Value = serde_json::from_str(&bundle.oci(&["features"])?.success()?)?;
    same!(features["ociVersionMin"], "1.0.0");
    same!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
    for (list, word) in [
        (&features["linux"]["namespaces"], "time"),
        (&features["linux"]["capabilities"], "CAP_CHECKPOINT_RESTORE"),
        (&features["linux"]["seccomp"]["actions"], "SCMP_ACT_NOTIFY"),
        (&features["mountOptions"], "rro"),
        (&features["hooks"], "startContainer"),
        (&features["potentiallyUnsafeConfigAnnotations"], "org.systemd.property."),
    ] {
        ensure!(list.as_array().is_some_and(|list| list.iter().any(|each| each == word)), "no {word}: {list}");
    }
    let plan: Value = serde_json::from_str(&bundle.oci(&["plan", &bundle.place()])?.success()?)?;
    same!(plan["process"]["args"], json!(["sh", "-c", "true"]));
    ensure!(plan["mounts"].as_array().is_some_and(|mounts| mounts.len() >= 5), "{plan}");
    same!(bundle.oci(&["list", "-q"])?.success()?, "", "a plan makes nothing");
    Ok(())
}

fn bad_bundles_make_nothing(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let good = bundle.config.clone();
    let bad: [(&str, Value, &str); 7] = [
        ("/ociVersion", json!("2.0.0"), "version"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/root/path", json!("nowhere"), "not a directory"),
        ("/process/args", json!([]), "process.args"),
        ("/process/env", json!(["NAME"]), "process.env"),
        ("/linux/namespaces", json!([{"type": "pid"}, {"type": "pid"}]), "twice"),
        ("/mounts/0/destination", json!("/"), "destination"),
    ];
    for (pointer, value, words) in bad {
        bundle.config = good.clone();
        *bundle.config.pointer_mut(pointer).with_context(|| format!("no {pointer}"))? = value;
        bundle.write()?;
        bundle.oci(&["run", "one"])?.fails(1, &[words])?;
    }
    fs::write(bundle.path("config.json"), "{\"ociVersion\": ")?;
    bundle.oci(&["run", "one"])?.fails(1, &["config.json"])?;
    fs::write(bundle.path("config.json"), " ".repeat(17 << 20))?;
    bundle.oci(&["run", "one"])?.fails(1, &["longer than"])?;
    fs::copy(bundle.path("config.json"), bundle.path("process.json"))?;
    fs::remove_file(bundle.path("config.json"))?;
    bundle.oci(&["run", "one"])?.fails(1, &["config.json not found"])?;
    for id in ["", "..", "a/b", "a b"] {
        bundle.oci(&["run", id])?.fails(1, &["id"])?;
    }
    same!(bundle.oci(&["list", "-q"])?.success()?, "");
    bundle.config = good;
    bundle.script("exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let process = bundle.path("process.json").display().to_string();
    bundle.oci(&["exec", "--process", &process, "one"])?.fails(255, &["process.json is longer than"])?;
    Ok(())
}

fn the_root_is_entered_without_pivot(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "ls /; cat /etc/shadow 2>&1; true")?;
    let output = bundle.oci(&["run", "--no-pivot", "one"])?.success()?;
    contains!(output, "bin\ndev\netc\nproc\nsys\ntmp\n");
    contains!(output, "No such file");
    Ok(())
}
