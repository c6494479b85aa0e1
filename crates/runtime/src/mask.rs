//! Paths that must not be readable, or not writable, inside the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::beneath::{self, Limits};
use kernel::error::Error as SystemCall;
use kernel::mount::{self, Attributes, Change, FileSystem};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{During, Result};
use crate::plan::Plan;
use crate::root;

/// `None` when there is no such path, which is no error: the lists name what some kernels have.
fn open(root: BorrowedFd<'_>, path: &str) -> kernel::Result<Option<OwnedFd>> {
    match beneath::open(root, path, OFlags::PATH, Mode::empty(), Limits::default()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Binds each path on itself, read-only.
///
/// The descriptor that was opened is what is copied and what is covered, so nothing is resolved twice
/// (GHSA-3q8j-pf29-vwv8).
pub(crate) fn make_read_only(plan: &Plan, root: BorrowedFd<'_>) -> Result<()> {
    for path in &plan.readonly_paths {
        let step = || format!("make {path} read-only");
        let Some(target) = open(root, path).during(step)? else { continue };
        let tree = mount::copy(target.as_fd(), true).during(step)?;
        let change = Change { set: Attributes::MOUNT_ATTR_RDONLY, recursive: true, ..Change::default() };
        match mount::change(tree.as_fd(), &change) {
            Err(error) if error.errno() == Errno::NOSYS => {
                mount::attach(tree.as_fd(), target.as_fd()).during(step)?;
                root::make_mount_read_only(tree.as_fd(), false).during(step)?;
            }
            other => {
                other.during(step)?;
                mount::attach(tree.as_fd(), target.as_fd()).during(step)?;
            }
        }
    }
    Ok(())
}

/// Covers files with the host's `/dev/null` and directories with one empty read-only tmpfs that they share.
pub(crate) fn hide(plan: &Plan, root: BorrowedFd<'_>) -> Result<()> {
    let mut null = None;
    let mut empty = None;
    for path in &plan.masked_paths {
        let step = || format!("hide {path}");
        let Some(target) = open(root, path).during(step)? else { continue };
        let status = rustix::fs::fstat(&target)
            .map_err(|errno| SystemCall::new(format!("fstat({path:?})"), errno))
            .during(step)?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let (slot, make): (_, fn() -> kernel::Result<OwnedFd>) =
            if is_directory { (&mut empty, empty_directory) } else { (&mut null, null_device) };
        cover(slot, make, target.as_fd(), is_directory).during(step)?;
    }
    Ok(())
}

/// The first directory gets the tmpfs itself and the others copies of it: before Linux 6.15 a mount that is attached
/// nowhere cannot be copied.
fn cover(
    slot: &mut Option<OwnedFd>,
    make: fn() -> kernel::Result<OwnedFd>,
    target: BorrowedFd<'_>,
    attach_first: bool,
) -> kernel::Result<()> {
    let tree = match slot {
        Some(known) => mount::copy(known.as_fd(), false)?,
        None => {
            let known = slot.insert(make()?);
            if attach_first {
                return mount::attach(known.as_fd(), target);
            }
            mount::copy(known.as_fd(), false)?
        }
    };
    mount::attach(tree.as_fd(), target)
}

/// The host's node and not the container's, which its image may have replaced (CVE-2025-31133); verified all the same.
fn null_device() -> kernel::Result<OwnedFd> {
    let fd = rustix::fs::openat(CWD, c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemCall::new("open(\"/dev/null\", O_PATH|O_NOFOLLOW)", errno))?;
    let status = rustix::fs::fstat(&fd).map_err(|errno| SystemCall::new("fstat(\"/dev/null\")", errno))?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(fd) } else { Err(SystemCall::new("fstat(\"/dev/null\"): not device 1:3", Errno::NXIO)) }
}

fn empty_directory() -> kernel::Result<OwnedFd> {
    let tmpfs = FileSystem::open("tmpfs")?;
    tmpfs.set("source", "tmpfs")?;
    tmpfs.set("nr_blocks", "1")?;
    tmpfs.set("nr_inodes", "1")?;
    tmpfs.mount(
        Attributes::MOUNT_ATTR_RDONLY
            | Attributes::MOUNT_ATTR_NOSUID
            | Attributes::MOUNT_ATTR_NODEV
            | Attributes::MOUNT_ATTR_NOEXEC,
    )
}
