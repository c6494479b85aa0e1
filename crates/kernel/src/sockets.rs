//! Options of sockets that rustix does not have (socket(7), ip(7)).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// `IPV6_TRANSPARENT` of `linux/in6.h`, which ipv6(7) leaves out.
const IPV6_TRANSPARENT: i32 = 75;

/// Lets a socket be bound to an address that this host does not have, and send from it. Needs `CAP_NET_ADMIN` over the
/// socket's network namespace (`IP_TRANSPARENT`, Linux 2.6.24; `IPV6_TRANSPARENT`, 2.6.37).
pub fn set_transparent(socket: BorrowedFd<'_>, ipv6: bool) -> Result<()> {
    let (level, option, name) = match ipv6 {
        false => (libc::SOL_IP, libc::IP_TRANSPARENT, "SOL_IP, IP_TRANSPARENT"),
        true => (libc::SOL_IPV6, IPV6_TRANSPARENT, "SOL_IPV6, IPV6_TRANSPARENT"),
    };
    set(socket, level, option, 1, name)
}

/// Marks what a socket sends (`SO_MARK`, Linux 2.6.25). Needs `CAP_NET_ADMIN` over the socket's network namespace.
pub fn set_mark(socket: BorrowedFd<'_>, mark: u32) -> Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed(), "SOL_SOCKET, SO_MARK")
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32, name: &str) -> Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which lives until the call returns; the descriptor is open for as
    // long as the borrow lives.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    Err(Error::new(format!("setsockopt(<socket>, {name}, {value})"), errno))
}
