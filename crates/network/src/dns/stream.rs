//! Questions over TCP: one connection of the container and, while a question is forwarded, those to upstream servers.
//!
//! Messages are preceded by their length in two bytes (RFC 1035, 4.2.2). Questions of one connection are answered one after
//! the other. A server that is silent for a moment, or fails, does not keep the next one from being asked; the first answer counts.

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
/// How long a server is silent before the next one is asked, too.
const HEAD_START: Duration = Duration::from_millis(300);
/// When we give up; a resolver itself does after five seconds.
const END: Duration = Duration::from_millis(4500);

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

/// A question at upstream servers.
#[derive(Debug)]
struct Asked {
    query: message::Query,
    message: Vec<u8>,
    /// Those that have been asked and may still answer, with the number that the question has there.
    sides: Vec<(Side, u16)>,
    /// Servers that have not been tried, the next one last.
    rest: Vec<SocketAddr>,
    since: Instant,
    /// When the last one was asked.
    latest: Instant,
}

impl Asked {
    fn new(query: message::Query, message: Vec<u8>, rest: Vec<SocketAddr>, now: Instant) -> Asked {
        Asked { query, message, sides: Vec::new(), rest, since: now, latest: now }
    }

    /// Asks the next server that can be connected to, if there is one.
    fn ask_next(&mut self, now: Instant) {
        while let Some(server) = self.rest.pop() {
            if let Ok(stream) = connect(server) {
                let id = super::forward::random_id();
                let mut side = Side::new(stream);
                side.queue(&message::with_id(&self.message, id));
                self.sides.push((side, id));
                self.latest = now;
                return;
            }
        }
    }

    fn deadline(&self) -> Instant {
        let end = self.since + END;
        if self.rest.is_empty() { end } else { end.min(self.latest + HEAD_START) }
    }

    /// Goes on; what is to be said to the client, if there is an answer or none to be had.
    fn advance(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut answer = None;
        let query = &self.query;
        self.sides.retain_mut(|(side, id)| {
            let is_open = side.flush().and_then(|()| side.fill());
            while let Some(message) = side.take() {
                let is_answer =
                    message::Header::read(&message).is_some_and(|header| header.response && header.id == *id);
                if is_answer && message::repeats(&message, &query.question) {
                    answer.get_or_insert(message);
                }
            }
            matches!(is_open, Ok(true))
        });
        if let Some(answer) = answer {
            return Some(message::with_id(&answer, self.query.id));
        }
        if self.sides.is_empty() || now >= self.latest + HEAD_START {
            self.ask_next(now);
        }
        let is_over = self.sides.is_empty() || now >= self.since + END;
        is_over.then(|| zone::failure(&self.query))
    }
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
        let sides = self.asked.iter().flat_map(|asked| &asked.sides);
        let upstream =
            sides.map(|(side, _)| (side.stream.as_fd(), Interest { read: true, write: !side.output.is_empty() }));
        [(self.client.stream.as_fd(), client)].into_iter().chain(upstream)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.asked.as_ref().map_or(self.last + IDLE, Asked::deadline)
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
                    self.asked = Some(Asked::new(query, message, rest, now));
                }
            }
        }
        if self.client.flush().is_err() {
            return false;
        }
        let is_idle = self.asked.is_none() && (self.ended || now >= self.last + IDLE);
        !(is_idle && self.client.output.is_empty()) && now < self.last + IDLE * 3
    }

    /// `true` when the question at the upstream servers is done with.
    fn advance_upstream(&mut self, now: Instant) -> bool {
        let Some(asked) = &mut self.asked else { return true };
        let Some(answer) = asked.advance(now) else { return false };
        self.client.queue(&answer);
        self.asked = None;
        self.last = now;
        true
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
