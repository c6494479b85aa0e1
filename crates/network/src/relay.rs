//! Published ports where the host's packet filter is out of reach: an ordinary user's.
//!
//! The sockets that hold the ports were bound on the host. Whoever has this value (the container's monitor) is in the user's
//! own network namespace, accepts there what was sent to the host, and opens the second half of each connection in the
//! namespace, *with the client's address as its source*: a transparent socket (`IP_TRANSPARENT`), marked so that what the
//! container sends back is led here and not out to the world:
//!
//! ```text
//! client ──> host's port ── accept ──┐                 ┌── bound to the client's address, mark `RELAYED`
//!                                  (relay) ── connect ─┘──> bridge ──> container
//!                                     ▲                                   │ to the client's address
//!                                     └── lo <── rule: mark `ANSWER` <────┘ ct mark → mark (chain `answers`)
//! ```
//!
//! A client on the host's loopback has no address that a container could answer to: there the source is the bridge's.
//! The same holds for a client of the family that the container does not have.
//!
//! One thread, no waiting: an epoll(7) instance that is polled as one descriptor. Bytes are copied through one buffer.

mod datagrams;
mod streams;

use crate::error::{Error, failed, refused};
use crate::plan::Protocol;
use crate::{links, routes, sysctl};
use datagrams::Datagrams;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use streams::Streams;

/// The mark of the relay's own connections, in the packet and then in the connection.
pub(crate) const RELAYED: u32 = 0x6468_6f78;
/// The mark of what the container answers.
pub(crate) const ANSWER: u32 = 0x6468_6f79;
/// Index of the loopback device of every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// Bytes copied at once.
const BUFFER: usize = 128 << 10;
/// Descriptors reported at once, so that others have their turn.
const EVENTS: usize = 64;
/// How long a listener rests when no descriptor is left.
const REST: Duration = Duration::from_millis(100);

/// A port that is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayedPort {
    /// Which protocol; SCTP is not relayed.
    pub protocol: Protocol,
    /// The container's port.
    pub container_port: u16,
}

/// See the head of the module.
#[derive(Debug)]
pub struct Relay {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    targets: Vec<IpAddr>,
    streams: Streams,
    datagrams: Datagrams,
    buffer: Vec<u8>,
    /// Listeners rest until then.
    rest: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    port: RelayedPort,
}

/// What a descriptor in the epoll instance belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Listener(usize),
    /// The client's side (`false`) or the container's of a stream.
    Stream(u32, bool),
    Datagrams(u32),
}

impl Token {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Listener(index) => index as u64,
            Token::Stream(number, side) => 1 << 40 | u64::from(number) << 1 | u64::from(side),
            Token::Datagrams(number) => 2 << 40 | u64::from(number),
        })
    }

    fn of(data: epoll::EventData) -> Token {
        let value = data.u64();
        let number = (value & ((1 << 40) - 1)) as u32;
        match value >> 40 {
            0 => Token::Listener(number as usize),
            1 => Token::Stream((value >> 1 & u64::from(u32::MAX)) as u32, value & 1 == 1),
            _ => Token::Datagrams(number),
        }
    }
}

/// Prepares a network namespace that was just made for relays: loopback, and the way of [`ANSWER`]s. To be called inside.
///
/// # Errors
/// The kernel's refusal.
pub fn prepare_for_relays() -> Result<(), Error> {
    let mut socket = links::open()?;
    socket.execute(&mut [links::set_up(LOOPBACK)]).map_err(refused("RTM_SETLINK(lo up)"))?;
    for ipv6 in [false, true] {
        match socket.execute(&mut routes::for_this_host(ipv6, ANSWER, LOOPBACK)) {
            Ok(()) => {}
            // Without IPv6 in the kernel there is nothing to lead here; a rule that is there already is the same.
            Err(failure) if ipv6 || failure.errno == Errno::EXIST => {}
            Err(failure) => return Err(refused("RTM_NEWRULE(mark), RTM_NEWROUTE(local default)")(failure)),
        }
    }
    // Programs in containers may ping: the group of this namespace's root and all others.
    sysctl::set("net/ipv4/ping_group_range", "0 2147483647")
        .or_else(|_| sysctl::set("net/ipv4/ping_group_range", "0 0"))?;
    Ok(())
}

impl Relay {
    /// Begins to serve `ports`, each by the socket at the same position; `targets` are the container's addresses. To be
    /// called in the user's own network namespace.
    ///
    /// # Errors
    /// The kernel's refusal to listen.
    pub fn open(sockets: &[OwnedFd], ports: &[RelayedPort], targets: Vec<IpAddr>) -> Result<Relay, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| failed("epoll_create1(EPOLL_CLOEXEC)", errno))?;
        let mut listeners = Vec::with_capacity(ports.len());
        for (socket, port) in sockets.iter().zip(ports) {
            let what = || {
                format!("<socket of the published port that leads to {}/{}>", port.container_port, port.protocol.name())
            };
            let socket = socket
                .try_clone()
                .map_err(|error| crate::error::failed_io(format!("fcntl({}, F_DUPFD_CLOEXEC)", what()), &error))?;
            rustix::io::ioctl_fionbio(&socket, true)
                .map_err(|errno| failed(format!("ioctl({}, FIONBIO)", what()), errno))?;
            if port.protocol == Protocol::Tcp {
                rustix::net::listen(&socket, 4096)
                    .map_err(|errno| failed(format!("listen({}, 4096)", what()), errno))?;
            }
            epoll::add(&epoll, &socket, Token::Listener(listeners.len()).data(), epoll::EventFlags::IN)
                .map_err(|errno| failed(format!("epoll_ctl(EPOLL_CTL_ADD, {})", what()), errno))?;
            listeners.push(Listener { socket, port: *port });
        }
        Ok(Relay {
            epoll,
            listeners,
            targets,
            streams: Streams::default(),
            datagrams: Datagrams::default(),
            buffer: vec![0; BUFFER],
            rest: None,
        })
    }

    /// The container has other addresses from now on; connections that exist go on.
    pub fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.targets = targets;
    }

    /// How long [`Self::handle_ready`] may wait to be called if nothing is ready.
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.streams.has_more() {
            return Some(Duration::ZERO);
        }
        let times = [self.rest, self.datagrams.deadline()];
        times.into_iter().flatten().min().map(|time| time.saturating_duration_since(now))
    }

    /// Moves what can be moved without waiting.
    pub fn handle_ready(&mut self, now: Instant) {
        if self.rest.is_some_and(|time| now >= time) {
            self.rest = None;
            self.listen(epoll::EventFlags::IN);
        }
        let mut events = Vec::with_capacity(EVENTS);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only for want of memory; then it is asked again in the next round.
        epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&at_once)).ok();
        for event in events {
            match Token::of(event.data) {
                Token::Listener(index) => self.arrive(index, now),
                Token::Stream(number, _) => self.streams.wake(number),
                Token::Datagrams(number) => self.datagrams.back(number, &self.listeners, &mut self.buffer, now),
            }
        }
        self.streams.pump(&mut self.buffer);
        self.datagrams.expire(now);
    }

    fn arrive(&mut self, index: usize, now: Instant) {
        let Some(listener) = self.listeners.get(index) else { return };
        let arrived = match listener.port.protocol {
            Protocol::Udp => {
                self.datagrams.forward(index, &self.listeners, &self.targets, &self.epoll, &mut self.buffer, now)
            }
            _ => self.streams.accept(listener, &self.targets, &self.epoll),
        };
        // No descriptor or no memory left: it would be reported again at once.
        if arrived.is_err() {
            self.rest = Some(now + REST);
            self.listen(epoll::EventFlags::empty());
        }
    }

    fn listen(&self, flags: epoll::EventFlags) {
        for (index, listener) in self.listeners.iter().enumerate() {
            // It is in the instance since the beginning.
            epoll::modify(&self.epoll, &listener.socket, Token::Listener(index).data(), flags).ok();
        }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// An address as its family has it: an IPv4 client of a socket for both families is an IPv4 client.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A socket in the calling thread's namespace, not connected yet, that speaks for the client where that can be; and the
/// address to connect to.
fn speak_for(
    client: SocketAddr,
    targets: &[IpAddr],
    port: u16,
    kind: SocketType,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let same = targets.iter().find(|target| target.is_ipv6() == client.is_ipv6());
    let target = *same.or(targets.first()).ok_or(Errno::HOSTUNREACH)?;
    let family = if target.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    let ip = client.ip();
    // A link-local client is of a link that the container does not have.
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if same.is_some() && !ip.is_loopback() && !ip.is_unspecified() && !is_link_local {
        let speak = || -> Result<(), Errno> {
            kernel::sockets::set_transparent(socket.as_fd(), client.is_ipv6()).map_err(|error| error.errno())?;
            kernel::sockets::set_mark(socket.as_fd(), RELAYED).map_err(|error| error.errno())?;
            // The same client may have a connection to another published port by the same port of its own.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &client)
        };
        speak()?;
    }
    Ok((socket, SocketAddr::new(target, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for token in [
            Token::Listener(0),
            Token::Listener(849),
            Token::Stream(7, true),
            Token::Stream(u32::MAX, false),
            Token::Datagrams(3),
        ] {
            assert_eq!(Token::of(token.data()), token);
        }
    }
}
