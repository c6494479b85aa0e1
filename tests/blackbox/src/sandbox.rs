//! What a test works with: dhow with directories of its own, images, and a look at what stays afterwards.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::audit::{self, Scope, Snapshot};
use crate::case::skip;
use crate::host;

/// dhow in directories of its own.
pub struct Sandbox {
    directory: PathBuf,
    program: PathBuf,
    images: PathBuf,
    slow: u32,
    before: Snapshot,
}

impl Sandbox {
    /// The sandbox of this process's test; the runner made the directory.
    pub fn new() -> Result<Self> {
        let variable =
            |name: &str| std::env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set"));
        let directory = variable("BLACKBOX_DIRECTORY")?;
        let slow = std::env::var("BLACKBOX_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let sandbox = Self {
            program: variable("DHOW_BIN")?,
            images: variable("DHOW_IMAGES")?,
            slow,
            before: Snapshot::take(&directory, Scope::Own)?,
            directory,
        };
        std::fs::create_dir(sandbox.path("files"))?;
        Ok(sandbox)
    }

    /// A path in the test's directory. `data` and `run` are dhow's, `files` is for the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file below `files` and returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> Result<String> {
        let path = self.path("files").join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text)?;
        path.to_str().map(str::to_owned).context("the temporary directory's name is not UTF-8")
    }

    /// A time limit as it is on this machine.
    pub fn seconds(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) * self.slow
    }

    /// Whether the machine is an emulated one, where repetitions are dear.
    pub fn is_slow(&self) -> bool {
        self.slow > 1
    }

    /// The command `dhow --root … --run-dir … ARGUMENTS`, with a bare environment.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear();
        for name in ["HOME", "PATH", "USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DHOW_STORAGE_BACKEND"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("DOCKER_CONFIG", self.path("docker"));
        command.arg("--root").arg(self.path("data")).arg("--run-dir").arg(self.path("run")).args(arguments);
        command
    }

    /// Runs dhow to its end, without input.
    pub fn dhow<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        self.finish_command(self.command(arguments), "")
    }

    /// Runs dhow to its end with this input.
    pub fn dhow_with_input<S: AsRef<OsStr>>(
        &self,
        input: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        self.finish_command(self.command(arguments), input)
    }

    /// Runs a command to its end, saying what it did in the test's log.
    pub fn finish_command(&self, mut command: Command, input: &str) -> Result<Output> {
        let text = describe(&command);
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("start {text}"))?;
        let readers = (
            host::reader(child.stdout.take().context("no output")?),
            host::reader(child.stderr.take().context("no errors")?),
        );
        if let Some(mut pipe) = child.stdin.take() {
            // A command that does not read its input closes it.
            drop(pipe.write_all(input.as_bytes()));
        }
        let status = child.wait()?;
        let [stdout, stderr] = [readers.0, readers.1].map(|reader| reader.join().unwrap_or_default());
        let code = status.code().with_context(|| format!("{text}: {status}: {stderr}"))?;
        let shown = |text: &str| text.chars().take(4000).collect::<String>();
        eprintln!("$ {text}\n{}{}[{code}]", shown(&stdout), shown(&stderr));
        let id = stdout.trim_end();
        if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            audit::remember(&self.directory, id)?;
        }
        Ok(Output { text, code, stdout, stderr })
    }

    /// Runs dhow, which must succeed, and returns its output without the last line's end.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        self.dhow(arguments)?.success()
    }

    /// Starts dhow and leaves it running.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Child> {
        let mut command = self.command(arguments);
        eprintln!("$ {} &", describe(&command));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start dhow")
    }

    /// The archive of an image: `busybox`, `oci` or `docker`.
    pub fn archive(&self, name: &str, form: &str) -> Result<String> {
        let path = self.images.join(format!("{name}.{form}.tar"));
        if !path.exists() {
            return skip(format!("{} is missing: cargo xtask images", path.display()));
        }
        path.to_str().map(str::to_owned).context("the image directory's name is not UTF-8")
    }

    /// Loads an image from its OCI archive.
    pub fn load(&self, name: &str) -> Result<()> {
        let archive = self.archive(name, "oci")?;
        self.ok(["load", "-i", &archive])?;
        Ok(())
    }

    /// Runs a shell command in a busybox container that removes itself, and returns its output.
    pub fn busybox(&self, options: &[&str], script: &str) -> Result<String> {
        self.ok([&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat())
    }

    /// Starts a busybox container in the background and returns its id.
    pub fn detached(&self, options: &[&str], script: &str) -> Result<String> {
        self.ok([&["run", "-d"], options, &["busybox", "sh", "-c", script]].concat())
    }

    /// What `inspect` says of a container.
    pub fn inspect(&self, container: &str) -> Result<Value> {
        let mut all: Value = serde_json::from_str(&self.ok(["inspect", container])?)?;
        Ok(all[0].take())
    }

    /// The pid of a running container's first process.
    pub fn pid(&self, container: &str) -> Result<i64> {
        let pid = self.inspect(container)?["State"]["Pid"].as_i64().unwrap_or(0);
        ensure!(pid > 0, "{container} has no pid");
        Ok(pid)
    }

    /// Waits until the container's log has the text, and returns the whole.
    pub fn wait_for_log(&self, container: &str, wanted: &str) -> Result<String> {
        let mut last = String::new();
        let seen = host::until(&format!("{wanted:?} in the log"), self.seconds(30), || {
            let output = self.command(["logs", container]).output()?;
            last = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            Ok(last.contains(wanted).then(|| last.clone()))
        });
        seen.with_context(|| format!("the log is: {last}"))
    }

    /// Waits for a container's state: `running`, `exited`.
    pub fn wait_for_state(&self, container: &str, wanted: &str) -> Result<()> {
        host::until(&format!("{container} is {wanted}"), self.seconds(20), || {
            let output = self.command(["inspect", "--format", "{{.State.Status}}", container]).output()?;
            Ok((String::from_utf8_lossy(&output.stdout).trim() == wanted).then_some(()))
        })
    }

    /// What can be seen of leaks at this moment.
    pub fn snapshot(&self, scope: Scope) -> Result<Snapshot> {
        Snapshot::take(&self.directory, scope)
    }

    /// Removes all containers, as far as that works.
    pub fn clear(&self) {
        let Ok(output) = self.command(["ps", "-a", "-q", "--no-trunc"]).output() else { return };
        let ids = String::from_utf8_lossy(&output.stdout).into_owned();
        if !ids.trim().is_empty() {
            // What this cannot do, the comparison afterwards shows.
            drop(ids.lines().try_for_each(|id| audit::remember(&self.directory, id)));
            drop(self.command(["rm", "-f", "-v"].into_iter().chain(ids.lines())).output());
        }
    }

    /// The end of a test that passed: removes its containers and fails if anything of them stays.
    pub fn finish(&self) -> Result<()> {
        self.clear();
        self.settles_to(&self.before, Scope::Own)
    }

    /// Fails unless everything is soon as it was: processes may take a moment to be gone.
    pub fn settles_to(&self, before: &Snapshot, scope: Scope) -> Result<()> {
        self.end_user_network();
        let mut leaks = vec![];
        let settled = host::until("as before", self.seconds(5), || {
            leaks = self.snapshot(scope)?.leaks_since(before);
            Ok(leaks.is_empty().then_some(()))
        });
        if settled.is_err() {
            bail!("left behind:\n  {}", leaks.join("\n  "));
        }
        Ok(())
    }

    /// The process that keeps an ordinary user's network stays for a moment after the last container; SIGTERM says that
    /// nobody will come.
    fn end_user_network(&self) {
        let Ok(text) = std::fs::read(self.path("run/user-network/record.json")) else { return };
        let pid = serde_json::from_slice::<Value>(&text).ok().and_then(|record| record["holder"].as_i64());
        let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // Gone already.
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
    }

    /// The test's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The command without its directories, as one would type it.
fn describe(command: &Command) -> String {
    let mut words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.first().is_some_and(|word| word == "--root") {
        words.drain(..4.min(words.len()));
    }
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{program} {}", words.join(" "))
}

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    text: String,
    /// Exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it wrote to its errors.
    pub stderr: String,
}

impl Output {
    /// The output of a command that succeeded, without the last line's end.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == 0, "{}: exit code {}: {}", self.text, self.code, self.stderr.trim_end());
        Ok(self.stdout.trim_end_matches('\n').to_owned())
    }

    /// Checks that the command failed with this code and says all of this, in any case.
    pub fn fails(self, code: i32, fragments: &[&str]) -> Result<()> {
        ensure!(self.code == code, "{}: exit code {}, wanted {code}: {}", self.text, self.code, self.stderr.trim_end());
        let said = self.stderr.to_lowercase();
        for fragment in fragments {
            ensure!(said.contains(&fragment.to_lowercase()), "{}: no {fragment:?} in: {}", self.text, self.stderr);
        }
        ensure!(!said.contains("panicked"), "{}: a panic: {}", self.text, self.stderr);
        Ok(())
    }
}
