//! The only place that calls the runtime, the network and the cgroups.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process;

use rustix::process::{Pid, PidfdFlags};
use rustix::pty::OpenptFlags;

use crate::error::{Call, Error, Kind};
use crate::plan::{Command, ExecLaunch, Launch, MonitorPlan};
use crate::session::{Running, Stdio};

/// A container that has been made and waits before `execve`.
pub(crate) struct Created {
    /// Its first process.
    pub(crate) pid: i32,
    /// Master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    step: Step,
}

enum Step {
    Command(OwnedFd),
}

/// What belongs to a container besides its processes.
pub(crate) struct Confinement;

impl Confinement {
    pub(crate) fn of(_plan: &MonitorPlan) -> Result<Self, Error> {
        Ok(Self)
    }

    /// How many processes were killed because the memory limit was reached.
    pub(crate) fn oom_kills(&self) -> u64 {
        0
    }

    /// Kills every process that is left.
    pub(crate) fn kill_all(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn freeze(&self) -> Result<(), Error> {
        Err(Error::refused(Kind::Invalid, "this container has no cgroup that can be frozen"))
    }

    pub(crate) fn thaw(&self) -> Result<(), Error> {
        Err(Error::refused(Kind::Invalid, "this container has no cgroup that can be frozen"))
    }
}

/// Makes the container, with its network, up to just before `execve`.
pub(crate) fn create(plan: &MonitorPlan, stdio: Stdio, _confinement: &Confinement) -> Result<Created, Error> {
    match &plan.launch {
        Launch::Command(command) => {
            let (running, terminal) = spawn(command, stdio).map_err(launch_error)?;
            Ok(Created { pid: running.pid, terminal, step: Step::Command(running.pidfd) })
        }
    }
}

impl Created {
    /// Lets it execute. Returns when that has succeeded.
    pub(crate) fn start(self) -> Result<Running, Error> {
        match self.step {
            Step::Command(pidfd) => Ok(Running { pid: self.pid, pidfd }),
        }
    }
}

/// Starts a process in the container that `target` belongs to. Returns when its `execve` has succeeded.
pub(crate) fn exec(launch: &ExecLaunch, stdio: Stdio, _target: &Running) -> Result<(Running, Option<OwnedFd>), Error> {
    match launch {
        ExecLaunch::Command(command) => {
            spawn(command, stdio).map_err(|source| Error::Exec { kind: kind_of(&source), source: Box::new(source) })
        }
    }
}

/// Inode of a process's network namespace, 0 when it cannot be seen.
pub(crate) fn network_namespace(pid: i32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |metadata| metadata.ino())
}

fn launch_error(source: std::io::Error) -> Error {
    Error::Launch { kind: kind_of(&source), source: Box::new(source) }
}

fn kind_of(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::NotExecutable,
        _ => Kind::Failed,
    }
}

fn spawn(command: &Command, stdio: Stdio) -> std::io::Result<(Running, Option<OwnedFd>)> {
    let (program, arguments) =
        command.arguments.split_first().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    let mut process = process::Command::new(program);
    process.args(arguments);
    let terminal = match stdio {
        Stdio::Files { stdin, stdout, stderr } => {
            process.stdin(stdin).stdout(stdout).stderr(stderr);
            None
        }
        Stdio::Terminal => {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let master = rustix::pty::openpt(flags)?;
            rustix::pty::unlockpt(&master)?;
            let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
            process.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
            Some(master)
        }
    };
    // std passes the mask on. (The runtime resets it itself.)
    let unblocked = kernel::signals::Unblocked::new()?;
    let child = process.spawn()?;
    drop(unblocked);
    let pid = Pid::from_child(&child);
    // The child is not waited for through `child`, so its number cannot have been used again.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok((Running { pid: pid.as_raw_nonzero().get(), pidfd }, terminal))
}

/// A descriptor of our own for a process that somebody else also holds.
pub(crate) fn duplicate(running: &OwnedFd) -> Result<OwnedFd, Error> {
    running.try_clone().call(|| "fcntl(F_DUPFD_CLOEXEC)".to_owned())
}
