//! Joining what exists: namespaces by file, the cgroup; and what the parent writes for a new user namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::clone::Clone as Cloning;
use kernel::error::Error as SystemCall;
use kernel::lsm::Procfs;
use kernel::namespaces::{self, Namespaces};
use oci::runtime::{LinuxIDMapping, LinuxNamespaceType};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::channel::Up;
use crate::child::{self, Context};
use crate::error::{During, Error, Result};
use crate::identity;
use crate::plan::{CgroupPlan, NamespacePlan, ProcessPlan};
use crate::usher::Entry;

pub(crate) fn kind(kind: LinuxNamespaceType) -> Namespaces {
    match kind {
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NETWORK,
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::Time => Namespaces::TIME,
    }
}

pub(crate) fn kinds(list: &[LinuxNamespaceType]) -> Namespaces {
    list.iter().fold(Namespaces::NONE, |set, each| set | kind(*each))
}

/// Whether somebody must join first and then make the container's process as its sibling.
pub(crate) fn needs_forerunner(plan: &NamespacePlan) -> bool {
    let joins = |wanted| plan.join.iter().any(|(each, _)| *each == wanted);
    joins(LinuxNamespaceType::Pid)
        || joins(LinuxNamespaceType::User)
        || (plan.is_new(LinuxNamespaceType::User) && !plan.join.is_empty())
}

/// Opens the files of namespaces, before anything has changed what their paths mean; but for a mount namespace, which is
/// entered last ([`open_host`]).
pub(crate) fn open(list: &[(LinuxNamespaceType, PathBuf)]) -> Result<Vec<(Namespaces, OwnedFd)>> {
    let first = list.iter().filter(|(each, _)| *each != LinuxNamespaceType::Mount);
    first.map(|(each, path)| Ok((kind(*each), open_namespace(*each, path)?))).collect()
}

fn open_namespace(kind: LinuxNamespaceType, path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new(format!("open({path:?}, O_RDONLY)"), errno))
        .during(|| format!("open the {kind:?} namespace to join"))
}

/// The mount namespace of somebody else that the container is to be in: the one that is given, or the caller's. `None` for a
/// container that has its own.
pub(crate) fn open_host(plan: &NamespacePlan) -> Result<Option<OwnedFd>> {
    if plan.is_new(LinuxNamespaceType::Mount) {
        return Ok(None);
    }
    let given = plan.join.iter().find(|(each, _)| *each == LinuxNamespaceType::Mount);
    let path = given.map_or(Path::new("/proc/self/ns/mnt"), |(_, path)| path);
    open_namespace(LinuxNamespaceType::Mount, path).map(Some)
}

/// Joins all. Some may belong to the host's user namespace and some to the one that is joined, so what is not permitted
/// before the user namespace is joined is tried again after it.
pub(crate) fn enter(list: &[(Namespaces, OwnedFd)]) -> Result<()> {
    let step = || "join the given namespaces";
    let user = list.iter().find(|(kind, _)| *kind == Namespaces::USER);
    let mut later = Vec::new();
    for (kind, fd) in list.iter().filter(|(kind, _)| *kind != Namespaces::USER) {
        match namespaces::join(fd.as_fd(), *kind) {
            Err(error) if error.errno() == Errno::PERM && user.is_some() => later.push((*kind, fd)),
            other => other.during(step)?,
        }
    }
    if let Some((kind, fd)) = user {
        namespaces::join(fd.as_fd(), *kind).during(step)?;
    }
    for (kind, fd) in later {
        namespaces::join(fd.as_fd(), kind).during(step)?;
    }
    Ok(())
}

/// The life of a forerunner: joins, makes the container's process, tells the parent about it.
pub(crate) fn forerun(
    context: &Context<'_>,
    joined: &[(Namespaces, OwnedFd)],
    namespaces: Namespaces,
    entry: Entry,
) -> i32 {
    let work = || -> Result<()> {
        identity::bind_to_no_cpu();
        entry.wait(context.channel)?;
        // Before the namespaces: a joined user namespace takes away the right to both.
        before_namespaces(&context.plan.process, &context.plan.cgroup, entry != Entry::Itself)?;
        enter(joined)?;
        let child = Cloning { namespaces, cgroup: None, sibling: true }
            .spawn(|| child::run(context, &[], None))
            .during(|| "make the container's first process")?;
        context.channel.send_up(&Up::Born { pid: child.pid.as_raw_nonzero().get(), pidfd: child.pidfd })
    };
    match work() {
        Ok(()) => 0,
        Err(error) => {
            // The parent notices the closed channel if not even this arrives.
            context.channel.send_up(&Up::Failed(error)).ok();
            1
        }
    }
}

/// What needs rights over the host's files, which a user namespace would take away.
pub(crate) fn before_namespaces(process: &ProcessPlan, cgroup: &CgroupPlan, born_in_cgroup: bool) -> Result<()> {
    if let Some(value) = process.oom_score_adj {
        set_oom_score(value, process.oom_score_adj_is_a_wish)?;
    }
    enter_cgroup(cgroup, born_in_cgroup)
}

/// The same from outside, for a process whose user namespace gives it no right to (`capable(CAP_SYS_RESOURCE)` is that of the
/// machine's root).
pub(crate) fn set_oom_score_of(pid: Pid, process: &ProcessPlan) -> Result<()> {
    let Some(value) = process.oom_score_adj else { return Ok(()) };
    match write_file(pid.as_raw_nonzero().get(), "oom_score_adj", &value.to_string()) {
        Err(Errno::ACCESS | Errno::PERM) if process.oom_score_adj_is_a_wish => Ok(()),
        other => other
            .map_err(|errno| SystemCall::new("write(\"/proc/<container>/oom_score_adj\")", errno))
            .during(|| format!("set oom_score_adj to {value}")),
    }
}

/// Lowering needs `CAP_SYS_RESOURCE`; without it that is an error, as in runc, unless the plan calls it a wish.
fn set_oom_score(value: i32, is_a_wish: bool) -> Result<()> {
    match Procfs::of_the_host().and_then(|procfs| procfs.write("self/oom_score_adj", &value.to_string())) {
        Err(error) if is_a_wish && matches!(error.errno(), Errno::ACCESS | Errno::PERM) => Ok(()),
        other => other.during(|| format!("set oom_score_adj to {value}")),
    }
}

pub(crate) fn open_cgroup(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new(format!("open({path:?}, O_PATH|O_DIRECTORY)"), errno))
        .during(|| "open the container's cgroup")
}

/// The calling process moves itself. In v1 through `tasks` and not `cgroup.procs`: for a thread that moves only itself
/// the kernel skips the lock that stops every fork and exit in the system (Linux 5.18: cgroup_procs_write_start), which
/// costs a grace period of RCU, milliseconds each time.
pub(crate) fn enter_cgroup(cgroup: &CgroupPlan, born_in_unified: bool) -> Result<()> {
    let unified = cgroup.unified.iter().filter(|_| !born_in_unified).map(|path| (path, "cgroup.procs"));
    let legacy = cgroup.legacy.iter().map(|(_, path)| (path, "tasks"));
    for (path, file) in unified.chain(legacy) {
        let file = path.join(file);
        let write = || {
            let fd = rustix::fs::openat(CWD, &file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&fd, b"0")
        };
        write()
            .map_err(|errno| SystemCall::new(format!("write({file:?}, \"0\")"), errno))
            .during(|| "join the container's cgroup")?;
    }
    Ok(())
}

/// Writes the id maps of a new user namespace: directly where that is permitted, else by the programs of the package
/// uidmap, which check `/etc/subuid` and `/etc/subgid`.
pub(crate) fn write_mappings(pid: Pid, plan: &NamespacePlan) -> Result<()> {
    let pid = pid.as_raw_nonzero().get();
    match write_file(pid, "uid_map", &lines(&plan.uid_mappings)) {
        Err(Errno::PERM) => run_mapper("newuidmap", pid, &plan.uid_mappings)?,
        other => mapped("uid_map", other)?,
    }
    match write_file(pid, "gid_map", &lines(&plan.gid_mappings)) {
        Err(Errno::PERM) if is_own_group(&plan.gid_mappings) => {
            // Without privilege a process may map its own group only, and only once nobody in the namespace can drop
            // groups any more (user_namespaces(7), Linux 3.19).
            mapped("setgroups", write_file(pid, "setgroups", "deny"))?;
            mapped("gid_map", write_file(pid, "gid_map", &lines(&plan.gid_mappings)))
        }
        Err(Errno::PERM) => run_mapper("newgidmap", pid, &plan.gid_mappings),
        other => mapped("gid_map", other),
    }
}

fn is_own_group(mappings: &[LinuxIDMapping]) -> bool {
    matches!(mappings, [one] if one.size == 1 && one.host_id == rustix::process::getegid().as_raw())
}

fn lines(mappings: &[LinuxIDMapping]) -> String {
    mappings.iter().map(|each| format!("{} {} {}\n", each.container_id, each.host_id, each.size)).collect()
}

/// One write for all of it: the kernel takes a map once (user_namespaces(7)).
fn write_file(pid: i32, name: &str, text: &str) -> Result<(), Errno> {
    let path = format!("/proc/{pid}/{name}");
    let fd = rustix::fs::openat(CWD, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, text.as_bytes()).map(drop)
}

fn mapped(name: &str, result: Result<(), Errno>) -> Result<()> {
    result
        .map_err(|errno| SystemCall::new(format!("write(\"/proc/<container>/{name}\")"), errno))
        .during(|| "map the ids of the container's user namespace")
}

fn run_mapper(program: &str, pid: i32, mappings: &[LinuxIDMapping]) -> Result<()> {
    let numbers = mappings.iter().flat_map(|each| [each.container_id, each.host_id, each.size]);
    let output = std::process::Command::new(program)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| Error::Refused(format!("cannot run {program} (package uidmap): {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::Refused(format!("{program}: {}", text.lines().next().unwrap_or("failed without a word"))))
}
