//! A connection to a bus, or to a service that speaks the protocol itself. "Authentication Protocol" of the specification.

use crate::message::{Call, ERROR, Message, REPLY, Writer, decode, sizes};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the system's bus is, if nobody says otherwise (`DBUS_SYSTEM_BUS_ADDRESS`).
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed, ended, or nobody answered in time.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Who was asked says no.
    #[error("{name}: {text}")]
    Refused {
        /// The error's name, as `org.freedesktop.DBus.Error.ServiceUnknown`.
        name: String,
        /// Its sentence.
        text: String,
    },
}

/// See the head of the module.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// When nobody waits any longer.
    end: Instant,
    serial: u32,
    out: Vec<u8>,
}

/// The socket of the system's bus.
pub fn system_bus() -> PathBuf {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    let path = named.split([';', ',']).find_map(|part| part.strip_prefix("unix:path="));
    path.unwrap_or(SYSTEM_BUS).into()
}

impl Connection {
    /// Connects; everything together may take so long. On a bus, [`Self::greet`] comes first.
    ///
    /// # Errors
    /// Nobody listens, or the service does not want this user.
    pub fn open(path: &Path, limit: Duration) -> std::io::Result<Connection> {
        let end = Instant::now() + limit;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // A service that accepts nobody, or does not read, must not hold up who comes.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let stream = UnixStream::from(socket);
        let stream = authenticate(stream, end)?;
        Ok(Connection { stream, end, serial: 0, out: Vec::new() })
    }

    /// Says hello to the bus, with the next [`Self::send`]. Returns the number of the call.
    pub fn greet(&mut self) -> u32 {
        let (destination, path, interface) = (BUS, BUS_PATH, BUS);
        self.queue(&Call { destination, path, interface, member: "Hello", flags: 0, signature: "", body: None })
    }

    /// Asks the bus for signals, with the next [`Self::send`].
    pub fn listen(&mut self, rule: &str) {
        let mut body = Writer::default();
        body.text(rule);
        let (destination, path, interface) = (BUS, BUS_PATH, BUS);
        let flags = crate::NO_REPLY;
        self.queue(&Call {
            destination,
            path,
            interface,
            member: "AddMatch",
            flags,
            signature: "s",
            body: Some(&body),
        });
    }

    /// Puts a call behind those that go out with the next [`Self::send`]. Returns its number, by which the answer is known.
    pub fn queue(&mut self, call: &Call<'_>) -> u32 {
        self.serial += 1;
        call.encode(self.serial, &mut self.out);
        self.serial
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The connection's.
    pub fn send(&mut self) -> std::io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out)
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// The connection's; [`std::io::ErrorKind::TimedOut`] at the end of the time.
    pub fn receive(&mut self) -> std::io::Result<Message> {
        self.read()
    }

    /// Calls a method, with what is queued before it, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with the callee's words, or the connection's.
    pub fn call(&mut self, call: &Call<'_>) -> Result<Message, Error> {
        let serial = self.queue(call);
        self.send()?;
        loop {
            let message = self.receive()?;
            match message.kind {
                REPLY if message.reply_to == serial => return Ok(message),
                // Also to a greeting: without it nothing else is answered.
                ERROR if message.reply_to == serial || message.reply_to == 1 => {
                    let text = message.reader().text().unwrap_or_default();
                    return Err(Error::Refused { name: message.error, text });
                }
                _ => {}
            }
        }
    }

    fn read(&mut self) -> std::io::Result<Message> {
        let bad = || std::io::Error::other("a message that is not D-Bus");
        let mut head = [0u8; 16];
        self.read_exact(&mut head)?;
        let (fields, body) = sizes(&head).ok_or_else(bad)?;
        let mut rest = vec![0u8; fields + body];
        self.read_exact(&mut rest)?;
        let body = rest.split_off(fields);
        decode(head[1], &rest, body).ok_or_else(bad)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> std::io::Result<()> {
        while !buffer.is_empty() {
            wait(&self.stream, self.end)?;
            match self.stream.read(buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }
}

fn wait(stream: &UnixStream, end: Instant) -> std::io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(std::io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// EXTERNAL without naming a user: the server takes what the kernel says about the socket. In a user namespace, our own
/// number would be another than the one that the server sees.
fn authenticate(mut stream: UnixStream, end: Instant) -> std::io::Result<UnixStream> {
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
    let mut line = Vec::new();
    loop {
        let mut byte = [0u8];
        wait(&stream, end)?;
        if stream.read(&mut byte)? == 0 || line.len() > 1024 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        line.push(byte[0]);
        if line.ends_with(b"\r\n") {
            let text = String::from_utf8_lossy(&line);
            match text.split_ascii_whitespace().next() {
                Some("DATA") => line.clear(),
                Some("OK") => return Ok(stream),
                _ => return Err(std::io::Error::other(format!("the bus refuses: {}", text.trim_end()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn nobody_is_waited_for_without_end() {
        let directory = std::env::temp_dir().join(format!("dhow-dbus-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let silent = Connection::open(&path, Duration::from_millis(50));
        assert_eq!(silent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        // One that lets in, and then says nothing.
        let server = std::thread::spawn(move || {
            let (_first, _) = listener.accept().unwrap();
            let (mut second, _) = listener.accept().unwrap();
            second.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
            second
        });
        let mut connection = Connection::open(&path, Duration::from_millis(500)).unwrap();
        let _kept = server.join().unwrap();
        connection.greet();
        let call =
            Call { destination: "d", path: "/", interface: "i", member: "m", flags: 0, signature: "", body: None };
        let answer = connection.call(&call).unwrap_err();
        assert!(matches!(&answer, Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut), "{answer}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
