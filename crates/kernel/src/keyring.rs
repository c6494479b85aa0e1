//! The session keyring (keyctl(2), session-keyring(7)): keys of the host must not be reachable from a container.

use std::ffi::CStr;

use rustix::io::Errno;

use crate::error::{Error, Result};

const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SETPERM: i32 = 5;
/// Possessor: everything; the owner may view, read and search, so that a second process of the container can join it.
const PERMISSIONS: u32 = 0x3f0b_0000;

/// Gives the calling process a session keyring of the given name, new or, when it may be searched, the existing one.
///
/// A kernel without key retention (ENOSYS) has nothing to protect, so that is no error. Over the quota of keys (EDQUOT)
/// is one.
pub fn join_session(name: &CStr) -> Result<()> {
    // SAFETY: the name is a string that ends in zero and lives over the call.
    let key = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if key < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        if errno == Errno::NOSYS {
            return Ok(());
        }
        return Err(Error::new(format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})"), errno));
    }
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, PERMISSIONS) };
    if result < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        return Err(Error::new(format!("keyctl(KEYCTL_SETPERM, {name:?}, {PERMISSIONS:#x})"), errno));
    }
    Ok(())
}
