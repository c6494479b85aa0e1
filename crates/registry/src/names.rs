//! Host names to addresses, without the C library (a static binary must not call NSS).
//!
//! Order: an address stands for itself, `localhost` for this machine (RFC 6761), then `/etc/hosts`, then the servers of
//! `/etc/resolv.conf` (resolv.conf(5): `nameserver`, `search`, `domain`, `options ndots timeout attempts`) by DNS over UDP,
//! over TCP when the answer was cut (RFC 1035, 4.2; RFC 7766). Not read: nsswitch.conf, mDNS, other NSS modules.

mod message;

use crate::error::BoxError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error("the name {0:?} does not exist")]
    Unknown(String),
    #[error("no name server answered the question for {name:?} (asked {servers})")]
    NoAnswer { name: String, servers: String },
    #[error("reading {path} failed")]
    File { path: String, source: std::io::Error },
}

/// Looks a host up.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    pub(crate) hosts: std::path::PathBuf,
    pub(crate) configuration: std::path::PathBuf,
}

impl Resolver {
    /// The addresses of a host, IPv6 and IPv4 by turns, in the order in which to try them.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, BoxError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let listed = addresses_in_hosts(&read(&self.hosts)?, host);
        if !listed.is_empty() {
            return Ok(listed);
        }
        if crate::address::is_loopback(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let configuration = Configuration::parse(&read(&self.configuration)?);
        let mut last = NameError::Unknown(host.to_owned());
        for name in configuration.candidates(host) {
            match configuration.ask(&name).await {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

/// A file that does not exist is an empty one.
fn read(path: &Path) -> Result<String, NameError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(NameError::File { path: path.display().to_string(), source }),
    }
}

fn addresses_in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut addresses = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[derive(Debug, PartialEq, Eq)]
struct Configuration {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Configuration {
    fn parse(text: &str) -> Configuration {
        let mut servers = Vec::new();
        let mut search = Vec::new();
        let (mut ndots, mut seconds, mut attempts) = (1, 5, 2);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next().and_then(server)),
                Some("search" | "domain") => search = words.map(|word| word.trim_end_matches('.').to_owned()).collect(),
                Some("options") => {
                    for (name, value) in words.filter_map(|word| word.split_once(':')) {
                        let Ok(value) = value.parse::<u32>() else { continue };
                        match name {
                            "ndots" => ndots = value.min(15) as usize,
                            "timeout" => seconds = value.clamp(1, 30),
                            "attempts" => attempts = value.clamp(1, 5),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        servers.truncate(3);
        Configuration { servers, search, ndots, timeout: Duration::from_secs(seconds.into()), attempts }
    }

    /// The names to ask for, in order: with few dots the search list goes first.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().filter(|domain| !domain.is_empty()).map(|domain| format!("{host}.{domain}"));
        let plain = std::iter::once(host.to_owned());
        match host.matches('.').count() >= self.ndots {
            true => plain.chain(searched).collect(),
            false => searched.chain(plain).collect(),
        }
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        for _ in 0..self.attempts {
            for server in &self.servers {
                let both = tokio::join!(
                    self.ask_one(*server, name, message::Kind::Aaaa),
                    self.ask_one(*server, name, message::Kind::A)
                );
                match both {
                    // One family is enough if the other one's answer got lost.
                    (None, None) => continue,
                    (six, four) => return Ok(alternating(six.unwrap_or_default(), four.unwrap_or_default())),
                }
            }
        }
        let servers = self.servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ");
        Err(NameError::NoAnswer { name: name.to_owned(), servers })
    }

    /// `None` when the server did not answer, or not usably (SERVFAIL, REFUSED): the next one may know.
    async fn ask_one(&self, server: SocketAddr, name: &str, kind: message::Kind) -> Option<Vec<IpAddr>> {
        let id = random_id()?;
        let question = message::question(id, name, kind)?;
        let exchange = async {
            match over_udp(server, &question, id, name, kind).await.ok()?? {
                message::Answer::Cut => over_tcp(server, &question, id, name, kind).await.ok()?,
                answer => Some(answer),
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await.ok().flatten()? {
            message::Answer::Addresses(list) => Some(list),
            message::Answer::NoSuchName => Some(Vec::new()),
            message::Answer::Cut | message::Answer::Failed => None,
        }
    }
}

fn server(word: &str) -> Option<SocketAddr> {
    let (address, scope) = word.split_once('%').unwrap_or((word, ""));
    match (address.parse().ok()?, scope) {
        (address, "") => Some(SocketAddr::new(address, 53)),
        (IpAddr::V6(address), scope) => {
            let index = std::fs::read_to_string(Path::new("/sys/class/net").join(scope).join("ifindex")).ok()?;
            Some(std::net::SocketAddrV6::new(address, 53, 0, index.trim().parse().ok()?).into())
        }
        _ => None,
    }
}

fn alternating(six: Vec<IpAddr>, four: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = (six.next(), four.next());
        if pair == (None, None) {
            return all;
        }
        all.extend(pair.0);
        all.extend(pair.1);
    }
}

/// Unpredictable, so that an answer cannot be forged without seeing the question; the source port is the kernel's choice.
fn random_id() -> Option<u16> {
    let mut bytes = [0; 2];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(u16::from_ne_bytes(bytes))
}

async fn over_udp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: message::Kind,
) -> std::io::Result<Option<message::Answer>> {
    let any: SocketAddr = match server.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: the kernel drops datagrams from anybody else.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything that is not the answer to this question is waited past until the time is over.
        if let Some(answer) = message::answer(&buffer[..length], id, name, kind) {
            return Ok(Some(answer));
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: message::Kind,
) -> std::io::Result<Option<message::Answer>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = (question.len() as u16).to_be_bytes();
    stream.write_all(&[&length, question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Ok(message::answer(&buffer, id, name, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file() {
        let text = "127.0.0.1 localhost\n10.0.0.1 a.example a # b\n::1 localhost\nfe80::1%eth0 a\n10.0.0.2 A\n";
        let addresses = |host| addresses_in_hosts(text, host).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(addresses("a"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(addresses("LOCALHOST"), ["127.0.0.1", "::1"]);
        assert!(addresses("b").is_empty());
    }

    #[test]
    fn resolver_file() {
        let text = "# x\nnameserver 1.2.3.4\nnameserver ::1\nnameserver x\nsearch a.example b.example.\n\
                    options ndots:2 timeout:1 attempts:9 rotate\n";
        let configuration = Configuration::parse(text);
        assert_eq!(configuration.servers, ["1.2.3.4:53".parse().unwrap(), "[::1]:53".parse::<SocketAddr>().unwrap()]);
        assert_eq!((configuration.ndots, configuration.attempts), (2, 5));
        assert_eq!(configuration.candidates("r.c"), ["r.c.a.example", "r.c.b.example", "r.c"]);
        assert_eq!(configuration.candidates("r.c.d"), ["r.c.d", "r.c.d.a.example", "r.c.d.b.example"]);
        assert_eq!(configuration.candidates("r.c."), ["r.c"]);
        assert_eq!(Configuration::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_server_on_loopback_is_asked() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..2 {
                let (length, peer) = server.recv_from(&mut buffer).unwrap();
                let mut reply = buffer[..length].to_vec();
                let is_a = reply[length - 3] == 1;
                // A lie first: another id must be waited past.
                let mut forged = reply.clone();
                forged[0] ^= 0xff;
                forged[2] |= 0x80;
                server.send_to(&forged, peer).unwrap();
                reply[2] |= 0x80;
                if is_a {
                    reply[7] = 1;
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
                }
                server.send_to(&reply, peer).unwrap();
            }
        });
        let configuration =
            Configuration { servers: vec![address], timeout: Duration::from_secs(5), ..Configuration::parse("") };
        let found = runtime.block_on(configuration.ask("registry.example")).unwrap();
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        thread.join().unwrap();
    }

    #[test]
    fn a_cut_answer_is_asked_for_again_by_tcp() {
        use std::io::{Read as _, Write as _};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stream.local_addr().unwrap();
        let Ok(datagrams) = std::net::UdpSocket::bind(address) else { return };
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, peer) = datagrams.recv_from(&mut buffer).unwrap();
            buffer[2] |= 0x82;
            datagrams.send_to(&buffer[..length], peer).unwrap();
            let (mut connection, _) = stream.accept().unwrap();
            connection.read_exact(&mut buffer[..2 + length]).unwrap();
            let mut reply = buffer[2..2 + length].to_vec();
            reply[2] |= 0x80;
            reply[7] = 1;
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 8]);
            connection.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            connection.write_all(&reply).unwrap();
        });
        let configuration = Configuration { timeout: Duration::from_secs(5), ..Configuration::parse("") };
        let found = runtime.block_on(configuration.ask_one(address, "registry.example", message::Kind::A));
        assert_eq!(found, Some(vec!["192.0.2.8".parse().unwrap()]));
        thread.join().unwrap();
    }
}
