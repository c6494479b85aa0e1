//! Pieces of the plain archive on their way from the decompressor to the hash and to the extraction.
//!
//! Each piece is shared by both and goes back to the decompressor when the second is done with it, so a large layer
//! needs no more than a few megabytes and no page is touched for the first time twice.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Small enough to stay in a core's cache between two steps, large enough that handing it over costs nothing.
const SIZE: usize = 256 << 10;
/// Pieces that wait for one consumer. With those in work: at most 2 × 8 + 3 of 256 KiB, under 5 MiB.
const WAITING: usize = 8;

struct Chunk {
    bytes: Box<[u8]>,
    length: usize,
}

/// The receiver has gone: it failed, and says why elsewhere.
#[derive(Debug)]
pub(crate) struct Gone;

/// The side that fills pieces.
pub(crate) struct Producer {
    consumers: Vec<SyncSender<Arc<Chunk>>>,
    free: Receiver<Box<[u8]>>,
}

/// The side that uses them.
pub(crate) struct Consumer {
    chunks: Receiver<Arc<Chunk>>,
    free: Sender<Box<[u8]>>,
    current: Option<Arc<Chunk>>,
    position: usize,
}

/// One producer and `N` consumers, each of which gets every piece.
pub(crate) fn pipeline<const N: usize>() -> (Producer, [Consumer; N]) {
    let (give_back, free) = channel();
    let mut consumers = Vec::with_capacity(N);
    let ends = std::array::from_fn(|_| {
        let (sender, chunks) = sync_channel(WAITING);
        consumers.push(sender);
        Consumer { chunks, free: give_back.clone(), current: None, position: 0 }
    });
    (Producer { consumers, free }, ends)
}

impl Producer {
    /// Lets `fill` write into a buffer and passes what it wrote on; false when it wrote nothing, the end of the stream.
    pub(crate) fn pass<E>(&self, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Result<bool, Gone>, E> {
        let mut bytes = self.free.try_recv().unwrap_or_else(|_| vec![0; SIZE].into());
        let length = fill(&mut bytes)?;
        if length == 0 {
            return Ok(Ok(false));
        }
        let chunk = Arc::new(Chunk { bytes, length });
        for consumer in &self.consumers {
            if consumer.send(chunk.clone()).is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(true))
    }
}

impl Consumer {
    /// The next piece whole; empty at the end.
    fn advance(&mut self) -> &[u8] {
        let rest = self.current.as_ref().map_or(0, |chunk| chunk.length - self.position);
        if rest == 0 {
            self.release();
            self.position = 0;
            self.current = self.chunks.recv().ok();
        }
        match &self.current {
            Some(chunk) => &chunk.bytes[self.position..chunk.length],
            None => &[],
        }
    }

    /// Gives the piece back if the other consumer has already done so.
    fn release(&mut self) {
        if let Some(chunk) = self.current.take().and_then(Arc::into_inner) {
            // Nobody waits for it when the producer has finished.
            self.free.send(chunk.bytes).ok();
        }
    }

    /// Throws away everything up to the end of the stream.
    pub(crate) fn drain(&mut self) {
        while !self.advance().is_empty() {
            self.position = self.current.as_ref().map_or(0, |chunk| chunk.length);
        }
    }

    /// Calls `use_up` with every piece up to the end of the stream.
    pub(crate) fn for_each(&mut self, mut use_up: impl FnMut(&[u8])) {
        loop {
            let piece = self.advance();
            if piece.is_empty() {
                return;
            }
            use_up(piece);
            let length = piece.len();
            self.position += length;
        }
    }
}

impl Read for Consumer {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.advance();
        let count = piece.len().min(out.len());
        out[..count].copy_from_slice(&piece[..count]);
        self.position += count;
        Ok(count)
    }
}

impl BufRead for Consumer {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.advance())
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}
