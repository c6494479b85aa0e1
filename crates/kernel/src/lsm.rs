//! Linux security modules: which are active, and the label that the next execve(2) gives (AppArmor, SELinux).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath::{self, Limits};
use crate::error::{Error, Result};

/// A root directory of procfs, verified to be one.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

/// Inode number of the root directory of every procfs instance.
const PROC_ROOT_INODE: u64 = 1;

impl Procfs {
    /// The caller's `/proc`, for as long as the caller's root is the host's.
    pub fn of_the_host() -> Result<Self> {
        let fd = rustix::fs::openat(CWD, c"/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::new("open(\"/proc\", O_PATH)", errno))?;
        Self::verify(fd)
    }

    /// A descriptor of a directory that must be the root of a procfs; a tmpfs that was mounted over `/proc` to swallow
    /// or redirect writes is refused (CVE-2019-16884, CVE-2019-19921).
    pub fn verify(fd: OwnedFd) -> Result<Self> {
        let system = rustix::fs::fstatfs(&fd).map_err(|errno| Error::new("fstatfs(<proc>)", errno))?;
        let status = rustix::fs::fstat(&fd).map_err(|errno| Error::new("fstat(<proc>)", errno))?;
        if system.f_type != libc::PROC_SUPER_MAGIC as _ || status.st_ino != PROC_ROOT_INODE {
            return Err(Error::new("fstatfs(<proc>): not the root of a procfs", Errno::XDEV));
        }
        Ok(Self(fd))
    }

    /// Opens a file such as `sys/kernel/shmmax` or `self/attr/exec`.
    ///
    /// Nothing that is mounted over a part of it is entered (CVE-2025-52881).
    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let limits = Limits { no_links: false, no_mounts: true };
        beneath::open(self.0.as_fd(), path, flags, Mode::empty(), limits)
    }

    /// Writes a value in one write(2), as files of procfs want it.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        let file = self.open(path, OFlags::WRONLY)?;
        rustix::io::write(&file, value.as_bytes())
            .map(drop)
            .map_err(|errno| Error::new(format!("write(<proc>/{path}, {value:?})"), errno))
    }

    /// The descriptor.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether AppArmor is enabled in the kernel and its file system is there to load profiles.
#[must_use]
pub fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Whether SELinux is active: its file system is mounted and a policy is loaded.
#[must_use]
pub fn selinux_enabled() -> bool {
    rustix::fs::statfs(c"/sys/fs/selinux").is_ok_and(|status| status.f_type == libc::SELINUX_MAGIC as _)
        && std::fs::metadata("/sys/fs/selinux/policyvers").is_ok()
}

/// Lets the next execve(2) of the calling thread change to an AppArmor profile.
pub fn set_apparmor_profile(procfs: &Procfs, profile: &str) -> Result<()> {
    let value = format!("exec {profile}");
    let own = "thread-self/attr/apparmor/exec";
    // Before Linux 5.8 the modules shared one file. The write answers ENOENT too, for a profile that is not loaded.
    let shared = procfs.open(own, OFlags::WRONLY).is_err_and(|error| error.errno() == Errno::NOENT);
    procfs.write(if shared { "thread-self/attr/exec" } else { own }, &value)
}

/// Lets the next execve(2) of the calling thread change to a SELinux label.
pub fn set_selinux_label(procfs: &Procfs, label: &str) -> Result<()> {
    procfs.write("thread-self/attr/exec", label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_procfs_is_one() {
        let procfs = Procfs::of_the_host().unwrap();
        procfs.open("self/status", OFlags::RDONLY).unwrap();
        procfs.open("thread-self/comm", OFlags::WRONLY).unwrap();
        let other = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(Procfs::verify(other).unwrap_err().errno(), Errno::XDEV);
        let inner = rustix::fs::open("/proc/sys", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(Procfs::verify(inner).unwrap_err().errno(), Errno::XDEV);
    }
}
