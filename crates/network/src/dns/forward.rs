//! A question on its way to the upstream servers: to all of them at once, each from a socket of its own.
//!
//! Which answer counts: the first one that has something. That a name does not exist, or has no such data, counts when every
//! server that is preferred to the one that says so has failed or said the same, or has been silent for a while: the order
//! of the servers means something where they do not know the same names. An error counts when there is nothing else.

use super::message::{self, Header, Query, code};
use super::zone;
use rustix::fd::{AsFd, BorrowedFd};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long a "no" of a less preferred server waits for the preferred ones.
const DEFERENCE: Duration = Duration::from_millis(300);
/// When a server that is silent is asked again. A resolver itself gives up after five seconds.
const REPEATS: [Duration; 2] = [Duration::from_millis(800), Duration::from_millis(2000)];
/// When we give up.
const END: Duration = Duration::from_millis(4500);
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// Sixteen bits that nobody can guess: the standard library keys its hashes from the kernel's random numbers.
pub(super) fn random_id() -> u16 {
    (RandomState::new().build_hasher().finish() >> 24) as u16
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// No such name or no such data: the answer as it came, and when.
    No(Vec<u8>, Instant),
    /// Not reachable, or an error.
    Failed,
}

#[derive(Debug)]
struct Server {
    socket: Option<UdpSocket>,
    id: u16,
    said: Said,
}

/// See the head of the module.
#[derive(Debug)]
pub(super) struct Pending {
    /// The question.
    pub(super) query: Query,
    /// Who asked.
    pub(super) client: SocketAddr,
    message: Vec<u8>,
    servers: Vec<Server>,
    started: Instant,
    repeated: usize,
    error: Option<Vec<u8>>,
}

impl Pending {
    /// Sends the question to all servers, from the network namespace of the calling thread.
    pub(super) fn send(
        query: Query,
        message: &[u8],
        client: SocketAddr,
        upstream: &[SocketAddr],
        now: Instant,
    ) -> Pending {
        let servers = upstream
            .iter()
            .map(|address| {
                let id = random_id();
                let socket = connected(*address).ok();
                let sent = socket.as_ref().is_some_and(|socket| socket.send(&message::with_id(message, id)).is_ok());
                Server { socket: socket.filter(|_| sent), id, said: if sent { Said::Nothing } else { Said::Failed } }
            })
            .collect();
        Pending { query, client, message: message.to_vec(), servers, started: now, repeated: 0, error: None }
    }

    /// The sockets that an answer may come on.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.servers.iter().filter_map(|server| server.socket.as_ref()).map(AsFd::as_fd)
    }

    /// When [`Pending::advance`] wants to be called even if nothing came.
    pub(super) fn deadline(&self) -> Instant {
        let no = self.servers.iter().filter_map(|server| match &server.said {
            Said::No(_, when) => Some(*when + DEFERENCE),
            _ => None,
        });
        let repeat = REPEATS.get(self.repeated).map_or(END, |after| *after);
        no.chain([self.started + repeat]).min().unwrap_or(self.started + END)
    }

    /// Reads what came; the final answer with the asker's id, as soon as there is one.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Vec<u8>> {
        for index in 0..self.servers.len() {
            if let Some(answer) = self.read(index, now) {
                return Some(message::with_id(&answer, self.query.id));
            }
        }
        if let Some(answer) = self.agreed(now) {
            return Some(message::with_id(&answer, self.query.id));
        }
        let is_over = now >= self.started + END || self.servers.iter().all(|server| server.said == Said::Failed);
        if is_over {
            let error = self.error.take().unwrap_or_else(|| zone::failure(&self.query));
            return Some(message::with_id(&error, self.query.id));
        }
        if REPEATS.get(self.repeated).is_some_and(|after| now >= self.started + *after) {
            self.repeated += 1;
            for server in self.servers.iter().filter(|server| server.said == Said::Nothing) {
                if let Some(socket) = &server.socket {
                    // A datagram that cannot be sent is one that is lost.
                    let _lost = socket.send(&message::with_id(&self.message, server.id));
                }
            }
        }
        None
    }

    /// Reads one server's socket until it is empty; an answer that counts at once is returned.
    fn read(&mut self, index: usize, now: Instant) -> Option<Vec<u8>> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let server = &mut self.servers[index];
            let socket = server.socket.as_ref()?;
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => {
                    server.said = Said::Failed;
                    server.socket = None;
                    return None;
                }
            };
            let answer = &buffer[..length];
            let Some(header) = Header::read(answer) else { continue };
            if !header.response || header.id != server.id || !message::repeats(answer, &self.query.question) {
                continue;
            }
            server.socket = None;
            match header.code {
                code::NO_ERROR if header.answers > 0 || header.truncated => return Some(answer.to_vec()),
                code::NO_ERROR | code::NAME_ERROR => server.said = Said::No(answer.to_vec(), now),
                _ => {
                    server.said = Said::Failed;
                    self.error.get_or_insert_with(|| answer.to_vec());
                }
            }
            return None;
        }
    }

    /// The "no" that counts, if one does.
    fn agreed(&self, now: Instant) -> Option<Vec<u8>> {
        let mut preferred_is_silent = false;
        for server in &self.servers {
            match &server.said {
                Said::No(answer, when) if !preferred_is_silent || now >= *when + DEFERENCE => {
                    return Some(answer.clone());
                }
                Said::No(..) | Said::Failed => {}
                Said::Nothing => preferred_is_silent = true,
            }
        }
        None
    }
}

fn connected(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    Ok(socket)
}
