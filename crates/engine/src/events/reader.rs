//! Reading the journal: what is there, and what comes.
//!
//! Files are told apart by inode. A file that is not `journal` any more gets no further lines, as its writers look at the
//! name under the lock; so at its end the next file begins.

use super::filter::EventFilter;
use super::{Event, journal};
use crate::error::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct EventOptions {
    /// From that time on, nanoseconds since 1970; without, and without an end, only what comes from now on.
    pub since: Option<i64>,
    /// Up to that time; reading ends there. Without, it goes on for ever.
    pub until: Option<i64>,
    /// Which ones.
    pub filter: EventFilter,
}

/// Events being read.
#[derive(Debug)]
pub struct EventReader {
    data: PathBuf,
    options: EventOptions,
    file: Option<Open>,
    line: Vec<u8>,
    watch: Option<OwnedFd>,
}

#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
    inode: u64,
}

impl EventReader {
    pub(super) fn open(data: &Path, options: EventOptions) -> Result<EventReader> {
        let directory = journal::directory(data);
        crate::directories::make(&directory, 0o700)?;
        let mut reader =
            EventReader { data: data.to_owned(), file: None, line: Vec::new(), watch: watch(&directory), options };
        if reader.options.since.is_none() && reader.options.until.is_none() {
            // Made if need be, so that its end is a place.
            let path = journal::current(data);
            let failed = || format!("cannot open {}", path.display());
            let file = File::options().create(true).append(true).read(true).open(&path).internal(failed)?;
            rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o600)).internal(failed)?;
            let mut open = Open::new(file).internal(failed)?;
            open.reader.seek(SeekFrom::End(0)).internal(failed)?;
            reader.file = Some(open);
        }
        Ok(reader)
    }

    /// The next event; waits for it. `None` when the end of the time asked for has come.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            if !self.wait()? {
                // What was written in the last moment.
                return self.try_next();
            }
        }
    }

    /// The next event if there is one; waits for nothing. For front ends that poll [`Self::descriptor`].
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        loop {
            if !self.fill_line()? {
                return Ok(None);
            }
            let event = serde_json::from_slice::<Event>(&self.line);
            self.line.clear();
            // A line that is none was cut by a full disk of another kind than ours.
            let Ok(event) = event else { continue };
            let early = self.options.since.is_some_and(|since| event.time < since);
            let late = self.options.until.is_some_and(|until| event.time > until);
            if !early && !late && self.options.filter.matches(&event) {
                return Ok(Some(event));
            }
        }
    }

    /// Becomes readable when [`Self::try_next`] should be called again; `None` where the kernel has no inotify instance
    /// left: then look every 100 ms.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether the end of the time asked for has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Forgets what made [`Self::descriptor`] readable.
    pub fn drain(&self) {
        if let Some(watch) = &self.watch {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(watch, &mut space);
            while events.next().is_ok() {}
        }
    }

    fn left(&self) -> Option<Duration> {
        let until = self.options.until?;
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        Some(Duration::from_nanos(u64::try_from(until.saturating_sub(now)).unwrap_or(0)))
    }

    /// `false`: the time is over.
    fn wait(&self) -> Result<bool> {
        let left = self.left();
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let look = self.watch.is_none().then_some(Duration::from_millis(100));
        let timeout = left.into_iter().chain(look).min().and_then(|time| time.try_into().ok());
        let mut fds: Vec<_> = self.watch.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).internal(|| "cannot wait for events".into()),
        }
        drop(fds);
        self.drain();
        Ok(true)
    }

    /// Reads on until a whole line is there, from file to file.
    fn fill_line(&mut self) -> Result<bool> {
        loop {
            if let Some(open) = &mut self.file {
                let read = open.reader.read_until(b'\n', &mut self.line);
                read.internal(|| "cannot read the journal of events".into())?;
                if self.line.ends_with(b"\n") {
                    return Ok(true);
                }
            }
            let Some(next) = self.next_file()? else { return Ok(false) };
            // The look at the names came after the look at the end: the file may have got its last lines in between.
            if let Some(open) = &mut self.file {
                let read = open.reader.read_until(b'\n', &mut self.line);
                read.internal(|| "cannot read the journal of events".into())?;
                if self.line.ends_with(b"\n") {
                    return Ok(true);
                }
            }
            self.line.clear();
            self.file = Some(next);
        }
    }

    /// The file behind the current one, if that is complete.
    fn next_file(&self) -> Result<Option<Open>> {
        let mut files = Vec::new();
        for path in [journal::previous(&self.data), journal::current(&self.data)] {
            match File::open(&path) {
                Ok(file) => files.push(Open::new(file).internal(|| format!("cannot read {}", path.display()))?),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).internal(|| format!("cannot open {}", path.display())),
            }
        }
        let after = match &self.file {
            None => 0,
            Some(open) => files.iter().position(|file| file.inode == open.inode).map_or(0, |at| at + 1),
        };
        Ok(files.into_iter().nth(after))
    }
}

impl Open {
    fn new(file: File) -> std::io::Result<Open> {
        let inode = file.metadata()?.ino();
        Ok(Open { reader: BufReader::new(file), inode })
    }
}

fn watch(directory: &Path) -> Option<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_FROM;
    inotify::add_watch(&fd, directory, events).ok()?;
    Some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Type, record};

    fn actions(reader: &mut EventReader) -> Vec<String> {
        std::iter::from_fn(|| reader.try_next().unwrap()).map(|event| event.action).collect()
    }

    #[test]
    fn every_event_is_read_once_across_a_new_file_and_many_writers() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let mut follower = EventReader::open(data, EventOptions::default()).unwrap();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let data = data.to_owned();
                std::thread::spawn(move || {
                    for number in 0..100 {
                        record(&data, Type::Container, &format!("{writer}-{number}"), "x", Default::default());
                        if number == 50 && writer == 0 {
                            std::fs::rename(journal::current(&data), journal::previous(&data)).unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut seen = actions(&mut follower);
        for writer in writers {
            writer.join().unwrap();
        }
        seen.extend(actions(&mut follower));
        assert_eq!(seen.len(), 400);
        let own: Vec<_> = seen.iter().filter(|action| action.starts_with("2-")).cloned().collect();
        assert_eq!(own, (0..100).map(|number| format!("2-{number}")).collect::<Vec<_>>());
        let options = EventOptions { since: Some(0), ..EventOptions::default() };
        let mut all = EventReader::open(data, options).unwrap();
        let times: Vec<i64> = std::iter::from_fn(|| all.try_next().unwrap()).map(|event| event.time).collect();
        assert_eq!(times.len(), 400);
    }

    #[test]
    fn an_end_in_the_past_ends_at_once() {
        let directory = tempfile::tempdir().unwrap();
        record(directory.path(), Type::Image, "pull", "x", Default::default());
        let options = EventOptions { until: Some(1), ..EventOptions::default() };
        assert_eq!(EventReader::open(directory.path(), options).unwrap().next_event().unwrap(), None);
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
        let options = EventOptions { until: Some(now), ..EventOptions::default() };
        let mut reader = EventReader::open(directory.path(), options).unwrap();
        assert_eq!(reader.next_event().unwrap().unwrap().action, "pull");
        assert_eq!(reader.next_event().unwrap(), None);
    }
}
