//! Where bytes go in the file of the image.
//!
//! Blocks are given out in ascending order. Content is gathered in a buffer and written in large pieces; inodes are gathered in a
//! cluster of blocks, whose place is fixed when it is opened, since inodes are numbered by their place.

use crate::error::Error;
use crate::format::{HEAD, NO_BLOCK, SLOT};
use std::fs::File;
use std::os::unix::fs::FileExt;

const BUFFER: usize = 256 << 10;
/// A piece of this size is written as it is.
const LARGE: usize = 64 << 10;
/// Bytes in a cluster.
const CLUSTER: usize = 64 << 10;

pub(crate) struct Output {
    file: File,
    /// The size of a block, as a power of two.
    pub(crate) bits: u32,
    /// The next block that nobody has.
    next: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins, in bytes.
    buffer_at: u64,
    cluster: Cluster,
}

#[derive(Default)]
struct Cluster {
    at: u64,
    /// Empty when no cluster is open.
    bytes: Vec<u8>,
    /// Bytes used in each block.
    used: Vec<usize>,
}

impl Output {
    /// Begins behind the superblock's block.
    pub(crate) fn new(file: File, bits: u32) -> Output {
        Output {
            file,
            bits,
            next: HEAD as u64 >> bits,
            buffer: Vec::with_capacity(BUFFER),
            buffer_at: HEAD as u64,
            cluster: Cluster::default(),
        }
    }

    /// Bytes of a block.
    pub(crate) fn block(&self) -> usize {
        1 << self.bits
    }

    /// What is given out next begins at a multiple of so many bytes.
    pub(crate) fn align(&mut self, bytes: u64) {
        self.next = self.next.next_multiple_of((bytes >> self.bits).max(1));
    }

    /// That many blocks in a row; the number of the first.
    pub(crate) fn reserve(&mut self, blocks: u64) -> Result<u64, Error> {
        let first = self.next;
        self.next = first.checked_add(blocks).filter(|&end| end < u64::from(NO_BLOCK)).ok_or(Error::TooLarge)?;
        Ok(first)
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.next
    }

    /// Writes `bytes` at a place behind all that has been written like this.
    pub(crate) fn append(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = self.buffer_at + self.buffer.len() as u64;
        // What is left of a block is zero anyway, unless it is in the buffer.
        match at.checked_sub(end) {
            Some(gap) if gap < HEAD as u64 && !self.buffer.is_empty() => {
                self.buffer.resize(self.buffer.len() + gap as usize, 0);
            }
            _ => {
                self.flush_buffer()?;
                self.buffer_at = at;
            }
        }
        if self.buffer.is_empty() && bytes.len() >= LARGE {
            self.buffer_at = at + bytes.len() as u64;
            return self.write(at, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush_buffer()?;
        }
        Ok(())
    }

    /// Writes something that is complete anywhere.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(Error::file("write"))
    }

    /// Writes an inode with what follows it, and returns its place. What is more than a block gets blocks of its own.
    pub(crate) fn place(&mut self, parts: [&[u8]; 3]) -> Result<u64, Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let size = self.block();
        if length > size {
            let at = self.reserve(length.div_ceil(size) as u64)? << self.bits;
            self.append(at, &parts.concat())?;
            return Ok(at);
        }
        let fits = |used: &usize| used + length <= size;
        let block = match self.cluster.used.iter().position(fits) {
            Some(block) => block,
            None => {
                self.flush_cluster()?;
                self.cluster.at = self.reserve((CLUSTER / size) as u64)? << self.bits;
                self.cluster.bytes.resize(CLUSTER, 0);
                self.cluster.used.resize(CLUSTER / size, 0);
                0
            }
        };
        let start = block * size + self.cluster.used[block];
        let mut at = start;
        for part in parts {
            self.cluster.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.cluster.used[block] = (at - block * size).next_multiple_of(SLOT as usize);
        Ok(self.cluster.at + start as u64)
    }

    fn flush_cluster(&mut self) -> Result<(), Error> {
        let filled = self.cluster.used.iter().rposition(|&used| used > 0).map_or(0, |block| (block + 1) * self.block());
        if filled > 0 {
            self.write(self.cluster.at, &self.cluster.bytes[..filled])?;
        }
        self.cluster.bytes.clear();
        self.cluster.used.clear();
        Ok(())
    }

    /// Everything appended can be read.
    pub(crate) fn flush_content(&mut self) -> Result<(), Error> {
        self.flush_buffer()
    }

    /// Reads what was appended and flushed; what is behind the file's end is zero.
    pub(crate) fn read(&self, mut at: u64, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            match self.file.read_at(out, at).map_err(Error::file("read"))? {
                0 => break,
                count => {
                    at += count as u64;
                    out = &mut out[count..];
                }
            }
        }
        out.fill(0);
        Ok(())
    }

    fn flush_buffer(&mut self) -> Result<(), Error> {
        self.write(self.buffer_at, &self.buffer)?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes all that is gathered. What is reserved of a cluster and is the last of the image is given back.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let cluster = self.cluster.at >> self.bits;
        if !self.cluster.used.is_empty() && cluster + self.cluster.used.len() as u64 == self.next {
            let filled = self.cluster.used.iter().rposition(|&used| used > 0).map_or(0, |block| block + 1);
            self.next = cluster + filled as u64;
        }
        self.flush_cluster()?;
        self.flush_buffer()
    }

    /// The file has all its blocks.
    pub(crate) fn finish(mut self) -> Result<File, Error> {
        self.flush()?;
        self.file.set_len(self.next << self.bits).map_err(Error::file("truncate"))?;
        Ok(self.file)
    }
}
