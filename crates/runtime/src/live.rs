//! Mounts that come and go while a container runs.
//!
//! [`tree`] makes the detached mount in the namespace where its source is; [`attach`] and [`detach`] work inside the container's
//! mount namespace, which the calling thread joins. The container may rename and link under our hands, so its paths are resolved
//! beneath its root by the kernel, and what is unmounted must be the root of a mount (statx(2), Linux 5.8).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::beneath::{self, Limits};
use kernel::error::Error as SystemCall;
use kernel::namespaces::{self, Namespaces};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::{During, Result};
use crate::mounts;
use crate::plan::{MountPlan, Mounted};

/// A detached mount of what the plan shows, made in the caller's mount namespace; `None` for a file system that can be made in the
/// container's own.
///
/// # Errors
/// The kernel's refusal; a source that does not exist.
pub fn tree(plan: &MountPlan) -> Result<Option<OwnedFd>> {
    match &plan.what {
        Mounted::Bind { .. } => mounts::live_tree(plan).map(Some),
        Mounted::FileSystem { from_outside: true, .. } => mounts::file_system_tree(plan).map(Some),
        Mounted::FileSystem { .. } | Mounted::Cgroup => Ok(None),
    }
}

/// Attaches a mount in the namespace of `container`, a file of `/proc/PID/ns/mnt`. The calling thread stays there: it must be one
/// that ends, and share nothing of its file system context with others (unshare(2)).
///
/// # Errors
/// The kernel's refusal.
pub fn attach(plan: &MountPlan, tree: Option<OwnedFd>, container: BorrowedFd<'_>) -> Result<()> {
    let root = enter(container)?;
    let made = match tree {
        Some(tree) => tree,
        None => mounts::file_system_tree(plan)?,
    };
    mounts::attach_live(plan, made.as_fd(), root.as_fd())
}

/// Unmounts what is mounted at an absolute path of the container; see [`attach`] for the calling thread.
///
/// False if nothing is mounted there.
///
/// # Errors
/// The kernel's refusal.
pub fn detach(destination: &str, container: BorrowedFd<'_>) -> Result<bool> {
    let step = || format!("unmount {destination}");
    let root = enter(container)?;
    let path = Path::new(destination);
    let parent = path.parent().and_then(Path::to_str).unwrap_or("/");
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(SystemCall::new(format!("umount2({destination:?})"), Errno::INVAL)).during(step);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match beneath::open(root.as_fd(), parent, flags, Mode::empty(), Limits::default()) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(false),
        other => other.during(step)?,
    };
    let call = |text: String| move |errno| SystemCall::new(text, errno);
    let seen = match rustix::fs::statx(&parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => return Ok(false),
        other => other.map_err(call(format!("statx(<directory>, {name:?})"))).during(step)?,
    };
    if !seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(false);
    }
    rustix::process::fchdir(&parent).map_err(call("fchdir(<directory>)".to_owned())).during(step)?;
    // Relative to the directory that was resolved; a link put in its place meanwhile is not followed.
    rustix::mount::unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(call(format!("umount2({name:?}, MNT_DETACH|UMOUNT_NOFOLLOW)")))
        .during(step)
        .map(|()| true)
}

/// Joins the container's mount namespace; returns its root.
fn enter(container: BorrowedFd<'_>) -> Result<OwnedFd> {
    let step = || "enter the container's mounts".to_owned();
    namespaces::join(container, Namespaces::MOUNT).during(step)?;
    rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new("open(\"/\", O_PATH)", errno))
        .during(step)
}
