//! The container's root file system, assembled by descriptor in a new mount namespace, and the step into it.
//!
//! Nothing of it is ever visible in the host's mount table, and all of it goes with the namespace.
//!
//! A container that is to be in the mount namespace of somebody else, the host's or one that is given, does not stay in that new
//! one: it takes a detached copy of the assembled tree along (open_tree(2)), which belongs to no namespace, and makes its root
//! by chroot(2). So nobody sees its mounts there either, nobody's own root moves, and the tree goes with the last process that
//! stands in it: when its descriptor is closed the kernel unmounts it as a whole, and processes keep it (Linux 5.2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::beneath;
use kernel::error::Error as SystemCall;
use kernel::lsm::Procfs;
use kernel::mount::{self, Attributes, Change, FileSystem, Propagation};
use kernel::namespaces::{self, Namespaces};
use kernel::terminal::Pair;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::channel::Channel;
use crate::error::{During, Error, Result};
use crate::mounts::{self, Prepared};
use crate::plan::{Plan, PropagationKind, RootPlan, RootSource};
use crate::{devices, mapped, mask};

/// A root that is complete but not entered.
pub(crate) struct Built {
    pub root: OwnedFd,
    /// The container's own procfs from before anything could be mounted over parts of it, else the host's.
    pub procfs: Procfs,
    pub terminal: Option<Pair>,
}

pub(crate) fn assemble(plan: &Plan, prepared: &Prepared, channel: &Channel) -> Result<Built> {
    // First of all: what is mounted from here on must not appear on the host, and what is unmounted must not vanish there.
    let isolated = isolate(plan)?;
    // Before the attach, by paths of the host.
    let root = match prepared.root() {
        Some(root) => root
            .try_clone_to_owned()
            .map_err(|error| SystemCall::new("dup(<root>)", Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))
            .during(|| "keep the container's root")?,
        None => detached(&plan.root, None, prepared.images()?)?,
    };
    let place = open_directory(place(plan))?;
    mount::attach(root.as_fd(), place.as_fd()).during(|| "attach the container's root")?;
    if plan.root.propagation.is_some_and(crate::plan::Propagate::is_shared) {
        mounts::make_private(root.as_fd()).during(|| "attach the container's root")?;
    }
    make_working_directory(plan, root.as_fd())?;
    let made = mounts::make_all(plan, (prepared, channel), root.as_fd(), isolated)?;
    let procfs = match made.procfs {
        Some(procfs) => procfs,
        None => Procfs::of_the_host().during(|| "open the host's /proc")?,
    };
    // After the mounts, since /dev is usually one of them; before masks, which may hide a device.
    devices::make_all(plan, root.as_fd())?;
    let terminal = match plan.process.terminal {
        Some(size) => Some(devices::make_terminal(root.as_fd(), made.devpts.as_ref(), size, &plan.process)?),
        None => None,
    };
    for mount in &made.sealed_late {
        make_mount_read_only(mount.as_fd(), false).during(|| "make a tmpfs read-only")?;
    }
    // Before /proc/sys becomes read-only.
    for (name, value) in &plan.sysctl {
        procfs.write(&format!("sys/{name}"), value).during(|| format!("set kernel parameter {name} to {value:?}"))?;
    }
    // Last, over everything else.
    mask::make_read_only(plan, root.as_fd())?;
    mask::hide(plan, root.as_fd())?;
    Ok(Built { root, procfs, terminal })
}

/// Where the root is attached: over the host's root directory, because pivot_root wants a mount point and that one always exists.
///
/// Hooks that enter this mount namespace or run in it before the pivot find the host's files, and the container's root where its
/// configuration says that it is: what they mount there is the container's. Not beneath a mount that the host would see it on.
fn place(plan: &Plan) -> &Path {
    let hooks = &plan.hooks;
    let waited = !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() || !hooks.create_container.is_empty();
    let shared = plan.root.propagation.is_some_and(crate::plan::Propagate::is_shared);
    match &plan.root.source {
        RootSource::Directory { path } if waited && !shared && !plan.root.no_pivot => path,
        _ => Path::new("/"),
    }
}

/// Pivots into the root and detaches the host's, or takes the root along into the mount namespace of another. Gives the root that
/// it is then.
pub(crate) fn enter(plan: &Plan, root: OwnedFd, host: Option<&OwnedFd>) -> Result<OwnedFd> {
    // After all that writes to it: mount points, devices, links.
    if plan.root.readonly {
        make_mount_read_only(root.as_fd(), false).during(|| "make the container's root read-only")?;
    }
    if let Some(host) = host {
        return move_out(root.as_fd(), host.as_fd());
    }
    if plan.root.no_pivot {
        hide_kernel_tables()?;
        chroot(root.as_fd()).during(|| "enter the container's root without pivot_root")?;
    } else {
        mount::pivot_root(root.as_fd()).during(|| "enter the container's root")?;
    }
    if let Some(propagate) = plan.root.propagation {
        mount::set_propagation(c"/", propagate.how.into(), propagate.recursive)
            .during(|| "set the propagation of the container's root")?;
    }
    Ok(root)
}

/// The mount namespace of the assembly ends with this: nobody else is in it.
fn move_out(root: BorrowedFd<'_>, host: BorrowedFd<'_>) -> Result<OwnedFd> {
    let tree = mount::copy(root, true).during(|| "take the container's root out of its mount namespace")?;
    // Its root is this process's for a moment.
    namespaces::join(host, Namespaces::MOUNT).during(|| "join the mount namespace that is not the container's own")?;
    chroot(tree.as_fd()).during(|| "enter the container's root without pivot_root")?;
    Ok(tree)
}

/// The host's mounts stay in this mount namespace, out of reach of paths. But for as long as a whole procfs or sysfs is
/// among them, the kernel lets a user namespace that the container makes mount another (mnt_already_visible), without
/// what is masked in the container's own. So they are unmounted here, or covered where they are locked.
fn hide_kernel_tables() -> Result<()> {
    let step = || "hide the host's /proc and /sys";
    let table = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(table)
        .map_err(|error| SystemCall::new(format!("read({table:?})"), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        .during(step)?;
    mount::set_propagation(c"/", Propagation::Slave, true).during(step)?;
    for path in text.lines().filter_map(whole_kernel_table) {
        // From this process's root, which the container's covers: a path leads to the host's mount.
        match mount::detach(&path) {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::NOENT => {}
            Err(error) if matches!(error.errno(), Errno::INVAL | Errno::PERM) => {
                let cover = FileSystem::open("tmpfs").and_then(|tmpfs| tmpfs.mount(Attributes::MOUNT_ATTR_RDONLY));
                let place = open_directory(Path::new(&path))?;
                mount::attach(cover.during(step)?.as_fd(), place.as_fd()).during(step)?;
            }
            Err(error) => return Err(error).during(step),
        }
    }
    Ok(())
}

/// The mount point in a line of mountinfo (proc_pid_mountinfo(5)) that is a procfs or sysfs from its root on.
fn whole_kernel_table(line: &str) -> Option<String> {
    let mut fields = line.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let kind = line.split(" - ").nth(1)?.split(' ').next()?;
    (root == "/" && matches!(kind, "proc" | "sysfs")).then(|| place.replace("\\040", " "))
}

/// For a root that no path leads below: it is attached over `/` already, or nowhere.
pub(crate) fn chroot(root: BorrowedFd<'_>) -> kernel::Result<()> {
    rustix::process::fchdir(root).map_err(|errno| SystemCall::new("fchdir(<root>)", errno))?;
    rustix::process::chroot(c".").map_err(|errno| SystemCall::new("chroot(\".\")", errno))
}

/// Cuts the new mount namespace off the host's. Returns whether every mount in it is private now.
///
/// A mount that is to receive or share later mounts of the host keeps its link to it; else everything is private, which
/// saves a call for every mount that asks to be.
fn isolate(plan: &Plan) -> Result<bool> {
    let step = || "cut the mount namespace off the host";
    let wants_link = plan.mounts.iter().any(|mount| {
        mount.propagation.is_some_and(|p| matches!(p.how, PropagationKind::Shared | PropagationKind::Slave))
    });
    match plan.root.propagation {
        Some(propagate) if propagate.is_shared() => {
            mount::set_propagation(c"/", Propagation::Shared, true).during(step)?;
            // move_mount and pivot_root refuse a shared parent.
            mount::set_propagation(c"/", Propagation::Private, false).during(step)?;
            Ok(false)
        }
        Some(propagate) if propagate.how == PropagationKind::Slave => {
            mount::set_propagation(c"/", Propagation::Slave, true).during(step)?;
            Ok(false)
        }
        _ if wants_link => {
            mount::set_propagation(c"/", Propagation::Slave, true).during(step)?;
            Ok(false)
        }
        _ => {
            mount::set_propagation(c"/", Propagation::Private, true).during(step)?;
            Ok(true)
        }
    }
}

/// A detached mount of a root file system: the layers as overlayfs shows them, or the directory, with nothing mounted in it.
///
/// Kernels before 6.5 need a moment's mount in the caller's mount namespace, so it should be a private one.
///
/// # Errors
/// Those of fsopen(2) and its kin, and of open_tree(2).
pub fn detached_root(root: &RootPlan) -> Result<OwnedFd> {
    detached(root, None, Vec::new())
}

/// The images among the layers, mounted, in their order: where a loop device is needed for that, the container's cgroup may not
/// open it.
pub(crate) fn mount_images(root: &RootPlan) -> Result<Vec<OwnedFd>> {
    let RootSource::Overlay { lower, .. } = &root.source else { return Ok(Vec::new()) };
    let images = lower.iter().filter(|layer| is_image(layer)).map(|layer| image(layer));
    images.collect::<kernel::Result<_>>().during(|| format!("mount the images of {} layers", lower.len()))
}

/// What the names of files with a file system of limited size end in: that the upper directory is in one shows by its path.
const LIMITED: &str = "ext4";

/// Whether the upper directory is in a file system of limited size.
pub(crate) fn is_limited(root: &RootPlan) -> bool {
    let RootSource::Overlay { upper: Some(upper), .. } = &root.source else { return false };
    upper.parent().is_some_and(|above| has_extension(above, LIMITED))
}

/// Whether layers are images that are mounted by a loop device.
pub(crate) fn needs_device(layers: &[PathBuf]) -> bool {
    layers
        .iter()
        .find(|layer| is_image(layer))
        .is_some_and(|image| !is_merged(image) && mount::erofs_needs_device(image))
}

/// The same with the layers shown with other ids than they have, and with images that are mounted already.
pub(crate) fn detached(root: &RootPlan, ids: Option<BorrowedFd<'_>>, images: Vec<OwnedFd>) -> Result<OwnedFd> {
    match &root.source {
        RootSource::Directory { path } => directory(path),
        // overlayfs wants two layers; one alone, without an upper, is that directory, read-only.
        RootSource::Overlay { lower, upper: None, .. } if lower.len() == 1 && !is_by_reference(&lower[0]) => {
            if is_image(&lower[0]) {
                return match images.into_iter().next() {
                    Some(mounted) => Ok(mounted),
                    None => image(&lower[0]).during(|| "mount the only layer"),
                };
            }
            let tree = directory(&lower[0])?;
            let change = Change { set: Attributes::MOUNT_ATTR_RDONLY, ..Change::default() };
            mount::change(tree.as_fd(), &change).during(|| "make the only layer read-only")?;
            Ok(tree)
        }
        RootSource::Overlay { lower, upper, work, userxattr, volatile } => {
            let mut layers =
                Layers::open(lower, ids, images).during(|| format!("mount the images of {} layers", lower.len()))?;
            let upper = upper.as_deref().zip(work.as_deref());
            let upper = match upper {
                Some(own) if ids.is_some() || is_limited(root) => {
                    Some(layers.writable(own, ids).during(|| "mount the container's own directory")?)
                }
                own => own.map(|(upper, work)| (upper.to_owned(), work.to_owned())),
            };
            let overlay = Overlay {
                lower: layers.paths(),
                upper: upper.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path())),
                userxattr: *userxattr,
                volatile: *volatile,
                label: root.label.as_deref(),
            };
            layers.mount(&overlay).during(|| format!("mount the overlay of {} layers", lower.len()))
        }
    }
}

/// The layers of an image as a detached read-only mount.
pub(crate) fn read_only_overlay(layers: &[PathBuf], ids: Option<BorrowedFd<'_>>) -> kernel::Result<OwnedFd> {
    if let [only] = layers
        && !is_by_reference(only)
    {
        let tree = if is_image(only) { image(only) } else { mount::copy_path(text(only)?, false) }?;
        if let Some(ids) = ids {
            mapped::change(tree.as_fd(), ids, false)?;
        }
        return Ok(tree);
    }
    // A user namespace's marks are told by their names alone, and an image's layers here have no others.
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let userxattr = !own.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    let layers = Layers::open(layers, ids, Vec::new())?;
    layers.mount(&Overlay { lower: layers.paths(), upper: None, userxattr, volatile: false, label: None })
}

/// Layers as overlayfs takes them. One that is an image of EROFS is mounted first, detached and so without a place, and named
/// by its descriptor; overlayfs keeps a mount of its own, so this one is needed for the moment only.
struct Layers {
    paths: Vec<PathBuf>,
    /// Until overlayfs has them.
    mounts: Vec<OwnedFd>,
}

impl Layers {
    /// `images`: those of the first layers that are images, as far as they are mounted already.
    fn open(given: &[PathBuf], ids: Option<BorrowedFd<'_>>, images: Vec<OwnedFd>) -> kernel::Result<Self> {
        let (mut paths, mut mounts) = (Vec::with_capacity(given.len()), Vec::new());
        let mut images = images.into_iter();
        for path in given {
            let mounted = match (is_image(path), ids) {
                (true, _) => images.next().map_or_else(|| image(path), Ok)?,
                (false, Some(_)) => mount::copy_path(text(path)?, false)?,
                (false, None) => {
                    paths.push(path.clone());
                    continue;
                }
            };
            if let Some(ids) = ids {
                mapped::change(mounted.as_fd(), ids, false)?;
            }
            paths.push(by_descriptor(&mounted));
            mounts.push(mounted);
        }
        Ok(Self { paths, mounts })
    }

    /// The upper and the work directory with other ids. overlayfs wants both on one mount (EINVAL), so it is that of the
    /// directory that they are in.
    ///
    /// Or those in a file system of limited size.
    fn writable(
        &mut self,
        (upper, work): (&Path, &Path),
        ids: Option<BorrowedFd<'_>>,
    ) -> kernel::Result<(PathBuf, PathBuf)> {
        let (above, names) = match (upper.parent(), upper.file_name(), work.parent(), work.file_name()) {
            (Some(above), Some(upper), Some(other), Some(work)) if above == other => (above, (upper, work)),
            _ => return Err(SystemCall::new(format!("fsconfig(overlay, {upper:?}, {work:?})"), Errno::XDEV)),
        };
        let mounted = match has_extension(above, LIMITED) {
            true => kernel::loops::mount_ext4(above)?,
            false => mount::copy_path(text(above)?, false)?,
        };
        if let Some(ids) = ids {
            mapped::change(mounted.as_fd(), ids, false)?;
        }
        let place = by_descriptor(&mounted);
        self.mounts.push(mounted);
        Ok((place.join(names.0), place.join(names.1)))
    }

    fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Linux 6.15. Before, overlayfs takes layers only from mounts of its caller's namespace (clone_private_mount: EINVAL), so
    /// the images are attached, one over the other on the root directory of this one, and stay there: the host's root is
    /// left anyway, and umount2(2) would wait for all processors.
    fn mount(&self, overlay: &Overlay<'_>) -> kernel::Result<OwnedFd> {
        if self.mounts.is_empty() {
            return overlay.mount();
        }
        // Where images can be mounted from files there is `lowerdir+`.
        let first = match overlay.mount_by_layer() {
            Err(error) if error.errno() == Errno::INVAL => error,
            other => return other,
        };
        let place = rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| SystemCall::new("open(\"/\", O_PATH|O_DIRECTORY)", errno))?;
        for each in &self.mounts {
            mount::attach(each.as_fd(), place.as_fd())?;
        }
        if let (Some((_, work)), true) = (overlay.upper, overlay.volatile) {
            // The attempt left its mark, and a marked directory is refused. That there is none is as good.
            std::fs::remove_dir_all(work.join("work/incompat/volatile")).ok();
        }
        overlay.mount_by_layer().map_err(|_| first)
    }
}

fn by_descriptor(mounted: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", mounted.as_raw_fd()).into()
}

/// By its name, since every start asks.
fn is_image(layer: &Path) -> bool {
    has_extension(layer, "erofs")
}

/// One image of many layers, whose files are in the layers' own (`store`, module `merged`, which names it so).
fn is_merged(image: &Path) -> bool {
    image.file_name().is_some_and(|name| name == "merged.erofs")
}

/// The detached mount of an image. Beside a merged one is a list of those that it refers to, by their paths from there.
fn image(path: &Path) -> kernel::Result<OwnedFd> {
    if !is_merged(path) {
        return mount::erofs_image(path);
    }
    let above = path.parent().unwrap_or(path);
    let list = above.join("devices");
    let text = std::fs::read_to_string(&list).map_err(|error| {
        SystemCall::new(format!("read({list:?})"), Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
    mount::erofs_files(path, &text.lines().map(|line| above.join(line)).collect::<Vec<_>>())
}

/// A layer of which only names and owners are there: its data is in the directory of all layers (`store`, module `shifted`,
/// which names it so). It is the only one whose marks for that are believed, and where none is, no directory for data is named.
fn is_by_reference(layer: &Path) -> bool {
    layer.file_name().is_some_and(|name| name == "by-reference")
}

/// From `shifted/<key>/<layer>/by-reference`.
fn data_of(layer: &Path) -> Option<PathBuf> {
    layer.ancestors().nth(4).map(|store| store.join("layers"))
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let Some(text) = path.to_str() else {
        return Err(Error::Refused(format!("the path of the root file system is not UTF-8: {path:?}")));
    };
    mount::copy_path(text, true).during(|| format!("bind the root file system {path:?}"))
}

/// Whatever the kernel's configuration says. With `index`, it would refuse an upper whose lower layers have changed.
/// Redirects and metadata-only copies are marks in extended attributes, and a container writes to its own layer: they must
/// neither be made nor believed, or it could have files of other directories shown as its own. (Layers by reference are lower
/// ones. With them the kernel believes marks of lower directories that lead to the directory for data, and no others.)
const SAFE_OPTIONS: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "nofollow"), ("metacopy", "off")];

struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: Option<(&'a Path, &'a Path)>,
    userxattr: bool,
    volatile: bool,
    label: Option<&'a str>,
}

impl Overlay<'_> {
    fn mount(&self) -> kernel::Result<OwnedFd> {
        match self.mount_by_layer() {
            // Linux before 6.5 has no `lowerdir+`, and tells by EINVAL at one step or another. Only from 6.16 on are there layers by
            // reference.
            Err(error) if error.errno() == Errno::INVAL && !self.lower.iter().any(|layer| is_by_reference(layer)) => {
                self.mount_by_data().map_err(|second| {
                    // The newer interface explains itself; the older one's errno would hide that.
                    if error.log().is_empty() { second } else { error }
                })
            }
            other => other,
        }
    }

    /// One layer at a time, so that neither the page of options nor 255 bytes for one bound their number (Linux 6.5).
    fn mount_by_layer(&self) -> kernel::Result<OwnedFd> {
        let overlay = FileSystem::open("overlay")?;
        overlay.set("source", "overlay")?;
        for path in self.lower {
            overlay.set("lowerdir+", text(path)?)?;
        }
        if let Some(data) = self.lower.iter().find(|layer| is_by_reference(layer)).and_then(|layer| data_of(layer)) {
            overlay.set("datadir+", text(&data)?)?;
        }
        if let Some((upper, work)) = self.upper {
            overlay.set("upperdir", text(upper)?)?;
            overlay.set("workdir", text(work)?)?;
        }
        for (option, wanted) in [("userxattr", self.userxattr), ("volatile", self.volatile)] {
            if wanted {
                overlay.set_flag(option)?;
            }
        }
        for (option, value) in SAFE_OPTIONS {
            overlay.set(option, value)?;
        }
        if let Some(label) = self.label {
            overlay.set("context", label)?;
        }
        overlay.mount(Attributes::empty())
    }

    /// All options in one page. The layers are named by their descriptors, 17 bytes each, so about 200 fit; the mount
    /// table of the container then shows those names.
    fn mount_by_data(&self) -> kernel::Result<OwnedFd> {
        let open = |path: &Path| {
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| SystemCall::new(format!("open({path:?}, O_PATH|O_DIRECTORY)"), errno))
        };
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let lower = self.lower.iter().map(|path| open(path)).collect::<kernel::Result<Vec<_>>>()?;
        let names: Vec<String> = lower.iter().map(name).collect();
        let mut data = format!("lowerdir={}", names.join(":"));
        for (option, value) in SAFE_OPTIONS {
            data.push_str(&format!(",{option}={value}"));
        }
        let upper = self.upper.map(|(upper, work)| Ok((open(upper)?, open(work)?))).transpose()?;
        if let Some((upper, work)) = &upper {
            data.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
        }
        for (option, wanted) in [("userxattr", self.userxattr), ("volatile", self.volatile)] {
            if wanted {
                data.push(',');
                data.push_str(option);
            }
        }
        if let Some(label) = self.label {
            data.push_str(&format!(",context=\"{label}\""));
        }
        if data.len() >= 4096 {
            return Err(SystemCall::new(format!("mount(overlay, <{} bytes of options>)", data.len()), Errno::TOOBIG));
        }
        // mount(2) needs a place. The topmost layer's directory is one, in this namespace only; from there the mount is
        // taken as a detached copy.
        let place = &lower[0];
        mount::mount_legacy("overlay", place.as_fd(), &data)?;
        let path = text(&self.lower[0])?;
        let detached = mount::copy_path(path, false)?;
        mount::detach(path)?;
        Ok(detached)
    }
}

fn text(path: &Path) -> kernel::Result<&str> {
    path.to_str().ok_or_else(|| SystemCall::new(format!("fsconfig(overlay, {path:?})"), Errno::ILSEQ))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new(format!("open({path:?}, O_PATH|O_DIRECTORY)"), errno))
        .during(|| format!("open {path:?}"))
}

/// Docker makes a working directory that the image lacks, as root, before anything of the container runs.
fn make_working_directory(plan: &Plan, root: BorrowedFd<'_>) -> Result<()> {
    if plan.process.create_cwd && plan.process.cwd != "/" {
        beneath::make_directories(root, &plan.process.cwd, Mode::from_raw_mode(0o755))
            .during(|| format!("make the working directory {:?}", plan.process.cwd))?;
    }
    Ok(())
}

/// Linux 5.12: mount_setattr. Before: a remount of this one mount, which must be attached.
pub(crate) fn make_mount_read_only(mount: BorrowedFd<'_>, recursive: bool) -> kernel::Result<()> {
    let change = Change { set: Attributes::MOUNT_ATTR_RDONLY, recursive, ..Change::default() };
    match mount::change(mount, &change) {
        Err(error) if error.errno() == Errno::NOSYS => {
            mount::remount(mount, present_attributes(mount)? | Attributes::MOUNT_ATTR_RDONLY)
        }
        other => other,
    }
}

/// What a remount must repeat, or it would clear it.
pub(crate) fn present_attributes(mount: BorrowedFd<'_>) -> kernel::Result<Attributes> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let flags = rustix::fs::fstatvfs(mount).map_err(|errno| SystemCall::new("fstatvfs(<mount>)", errno))?.f_flag;
    let mut attributes = Attributes::empty();
    for (flag, attribute) in [
        (Flags::RDONLY, Attributes::MOUNT_ATTR_RDONLY),
        (Flags::NOSUID, Attributes::MOUNT_ATTR_NOSUID),
        (Flags::NODEV, Attributes::MOUNT_ATTR_NODEV),
        (Flags::NOEXEC, Attributes::MOUNT_ATTR_NOEXEC),
        (Flags::NOATIME, Attributes::MOUNT_ATTR_NOATIME),
        (Flags::NODIRATIME, Attributes::MOUNT_ATTR_NODIRATIME),
    ] {
        if flags.contains(flag) {
            attributes |= attribute;
        }
    }
    Ok(attributes)
}
