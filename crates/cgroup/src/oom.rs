//! Waiting for the kernel to kill for lack of memory, with a descriptor that can be polled beside others.

use crate::error::{Error, FailedCall, Result};
use crate::files::Directory;
use crate::group::Cgroup;
use crate::hierarchy::Version;
use rustix::event::EventfdFlags;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, WatchFlags};
use rustix::io::Errno;

/// Becomes readable when memory ran out in the group, or when the group goes away: read [`Cgroup::oom_kills`] then, after
/// [`OomWatch::drain`].
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl Cgroup {
    /// Starts to watch. `Ok(None)` if no tree limits memory here.
    ///
    /// v1: an eventfd registered with memory.oom_control. v2: inotify on memory.events, which the kernel announces as
    /// modified (Linux 4.18 for child groups too).
    ///
    /// # Errors
    /// A failed call.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        let Some((version, directory)) = self.memory_directory() else { return Ok(None) };
        let fd = match version {
            Version::V1 => register_eventfd(directory)?,
            Version::V2 => match watch_file(directory) {
                // The controller could not be handed down to this group.
                Err(Error::Call(failed)) if failed.errno() == Errno::NOENT => return Ok(None),
                result => result?,
            },
        };
        Ok(Some(OomWatch { fd }))
    }
}

fn register_eventfd(directory: &Directory) -> Result<OwnedFd> {
    let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| FailedCall::new("eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)", errno))?;
    let control = directory.reader("memory.oom_control")?;
    directory.write("cgroup.event_control", &format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd()))?;
    Ok(eventfd)
}

fn watch_file(directory: &Directory) -> Result<OwnedFd> {
    let inotify = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(|errno| FailedCall::new("inotify_init1(IN_CLOEXEC|IN_NONBLOCK)", errno))?;
    let path = directory.path().join("memory.events");
    rustix::fs::inotify::add_watch(&inotify, &path, WatchFlags::MODIFY)
        .map_err(|errno| FailedCall::new(format!("inotify_add_watch({path:?}, IN_MODIFY)"), errno))?;
    Ok(inotify)
}

impl OomWatch {
    /// Takes what has been announced, so that the descriptor becomes readable for the next time only.
    ///
    /// # Errors
    /// A failed read.
    pub fn drain(&self) -> Result<()> {
        let mut buffer = [0u8; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                // An eventfd is empty after one read, inotify may have more.
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(FailedCall::new("read(<memory events>)", errno).into()),
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
