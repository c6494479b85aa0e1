//! Rotated log files as gzip: made by a process of its own, at the lowest priority, while the container writes on.
//!
//! A compressed file is known by the identity of the file that it was made from, which stands in the comment of its gzip
//! header (RFC 1952): readers follow a log by identity, and must not read twice what they had read uncompressed.
//!
//! The child writes `<path>.compressing` and calls it `<path>.compressed` when it is whole. When the child has ended, the monitor gives that the name of the file that it replaces,
//! whatever its number is by then, and removes it if the file has been rotated out.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use kernel::clone::Clone as Cloning;

use crate::error::{Call, Error};
use crate::log_file::numbered;
use crate::log_identity;

/// A file being compressed.
#[derive(Debug)]
pub(crate) struct Compressor {
    identity: u64,
    /// Readable when the child has ended.
    child: OwnedFd,
    pid: rustix::process::Pid,
}

/// The name of a compressed file.
pub(crate) fn compressed(path: &Path, number: impl std::fmt::Display) -> PathBuf {
    numbered(path, format_args!("{number}.gz"))
}

/// What the child is working at, and what it has made.
fn results(path: &Path) -> [PathBuf; 2] {
    [numbered(path, "compressing"), numbered(path, "compressed")]
}

impl Compressor {
    /// Begins to compress the newest rotated file that is not, if there is one.
    pub(crate) fn begin(path: &Path, max_file: u32) -> Option<Self> {
        for number in 1..max_file {
            let Ok(source) = File::open(numbered(path, number)) else { continue };
            let identity = log_identity::of(&source).ok()?;
            let results = results(path);
            for name in &results {
                std::fs::remove_file(name).ok();
            }
            let child = Cloning::default().spawn(|| {
                match alone(source).and_then(|source| compress(source, identity, &results)) {
                    Ok(()) => 0,
                    Err(_) => 1,
                }
            });
            // Without a process the file stays as it is, and the next rotation tries again.
            let child = child.ok()?;
            return Some(Self { identity, child: child.pidfd, pid: child.pid });
        }
        None
    }

    /// Readable when [`Self::end`] should be called.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.child)
    }

    /// Ends it without a result.
    pub(crate) fn abandon(self, path: &Path) {
        // The only error is that it has ended by itself.
        rustix::process::pidfd_send_signal(&self.child, rustix::process::Signal::KILL).ok();
        for name in results(path) {
            std::fs::remove_file(name).ok();
        }
    }

    /// The child has ended: puts its file in the place of the one that it was made from.
    pub(crate) fn end(self, path: &Path, max_file: u32) {
        // The monitor's reaping may have collected it; what counts is the file's name.
        rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::NOHANG).ok();
        let [half, made] = results(path);
        std::fs::remove_file(half).ok();
        let complete = origin(&made) == Some(self.identity);
        for number in 1..max_file {
            let plain = numbered(path, number);
            if complete && log_identity::at(&plain).is_ok_and(|identity| identity == self.identity) {
                // Both exist for a moment; readers take them for one.
                if std::fs::rename(&made, compressed(path, number)).is_ok() {
                    std::fs::remove_file(&plain).ok();
                }
                return;
            }
        }
        std::fs::remove_file(&made).ok();
    }
}

/// In the child: nothing but the file may be kept open, above all not the container's lock and pipes.
fn alone(source: File) -> std::io::Result<File> {
    rustix::stdio::dup2_stdin(&source)?;
    drop(source);
    kernel::inherited::close().map_err(|_| std::io::Error::from(std::io::ErrorKind::Unsupported))?;
    rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map(File::from).map_err(Into::into)
}

fn compress(source: File, identity: u64, [half, made]: &[PathBuf; 2]) -> std::io::Result<()> {
    // Best effort: nobody waits for it.
    rustix::process::nice(19).ok();
    let mut source = BufReader::with_capacity(128 << 10, source);
    let file = File::options().write(true).create(true).truncate(true).mode(0o640).open(half)?;
    let header = GzBuilder::new().comment(format!("file {identity}"));
    let mut encoder = header.write(file, Compression::fast());
    std::io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.flush()?;
    std::fs::rename(half, made)
}

/// The identity of the file from which a compressed one was made.
pub(crate) fn origin(path: &Path) -> Option<u64> {
    let decoder = GzDecoder::new(BufReader::with_capacity(512, File::open(path).ok()?));
    let comment = decoder.header()?.comment()?;
    std::str::from_utf8(comment.strip_prefix(b"file ")?).ok()?.parse().ok()
}

/// The content of a compressed file, in a file without a name in `directory`, so that it can be read like any other.
pub(crate) fn unpack(source: &File, directory: &Path) -> Result<File, Error> {
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let unnamed = rustix::fs::open(directory, flags, rustix::fs::Mode::from_raw_mode(0o600))
        // A file system that has none (Linux 3.11), or one that is read-only.
        .or_else(|_| rustix::fs::memfd_create("dhow-log", rustix::fs::MemfdFlags::CLOEXEC))
        .call(|| format!("openat(AT_FDCWD, {directory:?}, O_TMPFILE|O_RDWR|O_CLOEXEC, 0600)"))?;
    let mut target = File::from(unnamed);
    let copied = std::io::copy(&mut GzDecoder::new(BufReader::new(source)), &mut target);
    copied.call(|| "inflate <a rotated log>".to_owned())?;
    target.seek(SeekFrom::Start(0)).call(|| "lseek(<log>, 0, SEEK_SET)".to_owned())?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_compressed_file_says_where_it_comes_from() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("log.1");
        let results = results(&directory.path().join("log"));
        std::fs::write(&plain, "line\n".repeat(10_000)).unwrap();
        compress(File::open(&plain).unwrap(), 4711, &results).unwrap();
        assert!(!results[0].exists());
        assert_eq!(origin(&results[1]), Some(4711));
        let mut text = String::new();
        unpack(&File::open(&results[1]).unwrap(), directory.path()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), 50_000);
    }
}
