//! Options of netlink sockets that rustix does not have (netlink(7), `SOL_NETLINK`).
//!
//! Owns `setsockopt` at level `SOL_NETLINK` and nothing else: messages are the business of the crate `network`.

use rustix::fd::{AsFd, AsRawFd};
use rustix::io;

/// What can be switched on, with the kernel version that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetlinkOption {
    /// Linux 4.12, `NETLINK_EXT_ACK`: errors carry the kernel's own sentence.
    ExtendedAck,
    /// Linux 4.3, `NETLINK_CAP_ACK`: errors do not repeat the request.
    CapAck,
    /// Linux 4.20, `NETLINK_GET_STRICT_CHK`: the kernel filters dumps by the request's header.
    StrictCheck,
}

/// Switches an option on.
///
/// # Errors
/// `ENOPROTOOPT` where the kernel does not have the option, `ENOTSOCK` and `EBADF` for a wrong descriptor.
pub fn enable(socket: impl AsFd, option: NetlinkOption) -> io::Result<()> {
    let name = match option {
        NetlinkOption::ExtendedAck => libc::NETLINK_EXT_ACK,
        NetlinkOption::CapAck => libc::NETLINK_CAP_ACK,
        NetlinkOption::StrictCheck => libc::NETLINK_GET_STRICT_CHK,
    };
    set(socket, name, 1)
}

/// Joins a multicast group of the socket's protocol (`NETLINK_ADD_MEMBERSHIP`), for example `NFNLGRP_NFTABLES`.
///
/// # Errors
/// `EPERM` where the group needs a capability over the network namespace, `EINVAL` for an unknown group.
pub fn join(socket: impl AsFd, group: u32) -> io::Result<()> {
    set(socket, libc::NETLINK_ADD_MEMBERSHIP, group.cast_signed())
}

/// Leaves a group again (`NETLINK_DROP_MEMBERSHIP`); a socket that is not in it is left alone.
///
/// # Errors
/// `EINVAL` for an unknown group.
pub fn leave(socket: impl AsFd, group: u32) -> io::Result<()> {
    set(socket, libc::NETLINK_DROP_MEMBERSHIP, group.cast_signed())
}

fn set(socket: impl AsFd, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns; the descriptor is
    // borrowed for as long. The kernel reads one int for each of these options.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().raw_os_error().map_or(io::Errno::IO, io::Errno::from_raw_os_error))
}
