//! Log lines on their way to somebody else: the system's journal, or a syslog server.
//!
//! Nothing here blocks. What the other side does not take is kept up to a limit; beyond it, the container's output is not
//! read (mode `blocking`), or lines are dropped and counted (mode `non-blocking`).

use std::collections::VecDeque;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Call, Error, Kind};
use crate::log_file::Stream;

/// How long a server may take to accept a connection at the container's start.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where lines go besides the log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardPlan {
    /// In which form.
    pub target: Target,
    /// Bytes that may wait.
    pub buffer: usize,
    /// Drop what does not fit, in place of making the container wait.
    pub drops: bool,
}

/// In which form, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "to")]
pub enum Target {
    /// systemd-journald, by its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
    Journal {
        /// Its socket.
        socket: String,
        /// Fields of each entry, names in capitals.
        fields: Vec<(String, String)>,
    },
    /// A syslog server.
    Syslog {
        /// `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix://PATH`, `unixgram://PATH`.
        address: String,
        /// Number of the facility, 0 to 23.
        facility: u8,
        /// Which form of message.
        format: SyslogFormat,
        /// Name of the sender.
        tag: String,
    },
}

/// Forms of syslog messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyslogFormat {
    /// As for the socket of this machine: no host name.
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
}

#[derive(Debug)]
pub(crate) struct Forward {
    plan: ForwardPlan,
    socket: OwnedFd,
    /// Each message is one packet; otherwise they follow one another in a stream.
    packets: bool,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Bytes of the first message that a stream has taken.
    sent: usize,
    hostname: String,
    lost: u64,
}

impl Forward {
    /// Connects.
    ///
    /// # Errors
    /// When nobody is there: a container whose log nobody takes is not started.
    pub(crate) fn open(plan: &ForwardPlan) -> Result<Self, Error> {
        let (socket, packets) = connect(&plan.target)?;
        rustix::io::ioctl_fionbio(&socket, true).call(|| "ioctl(<socket>, FIONBIO, 1)".to_owned())?;
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let waiting = VecDeque::new();
        Ok(Self { plan: plan.clone(), socket, packets, waiting, waiting_bytes: 0, sent: 0, hostname, lost: 0 })
    }

    /// A line, or a piece of one that does not end yet.
    pub(crate) fn line(&mut self, stream: Stream, text: &[u8], whole: bool, time: &str) {
        if text.is_empty() && whole && matches!(self.plan.target, Target::Syslog { .. }) {
            // A message without a text means nothing to a syslog server.
            return;
        }
        let message = self.message(stream, text, whole, time);
        if self.plan.drops && self.waiting_bytes + message.len() > self.plan.buffer {
            self.lost += 1;
            return;
        }
        self.waiting_bytes += message.len();
        self.waiting.push_back(message);
        self.flush();
    }

    /// Whether the container's output has to wait.
    pub(crate) fn is_full(&self) -> bool {
        !self.plan.drops && self.waiting_bytes > self.plan.buffer
    }

    /// For polling: becomes writable when [`Self::flush`] should be called; `None` when nothing waits.
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.socket.as_fd())
    }

    /// Messages that were dropped.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Sends as much as is taken now.
    pub(crate) fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match rustix::net::send(&self.socket, &message[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) if !self.packets && self.sent + n < message.len() => self.sent += n,
                Ok(_) => self.drop_first(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                Err(_) => {
                    // The other side has gone, or the message is too long for it. A new connection may help the next one.
                    self.lost += 1;
                    self.drop_first();
                    if let Ok((socket, packets)) = connect(&self.plan.target)
                        && rustix::io::ioctl_fionbio(&socket, true).is_ok()
                    {
                        (self.socket, self.packets) = (socket, packets);
                    }
                }
            }
        }
    }

    /// At the end: lets what waits go, for a moment.
    pub(crate) fn finish(&mut self) {
        let end = std::time::Instant::now() + Duration::from_millis(500);
        while !self.waiting.is_empty() && std::time::Instant::now() < end {
            self.flush();
            std::thread::sleep(Duration::from_millis(5));
        }
        self.lost += self.waiting.len() as u64;
    }

    fn drop_first(&mut self) {
        if let Some(message) = self.waiting.pop_front() {
            self.waiting_bytes -= message.len();
        }
        self.sent = 0;
    }

    fn message(&self, stream: Stream, text: &[u8], whole: bool, time: &str) -> Vec<u8> {
        // syslog(3): LOG_ERR and LOG_INFO.
        let severity = match stream {
            Stream::Stdout => 6,
            Stream::Stderr => 3,
        };
        match &self.plan.target {
            Target::Journal { fields, .. } => {
                let mut message = Vec::with_capacity(text.len() + 256);
                for (name, value) in fields {
                    field(&mut message, name, value.as_bytes());
                }
                field(&mut message, "PRIORITY", severity.to_string().as_bytes());
                if !whole {
                    field(&mut message, "CONTAINER_PARTIAL_MESSAGE", b"true");
                }
                field(&mut message, "MESSAGE", text);
                message
            }
            Target::Syslog { facility, format, tag, .. } => {
                let number = u32::from(*facility) * 8 + severity;
                let own = rustix::process::getpid().as_raw_nonzero();
                let host = &self.hostname;
                let head = match format {
                    SyslogFormat::Local => format!("<{number}>{} {tag}[{own}]: ", stamp(time)),
                    SyslogFormat::Rfc3164 => format!("<{number}>{} {host} {tag}[{own}]: ", stamp(time)),
                    SyslogFormat::Rfc5424 => format!("<{number}>1 {}Z {host} {tag} {own} {tag} - ", cut(time, 19)),
                    SyslogFormat::Rfc5424Micro => format!("<{number}>1 {}Z {host} {tag} {own} {tag} - ", cut(time, 26)),
                };
                let mut message = head.into_bytes();
                message.extend_from_slice(text);
                if !self.packets {
                    // Messages in a stream end with a line's end (RFC 6587, 3.4.2).
                    message.push(b'\n');
                }
                message
            }
        }
    }
}

/// One field of the journal's protocol; a value with a line's end is given with its length.
fn field(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value);
    message.push(b'\n');
}

fn cut(time: &str, length: usize) -> &str {
    time.get(..length).unwrap_or(time)
}

/// The time as RFC 3164 has it: `Jan  2 15:04:05`.
fn stamp(time: &str) -> String {
    time.parse::<jiff::Timestamp>().map(|time| time.strftime("%b %e %H:%M:%S").to_string()).unwrap_or_default()
}

fn connect(target: &Target) -> Result<(OwnedFd, bool), Error> {
    let address = match target {
        Target::Journal { socket, .. } => return datagram(socket),
        Target::Syslog { address, .. } => address,
    };
    let (scheme, rest) = address.split_once("://").unwrap_or(("unixgram", address));
    let failed = || format!("connect({address:?})");
    let first = || -> std::io::Result<std::net::SocketAddr> {
        rest.to_socket_addrs()?.next().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
    };
    match scheme {
        "unixgram" => datagram(rest),
        // The socket of this machine's syslog takes packets, that of others a stream.
        "unix" => match datagram(rest) {
            Ok(found) => Ok(found),
            Err(_) => UnixStream::connect(rest).map(|stream| (stream.into(), false)).call(failed),
        },
        "udp" => {
            let to = first().call(failed)?;
            let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).call(failed)?;
            socket.connect(to).call(failed)?;
            Ok((socket.into(), true))
        }
        "tcp" => {
            let stream = TcpStream::connect_timeout(&first().call(failed)?, PATIENCE).call(failed)?;
            Ok((stream.into(), false))
        }
        _ => Err(Error::refused(Kind::Invalid, format!("{address:?} is no address of a syslog server"))),
    }
}

fn datagram(path: &str) -> Result<(OwnedFd, bool), Error> {
    let socket = UnixDatagram::unbound().call(|| "socket(AF_UNIX, SOCK_DGRAM|SOCK_CLOEXEC, 0)".to_owned())?;
    socket.connect(path).call(|| format!("connect({path:?})"))?;
    Ok((socket.into(), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syslog(address: String, format: SyslogFormat, drops: bool) -> ForwardPlan {
        let target = Target::Syslog { address, facility: 3, format, tag: "box".into() };
        ForwardPlan { target, buffer: 4096, drops }
    }

    const TIME: &str = "2026-01-02T03:04:05.123456789Z";

    #[test]
    fn messages_have_the_form_asked_for() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let mut buffer = [0; 500];
        for (format, head) in [
            (SyslogFormat::Local, "<30>Jan  2 03:04:05 box["),
            (SyslogFormat::Rfc5424, "<30>1 2026-01-02T03:04:05Z "),
            (SyslogFormat::Rfc5424Micro, "<30>1 2026-01-02T03:04:05.123456Z "),
        ] {
            let mut forward = Forward::open(&syslog(address.clone(), format, false)).unwrap();
            forward.line(Stream::Stdout, b"hello", true, TIME);
            let length = server.recv(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(text.starts_with(head) && text.ends_with(" hello"), "{text}");
        }
    }

    #[test]
    fn a_slow_server_makes_wait_or_drops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        let _server = UnixDatagram::bind(&path).unwrap();
        let address = format!("unixgram://{}", path.display());
        for drops in [false, true] {
            let mut forward = Forward::open(&syslog(address.clone(), SyslogFormat::Local, drops)).unwrap();
            for _ in 0..2000 {
                forward.line(Stream::Stderr, &[b'x'; 100], true, TIME);
            }
            assert_eq!((forward.is_full(), forward.lost() > 0), (!drops, drops));
            assert!(forward.waits_for().is_some());
        }
    }

    #[test]
    fn the_journal_gets_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let fields = vec![("CONTAINER_NAME".to_owned(), "box".to_owned())];
        let target = Target::Journal { socket: path.display().to_string(), fields };
        let mut forward = Forward::open(&ForwardPlan { target, buffer: 4096, drops: false }).unwrap();
        forward.line(Stream::Stderr, b"a\rb", false, TIME);
        let mut buffer = [0; 500];
        let length = server.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert_eq!(text, "CONTAINER_NAME=box\nPRIORITY=3\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=a\rb\n");
        let mut long = Vec::new();
        field(&mut long, "MESSAGE", b"a\nb");
        assert_eq!(long, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }
}
