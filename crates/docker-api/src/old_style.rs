//! A client's socket, and the clients that take it over without saying so.
//!
//! Docker turns a connection into a raw stream in two ways. With `Upgrade: tcp` the answer is `101`; without, it is a plain
//! `200` behind which nothing is HTTP any more. HTTP libraries know only the first, so the second is made to look like it:
//! the header is added on the way in and the status is written as `200` on the way out. Clients do this on a connection of
//! its own, so only a connection's first request is looked at.

use crate::parting::Parting;
use crate::taking::Taking;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// The kinds of sockets.
#[derive(Debug)]
enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A client's socket.
#[derive(Debug)]
pub struct Socket {
    raw: Raw,
    /// Read already, not taken yet.
    ahead: Bytes,
    /// To be written before anything else.
    behind: Bytes,
    /// The next answer `101` is to be written as `200`.
    old_style: bool,
    /// Who hears that the client has said all, as long as HTTP is spoken.
    parting: Weak<Parting>,
    taking: Taking,
}

/// Longest head of a request that is looked at, in bytes.
const HEAD: usize = 16 << 10;
/// How long a client may take for it.
const PATIENCE: Duration = Duration::from_secs(30);

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket::over(Raw::Unix(stream))
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        // Keys that are typed should not wait for more of them; without it they come late, but come.
        drop(stream.set_nodelay(true));
        Socket::over(Raw::Tcp(stream))
    }
}

impl From<TlsStream<TcpStream>> for Socket {
    fn from(stream: TlsStream<TcpStream>) -> Socket {
        drop(stream.get_ref().0.set_nodelay(true));
        Socket::over(Raw::Tls(Box::new(stream)))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.raw {
            Raw::Unix(stream) => stream.as_fd(),
            Raw::Tcp(stream) => stream.as_fd(),
            Raw::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl Socket {
    fn over(raw: Raw) -> Socket {
        let (ahead, behind) = (Bytes::new(), Bytes::new());
        Socket { raw, ahead, behind, old_style: false, parting: Weak::new(), taking: Taking::default() }
    }

    /// Has `parting` told when the client has said all.
    pub fn tell(&mut self, parting: &Arc<Parting>) {
        self.parting = Arc::downgrade(parting);
    }

    /// Looks at the first request. False when the client went away or took too long.
    pub async fn look(&mut self) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.look_now()).await, Ok(Ok(true)))
    }

    async fn look_now(&mut self) -> io::Result<bool> {
        let mut head = Vec::with_capacity(1024);
        loop {
            if self.read_buf(&mut head).await? == 0 {
                return Ok(false);
            }
            match marked(&head) {
                Look::More if head.len() < HEAD => {}
                Look::Streams(request) => {
                    self.old_style = true;
                    self.ahead = request.into();
                    return Ok(true);
                }
                Look::More | Look::Plain => {
                    self.ahead = head.into();
                    return Ok(true);
                }
            }
        }
    }

    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.behind.is_empty() {
            let n = match &mut self.raw {
                Raw::Unix(stream) => ready!(Pin::new(stream).poll_write(cx, &self.behind))?,
                Raw::Tcp(stream) => ready!(Pin::new(stream).poll_write(cx, &self.behind))?,
                Raw::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, &self.behind))?,
            };
            self.behind.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

/// What the beginning of a connection is.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Too little to say.
    More,
    /// Nothing special.
    Plain,
    /// A client that takes the connection over without saying so; its request with the header that says so.
    Streams(Vec<u8>),
}

fn marked(head: &[u8]) -> Look {
    let Some(line_end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if head.starts_with(b"POST ") || b"POST ".starts_with(head) { Look::More } else { Look::Plain };
    };
    let line = String::from_utf8_lossy(&head[..line_end]);
    let path = line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let streams = line.starts_with("POST ")
        && ((path.contains("/containers/") && path.ends_with("/attach"))
            || (path.contains("/exec/") && path.ends_with("/start")));
    if !streams {
        return Look::Plain;
    }
    let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { return Look::More };
    let fields = String::from_utf8_lossy(&head[line_end..end]).to_ascii_lowercase();
    // Who sends its input in HTTP's own pieces reads HTTP's own pieces.
    if fields.contains("\r\nupgrade:") || fields.contains("\r\ntransfer-encoding:") {
        return Look::Plain;
    }
    let mut request = head[..end].to_vec();
    request.extend_from_slice(b"\r\nConnection: Upgrade\r\nUpgrade: tcp");
    request.extend_from_slice(&head[end..]);
    Look::Streams(request)
}

/// The head of an answer `101` as one of `200`, with what follows it.
fn plain_head(head: &[u8]) -> Option<Bytes> {
    let end = head.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&head[..end]).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.1 101") {
        return None;
    }
    let mut out = "HTTP/1.1 200 OK\r\n".to_owned();
    for line in lines {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name != "connection" && name != "upgrade" {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(&head[end + 4..]);
    Some(out.into())
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if !socket.ahead.is_empty() {
            let n = socket.ahead.len().min(buf.remaining());
            buf.put_slice(&socket.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let (read, tells) = match &mut socket.raw {
            Raw::Unix(stream) => (Pin::new(stream).poll_read(cx, buf), true),
            Raw::Tcp(stream) => (Pin::new(stream).poll_read(cx, buf), false),
            Raw::Tls(stream) => (Pin::new(stream).poll_read(cx, buf), false),
        };
        let ended = matches!(&read, Poll::Ready(Ok(()))) && buf.filled().len() == before && buf.remaining() > 0;
        // Nothing more will come, so nobody is to be woken for it: whoever serves the client waits for its going.
        match ended && socket.parting.upgrade().is_some_and(|parting| parting.awaits(socket.as_fd(), tells)) {
            true => Poll::Pending,
            false => read,
        }
    }
}

impl Socket {
    fn write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_behind(cx))?;
        if self.old_style
            && let Some(head) = plain_head(buf)
        {
            self.old_style = false;
            self.behind = head;
            // What does not fit now goes before the next write, or with the flush.
            if let Poll::Ready(Err(error)) = self.poll_behind(cx) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(buf.len()));
        }
        match &mut self.raw {
            Raw::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Raw::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Raw::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn write_pieces(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.old_style {
            // The head of the answer, which is to be looked at, is the first that says anything.
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.write(cx, first);
        }
        ready!(self.poll_behind(cx))?;
        match &mut self.raw {
            Raw::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Raw::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Raw::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// What became of a write, or that the client has taken nothing for too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let whole = written.is_pending() && self.parting.upgrade().is_some_and(|parting| parting.is_whole());
        self.taking.judge(cx, written, whole)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = socket.write(cx, buf);
        socket.judge(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = socket.write_pieces(cx, slices);
        socket.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        // With it an answer's content is written from where it is; without, each client's connection has a copy.
        match &self.raw {
            Raw::Unix(stream) => stream.is_write_vectored(),
            Raw::Tcp(stream) => stream.is_write_vectored(),
            Raw::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        ready!(socket.poll_behind(cx))?;
        match &mut socket.raw {
            // Only TLS keeps anything back.
            Raw::Unix(_) | Raw::Tcp(_) => Poll::Ready(Ok(())),
            Raw::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        ready!(socket.poll_behind(cx))?;
        match &mut socket.raw {
            Raw::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Raw::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Raw::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_over() {
        let attach = b"POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\nhello";
        let Look::Streams(request) = marked(attach) else { panic!() };
        let text = String::from_utf8(request).unwrap();
        assert!(text.ends_with("Host: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello"), "{text}");
        assert!(matches!(marked(b"POST /exec/x/start HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), Look::Streams(_)));
        for plain in [
            &b"GET /_ping HTTP/1.1\r\n\r\n"[..],
            b"POST /containers/create HTTP/1.1\r\n\r\n",
            b"POST /containers/x/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n",
            b"POST /containers/x/attach HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"PRI * HTTP/2.0\r\n",
        ] {
            assert_eq!(marked(plain), Look::Plain);
        }
        for part in 1..attach.len() - 9 {
            assert_eq!(marked(&attach[..part]), Look::More, "{part}");
        }
    }

    #[test]
    fn an_answer_in_pieces_is_written_from_where_it_is() {
        use tokio::io::AsyncWriteExt;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut socket = Socket::from(ours);
            assert!(socket.is_write_vectored());
            socket.old_style = true;
            let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: tcp\r\n\r\n";
            let pieces = [IoSlice::new(b""), IoSlice::new(head), IoSlice::new(b"rest")];
            // The head alone, as another; then what follows.
            assert_eq!(socket.write_vectored(&pieces).await.unwrap(), head.len());
            assert_eq!(socket.write_vectored(&[IoSlice::new(b"re"), IoSlice::new(b"st")]).await.unwrap(), 4);
            socket.flush().await.unwrap();
            socket.shutdown().await.unwrap();
            let mut written = String::new();
            theirs.read_to_string(&mut written).await.unwrap();
            assert_eq!(written, "HTTP/1.1 200 OK\r\n\r\nrest");
        });
    }

    #[test]
    fn who_takes_nothing_of_a_whole_answer_is_let_go() {
        use crate::reply::Content;
        use tokio::io::AsyncWriteExt;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let parting = Arc::new(Parting::default());
            let mut socket = Socket::from(ours);
            socket.taking = Taking::within(Duration::from_millis(100));
            socket.tell(&parting);
            let large = vec![0_u8; 4 << 20];
            // A stream waits.
            let (_sender, pieces) = tokio::sync::mpsc::channel(1);
            parting.answer(&Content::Stream(pieces));
            let waited = tokio::time::timeout(Duration::from_millis(400), socket.write_all(&large)).await;
            assert!(waited.is_err(), "{waited:?}");
            // An answer that is taken slowly, each part of it within its time, comes through.
            parting.answer(&Content::Whole(None));
            socket.taking = Taking::within(Duration::from_secs(60));
            let taker = async {
                let mut part = vec![0_u8; 1 << 20];
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    assert!(theirs.read(&mut part).await.unwrap() > 0);
                }
            };
            let written = tokio::select! {
                written = socket.write_all(&large) => written,
                () = taker => Ok(()),
            };
            assert!(written.is_ok());
            // One that is not taken any more does not.
            socket.taking = Taking::within(Duration::from_millis(100));
            let written = tokio::time::timeout(Duration::from_secs(60), socket.write_all(&large)).await;
            let error = written.expect("it does not wait for ever").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            // Where no HTTP is spoken any more nobody is hurried.
            drop(parting);
            let waited = tokio::time::timeout(Duration::from_millis(400), socket.write_all(&large)).await;
            assert!(waited.is_err(), "{waited:?}");
        });
    }

    #[test]
    fn the_answer() {
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\ncontent-type: a/b\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\nrest";
        assert_eq!(plain_head(head).unwrap(), "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n\r\nrest");
        assert_eq!(plain_head(b"HTTP/1.1 404 Not Found\r\n\r\n"), None);
    }
}
