//! One client: its limits, its requests one after the other, and every answer's headers.

use crate::access::Peer;
use crate::content::Content;
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::log::Level;
use crate::old_style::Socket;
use crate::parting::Parting;
use crate::query::{Query, decode};
use crate::reply::{self, Reply};
use crate::server::Kind;
use crate::version::{self, NEWEST};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

/// How long a client may take to send the head of a request, the time between two requests included.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes.
const HEAD_LIMIT: usize = 64 << 10;
/// Most header fields of a request.
const HEAD_FIELDS: usize = 128;

/// Header fields that every answer gets here and from HTTP itself, so that they have room at once.
const FIELDS: usize = 8;
/// The newest version, as answers name it.
static NEWEST_WRITTEN: LazyLock<HeaderValue> =
    LazyLock::new(|| HeaderValue::from_str(&NEWEST.to_string()).unwrap_or_else(|_| HeaderValue::from_static("")));

/// Serves one client until it goes or the server ends.
pub async fn serve(
    shared: Arc<Shared>,
    mut socket: Socket,
    peer: Peer,
    kind: Kind,
    mut ending: tokio::sync::watch::Receiver<bool>,
) {
    let came = tokio::select! {
        came = socket.look() => came,
        () = crate::server::told(&mut ending) => false,
    };
    if !came {
        return;
    }
    let peer = Arc::new(peer);
    let parting = Arc::new(Parting::default());
    socket.tell(&parting);
    let requests = Arc::downgrade(&parting);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (shared, peer, parting) = (shared.clone(), peer.clone(), requests.clone());
        if let Some(parting) = parting.upgrade() {
            parting.begin(request.body());
        }
        async move { Ok::<_, Infallible>(answer(shared, peer, kind, parting, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is the client's business: there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = parting.said_all() => {
            // What it has asked is answered, and nothing else will be asked.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = parting.gone() => {}
                () = crate::server::told(&mut ending) => {}
            }
        }
        () = crate::server::told(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            drop(tokio::time::timeout(Duration::from_secs(5), connection).await);
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    kind: Kind,
    parting: Weak<Parting>,
    request: Request<Incoming>,
) -> Reply {
    let (method, uri, began) = (request.method().clone(), request.uri().clone(), Instant::now());
    let head = method == Method::HEAD;
    let query = Query::parse(uri.query().unwrap_or_default());
    let result = if kind == Kind::Metrics && uri.path() != "/metrics" {
        Err(Failure::missing("page not found: only /metrics is served here"))
    } else {
        dispatch(shared.clone(), peer.clone(), kind, parting.clone(), request, &query).await
    };
    let (mut reply, said) = match result {
        Ok(reply) => (reply, None),
        Err(failure) => (reply::failure(&failure), Some(failure.message)),
    };
    let (status, took) = (reply.status(), began.elapsed());
    shared.metrics.answered(&method, status, took);
    let level = match status {
        StatusCode::FORBIDDEN => Level::Info,
        // Said on purpose, and the client has been told.
        StatusCode::NOT_IMPLEMENTED | StatusCode::SERVICE_UNAVAILABLE => Level::Debug,
        status if status.is_server_error() => Level::Error,
        _ => Level::Debug,
    };
    // Queries are left out: they hold what people type. Of parameters that no handler wanted the names are told.
    shared.log.tell(level, "request", || {
        json!({
            "method": method.as_str(), "path": uri.path(), "status": status.as_u16(), "seconds": took.as_secs_f64(),
            "peer": peer.who.to_string(), "pid": peer.who.pid(), "tier": peer.tier.name(), "said": said,
            "unread": (status.as_u16() < 400).then(|| query.unread()),
        })
    });
    let headers = reply.headers_mut();
    headers.reserve(FIELDS);
    headers.insert(SERVER, HeaderValue::from_static(concat!("dhow/", env!("CARGO_PKG_VERSION"), " (linux)")));
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(HeaderName::from_static("api-version"), NEWEST_WRITTEN.clone());
    if head && !reply.headers().contains_key(hyper::header::CONTENT_LENGTH) {
        // Go's client waits for a length, or takes none for "unknown".
        reply.headers_mut().insert(hyper::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        *reply.body_mut() = reply::Content::Whole(None);
    }
    if let Some(parting) = parting.upgrade() {
        parting.answer(reply.body());
    }
    reply
}

async fn dispatch(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    kind: Kind,
    parting: Weak<Parting>,
    mut request: Request<Incoming>,
    query: &Query,
) -> Result<Reply, Failure> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let (version, path) = version::split(parts.uri.path())?;
    let segments: Vec<String> = path.split('/').skip(1).map(|segment| decode(segment, false)).collect();
    let segments = match kind {
        Kind::Everything => crate::access::admit(&peer, &shared, &parts.method, segments).await?,
        Kind::Metrics => segments,
    };
    let context = Context {
        shared,
        peer,
        version,
        query: query.clone(),
        headers: parts.headers,
        body: Content::new(body, parting),
        upgrade,
    };
    crate::route::call(&parts.method, &segments, context).await
}
