//! Websockets (RFC 6455), as far as an attached stream needs them: a socket whose bytes travel in frames.

use crate::failure::Failure;
use crate::old_style::Socket;
use base64::Engine as _;
use bytes::{Buf, BytesMut};
use hyper::HeaderMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Section 1.3: what a server appends to a client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The value of `Sec-WebSocket-Accept`.
///
/// # Errors
/// 400 for a request that opens no websocket.
pub fn accept(headers: &HeaderMap) -> Result<String, Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !text("upgrade").eq_ignore_ascii_case("websocket") {
        return Err(Failure::bad("this path is for websockets: the header Upgrade does not say so"));
    }
    if text("sec-websocket-version") != "13" {
        return Err(Failure::bad("only version 13 of the websocket protocol is known"));
    }
    let key = text("sec-websocket-key").trim();
    let decoded = base64::engine::general_purpose::STANDARD.decode(key);
    if !decoded.is_ok_and(|bytes| bytes.len() == 16) {
        return Err(Failure::bad("the header Sec-WebSocket-Key is no base64 of 16 bytes"));
    }
    Ok(base64::engine::general_purpose::STANDARD.encode(sha1(format!("{key}{GUID}").as_bytes())))
}

/// SHA-1 (RFC 3174), which the handshake prescribes; it protects nothing here.
fn sha1(data: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut message = data.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(data.len() as u64 * 8).to_be_bytes());
    for block in message.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |all, byte| (all << 8) | u32::from(*byte));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (value, added) in state.iter_mut().zip([a, b, c, d, e]) {
            *value = value.wrapping_add(added);
        }
    }
    let mut digest = [0; 20];
    for (bytes, value) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
    digest
}

/// The header of a frame that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    kind: u8,
    length: u64,
    mask: [u8; 4],
    /// Bytes that the header itself takes.
    size: usize,
}

/// Longest payload of a frame that only controls, in bytes (section 5.5).
const CONTROL: u64 = 125;

/// Reads a header; `None` when there is too little.
fn header(bytes: &[u8]) -> io::Result<Option<Header>> {
    let broken = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("websocket: {why}"));
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(broken("a frame of an extension that was not agreed on"));
    }
    if second & 0x80 == 0 {
        // Section 5.1: a client's frames are masked, so that nobody takes them for something else.
        return Err(broken("a client's frame without a mask"));
    }
    let kind = first & 0x0f;
    if !matches!(kind, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(broken("a frame of an unknown kind"));
    }
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let size = 2 + extended + 4;
    let Some(all) = bytes.get(..size) else { return Ok(None) };
    let length = match extended {
        0 => u64::from(second & 0x7f),
        _ => all[2..2 + extended].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
    };
    if kind >= CLOSE && (length > CONTROL || first & 0x80 == 0) {
        return Err(broken("a frame that only controls is long or in pieces"));
    }
    let mask = [all[size - 4], all[size - 3], all[size - 2], all[size - 1]];
    Ok(Some(Header { kind, length, mask, size }))
}

fn put_frame(kind: u8, payload: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(&[0x80 | kind]);
    match payload.len() {
        length @ 0..126 => out.extend_from_slice(&[length as u8]),
        length @ 126..65_536 => {
            out.extend_from_slice(&[126]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.extend_from_slice(&[127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// A payload that is being read.
#[derive(Debug)]
struct Payload {
    header: Header,
    taken: u64,
}

/// A socket whose bytes travel in frames.
#[derive(Debug)]
pub struct WebSocket {
    socket: Socket,
    /// Read, not taken apart yet.
    incoming: BytesMut,
    current: Option<Payload>,
    /// Framed, not written yet.
    outgoing: BytesMut,
    /// Binary frames; text before 1.28.
    kind: u8,
    ended: bool,
    closing: bool,
}

/// Bytes that are read at once, and that may wait to be written.
const CHUNK: usize = 16 << 10;

impl WebSocket {
    /// Goes on where the handshake ended; `ahead` came with it.
    pub fn new(socket: Socket, ahead: &[u8], binary: bool) -> WebSocket {
        let kind = if binary { BINARY } else { TEXT };
        let (incoming, outgoing) = (BytesMut::from(ahead), BytesMut::new());
        WebSocket { socket, incoming, current: None, outgoing, kind, ended: false, closing: false }
    }

    /// Writes what waits.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let n = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.outgoing))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes payload out of what has come. False when there is nothing to take.
    fn take(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        loop {
            if self.current.is_none() {
                let Some(header) = header(&self.incoming)? else { return Ok(false) };
                self.incoming.advance(header.size);
                self.current = Some(Payload { header, taken: 0 });
            }
            let Some(payload) = &mut self.current else { return Ok(false) };
            let Header { kind, length, mask, .. } = payload.header;
            if kind >= CLOSE {
                if (self.incoming.len() as u64) < length {
                    return Ok(false);
                }
                let mut content = self.incoming.split_to(length as usize);
                unmask(&mut content, mask, 0);
                self.current = None;
                match kind {
                    // Pings that are never read are not answered without end.
                    PING if self.outgoing.len() < CHUNK => put_frame(PONG, &content, &mut self.outgoing),
                    CLOSE => {
                        self.ended = true;
                        return Ok(true);
                    }
                    _ => {}
                }
                continue;
            }
            let left = length - payload.taken;
            if left == 0 {
                self.current = None;
                continue;
            }
            if self.incoming.is_empty() {
                return Ok(false);
            }
            let count = self.incoming.len().min(buf.remaining()).min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut part = self.incoming.split_to(count);
            unmask(&mut part, mask, payload.taken);
            payload.taken += count as u64;
            buf.put_slice(&part);
            return Ok(true);
        }
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    for (offset, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[(at as usize).wrapping_add(offset) & 3];
    }
}

impl AsFd for WebSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        loop {
            if own.ended || own.take(buf)? {
                return Poll::Ready(Ok(()));
            }
            // Answers to pings go out as soon as they can; a client that does not take them gets no more.
            if let Poll::Ready(Err(error)) = own.poll_out(cx) {
                return Poll::Ready(Err(error));
            }
            let mut space = [std::mem::MaybeUninit::uninit(); CHUNK];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut own.socket).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                own.ended = true;
            }
            own.incoming.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        ready!(own.poll_out(cx))?;
        let part = &buf[..buf.len().min(CHUNK)];
        put_frame(own.kind, part, &mut own.outgoing);
        if let Poll::Ready(Err(error)) = own.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        ready!(own.poll_out(cx))?;
        Pin::new(&mut own.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        if !own.closing {
            own.closing = true;
            // 1000: all is well (section 7.4.1).
            put_frame(CLOSE, &1000_u16.to_be_bytes(), &mut own.outgoing);
        }
        ready!(own.poll_out(cx))?;
        Pin::new(&mut own.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_standard() {
        let headers = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("upgrade", "WebSocket".parse().unwrap());
            headers.insert("sec-websocket-version", "13".parse().unwrap());
            headers.insert("sec-websocket-key", key.parse().unwrap());
            headers
        };
        // Section 1.3.
        assert_eq!(accept(&headers("dGhlIHNhbXBsZSBub25jZQ==")).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept(&headers("short")).is_err() && accept(&HeaderMap::new()).is_err());
        assert_eq!(sha1(b"abc")[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(sha1(b"")[..4], [0xda, 0x39, 0xa3, 0xee]);
    }

    #[test]
    fn headers() {
        for (bytes, wanted) in [
            (&[0x81][..], None),
            (&[0x81, 0x85, 1, 2, 3], None),
            (&[0x81, 0x85, 1, 2, 3, 4], Some((TEXT, 5, 6))),
            (&[0x82, 0xfe, 1, 0, 1, 2, 3, 4], Some((BINARY, 256, 8))),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], Some((BINARY, 65_536, 14))),
        ] {
            let found = header(bytes).unwrap().map(|header| (header.kind, header.length, header.size));
            assert_eq!(found, wanted, "{bytes:?}");
        }
        for bad in [
            &[0x81, 5, 1, 2, 3, 4][..],
            &[0xc1, 0x85, 1, 2, 3, 4],
            &[0x83, 0x80, 1, 2, 3, 4],
            &[0x09, 0x80, 1, 2, 3, 4],
            &[0x89, 0xfe, 1, 0, 1, 2, 3, 4],
        ] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn both_ways() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        // A ping, "he" and "llo" in two frames, the first of which came with the request.
        let mut web = WebSocket::new(ours.into(), &[0x89, 0x81, 0, 0, 0, 0, b'p', 0x02], true);
        theirs
            .write_all(&[0x82, 1, 1, 1, 1, b'h' ^ 1, b'e' ^ 1, 0x80, 0x83, 0, 0, 0, 0, b'l', b'l', b'o'])
            .await
            .unwrap();
        let mut text = [0; 5];
        web.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        web.write_all(b"out").await.unwrap();
        web.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, [0x8a, 1, b'p', 0x82, 3, b'o', b'u', b't', 0x88, 2, 3, 232]);
    }
}
