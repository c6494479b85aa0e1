//! Loading a system call filter (seccomp(2)).

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// One instruction of classic BPF, as `struct sock_filter` lies in memory (little or big endian as the machine is).
pub type Instruction = [u8; 8];

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: give a descriptor on which `SECCOMP_RET_USER_NOTIF` is answered (Linux 5.0).
pub const NEW_LISTENER: u32 = 1 << 3;

/// Loads a filter for the calling thread; with [`NEW_LISTENER`] among the flags it gives the listener.
///
/// Needs no_new_privs or `CAP_SYS_ADMIN` in the user namespace. The program is checked by the kernel: length 1 to 4096,
/// jumps forward only, every path ends in a return.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len())
        .map_err(|_| Error::new(format!("seccomp(<{} instructions>)", program.len()), Errno::TOOBIG))?;
    // `sock_filter` wants an alignment of 4, which bytes do not have.
    let aligned: Vec<libc::sock_filter> = program
        .iter()
        .map(|[a, b, jt, jf, k @ ..]| libc::sock_filter {
            code: u16::from_ne_bytes([*a, *b]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes(*k),
        })
        .collect();
    let filter = libc::sock_fprog { len: length, filter: aligned.as_ptr().cast_mut() };
    // SAFETY: `filter` points to `length` instructions that live over the call, and the kernel only reads them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if result < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        return Err(Error::new(
            format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, <{length} instructions>)"),
            errno,
        ));
    }
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the result is a new descriptor, close-on-exec, that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }))
}
