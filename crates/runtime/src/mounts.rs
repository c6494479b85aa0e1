//! Making the mounts of a plan, each as a detached mount that is complete before it is attached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use kernel::beneath::{self, Limits};
use kernel::error::Error as SystemCall;
use kernel::lsm::Procfs;
use kernel::mount::{self, Attributes, Change, FileSystem};
use kernel::namespaces::Namespaces;
use oci::runtime::LinuxNamespaceType;
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::channel::{Channel, Down, Up};
use crate::error::{During, Error, Result};
use crate::mapped::{self, Maps};
use crate::plan::{MountPlan, Mounted, Plan, PropagationKind, RootSource};
use crate::{bound, cgroups, copy_up};

/// What the parent opens before it clones: idmapped mounts, and what lies in closed directories, need rights over the
/// host's file systems, which a process in a new user namespace does not have. By the index of the mount.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    trees: Vec<(usize, OwnedFd)>,
    /// User namespaces that only have the mappings of mounts whose source there is not yet.
    maps: Vec<(usize, Rc<OwnedFd>)>,
    /// The root, where its files are shown with other ids than they have, or its size is limited.
    root: Option<OwnedFd>,
    /// Otherwise those of its layers that are images.
    images: Vec<OwnedFd>,
}

impl Prepared {
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let mut prepared = Self::default();
        let mut maps = Maps::default();
        if let Some(map) = &plan.root.id_map {
            prepared.root = Some(mapped::root(&plan.root, map, &mut maps)?);
        } else if crate::root::is_limited(&plan.root) {
            // The container's cgroup may not open the device.
            prepared.root = Some(mapped::apart(|| crate::root::detached_root(&plan.root))?);
        } else {
            prepared.images = crate::root::mount_images(&plan.root)?;
        }
        let confined = confined(plan);
        for (index, mount) in plan.mounts.iter().enumerate() {
            let tree = match &mount.what {
                Mounted::Bind { source, id_map: Some(map), .. } if below_root(plan, source).is_some() => {
                    let namespace = maps.namespace(map).map_err(|error| in_step(mount, error))?;
                    prepared.maps.push((index, namespace));
                    continue;
                }
                Mounted::Bind { id_map, subpath, layers, .. }
                    if !layers.is_empty() && (confined || crate::root::needs_device(layers))
                        || id_map.is_some() && subpath.is_some() =>
                {
                    part_apart(mount, &mut maps)
                }
                Mounted::Bind { source, recursive, id_map: Some(map), .. } if !map.is_identity() => {
                    maps.namespace(map).and_then(|ids| mapped::copy(source, *recursive, map, ids.as_fd()))
                }
                Mounted::Bind { source, recursive, subpath, layers, .. } => match of_another(source) {
                    Some((process, path)) => foreign(process, &path, *recursive),
                    None if confined && is_hidden(source) && below_root(plan, source).is_none() => {
                        bind_source(source, *recursive, subpath.as_deref(), layers, None).during(|| name(mount))
                    }
                    None => continue,
                },
                Mounted::FileSystem { name: kind, source, options, from_outside: true, .. } => {
                    file_system(mount, kind, source, options, None).during(|| name(mount))
                }
                _ => continue,
            };
            prepared.trees.push((index, tree.map_err(|error| in_step(mount, error))?));
        }
        Ok(prepared)
    }

    /// The root, if it was made before the container.
    pub(crate) fn root(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd)
    }

    /// The root's images, for whoever assembles it.
    pub(crate) fn images(&self) -> Result<Vec<OwnedFd>> {
        let again = |image: &OwnedFd| {
            image
                .try_clone()
                .map_err(|error| SystemCall::new("dup(<image>)", Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))
        };
        self.images.iter().map(again).collect::<kernel::Result<_>>().during(|| "keep the layers' images")
    }

    fn tree(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.trees.iter().find(|(each, _)| *each == index).map(|(_, tree)| tree.as_fd())
    }

    /// Answers [`Up::Map`].
    pub(crate) fn map_ids(&self, plan: &Plan, index: usize, tree: BorrowedFd<'_>) -> Result<()> {
        let what = plan.mounts.get(index).map(|mount| &mount.what);
        match (what, self.map(index)) {
            (Some(Mounted::Bind { id_map: Some(map), .. }), Some(namespace)) => {
                mapped::change(tree, namespace, map.recursive).during(|| "idmap a mount")
            }
            _ => Err(Error::Refused("the container asks for the ids of a mount that has none".to_owned())),
        }
    }

    fn map(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.maps.iter().find(|(each, _)| *each == index).map(|(_, map)| map.as_fd())
    }
}

/// Whether the container has another user namespace than its maker.
fn confined(plan: &Plan) -> bool {
    plan.namespaces.is_new(LinuxNamespaceType::User)
        || plan.namespaces.join.iter().any(|(kind, _)| *kind == LinuxNamespaceType::User)
}

/// Whether a directory above is closed to others, as it may be to the root of a user namespace. Anything else that is in
/// the way, the child's own attempt tells. Only then is the maker's right used, because a mount that the child copies has
/// its attributes locked (mount_namespaces(7)).
fn is_hidden(source: &Path) -> bool {
    let closed = |above: &Path| rustix::fs::stat(above).is_ok_and(|status| status.st_mode & 0o001 == 0);
    source.ancestors().skip(1).any(closed)
}

fn in_step(mount: &MountPlan, error: Error) -> Error {
    match error {
        Error::Step { source, .. } => Error::Step { step: name(mount), source },
        other => other,
    }
}

pub(crate) fn name(mount: &MountPlan) -> String {
    match &mount.what {
        Mounted::FileSystem { name, .. } => format!("mount {name} on {}", mount.destination),
        Mounted::Bind { source, .. } => format!("bind {} on {}", source.display(), mount.destination),
        Mounted::Cgroup => format!("mount the cgroup on {}", mount.destination),
    }
}

/// `/proc/PID/root/PATH` means a place in the mount namespace of that process.
fn of_another(source: &Path) -> Option<(i32, std::path::PathBuf)> {
    let mut parts = source.strip_prefix("/proc").ok()?.components();
    let process = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    (parts.next()?.as_os_str() == "root").then(|| (process, Path::new("/").join(parts.as_path())))
}

/// Mounts can be copied from within their own namespace only (open_tree(2): EINVAL), so this process, which has one
/// thread, goes there and comes back. Paths of the other namespace end in its own root, wherever its links lead.
fn foreign(process: i32, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let step = || "copy a mount of another container";
    let open = |path: String, flags: OFlags| {
        rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| SystemCall::new(format!("open({path:?})"), errno))
    };
    let call = |text: &str, errno| SystemCall::new(text.to_owned(), errno);
    let own = open("/proc/self/ns/mnt".to_owned(), OFlags::RDONLY).during(step)?;
    let root = open("/".to_owned(), OFlags::PATH | OFlags::DIRECTORY).during(step)?;
    let theirs = open(format!("/proc/{process}/ns/mnt"), OFlags::RDONLY).during(step)?;
    kernel::namespaces::join(theirs.as_fd(), Namespaces::MOUNT).during(step)?;
    let tree = copy(path, recursive);
    // setns(2) has changed root and working directory, too.
    kernel::namespaces::join(own.as_fd(), Namespaces::MOUNT).during(step)?;
    rustix::process::fchdir(&root).map_err(|errno| call("fchdir(</>)", errno)).during(step)?;
    rustix::process::chroot(".").map_err(|errno| call("chroot(\".\")", errno)).during(step)?;
    tree.during(step)
}

pub(crate) fn copy(source: &Path, recursive: bool) -> kernel::Result<OwnedFd> {
    let text = source.to_str().ok_or_else(|| SystemCall::new(format!("open_tree({source:?})"), Errno::ILSEQ))?;
    mount::copy_path(text, recursive)
}

/// Mounts that later steps need.
pub(crate) struct Made {
    pub procfs: Option<Procfs>,
    pub devpts: Option<OwnedFd>,
    /// To be made read-only once everything in them is made.
    pub sealed_late: Vec<OwnedFd>,
}

/// A read-only tmpfs has nothing in it: what it is for, mount points, devices and copies, is made before it becomes so.
fn is_sealed_late(mount: &MountPlan, kind: &str) -> bool {
    kind == "tmpfs" && mount.attributes.set & Attributes::MOUNT_ATTR_RDONLY.bits() != 0
}

/// `isolated`: every mount of the namespace is private already.
pub(crate) fn make_all(
    plan: &Plan,
    (prepared, channel): (&Prepared, &Channel),
    root: BorrowedFd<'_>,
    isolated: bool,
) -> Result<Made> {
    let mut made = Made { procfs: None, devpts: None, sealed_late: Vec::new() };
    for (index, mount) in plan.mounts.iter().enumerate() {
        let step = || name(mount);
        match &mount.what {
            Mounted::FileSystem { name: kind, source, options, copy_up, label, .. } => {
                let (target, inherited) =
                    target(root, mount, kind).map_err(|error| not_ordinary(mount, kind, error))?;
                let own = machines_own(plan, mount, kind, options)?;
                let (tree, late) = match (prepared.tree(index), own) {
                    (Some(tree), _) => (tree.try_clone_to_owned().map_err(duplicated).during(step)?, None),
                    (None, Some(own)) => (own.tree, own.late),
                    (None, None) => (file_system(mount, kind, source, options, inherited).during(step)?, None),
                };
                if let Some(label) = label {
                    set_label(tree.as_fd(), label).during(step)?;
                }
                if *copy_up {
                    copy_up::copy(target.as_fd(), tree.as_fd()).during(step)?;
                }
                mount::attach(tree.as_fd(), target.as_fd()).during(step)?;
                late.map_or(Ok(()), |error| cgroups::change_late(tree.as_fd(), mount, error)).during(step)?;
                propagate(tree.as_fd(), mount, isolated).during(step)?;
                if is_sealed_late(mount, kind) {
                    made.sealed_late.push(
                        tree.try_clone().map_err(|_| SystemCall::new("dup(<mount>)", Errno::MFILE)).during(step)?,
                    );
                }
                match kind.as_str() {
                    "proc" if mount.destination == "/proc" => made.procfs = Procfs::verify(tree).ok(),
                    "devpts" if mount.destination == "/dev/pts" => made.devpts = Some(tree),
                    _ => {}
                }
            }
            Mounted::Bind { source, recursive, subpath, layers, id_map } => {
                let copied;
                let tree = match (prepared.tree(index), below_root(plan, source)) {
                    (Some(tree), _) => tree,
                    (None, Some(path)) if subpath.is_none() && layers.is_empty() => {
                        copied = of_the_root(root, &path, *recursive).during(step)?;
                        if let (Some(map), Some(namespace)) = (id_map, prepared.map(index)) {
                            match mapped::change(copied.as_fd(), namespace, map.recursive) {
                                Err(error) if error.errno() == Errno::PERM => ask_to_map(channel, index, &copied)?,
                                other => other.during(step)?,
                            }
                        }
                        copied.as_fd()
                    }
                    (None, _) => {
                        copied = bind_source(source, *recursive, subpath.as_deref(), layers, None).during(step)?;
                        copied.as_fd()
                    }
                };
                let prepared = prepared.tree(index).is_some();
                let left = !prepared || leave_peers(tree, mount).during(step)?;
                bind(root, mount, (tree, confined(plan) && prepared), isolated)?;
                if !left {
                    change_propagation(tree, kernel::mount::Propagation::Private, true).during(step)?;
                }
            }
            Mounted::Cgroup => cgroups::mount(plan, mount, root).during(step)?,
        }
    }
    Ok(made)
}

/// What is mounted in place of a new file system whose options would be the whole machine's.
fn machines_own(
    plan: &Plan,
    mount: &MountPlan,
    kind: &str,
    options: &[(String, Option<String>)],
) -> Result<Option<cgroups::Copied>> {
    if kind != "cgroup2" {
        return Ok(None);
    }
    let tree = cgroups::instead_of_cgroup2(plan, mount).during(|| name(mount))?;
    match options.first().filter(|_| tree.is_some()) {
        Some((option, _)) => Err(Error::Refused(format!(
            "{}: without a cgroup namespace of the container's own, the option {option} would be the whole machine's",
            name(mount)
        ))),
        None => Ok(tree),
    }
}

/// A detached copy of what a bind mount of a running container is to show.
pub(crate) fn live_tree(mount: &MountPlan) -> Result<OwnedFd> {
    match &mount.what {
        Mounted::Bind { .. } => bind_mount_tree(mount),
        Mounted::FileSystem { .. } | Mounted::Cgroup => file_system_tree(mount),
    }
}

/// A detached new file system for a running container.
pub(crate) fn file_system_tree(mount: &MountPlan) -> Result<OwnedFd> {
    let step = || name(mount);
    match &mount.what {
        Mounted::FileSystem { name: kind, source, options, label, .. } => {
            let tree = file_system(mount, kind, source, options, None).during(step)?;
            if let Some(label) = label {
                set_label(tree.as_fd(), label).during(step)?;
            }
            Ok(tree)
        }
        Mounted::Bind { .. } | Mounted::Cgroup => {
            Err(SystemCall::new("fsopen(<no file system>)", Errno::INVAL)).during(step)
        }
    }
}

/// Attaches it beneath the root of a running container, where a mount point is made if there is none.
pub(crate) fn attach_live(mount: &MountPlan, tree: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let step = || name(mount);
    match &mount.what {
        Mounted::Bind { .. } => {
            let target = target_like(root, mount, tree).and_then(outside_procfs).during(step)?;
            bound::attach(tree, target.as_fd(), mount, false)?;
            propagate(tree, mount, false).during(step)
        }
        Mounted::FileSystem { name: kind, copy_up, .. } => {
            let (target, _) = target(root, mount, kind).during(step)?;
            let target = outside_procfs(target).during(step)?;
            if *copy_up {
                copy_up::copy(target.as_fd(), tree).during(step)?;
            }
            mount::attach(tree, target.as_fd()).during(step)?;
            propagate(tree, mount, false).during(step)?;
            if is_sealed_late(mount, kind) {
                let change = Change { set: Attributes::MOUNT_ATTR_RDONLY, ..Change::default() };
                mount::change(tree, &change).during(step)?;
            }
            Ok(())
        }
        Mounted::Cgroup => Err(SystemCall::new("move_mount(<cgroup>)", Errno::INVAL)).during(step),
    }
}

fn not_ordinary(mount: &MountPlan, kind: &str, source: SystemCall) -> Error {
    if matches!(kind, "proc" | "sysfs") && matches!(source.errno(), Errno::LOOP | Errno::NOTDIR) {
        let place = &mount.destination;
        return Error::Refused(format!("filesystem {kind:?} must be mounted on ordinary directory, not on {place:?}"));
    }
    Error::Step { step: name(mount), source }
}

fn duplicated(error: std::io::Error) -> SystemCall {
    SystemCall::new("fcntl(<mount>, F_DUPFD_CLOEXEC)", Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// A source that the host names beneath the root file system: what is mounted there for the container is meant as well,
/// which only the assembled root shows.
fn below_root(plan: &Plan, source: &Path) -> Option<String> {
    let RootSource::Directory { path } = &plan.root.source else { return None };
    let below = source.strip_prefix(path).ok()?;
    below.to_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The container's image chose the links on the way, so they are followed beneath its root alone.
fn of_the_root(root: BorrowedFd<'_>, path: &str, recursive: bool) -> kernel::Result<OwnedFd> {
    let place = beneath::open(root, path, OFlags::PATH, Mode::empty(), Limits::default())?;
    mount::copy(place.as_fd(), recursive)
}

/// The maker has the right over the host's file systems, and a mount is the same in whichever process it is open.
fn ask_to_map(channel: &Channel, index: usize, tree: &OwnedFd) -> Result<()> {
    let tree = tree.try_clone().map_err(duplicated).during(|| "idmap a mount")?;
    channel.send_up(&Up::Map { index: u32::try_from(index).unwrap_or(u32::MAX), tree })?;
    channel.wait_for(Down::Go)
}

/// Whether the child may have a question of that kind.
pub(crate) fn may_ask(plan: &Plan) -> bool {
    plan.mounts.iter().any(|mount| match &mount.what {
        Mounted::Bind { source, id_map: Some(_), .. } => below_root(plan, source).is_some(),
        _ => false,
    })
}

/// What one bind mount of a plan shows, as a detached mount, made by a process with rights over the host's files.
pub(crate) fn bind_tree(plan: &Plan, index: usize) -> Result<OwnedFd> {
    bind_mount_tree(&plan.mounts[index])
}

fn bind_mount_tree(mount: &MountPlan) -> Result<OwnedFd> {
    let Mounted::Bind { source, recursive, id_map, subpath, layers } = &mount.what else {
        return Err(Error::Refused(format!("{} is no bind mount", mount.destination)));
    };
    let mut maps = Maps::default();
    match id_map.as_ref().filter(|map| !map.is_identity()) {
        Some(_) if subpath.is_some() || !layers.is_empty() => part_apart(mount, &mut maps),
        Some(map) => {
            let tree = maps.namespace(map).and_then(|ids| mapped::copy(source, *recursive, map, ids.as_fd()));
            tree.map_err(|error| in_step(mount, error))
        }
        None => bind_source(source, *recursive, subpath.as_deref(), layers, None).during(|| name(mount)),
    }
}

/// A part of a volume or image with the ids of its map, made where nothing of the whole is seen.
fn part_apart(mount: &MountPlan, maps: &mut Maps) -> Result<OwnedFd> {
    let Mounted::Bind { source, recursive, id_map, subpath, layers } = &mount.what else {
        return Err(Error::Refused(format!("{} is no bind mount", mount.destination)));
    };
    let map = id_map.as_ref().filter(|map| !map.is_identity());
    let ids = map.map(|map| maps.namespace(map)).transpose()?;
    let ids = ids.as_ref().map(|ids| ids.as_fd());
    mapped::apart(|| {
        let tree = bind_source(source, *recursive, subpath.as_deref(), layers, ids).during(|| name(mount))?;
        if let (Some(map), Some(ids), true) = (map, ids, layers.is_empty()) {
            mapped::change(tree.as_fd(), ids, map.recursive).during(|| name(mount))?;
        }
        Ok(tree)
    })
}

/// A detached copy of what a bind mount shows. An image's layers are shown with other ids.
fn bind_source(
    source: &Path,
    recursive: bool,
    subpath: Option<&str>,
    layers: &[std::path::PathBuf],
    ids: Option<BorrowedFd<'_>>,
) -> kernel::Result<OwnedFd> {
    let part = |whole: BorrowedFd<'_>, path: &str| {
        let place = beneath::open(whole, path, OFlags::PATH, Mode::empty(), Limits::default())?;
        mount::copy(place.as_fd(), recursive)
    };
    match (layers, subpath) {
        ([], None) => copy(source, recursive),
        ([], Some(path)) => {
            let whole = open_directory(source)?;
            part(whole.as_fd(), path)
        }
        (layers, None) => crate::root::read_only_overlay(layers, ids),
        (layers, Some(path)) => {
            let whole = crate::root::read_only_overlay(layers, ids)?;
            // Before Linux 6.15 only what is attached can be copied, so it is, for a moment, over this namespace's root.
            let root = open_directory(Path::new("/"))?;
            mount::attach(whole.as_fd(), root.as_fd())?;
            let place = part(whole.as_fd(), path);
            mount::detach_mount(whole.as_fd())?;
            place
        }
    }
}

fn open_directory(path: &Path) -> kernel::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new(format!("open({path:?}, O_PATH|O_DIRECTORY)"), errno))
}

fn file_system(
    mount: &MountPlan,
    kind: &str,
    source: &str,
    options: &[(String, Option<String>)],
    inherited: Option<Mode>,
) -> kernel::Result<OwnedFd> {
    let mut attributes = Attributes::from_bits_retain(mount.attributes.set);
    if is_sealed_late(mount, kind) {
        attributes.remove(Attributes::MOUNT_ATTR_RDONLY);
    }
    let work = || {
        if kind == "ext4" && Path::new(source).is_file() {
            // As mount(8) does with `-o loop`. It may be mounted elsewhere, so that its options are those of all.
            let tree = kernel::loops::mount_ext4(Path::new(source))?;
            mount::change(tree.as_fd(), &Change { set: attributes, ..Change::default() })?;
            return Ok(tree);
        }
        let context = FileSystem::open(kind)?;
        context.set("source", source)?;
        for (key, value) in options {
            match value {
                Some(value) => context.set(key, value)?,
                None => context.set_flag(key)?,
            }
        }
        if let Some(mode) = inherited.filter(|_| options.iter().all(|(key, _)| key != "mode")) {
            context.set("mode", &format!("{:o}", mode.as_raw_mode()))?;
        }
        context.mount(attributes)
    };
    match work() {
        // sysfs belongs to a network namespace, and its mount to that namespace's owner; with the host's network in a
        // user namespace only the host's can be had, whole, because parts of it may be covered on purpose.
        Err(error) if error.errno() == Errno::PERM && kind == "sysfs" => {
            let tree = mount::copy_path("/sys", true)?;
            let change = Change { set: attributes, recursive: true, ..Change::default() };
            mount::change(tree.as_fd(), &change)?;
            Ok(tree)
        }
        other => other,
    }
}

/// Labels the root of a mount; a mount's own descriptor does not carry attributes, so the directory is opened.
fn set_label(tree: BorrowedFd<'_>, label: &str) -> kernel::Result<()> {
    let call = |errno| SystemCall::new(format!("fsetxattr(<mount>, \"security.selinux\", {label:?})"), errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(tree, c".", flags, Mode::empty()).map_err(call)?;
    let value = [label.as_bytes(), b"\0"].concat();
    rustix::fs::fsetxattr(&directory, "security.selinux", &value, XattrFlags::empty()).map_err(call)
}

/// The mount point, made when it is missing; and for a tmpfs the mode of what was there, which it takes over.
///
/// For procfs and sysfs no symbolic link is followed: a container's image must not choose where they are
/// (CVE-2023-27561, CVE-2025-54867).
fn target(root: BorrowedFd<'_>, mount: &MountPlan, kind: &str) -> kernel::Result<(OwnedFd, Option<Mode>)> {
    let mode = Mode::from_raw_mode(0o755);
    let make = || beneath::make_directories(root, &mount.destination, mode);
    let limits = Limits { no_links: matches!(kind, "proc" | "sysfs"), no_mounts: false };
    let open = || beneath::open(root, &mount.destination, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), limits);
    match kind {
        "proc" | "sysfs" => match open() {
            Err(error) if error.errno() == Errno::NOENT => {
                make()?;
                Ok((open()?, None))
            }
            other => Ok((other?, None)),
        },
        "tmpfs" => match open() {
            Ok(found) => {
                let status = rustix::fs::fstat(&found).map_err(|errno| SystemCall::new("fstat(<target>)", errno))?;
                Ok((found, Some(Mode::from_raw_mode(status.st_mode & 0o7777))))
            }
            Err(_) => Ok((make()?, None)),
        },
        _ => Ok((make()?, None)),
    }
}

/// pivot_root(2) wants a root that passes nothing on; a copy of a shared mount is one of its peers.
pub(crate) fn make_private(tree: BorrowedFd<'_>) -> kernel::Result<()> {
    change_propagation(tree, kernel::mount::Propagation::Private, false)
}

fn propagate(tree: BorrowedFd<'_>, mount: &MountPlan, isolated: bool) -> kernel::Result<()> {
    let Some(propagate) = mount.propagation else { return Ok(()) };
    if isolated && propagate.how == PropagationKind::Private {
        return Ok(());
    }
    change_propagation(tree, propagate.how.into(), propagate.recursive)
}

/// What the maker prepared is a copy from its own mount namespace, and still a peer of what it was copied from: what is mounted
/// below it would appear on the host. False where the kernel (before 5.12) can do so only with a mount that is attached, before
/// anything is mounted below.
fn leave_peers(tree: BorrowedFd<'_>, mount: &MountPlan) -> kernel::Result<bool> {
    if mount.propagation.is_some_and(|wanted| matches!(wanted.how, PropagationKind::Shared | PropagationKind::Slave)) {
        return Ok(true);
    }
    let private = Some(kernel::mount::Propagation::Private);
    match mount::change(tree, &Change { propagation: private, recursive: true, ..Change::default() }) {
        Err(error) if error.errno() == Errno::NOSYS => Ok(false),
        other => other.map(|()| true),
    }
}

fn change_propagation(tree: BorrowedFd<'_>, how: kernel::mount::Propagation, recursive: bool) -> kernel::Result<()> {
    match mount::change(tree, &Change { propagation: Some(how), recursive, ..Change::default() }) {
        Err(error) if error.errno() == Errno::NOSYS => {
            use std::os::fd::AsRawFd;
            let link = format!("/proc/self/fd/{}", tree.as_raw_fd());
            let link = std::ffi::CString::new(link).unwrap_or_default();
            mount::set_propagation(&link, how, recursive)
        }
        other => other,
    }
}

fn bind(
    root: BorrowedFd<'_>,
    mount: &MountPlan,
    (tree, foreign): (BorrowedFd<'_>, bool),
    isolated: bool,
) -> Result<()> {
    let step = || name(mount);
    let target = target_like(root, mount, tree).during(step)?;
    bound::attach(tree, target.as_fd(), mount, foreign)?;
    propagate(tree, mount, isolated).during(step)
}

/// The mount point for a directory or a file, made when it is missing.
fn target_like(root: BorrowedFd<'_>, mount: &MountPlan, tree: BorrowedFd<'_>) -> kernel::Result<OwnedFd> {
    let status = rustix::fs::fstat(tree).map_err(|errno| SystemCall::new("fstat(<mount>)", errno))?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        beneath::make_directories(root, &mount.destination, Mode::from_raw_mode(0o755))
    } else {
        beneath::make_file(root, &mount.destination, Mode::from_raw_mode(0o644))
    }
}

/// A running container can have put a link to /proc where something is to be mounted; what covers a part of procfs deceives whoever
/// looks there (CVE-2019-16884, CVE-2023-27561).
fn outside_procfs(target: OwnedFd) -> kernel::Result<OwnedFd> {
    let call = |errno| SystemCall::new("fstatfs(<target>)", errno);
    match rustix::fs::fstatfs(&target).map_err(call)?.f_type {
        rustix::fs::PROC_SUPER_MAGIC => Err(SystemCall::new("move_mount(<mount>, <target in procfs>)", Errno::PERM)),
        _ => Ok(target),
    }
}
