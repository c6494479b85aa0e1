//! The sockets of the container's name server, for a poll loop: nothing here waits.
//!
//! The sockets are bound inside the container's network namespace to 127.0.0.11, to ports that the kernel chooses; a table
//! of the container's own namespace rewrites port 53 of that address to them and back. So a container can have a name server
//! of its own on port 53 of every address. The rewriting keeps no state: a container that never tracked connections does
//! not begin to because of us.
//!
//! Questions are forwarded from the namespace in which [`Responder::handle_ready`] is called, which is the host's: a server on
//! the host's loopback (systemd-resolved) is reachable.

use super::forward::Pending;
use super::stream::Connection;
use super::zone::{Decision, Transport, Zone};
use crate::error::{Error, failed_io, refused};
use crate::namespace;
use crate::nft::{self, Chain, Expression, Hook, IPV4, KEY, Load, Operator, Rule, Transaction, Verdict};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

/// The address that goes into `resolv.conf`, as Docker's.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "dhow_dns";
/// Questions under way to upstream servers; each costs as many sockets as there are servers.
const PENDING_MAX: usize = 64;
/// Connections over TCP.
const CONNECTIONS_MAX: usize = 16;
/// Datagrams that are worked on in one go.
const BURST: usize = 64;

/// What to wait for on a file descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// `POLLIN`.
    pub read: bool,
    /// `POLLOUT`.
    pub write: bool,
}

/// See the head of the module.
#[derive(Debug)]
pub struct Responder {
    zone: Zone,
    udp: UdpSocket,
    tcp: TcpListener,
    pending: Vec<Pending>,
    connections: Vec<Connection>,
    turn: usize,
}

impl Responder {
    /// Opens the sockets in the container's network namespace, whose loopback device must be up.
    ///
    /// # Errors
    /// `setns`, `bind` (`EADDRNOTAVAIL` when the loopback device is down) or the kernel's refusal of the table.
    pub fn open(netns: BorrowedFd<'_>, zone: Zone) -> Result<Responder, Error> {
        let (udp, tcp) = namespace::within(netns, sockets)??;
        Ok(Responder { zone, udp, tcp, pending: Vec::new(), connections: Vec::new(), turn: 0 })
    }

    /// Names have come or gone.
    pub fn set_zone(&mut self, zone: Zone) {
        self.zone = zone;
    }

    /// What to poll. Ask again after each [`Responder::handle_ready`].
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let read = Interest { read: true, write: false };
        let mut fds = vec![(self.udp.as_fd(), read), (self.tcp.as_fd(), read)];
        fds.extend(self.pending.iter().flat_map(Pending::fds).map(|fd| (fd, read)));
        fds.extend(self.connections.iter().flat_map(Connection::fds));
        fds
    }

    /// When [`Responder::handle_ready`] wants to be called even if nothing is ready; `None` for never.
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        let pending = self.pending.iter().map(Pending::deadline);
        let next = pending.chain(self.connections.iter().map(Connection::deadline)).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Does what can be done without waiting. What goes wrong with a question is that question's end, never ours: its asker
    /// asks again.
    pub fn handle_ready(&mut self, now: Instant) {
        self.read_datagrams(now);
        let mut index = 0;
        while index < self.pending.len() {
            match self.pending[index].advance(now) {
                Some(answer) => {
                    let done = self.pending.swap_remove(index);
                    self.reply(&answer, done.client);
                }
                None => index += 1,
            }
        }
        while self.connections.len() < CONNECTIONS_MAX
            && let Ok((stream, _)) = self.tcp.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(stream, now));
            }
        }
        let (zone, turn) = (&self.zone, &mut self.turn);
        self.connections.retain_mut(|connection| connection.advance(zone, turn, now));
    }

    fn read_datagrams(&mut self, now: Instant) {
        let mut buffer = [0; 4096];
        for _ in 0..BURST {
            let (length, client) = match self.udp.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            self.turn = self.turn.wrapping_add(1);
            match self.zone.decide(&buffer[..length], Transport::Udp, self.turn) {
                Decision::Answer(bytes) => self.reply(&bytes, client),
                Decision::Ignore => {}
                Decision::Forward(query) => {
                    if self.pending.len() >= PENDING_MAX {
                        // The oldest has had its time; whoever asked it asks again.
                        self.pending.remove(0);
                    }
                    let pending = Pending::send(query, &buffer[..length], client, &self.zone.upstream, now);
                    self.pending.push(pending);
                }
            }
        }
    }

    fn reply(&self, bytes: &[u8], client: SocketAddr) {
        // A full socket loses the answer as any network would.
        let _lost = self.udp.send_to(bytes, client);
    }
}

/// Binds both sockets and makes port 53 lead to them; for the container's namespace.
fn sockets() -> Result<(UdpSocket, TcpListener), Error> {
    let address = SocketAddr::from((ADDRESS, 0));
    let bind = |error: std::io::Error| failed_io(format!("bind({address})"), &error);
    let udp = UdpSocket::bind(address).map_err(bind)?;
    let tcp = TcpListener::bind(address).map_err(bind)?;
    let ports = (|| {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((udp.local_addr()?.port(), tcp.local_addr()?.port()))
    })();
    let (udp_port, tcp_port) =
        ports.map_err(|error: std::io::Error| failed_io(format!("getsockname({address})"), &error))?;
    let mut socket = nft::open()?;
    let fresh = rewriting(udp_port, tcp_port, false).commit(&mut socket, None);
    let result = match fresh {
        // Of a monitor before us.
        Err(failure) if failure.errno == Errno::EXIST => rewriting(udp_port, tcp_port, true).commit(&mut socket, None),
        other => other,
    };
    result.map_err(refused("nftables transaction(inet dhow_dns)"))?;
    Ok((udp, tcp))
}

/// The table that makes port 53 lead to these ports; `replace` removes the one that is there.
fn rewriting(udp_port: u16, tcp_port: u16, replace: bool) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    if replace {
        transaction.delete_table();
        transaction.add_table();
    } else {
        transaction.add_new_table();
    }
    let hook = Some(Hook { kind: "filter", number: 3, priority: -150 });
    transaction.add_chain(&Chain { name: "output".to_owned(), hook });
    // Protocol, its number and the place of its checksum.
    for (protocol, number, checksum, port) in [("udp", 17, 6, udp_port), ("tcp", 6, 16, tcp_port)] {
        transaction.add_rule(&rewrite(&format!("{protocol} questions to dhow"), number, checksum, (false, PORT), port));
        transaction.add_rule(&rewrite(&format!("{protocol} answers of dhow"), number, checksum, (true, port), PORT));
    }
    transaction
}

/// Rewrites the source or destination port where that end is [`ADDRESS`] and has the port in `from`.
fn rewrite(comment: &str, protocol: u8, checksum: u32, from: (bool, u16), port: u16) -> Rule {
    let (is_source, old) = from;
    let (address_offset, port_offset) = if is_source { (12, 0) } else { (16, 2) };
    let equal = |value: &[u8]| Expression::Compare(Operator::Equal, value.to_vec());
    Rule {
        chain: "output".to_owned(),
        comment: comment.to_owned(),
        expressions: vec![
            Expression::Load(Load::NetworkProtocol, KEY),
            equal(&[IPV4]),
            Expression::Load(Load::Network(address_offset, 4), KEY),
            equal(&ADDRESS.octets()),
            Expression::Load(Load::TransportProtocol, KEY),
            equal(&[protocol]),
            Expression::Load(Load::Transport(port_offset, 2), KEY),
            equal(&old.to_be_bytes()),
            Expression::Counter,
            Expression::Immediate(port.to_be_bytes().to_vec(), KEY),
            Expression::WriteTransport { offset: port_offset, length: 2, checksum },
            Expression::Verdict(Verdict::Accept),
        ],
    }
}
