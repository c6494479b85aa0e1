//! Host ports that are published are taken: another program that wants one gets `EADDRINUSE`, and so do we for one that
//! another program has.
//!
//! The sockets are bound and nothing else. No connection ever reaches them: what is for them was translated before.

use crate::error::{Error, failed};
use crate::plan::{Protocol, PublishedPort};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Takes the ports in the network namespace of the calling thread. They are free again when the descriptors are closed:
/// whoever keeps the container (its monitor) keeps them.
///
/// # Errors
/// As [`hold`].
pub fn reserve(ports: &[PublishedPort]) -> Result<Vec<OwnedFd>, Error> {
    ports.iter().map(|port| hold(port.protocol, Some(port.host_ip), port.host_port).map(|(socket, _)| socket)).collect()
}

/// Takes one port; 0 lets the kernel choose one (`net.ipv4.ip_local_port_range`). Without an address it is taken on every
/// address of both families by one socket. Returns the socket and the port.
///
/// # Errors
/// `EADDRINUSE` for a port that another program has, `EACCES` below `net.ipv4.ip_unprivileged_port_start` without
/// privilege, `EADDRNOTAVAIL` for an address that this host does not have, `EPROTONOSUPPORT` for SCTP where the kernel
/// lacks it; the text names the port.
pub fn hold(protocol: Protocol, address: Option<IpAddr>, port: u16) -> Result<(OwnedFd, u16), Error> {
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let held = match address {
        Some(address) => hold_one(protocol, address, true, port),
        None => match hold_one(protocol, both, false, port) {
            // A kernel without IPv6, or with it disabled.
            Err(error) if matches!(error.errno(), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => {
                hold_one(protocol, IpAddr::V4(Ipv4Addr::UNSPECIFIED), true, port)
            }
            other => other,
        },
    }?;
    if port != 0 {
        return Ok((held, port));
    }
    let bound = rustix::net::getsockname(&held).map_err(|errno| failed("getsockname(<published port>)", errno))?;
    let number = SocketAddr::try_from(bound).map_or(port, |address| address.port());
    Ok((held, number))
}

fn hold_one(protocol: Protocol, address: IpAddr, only: bool, port: u16) -> Result<OwnedFd, Error> {
    let attempt = |reuse| -> Result<OwnedFd, Errno> {
        let (kind, number) = match protocol {
            Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
            Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
            Protocol::Sctp => (SocketType::SEQPACKET, ipproto::SCTP),
        };
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
        if address.is_ipv6() {
            // Alone, the same number of 0.0.0.0 is another container's, perhaps.
            sockopt::set_ipv6_v6only(&socket, only)?;
        }
        if reuse {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &SocketAddr::new(address, port))?;
        Ok(socket)
    };
    match attempt(false) {
        // Connections that ended a minute ago (TIME_WAIT) are no reason, a listening socket is. Not at once with reuse: that
        // would let others who ask for reuse in beside us.
        Err(Errno::ADDRINUSE) if protocol == Protocol::Tcp => attempt(true),
        other => other,
    }
    .map_err(|errno| failed(format!("bind({}/{})", SocketAddr::new(address, port), protocol.name()), errno))
}
