//! Descriptors that a program got from whoever started it and did not ask for.

use crate::error::{Error, Result};

/// Closes every descriptor from 3 on (close_range(2), Linux 5.9): for the first lines of a program that outlives the one
/// that started it, which may wait for the end of a pipe whose writing end it gave away without knowing.
///
/// To be called before anything is opened: whatever in this program owns a descriptor loses it.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close() -> Result<()> {
    close_from(3)
}

/// As [`close`], from the number `first` on: for a program that was told to hand some of them on.
///
/// # Errors
/// As [`close`].
pub fn close_from(first: u32) -> Result<()> {
    // SAFETY: closing touches no memory. That nothing here owns one of these descriptors yet is the caller's contract, and
    // std opens none before `main`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if result < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
        return Err(Error::new(format!("close_range({first}, ~0, 0)"), rustix::io::Errno::from_raw_os_error(errno)));
    }
    Ok(())
}
