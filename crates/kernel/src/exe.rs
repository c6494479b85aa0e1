//! Executing: execve(2), and re-executing this program so that a container cannot overwrite it (CVE-2019-5736).
//!
//! A process that ends up inside a container while its `/proc/PID/exe` is this program's file on the host lets the
//! container open that file, wait until nobody runs it, and write to it. So a process that is going to clone containers
//! is executed through [`sealed_self`] first.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::mount::{self, Attributes, Change};

/// This program's file in a form that cannot be written through.
#[derive(Debug)]
pub struct SealedProgram {
    file: OwnedFd,
    /// The mount that it was opened through.
    _tree: Option<OwnedFd>,
}

impl SealedProgram {
    /// The path by which to execute it, for as long as this value lives; `/proc/self/fd/N`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/self/fd/{}", raw(&self.file))
    }
}

impl AsFd for SealedProgram {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// This program's file to execute, through which, and through the `/proc/PID/exe`
/// of whatever it becomes, the file cannot be written.
///
/// It is the file seen through a read-only bind mount that is attached nowhere (Linux 5.12, `CAP_SYS_ADMIN`): the mount
/// leaves its temporary namespace when the value is dropped, so nobody can make it writable again, and the pages are shared
/// with the original. Five system calls, most of their time for the kernel to take the mount apart again: up to a millisecond,
/// as it waits for RCU. So the value is best dropped when what it was for is under way. Where that cannot be had it is a
/// sealed copy in memory (memfd_create(2)), which costs milliseconds and the size of the program. A process that runs from such a file already gets the same again.
/// A user who may not write the file gets it as it is: no container of theirs has more rights over it than they have.
pub fn sealed_self() -> Result<SealedProgram> {
    let file = match read_only_mount() {
        Ok((file, tree)) => return Ok(SealedProgram { file, _tree: Some(tree) }),
        Err(_) => match already_sealed()? {
            Some(fd) => fd,
            None if unwritable() => open_self()?,
            None => copy_in_memory()?,
        },
    };
    Ok(SealedProgram { file, _tree: None })
}

const SELF: &str = "/proc/self/exe";

fn read_only_mount() -> Result<(OwnedFd, OwnedFd)> {
    let tree = match mount::copy_path(SELF, false) {
        // The program was executed from a mount of another namespace than the present one.
        Err(error) if error.errno() == Errno::INVAL => by_name().ok_or(error)?,
        other => other?,
    };
    let change = Change { set: Attributes::MOUNT_ATTR_RDONLY, ..Change::default() };
    mount::change(tree.as_fd(), &change)?;
    // Opened through the mount, because the descriptor of the mount itself keeps it in its temporary namespace, where a
    // privileged process could still change it.
    let file = rustix::fs::openat(
        CWD,
        format!("/proc/self/fd/{}", raw(&tree)).as_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::new("open(<read-only mount of /proc/self/exe>, O_RDONLY)", errno))?;
    Ok((file, tree))
}

/// A copy of this mount namespace's mount of the file, found by its name and verified to be the same file: an ordinary
/// user's process has moved into a mount namespace of its own since it was executed.
fn by_name() -> Option<OwnedFd> {
    let name = rustix::fs::readlink(SELF, Vec::new()).ok()?;
    let tree = mount::copy_path(name.to_str().ok()?, false).ok()?;
    let (found, own) = (rustix::fs::fstat(&tree).ok()?, rustix::fs::stat(SELF).ok()?);
    ((found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)).then_some(tree)
}

fn raw(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}

/// The running program's file when it cannot be written: sealed in memory, or on a read-only mount that is in no mount
/// namespace (a copy of such a mount is refused with EINVAL, which is how one gets here).
fn already_sealed() -> Result<Option<OwnedFd>> {
    let fd = open_self()?;
    let sealed = rustix::fs::fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SEAL));
    if sealed {
        return Ok(Some(fd));
    }
    let status = rustix::fs::fstatvfs(&fd).map_err(|errno| Error::new("fstatvfs(\"/proc/self/exe\")", errno))?;
    let detached = matches!(mount::copy_path(SELF, false), Err(error) if error.errno() == Errno::INVAL);
    Ok((detached && status.f_flag.contains(StatVfsMountFlags::RDONLY)).then_some(fd))
}

fn open_self() -> Result<OwnedFd> {
    rustix::fs::openat(CWD, SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open(\"/proc/self/exe\", O_RDONLY)", errno))
}

/// By permission only: a file system that is read-only now may be writable later.
fn unwritable() -> bool {
    let result = rustix::fs::accessat(CWD, SELF, rustix::fs::Access::WRITE_OK, rustix::fs::AtFlags::empty());
    matches!(result, Err(Errno::ACCESS))
}

fn copy_in_memory() -> Result<OwnedFd> {
    let from = open_self()?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says what is meant to kernels that refuse otherwise (Linux 6.3, vm.memfd_noexec); older ones do not know it.
    let to = rustix::fs::memfd_create(c"dhow", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(c"dhow", flags))
        .map_err(|errno| Error::new("memfd_create(\"dhow\", MFD_CLOEXEC|MFD_ALLOW_SEALING)", errno))?;
    loop {
        match rustix::fs::sendfile(&to, &from, None, 1 << 30) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("sendfile(<memfd>, \"/proc/self/exe\")", errno)),
        }
    }
    rustix::fs::fcntl_add_seals(&to, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(|errno| Error::new("fcntl(<memfd>, F_ADD_SEALS)", errno))?;
    // Opened again, because the first descriptor is open for writing, and such a file cannot be executed (ETXTBSY).
    rustix::fs::openat(
        CWD,
        format!("/proc/self/fd/{}", raw(&to)).as_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::new("open(<memfd>, O_RDONLY)", errno))
}

/// Arguments or environment as execve(2) wants them, made before the last moment so that nothing can fail there.
#[derive(Debug)]
pub struct Strings {
    pointers: Vec<*const libc::c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    /// Copies the strings; a zero byte in one is an error (EINVAL).
    pub fn new<'a>(strings: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let owned = strings
            .into_iter()
            .map(|each| {
                CString::new(each).map_err(|_| Error::new(format!("execve(<argument {each:?}>)"), Errno::INVAL))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut pointers: Vec<_> = owned.iter().map(|each| each.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(Self { pointers, _owned: owned })
    }
}

/// The signals that this process ignores, as bits from 1 on (proc_pid_status(5), `SigIgn`); all where that cannot be read.
///
/// Read once, since asking for each takes a call each. Handlers need no look: execve(2) resets them.
#[must_use]
pub fn ignored_signals() -> u64 {
    let text = crate::small_file::read("/proc/self/status").unwrap_or_default();
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// Gives every signal of `ignored` its default effect and blocks none, as a new program expects it.
///
/// A Rust program ignores SIGPIPE, whoever started us may ignore any, and a monitor blocks what it reads from a signalfd;
/// execve(2) keeps all of that. By number and not by the C library, which keeps 32 and 33 to itself.
pub fn reset_signals(ignored: u64) {
    /// The kernel's `struct sigaction` of x86-64 and arm64: handler, flags, restorer, mask; all zero is the default.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in (1..=64).filter(|signal| ignored >> (signal - 1) & 1 == 1) {
        // SAFETY: the structure lives over the call and has the size that the last argument implies; the default action
        // needs no handler. SIGKILL and SIGSTOP answer EINVAL, which changes nothing.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
    // SAFETY: an empty set is a valid value of the type, made by sigemptyset before it is read.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Replaces the program (execve(2)). Returns only on failure.
pub fn execute(path: &CStr, arguments: &Strings, environment: &Strings) -> Result<Infallible, Errno> {
    // SAFETY: both arrays end in null and point to strings that end in zero and live in `Strings`.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::fcntl_getfl;

    fn reopened_for_writing(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
        rustix::fs::open(format!("/proc/self/fd/{}", raw(fd)), OFlags::WRONLY, Mode::empty())
    }

    #[test]
    fn the_sealed_program_cannot_be_opened_for_writing() {
        let SealedProgram { file: sealed, .. } = sealed_self().unwrap();
        assert!(matches!(reopened_for_writing(&sealed), Err(Errno::ROFS | Errno::TXTBSY)));
        let read_only = rustix::fs::fstatvfs(&sealed).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY);
        assert!(read_only || rustix::fs::fcntl_get_seals(&sealed).is_ok() || unwritable());
        assert!(!fcntl_getfl(&sealed).unwrap().intersects(OFlags::WRONLY | OFlags::RDWR));
        let copy = copy_in_memory().unwrap();
        let writable = reopened_for_writing(&copy).unwrap();
        assert_eq!(rustix::io::write(&writable, b"x").unwrap_err(), Errno::PERM);
    }
}
