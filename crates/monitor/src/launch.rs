//! The only place that calls the runtime, the network and the cgroups.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process;

use cgroup::{Cgroup, Hierarchy, Version};
use kernel::namespaces::Namespaces;
use runtime::{BoxError, CgroupPlan, ExecPlan};
use rustix::process::{Pid, PidfdFlags};
use rustix::pty::OpenptFlags;

use crate::error::{Call, Error, Kind};
use crate::plan::{Command, ContainerLaunch, ExecLaunch, Launch, MonitorPlan};
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
    Container(Box<runtime::Created>),
    Command(OwnedFd),
}

/// What belongs to a container besides its processes. Nothing, while none runs.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    cgroup: Option<Cgroup>,
    plan: CgroupPlan,
}

impl Confinement {
    /// Makes the container's cgroup with its limits.
    pub(crate) fn of(plan: &MonitorPlan) -> Result<Self, Error> {
        let Launch::Container(launch) = &plan.launch else { return Ok(Self::default()) };
        let hierarchy = Hierarchy::detect().map_err(launch_failed)?;
        let mut cgroup = Cgroup::create(&hierarchy, &launch.cgroup).map_err(launch_failed)?;
        if let Err(error) = cgroup.apply(&launch.resources) {
            // The first error is the one that matters; an empty group left behind is removed by the engine's sweep.
            drop(cgroup.remove());
            return Err(launch_failed(error));
        }
        let plan = cgroup_plan(&cgroup);
        Ok(Self { cgroup: Some(cgroup), plan })
    }

    /// How many processes were killed because the memory limit was reached.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(0)
    }

    /// Kills every process that is left.
    pub(crate) fn kill_all(&mut self) -> Result<(), Error> {
        match &mut self.cgroup {
            Some(cgroup) if !cgroup.processes().map_err(cgroup_failed)?.is_empty() => cgroup.kill().map_err(cgroup_failed),
            _ => Ok(()),
        }
    }

    /// Removes the group.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        match self.cgroup.take() {
            Some(cgroup) => cgroup.remove().map_err(cgroup_failed),
            None => Ok(()),
        }
    }

    pub(crate) fn freeze(&mut self) -> Result<(), Error> {
        self.group()?.freeze().map_err(cgroup_failed)
    }

    pub(crate) fn thaw(&mut self) -> Result<(), Error> {
        self.group()?.thaw().map_err(cgroup_failed)
    }

    fn group(&mut self) -> Result<&mut Cgroup, Error> {
        self.cgroup.as_mut().ok_or_else(|| Error::refused(Kind::Invalid, "this container has no cgroup that can be frozen"))
    }
}

/// Where the runtime finds the group that was made.
fn cgroup_plan(cgroup: &Cgroup) -> CgroupPlan {
    let mut plan = CgroupPlan::default();
    for (mount, directory) in cgroup.directories() {
        match mount.version {
            Version::V2 => plan.unified = Some(directory),
            Version::V1 => {
                let name = mount.mount_point.file_name().map(|name| name.to_string_lossy().into_owned());
                plan.legacy.push((name.unwrap_or_default(), directory));
            }
        }
    }
    plan
}

/// Makes the container, with its network, up to just before `execve`.
pub(crate) fn create(plan: &MonitorPlan, stdio: Stdio, confinement: &Confinement) -> Result<Created, Error> {
    match &plan.launch {
        Launch::Container(launch) => {
            let mut container = launch.plan.clone();
            container.cgroup = confinement.plan.clone();
            let mut created = runtime::create(&container, streams(stdio), |new| Ok(connect(launch, new)?))
                .map_err(|source| Error::Launch { kind: kind_of_runtime(&source), source: Box::new(source) })?;
            let terminal = created.terminal.take();
            Ok(Created { pid: created.pid().as_raw_nonzero().get(), terminal, step: Step::Container(Box::new(created)) })
        }
        Launch::Command(command) => {
            let (running, terminal) = spawn(command, stdio).map_err(launch_error)?;
            Ok(Created { pid: running.pid, terminal, step: Step::Command(running.pidfd) })
        }
    }
}

/// Gives the container its network while it assembles its mounts.
fn connect(launch: &ContainerLaunch, new: &runtime::NewContainer<'_>) -> Result<(), BoxError> {
    if !launch.loopback {
        return Ok(());
    }
    let namespace = new.namespace(Namespaces::NETWORK)?;
    network::loopback_up(namespace.as_fd())?;
    for attachment in &launch.attachments {
        network::attach(attachment, namespace.as_fd())?;
    }
    Ok(())
}

impl Created {
    /// Lets it execute. Returns when that has succeeded.
    pub(crate) fn start(self) -> Result<Running, Error> {
        match self.step {
            Step::Container(created) => {
                let started = created
                    .start()
                    .map_err(|source| Error::Launch { kind: kind_of_runtime(&source), source: Box::new(source) })?;
                Ok(Running { pid: self.pid, pidfd: started.pidfd })
            }
            Step::Command(pidfd) => Ok(Running { pid: self.pid, pidfd }),
        }
    }
}

/// Starts a process in the container that `target` belongs to. Returns when its `execve` has succeeded.
pub(crate) fn exec(
    container: &Launch,
    confinement: &Confinement,
    launch: &ExecLaunch,
    stdio: Stdio,
    target: &Running,
) -> Result<(Running, Option<OwnedFd>), Error> {
    match launch {
        ExecLaunch::Container(exec) => {
            let Launch::Container(container) = container else {
                return Err(Error::refused(Kind::Invalid, "this is not a container"));
            };
            let mut process = exec.process.clone();
            if !exec.unfiltered {
                process.filter = container.plan.process.filter.clone();
            }
            let plan =
                ExecPlan { process, cgroup: confinement.plan.clone(), keyring: container.plan.keyring.clone() };
            let pid = Pid::from_raw(target.pid).ok_or_else(|| Error::refused(Kind::NotRunning, "it does not run"))?;
            let started = runtime::exec(&plan, target.pidfd.as_fd(), pid, streams(stdio))
                .map_err(|source| Error::Exec { kind: kind_of_runtime(&source), source: Box::new(source) })?;
            let running = Running { pid: started.pid.as_raw_nonzero().get(), pidfd: started.pidfd };
            Ok((running, started.terminal))
        }
        ExecLaunch::Command(command) => {
            spawn(command, stdio).map_err(|source| Error::Exec { kind: kind_of(&source), source: Box::new(source) })
        }
    }
}

fn streams(stdio: Stdio) -> runtime::Stdio {
    match stdio {
        Stdio::Files { stdin, stdout, stderr } => runtime::Stdio::Streams { stdin, stdout, stderr },
        Stdio::Terminal => runtime::Stdio::Terminal,
    }
}

fn kind_of_runtime(error: &runtime::Error) -> Kind {
    if error.is_not_found() {
        Kind::NotFound
    } else if error.is_not_executable() {
        Kind::NotExecutable
    } else {
        Kind::Failed
    }
}

fn launch_failed(source: cgroup::Error) -> Error {
    Error::Launch { kind: Kind::Failed, source: Box::new(source) }
}

fn cgroup_failed(source: cgroup::Error) -> Error {
    Error::Launch { kind: Kind::Failed, source: Box::new(source) }
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
