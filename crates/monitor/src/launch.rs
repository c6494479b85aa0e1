//! The only place that calls the runtime and the network, and that tells containers from ordinary processes.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use kernel::namespaces::Namespaces;
use rustix::process::{Pid, PidfdFlags};
use rustix::pty::OpenptFlags;

use crate::confinement::Confinement;
use crate::error::{Call, Error, Kind};
use crate::external::{self, Bundle, ExternalExec, ExternalLaunch, ExternalRuntime, Given, Network};
use crate::leftovers;
use crate::names::NameServer;
use crate::networks::Networks;
use crate::one_way;
use crate::plan::{Command, ContainerLaunch, ExecLaunch, Launch, MonitorPlan};
use crate::session::{Running, Session, Stdio};
use crate::wire::Size;

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
    /// Brought back, and running.
    Restored(OwnedFd),
    /// Made by another runtime, which lets it go.
    External {
        pidfd: OwnedFd,
        runtime: ExternalRuntime,
        id: String,
    },
}

/// Makes the container, with its cgroup and network, up to just before `execve`.
pub(crate) fn create(
    plan: &mut MonitorPlan,
    stdio: Stdio,
    confinement: &mut Confinement,
    networks: &mut Networks,
) -> Result<Created, Error> {
    match &mut plan.launch {
        Launch::Container(container) => {
            container.plan.cgroup = confinement.make(container.cgroup.as_ref())?;
            if plan.terminal {
                let size = plan.size.unwrap_or_default();
                let wanted = container.plan.process.terminal.get_or_insert_default();
                if plan.size.is_some() {
                    *wanted = (size.rows, size.columns);
                }
            }
            if let Some(external) = &container.external {
                let terminal = if plan.terminal { plan.size } else { None };
                let cgroup = confinement.description().map(|group| group.path);
                return create_external(&plan.id, container, external, (cgroup, terminal), stdio, networks);
            }
            if let Some(files) = container.restore.take() {
                return restore(container, &files, &plan.run_directory, stdio, networks);
            }
            let mut created =
                runtime::create(&container.plan, streams(stdio), |new| join_networks(container, new, networks))
                    .map_err(launch_error)?;
            let (pid, terminal) = (number(created.pid()), created.terminal.take());
            Ok(Created { pid, terminal, step: Step::Container(Box::new(created)) })
        }
        Launch::Command(command) => {
            let (running, terminal) = spawn(command, stdio)
                .map_err(|source| Error::Launch { kind: kind_of(&source), source: source.into() })?;
            Ok(Created { pid: running.pid, terminal, step: Step::Command(running.pidfd) })
        }
    }
}

fn restore(
    container: &ContainerLaunch,
    files: &runtime::CheckpointOptions,
    run_directory: &std::path::Path,
    stdio: Stdio,
    networks: &mut Networks,
) -> Result<Created, Error> {
    let scratch = run_directory.join("criu");
    let started = runtime::restore(&container.plan, streams(stdio), &scratch, files, |new| {
        join_networks(container, new, networks)
    });
    // Empty mount points; criu has what was there.
    std::fs::remove_dir_all(&scratch).unwrap_or_default();
    let started = started.map_err(launch_error)?;
    Ok(Created { pid: number(started.pid), terminal: started.terminal, step: Step::Restored(started.pidfd) })
}

/// Has another runtime make the container, in a cgroup and on a network that are there already.
fn create_external(
    id: &str,
    container: &ContainerLaunch,
    external: &ExternalLaunch,
    (cgroup, size): (Option<String>, Option<Size>),
    stdio: Stdio,
    networks: &mut Networks,
) -> Result<Created, Error> {
    // Whoever the runtime leaves behind becomes a child of this process.
    leftovers::adopt();
    let network = match container.loopback {
        true => Some(Network::new()?),
        false => None,
    };
    if let Some(network) = &network {
        let new = runtime::NewContainer { pid: network.child.pid, pidfd: network.child.pidfd.as_fd() };
        join_networks(container, &new, networks).map_err(|source| Error::Launch { kind: Kind::Failed, source })?;
    }
    let bundle = Bundle::of(&external.runtime.directory);
    bundle.make(container, external, &Given { cgroup, size, network: network.as_ref() })?;
    let (running, terminal) = external.runtime.create(id, bundle.path(), stdio)?;
    let step = Step::External { pidfd: running.pidfd, runtime: external.runtime.clone(), id: id.to_owned() };
    Ok(Created { pid: running.pid, terminal, step })
}

impl Created {
    /// Lets it execute. Returns when that has succeeded.
    pub(crate) fn start(self) -> Result<Running, Error> {
        match self.step {
            Step::Container(created) => {
                let started = created.start().map_err(launch_error)?;
                Ok(Running { pid: number(started.pid), pidfd: started.pidfd })
            }
            Step::External { pidfd, runtime, id } => {
                runtime.start(&id)?;
                Ok(Running { pid: self.pid, pidfd })
            }
            Step::Command(pidfd) | Step::Restored(pidfd) => Ok(Running { pid: self.pid, pidfd }),
        }
    }
}

/// Starts a process beside the first process of the container. Returns when its `execve` has succeeded.
pub(crate) fn exec(
    launch: ExecLaunch,
    stdio: Stdio,
    size: Option<Size>,
    container: &Session,
    confinement: &Confinement,
) -> Result<(Running, Option<OwnedFd>), Error> {
    match launch {
        ExecLaunch::Container(mut plan) => {
            plan.cgroup = confinement.directories();
            if matches!(stdio, Stdio::Terminal) {
                let wanted = plan.process.terminal.get_or_insert_default();
                if let Some(size) = size {
                    *wanted = (size.rows, size.columns);
                }
            }
            let target = Pid::from_raw(container.pid)
                .ok_or_else(|| Error::refused(Kind::NotRunning, "the container is not running"))?;
            let started = runtime::exec(&plan, container.pidfd.as_fd(), target, streams(stdio))
                .map_err(|source| Error::Exec { kind: runtime_kind(&source), source: source.into() })?;
            Ok((Running { pid: number(started.pid), pidfd: started.pidfd }, started.terminal))
        }
        ExecLaunch::External(exec) => exec_external(*exec, stdio, size, container),
        ExecLaunch::Command(command) => {
            spawn(&command, stdio).map_err(|source| Error::Exec { kind: kind_of(&source), source: source.into() })
        }
    }
}

fn exec_external(
    exec: ExternalExec,
    stdio: Stdio,
    size: Option<Size>,
    container: &Session,
) -> Result<(Running, Option<OwnedFd>), Error> {
    let path = format!("/proc/{}/root", container.pid);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open(path.as_str(), flags, rustix::fs::Mode::empty())
        .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))?;
    let ExternalExec { runtime, id, mut process, user, groups } = exec;
    external::resolve(&mut process, root.as_fd(), &user, &groups)?;
    process.terminal = matches!(stdio, Stdio::Terminal);
    process.console_size = size
        .filter(|_| process.terminal)
        .map(|size| oci::runtime::ConsoleSize { height: size.rows.into(), width: size.columns.into() });
    runtime.exec(&id, &process, stdio)
}

/// Inode of a process's network namespace, 0 when it cannot be seen.
pub(crate) fn network_namespace(pid: i32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |metadata| metadata.ino())
}

fn join_networks(
    container: &ContainerLaunch,
    new: &runtime::NewContainer<'_>,
    networks: &mut Networks,
) -> Result<(), runtime::BoxError> {
    if !container.loopback {
        return Ok(());
    }
    let namespace = new.namespace(Namespaces::NETWORK)?;
    if container.one_way {
        return one_way::loopback_up(&namespace).map_err(Into::into);
    }
    if container.loopback {
        network::loopback_up(namespace.as_fd())?;
    }
    for attachment in &container.attachments {
        match network::attach(attachment, namespace.as_fd()) {
            // The pair of this container's last run: the kernel takes a namespace apart some time after its end.
            Err(error) if error.errno() == Some(rustix::io::Errno::EXIST) => {
                network::detach(&attachment.host_interface)?;
                network::attach(attachment, namespace.as_fd())
            }
            other => other,
        }?;
    }
    for attachment in &container.direct {
        network::attach_direct(attachment, namespace.as_fd())?;
    }
    if let Some(plan) = &container.relay {
        networks.relay = Some(network::Relay::open(&networks.ports, &plan.ports, plan.targets.clone())?);
    }
    if let Some(plan) = &container.names {
        networks.names = Some(NameServer::open(namespace.as_fd(), plan.clone())?);
    }
    Ok(())
}

/// Gives the attachments that a restart will make their default gateways.
pub(crate) fn set_gateways(container: &mut ContainerLaunch, routes: &[(String, std::net::IpAddr)]) {
    let of = |interface: &str| -> Vec<std::net::IpAddr> {
        routes.iter().filter(|(name, _)| name == interface).map(|(_, gateway)| *gateway).collect()
    };
    container.attachments.iter_mut().for_each(|each| each.gateways = of(&each.container_interface));
    container.direct.iter_mut().for_each(|each| each.gateways = of(&each.container_interface));
}

fn streams(stdio: Stdio) -> runtime::Stdio {
    match stdio {
        Stdio::Files { stdin, stdout, stderr } => runtime::Stdio::Streams { stdin, stdout, stderr },
        Stdio::Terminal => runtime::Stdio::Terminal,
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

fn launch_error(source: runtime::Error) -> Error {
    Error::Launch { kind: runtime_kind(&source), source: source.into() }
}

fn runtime_kind(error: &runtime::Error) -> Kind {
    if error.is_not_found() {
        Kind::NotFound
    } else if error.is_not_executable() {
        Kind::NotExecutable
    } else {
        Kind::Failed
    }
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
    let mut process = std::process::Command::new(program);
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
    // std passes the mask on. (The runtime resets it.)
    let unblocked = kernel::signals::Unblocked::new()?;
    let child = process.spawn()?;
    drop(unblocked);
    let pid = Pid::from_child(&child);
    // The child is not waited for through `child`, so its number cannot have been used again.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok((Running { pid: number(pid), pidfd }, terminal))
}
