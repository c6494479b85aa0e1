//! A blocking netlink socket: sends requests and waits for every answer, acknowledgement and error.
//!
//! Several requests go out in one `sendto`; rtnetlink works through all of them even when one fails, nf_tables
//! applies all or none (`nft::transaction`).

use super::message::{Attributes, Message, Messages, Request, u32_at};
use super::{ACK, DUMP};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;

/// `NLMSG_ERROR`, an acknowledgement when its code is 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`, the end of a dump.
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the table changed while it was dumped.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLMSGERR_ATTR_MSG`, the kernel's own sentence.
const ERROR_MESSAGE: u16 = 1;
/// How often a dump that was interrupted is asked for again.
const DUMP_ATTEMPTS: usize = 16;
/// The kernel never makes a datagram larger than 32 KiB for a reader that offers as much (`netlink_dump`).
const BUFFER: usize = 32 << 10;
/// A datagram that every socket takes.
const ROOMY: usize = 64 << 10;

/// The netlink protocols that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `NETLINK_ROUTE`.
    Route,
    /// `NETLINK_NETFILTER`.
    Netfilter,
}

/// A request that the kernel refused, or the socket itself.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The kernel's errno.
    pub(crate) errno: Errno,
    /// The kernel's sentence, where it has one.
    pub(crate) message: Option<String>,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure { errno, message: None }
    }
}

/// See the head of the module.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread; it stays in it for good.
    pub(crate) fn open(family: Family) -> io::Result<Socket> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        kernel::netlink::enable(&fd, kernel::netlink::NetlinkOption::ExtendedAck)?;
        kernel::netlink::enable(&fd, kernel::netlink::NetlinkOption::CapAck)?;
        if family == Family::Route {
            kernel::netlink::enable(&fd, kernel::netlink::NetlinkOption::StrictCheck)?;
        }
        Ok(Socket { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends requests and waits until all are done. The first refusal is the error; the other requests were carried out
    /// nevertheless.
    pub(crate) fn execute(&mut self, requests: &mut [Request]) -> Result<(), Failure> {
        // The kernel works through them in order and always says what it refuses: one acknowledgement, of the last, is
        // enough to know that the others went well.
        let Some(last) = requests.last_mut() else { return Ok(()) };
        last.add_flags(ACK);
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for request in requests.iter_mut() {
            datagram.extend_from_slice(request.finish(self.next_sequence()));
        }
        self.send(&datagram)?;
        let mut failure = None;
        let mut is_done = false;
        while !is_done {
            self.receive(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != ERROR || index >= requests.len() {
                    return;
                }
                is_done |= index + 1 == requests.len();
                if let Err(refusal) = acknowledgement(message) {
                    failure.get_or_insert(refusal);
                }
            })?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Asks for one thing and hands out the answer (`kind`, payload).
    pub(crate) fn query(&mut self, request: &mut Request, mut each: impl FnMut(u16, &[u8])) -> Result<(), Failure> {
        let sequence = self.next_sequence();
        self.send(request.finish(sequence))?;
        let mut end = None;
        while end.is_none() {
            self.receive(|message| match message.kind {
                _ if message.sequence != sequence => {}
                ERROR => end = Some(acknowledgement(message)),
                kind => {
                    each(kind, message.payload);
                    end = Some(Ok(()));
                }
            })?;
        }
        end.unwrap_or(Ok(()))
    }

    /// Dumps a table: every entry as (`kind`, payload). A dump that the kernel marks as interrupted is thrown away
    /// and asked for again; `EINTR` when that does not help.
    pub(crate) fn dump(&mut self, request: &mut Request) -> Result<Vec<(u16, Vec<u8>)>, Failure> {
        request.add_flags(DUMP);
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            self.send(request.finish(sequence))?;
            let mut entries = Vec::new();
            let mut interrupted = false;
            let mut end = None;
            while end.is_none() {
                self.receive(|message| {
                    if message.sequence != sequence {
                        return;
                    }
                    interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                    match message.kind {
                        DONE | ERROR => end = Some(acknowledgement(message)),
                        kind => entries.push((kind, message.payload.to_vec())),
                    }
                })?;
            }
            match end {
                Some(Err(failure)) if failure.errno != Errno::INTR => return Err(failure),
                Some(Ok(())) if !interrupted => return Ok(entries),
                _ => {}
            }
        }
        Err(Errno::INTR.into())
    }

    /// Sends a datagram that carries its own sequence numbers (nf_tables' batches).
    pub(crate) fn send(&mut self, datagram: &[u8]) -> Result<(), Failure> {
        // The default of the kernel is 208 KiB, bookkeeping included; hundreds of networks at once are more.
        if datagram.len() > ROOMY {
            let size = datagram.len() * 2;
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, size)
                .or_else(|_| rustix::net::sockopt::set_socket_send_buffer_size(&self.fd, size))?;
        }
        loop {
            match rustix::net::send(&self.fd, datagram, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// A sequence number that no other request of this socket has.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Waits for one datagram and hands out its messages.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<(), Failure> {
        let length = self.datagram(RecvFlags::TRUNC)?;
        Messages(&self.buffer[..length]).for_each(&mut each);
        Ok(())
    }

    /// Joins a multicast group of the protocol.
    pub(crate) fn join(&self, group: u32) -> Result<(), Errno> {
        // A port number is wanted first: the kernel leaves out the sender of a change, who for changes of its own is 0, and
        // takes a socket without a number for it.
        rustix::net::bind(&self.fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        kernel::netlink::join(&self.fd, group)
    }

    /// Hands out the messages (`kind`, payload) of one datagram that is there; `EAGAIN` when there is none.
    pub(crate) fn try_receive(&mut self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Failure> {
        let length = self.datagram(RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
        Messages(&self.buffer[..length]).for_each(|message| each(message.kind, message.payload));
        Ok(())
    }

    /// Reads one datagram of the kernel into the buffer and returns its length.
    fn datagram(&mut self, flags: RecvFlags) -> Result<usize, Failure> {
        let length = loop {
            match rustix::net::recvfrom(&self.fd, &mut self.buffer[..], flags) {
                // Another process may send to our port number; only the kernel's is 0.
                Ok((_, _, sender)) if !from_kernel(sender.as_ref()) => {}
                Ok((_, length, _)) => break length,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        if length > self.buffer.len() { Err(Errno::MSGSIZE.into()) } else { Ok(length) }
    }
}

fn from_kernel(sender: Option<&rustix::net::SocketAddrAny>) -> bool {
    sender
        .and_then(|address| netlink::SocketAddrNetlink::try_from(address.clone()).ok())
        .is_some_and(|address| address.pid() == 0)
}

/// Reads `struct nlmsgerr` (with `NETLINK_CAP_ACK`: code, the request's header, then attributes) or the code in front
/// of `NLMSG_DONE`.
pub(crate) fn acknowledgement(message: Message<'_>) -> Result<(), Failure> {
    let code = u32_at(message.payload, 0).cast_signed();
    if code == 0 {
        return Ok(());
    }
    let attributes = if message.kind == ERROR { 20 } else { 4 };
    let text = Attributes(message.payload.get(attributes..).unwrap_or_default()).text(ERROR_MESSAGE);
    Err(Failure { errno: Errno::from_raw_os_error(code.saturating_neg()), message: text })
}
