//! UDP through a relay: for each client a socket that speaks for it, as long as something passes.

use super::{Listener, Token, plain, speak_for};
use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a client is remembered after its last datagram; Docker's proxy has the same.
const PATIENCE: Duration = Duration::from_secs(90);
/// Clients at once; the one that was silent for longest gives way.
const CLIENTS: usize = 1024;
/// Datagrams in one round.
const AT_ONCE: usize = 64;

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    all: HashMap<u32, Client>,
    /// By listener and address as it was received.
    numbers: HashMap<(usize, SocketAddr), u32>,
    /// Since when each was silent at least, the oldest first; those that have spoken since go to the end when it is looked.
    order: VecDeque<(Instant, u32)>,
    next: u32,
}

#[derive(Debug)]
struct Client {
    listener: usize,
    address: SocketAddr,
    socket: OwnedFd,
    seen: Instant,
}

impl Datagrams {
    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(since, _)| *since + PATIENCE)
    }

    /// Forgets who was silent for long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(since, number)) = self.order.front()
            && since + PATIENCE <= now
        {
            self.order.pop_front();
            match self.all.get(&number).map(|client| client.seen) {
                Some(seen) if seen + PATIENCE > now => self.order.push_back((seen, number)),
                Some(_) => self.forget(number),
                None => {}
            }
        }
    }

    fn forget(&mut self, number: u32) {
        if let Some(client) = self.all.remove(&number) {
            self.numbers.remove(&(client.listener, client.address));
        }
    }

    /// Passes on what has come to a listener. A datagram that cannot be passed on is lost, as datagrams may be.
    ///
    /// # Errors
    /// The kernel has no descriptor or memory for more clients.
    pub(super) fn forward(
        &mut self,
        index: usize,
        listeners: &[Listener],
        targets: &[IpAddr],
        epoll: &OwnedFd,
        buffer: &mut [u8],
        now: Instant,
    ) -> Result<(), Errno> {
        let Some(listener) = listeners.get(index) else { return Ok(()) };
        for _ in 0..AT_ONCE {
            let (length, address) = match rustix::net::recvfrom(&listener.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, address)) => (length, address),
                Err(Errno::AGAIN) => return Ok(()),
                // What an earlier answer of ours met (ICMP), or a signal.
                Err(_) => continue,
            };
            let Some(address) = address.and_then(|address| SocketAddr::try_from(address).ok()) else { continue };
            let number = match self.numbers.get(&(index, address)) {
                Some(number) => *number,
                None => match self.meet(index, listener, address, targets, epoll, now) {
                    Ok(number) => number,
                    Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => return Err(errno),
                    Err(_) => continue,
                },
            };
            if let Some(client) = self.all.get_mut(&number) {
                client.seen = now;
                rustix::net::send(&client.socket, &buffer[..length], SendFlags::NOSIGNAL).ok();
            }
        }
        Ok(())
    }

    fn meet(
        &mut self,
        index: usize,
        listener: &Listener,
        address: SocketAddr,
        targets: &[IpAddr],
        epoll: &OwnedFd,
        now: Instant,
    ) -> Result<u32, Errno> {
        if self.all.len() >= CLIENTS {
            let oldest = self.all.iter().min_by_key(|(_, client)| client.seen).map(|(number, _)| *number);
            oldest.into_iter().for_each(|number| self.forget(number));
        }
        let (socket, target) = speak_for(plain(address), targets, listener.port.container_port, SocketType::DGRAM)?;
        rustix::net::connect(&socket, &target)?;
        while self.all.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        epoll::add(epoll, &socket, Token::Datagrams(number).data(), EventFlags::IN)?;
        self.all.insert(number, Client { listener: index, address, socket, seen: now });
        self.numbers.insert((index, address), number);
        self.order.push_back((now, number));
        Ok(number)
    }

    /// Passes on what a container answers to a client.
    pub(super) fn back(&mut self, number: u32, listeners: &[Listener], buffer: &mut [u8], now: Instant) {
        let Some(client) = self.all.get_mut(&number) else { return };
        let Some(listener) = listeners.get(client.listener) else { return };
        for _ in 0..AT_ONCE {
            match rustix::net::recv(&client.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    client.seen = now;
                    rustix::net::sendto(&listener.socket, &buffer[..length], SendFlags::NOSIGNAL, &client.address).ok();
                }
                // Nobody listens in the container: reading takes the error away, and the client hears nothing.
                Err(Errno::CONNREFUSED | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}
