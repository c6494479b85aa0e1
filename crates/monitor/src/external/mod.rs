//! Containers that another program makes: an OCI runtime, by the operations of its specification (runtime.md) and the command
//! line that runc has and the others took over.
//!
//! ```text
//! monitor                                         runtime                       container
//!   cgroup, bundle with its mounts, network
//!   create --bundle … --pid-file … ID ───────────▶ makes it, and ends ──────────▶ waits, a child of the monitor by adoption
//!   start ID ────────────────────────────────────▶ lets it go
//!   exec --process … --detach ID ────────────────▶ a further process, adopted the same way
//!   kill ID SIGNAL
//!   delete --force ID                              at the end, and by the sweep after a kill of the monitor
//! ```
//!
//! Streams, log, exit status and what follows from it are the monitor's as with every container: the runtime passes on what it
//! gets. Limits and the freezer are the monitor's too, in the cgroup that it has made and the runtime joins.

mod bundle;
mod console;

use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Standard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Call, Error, Kind};
use crate::session::{Running, Stdio};
use crate::turn::remaining;

pub(crate) use bundle::{Bundle, Given, Network, resolve};
use console::Console;

/// What a runtime has for one verb; one that takes longer hangs, and its container could not be stopped.
const PATIENCE: Duration = Duration::from_secs(120);

/// As much of what a runtime says as an error repeats.
const SAID: usize = 2000;

/// A runtime and where it keeps what it knows of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExternalRuntime {
    /// Its file.
    pub program: PathBuf,
    /// Arguments before the verb.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Directory for its state and the bundle; made by the monitor, removed after the run.
    pub directory: PathBuf,
}

/// A container that it makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExternalLaunch {
    /// The runtime.
    pub runtime: ExternalRuntime,
    /// The container. Root, user, cgroup and network namespace are filled in by the monitor.
    pub specification: oci::runtime::Spec,
}

/// A further process in a container that it has made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExternalExec {
    /// The runtime.
    pub runtime: ExternalRuntime,
    /// Name of the container.
    pub id: String,
    /// The process. Its user is filled in by the monitor.
    pub process: oci::runtime::Process,
    /// Who it runs as, as the caller or the image wrote it.
    pub user: String,
    /// Supplementary groups beside those of the container's files.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl ExternalRuntime {
    /// Its name in errors.
    fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        // A monitor has no environment but what is for its own allocator.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(&self.arguments).arg("--root").arg(self.directory.join("state"));
        command.arg("--log").arg(self.log()).args(["--log-format", "json"]).arg(verb);
        command.current_dir("/").stdin(Standard::null()).stdout(Standard::null());
        command
    }

    /// A verb that has nothing to do with the container's streams.
    fn run(&self, verb: &str, arguments: &[&str]) -> Result<(), Error> {
        let mut errors = self.scratch()?;
        let mut command = self.command(verb);
        command.args(arguments).stderr(Standard::from(errors.try_clone().call(|| "dup(<errors>)".to_owned())?));
        match self.finish(command, verb) {
            Ok(()) => Ok(()),
            Err(error) => {
                let mut text = String::new();
                // What it said on its errors is for want of a better.
                let read = errors.rewind().and_then(|()| (&mut errors).take(SAID as u64).read_to_string(&mut text));
                match error {
                    Error::Refused { kind, message } if read.is_ok() && message.is_empty() => {
                        Err(Error::refused(kind, format!("{} {verb}: {}", self.name(), text.trim())))
                    }
                    other => Err(other),
                }
            }
        }
    }

    fn scratch(&self) -> Result<std::fs::File, Error> {
        let path = self.directory.join("errors");
        let mut options = std::fs::File::options();
        options.read(true).write(true).create(true).truncate(true);
        options.open(&path).call(|| format!("open({path:?}, O_RDWR|O_CREAT|O_TRUNC)"))
    }

    /// Runs it to its end. An empty message of the error stands for a runtime that has logged nothing.
    fn finish(&self, mut command: Command, verb: &str) -> Result<(), Error> {
        // The log is appended to.
        drop(std::fs::remove_file(self.log()));
        let failed = |error: std::io::Error| {
            Error::refused(Kind::Failed, format!("cannot execute the runtime {}: {error}", self.program.display()))
        };
        // std passes the mask on.
        let unblocked = kernel::signals::Unblocked::new().map_err(failed)?;
        let child = command.spawn().map_err(failed)?;
        drop(unblocked);
        // With it go the ends of the container's pipes that it held.
        drop(command);
        let status = match ended(child)? {
            Some(status) => status,
            None => {
                let text = format!("{} {verb} did not end within {} seconds", self.name(), PATIENCE.as_secs());
                return Err(Error::refused(Kind::Failed, text));
            }
        };
        if status.success() {
            return Ok(());
        }
        let said = last_words(&self.log());
        let kind = kind_of(&said);
        let message = if said.is_empty() { said } else { format!("{} {verb}: {said}", self.name()) };
        Err(Error::refused(kind, message))
    }

    /// Lets a container that was made execute its program.
    pub(crate) fn start(&self, id: &str) -> Result<(), Error> {
        self.run("start", &[id])
    }

    /// Sends its first process a signal.
    pub(crate) fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        self.run("kill", &[id, &signal.to_string()])
    }

    /// Has it forget a container, whatever is left of it, and removes all that was made for it. The directory that is not there
    /// is no error: nothing was made.
    ///
    /// # Errors
    /// What cannot be removed. A runtime that fails is none: without its state it has nothing more to say, and processes and
    /// cgroup are somebody else's care.
    pub fn delete(&self, id: &str) -> Result<(), Error> {
        if !self.directory.exists() {
            return Ok(());
        }
        if self.directory.join("state").exists() {
            drop(self.run("delete", &["--force", id]));
        }
        Bundle::of(&self.directory).remove()?;
        // Nothing is mounted below it any more, or it could not have been removed.
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).call(|| format!("remove({:?})", self.directory))
            }
            _ => Ok(()),
        }
    }

    /// Makes a container and returns its first process, with its terminal if it has one.
    pub(crate) fn create(
        &self,
        id: &str,
        bundle: &Path,
        stdio: Stdio,
    ) -> Result<(Running, Option<std::os::fd::OwnedFd>), Error> {
        let mut command = self.command("create");
        command.arg("--bundle").arg(bundle);
        self.make(command, "create", id, stdio)
    }

    /// Starts a further process.
    pub(crate) fn exec(
        &self,
        id: &str,
        process: &oci::runtime::Process,
        stdio: Stdio,
    ) -> Result<(Running, Option<std::os::fd::OwnedFd>), Error> {
        let path = self.directory.join("process.json");
        let text = serde_json::to_vec(process)
            .map_err(|source| Error::Json { what: "the process of an exec session".to_owned(), source })?;
        std::fs::write(&path, text).call(|| format!("write({path:?})"))?;
        let mut command = self.command("exec");
        command.arg("--process").arg(&path).arg("--detach");
        self.make(command, "exec", id, stdio)
    }

    fn make(
        &self,
        mut command: Command,
        verb: &str,
        id: &str,
        stdio: Stdio,
    ) -> Result<(Running, Option<std::os::fd::OwnedFd>), Error> {
        let pid_file = self.directory.join("pid");
        drop(std::fs::remove_file(&pid_file));
        command.arg("--pid-file").arg(&pid_file);
        let console = match stdio {
            Stdio::Terminal => {
                let console = Console::listen(&self.directory)?;
                command.arg("--console-socket").arg(console.path()).stderr(Standard::null());
                Some(console)
            }
            Stdio::Files { stdin, stdout, stderr } => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
        };
        command.arg(id);
        self.finish(command, verb).map_err(|error| match error {
            Error::Refused { kind, message } if message.is_empty() => {
                Error::refused(kind, format!("{} {verb} failed without a word in its log", self.name()))
            }
            other => other,
        })?;
        let text = std::fs::read_to_string(&pid_file).call(|| format!("read({pid_file:?})"))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| {
            Error::refused(Kind::Failed, format!("{} {verb} wrote {text:?} in place of a process id", self.name()))
        })?;
        // Its maker has ended, so it is a child of this process, and its number cannot be another's before it is reaped.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .call(|| format!("pidfd_open({})", pid.as_raw_nonzero()))?;
        let terminal = console.map(|console| console.receive()).transpose()?;
        Ok((Running { pid: pid.as_raw_nonzero().get(), pidfd }, terminal))
    }
}

/// Waits for a runtime's end; kills one that does not come to it.
fn ended(mut child: Child) -> Result<Option<std::process::ExitStatus>, Error> {
    let call = || "waitid(<runtime>)".to_owned();
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .call(|| "pidfd_open(<runtime>)".to_owned())?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let mut poll = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut poll, Some(&remaining(end))) {
            Ok(1..) => return child.wait().map(Some).call(call),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => Err(errno).call(|| "poll(<runtime>)".to_owned())?,
        }
    }
    child.kill().call(|| "kill(<runtime>, SIGKILL)".to_owned())?;
    child.wait().call(call)?;
    Ok(None)
}

/// The last error in a log of JSON lines.
fn last_words(log: &Path) -> String {
    let Ok(file) = std::fs::File::open(log) else { return String::new() };
    let mut text = String::new();
    // A runtime in debug mode writes much.
    if file.take(1 << 20).read_to_string(&mut text).is_err() {
        return String::new();
    }
    let error = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_error = matches!(line["level"].as_str(), Some("error" | "fatal" | "panic") | None);
        is_error.then(|| line["msg"].as_str().map(|said| said.chars().take(SAID).collect())).flatten()
    };
    text.lines().rev().find_map(error).unwrap_or_default()
}

/// Docker tells them apart by the same words (moby, `daemon/errors.go`).
fn kind_of(said: &str) -> Kind {
    let said = said.to_ascii_lowercase();
    let program = said.contains("exec");
    if program && (said.contains("not found") || said.contains("no such file or directory")) {
        Kind::NotFound
    } else if program && (said.contains("permission denied") || said.contains("is a directory")) {
        Kind::NotExecutable
    } else {
        Kind::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_say() {
        for (said, kind) in [
            ("exec: \"nosuch\": executable file not found in $PATH", Kind::NotFound),
            ("executable file `nosuch` not found in $PATH: No such file or directory", Kind::NotFound),
            ("exec: \"/etc\": is a directory", Kind::NotExecutable),
            ("runc create failed: exec: \"/x\": permission denied", Kind::NotExecutable),
            ("mount `proc`: Operation not permitted", Kind::Failed),
        ] {
            assert_eq!(kind_of(said), kind, "{said}");
        }
    }

    #[test]
    fn the_last_error_of_a_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert_eq!(last_words(&log), "");
        let lines = "{\"level\":\"info\",\"msg\":\"a\"}\n{\"msg\":\"b\",\"level\":\"error\"}\n{\"level\":\"debug\",\"msg\":\"c\"}\nrest";
        std::fs::write(&log, lines).unwrap();
        assert_eq!(last_words(&log), "b");
    }

    #[test]
    fn a_runtime_that_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = |program: &str| ExternalRuntime {
            program: program.into(),
            arguments: Vec::new(),
            directory: directory.path().to_owned(),
        };
        let said = runtime("/nonexistent").start("x").unwrap_err().to_string();
        assert!(said.contains("cannot execute the runtime /nonexistent"), "{said}");
        let said = runtime("/bin/false").start("x").unwrap_err().to_string();
        assert!(said.starts_with("false start:"), "{said}");
        runtime("/bin/true").start("x").unwrap();
    }
}
