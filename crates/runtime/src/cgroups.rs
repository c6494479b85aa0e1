//! Mounts of the type `cgroup`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::beneath;
use kernel::error::Error as SystemCall;
use kernel::mount::{Attributes, Change, FileSystem, attach, attach_at, change, remount};
use oci::runtime::LinuxNamespaceType;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::mounts::copy;
use crate::plan::{CgroupPlan, MountPlan, Plan};

/// What a mount of the type `cgroup` shows: in v1 the container's own group of each hierarchy, or of one that has none those
/// that it is in; in v2 what its cgroup namespace has, so that the paths in `/proc/PID/cgroup` lead somewhere: its own group, or without such a namespace the whole tree.
pub(crate) fn mount(plan: &Plan, mount: &MountPlan, root: BorrowedFd<'_>) -> kernel::Result<()> {
    let attributes = Attributes::from_bits_retain(mount.attributes.set);
    let CgroupPlan { unified, legacy, around } = &plan.cgroup;
    let legacy = if legacy.is_empty() { around } else { legacy };
    let target = beneath::make_directories(root, &mount.destination, Mode::from_raw_mode(0o755))?;
    if legacy.is_empty() {
        let Some(Copied { tree, late }) = unified_tree(plan, attributes, unified.as_deref())? else { return Ok(()) };
        attach(tree.as_fd(), target.as_fd())?;
        return late.map_or(Ok(()), |error| change_late(tree.as_fd(), mount, error));
    }
    let directory = FileSystem::open("tmpfs")?;
    directory.set("source", "cgroup")?;
    directory.set("mode", "755")?;
    directory.set("size", "64k")?;
    // Read-only at the end, once the mount points are made.
    let directory = directory.mount(attributes.difference(Attributes::MOUNT_ATTR_RDONLY))?;
    attach(directory.as_fd(), target.as_fd())?;
    for (name, path) in
        legacy.iter().map(|(name, path)| (name.as_str(), path)).chain(unified.iter().map(|p| ("unified", p)))
    {
        legacy_controller(directory.as_fd(), name, path, attributes)?;
    }
    if attributes.contains(Attributes::MOUNT_ATTR_RDONLY) {
        crate::root::make_mount_read_only(directory.as_fd(), false)?;
    }
    Ok(())
}

fn unified_tree(plan: &Plan, attributes: Attributes, own: Option<&Path>) -> kernel::Result<Option<Copied>> {
    let of_its_own = plan.namespaces.is_new(LinuxNamespaceType::Cgroup);
    // Mounted in the machine's own namespace, the file system would take the options of this mount for the whole machine
    // (Linux: apply_cgroup_root_flags): nsdelegate and memory_recursiveprot would be gone.
    if of_its_own || (is_cgroup2(TREE) && !in_the_machines_namespace()?) {
        let context = FileSystem::open("cgroup2")?;
        context.set("source", "cgroup")?;
        match context.mount(attributes) {
            // A user namespace may have been given no view of the whole cgroup2; a part of what is there is as good.
            Err(error) if matches!(error.errno(), Errno::PERM | Errno::BUSY) => {}
            other => return other.map(|tree| Some(Copied { tree, late: None })),
        }
    }
    let whole = Some(Path::new(TREE)).filter(|_| !of_its_own && is_cgroup2(TREE));
    let Some(path) = whole.or(own) else { return Ok(None) };
    // With what is mounted below: in a user namespace it cannot be had without (mount_namespaces(7)).
    Copied::of(path, attributes).map(Some)
}

/// A mount of the caller's, copied.
pub(crate) struct Copied {
    pub tree: OwnedFd,
    /// What a kernel (before 5.12) says that gives it its attributes only when it is attached.
    pub late: Option<SystemCall>,
}

impl Copied {
    fn of(path: &Path, attributes: Attributes) -> kernel::Result<Self> {
        let tree = copy(path, true)?;
        match change(tree.as_fd(), &Change { set: attributes, recursive: true, ..Change::default() }) {
            Err(error) if error.errno() == Errno::NOSYS => Ok(Self { tree, late: Some(error) }),
            other => other.map(|()| Self { tree, late: None }),
        }
    }
}

/// Gives it its attributes then.
pub(crate) fn change_late(tree: BorrowedFd<'_>, mount: &MountPlan, error: SystemCall) -> kernel::Result<()> {
    crate::bound::remount_all(tree, (Attributes::from_bits_retain(mount.attributes.set), Attributes::empty()), error)
}

/// In place of a new mount of the type `cgroup2` that would take its options for the whole machine: the caller's, copied. None
/// where a new one changes nothing.
pub(crate) fn instead_of_cgroup2(plan: &Plan, mount: &MountPlan) -> kernel::Result<Option<Copied>> {
    if plan.namespaces.is_new(LinuxNamespaceType::Cgroup) || !in_the_machines_namespace()? {
        return Ok(None);
    }
    let Some(place) = [TREE, BESIDE_V1].into_iter().find(|place| is_cgroup2(place)) else { return Ok(None) };
    Copied::of(Path::new(place), Attributes::from_bits_retain(mount.attributes.set)).map(Some)
}

/// Where v2 is mounted alone.
const TREE: &str = "/sys/fs/cgroup";
/// Where systemd has it beside v1.
const BESIDE_V1: &str = "/sys/fs/cgroup/unified";

fn is_cgroup2(place: &str) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    rustix::fs::statfs(place).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == CGROUP2_SUPER_MAGIC)
}

const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// Linux: `PROC_CGROUP_INIT_INO`.
const FIRST_CGROUP_NAMESPACE: u64 = 0xefff_fffb;

fn in_the_machines_namespace() -> kernel::Result<bool> {
    let call = |errno| SystemCall::new("stat(\"/proc/self/ns/cgroup\")", errno);
    match rustix::fs::stat("/proc/self/ns/cgroup") {
        // None in this kernel.
        Err(Errno::NOENT) => Ok(true),
        other => Ok(other.map_err(call)?.st_ino == FIRST_CGROUP_NAMESPACE),
    }
}

/// One hierarchy, with a link for each controller that shares it, as programs look for `/sys/fs/cgroup/cpu`.
fn legacy_controller(directory: BorrowedFd<'_>, name: &str, path: &Path, attributes: Attributes) -> kernel::Result<()> {
    let fail = |call: &'static str| move |errno| SystemCall::new(format!("{call}(<cgroup>, {name:?})"), errno);
    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)).map_err(fail("mkdirat"))?;
    let tree = copy(path, false)?;
    // By name, in a directory that nobody else has been in.
    match change(tree.as_fd(), &Change { set: attributes, ..Change::default() }) {
        Err(error) if error.errno() == Errno::NOSYS => {
            attach_at(tree.as_fd(), directory, name)?;
            remount(tree.as_fd(), attributes)?;
        }
        other => {
            other?;
            attach_at(tree.as_fd(), directory, name)?;
        }
    }
    for controller in name.split(',').filter(|each| *each != name) {
        rustix::fs::symlinkat(name, directory, controller).map_err(fail("symlinkat"))?;
    }
    Ok(())
}
