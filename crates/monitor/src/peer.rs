//! One connection, seen from the monitor: what it still has to read, and what it has not taken yet.
//!
//! Nothing here blocks. What a peer does not take is kept; how much may be kept is decided by whoever stops reading the
//! source (see [`crate::wire`], "Slow readers").

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::error::Error;
use crate::wire::{Attach, Frame, HEADER, MESSAGE_LIMIT, Reply, Request, Size};

/// What a connection is doing.
#[derive(Debug)]
pub(crate) enum Role {
    /// Its request has not come completely.
    Asking,
    /// Joined to the streams of a session.
    Attached { session: u32, attach: Attach },
    /// Wants to hear when a session ends.
    Waiting { session: u32 },
    /// Wants to hear when the container has been started again.
    Restarting,
    /// Nothing more will be sent to it than what is kept; then it is closed.
    Leaving,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: OwnedFd,
    pub(crate) role: Role,
    inbox: Vec<u8>,
    pub(crate) frames: FrameReader,
    backlog: Vec<u8>,
    sent: usize,
    /// Since when it has taken nothing although something is kept.
    stalled_since: Option<Instant>,
    /// The other side sends nothing more.
    pub(crate) read_closed: bool,
    /// The other side has left.
    pub(crate) gone: bool,
}

impl Peer {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            role: Role::Asking,
            inbox: Vec::new(),
            frames: FrameReader::default(),
            backlog: Vec::new(),
            sent: 0,
            stalled_since: None,
            read_closed: false,
            gone: false,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Bytes that are kept because the peer has not taken them.
    pub(crate) fn kept(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// What to poll for; hang-up is always reported.
    pub(crate) fn interest(&self, may_send_input: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if !self.read_closed && may_send_input {
            flags |= PollFlags::IN;
        }
        if self.kept() > 0 {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// When this peer's patience ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Role::Attached { attach: Attach { patience_seconds: Some(seconds), .. }, .. } = self.role else {
            return None;
        };
        Some(self.stalled_since? + Duration::from_secs(seconds.into()))
    }

    /// Reads what is there. `None`: nothing now. An empty slice: it sends nothing more.
    pub(crate) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.read_closed = true;
                Some(&[])
            }
            Ok((n, _)) => Some(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => {
                self.gone = true;
                None
            }
        }
    }

    /// Adds bytes of the request. Returns it when it is complete, with the bytes that follow it.
    pub(crate) fn take_request(&mut self, data: &[u8]) -> Result<Option<(Request, Vec<u8>)>, Error> {
        self.inbox.extend_from_slice(data);
        let Some((length, rest)) = self.inbox.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_LIMIT {
            return Err(Error::Protocol(format!("request of {length} bytes, more than {MESSAGE_LIMIT}")));
        }
        let Some((json, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let request =
            serde_json::from_slice(json).map_err(|source| Error::Json { what: "read request".to_owned(), source })?;
        let rest = rest.to_vec();
        self.inbox = Vec::new();
        Ok(Some((request, rest)))
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        // Our own reply always becomes JSON; a peer that gets none sees the connection close.
        let Ok(json) = serde_json::to_vec(reply) else {
            self.gone = true;
            return;
        };
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.send(&length, &json);
    }

    pub(crate) fn frame(&mut self, kind: Frame, payload: &[u8]) {
        self.send(&kind.header(payload.len()), payload);
    }

    /// Sends as much as the socket takes now and keeps the rest.
    fn send(&mut self, head: &[u8], body: &[u8]) {
        if self.gone {
            return;
        }
        let mut sent = 0;
        if self.kept() == 0 {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(&self.socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(n) => sent = n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        if sent < head.len() + body.len() {
            self.stalled_since.get_or_insert_with(Instant::now);
            self.backlog.extend_from_slice(&head[sent.min(head.len())..]);
            self.backlog.extend_from_slice(&body[sent.saturating_sub(head.len())..]);
        }
    }

    /// Sends more of what is kept.
    pub(crate) fn flush(&mut self) {
        while self.kept() > 0 && !self.gone {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &self.backlog[self.sent..], flags) {
                Ok(n) => {
                    self.sent += n;
                    self.stalled_since = Some(Instant::now());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.gone = true,
            }
        }
        // A stalled client costs memory only while it is stalled.
        (self.backlog, self.sent, self.stalled_since) = (Vec::new(), 0, None);
    }
}

/// Takes frames of a client apart, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    header: [u8; HEADER],
    have: usize,
    payload: [u8; 4],
    payload_have: usize,
    left: usize,
}

/// A part of what a client sends while it is attached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Input, as much of it as has come.
    Stdin(&'a [u8]),
    Resize(Size),
    CloseStdin,
    Detach,
}

impl FrameReader {
    /// Takes the next piece off `data`; `None` when `data` is used up.
    pub(crate) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Error> {
        loop {
            if self.have < HEADER {
                let n = data.len().min(HEADER - self.have);
                self.header[self.have..self.have + n].copy_from_slice(&data[..n]);
                self.have += n;
                *data = &data[n..];
                if self.have < HEADER {
                    return Ok(None);
                }
                (_, self.left) = Frame::parse(self.header)?;
                self.payload_have = 0;
            }
            let (kind, _) = Frame::parse(self.header)?;
            let n = data.len().min(self.left);
            let (part, rest) = data.split_at(n);
            (*data, self.left) = (rest, self.left - n);
            if self.left == 0 {
                self.have = 0;
            }
            match kind {
                Frame::Stdin if !part.is_empty() => return Ok(Some(Piece::Stdin(part))),
                Frame::Stdin if self.left == 0 => {}
                Frame::Resize => {
                    for &byte in part.iter().take(4 - self.payload_have) {
                        self.payload[self.payload_have] = byte;
                        self.payload_have += 1;
                    }
                    if self.left == 0 && self.payload_have == 4 {
                        return Ok(Some(Piece::Resize(Size::from_bytes(self.payload))));
                    }
                }
                Frame::CloseStdin if self.left == 0 => return Ok(Some(Piece::CloseStdin)),
                Frame::Detach if self.left == 0 => return Ok(Some(Piece::Detach)),
                Frame::Stdin | Frame::CloseStdin | Frame::Detach => {}
                Frame::Stdout | Frame::Stderr | Frame::Exit | Frame::Error => {
                    return Err(Error::Protocol(format!("a client may not send frames of kind {}", kind as u8)));
                }
            }
            if self.left > 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_the_same_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (kind, payload) in [
            (Frame::Stdin, &b"hello"[..]),
            (Frame::Resize, &[0, 24, 0, 80]),
            (Frame::Stdin, b""),
            (Frame::Stdin, b" world"),
            (Frame::CloseStdin, b""),
            (Frame::Detach, b""),
        ] {
            bytes.extend(kind.header(payload.len()));
            bytes.extend(payload);
        }
        for cut in 1..bytes.len() {
            let mut reader = FrameReader::default();
            let (mut input, mut others) = (Vec::new(), Vec::new());
            for mut chunk in bytes.chunks(cut) {
                while let Some(piece) = reader.next(&mut chunk).unwrap() {
                    match piece {
                        Piece::Stdin(part) => input.extend_from_slice(part),
                        Piece::Resize(size) => others.push(format!("{size:?}")),
                        Piece::CloseStdin => others.push("close".to_owned()),
                        Piece::Detach => others.push("detach".to_owned()),
                    }
                }
            }
            assert_eq!(input, b"hello world");
            assert_eq!(others, ["Size { rows: 24, columns: 80 }", "close", "detach"], "cut {cut}");
        }
    }

    #[test]
    fn a_client_that_sends_output_is_refused() {
        let mut reader = FrameReader::default();
        assert!(reader.next(&mut &Frame::Stdout.header(3)[..]).is_err());
    }
}
