//! Making processes: clone3(2) with the semantics of fork(2), and a descriptor for the child.
//!
//! Refuses to run in a process with threads: after a fork, a lock that another thread held stays locked for ever in the
//! child, and the memory allocator has such locks.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::error::{Error, Result};
use crate::namespaces::{self, Namespaces};

/// How to make a child.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clone<'a> {
    /// New namespaces for the child. A new cgroup namespace has the *caller's* cgroup as its root even together with
    /// `cgroup`; have the child unshare it instead.
    pub namespaces: Namespaces,
    /// Directory of a cgroup v2 in which the child is born (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child is a sibling of the caller: its parent is the caller's parent, which also reaps it.
    pub sibling: bool,
}

/// A process that was made.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's pid namespace.
    pub pid: Pid,
    /// A descriptor that stands for it; readable when it has ended.
    pub pidfd: OwnedFd,
}

impl Clone<'_> {
    /// Makes a child that calls `child` and ends with the returned status.
    ///
    /// The child has a copy of the caller's memory and descriptors. It never returns from here: a panic ends it with
    /// status 101, and destructors of the caller's values are not run in it.
    ///
    /// Falls back to clone(2) when the kernel or a filter has no clone3 (ENOSYS); `cgroup` is then an error.
    pub fn spawn(&self, child: impl FnOnce() -> i32) -> Result<Child> {
        if !namespaces::is_single_threaded() {
            return Err(Error::new("clone3(<a process with more than one thread>)", Errno::BUSY));
        }
        let mut pidfd: i32 = -1;
        let pid = match self.clone3(&mut pidfd) {
            Err(Errno::NOSYS) if self.cgroup.is_none() => self.clone_legacy(&mut pidfd),
            other => other,
        }
        .map_err(|errno| Error::new(self.describe(), errno))?;
        match Pid::from_raw(pid) {
            None => {
                let status = std::panic::catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
                exit(status)
            }
            Some(pid) => {
                // SAFETY: the kernel stored a new descriptor here, close-on-exec, which nobody else owns; upheld by
                // CLONE_PIDFD in the flags of the call that succeeded.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                Ok(Child { pid, pidfd })
            }
        }
    }

    fn flags(&self) -> u64 {
        let parent = if self.sibling { libc::CLONE_PARENT } else { 0 };
        u64::from((libc::CLONE_PIDFD | parent).cast_unsigned() | self.namespaces.bits())
    }

    fn clone3(&self, pidfd: &mut i32) -> std::result::Result<i32, Errno> {
        let mut flags = self.flags();
        let mut cgroup = 0;
        if let Some(directory) = self.cgroup {
            flags |= linux_raw_sys::general::CLONE_INTO_CGROUP;
            cgroup = u64::from(directory.as_raw_fd().cast_unsigned());
        }
        let arguments = linux_raw_sys::general::clone_args {
            flags,
            pidfd: std::ptr::from_mut(pidfd) as u64,
            child_tid: 0,
            parent_tid: 0,
            // With CLONE_PARENT the signal is that of the caller (clone(2)), and the kernel wants 0 here.
            exit_signal: if self.sibling { 0 } else { libc::SIGCHLD as u64 },
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup,
        };
        // SAFETY: no stack and no CLONE_VM, so the child goes on with a copy of this stack, as after fork; the process
        // has one thread, checked by the only caller, so the copy of memory is consistent. `pidfd` and `arguments` live
        // over the call.
        let result = unsafe {
            libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<linux_raw_sys::general::clone_args>())
        };
        errno(result)
    }

    /// clone(2), which every kernel has; its lower byte of flags is the exit signal.
    fn clone_legacy(&self, pidfd: &mut i32) -> std::result::Result<i32, Errno> {
        // CLONE_NEWTIME is a bit of that byte, so only unshare(2) can make a time namespace.
        if self.namespaces.contains(Namespaces::TIME) {
            return Err(Errno::NOSYS);
        }
        let signal = if self.sibling { 0 } else { libc::SIGCHLD as u64 };
        let flags = self.flags() | signal;
        // SAFETY: as for clone3; the third argument is where CLONE_PIDFD stores the descriptor (x86-64 and arm64 agree on
        // flags, stack, parent_tid in this order).
        let result = unsafe {
            libc::syscall(libc::SYS_clone, flags, std::ptr::null_mut::<u8>(), std::ptr::from_mut(pidfd), 0u64, 0u64)
        };
        errno(result)
    }

    fn describe(&self) -> String {
        let kinds: Vec<&str> =
            Namespaces::ALL.iter().filter(|(kind, _)| self.namespaces.contains(*kind)).map(|(_, name)| *name).collect();
        let cgroup = if self.cgroup.is_some() { ", CLONE_INTO_CGROUP" } else { "" };
        let parent = if self.sibling { ", CLONE_PARENT" } else { "" };
        format!("clone3(new namespaces: {}{cgroup}{parent})", kinds.join(" "))
    }
}

fn errno(result: libc::c_long) -> std::result::Result<i32, Errno> {
    if result >= 0 {
        Ok(result as i32)
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// Ends the process at once, without running exit handlers or flushing buffers that it shares with its parent.
pub fn exit(status: i32) -> ! {
    // SAFETY: always safe to call; does not return.
    unsafe { libc::_exit(status) }
}

/// A descriptor for a running process (Linux 5.3).
pub fn open_pidfd(pid: Pid) -> Result<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| Error::new(format!("pidfd_open({})", pid.as_raw_nonzero()), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        let running = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_millis(50)));
        let error = Clone::default().spawn(|| 0).unwrap_err();
        assert!(error.to_string().contains("more than one thread"), "{error}");
        running.join().unwrap();
    }
}
