//! Device nodes, the links in `/dev`, and the terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::beneath::{self, Limits};
use kernel::error::Error as SystemCall;
use kernel::mount;
use kernel::terminal::{self, Pair};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::error::{During, Result};
use crate::plan::{DeviceKind, DevicePlan, Plan, ProcessPlan};

/// The directory that was used last, since nearly all nodes are in `/dev`.
struct Directory<'a> {
    root: BorrowedFd<'a>,
    last: Option<(String, OwnedFd)>,
}

impl Directory<'_> {
    /// Resolved beneath the root, so that an image whose `/dev` is a link to `/tmp` of the host makes nodes in the
    /// container's `/tmp` (CVE-2026-41579).
    fn of<'p>(&mut self, path: &'p str) -> kernel::Result<(BorrowedFd<'_>, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = if parent.is_empty() { "/" } else { parent };
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            let fd = beneath::make_directories(self.root, parent, Mode::from_raw_mode(0o755))?;
            self.last = Some((parent.to_owned(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok((fd.as_fd(), name)),
            None => Err(SystemCall::new(format!("openat2(<root>, {parent:?})"), Errno::NOENT)),
        }
    }
}

pub(crate) fn make_all(plan: &Plan, root: BorrowedFd<'_>) -> Result<()> {
    let mut directory = Directory { root, last: None };
    // The host's multiplexer, which engines name among all of its devices, is none where it is bound: it looks for its terminals beside
    // itself. What is linked is linked.
    let is_linked = |device: &&DevicePlan| plan.links.iter().any(|(path, _)| *path == device.path);
    for device in plan.devices.iter().filter(|device| !is_linked(device)) {
        make(&mut directory, device).during(|| format!("make the device {}", device.path))?;
    }
    for (path, target) in &plan.links {
        link(&mut directory, path, target).during(|| format!("link {path} to {target}"))?;
    }
    Ok(())
}

fn make(directory: &mut Directory<'_>, device: &DevicePlan) -> kernel::Result<()> {
    let root = directory.root;
    let (parent, name) = directory.of(&device.path)?;
    let kind = file_type(device.kind);
    let number = rustix::fs::makedev(device.major, device.minor);
    let fail = |call: &'static str| move |errno| SystemCall::new(format!("{call}(<parent>, {name:?})"), errno);
    match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let status = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail("fstatat"))?;
            let same = FileType::from_raw_mode(status.st_mode) == kind && status.st_rdev == number;
            return if same { Ok(()) } else { bind(root, device) };
        }
        // In a user namespace no device can be made (mknod(2)); the host's node is bound instead.
        Err(Errno::PERM) => return bind(root, device),
        Err(errno) => return Err(fail("mknodat")(errno)),
    }
    if device.uid != 0 || device.gid != 0 {
        let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
        rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(fail("fchownat"))?;
    }
    Ok(())
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Pipe => FileType::Fifo,
    }
}

/// The host's node of the same path, if it is that device.
fn bind(root: BorrowedFd<'_>, device: &DevicePlan) -> kernel::Result<()> {
    let tree = mount::copy_path(&device.path, false)?;
    let status = rustix::fs::fstat(&tree).map_err(|errno| SystemCall::new("fstat(<device>)", errno))?;
    let wanted = (file_type(device.kind), rustix::fs::makedev(device.major, device.minor));
    if (FileType::from_raw_mode(status.st_mode), status.st_rdev) != wanted {
        let (major, minor) = (device.major, device.minor);
        return Err(SystemCall::new(format!("fstat({:?}): not device {major}:{minor}", device.path), Errno::NXIO));
    }
    let target = beneath::make_file(root, &device.path, Mode::from_raw_mode(0o666))?;
    mount::attach(tree.as_fd(), target.as_fd())
}

fn link(directory: &mut Directory<'_>, path: &str, target: &str) -> kernel::Result<()> {
    let (parent, name) = directory.of(path)?;
    match rustix::fs::symlinkat(target, parent, name) {
        // What the image or a mount has there is left as it is.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(SystemCall::new(format!("symlinkat({target:?}, <parent>, {name:?})"), errno)),
    }
}

/// Makes the container's terminal in its own devpts and puts it on `/dev/console`.
pub(crate) fn make_terminal(
    root: BorrowedFd<'_>,
    devpts: Option<&OwnedFd>,
    size: (u16, u16),
    process: &ProcessPlan,
) -> Result<Pair> {
    let step = || "make the container's terminal";
    let pair = open_terminal(root, devpts, size, process).during(step)?;
    let target = beneath::make_file(root, "/dev/console", Mode::from_raw_mode(0o620)).during(step)?;
    let tree = mount::copy(pair.terminal.as_fd(), false).during(step)?;
    mount::attach(tree.as_fd(), target.as_fd()).during(step)?;
    Ok(pair)
}

/// A terminal of the devpts that is given or stands at `/dev/pts`.
pub(crate) fn open_terminal(
    root: BorrowedFd<'_>,
    devpts: Option<&OwnedFd>,
    (rows, columns): (u16, u16),
    process: &ProcessPlan,
) -> kernel::Result<Pair> {
    let opened;
    let devpts = match devpts {
        Some(devpts) => devpts,
        None => {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            opened = beneath::open(root, "/dev/pts", flags, Mode::empty(), Limits::default())?;
            &opened
        }
    };
    let pair = terminal::open_pair(devpts.as_fd())?;
    if rows != 0 || columns != 0 {
        terminal::set_size(pair.controller.as_fd(), rows, columns)?;
    }
    if process.plain_line_ends {
        terminal::pass_line_ends(pair.terminal.as_fd())?;
    }
    Ok(pair)
}
