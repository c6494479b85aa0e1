//! Questions over TCP: one connection of the container and, while a question is forwarded, one to an upstream server.
//!
//! Messages are preceded by their length in two bytes (RFC 1035, 4.2.2). Questions of one connection are answered one after
//! the other; the servers are tried one after the other.

use super::message;
use super::responder::Interest;
use super::zone::{self, Decision, Transport, Zone};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection on which nothing happens is closed.
const IDLE: Duration = Duration::from_secs(10);
/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes on their way in and out of one socket.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Side {
    fn new(stream: TcpStream) -> Side {
        Side { stream, input: Vec::new(), output: Vec::new() }
    }

    fn queue(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(&message[..usize::from(length)]);
    }

    /// The next whole message that came.
    fn take(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(self.input.get(..2)?.try_into().ok()?));
        let message = self.input.get(2..2 + length)?.to_vec();
        self.input.drain(..2 + length);
        Some(message)
    }

    /// Writes what is waiting. An error is the end of the connection.
    fn flush(&mut self) -> std::io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // NotConnected: the connection is still being made.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there, at most one message more than is being worked on. `false` at the end of the stream.
    fn fill(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.input.len() < usize::from(u16::MAX) + 2 {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A question at an upstream server.
#[derive(Debug)]
struct Asked {
    side: Side,
    query: message::Query,
    message: Vec<u8>,
    id: u16,
    /// Servers that have not been tried.
    rest: Vec<SocketAddr>,
    since: Instant,
}

/// See the head of the module.
#[derive(Debug)]
pub(super) struct Connection {
    client: Side,
    asked: Option<Asked>,
    last: Instant,
    ended: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> Connection {
        Connection { client: Side::new(stream), asked: None, last: now, ended: false }
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let client = Interest { read: self.asked.is_none() && !self.ended, write: !self.client.output.is_empty() };
        let upstream = self
            .asked
            .as_ref()
            .map(|asked| (asked.side.stream.as_fd(), Interest { read: true, write: !asked.side.output.is_empty() }));
        [(self.client.stream.as_fd(), client)].into_iter().chain(upstream)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.asked.as_ref().map_or(self.last + IDLE, |asked| asked.since + PATIENCE)
    }

    /// Does what can be done without waiting. `false` when the connection is over.
    pub(super) fn advance(&mut self, zone: &Zone, turn: &mut usize, now: Instant) -> bool {
        if self.asked.is_none() && !self.ended {
            match self.client.fill() {
                Ok(is_open) => self.ended = !is_open,
                Err(_) => return false,
            }
        }
        loop {
            if self.asked.is_some() && !self.advance_upstream(now) {
                break;
            }
            let Some(message) = self.client.take() else { break };
            self.last = now;
            *turn = turn.wrapping_add(1);
            match zone.decide(&message, Transport::Tcp, *turn) {
                Decision::Answer(bytes) => self.client.queue(&bytes),
                Decision::Ignore => return false,
                Decision::Forward(query) => {
                    let rest = zone.upstream.iter().rev().copied().collect();
                    self.ask_next(query, message, rest, now);
                }
            }
        }
        if self.client.flush().is_err() {
            return false;
        }
        let is_idle = self.asked.is_none() && (self.ended || now >= self.last + IDLE);
        !(is_idle && self.client.output.is_empty()) && now < self.last + IDLE * 3
    }

    /// Asks the next server; when there is none left, the question has failed.
    fn ask_next(&mut self, query: message::Query, message: Vec<u8>, mut rest: Vec<SocketAddr>, now: Instant) {
        while let Some(server) = rest.pop() {
            if let Ok(stream) = connect(server) {
                let id = super::forward::random_id();
                let mut side = Side::new(stream);
                side.queue(&message::with_id(&message, id));
                self.asked = Some(Asked { side, query, message, id, rest, since: now });
                return;
            }
        }
        self.client.queue(&zone::failure(&query));
    }

    /// `true` when the question at the upstream server is done with.
    fn advance_upstream(&mut self, now: Instant) -> bool {
        let Some(asked) = &mut self.asked else { return true };
        let is_open = asked.side.flush().and_then(|()| asked.side.fill());
        while let Some(answer) = asked.side.take() {
            let is_answer =
                message::Header::read(&answer).is_some_and(|header| header.response && header.id == asked.id);
            if is_answer && message::repeats(&answer, &asked.query.question) {
                self.client.queue(&message::with_id(&answer, asked.query.id));
                self.asked = None;
                self.last = now;
                return true;
            }
        }
        if matches!(is_open, Ok(true)) && now < asked.since + PATIENCE {
            return false;
        }
        if let Some(asked) = self.asked.take() {
            self.ask_next(asked.query, asked.message, asked.rest, now);
        }
        self.asked.is_none()
    }
}

/// Begins a connection without waiting for it.
fn connect(server: SocketAddr) -> Result<TcpStream, Errno> {
    let family = if server.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno),
    }
}
