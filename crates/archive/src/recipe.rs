//! What an archive consists of besides the contents of its files, so that it can be put together again byte for byte.
//!
//! A [`Tape`] watches a [`crate::Reader`]: it sees every byte that goes by, and knows which belong to a file. The
//! [`Recorder`] keeps the others (headers, padding, the end mark and what follows it) and notes for the contents only where
//! they can be read again. A [`Player`] reads that back, step by step.
//!
//! ```text
//! recipe  = zstd frame of: "dhow recipe 1\n" *record end
//! record  = 'L' length bytes                       these bytes as they are
//!         / 'F' length path size                   what follows belongs to this member; size is the file's
//!         / 'D' offset length crc                  so many bytes of that file, from there
//! end     = 'E'
//! ```
//! Numbers are LEB128, the CRC-32 is four bytes, little-endian. Literals are cut so that none is longer than
//! [`LONGEST_LITERAL`]; whoever reads a recipe needs no more memory than that and the frame's window of 512 KiB.

use crate::entry::Entry;
use crc32fast::Hasher;
use std::io::{self, BufReader, Read, Write};

/// Most bytes in one literal.
pub const LONGEST_LITERAL: usize = 32 << 10;

const MAGIC: &[u8] = b"dhow recipe 1\n";
/// A name is bounded by the reader's limit of extended headers, 1 MiB.
const LONGEST_PATH: u64 = 1 << 20;
/// The fastest of zstd's levels that still finds the last header again: headers shrink to a thirtieth.
const LEVEL: i32 = 1;

/// The sum that a recipe keeps of each part, CRC-32 as in gzip.
#[derive(Debug, Default)]
pub struct Crc32(Hasher);

impl Crc32 {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of all so far.
    pub fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

/// Watches a reader.
pub trait Tape: Send {
    /// A member begins: what [`Tape::data`] gets belongs to it.
    fn member(&mut self, entry: &Entry);
    /// Bytes that are no file's content.
    fn literal(&mut self, bytes: &[u8]);
    /// Bytes of the member's content, and where they belong in the file.
    fn data(&mut self, offset: u64, bytes: &[u8]);
    /// The archive and what follows its end mark have been read.
    ///
    /// # Errors
    /// The first failure of writing, here or before.
    fn finish(&mut self) -> io::Result<()>;
}

/// Writes a recipe.
pub struct Recorder<W: Write> {
    /// `None` after a failure or the end.
    out: Option<zstd::stream::write::Encoder<'static, W>>,
    failure: Option<io::Error>,
    /// Records on their way to `out`, which takes its time for each call.
    records: Vec<u8>,
    literal: Vec<u8>,
    member: Option<(Vec<u8>, u64)>,
    run: Option<Run>,
}

struct Run {
    offset: u64,
    length: u64,
    crc: Crc32,
}

impl<W: Write + Send> Recorder<W> {
    /// A recorder at the start of an archive.
    ///
    /// # Errors
    /// The sink's.
    pub fn new(sink: W) -> io::Result<Recorder<W>> {
        let out = Some(zstd::stream::write::Encoder::new(sink, LEVEL)?);
        let literal = Vec::with_capacity(LONGEST_LITERAL);
        Ok(Recorder { out, failure: None, records: MAGIC.to_vec(), literal, member: None, run: None })
    }

    fn put_records(&mut self) {
        if let Some(out) = &mut self.out
            && let Err(error) = out.write_all(&self.records)
        {
            self.failure = Some(error);
            self.out = None;
        }
        self.records.clear();
    }

    fn flush_literal(&mut self) {
        if self.literal.is_empty() {
            return;
        }
        self.records.push(b'L');
        number(&mut self.records, self.literal.len() as u64);
        self.records.append(&mut self.literal);
        self.put_if_many();
    }

    fn put_if_many(&mut self) {
        if self.records.len() >= LONGEST_LITERAL {
            self.put_records();
        }
    }

    fn flush_run(&mut self) {
        let Some(Run { offset, length, crc }) = self.run.take() else { return };
        self.records.push(b'D');
        number(&mut self.records, offset);
        number(&mut self.records, length);
        self.records.extend(crc.value().to_le_bytes());
        self.put_if_many();
    }
}

impl<W: Write + Send> Tape for Recorder<W> {
    fn member(&mut self, entry: &Entry) {
        self.flush_run();
        self.member = Some((entry.path.clone(), entry.size));
    }

    fn literal(&mut self, mut bytes: &[u8]) {
        self.flush_run();
        while !bytes.is_empty() {
            let count = bytes.len().min(LONGEST_LITERAL - self.literal.len());
            self.literal.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.literal.len() == LONGEST_LITERAL {
                self.flush_literal();
            }
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.flush_literal();
        // Only members with content are worth a record.
        if let Some((path, size)) = self.member.take() {
            self.records.push(b'F');
            number(&mut self.records, path.len() as u64);
            self.records.extend(path);
            number(&mut self.records, size);
        }
        if self.run.as_ref().is_some_and(|run| run.offset + run.length != offset) {
            self.flush_run();
        }
        let run = self.run.get_or_insert_with(|| Run { offset, length: 0, crc: Crc32::default() });
        run.length += bytes.len() as u64;
        run.crc.update(bytes);
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush_run();
        self.flush_literal();
        self.records.push(b'E');
        self.put_records();
        match (self.failure.take(), self.out.take()) {
            (Some(error), _) => Err(error),
            (None, Some(out)) => out.finish()?.flush(),
            (None, None) => Ok(()),
        }
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One step of putting an archive together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes.
    Literal(Vec<u8>),
    /// The contents that follow are this member's: its name as in the archive, and the file's size.
    File {
        /// Name.
        path: Vec<u8>,
        /// Bytes, holes included.
        size: u64,
    },
    /// A part of the file.
    Data {
        /// Where in the file it begins.
        offset: u64,
        /// Bytes.
        length: u64,
        /// CRC-32 of the part.
        crc: u32,
    },
}

/// Reads a recipe.
pub struct Player<R: Read> {
    input: zstd::stream::read::Decoder<'static, BufReader<R>>,
    ended: bool,
}

impl<R: Read> Player<R> {
    /// A player at the start of a recipe.
    ///
    /// # Errors
    /// `InvalidData` if it is none, and the source's.
    pub fn new(source: R) -> io::Result<Player<R>> {
        let mut input = zstd::stream::read::Decoder::new(source)?;
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("its first line"));
        }
        Ok(Player { input, ended: false })
    }

    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// `InvalidData` or `UnexpectedEof` if the recipe is damaged, and the source's.
    #[allow(clippy::should_implement_trait)] // A step can fail; an iterator's item would hide where.
    pub fn next(&mut self) -> io::Result<Option<Step>> {
        if self.ended {
            return Ok(None);
        }
        let [kind] = self.fixed()?;
        let step = match kind {
            b'L' => {
                let length = self.number()?;
                Step::Literal(self.bytes(length, LONGEST_LITERAL as u64)?)
            }
            b'F' => {
                let length = self.number()?;
                let path = self.bytes(length, LONGEST_PATH)?;
                Step::File { path, size: self.number()? }
            }
            b'D' => {
                let (offset, length) = (self.number()?, self.number()?);
                offset.checked_add(length).ok_or_else(|| invalid("a part beyond all numbers"))?;
                Step::Data { offset, length, crc: u32::from_le_bytes(self.fixed()?) }
            }
            b'E' => {
                self.ended = true;
                return Ok(None);
            }
            _ => return Err(invalid("an unknown record")),
        };
        Ok(Some(step))
    }

    fn fixed<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("a number"))
    }

    fn bytes(&mut self, length: u64, most: u64) -> io::Result<Vec<u8>> {
        if length > most {
            return Err(invalid("a length"));
        }
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the recipe is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Kind, Limits, Reader, Time, Writer};

    /// A sink that can be looked into after the recorder has gone.
    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record(archive: &[u8]) -> Vec<u8> {
        let sink = Shared::default();
        let mut reader =
            Reader::new(archive, Limits::default()).with_tape(Box::new(Recorder::new(sink.clone()).unwrap()));
        while let Some(entry) = reader.next().unwrap() {
            // Half of the files are read, and the rest of those not to their end, as an extraction may do.
            if entry.path.len() % 2 == 0 {
                while reader.data().unwrap().is_some() {}
            }
        }
        reader.finish_tape().unwrap();
        std::mem::take(&mut *sink.0.lock().unwrap())
    }

    /// Plays with the archive itself as the place of all contents.
    fn play(recipe: &[u8], contents: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let mut player = Player::new(recipe).unwrap();
        let (mut out, mut file) = (Vec::new(), Vec::new());
        while let Some(step) = player.next().unwrap() {
            match step {
                Step::Literal(bytes) => out.extend(bytes),
                Step::File { path, size } => {
                    file = contents(&path);
                    assert_eq!(file.len() as u64, size);
                }
                Step::Data { offset, length, crc } => {
                    let part = &file[offset as usize..(offset + length) as usize];
                    let mut sum = Crc32::default();
                    sum.update(part);
                    assert_eq!(sum.value(), crc);
                    out.extend(part);
                }
            }
        }
        out
    }

    #[test]
    fn comes_back_bit_for_bit() {
        let content = |path: &[u8]| vec![path[0]; path.len() * 7000];
        let mut writer = Writer::new(Vec::new());
        for n in 0..40 {
            let path = vec![b'a' + (n % 26) as u8; 1 + n * 5];
            let data = content(&path);
            let header = Header {
                path: &path,
                kind: Kind::Regular,
                link: b"",
                size: data.len() as u64,
                mode: 0o644,
                uid: 0,
                gid: n as u64,
                mtime: Time { seconds: 1, nanoseconds: 5 },
                xattrs: &[],
            };
            writer.append_data(&header, &data[..]).unwrap();
        }
        let mut archive = writer.finish().unwrap();
        archive.extend(b"whatever follows the end mark");
        let recipe = record(&archive);
        assert_eq!(play(&recipe, content), archive);
        assert!(recipe.len() < archive.len() / 4, "{} of {}", recipe.len(), archive.len());
        for end in 0..recipe.len() {
            // Cut off anywhere it is an error and never a shorter archive.
            let damaged = Player::new(&recipe[..end]).and_then(|mut player| {
                while player.next()?.is_some() {}
                Ok(())
            });
            assert!(damaged.is_err() || end >= recipe.len() - 4, "cut at {end} of {}", recipe.len());
        }
    }

    #[test]
    fn numbers() {
        for value in [0, 1, 127, 128, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            bytes.extend(MAGIC);
            bytes.push(b'F');
            number(&mut bytes, 0);
            number(&mut bytes, value);
            bytes.push(b'E');
            let frame = zstd::stream::encode_all(&bytes[..], 1).unwrap();
            let step = Player::new(&frame[..]).unwrap().next().unwrap();
            assert_eq!(step, Some(Step::File { path: vec![], size: value }));
        }
        let broken = [MAGIC, &b"F"[..], &[0xff; 10]].concat();
        let frame = zstd::stream::encode_all(&broken[..], 1).unwrap();
        assert!(Player::new(&frame[..]).unwrap().next().is_err());
    }
}
