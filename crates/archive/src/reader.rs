//! The streaming reader.

use crate::entry::{Entry, Kind, Time};
use crate::header::{self, BLOCK, Dialect, Fields};
use crate::pax::{self, Records};
use crate::recipe::Tape;
use crate::sparse::Map;
use std::io::{self, BufRead, Read};

/// What an archive may ask of its reader.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes in one extended header or long name. Go's limit is 1 MiB too.
    pub header_bytes: usize,
    /// Most extended headers in front of one member.
    pub headers: usize,
    /// Most segments of one sparse file.
    pub sparse_segments: usize,
    /// Most members.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { header_bytes: 1 << 20, headers: 16, sparse_segments: 256 << 10, entries: 16 << 20 }
    }
}

/// Why an archive could not be read. Offsets count bytes of the plain archive from its start.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The source failed; its own error says how.
    #[error("read the archive at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// The source's error.
        #[source]
        source: io::Error,
    },
    /// The stream ends inside a header or a file.
    #[error("the archive is truncated: it ends at byte {offset}, inside {inside}")]
    Truncated {
        /// Its length.
        offset: u64,
        /// What is incomplete.
        inside: &'static str,
    },
    /// A header breaks the format's rules.
    #[error("invalid tar header at byte {offset}: {field}")]
    Invalid {
        /// Where the header's block starts.
        offset: u64,
        /// Which field is wrong.
        field: &'static str,
    },
    /// A limit of [`Limits`].
    #[error("the archive goes beyond a limit at byte {offset}: {limit}")]
    Limit {
        /// Where.
        offset: u64,
        /// Which.
        limit: &'static str,
    },
    /// What watches the reading failed, see [`crate::recipe::Tape`].
    #[error("write down how the archive is made")]
    Tape(#[source] io::Error),
}

/// Reads an archive member by member, in one pass and constant memory.
///
/// Understood are v7, ustar, GNU (long names, base-256 numbers, sparse files) and pax (with the attributes of star and
/// libarchive and GNU's sparse formats 0.0, 0.1 and 1.0). Where the formats leave room it does what Go's `archive/tar`
/// does:
/// - The size in an extended header replaces the one in the header, for the data too (CVE-2025-62518), and belongs to the
///   next member that is no extended header.
/// - Links, directories, devices and pipes have no data whatever their size field says.
/// - A GNU long name wins over a pax path; an empty pax value resets to the header's.
/// - Global extended headers are checked and have no effect.
/// - Two blocks of zeros end the archive, and so does the end of the stream between two members. What follows the end
///   mark is not looked at.
///
/// After an error the reader stays at its end.
pub struct Reader<R> {
    source: R,
    limits: Limits,
    /// Bytes of the archive that have been consumed.
    offset: u64,
    entries: u64,
    body: Body,
    finished: bool,
    end_mark: bool,
    tape: Option<Box<dyn Tape>>,
}

/// The data of the current member.
#[derive(Default)]
struct Body {
    /// Stored bytes not yet handed out.
    remaining: u64,
    padding: u64,
    map: Option<Map>,
    /// Where the next byte of a file without a map belongs.
    position: u64,
    /// Handed out but still in the source's buffer.
    pending: usize,
}

/// Extended headers that wait for their member.
#[derive(Default)]
struct Extensions {
    records: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    count: usize,
}

impl<R: BufRead> Reader<R> {
    /// A reader at the start of a plain archive.
    pub fn new(source: R, limits: Limits) -> Reader<R> {
        Reader {
            source,
            limits,
            offset: 0,
            entries: 0,
            body: Body::default(),
            finished: false,
            end_mark: false,
            tape: None,
        }
    }

    /// Lets a tape watch everything that is read from here on.
    pub fn with_tape(mut self, tape: Box<dyn Tape>) -> Reader<R> {
        self.tape = Some(tape);
        self
    }

    /// Reads the source to its end, past the end mark, and ends the tape if there is one.
    ///
    /// # Errors
    /// The source's as [`TarError::Read`], and the tape's as [`TarError::Tape`].
    pub fn finish_tape(&mut self) -> Result<(), TarError> {
        self.settle();
        let Some(mut tape) = self.tape.take() else { return Ok(()) };
        loop {
            let available = fill(&mut self.source).map_err(|source| TarError::Read { offset: self.offset, source })?;
            if available.is_empty() {
                return tape.finish().map_err(TarError::Tape);
            }
            tape.literal(available);
            let count = available.len();
            self.source.consume(count);
            self.offset += count as u64;
        }
    }

    /// The next member, after skipping what is left of the current one's data; `None` at the end.
    #[allow(clippy::should_implement_trait)] // It borrows nothing but can fail, and `data` must be callable in between.
    pub fn next(&mut self) -> Result<Option<Entry>, TarError> {
        if self.finished {
            return Ok(None);
        }
        // Set until proven otherwise, so that an error ends the archive.
        self.finished = true;
        let entry = self.advance()?;
        if let (Some(tape), Some(entry)) = (&mut self.tape, &entry) {
            tape.member(entry);
        }
        self.finished = entry.is_none();
        Ok(entry)
    }

    /// The next piece of the current member's data and its offset in the file; `None` after the last. Between pieces of
    /// a sparse file are holes; [`Entry::size`] says where the file ends.
    pub fn data(&mut self) -> Result<Option<(u64, &[u8])>, TarError> {
        self.settle();
        if self.body.remaining == 0 || self.finished {
            return Ok(None);
        }
        let (position, most) = match &self.body.map {
            Some(map) => match map.position() {
                Some((position, length)) => (position, length.min(self.body.remaining)),
                None => return Ok(None),
            },
            None => (self.body.position, self.body.remaining),
        };
        let available = match fill(&mut self.source) {
            Ok(available) => available,
            Err(source) => {
                self.finished = true;
                return Err(TarError::Read { offset: self.offset, source });
            }
        };
        if available.is_empty() {
            self.finished = true;
            return Err(TarError::Truncated { offset: self.offset, inside: "a file" });
        }
        let count = available.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.body.pending = count;
        Ok(Some((position, &available[..count])))
    }

    /// The current member's data as a stream with zeros for holes. `size` is [`Entry::size`].
    pub fn body(&mut self, size: u64) -> impl Read + '_ {
        BodyReader { reader: self, size, position: 0 }
    }

    /// True once two blocks of zeros were seen. An archive that ends without them may be cut off between two members.
    pub fn has_end_mark(&self) -> bool {
        self.end_mark
    }

    /// Bytes of the archive consumed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the source back, at the place where reading stopped.
    pub fn into_source(mut self) -> R {
        self.settle();
        self.source
    }

    /// Consumes what the last call of `data` handed out.
    fn settle(&mut self) {
        let count = std::mem::take(&mut self.body.pending);
        if count > 0
            && let Some(tape) = &mut self.tape
        {
            let position = self.body.map.as_ref().and_then(Map::position).map_or(self.body.position, |place| place.0);
            // What was handed out is still in the buffer, so this reads nothing.
            if let Ok(bytes) = self.source.fill_buf() {
                tape.data(position, &bytes[..count]);
            }
        }
        self.source.consume(count);
        let count = count as u64;
        self.offset += count;
        self.body.remaining -= count;
        self.body.position += count;
        if let Some(map) = &mut self.body.map {
            map.advance(count);
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>, TarError> {
        self.settle();
        let rest = self.body.remaining + self.body.padding;
        self.skip(rest, "a file")?;
        self.body = Body::default();
        let mut extensions = Extensions::default();
        loop {
            let at = self.offset;
            let Some(block) = self.header_block()? else {
                if extensions.count > 0 {
                    return Err(TarError::Truncated { offset: self.offset, inside: "an extended header" });
                }
                return Ok(None);
            };
            let invalid = |field| TarError::Invalid { offset: at, field };
            let fields = header::parse(&block).map_err(invalid)?;
            if !matches!(fields.type_byte, b'x' | b'g' | b'L' | b'K' | b'V') {
                return self.member(&block, fields, extensions, at).map(Some);
            }
            extensions.count += 1;
            if extensions.count > self.limits.headers {
                return Err(TarError::Limit { offset: at, limit: "extended headers in a row" });
            }
            let text = self.special(fields.size, at)?;
            match fields.type_byte {
                b'x' => extensions.records = pax::parse(&text, self.limits.sparse_segments).map_err(invalid)?,
                b'g' => pax::parse(&text, self.limits.sparse_segments).map(drop).map_err(invalid)?,
                b'L' => extensions.long_name = Some(header::text(&text).to_vec()),
                b'K' => extensions.long_link = Some(header::text(&text).to_vec()),
                // A volume label names the medium, not a file.
                _ => {}
            }
        }
    }

    /// The next block that is not zero; `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block != [0; BLOCK] {
            return Err(TarError::Invalid { offset: self.offset - BLOCK as u64, field: "one zero block before it" });
        }
        self.end_mark = true;
        Ok(None)
    }

    /// Fills `block`; false if the stream has ended exactly here.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let got = self.read_up_to(block)?;
        match got {
            0 => Ok(false),
            BLOCK => Ok(true),
            _ => Err(TarError::Truncated { offset: self.offset, inside: "a header" }),
        }
    }

    fn read_up_to(&mut self, out: &mut [u8]) -> Result<usize, TarError> {
        let mut got = 0;
        while got < out.len() {
            let available = fill(&mut self.source).map_err(|source| TarError::Read { offset: self.offset, source })?;
            if available.is_empty() {
                break;
            }
            let count = available.len().min(out.len() - got);
            out[got..got + count].copy_from_slice(&available[..count]);
            if let Some(tape) = &mut self.tape {
                tape.literal(&available[..count]);
            }
            self.source.consume(count);
            self.offset += count as u64;
            got += count;
        }
        Ok(got)
    }

    fn skip(&mut self, mut count: u64, inside: &'static str) -> Result<(), TarError> {
        while count > 0 {
            let available = fill(&mut self.source).map_err(|source| TarError::Read { offset: self.offset, source })?;
            if available.is_empty() {
                return Err(TarError::Truncated { offset: self.offset, inside });
            }
            let step = available.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            if let Some(tape) = &mut self.tape {
                tape.literal(&available[..step]);
            }
            self.source.consume(step);
            self.offset += step as u64;
            count -= step as u64;
        }
        Ok(())
    }

    /// The content of an extended header or long name.
    fn special(&mut self, size: u64, at: u64) -> Result<Vec<u8>, TarError> {
        let limit = TarError::Limit { offset: at, limit: "bytes in an extended header" };
        let length = usize::try_from(size).ok().filter(|&length| length <= self.limits.header_bytes).ok_or(limit)?;
        let mut text = vec![0; length];
        if self.read_up_to(&mut text)? < length {
            return Err(TarError::Truncated { offset: self.offset, inside: "an extended header" });
        }
        self.skip(padding(size), "an extended header")?;
        Ok(text)
    }

    /// Puts a member together from its header and what came before it, and prepares its data.
    fn member(
        &mut self,
        block: &[u8; BLOCK],
        fields: Fields,
        extensions: Extensions,
        at: u64,
    ) -> Result<Entry, TarError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TarError::Limit { offset: at, limit: "members" });
        }
        let Extensions { records, long_name, long_link, .. } = extensions;
        let stored = records.size.unwrap_or(fields.size);
        let mut entry = Entry {
            path: long_name.or(records.path).unwrap_or(fields.path),
            kind: Kind::Regular,
            link: long_link.or(records.link).unwrap_or(fields.link),
            size: stored,
            mode: fields.mode,
            uid: records.uid.unwrap_or(fields.uid),
            gid: records.gid.unwrap_or(fields.gid),
            mtime: records.mtime.unwrap_or(fields.mtime),
            xattrs: records.xattrs,
            sparse: false,
            offset: at,
        };
        entry.kind = kind(fields.type_byte, fields.major, fields.minor, &entry.path);
        if !matches!(entry.kind, Kind::HardLink | Kind::Symlink) {
            entry.link = Vec::new();
        }
        if !matches!(entry.kind, Kind::Regular | Kind::Unknown(_)) {
            entry.size = 0;
            return Ok(entry);
        }
        self.body = Body { remaining: stored, padding: padding(stored), ..Body::default() };
        let invalid = |field| TarError::Invalid { offset: at, field };
        if fields.type_byte == b'S' {
            if fields.dialect != Dialect::Gnu {
                return Err(invalid("sparse file without GNU's magic"));
            }
            let (pairs, real_size) = self.gnu_map(block, at)?;
            self.sparse(&mut entry, &pairs, real_size, at)?;
        } else if let Some(mut sparse) = records.sparse {
            if let Some(name) = sparse.name.take() {
                entry.path = name;
            }
            let real_size = sparse.real_size;
            match (sparse.major, sparse.minor) {
                (None | Some(0), None | Some(0 | 1)) if !sparse.map.is_empty() => {
                    self.sparse(&mut entry, &sparse.map, real_size.ok_or(invalid("sparse file without size"))?, at)?;
                }
                // Format 0.x with an empty map and a file of holes only; without any size it is not sparse.
                (None | Some(0), None | Some(0 | 1)) => {
                    if let Some(real_size) = real_size {
                        self.sparse(&mut entry, &[], real_size, at)?;
                    }
                }
                (Some(1), Some(0)) => {
                    let pairs = self.leading_map(at)?;
                    self.sparse(&mut entry, &pairs, real_size.ok_or(invalid("sparse file without size"))?, at)?;
                }
                _ => return Err(invalid("unknown sparse format")),
            }
        }
        Ok(entry)
    }

    fn sparse(&mut self, entry: &mut Entry, pairs: &[u64], real_size: u64, at: u64) -> Result<(), TarError> {
        let map =
            Map::new(pairs, real_size, self.body.remaining).map_err(|field| TarError::Invalid { offset: at, field })?;
        self.body.map = Some(map);
        entry.size = real_size;
        entry.sparse = true;
        Ok(())
    }

    /// The map of GNU's own format: four segments in the header, 21 in each block that follows it.
    fn gnu_map(&mut self, header: &[u8; BLOCK], at: u64) -> Result<(Vec<u64>, u64), TarError> {
        let invalid = TarError::Invalid { offset: at, field: "sparse map" };
        let unsigned = |field: &[u8]| header::number(field).and_then(|value| u64::try_from(value).ok());
        let mut pairs = Vec::new();
        let mut collect = |fields: &[u8]| {
            for field in fields.chunks_exact(24) {
                // An empty field ends the map.
                if field[0] == 0 {
                    break;
                }
                pairs.push(unsigned(&field[..12])?);
                pairs.push(unsigned(&field[12..])?);
            }
            Some(pairs.len() / 2)
        };
        let Some(real_size) = unsigned(&header[483..495]) else { return Err(invalid) };
        if collect(&header[386..482]).is_none() {
            return Err(invalid);
        }
        let mut extended = header[482] != 0;
        let mut block = [0; BLOCK];
        while extended {
            if !self.block(&mut block)? {
                return Err(TarError::Truncated { offset: self.offset, inside: "a sparse map" });
            }
            match collect(&block[..504]) {
                None => return Err(invalid),
                Some(count) if count > self.limits.sparse_segments => {
                    return Err(TarError::Limit { offset: at, limit: "segments of a sparse file" });
                }
                Some(_) => extended = block[504] != 0,
            }
        }
        Ok((pairs, real_size))
    }

    /// The map of pax format 1.0: decimal lines in whole blocks in front of the data, counted in its size.
    fn leading_map(&mut self, at: u64) -> Result<Vec<u64>, TarError> {
        let mut block = [0; BLOCK];
        let mut used = BLOCK;
        let mut line = Vec::with_capacity(20);
        let mut next = |reader: &mut Self| -> Result<u64, TarError> {
            let invalid = || TarError::Invalid { offset: at, field: "sparse map" };
            line.clear();
            loop {
                if used == BLOCK {
                    if reader.body.remaining < BLOCK as u64 {
                        return Err(invalid());
                    }
                    if !reader.block(&mut block)? {
                        return Err(TarError::Truncated { offset: reader.offset, inside: "a sparse map" });
                    }
                    reader.body.remaining -= BLOCK as u64;
                    used = 0;
                }
                let byte = block[used];
                used += 1;
                match byte {
                    b'\n' => return pax::decimal(&line).ok_or_else(invalid),
                    _ if line.len() == 20 => return Err(invalid()),
                    _ => line.push(byte),
                }
            }
        };
        let count = next(self)?;
        let count = usize::try_from(count).ok().filter(|&count| count <= self.limits.sparse_segments);
        let count = count.ok_or(TarError::Limit { offset: at, limit: "segments of a sparse file" })?;
        (0..2 * count).map(|_| next(self)).collect()
    }
}

fn fill<R: BufRead>(source: &mut R) -> io::Result<&[u8]> {
    // Twice the call instead of a loop around the borrow: the second one finds the bytes in the buffer.
    while let Err(error) = source.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    source.fill_buf()
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn kind(type_byte: u8, major: u32, minor: u32, path: &[u8]) -> Kind {
    match type_byte {
        // v7 had no type for directories.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character { major, minor },
        b'4' => Kind::Block { major, minor },
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Unknown(other),
    }
}

struct BodyReader<'a, R> {
    reader: &'a mut Reader<R>,
    size: u64,
    position: u64,
}

impl<R: BufRead> Read for BodyReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let want = out.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        let piece = self.reader.data().map_err(io::Error::other)?;
        let count = match piece {
            Some((offset, bytes)) if offset <= self.position => {
                let count = want.min(bytes.len());
                out[..count].copy_from_slice(&bytes[..count]);
                // Only what was copied is used up; the rest comes again.
                self.reader.body.pending = count;
                count
            }
            hole => {
                let until = hole.map_or(self.size, |(offset, _)| offset);
                let count = want.min(usize::try_from(until - self.position).unwrap_or(usize::MAX));
                out[..count].fill(0);
                self.reader.body.pending = 0;
                count
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

/// Times are compared by the extractor only as a whole.
const _: () = assert!(std::mem::size_of::<Time>() == 16);
