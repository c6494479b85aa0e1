//! TCP connections of a relay: two sockets each, and in each direction what the receiver has not taken yet.

use super::{Listener, Token, plain, speak_for};
use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Reads of one connection in one direction before others have their turn.
const TURNS: usize = 8;
/// Connections taken from one listener in one round.
const ACCEPTS: usize = 64;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Streams {
    all: HashMap<u32, Stream>,
    next: u32,
    /// Those that may have something to move, each once.
    awake: VecDeque<u32>,
}

/// A connection.
#[derive(Debug)]
struct Stream {
    client: OwnedFd,
    container: OwnedFd,
    /// connect(2) has not been answered yet.
    connecting: bool,
    awake: bool,
    /// From the client to the container.
    there: Direction,
    /// From the container to the client.
    back: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    waiting: Vec<u8>,
    /// Bytes of it that were taken.
    taken: usize,
    /// The sender sends no more.
    ended: bool,
    /// The receiver has been told so.
    told: bool,
}

/// What became of a direction.
enum Moved {
    /// Until something is reported for one of the sockets.
    Waits,
    /// There is more, but others have their turn.
    More,
}

impl Streams {
    /// Whether there is something to do though nothing is reported.
    pub(super) fn has_more(&self) -> bool {
        !self.awake.is_empty()
    }

    /// Takes what has come to a listener.
    ///
    /// # Errors
    /// The kernel has no descriptor, memory or port for more.
    pub(super) fn accept(&mut self, listener: &Listener, targets: &[IpAddr], epoll: &OwnedFd) -> Result<(), Errno> {
        for _ in 0..ACCEPTS {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (client, address) = match rustix::net::acceptfrom_with(&listener.socket, flags) {
                Ok(accepted) => accepted,
                Err(Errno::AGAIN) => return Ok(()),
                // A client that has gone already, and what accept(2) passes on of the network.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::NETDOWN | Errno::HOSTUNREACH) => continue,
                Err(errno) => return Err(errno),
            };
            let Some(address) = address.and_then(|address| SocketAddr::try_from(address).ok()) else { continue };
            match self.connect(&client, plain(address), listener.port.container_port, targets) {
                Ok((container, connecting)) => self.insert(client, container, connecting, epoll)?,
                Err(errno) => {
                    reset(&client);
                    if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
                        return Err(errno);
                    }
                }
            }
        }
        Ok(())
    }

    fn connect(
        &self,
        client: &OwnedFd,
        address: SocketAddr,
        port: u16,
        targets: &[IpAddr],
    ) -> Result<(OwnedFd, bool), Errno> {
        let (container, target) = speak_for(address, targets, port, SocketType::STREAM)?;
        for socket in [client, &container] {
            // What comes in small pieces is passed on so; the ends have their own opinion of how to send.
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        match rustix::net::connect(&container, &target) {
            Ok(()) => Ok((container, false)),
            Err(Errno::INPROGRESS) => Ok((container, true)),
            Err(errno) => Err(errno),
        }
    }

    fn insert(&mut self, client: OwnedFd, container: OwnedFd, connecting: bool, epoll: &OwnedFd) -> Result<(), Errno> {
        while self.all.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        // Reported once for each change: whoever is woken moves all there is.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &client, Token::Stream(number, false).data(), flags)?;
        epoll::add(epoll, &container, Token::Stream(number, true).data(), flags)?;
        let (there, back) = Default::default();
        self.all.insert(number, Stream { client, container, connecting, awake: false, there, back });
        Ok(())
    }

    /// Something was reported for a connection.
    pub(super) fn wake(&mut self, number: u32) {
        if let Some(stream) = self.all.get_mut(&number)
            && !stream.awake
        {
            stream.awake = true;
            self.awake.push_back(number);
        }
    }

    /// Moves what can be moved.
    pub(super) fn pump(&mut self, buffer: &mut [u8]) {
        for _ in 0..self.awake.len() {
            let Some(number) = self.awake.pop_front() else { return };
            let Some(stream) = self.all.get_mut(&number) else { continue };
            stream.awake = false;
            match stream.pump(buffer) {
                Ok(Moved::Waits) if stream.is_over() => drop(self.all.remove(&number)),
                Ok(Moved::Waits) => {}
                Ok(Moved::More) => self.wake(number),
                // Whoever is still there must not take what came for all there was to come.
                Err(_) => {
                    reset(&stream.client);
                    reset(&stream.container);
                    self.all.remove(&number);
                }
            }
        }
    }
}

impl Stream {
    fn pump(&mut self, buffer: &mut [u8]) -> Result<Moved, Errno> {
        if self.connecting {
            match rustix::net::getpeername(&self.container) {
                Ok(_) => self.connecting = false,
                Err(_) => {
                    sockopt::socket_error(&self.container)??;
                    // A client that gives up while the container does not answer.
                    sockopt::socket_error(&self.client)??;
                    return Ok(Moved::Waits);
                }
            }
        }
        let there = self.there.pump(&self.client, &self.container, buffer)?;
        let back = self.back.pump(&self.container, &self.client, buffer)?;
        Ok(if matches!((&there, &back), (Moved::Waits, Moved::Waits)) { Moved::Waits } else { Moved::More })
    }

    fn is_over(&self) -> bool {
        self.there.told && self.back.told
    }
}

impl Direction {
    fn pump(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> Result<Moved, Errno> {
        for _ in 0..TURNS {
            if !self.flush(to)? {
                return Ok(Moved::Waits);
            }
            if self.ended {
                if !self.told {
                    self.told = true;
                    match rustix::net::shutdown(to, Shutdown::Write) {
                        // The receiver has closed both ways already.
                        Ok(()) | Err(Errno::NOTCONN) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                return Ok(Moved::Waits);
            }
            match rustix::io::read(from, &mut *buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    let sent = send(to, &buffer[..length])?;
                    if sent < length {
                        self.waiting.extend_from_slice(&buffer[sent..length]);
                    }
                }
                Err(Errno::AGAIN) => return Ok(Moved::Waits),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Moved::More)
    }

    /// Whether nothing waits any more.
    fn flush(&mut self, to: &OwnedFd) -> Result<bool, Errno> {
        while self.taken < self.waiting.len() {
            match send(to, &self.waiting[self.taken..])? {
                0 => return Ok(false),
                sent => self.taken += sent,
            }
        }
        if !self.waiting.is_empty() {
            // A connection that waits for somebody slow once must not keep the memory for it.
            (self.waiting, self.taken) = (Vec::new(), 0);
        }
        Ok(true)
    }
}

/// How many bytes the receiver took; 0 when it takes none now.
fn send(to: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::send(to, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Lets the other side know by RST, when the socket is closed, that this was no orderly end.
fn reset(socket: &OwnedFd) {
    sockopt::set_socket_linger(socket, Some(Duration::ZERO)).ok();
}
