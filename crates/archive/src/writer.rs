//! The writer: the same input gives the same bytes, whoever writes them and when.
//!
//! Members are plain ustar where that can hold them, with a pax header in front where it cannot. Owner and group names are
//! left out: they belong to the machine that writes.

use crate::entry::{Kind, Time};
use crate::header::BLOCK;
use std::io::{self, Read, Write};

/// What the writer is told about a member; the meaning of each field is that of [`crate::Entry`].
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// Its name; a directory's gets a `/` at the end if it has none.
    pub path: &'a [u8],
    /// What it is; [`Kind::Unknown`] is refused.
    pub kind: Kind,
    /// The target of a link.
    pub link: &'a [u8],
    /// Number of bytes that will follow; must be 0 for all but regular files.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of last change of content.
    pub mtime: Time,
    /// Extended attributes by full name. They are written sorted by name.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes an archive to a stream.
pub struct Writer<W> {
    sink: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// A writer at the start of an archive.
    pub fn new(sink: W) -> Writer<W> {
        Writer { sink, buffer: Vec::new() }
    }

    /// Writes a member that has no data.
    ///
    /// # Errors
    /// `InvalidInput` if the header announces data or cannot be written; otherwise the sink's error.
    pub fn append(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.append_data(header, io::empty())
    }

    /// Writes a member and exactly `header.size` bytes from `data`.
    ///
    /// # Errors
    /// `InvalidInput` if the header cannot be written, `UnexpectedEof` if `data` ends early; otherwise the error of sink
    /// or source. After an error the archive is incomplete.
    pub fn append_data(&mut self, header: &Header<'_>, data: impl Read) -> io::Result<()> {
        self.header(header)?;
        if header.size == 0 {
            return Ok(());
        }
        let copied = self.copy(data.take(header.size))?;
        if copied < header.size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} has {copied} bytes instead of {}", header.path.escape_ascii(), header.size),
            ));
        }
        self.pad(header.size)
    }

    /// Writes the end mark and gives the sink back.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    /// As `io::copy`, with fewer and larger steps.
    fn copy(&mut self, mut data: impl Read) -> io::Result<u64> {
        self.buffer.resize(128 << 10, 0);
        let mut copied = 0;
        loop {
            match data.read(&mut self.buffer) {
                Ok(0) => return Ok(copied),
                Ok(count) => {
                    self.sink.write_all(&self.buffer[..count])?;
                    copied += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        // Less than a block.
        self.sink.write_all(&[0; BLOCK][..padding as usize])
    }

    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let type_byte = type_byte(&header.kind)?;
        if header.kind != Kind::Regular && header.size != 0 {
            return Err(invalid("only regular files have data"));
        }
        // What no reader accepts, and no file has.
        if i64::try_from(header.size).is_err() || i64::try_from(header.uid.max(header.gid)).is_err() {
            return Err(invalid("a size or owner above 2^63"));
        }
        if header.path.is_empty() || header.path.contains(&0) || header.link.contains(&0) {
            return Err(invalid("an empty name, or a NUL in one"));
        }
        let path = match header.kind {
            Kind::Directory if !header.path.ends_with(b"/") => [header.path, b"/"].concat(),
            _ => header.path.to_vec(),
        };
        let records = records(header, &path);
        if !records.is_empty() {
            let name = extension_name(&path);
            let short = Short { path: &name, size: records.len() as u64, mode: 0o644, ..Short::default() };
            self.sink.write_all(&block(&short, b'x'))?;
            self.sink.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let (major, minor) = match header.kind {
            Kind::Character { major, minor } | Kind::Block { major, minor } => (major, minor),
            _ => (0, 0),
        };
        let short = Short {
            path: &path,
            link: header.link,
            size: header.size,
            mode: header.mode & 0o7777,
            uid: header.uid,
            gid: header.gid,
            seconds: header.mtime.seconds,
            major,
            minor,
        };
        self.sink.write_all(&block(&short, type_byte))
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

fn type_byte(kind: &Kind) -> io::Result<u8> {
    Ok(match kind {
        Kind::Regular => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Character { .. } => b'3',
        Kind::Block { .. } => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Unknown(_) => return Err(invalid("unknown file type")),
    })
}

/// Largest value of octal fields of 8 and of 12 bytes.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// The pax records for what ustar cannot hold, in a fixed order.
fn records(header: &Header<'_>, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if header.gid > OCTAL_7 {
        record(&mut out, b"gid", header.gid.to_string().as_bytes());
    }
    if header.link.len() > 100 || !header.link.is_ascii() {
        record(&mut out, b"linkpath", header.link);
    }
    let Time { seconds, nanoseconds } = header.mtime;
    if nanoseconds != 0 || !(0..=OCTAL_11.cast_signed()).contains(&seconds) {
        record(&mut out, b"mtime", time(header.mtime).as_bytes());
    }
    if split(path).is_none() || !path.is_ascii() {
        record(&mut out, b"path", path);
    }
    if header.size > OCTAL_11 {
        record(&mut out, b"size", header.size.to_string().as_bytes());
    }
    if header.uid > OCTAL_7 {
        record(&mut out, b"uid", header.uid.to_string().as_bytes());
    }
    let mut xattrs: Vec<_> = header.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        record(&mut out, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    out
}

fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, equals sign and line feed; the length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn time(time: Time) -> String {
    let Time { seconds, nanoseconds } = time;
    let (sign, seconds, nanoseconds) = match (seconds < 0, nanoseconds) {
        (true, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{nanoseconds:09}").trim_end_matches('0').to_owned()
}

/// The name of a pax header, for readers that extract it as a file.
fn extension_name(path: &[u8]) -> Vec<u8> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let base = trimmed.rsplit(|&byte| byte == b'/').next().unwrap_or(trimmed);
    let ascii = base.iter().filter(|byte| byte.is_ascii()).take(80);
    b"PaxHeaders.0/".iter().chain(ascii).copied().collect()
}

/// Splits a name into ustar's prefix and name fields.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let at = path.iter().take(156).rposition(|&byte| byte == b'/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (!prefix.is_empty() && !name.is_empty() && name.len() <= 100).then_some((prefix, name))
}

/// The fields of a header block, cut where they do not fit: a pax record then carries the whole.
#[derive(Default)]
struct Short<'a> {
    path: &'a [u8],
    link: &'a [u8],
    size: u64,
    mode: u32,
    uid: u64,
    gid: u64,
    seconds: i64,
    major: u32,
    minor: u32,
}

fn block(short: &Short<'_>, type_byte: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (prefix, name) = split(short.path).unwrap_or_else(|| (&[], &short.path[..short.path.len().min(100)]));
    copy(&mut block[..100], name);
    octal(&mut block[100..108], u64::from(short.mode));
    octal(&mut block[108..116], fitting(short.uid, OCTAL_7));
    octal(&mut block[116..124], fitting(short.gid, OCTAL_7));
    octal(&mut block[124..136], fitting(short.size, OCTAL_11));
    octal(&mut block[136..148], fitting(u64::try_from(short.seconds).unwrap_or(0), OCTAL_11));
    block[148..156].fill(b' ');
    block[156] = type_byte;
    copy(&mut block[157..257], &short.link[..short.link.len().min(100)]);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], fitting(u64::from(short.major), OCTAL_7));
    octal(&mut block[337..345], fitting(u64::from(short.minor), OCTAL_7));
    copy(&mut block[345..500], prefix);
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

fn fitting(value: u64, most: u64) -> u64 {
    if value > most { 0 } else { value }
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    field[..bytes.len()].copy_from_slice(bytes);
}

/// Digits with leading zeros and a NUL at the end.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    field[digits] = 0;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}
