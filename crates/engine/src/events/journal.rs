//! The file: appending to it, and starting a new one when it is full.

use super::Event;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes after which a new file is begun. Two files of it are some 50,000 events.
const FULL: u64 = 8 << 20;
/// How long a writer waits for another. One that is stopped in the middle must not stop all the others.
const PATIENCE: Duration = Duration::from_millis(200);

/// The directory of the journal.
pub(super) fn directory(data: &Path) -> PathBuf {
    data.join("events")
}

/// The current file.
pub(super) fn current(data: &Path) -> PathBuf {
    directory(data).join("journal")
}

/// The file before it.
pub(super) fn previous(data: &Path) -> PathBuf {
    directory(data).join("journal.1")
}

/// Appends one event, whose time is set here: under the lock, so that times rise from line to line.
pub(super) fn append(data: &Path, mut event: Event) -> std::io::Result<()> {
    let path = current(data);
    let file = open_locked(data, &path)?;
    let size = rustix::fs::fstat(&file)?.st_size.cast_unsigned();
    event.time = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let mut line = serde_json::to_vec(&event)?;
    line.push(b'\n');
    let written = rustix::io::write(&file, &line);
    if written != Ok(line.len()) {
        // Half a line would spoil the next one, too.
        rustix::fs::ftruncate(&file, size)?;
        return Err(written.err().unwrap_or(Errno::NOSPC).into());
    }
    if size + line.len() as u64 >= FULL {
        std::fs::rename(&path, previous(data))?;
    }
    Ok(())
}

/// Opens and locks the file that has the name at that moment.
fn open_locked(data: &Path, path: &Path) -> std::io::Result<OwnedFd> {
    loop {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => file,
            Err(Errno::NOENT) => match rustix::fs::mkdir(directory(data), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => continue,
                Err(errno) => return Err(errno.into()),
            },
            Err(errno) => return Err(errno.into()),
        };
        lock(&file)?;
        let (ours, there) = (rustix::fs::fstat(&file)?, rustix::fs::stat(path));
        if there.is_ok_and(|there| there.st_ino == ours.st_ino && there.st_dev == ours.st_dev) {
            return Ok(file);
        }
    }
}

fn lock(file: &OwnedFd) -> std::io::Result<()> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            // One write is whole without a lock too (write(2), O_APPEND); only the order of times is at stake.
            Err(Errno::WOULDBLOCK) if std::time::Instant::now() > end => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_micros(100)),
            Err(errno) => return Err(errno.into()),
        }
    }
}
