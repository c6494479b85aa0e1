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

/// How much of what was written to a stream socket the other side has not taken yet, as the kernel accounts for it: 0 when it
/// has all of it. Of a socket of TCP: what has not been acknowledged (`SIOCOUTQ`, unix(7), tcp(7)).
pub fn not_taken(socket: BorrowedFd<'_>) -> Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to `bytes`, which lives until the call returns; the descriptor is open for as long as
    // the borrow lives.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        return Ok(bytes.unsigned_abs());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    Err(Error::new("ioctl(<socket>, SIOCOUTQ)", errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn what_the_other_side_has_not_taken() {
        let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(not_taken(ours.as_fd()).unwrap(), 0);
        ours.write_all(b"word").unwrap();
        assert!(not_taken(ours.as_fd()).unwrap() > 0);
        theirs.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(not_taken(ours.as_fd()).unwrap(), 0);
    }
}
