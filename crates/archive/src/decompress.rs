//! Decompression of a stream whose format is found by its first bytes: gzip (RFC 1952), zstd (RFC 8878) or plain.
//!
//! - gzip: any number of members. Zero bytes after the last member are padding, as for gzip(1); anything else there is
//!   an error, as in Go's `compress/gzip`. Check sum and length of each member are verified.
//! - zstd: any number of frames, skippable ones included (zstd:chunked ends with some). Anything else is an error.
//! - bzip2, xz and lz4 are recognised and refused by name: no registry serves them and they inflate slowly.
//!
//! Memory: 64 KiB of input and the decoder's window, which [`Limits`] bounds.

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, Read};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, or in a way that we do not recognise.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Recognised in order to be refused by name.
    Xz,
    /// Recognised in order to be refused by name.
    Bzip2,
    /// Recognised in order to be refused by name.
    Lz4,
}

impl Compression {
    /// The name that a person knows the format by.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Plain => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bzip2",
            Compression::Lz4 => "lz4",
        }
    }

    /// Recognises a format by the first bytes of a stream; 10 bytes are enough.
    ///
    /// A tar archive begins with a file name, and a file may be called `BZh`: bzip2 is believed only with the magic of
    /// its first block.
    pub fn detect(start: &[u8]) -> Compression {
        const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
        match start {
            [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0x50..=0x5f, a, b, c, ..] if [*a, *b, *c] == SKIPPABLE => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
            [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Lz4,
            _ => Compression::Plain,
        }
    }
}

/// What a stream may grow to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes after decompression.
    pub plain_bytes: u64,
    /// Most plain bytes for each compressed byte, judged once more than `ratio_from` plain bytes were produced. Real
    /// layers stay below 20; deflate ends at 1032, zstd above 30,000.
    pub ratio: u64,
    /// Plain bytes from which the ratio is judged: a small layer of zeros is no bomb.
    pub ratio_from: u64,
    /// Largest zstd window as a power of two. The reference tool reads 27 (128 MiB) unless told otherwise.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { plain_bytes: 256 << 30, ratio: 400, ratio_from: 1 << 30, zstd_window_log: 27 }
    }
}

/// Why a stream could not be decompressed. Offsets count compressed bytes from its start.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The source failed; its own error says how.
    #[error("read the compressed stream at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// The source's error.
        #[source]
        source: io::Error,
    },
    /// A format that is not supported.
    #[error("the stream is compressed with {name}, which is not supported (gzip, zstd and plain are)")]
    Unsupported {
        /// Its name.
        name: &'static str,
    },
    /// The stream ends inside compressed data.
    #[error("the {format} stream is truncated at byte {offset}")]
    Truncated {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// Number of bytes there were.
        offset: u64,
    },
    /// The stream breaks its format's rules.
    #[error("the {format} stream is corrupt near byte {offset}: {reason}")]
    Corrupt {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// How far the decoder had read.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// More plain bytes than [`Limits::plain_bytes`].
    #[error("the stream grows beyond the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Inflates more than [`Limits::ratio`].
    #[error("{compressed} compressed bytes grew to {plain}, more than {limit} times: taken for a decompression bomb")]
    Ratio {
        /// Bytes read.
        compressed: u64,
        /// Bytes produced.
        plain: u64,
        /// The limit.
        limit: u64,
    },
}

impl From<DecompressError> for io::Error {
    fn from(error: DecompressError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A stream of plain bytes from a stream of plain or compressed bytes.
pub struct Decompressor<R> {
    input: Input<R>,
    format: Compression,
    state: State,
    limits: Limits,
    plain: u64,
}

enum State {
    Plain,
    /// Before the first member or between two.
    GzipBoundary(Box<Gzip>),
    GzipBody(Box<Gzip>),
    Zstd {
        decoder: ZstdDecoder<'static>,
        in_frame: bool,
    },
    End,
}

struct Gzip {
    inflate: Decompress,
    crc: Hasher,
    first: bool,
}

impl<R: Read> Decompressor<R> {
    /// Reads the first bytes of `source` and recognises the format.
    pub fn new(source: R, limits: Limits) -> Result<Decompressor<R>, DecompressError> {
        let mut input = Input { source, buffer: vec![0; 64 << 10], start: 0, end: 0, offset: 0, ended: false };
        input.gather(10)?;
        let format = Compression::detect(input.available());
        let state = match format {
            Compression::Plain => State::Plain,
            Compression::Gzip => {
                State::GzipBoundary(Box::new(Gzip { inflate: Decompress::new(false), crc: Hasher::new(), first: true }))
            }
            Compression::Zstd => State::Zstd { decoder: zstd_decoder(&limits)?, in_frame: false },
            other => return Err(DecompressError::Unsupported { name: other.name() }),
        };
        Ok(Decompressor { input, format, state, limits, plain: 0 })
    }

    /// What was recognised.
    pub fn format(&self) -> Compression {
        self.format
    }

    /// Gives the source back, to read what is left of it. What is in the input buffer is lost.
    pub fn into_source(self) -> R {
        self.input.source
    }

    /// Bytes taken from the source and used so far.
    pub fn compressed_bytes(&self) -> u64 {
        self.input.offset
    }

    /// Bytes handed out so far.
    pub fn plain_bytes(&self) -> u64 {
        self.plain
    }

    /// Writes the next plain bytes to the start of `out` and returns how many; 0 is the end of the stream (or an empty
    /// `out`).
    pub fn fill(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        if out.is_empty() {
            return Ok(0);
        }
        let written = loop {
            let (next, written) = match std::mem::replace(&mut self.state, State::End) {
                State::Plain => (State::Plain, self.input.copy_to(out)?),
                State::GzipBoundary(gzip) => match gzip_boundary(&mut self.input, gzip)? {
                    Some(gzip) => {
                        self.state = State::GzipBody(gzip);
                        continue;
                    }
                    None => (State::End, 0),
                },
                State::GzipBody(gzip) => match inflate(&mut self.input, gzip, out)? {
                    (state, 0) => {
                        self.state = state;
                        continue;
                    }
                    (state, written) => (state, written),
                },
                State::Zstd { decoder, in_frame } => unzstd(&mut self.input, decoder, in_frame, out)?,
                State::End => (State::End, 0),
            };
            self.state = next;
            break written;
        };
        self.plain += written as u64;
        self.within_limits()?;
        Ok(written)
    }

    fn within_limits(&self) -> Result<(), DecompressError> {
        if self.plain > self.limits.plain_bytes {
            return Err(DecompressError::TooLarge { limit: self.limits.plain_bytes });
        }
        let compressed = self.input.offset.max(1);
        let judged = self.format != Compression::Plain && self.plain > self.limits.ratio_from;
        if judged && self.plain / compressed > self.limits.ratio {
            return Err(DecompressError::Ratio { compressed, plain: self.plain, limit: self.limits.ratio });
        }
        Ok(())
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.fill(out)?)
    }
}

/// The compressed side: a buffer with a position.
struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes used, not bytes read.
    offset: u64,
    ended: bool,
}

impl<R: Read> Input<R> {
    fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn used(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// Reads until `count` bytes are there or the source ends. `count` is at most the size of the buffer.
    fn gather(&mut self, count: usize) -> Result<(), DecompressError> {
        if self.end - self.start >= count || self.ended {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < count && !self.ended {
            let got = read(&mut self.source, &mut self.buffer[self.end..])
                .map_err(|source| DecompressError::Read { offset: self.offset, source })?;
            self.end += got;
            self.ended = got == 0;
        }
        Ok(())
    }

    fn copy_to(&mut self, out: &mut [u8]) -> Result<usize, DecompressError> {
        if self.start < self.end {
            let count = out.len().min(self.end - self.start);
            out[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.used(count);
            return Ok(count);
        }
        let got =
            read(&mut self.source, out).map_err(|source| DecompressError::Read { offset: self.offset, source })?;
        self.offset += got as u64;
        Ok(got)
    }

    fn byte(&mut self) -> Result<u8, DecompressError> {
        self.gather(1)?;
        let byte = *self.available().first().ok_or(truncated("gzip", self.offset))?;
        self.used(1);
        Ok(byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecompressError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }
}

fn read(source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A source that claims more than it was given room for must not make us index beyond our buffer.
            result => return result.map(|count| count.min(out.len())),
        }
    }
}

fn truncated(format: &'static str, offset: u64) -> DecompressError {
    DecompressError::Truncated { format, offset }
}

fn corrupt(format: &'static str, offset: u64, reason: impl Into<String>) -> DecompressError {
    DecompressError::Corrupt { format, offset, reason: reason.into() }
}

/// Reads a member's header; `None` at the end of the stream.
fn gzip_boundary<R: Read>(input: &mut Input<R>, mut gzip: Box<Gzip>) -> Result<Option<Box<Gzip>>, DecompressError> {
    input.gather(1)?;
    if input.available().is_empty() && !gzip.first {
        return Ok(None);
    }
    if !gzip.first && input.available()[0] == 0 {
        return only_zeros(input).map(|()| None);
    }
    let at = input.offset;
    input.gather(2)?;
    let magic = input.available().iter().take(2);
    if !magic.eq(&[0x1f, 0x8b]) {
        return Err(corrupt("gzip", at, "trailing bytes are no gzip member"));
    }
    let [_, _, method, flags, ..] = input.bytes::<10>()?;
    if method != 8 {
        return Err(corrupt("gzip", at, format!("compression method {method} instead of 8")));
    }
    if flags & 0xe0 != 0 {
        return Err(corrupt("gzip", at, format!("reserved flags {flags:#04x} are set")));
    }
    if flags & 4 != 0 {
        let length = u16::from_le_bytes(input.bytes()?);
        for _ in 0..length {
            input.byte()?;
        }
    }
    for text in [8, 16] {
        if flags & text != 0 {
            skip_text(input, at)?;
        }
    }
    if flags & 2 != 0 {
        input.bytes::<2>()?;
    }
    gzip.inflate.reset(false);
    gzip.crc.reset();
    gzip.first = false;
    Ok(Some(gzip))
}

/// Skips a file name or comment in a member's header.
fn skip_text<R: Read>(input: &mut Input<R>, at: u64) -> Result<(), DecompressError> {
    for _ in 0..64 << 10 {
        if input.byte()? == 0 {
            return Ok(());
        }
    }
    Err(corrupt("gzip", at, "a name in the header is longer than 64 KiB"))
}

fn only_zeros<R: Read>(input: &mut Input<R>) -> Result<(), DecompressError> {
    loop {
        input.gather(1)?;
        let available = input.available();
        if available.is_empty() {
            return Ok(());
        }
        if available.iter().any(|&byte| byte != 0) {
            return Err(corrupt("gzip", input.offset, "trailing bytes are no gzip member"));
        }
        let count = available.len();
        input.used(count);
    }
}

fn inflate<R: Read>(
    input: &mut Input<R>,
    mut gzip: Box<Gzip>,
    out: &mut [u8],
) -> Result<(State, usize), DecompressError> {
    let mut written = 0;
    // Fills `out` as far as it goes: fewer and larger pieces for whoever hashes and writes them.
    while written < out.len() {
        input.gather(1)?;
        let (before_in, before_out) = (gzip.inflate.total_in(), gzip.inflate.total_out());
        let status = gzip
            .inflate
            .decompress(input.available(), &mut out[written..], FlushDecompress::None)
            .map_err(|error| corrupt("gzip", input.offset, error.to_string()))?;
        let consumed = usize::try_from(gzip.inflate.total_in() - before_in).unwrap_or(0);
        let produced = usize::try_from(gzip.inflate.total_out() - before_out).unwrap_or(0);
        input.used(consumed);
        gzip.crc.update(&out[written..written + produced]);
        written += produced;
        if status == Status::StreamEnd {
            let crc = u32::from_le_bytes(input.bytes()?);
            let length = u32::from_le_bytes(input.bytes()?);
            if crc != gzip.crc.clone().finalize() {
                return Err(corrupt("gzip", input.offset, "the check sum does not match"));
            }
            // The length is modulo 2^32 by definition.
            if length != gzip.inflate.total_out() as u32 {
                return Err(corrupt("gzip", input.offset, "the length does not match"));
            }
            return Ok((State::GzipBoundary(gzip), written));
        }
        if consumed == 0 && produced == 0 {
            if input.available().is_empty() {
                return Err(truncated("gzip", input.offset));
            }
            return Err(corrupt("gzip", input.offset, "the decoder makes no progress"));
        }
    }
    Ok((State::GzipBody(gzip), written))
}

fn zstd_decoder(limits: &Limits) -> Result<ZstdDecoder<'static>, DecompressError> {
    let set_up = || {
        let mut decoder = ZstdDecoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(limits.zstd_window_log))?;
        Ok(decoder)
    };
    set_up().map_err(|error: io::Error| corrupt("zstd", 0, error.to_string()))
}

fn unzstd<R: Read>(
    input: &mut Input<R>,
    mut decoder: ZstdDecoder<'static>,
    mut in_frame: bool,
    out: &mut [u8],
) -> Result<(State, usize), DecompressError> {
    let mut written = 0;
    while written < out.len() {
        input.gather(1)?;
        if input.available().is_empty() && !in_frame {
            break;
        }
        let status = decoder
            .run_on_buffers(input.available(), &mut out[written..])
            .map_err(|error| corrupt("zstd", input.offset, error.to_string()))?;
        input.used(status.bytes_read);
        written += status.bytes_written;
        in_frame = status.remaining != 0;
        if status.bytes_read == 0 && status.bytes_written == 0 && in_frame {
            if input.available().is_empty() {
                return Err(truncated("zstd", input.offset));
            }
            return Err(corrupt("zstd", input.offset, "the decoder makes no progress"));
        }
    }
    Ok((State::Zstd { decoder, in_frame }, written))
}
