//! Descriptors: which survive execve(2), and placing them at fixed numbers.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11 for this flag).
///
/// Before: one fcntl(2) for each number in `/proc/self/fd`; where that cannot be read either, the error says so.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: marking descriptors close-on-exec invalidates none of them.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    if result == 0 {
        return Ok(());
    }
    let errno = last_errno();
    if errno != Errno::NOSYS && errno != Errno::INVAL {
        return Err(Error::new(format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"), errno));
    }
    let entries = std::fs::read_dir("/proc/self/fd").map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Error::new("open(\"/proc/self/fd\")", errno)
    })?;
    for entry in entries.flatten() {
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            && number >= first
        {
            // SAFETY: F_SETFD takes no pointer; a number that was closed in the meantime gives EBADF, which is as good.
            unsafe { libc::fcntl(number.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on but these (close_range(2), Linux 5.9).
///
/// For a child that will only ever execute or end: values of this program that own one of the others are not to be used or
/// dropped any more, which holds for whatever the child has from its maker's memory.
pub fn close_all_but(first: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    let mut from = first;
    for end in kept.into_iter().map(Some).chain([None]) {
        let last = end.map_or(u32::MAX, |fd| fd.wrapping_sub(1));
        if end.is_none_or(|fd| from < fd) {
            close_between(from, last)?;
        }
        from = end.unwrap_or(u32::MAX).saturating_add(1);
    }
    Ok(())
}

fn close_between(first: u32, last: u32) -> Result<()> {
    // SAFETY: closing touches no memory; that nobody uses these descriptors any more is the contract of the only caller.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
    if result == 0 {
        return Ok(());
    }
    let errno = last_errno();
    if errno != Errno::NOSYS {
        return Err(Error::new(format!("close_range({first}, {last}, 0)"), errno));
    }
    // Before Linux 5.9. No table of open ones can be trusted here, so as far as numbers are ever given out to us.
    for number in first..=last.min(1023) {
        // SAFETY: as above; a number that is not open gives EBADF, which is as good.
        unsafe { libc::close(number.cast_signed()) };
    }
    Ok(())
}

/// Makes `from` the descriptor number `to`, not close-on-exec, closing what was there.
///
/// For the last step before execve(2) only: whatever in this program owned number `to` owns another file afterwards.
pub fn place(from: BorrowedFd<'_>, to: RawFd) -> Result<()> {
    let from = from.as_raw_fd();
    // SAFETY: no memory is passed. The caller is about to replace the program, so that no owner of `to` closes it later;
    // with equal numbers only the flag changes.
    let result = unsafe { if from == to { libc::fcntl(to, libc::F_SETFD, 0) } else { libc::dup3(from, to, 0) } };
    if result >= 0 { Ok(()) } else { Err(Error::new(format!("dup3({from}, {to}, 0)"), last_errno())) }
}

/// Lets a descriptor, by its number, survive execve(2).
pub fn keep_over_exec(number: RawFd) -> Result<()> {
    // SAFETY: no memory is passed; clearing the flag invalidates nothing.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if result == 0 { Ok(()) } else { Err(Error::new(format!("fcntl({number}, F_SETFD, 0)"), last_errno())) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
