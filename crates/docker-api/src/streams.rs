//! A client that has taken its connection over, joined to a process of a container.
//!
//! ```text
//! client ──► input ──► frames ──► monitor          half a close of the client is `close-stdin`, its output goes on
//! client ◄── raw, or with Docker's eight bytes in front of each piece ◄── frames ◄── monitor
//! ```

use crate::failure::Failure;
use crate::old_style::Socket;
use crate::polled::{self, is_ready};
use crate::reply::{Content, Reply};
use crate::version::Version;
use crate::websocket::WebSocket;
use bytes::Bytes;
use engine::Streams;
use http_body_util::BodyExt;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use monitor::client::{Connection, Event};
use monitor::detach_keys::Matcher;
use monitor::wire::Frame;
use monitor::{Exit, Stream};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

/// Media type of a stream as it is.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Media type of a stream whose pieces say whether they are output or errors; since 1.42.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// The media type of a process's output.
pub fn media_type(terminal: bool, version: Version) -> &'static str {
    if terminal || version < Version(42) { RAW } else { MULTIPLEXED }
}

/// The answer with which a connection stops being HTTP.
pub fn upgraded(media_type: &'static str) -> Reply {
    let mut reply = Response::new(Content::Whole(None));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// The same for a websocket.
pub fn upgraded_web(accept: &str) -> Result<Reply, Failure> {
    let mut reply = Response::new(Content::Whole(None));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(accept).map_err(|_| Failure::internal("the handshake cannot be answered"))?;
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(reply)
}

/// One piece of a multiplexed stream.
pub fn piece(stream: Stream, data: &[u8], out: &mut Vec<u8>) {
    let kind = match stream {
        Stream::Stdout => Frame::Stdout,
        Stream::Stderr => Frame::Stderr,
    };
    out.extend_from_slice(&kind.header(data.len()));
    out.extend_from_slice(data);
}

/// What carries a stream: the socket itself, or frames in it.
#[derive(Debug)]
enum Wire {
    Plain(Socket),
    Web(Box<WebSocket>),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Wire::Web(web) => Pin::new(web).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Wire::Web(web) => Pin::new(web).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Wire::Web(web) => Pin::new(web).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Wire::Web(web) => Pin::new(web).poll_shutdown(cx),
        }
    }
}

/// A connection that has stopped being HTTP.
#[derive(Debug)]
pub struct Client {
    input: ReadHalf<Wire>,
    output: WriteHalf<Wire>,
    /// To ask whether the other side has gone altogether.
    socket: OwnedFd,
    /// What came with the request.
    ahead: Bytes,
    /// Something has been said behind the answer's head.
    spoken: bool,
}

impl Client {
    /// Waits until the answer has been sent.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn take(upgrade: hyper::upgrade::OnUpgrade) -> Result<Client, Failure> {
        let gone = || Failure::bad("the connection cannot be taken over");
        let upgraded = upgrade.await.map_err(|_| gone())?;
        let parts = upgraded.downcast::<TokioIo<Socket>>().map_err(|_| gone())?;
        let socket = parts.io.into_inner();
        let copy = socket.as_fd().try_clone_to_owned()?;
        let (input, output) = tokio::io::split(Wire::Plain(socket));
        Ok(Client { input, output, socket: copy, ahead: parts.read_buf, spoken: false })
    }

    /// The same for a websocket.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn take_web(upgrade: hyper::upgrade::OnUpgrade, binary: bool) -> Result<Client, Failure> {
        let gone = || Failure::bad("the connection cannot be taken over");
        let upgraded = upgrade.await.map_err(|_| gone())?;
        let parts = upgraded.downcast::<TokioIo<Socket>>().map_err(|_| gone())?;
        let socket = parts.io.into_inner();
        let copy = socket.as_fd().try_clone_to_owned()?;
        let web = WebSocket::new(socket, &parts.read_buf, binary);
        let (input, output) = tokio::io::split(Wire::Web(Box::new(web)));
        Ok(Client { input, output, socket: copy, ahead: Bytes::new(), spoken: false })
    }

    /// A client that does not take its connection over, as those that use one for several requests: what the process says is
    /// the answer's content, and the request's content, if it comes in pieces, is the input.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn within(media_type: &'static str, mut body: crate::content::Content) -> Result<(Client, Reply), Failure> {
        let (ours, theirs) = UnixStream::pair()?;
        let socket = Socket::from(ours);
        let copy = socket.as_fd().try_clone_to_owned()?;
        let (input, output) = tokio::io::split(Wire::Plain(socket));
        let (sender, reply) = crate::reply::stream(media_type);
        let (mut said, mut typed) = theirs.into_split();
        let feed = async move {
            let mut any = false;
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                any |= !data.is_empty();
                if typed.write_all(&data).await.is_err() {
                    break;
                }
            }
            if any {
                // The end of the input; a request without content has none that could end.
                drop(typed.shutdown().await);
            }
            // Held open until the process's last word has been sent.
            std::future::pending::<()>().await;
        };
        let tell = async move {
            loop {
                let mut chunk = bytes::BytesMut::with_capacity(GATHERED);
                let read = tokio::select! {
                    read = said.read_buf(&mut chunk) => read,
                    () = sender.closed() => return,
                };
                if !read.is_ok_and(|n| n > 0) || sender.send(chunk.freeze()).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = tell => {}
                () = feed => {}
            }
        });
        Ok((Client { input, output, socket: copy, ahead: Bytes::new(), spoken: false }, reply))
    }

    /// Writes something that no process has said.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !std::mem::replace(&mut self.spoken, true) {
            head_is_taken(self.socket.as_fd()).await;
        }
        self.output.write_all(bytes).await?;
        self.output.flush().await
    }

    /// Says that nothing more comes.
    pub async fn close(mut self) {
        // A client that has gone needs no farewell.
        drop(self.output.shutdown().await);
    }

    /// Returns when the client has gone, having sent something that nobody takes, or not.
    pub async fn gone(&mut self) {
        while !is_ready(self.socket.as_fd(), PollFlags::empty()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How often it is looked whether a silent client is still there.
const LOOK: Duration = Duration::from_secs(2);

/// How long it is waited for who does not take the head of an answer; over TCP, where only the other kernel says that it has it.
const HEAD_PATIENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_millis(100)];

/// Waits until the other side has the answer's head: some clients (docker-py's among them) read it through a buffer that they then throw
/// away, and with it what came along. Most have it long before there is anything to say.
async fn head_is_taken(socket: BorrowedFd<'_>) {
    let is_unix = rustix::net::sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX);
    let (began, patience) = (Instant::now(), HEAD_PATIENCE[usize::from(!is_unix)]);
    while kernel::sockets::not_taken(socket).unwrap_or(0) > 0 && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How a client wants to be joined.
#[derive(Debug)]
pub struct Joining {
    /// Which streams.
    pub streams: Streams,
    /// Pieces with headers.
    pub multiplexed: bool,
    /// Keys that leave.
    pub keys: Option<Matcher>,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// The process has ended, and the client has all of its output.
    Exited(Exit),
    /// The client has gone or has left; the process goes on.
    Left,
    /// The monitor has gone.
    Lost,
}

/// Joins a client to an attached connection until one of them ends.
pub async fn join(client: &mut Client, connection: &mut Connection, joining: Joining) -> Ended {
    let Ok(socket) = connection.as_fd().try_clone_to_owned() else { return Ended::Lost };
    let streams = joining.streams;
    let input = Input { socket, streams, keys: joining.keys };
    let (from, to) = (&mut client.input, &mut client.output);
    let ahead = std::mem::take(&mut client.ahead);
    let asked = client.socket.as_fd();
    // Before the first word.
    let head = (!std::mem::replace(&mut client.spoken, true)).then_some(asked);
    tokio::select! {
        ended = output(to, connection, joining.multiplexed, head) => ended,
        () = input.run(from, ahead) => Ended::Left,
        () = async {
            while !is_ready(asked, PollFlags::empty()) {
                tokio::time::sleep(LOOK).await;
            }
        } => Ended::Left,
    }
}

/// Bytes that are gathered for one write.
const GATHERED: usize = 64 << 10;

async fn output(
    to: &mut WriteHalf<Wire>,
    connection: &mut Connection,
    multiplexed: bool,
    mut head: Option<BorrowedFd<'_>>,
) -> Ended {
    let Ok(watched) = polled::watch(connection.as_fd()) else { return Ended::Lost };
    let mut gathered = Vec::new();
    loop {
        let received = polled::until(&watched, Interest::READABLE, || gather(connection, multiplexed, &mut gathered));
        let Ok(ended) = received.await else { return Ended::Lost };
        if !gathered.is_empty() {
            if let Some(socket) = head.take() {
                head_is_taken(socket).await;
            }
            if to.write_all(&gathered).await.is_err() || to.flush().await.is_err() {
                return match ended {
                    Some(ended) => ended,
                    None => Ended::Left,
                };
            }
            gathered.clear();
        }
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// Takes what has come, as much as is written at once. `None` when nothing has; the end, when it is there.
fn gather(connection: &mut Connection, multiplexed: bool, gathered: &mut Vec<u8>) -> Option<Option<Ended>> {
    while gathered.len() < GATHERED {
        match connection.try_receive() {
            Ok(Some(Event::Output(stream, data))) if multiplexed => piece(stream, data, gathered),
            Ok(Some(Event::Output(_, data))) => gathered.extend_from_slice(data),
            Ok(Some(Event::Exit(exit))) => return Some(Some(Ended::Exited(exit))),
            Ok(Some(Event::Failed(_))) | Err(_) => return Some(Some(Ended::Lost)),
            Ok(None) if gathered.is_empty() => return None,
            Ok(None) => break,
        }
    }
    Some(None)
}

/// What the client sends.
struct Input {
    socket: OwnedFd,
    streams: Streams,
    keys: Option<Matcher>,
}

/// Bytes of input that are read at once.
const INPUT: usize = 4 << 10;

impl Input {
    /// Passes input on. Returns when the client has left by its keys or is gone; never when it only sends no more.
    async fn run(mut self, from: &mut ReadHalf<Wire>, ahead: Bytes) {
        let Ok(socket) = polled::watch(self.socket.as_fd()) else { return };
        let mut out = Vec::new();
        let mut left = feed(&mut self.keys, &ahead, &mut out);
        let mut buffer = vec![0; INPUT];
        loop {
            if self.streams.stdin && !out.is_empty() {
                let mut frame = Frame::Stdin.header(out.len()).to_vec();
                frame.append(&mut out);
                if !send(&socket, &frame).await {
                    break;
                }
            }
            out.clear();
            if left {
                return;
            }
            match from.read(&mut buffer).await {
                Ok(0) => {
                    if let Some(keys) = &mut self.keys {
                        keys.finish(&mut out);
                    }
                    let mut frame = Frame::Stdin.header(out.len()).to_vec();
                    frame.append(&mut out);
                    frame.extend(Frame::CloseStdin.header(0));
                    if self.streams.stdin {
                        send(&socket, &frame).await;
                    }
                    break;
                }
                Ok(n) => left = feed(&mut self.keys, &buffer[..n], &mut out),
                Err(_) => return,
            }
        }
        drop(buffer);
        std::future::pending().await
    }
}

/// Takes detach keys out of the input. Returns whether they were typed.
fn feed(keys: &mut Option<Matcher>, data: &[u8], out: &mut Vec<u8>) -> bool {
    match keys {
        Some(keys) => keys.feed(data, out),
        None => {
            out.extend_from_slice(data);
            false
        }
    }
}

/// Sends all of it; false when the process takes no more.
async fn send(socket: &UnixStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let sent = polled::until(socket, Interest::WRITABLE, || match rustix::net::send(socket, bytes, FLAGS) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            result => Some(result),
        });
        match sent.await {
            Ok(Ok(n)) => bytes = &bytes[n..],
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    true
}

const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Reads an attached connection to its end for nothing but the exit; `None` when the monitor has gone without one.
pub async fn drain(connection: &mut Connection) -> Option<Exit> {
    let watched = polled::watch(connection.as_fd()).ok()?;
    let mut discarded = Vec::new();
    loop {
        let received = polled::until(&watched, Interest::READABLE, || gather(connection, false, &mut discarded));
        match received.await.ok()? {
            Some(Ended::Exited(exit)) => return Some(exit),
            Some(Ended::Left | Ended::Lost) => return None,
            None => discarded.clear(),
        }
    }
}
