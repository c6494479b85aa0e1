//! HTTP/1.1 connections: made, kept for the next request, and driven by whoever reads from them.
//!
//! No task runs in the background. The thread that waits for an answer or reads a body polls the connection itself; the
//! runtime's only thread waits in epoll(7) and keeps the clock. So bytes go from the socket to the reader without a change
//! of thread, and dropping a reader closes its connection at once.
//!
//! This module knows nothing of registries. It follows no redirect and sends no credentials of its own accord.

mod connect;

use crate::address::{Address, Origin};
use crate::error::Error;
use crate::mirrors::Trust;
use crate::options::Options;
use crate::proxy::Proxy;
use bytes::Bytes;
use connect::{Connector, Stream};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{HeaderMap, Method, StatusCode};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// How much is asked from the kernel at once. Measured on loopback, seconds in the kernel for each GB received: 0.46 with
/// 16 KiB, 0.41 with 64 KiB, 0.29 with 256 KiB and with 1 MiB.
const READ_BUFFER: usize = 256 << 10;
/// Servers close idle connections after 5 s (Node) to minutes; a request on a closed one is made again.
const MAX_IDLE: Duration = Duration::from_secs(30);
const MAX_IDLE_PER_ORIGIN: usize = 16;

/// Makes requests.
pub(crate) struct Transport {
    options: Arc<Options>,
    connector: Connector,
    pool: Arc<Pool>,
}

/// The head of an answer, and its body still to be read.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// Why there is no answer.
pub(crate) struct SendError {
    pub(crate) error: Error,
    /// Whether there had been a connection: asking again may help.
    pub(crate) was_connected: bool,
}

impl Transport {
    pub(crate) fn new(options: Arc<Options>) -> Transport {
        Transport { connector: Connector::new(options.clone()), pool: Arc::default(), options }
    }

    /// Whether this server may be spoken to in the clear.
    pub(crate) fn may_be_plain(&self, origin: &Origin) -> bool {
        origin.is_loopback()
            || self.connector.trusted(origin).anybody
            || self.options.insecure.iter().any(|name| {
                let name = name.to_ascii_lowercase();
                name == origin.host || Origin::new(origin.scheme, &name).is_some_and(|named| named == *origin)
            })
    }

    /// Tells what an administrator said about a host, before it is spoken to.
    pub(crate) fn trust(&self, origin: &Origin, trust: &Trust) {
        self.connector.trust(origin, trust);
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: &Method,
        address: &Address,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, SendError> {
        let origin = &address.origin;
        if let Some(connection) = self.pool.take(origin).await {
            match self.exchange(connection, method, address, headers, body).await {
                // The server had closed it. All requests can be made twice without harm: a piece of an upload says where it belongs.
                Err(Error::Unreachable { .. }) => {}
                Err(error) => return Err(SendError { error, was_connected: true }),
                Ok(response) => return Ok(response),
            }
        }
        let anybody = self.may_be_plain(origin);
        let connected = self.connector.connect(origin, anybody).await;
        let (stream, proxy) = connected.map_err(|error| SendError { error, was_connected: false })?;
        let broken = |source: hyper::Error| self.broken(origin, source);
        let connection = Connection::start(stream, proxy)
            .await
            .map_err(|source| SendError { error: broken(source), was_connected: true })?;
        let answer = self.exchange(connection, method, address, headers, body).await;
        answer.map_err(|error| SendError { error, was_connected: true })
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        method: &Method,
        address: &Address,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, Error> {
        let origin = &address.origin;
        let invalid =
            |_| Error::Protocol { host: origin.authority(), problem: "an address that cannot be requested".into() };
        // A proxy that passes requests on, as opposed to a tunnel, must know where to.
        let target = match &connection.proxy {
            Some(_) => format!("{}{}", address.origin, address.target),
            None => address.target.clone(),
        };
        let mut request =
            hyper::Request::builder().method(method).uri(&target).body(Full::new(body.clone())).map_err(invalid)?;
        let fields = request.headers_mut();
        fields.extend(headers.clone());
        for (name, value) in [(HOST, origin.authority()), (USER_AGENT, self.options.user_agent.clone())] {
            fields.insert(
                name,
                value.parse().map_err(|_| Error::Protocol {
                    host: origin.authority(),
                    problem: "a name that cannot be sent".into(),
                })?,
            );
        }
        if let Some(value) = connection.proxy.as_ref().and_then(|proxy| proxy.authorization.clone()) {
            fields.insert(PROXY_AUTHORIZATION, value);
        }
        let Connection { sender, driver, .. } = &mut connection;
        let answer = drive(driver, sender.send_request(request));
        let stall = self.options.stall_timeout;
        // What is sent may take its time: 32 KiB in a second is not stalled.
        let patience = stall + Duration::from_secs(body.len() as u64 / (32 << 10));
        let response = match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.map_err(|source| self.broken(origin, source))?,
            Err(_) => return Err(Error::Stalled { host: origin.authority(), waited: stall }),
        };
        let (head, incoming) = response.into_parts();
        let body =
            Body { incoming, connection: Some(connection), origin: origin.clone(), pool: self.pool.clone(), stall };
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    fn broken(&self, origin: &Origin, source: hyper::Error) -> Error {
        match source.is_parse() {
            true => {
                Error::Protocol { host: origin.authority(), problem: format!("something that is not HTTP ({source})") }
            }
            false => Error::Unreachable { host: origin.authority(), source: source.into() },
        }
    }
}

/// The body of an answer.
pub(crate) struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    origin: Origin,
    pool: Arc<Pool>,
    stall: Duration,
}

impl Body {
    /// The next piece; `None` at the end, when the server said that this is the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(connection) = &mut self.connection else { return Ok(None) };
            let frame = drive(&mut connection.driver, self.incoming.frame());
            let frame = match tokio::time::timeout(self.stall, frame).await {
                Ok(frame) => frame,
                Err(_) => return Err(Error::Stalled { host: self.origin.authority(), waited: self.stall }),
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // Trailers.
                    _ => {}
                },
                Some(Err(source)) => {
                    self.connection = None;
                    return Err(Error::Unreachable { host: self.origin.authority(), source: source.into() });
                }
                None => {
                    if let Some(connection) = self.connection.take() {
                        self.pool.give_back(&self.origin, connection).await;
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub(crate) async fn bytes(mut self, what: &str, limit: u64) -> Result<Vec<u8>, Error> {
        use hyper::body::Body as _;
        let too_large = |length, at_least| Error::TooLarge { what: what.to_owned(), length, at_least, limit };
        let announced = self.incoming.size_hint().exact();
        if let Some(length) = announced.filter(|length| *length > limit) {
            return Err(too_large(length, false));
        }
        let mut bytes = Vec::with_capacity(announced.unwrap_or_default() as usize);
        while let Some(chunk) = self.chunk().await? {
            let length = (bytes.len() + chunk.len()) as u64;
            if length > limit {
                return Err(too_large(length, true));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The length that the server announced, if it did.
    pub(crate) fn announced_length(&self) -> Option<u64> {
        use hyper::body::Body as _;
        self.incoming.size_hint().exact()
    }

    /// Reads a short rest so that the connection can be used again; a long one is not worth it.
    pub(crate) async fn discard(self) {
        self.bytes("", 64 << 10).await.ok();
    }
}

type Driver = Pin<Box<http1::Connection<Stream, Full<Bytes>>>>;

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    /// Who passes requests on.
    proxy: Option<Proxy>,
}

impl Connection {
    async fn start(stream: Stream, proxy: Option<Proxy>) -> Result<Connection, hyper::Error> {
        let (sender, driver) =
            http1::Builder::new().read_buf_exact_size(Some(READ_BUFFER)).max_headers(200).handshake(stream).await?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)), proxy })
    }

    /// Lets the connection notice what happened to it, and says whether it takes another request.
    async fn is_usable(&mut self) -> bool {
        poll_fn(|context| {
            if let Some(driver) = &mut self.driver
                && driver.as_mut().poll(context).is_ready()
            {
                self.driver = None;
            }
            Poll::Ready(())
        })
        .await;
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Waits for `future` and meanwhile moves the connection's bytes.
async fn drive<F: Future>(driver: &mut Option<Driver>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        // What goes wrong with the connection is told to the future, too.
        if let Some(running) = driver
            && running.as_mut().poll(context).is_ready()
        {
            *driver = None;
        }
        future.as_mut().poll(context)
    })
    .await
}

/// Connections without a request.
#[derive(Default)]
struct Pool {
    idle: Mutex<HashMap<Origin, Vec<(Instant, Connection)>>>,
}

impl Pool {
    async fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            // The lock is not held while waiting.
            let (since, mut connection) =
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(origin)?.pop()?;
            if since.elapsed() < MAX_IDLE && connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    async fn give_back(&self, origin: &Origin, mut connection: Connection) {
        if !connection.is_usable().await {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.entry(origin.clone()).or_default();
        if list.len() < MAX_IDLE_PER_ORIGIN {
            list.push((Instant::now(), connection));
        }
    }
}
