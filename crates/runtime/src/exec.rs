//! A further process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::clone::Clone as Cloning;
use kernel::error::Error as SystemCall;
use kernel::lsm::Procfs;
use kernel::namespaces::{self, Namespaces};
use oci::runtime::{ContainerState, LinuxNamespaceType};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::channel::{self, Channel, Up};
use crate::child::{self, Inside};
use crate::create::{self, Started, Stdio, reap};
use crate::error::{During, Error, Result};
use crate::plan::{CgroupPlan, ProcessPlan};
use crate::supervisor::Supervisor;
use crate::usher::{self, Entry, Usher};
use crate::{devices, identity, join, root};

/// A process to start in a running container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecPlan {
    /// The process.
    pub process: ProcessPlan,
    /// The container's cgroup.
    #[serde(default)]
    pub cgroup: CgroupPlan,
    /// Somebody named that group: the one of the container's first process does not do in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_other_cgroup: bool,
    /// Name of the container's session keyring, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// Kinds of which the container was made with a namespace of its own, which is not the caller's: not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_namespaces: Vec<LinuxNamespaceType>,
    /// The container is in the mount namespace of somebody else: its root is that of its first process alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_foreign_mounts: bool,
}

/// Starts a process in the namespaces and cgroup of another and returns when its program runs.
///
/// `target` is a process of the container, mostly its first, as a descriptor and as a number. The new process is a child
/// of the caller, which must reap it and must have one thread.
///
/// # Errors
/// [`crate::Error::NotFound`] and [`crate::Error::NotExecutable`] for the program, else the step that failed; the process
/// has been reaped then.
pub fn exec(plan: &ExecPlan, target: BorrowedFd<'_>, target_pid: Pid, stdio: Stdio) -> Result<Started> {
    exec_led(plan, target, target_pid, stdio, None)
}

/// As [`exec`]; the `usher` is asked where the kernel does not let the caller put a process into the container's cgroup.
///
/// # Errors
/// As [`exec`], and [`crate::Error::NotLed`].
pub fn exec_led(
    plan: &ExecPlan,
    target: BorrowedFd<'_>,
    target_pid: Pid,
    stdio: Stdio,
    usher: Option<Usher<'_>>,
) -> Result<Started> {
    let (ours, theirs) = channel::pair()?;
    let kinds = kinds_to_join(target_pid, join::kinds(&plan.own_namespaces))?;
    let root = if plan.in_foreign_mounts { Some(root_of(target, target_pid)?) } else { None };
    let ignored = kernel::exe::ignored_signals();
    let cgroup = plan.cgroup.unified.as_deref().map(join::open_cgroup).transpose()?;
    let mut ours = Some(ours);
    let mut attempt = |cgroup: Option<BorrowedFd<'_>>, entry| {
        Cloning { cgroup, ..Cloning::default() }.spawn(|| {
            drop(ours.take());
            forerun(plan, (target, kinds, root.as_ref()), &theirs, (&stdio, ignored), entry)
        })
    };
    let mut entry = if cgroup.is_some() { Entry::Born } else { Entry::Itself };
    let forerunner = match attempt(cgroup.as_ref().map(AsFd::as_fd), entry) {
        // The container's own manager has put its processes in groups below, and then the kernel allows none here ("no
        // internal processes", cgroups(7)); the place of the first process is as good.
        Err(error) if error.errno() == Errno::BUSY && cgroup.is_some() && !plan.no_other_cgroup => {
            let below = plan.cgroup.unified.as_deref().map(|path| cgroup_of(target_pid, path)).transpose()?;
            let below = below.map(|path| join::open_cgroup(&path)).transpose()?;
            attempt(below.as_ref().map(AsFd::as_fd), entry)
        }
        Err(error) => match entry.instead(&error, usher) {
            Some(other) => {
                entry = other;
                attempt(None, entry)
            }
            None => Err(error),
        },
        other => other,
    };
    let forerunner = forerunner.during(|| match plan.no_other_cgroup {
        // As runc names it, whose callers look for these words.
        true => "make a process for the container: error adding pid of it to cgroups that were named",
        false => "make a process for the container",
    })?;
    drop(theirs);
    drop(stdio);
    let Some(ours) = ours else { return Err(crate::Error::Vanished("no channel".to_owned())) };
    if let (Entry::Led, Some(usher), Some(directory)) = (entry, usher, &plan.cgroup.unified) {
        let led = usher::lead(forerunner.pid, directory, usher, &ours).or_else(|error| {
            // As above: perhaps no process may be there.
            if plan.no_other_cgroup {
                return Err(error);
            }
            let below = cgroup_of(target_pid, directory)?;
            if below == *directory { Err(error) } else { usher::lead(forerunner.pid, &below, usher, &ours) }
        });
        if let Err(error) = led {
            drop(ours);
            reap(forerunner.pid);
            return Err(error);
        }
    }
    let born = ours.receive_born();
    reap(forerunner.pid);
    let supervisor = Supervisor::of(plan.process.filter.as_ref(), ContainerState::Running, target_pid);
    create::adopt(born?, ours)?.until_executed(None, supervisor.as_ref())
}

/// All that differ from the caller's. A process may not join the user namespace that it is in (EINVAL), and joining any
/// other twice is for nothing.
fn kinds_to_join(target: Pid, known: Namespaces) -> Result<Namespaces> {
    let step = || "look at the container's namespaces";
    let mut kinds = Namespaces::NONE;
    for (kind, name) in Namespaces::ALL {
        // Whoever is in the container's user namespace already may call us.
        if known.contains(kind) && kind != Namespaces::USER {
            kinds |= kind;
            continue;
        }
        let path = format!("/proc/{}/ns/{name}", target.as_raw_nonzero());
        let own = rustix::fs::stat(format!("/proc/self/ns/{name}"));
        let other = match rustix::fs::stat(path.as_str()) {
            // Not in this kernel.
            Err(Errno::NOENT) if own.is_err() => continue,
            other => other.map_err(|errno| SystemCall::new(format!("stat({path:?})"), errno)).during(step)?,
        };
        if own.is_ok_and(|own| (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino)) {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

/// The root of a process, while the caller still sees the host's procfs.
fn root_of(target: BorrowedFd<'_>, pid: Pid) -> Result<OwnedFd> {
    let step = || "look for the container's root";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let procfs = Procfs::of_the_host().during(step)?;
    let process = procfs.open(&pid.as_raw_nonzero().to_string(), flags).during(step)?;
    // By the magic link, in a directory that was verified.
    let root = rustix::fs::openat(&process, c"root", flags, Mode::empty())
        .map_err(|errno| SystemCall::new("open(<proc>/<container>/root, O_PATH)", errno))
        .during(step)?;
    // A number is given again only once its process has been waited for, and then the descriptor says ESRCH.
    kernel::signals::send(target, 0)
        .map_err(|error| {
            SystemCall::new("pidfd_send_signal(<container>, 0)", Errno::from_io_error(&error).unwrap_or(Errno::SRCH))
        })
        .during(step)?;
    Ok(root)
}

/// Makes the container's root that of this process, which stands in the one of the mount namespace. Whatever has become of the
/// container's first process, a root that it has in common with the namespace is the host's, or somebody else's.
fn go_to_root(of_the_container: BorrowedFd<'_>) -> Result<()> {
    let step = || "enter the container's root";
    let own = rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new("open(\"/\", O_PATH)", errno))
        .during(step)?;
    if mount_of(own.as_fd()).during(step)? == mount_of(of_the_container).during(step)? {
        return Err(Error::Refused("the container's first process has left the container's root".to_owned()));
    }
    root::chroot(of_the_container).during(step)
}

/// The number of the mount that a descriptor is on.
fn mount_of(place: BorrowedFd<'_>) -> kernel::Result<u64> {
    let status = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(|errno| SystemCall::new("statx(<root>, STATX_MNT_ID)", errno))?;
    match status.stx_mask & StatxFlags::MNT_ID.bits() {
        // Linux 5.8, as setns(2) with a pidfd.
        0 => Err(SystemCall::new("statx(<root>, STATX_MNT_ID)", Errno::NOSYS)),
        _ => Ok(status.stx_mnt_id),
    }
}

/// The directory of the group that a process is in, somewhere below the container's own.
///
/// The container's directory ends as its path in `/proc/PID/cgroup` begins, whatever stands before it.
fn cgroup_of(pid: Pid, container: &Path) -> Result<PathBuf> {
    let file = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(&file)
        .map_err(|error| SystemCall::new(format!("read({file:?})"), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        .during(|| "look for the container's cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut below = container.to_path_buf();
    for above in Path::new(path).ancestors().filter(|above| above.parent().is_some()) {
        let above_relative = above.strip_prefix("/").unwrap_or(above);
        if container.ends_with(above_relative) {
            if let Ok(rest) = Path::new(path).strip_prefix(above)
                && !rest.as_os_str().is_empty()
            {
                below.push(rest);
            }
            break;
        }
    }
    Ok(below)
}

/// Joins, then makes the process as a child of the caller.
fn forerun(
    plan: &ExecPlan,
    (target, kinds, root): (BorrowedFd<'_>, Namespaces, Option<&OwnedFd>),
    channel: &Channel,
    (stdio, ignored): (&Stdio, u64),
    entry: Entry,
) -> i32 {
    let work = || -> Result<()> {
        let affinity = plan.process.affinity.as_ref();
        match affinity {
            Some((while_joining, _)) => identity::bind_to_cpus(while_joining)?,
            None => identity::bind_to_no_cpu(),
        }
        entry.wait(channel)?;
        join::before_namespaces(&plan.process, &plan.cgroup, entry != Entry::Itself)?;
        // In the cgroup now, whose cpuset may have changed it.
        affinity.map_or(Ok(()), |(_, afterwards)| identity::bind_to_cpus(afterwards))?;
        // Before anybody inside can see this process: not to be traced, its descriptors not to be opened
        // (CVE-2016-9962). After the writes to procfs, whose files belong to nobody from here on.
        kernel::prctl::set_dumpable(false).during(|| "hide from the container's processes")?;
        if !kinds.is_empty() {
            namespaces::join_process(target, kinds).during(|| "join the container's namespaces")?;
        }
        if kinds.contains(Namespaces::USER) {
            child::become_root()?;
        }
        if let Some(root) = root {
            // Before anybody inside can see the process: it is born there.
            go_to_root(root.as_fd())?;
        }
        let made = Cloning { sibling: true, ..Cloning::default() }
            .spawn(|| run(plan, channel, stdio, ignored))
            .during(|| "make a process in the container")?;
        channel.send_up(&Up::Born { pid: made.pid.as_raw_nonzero().get(), pidfd: made.pidfd })
    };
    match work() {
        Ok(()) => 0,
        Err(error) => {
            // The parent notices the closed channel if not even this arrives.
            channel.send_up(&Up::Failed(error)).ok();
            1
        }
    }
}

fn run(plan: &ExecPlan, channel: &Channel, stdio: &Stdio, ignored: u64) -> i32 {
    let work = || -> Result<std::convert::Infallible> {
        if let Some(name) = &plan.keyring {
            child::join_keyring(name)?;
        }
        let (inside, controller) = enter(plan, ignored)?;
        let ready = child::finish_identity(&plan.process, &inside, stdio)?;
        if controller.is_some() {
            channel.send_up(&Up::Ready { terminal: controller })?;
        }
        child::execute(&plan.process, &inside, ready, channel)
    };
    match work() {
        Ok(never) => match never {},
        Err(error) => {
            channel.send_up(&Up::Failed(error)).ok();
            1
        }
    }
}

/// This process stands in the container's root: joining the mount namespace has moved it there, or [`go_to_root`].
fn enter(plan: &ExecPlan, ignored: u64) -> Result<(Inside, Option<OwnedFd>)> {
    let root =
        rustix::fs::openat(CWD, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| SystemCall::new("open(\"/\", O_PATH)", errno))
            .during(|| "open the container's root")?;
    let (controller, terminal) = match plan.process.terminal {
        Some(size) => {
            let pair = devices::open_terminal(root.as_fd(), None, size, &plan.process).during(|| "make a terminal")?;
            (Some(pair.controller), Some(pair.terminal))
        }
        None => (None, None),
    };
    // The container's own /proc may have anything mounted over it, so labels go through a new instance of it.
    let labelled = plan.process.apparmor_profile.is_some() || plan.process.selinux_label.is_some();
    let procfs = match labelled {
        true => Some(new_procfs().during(|| "mount a private procfs")?),
        false => None,
    };
    Ok((Inside { root, procfs, terminal, ignored }, controller))
}

fn new_procfs() -> kernel::Result<kernel::lsm::Procfs> {
    let tree = kernel::mount::FileSystem::open("proc")?.mount(kernel::mount::Attributes::empty())?;
    kernel::lsm::Procfs::verify(tree)
}
