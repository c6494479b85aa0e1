//! Just enough of D-Bus: EXTERNAL authentication, method calls with the types of [`super::Value`], replies, errors, and the
//! signal that a job is done. The D-Bus specification 0.43, "Message Format" and "Authentication Protocol".

use super::Value;
use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const LIMIT: Duration = Duration::from_secs(25);
/// Far above any message that systemd sends to us; the specification allows 128 MiB.
const LARGEST: usize = 1 << 20;
const NO_REPLY: u8 = 1;

/// Values one after another, each aligned as its type wants it.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        // Every message is far smaller than 4 GiB; one that is not is refused by its receiver.
        self.number(u32::try_from(length).unwrap_or(u32::MAX));
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.number(u32::from(flag));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// An array of elements with this alignment: the length does not count the padding before the first.
    pub(super) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Writer)) {
        self.number(0);
        let at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `(sv)`
    pub(super) fn property(&mut self, name: &str, value: &Value) {
        self.align(8);
        self.text(name);
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.number(u32::from(*flag));
            }
            Value::Number(number) => {
                self.signature("t");
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |writer| numbers.iter().for_each(|number| writer.number(*number)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |writer| writer.0.extend(bytes));
            }
        }
    }
}

/// A method of an object.
struct Call<'a> {
    destination: &'a str,
    path: &'a str,
    interface: &'a str,
    member: &'a str,
    flags: u8,
    signature: &'a str,
    body: &'a [u8],
}

impl Call<'_> {
    fn encode(&self, serial: u32, out: &mut Vec<u8>) {
        let mut writer = Writer(vec![b'l', 1, self.flags, 1]);
        writer.length(self.body.len());
        writer.number(serial);
        writer.array(8, |writer| {
            let mut field = |code: u8, signature: &str, value: &str| {
                if value.is_empty() {
                    return;
                }
                writer.align(8);
                writer.0.push(code);
                writer.signature(signature);
                if signature == "g" { writer.signature(value) } else { writer.text(value) }
            };
            field(1, "o", self.path);
            field(2, "s", self.interface);
            field(3, "s", self.member);
            field(6, "s", self.destination);
            field(8, "g", self.signature);
        });
        writer.align(8);
        out.extend(writer.0);
        out.extend(self.body);
    }
}

/// A message that came in, as far as it is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    kind: u8,
    member: String,
    error: String,
    reply_to: u32,
    body: Vec<u8>,
}

/// Reads values; `None` where the message ends too early.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?);
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }
}

/// The fields of a header, and the length of it all, from the 16 bytes that every message begins with.
fn sizes(start: &[u8; 16]) -> Option<(usize, usize)> {
    if start[0] != b'l' || start[3] != 1 {
        return None;
    }
    let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    (body <= LARGEST && fields <= LARGEST).then(|| (fields.next_multiple_of(8), body))
}

fn decode(kind: u8, fields: &[u8], body: Vec<u8>) -> Option<Message> {
    let mut message = Message { kind, body, ..Message::default() };
    let mut reader = Reader { bytes: fields, at: 0 };
    loop {
        reader.align(8);
        // The last fields are followed by padding to eight bytes, which is less than a field.
        if fields.len().saturating_sub(reader.at) < 8 {
            return Some(message);
        }
        let code = reader.byte()?;
        match (reader.signature()?, code) {
            (b"s" | b"o", _) => {
                let text = reader.text()?;
                match code {
                    3 => message.member = text,
                    4 => message.error = text,
                    _ => {}
                }
            }
            (b"u", 5) => message.reply_to = reader.number()?,
            (b"u", _) => drop(reader.number()?),
            (b"g", _) => drop(reader.signature()?),
            _ => return None,
        }
    }
}

/// A connection to a bus or to systemd itself.
pub(super) struct Connection {
    stream: UnixStream,
    path: PathBuf,
    is_bus: bool,
}

impl Connection {
    /// Opens the first of the sockets that is there: with a bus behind it (`true`), or systemd.
    pub(super) fn open(addresses: &[(PathBuf, bool)]) -> Result<Connection> {
        let mut reason = String::new();
        let mut last = Path::new("");
        for (path, is_bus) in addresses {
            last = path;
            match UnixStream::connect(path).and_then(authenticate) {
                Ok(stream) => return Ok(Connection { stream, path: path.clone(), is_bus: *is_bus }),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(Error::Systemd { request: "connect", bus: last.to_owned(), reason })
    }

    /// Calls a method that starts a job for `unit` and waits until the job is done. All that has to be said before is said
    /// in the same write.
    pub(super) fn job(&mut self, method: &'static str, signature: &str, body: &Writer, unit: &str) -> Result<()> {
        const JOB: u32 = 4;
        let refused = |path: &Path, reason: String| Error::Systemd { request: method, bus: path.to_owned(), reason };
        let out = self.requests(method, signature, body, JOB);
        let sent = self.stream.write_all(&out);
        sent.map_err(|error| refused(&self.path, error.to_string()))?;
        let start = Instant::now();
        loop {
            let message = self.receive(start).map_err(|error| refused(&self.path, error.to_string()))?;
            let mut body = Reader { bytes: &message.body, at: 0 };
            match message.kind {
                // An error, to this call or to one that comes before it.
                3 if message.reply_to == JOB || message.reply_to == 1 => {
                    let text = body.text().unwrap_or_default();
                    return Err(refused(&self.path, format!("{}: {text}", message.error)));
                }
                4 if message.member == "JobRemoved" => {
                    let done = (|| {
                        body.number()?;
                        body.text()?;
                        Some((body.text()?, body.text()?))
                    })();
                    match done {
                        Some((of, result)) if of == unit && result == "done" => return Ok(()),
                        Some((of, result)) if of == unit => {
                            return Err(refused(&self.path, format!("the job for {unit} ended: {result}")));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// Calls a method that is done when it has answered.
    pub(super) fn call(&mut self, method: &'static str, signature: &str, body: &Writer) -> Result<()> {
        const CALL: u32 = 4;
        let refused = |path: &Path, reason: String| Error::Systemd { request: method, bus: path.to_owned(), reason };
        let out = self.requests(method, signature, body, CALL);
        let sent = self.stream.write_all(&out);
        sent.map_err(|error| refused(&self.path, error.to_string()))?;
        let start = Instant::now();
        loop {
            let message = self.receive(start).map_err(|error| refused(&self.path, error.to_string()))?;
            match message.kind {
                2 if message.reply_to == CALL => return Ok(()),
                3 if message.reply_to == CALL || message.reply_to == 1 => {
                    let text = Reader { bytes: &message.body, at: 0 }.text().unwrap_or_default();
                    return Err(refused(&self.path, format!("{}: {text}", message.error)));
                }
                _ => {}
            }
        }
    }

    fn requests(&self, method: &str, signature: &str, body: &Writer, job: u32) -> Vec<u8> {
        const BUS: &str = "org.freedesktop.DBus";
        let mut out = Vec::new();
        let call = |destination, path, interface, member| Call {
            destination,
            path,
            interface,
            member,
            flags: NO_REPLY,
            signature: "",
            body: &[],
        };
        if self.is_bus {
            let hello = call(BUS, "/org/freedesktop/DBus", BUS, "Hello");
            Call { flags: 0, ..hello }.encode(1, &mut out);
            let mut rule = Writer::default();
            rule.text("type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
            let add = call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch");
            Call { signature: "s", body: &rule.0, ..add }.encode(2, &mut out);
        }
        let destination = if self.is_bus { DESTINATION } else { "" };
        // systemd sends no signals before somebody asks for them.
        call(destination, "/org/freedesktop/systemd1", MANAGER, "Subscribe").encode(3, &mut out);
        let start = call(destination, "/org/freedesktop/systemd1", MANAGER, method);
        Call { flags: 0, signature, body: &body.0, ..start }.encode(job, &mut out);
        out
    }

    fn receive(&mut self, start: Instant) -> std::io::Result<Message> {
        let bad = || std::io::Error::other("a message that is not D-Bus");
        let mut head = [0u8; 16];
        self.read_exact(&mut head, start)?;
        let (fields, body) = sizes(&head).ok_or_else(bad)?;
        let mut rest = vec![0u8; fields + body];
        self.read_exact(&mut rest, start)?;
        let body = rest.split_off(fields);
        decode(head[1], &rest, body).ok_or_else(bad)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8], start: Instant) -> std::io::Result<()> {
        while !buffer.is_empty() {
            wait(&self.stream, start)?;
            match self.stream.read(buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }
}

fn wait(stream: &UnixStream, start: Instant) -> std::io::Result<()> {
    let left = LIMIT.saturating_sub(start.elapsed());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(std::io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// EXTERNAL without naming a user: the server takes what the kernel says about the socket. In a user namespace, our own
/// number would be another than the one that the server sees.
fn authenticate(mut stream: UnixStream) -> std::io::Result<UnixStream> {
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
    let start = Instant::now();
    let mut line = Vec::new();
    loop {
        let mut byte = [0u8];
        wait(&stream, start)?;
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

    #[test]
    fn a_message_as_it_goes_over_the_wire() {
        let mut body = Writer::default();
        body.text("x.scope");
        let mut out = Vec::new();
        let call = Call {
            destination: "org.a",
            path: "/o",
            interface: "org.b",
            member: "Go",
            flags: 0,
            signature: "s",
            body: &body.0,
        };
        call.encode(7, &mut out);
        let (fields, length) = sizes(out[..16].try_into().unwrap()).unwrap();
        assert_eq!(16 + fields + length, out.len());
        assert_eq!(length, 12);
        let message = decode(out[1], &out[16..16 + fields], out[16 + fields..].to_vec()).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (1, "Go"));
        assert_eq!(Reader { bytes: &message.body, at: 0 }.text().as_deref(), Some("x.scope"));
    }

    #[test]
    fn damaged_messages_are_refused_without_panic() {
        let mut out = Vec::new();
        Call { destination: "d", path: "/", interface: "i", member: "m", flags: 0, signature: "", body: &[] }
            .encode(1, &mut out);
        for at in 0..out.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = out.clone();
                bad[at] = value;
                if let Some((fields, _)) = sizes(bad[..16].try_into().unwrap()) {
                    drop(decode(bad[1], bad.get(16..16 + fields).unwrap_or(&[]), Vec::new()));
                }
            }
        }
        assert!(sizes(&[0xff; 16]).is_none());
    }
}
