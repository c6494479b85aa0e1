//! Who is at the other end of a Unix socket, as far as rustix does not tell.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// The most groups a process can have: `NGROUPS_MAX`, 65,536 since Linux 2.6.4.
const MOST: usize = 65_536;

/// The supplementary groups that the other side of a connected Unix socket had when it connected: `SO_PEERGROUPS`
/// (unix(7), Linux 4.13), as this user namespace numbers them.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.13, `ENODATA` for a socket that is not connected.
pub fn groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = u32::try_from(size_of_val(groups.as_slice())).unwrap_or(u32::MAX);
        // SAFETY: the buffer is ours, lives over the call, and `length` is its size in bytes.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        // The kernel has written how much room it needs.
        if errno != Errno::RANGE || needed <= groups.len() || needed > MOST {
            return Err(Error::new(format!("getsockopt({}, SO_PEERGROUPS)", socket.as_raw_fd()), errno));
        }
        groups = vec![0; needed];
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    #[test]
    fn of_ourselves() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut groups = super::groups(one.as_fd()).unwrap();
        let mut own: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }
}
