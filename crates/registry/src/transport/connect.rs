//! From an origin to a byte stream: names, several addresses at once (RFC 8305), TLS.

use crate::address::{Origin, Scheme};
use crate::error::{BoxError, Error, printable};
use crate::mirrors::Trust;
use crate::names::Resolver;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::trust;
use hyper::service::Service as _;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// How long the first address has before the next one is tried beside it (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);
/// How long a registry that need not speak TLS has to show that it does; a server of plain HTTP may wait for a line's end.
const TLS_OR_NOT: Duration = Duration::from_secs(5);

pub(super) struct Connector {
    options: Arc<Options>,
    resolver: Resolver,
    settings: Mutex<HashMap<String, Arc<ClientConfig>>>,
    trust: Mutex<HashMap<Origin, Trust>>,
}

impl Connector {
    pub(super) fn new(options: Arc<Options>) -> Connector {
        let resolver = Resolver { hosts: options.hosts_file.clone(), configuration: options.resolver_file.clone() };
        Connector { options, resolver, settings: Mutex::default(), trust: Mutex::default() }
    }

    /// What an administrator said about a host.
    pub(super) fn trusted(&self, origin: &Origin) -> Trust {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned().unwrap_or_default()
    }

    pub(super) fn trust(&self, origin: &Origin, trust: &Trust) {
        self.trust
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(origin.clone())
            .or_insert_with(|| trust.clone());
    }

    /// Connects; with `anybody` the server's certificate is not checked. The proxy is one that passes requests on; a tunnel
    /// through one is not seen any more.
    pub(super) async fn connect(&self, origin: &Origin, anybody: bool) -> Result<(Stream, Option<Proxy>), Error> {
        let problem = |problem| Error::Proxy { host: origin.authority(), problem };
        let proxy = self.options.proxies.of(origin).map_err(problem)?;
        let settings = match origin.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(self.settings(origin, anybody)?),
        };
        let limit = match (anybody, origin.scheme) {
            (true, Scheme::Https) => self.options.connect_timeout.min(TLS_OR_NOT),
            _ => self.options.connect_timeout,
        };
        let attempt = async {
            let Some(proxy) = &proxy else {
                let addresses = self.resolver.addresses(&origin.host).await?;
                return first_of(origin, addresses, settings).await;
            };
            let addresses = self.resolver.addresses(&proxy.origin.host).await?;
            let stream = first_of(&proxy.origin, addresses, None).await?;
            match settings {
                Some(settings) => tunnel(stream, origin, proxy, settings).await,
                None => Ok(stream),
            }
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(stream)) => Ok((stream, proxy.filter(|_| origin.scheme == Scheme::Http))),
            Ok(Err(source)) => Err(self.classify(origin, source)),
            Err(_) => {
                let text = format!("no connection within {} seconds", limit.as_secs_f32());
                Err(Error::Unreachable { host: origin.authority(), source: text.into() })
            }
        }
    }

    fn settings(&self, origin: &Origin, anybody: bool) -> Result<Arc<ClientConfig>, Error> {
        let authority = origin.authority();
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = settings.get(&authority) {
            return Ok(known.clone());
        }
        let config =
            trust::client_config(&self.options, &authority, anybody, &self.trusted(origin)).map_err(|source| {
                Error::Tls {
                    host: authority.clone(),
                    hint: "look at the certificate files".into(),
                    source: source.into(),
                }
            })?;
        let config = Arc::new(config);
        settings.insert(authority, config.clone());
        Ok(config)
    }

    fn classify(&self, origin: &Origin, source: BoxError) -> Error {
        let host = origin.authority();
        let Some(problem) = tls_error(source.as_ref()) else {
            return Error::Unreachable { host, source };
        };
        let hint = match problem {
            rustls::Error::InvalidCertificate(_)
                if !self.options.certificate_files.iter().any(|file| file.exists()) =>
            {
                "there are no certificate authorities on this machine; try: apt install ca-certificates".to_owned()
            }
            rustls::Error::InvalidCertificate(_) => {
                let directory = self.options.certificate_directories.first();
                let directory = directory.map_or("certs.d".into(), |path| path.display().to_string());
                format!("if you trust it, put its authority's certificate into {directory}/{host}/ca.crt")
            }
            rustls::Error::InvalidMessage(_) => {
                "it does not seem to speak TLS; name it as insecure if it need not".to_owned()
            }
            _ => "TLS failed".to_owned(),
        };
        Error::Tls { host, hint, source }
    }
}

/// Asks a proxy for a way through (RFC 9110, 9.3.6) and speaks TLS there.
async fn tunnel(
    stream: Stream,
    origin: &Origin,
    proxy: &Proxy,
    settings: Arc<ClientConfig>,
) -> Result<Stream, BoxError> {
    /// A proxy's answer is a status and some headers.
    const LONGEST_ANSWER: usize = 16 << 10;
    let MaybeHttpsStream::Http(stream) = stream else { return Err("a proxy with TLS".into()) };
    let mut tcp = stream.into_inner();
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let place = format!("{host}:{}", origin.port);
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        request.extend([b"Proxy-Authorization: ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    tcp.write_all(&request).await?;
    // Nothing can follow the answer before we have spoken, so reading byte by byte only costs time, and once.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= LONGEST_ANSWER {
            return Err("the proxy's answer does not end".into());
        }
        answer.push(tcp.read_u8().await?);
    }
    let first = String::from_utf8_lossy(&answer);
    let first = first.lines().next().unwrap_or_default();
    if !first.starts_with("HTTP/1.") || first.split(' ').nth(1).is_none_or(|status| !status.starts_with('2')) {
        return Err(format!("the proxy {} refuses: {}", proxy.origin.authority(), printable(first, 100)).into());
    }
    let name = ServerName::try_from(origin.host.clone())?;
    let inside = TlsConnector::from(settings).connect(name, TokioIo::new(TokioIo::new(tcp))).await?;
    Ok(MaybeHttpsStream::Https(TokioIo::new(inside)))
}

/// Races the addresses, each a little after the one before it, and returns the first connection or the last error.
async fn first_of(
    origin: &Origin,
    addresses: Vec<IpAddr>,
    settings: Option<Arc<ClientConfig>>,
) -> Result<Stream, BoxError> {
    let mut waiting = addresses.into_iter().map(|address| {
        let address = SocketAddr::new(address, origin.port);
        open(address, origin.host.clone(), settings.clone())
    });
    let mut running = JoinSet::new();
    let mut last: BoxError = "the name has no address".into();
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(attempt) = next {
            running.spawn(attempt);
        }
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = error.into(),
                None => return Err(last),
            },
            () = tokio::time::sleep(HEAD_START), if !is_last => {}
        }
    }
}

async fn open(address: SocketAddr, host: String, settings: Option<Arc<ClientConfig>>) -> Result<Stream, BoxError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    // Always an address, never a name: the connector must not look names up by the C library.
    match settings {
        None => {
            let uri: hyper::Uri = format!("http://{address}/").parse()?;
            let stream = TowerToHyperService::new(tcp).call(uri).await?;
            Ok(MaybeHttpsStream::Http(stream))
        }
        Some(settings) => {
            let uri: hyper::Uri = format!("https://{address}/").parse()?;
            let name = FixedServerNameResolver::new(ServerName::try_from(host)?);
            let connector = HttpsConnector::new(tcp, settings, true, Arc::new(name));
            TowerToHyperService::new(connector).call(uri).await
        }
    }
}

/// The TLS error in a chain, also where an [`std::io::Error`] hides it.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        current = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
