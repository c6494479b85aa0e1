//! Host ports that are published are taken: another program that wants one gets `EADDRINUSE`, and so do we for one that
//! another program has.
//!
//! The sockets are bound and nothing else. No connection ever reaches them: what is for them was translated before.

use crate::error::{Error, failed};
use crate::plan::{Protocol, PublishedPort};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use std::net::SocketAddr;

/// Takes the ports in the network namespace of the calling thread. They are free again when the descriptors are closed:
/// whoever keeps the container (its monitor) keeps them.
///
/// # Errors
/// `EADDRINUSE` for a port that another program has, `EACCES` below `net.ipv4.ip_unprivileged_port_start` without
/// privilege, `EADDRNOTAVAIL` for an address that this host does not have; the text names the port.
pub fn reserve(ports: &[PublishedPort]) -> Result<Vec<OwnedFd>, Error> {
    ports.iter().map(reserve_one).collect()
}

fn reserve_one(port: &PublishedPort) -> Result<OwnedFd, Error> {
    let attempt = |reuse| -> Result<OwnedFd, Errno> {
        let (kind, protocol) = match port.protocol {
            Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
            Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
            Protocol::Sctp => (SocketType::SEQPACKET, ipproto::SCTP),
        };
        let family = if port.host_ip.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
        if port.host_ip.is_ipv6() {
            // Its own number of 0.0.0.0 is another container's, perhaps.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if reuse {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &SocketAddr::new(port.host_ip, port.host_port))?;
        Ok(socket)
    };
    match attempt(false) {
        // Connections that ended a minute ago (TIME_WAIT) are no reason, a listening socket is. Not at once with reuse: that
        // would let others who ask for reuse in beside us.
        Err(Errno::ADDRINUSE) if port.protocol == Protocol::Tcp => attempt(true),
        other => other,
    }
    .map_err(|errno| {
        let address = SocketAddr::new(port.host_ip, port.host_port);
        failed(format!("bind({address}/{})", port.protocol.name()), errno)
    })
}
