//! Mounts by descriptor: fsopen, fsconfig, fsmount, open_tree, move_mount (Linux 5.2), mount_setattr (5.12).
//!
//! A detached mount is an [`OwnedFd`]; it vanishes when the last descriptor is closed, unless it was attached. Errors of
//! a [`FileSystem`] carry the lines that the kernel wrote to the context's log.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

pub use rustix::mount::MountAttrFlags as Attributes;

use crate::error::{Error, Result};

/// A file system that is being configured.
#[derive(Debug)]
pub struct FileSystem {
    context: OwnedFd,
    kind: String,
}

impl FileSystem {
    /// Opens a context for a file system type such as `tmpfs`.
    pub fn open(kind: &str) -> Result<Self> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| Error::new(format!("fsopen({kind:?}, FSOPEN_CLOEXEC)"), errno))?;
        Ok(Self { context, kind: kind.to_owned() })
    }

    /// Sets an option with a value; at most 255 bytes.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        rustix::mount::fsconfig_set_string(self.context.as_fd(), key, value).map_err(|errno| {
            self.error(format!("fsconfig({}, FSCONFIG_SET_STRING, {key:?}, {value:?})", self.kind), errno)
        })
    }

    /// Sets an option without value.
    pub fn set_flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(self.context.as_fd(), key)
            .map_err(|errno| self.error(format!("fsconfig({}, FSCONFIG_SET_FLAG, {key:?})", self.kind), errno))
    }

    /// Sets an option to an open file; `overlay` takes its directories so since Linux 6.13.
    pub fn set_descriptor(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::fsconfig_set_fd(self.context.as_fd(), key, value)
            .map_err(|errno| self.error(format!("fsconfig({}, FSCONFIG_SET_FD, {key:?})", self.kind), errno))
    }

    /// Makes the superblock and a detached mount of it.
    pub fn mount(self, attributes: Attributes) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(self.context.as_fd())
            .map_err(|errno| self.error(format!("fsconfig({}, FSCONFIG_CMD_CREATE)", self.kind), errno))?;
        rustix::mount::fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.error(format!("fsmount({}, {})", self.kind, describe(attributes)), errno))
    }

    fn error(&self, call: String, errno: Errno) -> Error {
        let mut log = Vec::new();
        let mut buffer = [0u8; 1024];
        // Each read gives one line; ENODATA ends the log. The bound only guards against a kernel that never ends.
        while log.len() < 16 {
            match rustix::io::read(self.context.as_fd(), &mut buffer) {
                Ok(length @ 1..) => log.push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()),
                _ => break,
            }
        }
        Error::new(call, errno).with_log(log)
    }
}

/// A detached read-only mount of an image of EROFS in a regular file: as it is (Linux 6.12 with `CONFIG_EROFS_FS_BACKED_BY_FILE`), or
/// by a loop device where the kernel or the file's own file system (tmpfs) cannot do that, which they say by `ENOTBLK`.
///
/// # Errors
/// `EPERM` in a user namespace, `ENODEV` where the kernel has no EROFS, `EUCLEAN` and `EINVAL` for a file that is no image.
pub fn erofs_image(path: &std::path::Path) -> Result<OwnedFd> {
    match erofs_file(path) {
        Err(error) if error.errno() == Errno::NOTBLK => match crate::loops::mount_erofs(path) {
            // No loop devices either: what was wanted first says more.
            Err(second) if matches!(second.errno(), Errno::NOENT | Errno::NXIO) => Err(error),
            other => other,
        },
        other => other,
    }
}

/// Whether [`erofs_image`] would need a loop device, which not every cgroup may open.
pub fn erofs_needs_device(path: &std::path::Path) -> bool {
    erofs_file(path).is_err_and(|error| error.errno() == Errno::NOTBLK)
}

fn erofs_file(path: &std::path::Path) -> Result<OwnedFd> {
    erofs_files(path, &[])
}

/// As [`erofs_image`], an image whose files are in `others`, in the order of its table; never by loop devices, which two mounts could
/// not share.
///
/// # Errors
/// As [`erofs_image`]; `ENOTBLK` where files cannot be mounted as they are.
pub fn erofs_files(path: &std::path::Path, others: &[std::path::PathBuf]) -> Result<OwnedFd> {
    let named = |path: &std::path::Path| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .map_err(|errno| Error::new(format!("open({path:?}, O_RDONLY)"), errno))?;
        // fsconfig(2) takes at most 255 bytes.
        let name = path.to_str().filter(|text| text.len() < 256).map_or_else(|| link(file.as_fd()), str::to_owned);
        Ok((name, file))
    };
    let (source, _file) = named(path)?;
    let image = FileSystem::open("erofs")?;
    image.set("source", &source)?;
    let mut open = Vec::with_capacity(others.len());
    for other in others {
        let (name, file) = named(other)?;
        image.set("device", &name)?;
        open.push(file);
    }
    image.mount(Attributes::MOUNT_ATTR_RDONLY)
}

/// A detached copy of what is mounted at `path`, with the mounts below it when `recursive`; follows symbolic links.
pub fn copy_path(path: &str, recursive: bool) -> Result<OwnedFd> {
    let flags = tree_flags(recursive);
    rustix::mount::open_tree(CWD, path, flags)
        .map_err(|errno| Error::new(format!("open_tree({path:?}, {})", tree_names(recursive)), errno))
}

/// A detached copy of the mount tree at an open file or directory.
pub fn copy(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let flags = tree_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, c"", flags)
        .map_err(|errno| Error::new(format!("open_tree(<fd>, \"\", {})", tree_names(recursive)), errno))
}

fn tree_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

fn tree_names(recursive: bool) -> &'static str {
    if recursive { "OPEN_TREE_CLONE|AT_RECURSIVE" } else { "OPEN_TREE_CLONE" }
}

/// Attaches a detached mount at an open file or directory, whatever path that has.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
        .map_err(|errno| Error::new("move_mount(<mount>, \"\", <target>, \"\", F_EMPTY_PATH|T_EMPTY_PATH)", errno))
}

/// Attaches a detached mount at a path relative to a directory; the last component is not followed when it is a
/// symbolic link.
pub fn attach_at(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, path: &str) -> Result<()> {
    rustix::mount::move_mount(mount, c"", directory, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| Error::new(format!("move_mount(<mount>, \"\", <directory>, {path:?}, F_EMPTY_PATH)"), errno))
}

/// How mounts receive and pass on later mounts (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Receives only.
    Slave,
    /// Neither.
    Private,
    /// Neither, and cannot be bind-mounted.
    Unbindable,
}

/// A change of a mount's attributes (mount_setattr(2)).
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Attributes to set. Times: exactly one of `MOUNT_ATTR_NOATIME`, `MOUNT_ATTR_STRICTATIME` or none for relatime, and
    /// only together with `MOUNT_ATTR__ATIME` in `clear`.
    pub set: Attributes,
    /// Attributes to clear.
    pub clear: Attributes,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// Map ids as this user namespace does (Linux 5.12; most file systems follow until 6.x).
    pub id_map: Option<BorrowedFd<'a>>,
    /// For all mounts below as well.
    pub recursive: bool,
}

impl Default for Change<'_> {
    fn default() -> Self {
        Self { set: Attributes::empty(), clear: Attributes::empty(), propagation: None, id_map: None, recursive: false }
    }
}

/// Changes attributes of a mount, attached or not (Linux 5.12).
pub fn change(mount: BorrowedFd<'_>, change: &Change<'_>) -> Result<()> {
    let mut attributes = linux_raw_sys::general::mount_attr {
        attr_set: u64::from(change.set.bits()),
        attr_clr: u64::from(change.clear.bits()),
        propagation: change.propagation.map_or(0, |value| match value {
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }),
        userns_fd: 0,
    };
    if let Some(fd) = change.id_map {
        attributes.attr_set |= u64::from(linux_raw_sys::general::MOUNT_ATTR_IDMAP);
        attributes.userns_fd = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string, `attributes` lives over the call and its size is passed; the descriptors are
    // open for as long as their borrows live.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attributes,
            size_of::<linux_raw_sys::general::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    let id_map = if change.id_map.is_some() { ", MOUNT_ATTR_IDMAP" } else { "" };
    let recursive = if change.recursive { "|AT_RECURSIVE" } else { "" };
    Err(Error::new(
        format!(
            "mount_setattr(<mount>, AT_EMPTY_PATH{recursive}, set {}, clear {}, propagation {:?}{id_map})",
            describe(change.set),
            describe(change.clear),
            change.propagation,
        ),
        errno,
    ))
}

/// Makes the flags of an *attached* mount exactly `attributes` (mount(2) `MS_REMOUNT|MS_BIND`); access times are noted as before
/// unless these say how.
///
/// For kernels before 5.12, which have no mount_setattr(2): not recursive, and through the descriptor's link in
/// `/proc/self/fd`, so the caller's `/proc` must be trusted.
pub fn remount(mount: BorrowedFd<'_>, attributes: Attributes) -> Result<()> {
    remount_with(mount, attributes, MountFlags::empty())
}

/// The same, and attributes that say nothing of access times mean relatime, as for mount_setattr(2).
pub fn remount_exactly(mount: BorrowedFd<'_>, attributes: Attributes) -> Result<()> {
    let chosen = attributes.intersects(Attributes::MOUNT_ATTR_NOATIME | Attributes::MOUNT_ATTR_STRICTATIME);
    remount_with(mount, attributes, if chosen { MountFlags::empty() } else { MountFlags::RELATIME })
}

fn remount_with(mount: BorrowedFd<'_>, attributes: Attributes, times: MountFlags) -> Result<()> {
    let mut flags = MountFlags::BIND | times;
    for (attribute, flag) in [
        (Attributes::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (Attributes::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (Attributes::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (Attributes::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (Attributes::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (Attributes::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (Attributes::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (Attributes::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ] {
        if attributes.contains(attribute) {
            flags |= flag;
        }
    }
    rustix::mount::mount_remount(link(mount).as_str(), flags, c"")
        .map_err(|errno| Error::new(format!("mount(<mount>, MS_REMOUNT|MS_BIND, {})", describe(attributes)), errno))
}

/// Changes propagation of an attached mount by mount(2), which every kernel has.
pub fn set_propagation(target: &CStr, propagation: Propagation, recursive: bool) -> Result<()> {
    let mut flags = match propagation {
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change(target, flags).map_err(|errno| {
        let recursive = if recursive { "MS_REC|" } else { "" };
        Error::new(format!("mount({target:?}, {recursive}{propagation:?})"), errno)
    })
}

/// mount(2) with a type and an option string of at most 4095 bytes, for kernels whose new interface cannot do it.
pub fn mount_legacy(kind: &str, target: BorrowedFd<'_>, data: &str) -> Result<()> {
    let data_c =
        std::ffi::CString::new(data).map_err(|_| Error::new("mount(<data with a zero byte>)", Errno::INVAL))?;
    rustix::mount::mount(kind, link(target).as_str(), kind, MountFlags::empty(), Some(data_c.as_c_str()))
        .map_err(|errno| Error::new(format!("mount({kind:?}, <target>, {data:?})"), errno))
}

/// Detaches what is mounted at `path`, with everything below; it goes when its last user goes.
pub fn detach(path: &str) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|errno| Error::new(format!("umount2({path:?}, MNT_DETACH)"), errno))
}

/// Detaches a mount given by a descriptor of its root directory, with everything below; it goes when its last user goes.
///
/// umount2(2) takes a path, so the working directory is its root for a moment.
pub fn detach_mount(root: BorrowedFd<'_>) -> Result<()> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let before = rustix::fs::openat(CWD, c".", flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::new("open(\".\", O_PATH)", errno))?;
    change_directory(root)?;
    let detached = detach(".");
    change_directory(before.as_fd())?;
    detached
}

/// Makes the mount at `root` the root of the caller's mount namespace and detaches the old one.
///
/// pivot_root(".", ".") stacks the old root on the new one (pivot_root(2)), so no directory is needed for it. Unmounting
/// what is still shared with the host would unmount it there too, so the old tree stops passing on events first.
pub fn pivot_root(root: BorrowedFd<'_>) -> Result<()> {
    let old = rustix::fs::openat(
        CWD,
        c"/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|errno| Error::new("open(\"/\", O_PATH)", errno))?;
    change_directory(root)?;
    rustix::process::pivot_root(c".", c".").map_err(|errno| Error::new("pivot_root(\".\", \".\")", errno))?;
    change_directory(old.as_fd())?;
    set_propagation(c".", Propagation::Slave, true)?;
    detach(".")?;
    rustix::process::chdir(c"/").map_err(|errno| Error::new("chdir(\"/\")", errno))
}

fn change_directory(directory: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(directory).map_err(|errno| Error::new("fchdir(<directory>)", errno))
}

fn link(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn describe(attributes: Attributes) -> String {
    if attributes.is_empty() {
        return "0".to_owned();
    }
    let names: Vec<String> =
        attributes.iter_names().map(|(name, _)| name.trim_start_matches("MOUNT_ATTR_").to_owned()).collect();
    names.join("|")
}
