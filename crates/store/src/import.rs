//! One pass from a compressed stream to an unpacked, hashed tree.
//!
//! Three threads and two bounded queues: the caller's thread reads and inflates, one hashes the plain archive, one
//! unpacks it. Hashing and unpacking take turns on the second core, which together is about what inflating takes on the first.
//!
//! Which error is told when one broken byte makes all three fail: the source's (a registry's blob with a wrong digest), then
//! the decompressor's, then the diffID's, then the archive's. Therefore the stream is read to its end even when the archive
//! turned out to be malformed, but not when the disk is full.

use crate::Ownership;
use crate::chunks::{Consumer, Producer, pipeline};
use crate::directory::Directory;
use crate::error::{EntryError, StoreError, SystemError};
use crate::extract::extract;
use crate::imager::write_image;
use crate::members::Extracted;
use crate::record;
use archive::decompress::{DecompressError, Decompressor};
use archive::recipe::Recorder;
use archive::{Reader, TarError};
use erofs::Blocks;
use oci::digest::{Algorithm, Digest, Hasher};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::thread;

/// What an import may ask of this machine.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Limits of the decompressor: size, ratio, memory.
    pub decompress: archive::decompress::Limits,
    /// Limits of the archive: headers, members.
    pub archive: archive::Limits,
}

/// What a layer becomes.
#[derive(Debug)]
pub(crate) enum Target {
    /// A tree in this empty directory.
    Tree(OwnedFd),
    /// An image in this empty file.
    Image(File, Blocks),
}

#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) diff_id: Digest,
    pub(crate) archive_size: u64,
    pub(crate) extracted: Extracted,
}

enum Produced {
    /// To the end: number of plain bytes.
    All(u64),
    /// The extraction stopped taking.
    Stopped,
}

pub(crate) fn run(
    source: impl Read,
    target: Target,
    scratch: Directory,
    ownership: Ownership,
    expected: Option<&Digest>,
    options: &ImportOptions,
) -> Result<Imported, StoreError> {
    let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
    let limits = options.archive.clone();
    let (produced, diff_id, extracted) = thread::scope(|scope| {
        let (producer, [to_hash, to_unpack]) = pipeline();
        let start = |name: &str| thread::Builder::new().name(name.to_owned());
        let hasher = start("hash").spawn_scoped(scope, move || hash(to_hash, algorithm)).map_err(StoreError::Thread)?;
        let writer = start("unpack")
            .spawn_scoped(scope, move || unpack(to_unpack, limits, target, scratch, ownership))
            .map_err(StoreError::Thread)?;
        let produced = produce(source, &producer, options);
        // The end of the stream for both.
        drop(producer);
        Ok::<_, StoreError>((produced, joined(hasher), joined(writer)))
    })?;
    let archive_size = match (produced?, &extracted) {
        (Produced::All(size), _) => size,
        (Produced::Stopped, Err(_)) => 0,
        // Not reached: only the extraction's end stops the producer early.
        (Produced::Stopped, Ok(_)) => {
            return Err(StoreError::Source(io::Error::other("the extraction ended before the stream")));
        }
    };
    match (expected, extracted) {
        (_, Err(error)) if !worth_hashing(&error) => Err(error),
        (Some(expected), result) if *expected != diff_id => {
            Err(StoreError::DiffId { expected: expected.clone(), actual: diff_id, archive: result.err().map(Box::new) })
        }
        (_, result) => Ok(Imported { diff_id, archive_size, extracted: result? }),
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn hash(mut chunks: Consumer, algorithm: Algorithm) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    chunks.for_each(|piece| hasher.update(piece));
    hasher.finish()
}

fn unpack(
    chunks: Consumer,
    limits: archive::Limits,
    target: Target,
    scratch: Directory,
    ownership: Ownership,
) -> Result<Extracted, StoreError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let recipe = scratch
        .file(record::RECIPE, flags)
        .map_err(|source| StoreError::System { doing: "write down how the layer is made", source })?;
    let recorder = Recorder::new(File::from(recipe)).map_err(|error| recipe_error(&error))?;
    let mut reader = Reader::new(chunks, limits).with_tape(Box::new(recorder));
    let result = match target {
        Target::Tree(root) => extract(&mut reader, root, scratch, ownership),
        Target::Image(file, blocks) => write_image(&mut reader, (file, blocks), scratch),
    };
    if result.is_ok() {
        // What follows the end mark belongs to the archive too.
        reader.finish_tape().map_err(|error| match error {
            TarError::Tape(error) => recipe_error(&error),
            error => StoreError::Archive(error),
        })?;
    } else if result.as_ref().err().is_none_or(worth_hashing) {
        reader.into_source().drain();
    }
    result
}

fn recipe_error(error: &io::Error) -> StoreError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let source = SystemError::new(format!("write(<staging>/…/{})", record::RECIPE), errno);
    StoreError::System { doing: "write down how the layer is made", source }
}

/// Can a wrong byte in the stream be the cause, so that the digest says more?
fn worth_hashing(error: &StoreError) -> bool {
    match error {
        StoreError::Archive(error) => matches!(error, TarError::Invalid { .. } | TarError::Truncated { .. }),
        StoreError::Entry { source, .. } => !matches!(source, EntryError::System(_) | EntryError::Image(_)),
        _ => false,
    }
}

fn produce(mut source: impl Read, producer: &Producer, options: &ImportOptions) -> Result<Produced, StoreError> {
    let told = |error| match error {
        DecompressError::Read { source, .. } => StoreError::Source(source),
        error => StoreError::Decompress(error),
    };
    let mut plain = Decompressor::new(&mut source, options.decompress.clone()).map_err(told)?;
    loop {
        match producer.pass(|buffer| plain.fill(buffer)) {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(Produced::All(plain.plain_bytes())),
            Ok(Err(_)) => return Ok(Produced::Stopped),
            Err(error) => {
                let broken = matches!(error, DecompressError::Corrupt { .. } | DecompressError::Truncated { .. });
                drop(plain);
                if broken {
                    // A source that verifies its own digest speaks up at its end.
                    let most = options.decompress.plain_bytes;
                    io::copy(&mut source.take(most), &mut io::sink()).map_err(StoreError::Source)?;
                }
                return Err(told(error));
            }
        }
    }
}
