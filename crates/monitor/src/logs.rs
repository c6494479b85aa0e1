//! Reads json-file logs: all rotated files in order, the last lines, a span of time, and what comes while it is waited for.
//!
//! Files are told apart by identity, not by name, because rotation renames them under the reader. The rules that
//! [`crate::log_file`] keeps, and that this relies on: `<path>` always exists; a file that is not `<path>` any more is
//! complete; files move to higher numbers only. So from any file the next is found by looking for its identity, from low
//! numbers to high, and taking the one below. A reader that is so slow that its file has been deleted in the meantime keeps
//! it open, reads it to its end, and goes on with the oldest that there is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::compressed_log;
use crate::error::{Call, Error};
use crate::json_line::find_newline;
use crate::log_file::{Stream, numbered};
use crate::log_line::{self, Scratch};
use crate::wire::LogPosition;
use crate::{log_identity, run_directory};

pub use crate::log_line::Entry;

/// Bytes read at once.
const READ: usize = 128 << 10;
/// Longest line that is looked at; ours have less than 100 KiB.
const LONGEST: usize = 4 << 20;
/// How often to look where the kernel cannot tell (no inotify instances left), and whether the monitor still lives.
const LOOK: Duration = Duration::from_millis(100);

/// What to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The current file.
    pub path: PathBuf,
    /// Lines of the standard output.
    pub stdout: bool,
    /// Lines of the standard error.
    pub stderr: bool,
    /// Only so many from the end, before the other conditions.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after; ends following, too.
    pub until: Option<Timestamp>,
    /// Wait for more as long as the monitor with this run directory lives.
    pub follow: Option<PathBuf>,
}

impl Options {
    /// Everything that is there now.
    #[must_use]
    pub fn all(path: PathBuf) -> Self {
        Self { path, stdout: true, stderr: true, tail: None, since: None, until: None, follow: None }
    }
}

/// What [`Reader::try_next`] found.
#[derive(Debug)]
pub enum Next<'a> {
    /// A line.
    Entry(Entry<'a>),
    /// Nothing now; [`Reader::wait`] waits for more.
    Pending,
    /// Nothing any more.
    End,
}

/// A log being read.
#[derive(Debug)]
pub struct Reader {
    options: Options,
    file: Option<Open>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    scratch: Scratch,
    watch: Option<OwnedFd>,
    /// Connected to the monitor's socket for nothing but to see it close.
    monitor: Option<OwnedFd>,
    monitor_gone: bool,
    over: bool,
    damaged: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Of the file as it was written; a compressed one is known by that, too.
    identity: u64,
    position: u64,
    /// `file` is compressed; where to unpack it.
    compressed: Option<PathBuf>,
}

impl Open {
    /// Unpacks a compressed file, which is done only for one that is read.
    fn ready(&mut self) -> Result<&mut File, Error> {
        if let Some(directory) = self.compressed.take() {
            self.file = compressed_log::unpack(&self.file, &directory)?;
        }
        Ok(&mut self.file)
    }
}

enum Step {
    Line(usize),
    Wait,
    End,
}

impl Reader {
    /// Opens a log. A log that does not exist is an empty one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(options: Options) -> Result<Self, Error> {
        let mut reader = Self {
            options,
            file: None,
            buffer: vec![0; READ],
            start: 0,
            end: 0,
            scratch: Scratch::default(),
            watch: None,
            monitor: None,
            monitor_gone: false,
            over: false,
            damaged: 0,
        };
        if let Some(run_directory) = &reader.options.follow {
            reader.watch = watch(&reader.options.path);
            reader.monitor = run_directory::connect(run_directory).ok();
            reader.monitor_gone = reader.monitor.is_none() && !run_directory::is_held(run_directory);
        }
        reader.file = match reader.options.tail {
            Some(lines) => tail(&reader.options.path, lines)?,
            None => oldest(&reader.options.path)?,
        };
        Ok(reader)
    }

    /// The next line; waits for it when following. `None` at the end.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Error> {
        loop {
            match self.step()? {
                Step::Line(length) => {
                    if let Some(stream) = self.take(length) {
                        return Ok(Some(self.scratch.entry(stream)));
                    }
                }
                Step::Wait => self.wait()?,
                Step::End => return Ok(None),
            }
        }
    }

    /// The next line if there is one; waits for nothing. For front ends that poll.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn try_next(&mut self) -> Result<Next<'_>, Error> {
        loop {
            match self.step()? {
                Step::Line(length) => {
                    if let Some(stream) = self.take(length) {
                        return Ok(Next::Entry(self.scratch.entry(stream)));
                    }
                }
                Step::Wait => return Ok(Next::Pending),
                Step::End => return Ok(Next::End),
            }
        }
    }

    /// Descriptors one of which becomes readable when [`Self::try_next`] should be called again. None when the kernel
    /// cannot tell: then look every 100 ms.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let both = self.watch.as_ref().zip(self.monitor.as_ref());
        both.into_iter().flat_map(|(watch, monitor)| [watch.as_fd(), monitor.as_fd()])
    }

    /// Lines that were no log lines and have been passed over.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Whether everything before a place has been read. Ask before each line.
    #[must_use]
    pub fn has_reached(&self, place: LogPosition) -> bool {
        let unread = (self.end - self.start) as u64;
        self.file.as_ref().is_some_and(|open| open.identity == place.identity && open.position - unread >= place.offset)
    }

    /// Waits until there may be more.
    ///
    /// # Errors
    /// When polling fails.
    pub fn wait(&mut self) -> Result<(), Error> {
        self.wait_at_most(None)
    }

    /// What [`Self::wait`] does when something is there already; waits for nothing. For front ends that poll
    /// [`Self::descriptors`].
    ///
    /// # Errors
    /// When polling fails.
    pub fn look(&mut self) -> Result<(), Error> {
        self.wait_at_most(Some(Duration::ZERO))
    }

    fn wait_at_most(&mut self, most: Option<Duration>) -> Result<(), Error> {
        let mut fds = Vec::with_capacity(2);
        fds.extend(self.watch.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // Only its closing is of interest.
        fds.extend(self.monitor.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let look = (self.watch.is_none() || self.monitor.is_none()).then_some(LOOK);
        let until = self.options.until.map(|until| until.duration_since(Timestamp::now()));
        let until = until.map(|left| Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1));
        let timeout = look.into_iter().chain(until).chain(most).min().and_then(|time| time.try_into().ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).call(|| "ppoll([inotify, monitor.sock])".to_owned()),
        }
        let closed = self.monitor.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        self.drain_watch();
        self.monitor_gone = match &self.options.follow {
            Some(directory) => closed || (self.monitor.is_none() && !run_directory::is_held(directory)),
            None => true,
        };
        Ok(())
    }

    fn drain_watch(&self) {
        if let Some(watch) = &self.watch {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(watch, &mut space);
            while events.next().is_ok() {}
        }
    }

    /// Finds the next line in the buffer, reading more and going from file to file as needed.
    fn step(&mut self) -> Result<Step, Error> {
        let mut searched = 0;
        while !self.over {
            searched = searched.min(self.end - self.start);
            if let Some(at) = find_newline(&self.buffer[self.start + searched..self.end]) {
                return Ok(Step::Line(searched + at));
            }
            searched = self.end - self.start;
            // Looked at before reading: what the monitor wrote before it ended is read by the reading that follows.
            let last = self.options.follow.is_none() || self.monitor_gone;
            if self.fill()? {
                continue;
            }
            if self.next_file()? {
                searched = 0;
                continue;
            }
            let late = self.options.until.is_some_and(|until| Timestamp::now() > until);
            if last || late {
                self.over = true;
            } else {
                return Ok(Step::Wait);
            }
        }
        Ok(Step::End)
    }

    /// Reads more of the current file. `false` at its end.
    fn fill(&mut self) -> Result<bool, Error> {
        let Some(open) = &mut self.file else { return Ok(false) };
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            if self.end >= LONGEST {
                // Not ours. Passing over it in pieces is better than growing without end.
                self.end = 0;
                self.damaged += 1;
            } else {
                self.buffer.resize(self.end * 2, 0);
            }
        }
        let call = || format!("read(<{}>)", self.options.path.display());
        let n = open.ready()?.read(&mut self.buffer[self.end..]).call(call)?;
        self.end += n;
        open.position += n as u64;
        if n == 0 && open.file.metadata().is_ok_and(|metadata| metadata.len() < open.position) {
            // Half a line was taken back by its writer (disk full).
            open.position = open.file.seek(SeekFrom::End(0)).call(|| "lseek(<log>, 0, SEEK_END)".to_owned())?;
            self.end = self.start;
        }
        Ok(n > 0)
    }

    /// Goes on to the file after the current one, if that is complete.
    fn next_file(&mut self) -> Result<bool, Error> {
        let path = &self.options.path;
        let next = match &self.file {
            None => oldest(path)?,
            Some(open) => after(path, open.identity)?,
        };
        let Some(next) = next else { return Ok(false) };
        // Between the end that was seen and the look at the names, the file may have got its last lines.
        if self.fill()? {
            return Ok(true);
        }
        self.file = Some(next);
        // What is left has no newline: half a line of a monitor that was killed.
        (self.start, self.end) = (0, 0);
        Ok(true)
    }

    /// Takes a line out of the buffer. `None` when it is not wanted.
    fn take(&mut self, length: usize) -> Option<Stream> {
        let line = self.start..self.start + length;
        self.start = line.end + 1;
        let Some(stream) = log_line::parse(&self.buffer[line], &mut self.scratch) else {
            self.damaged += 1;
            return None;
        };
        let wanted = match stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        };
        let Options { since, until, .. } = &self.options;
        if (since.is_some() || until.is_some())
            && let Ok(time) = self.scratch.entry(stream).time.parse::<Timestamp>()
        {
            if until.is_some_and(|until| time > until) {
                self.over = true;
                return None;
            }
            if since.is_some_and(|since| time < since) {
                return None;
            }
        }
        wanted.then_some(stream)
    }
}

/// Watches the directory, since that shows writing and rotating alike. `None` when the user's inotify instances are used up.
fn watch(path: &Path) -> Option<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, path.parent()?, events).ok()?;
    Some(fd)
}

fn open(path: &Path) -> Result<Option<Open>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result.call(|| format!("openat(AT_FDCWD, {path:?}, O_RDONLY|O_CLOEXEC)"))?,
    };
    let identity = log_identity::of(&file).call(|| format!("statx(<{}>)", path.display()))?;
    Ok(Some(Open { file, identity, position: 0, compressed: None }))
}

/// A rotated file in its compressed form.
fn open_compressed(path: PathBuf) -> Option<Open> {
    let identity = compressed_log::origin(&path)?;
    let file = File::open(&path).ok()?;
    Some(Open { file, identity, position: 0, compressed: Some(path.parent()?.to_owned()) })
}

/// The files of a log from the current one on to older ones, as they are found while rotation may be going on: one may
/// appear twice, under two numbers.
fn newest_first(path: &Path) -> Result<Vec<Open>, Error> {
    let mut files: Vec<Open> = Vec::new();
    let mut missing = 0;
    for number in 0.. {
        let file = match number {
            0 => open(path)?,
            number => match open(&numbered(path, number))? {
                Some(file) => Some(file),
                None => open_compressed(compressed_log::compressed(path, number)),
            },
        };
        match file {
            Some(file) if files.iter().all(|known| known.identity != file.identity) => files.push(file),
            Some(_) => {}
            // While rotation renames them one after the other, one number is missing.
            None => missing += 1,
        }
        if missing > 1 {
            break;
        }
    }
    Ok(files)
}

fn oldest(path: &Path) -> Result<Option<Open>, Error> {
    Ok(newest_first(path)?.pop())
}

/// The file that follows the one with this inode; `None` when that is the current one.
fn after(path: &Path, identity: u64) -> Result<Option<Open>, Error> {
    // Without a current file, rotation is in the middle of its work.
    if log_identity::at(path).map_or(true, |current| current == identity) {
        return Ok(None);
    }
    let mut files = newest_first(path)?;
    match files.iter().position(|file| file.identity == identity) {
        Some(0) => Ok(None),
        Some(at) => Ok(Some(files.swap_remove(at - 1))),
        None => Ok(files.pop()),
    }
}

/// The place from which there are `lines` lines to the end.
fn tail(path: &Path, lines: u64) -> Result<Option<Open>, Error> {
    let mut left = lines;
    let mut last = None;
    for mut file in newest_first(path)? {
        let call = || format!("read(<{}>)", path.display());
        if let Some(start) = back(file.ready()?, &mut left).call(call)? {
            file.position = file.file.seek(SeekFrom::Start(start)).call(call)?;
            return Ok(Some(file));
        }
        file.position = file.file.seek(SeekFrom::Start(0)).call(call)?;
        last = Some(file);
    }
    Ok(last)
}

/// Goes back from the end of a file over `left` newlines; returns where the line after the last of them starts, or `None`
/// when the file has fewer.
fn back(file: &mut File, left: &mut u64) -> std::io::Result<Option<u64>> {
    let mut block = vec![0; 64 << 10];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let length = end.min(block.len() as u64);
        let start = end - length;
        file.seek(SeekFrom::Start(start))?;
        // At most the size of `block`.
        let part = &mut block[..length as usize];
        file.read_exact(part)?;
        for at in (0..part.len()).rev().filter(|&at| part[at] == b'\n') {
            if *left == 0 {
                return Ok(Some(start + at as u64 + 1));
            }
            *left -= 1;
        }
        end = start;
    }
    Ok(None)
}
