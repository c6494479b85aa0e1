//! Writes a container's output as Docker's json-file log, bounded by rotation.
//!
//! - Lines longer than 16 KiB are split as Docker does: all pieces but the last lack the `\n`. A piece ends between
//!   characters, so that text stays text.
//! - Files are written in whole lines only. A write that fails in the middle (disk full) is taken back to the last whole
//!   line, the lines are lost and counted, the container goes on. A line torn by the monitor's own death is removed when the
//!   log is opened again.
//! - Rotation: `<path>` is the current file, `<path>.1` the newest of the older ones. The new file is made first; then
//!   `.1` becomes `.2` and so on, the current file gets the additional name `.1` (link), and the new file is renamed over
//!   `<path>`. So `<path>` exists at every moment, a rotated file is complete when it stops being `<path>`, and files only
//!   ever move to higher numbers: [`crate::logs`] follows them by inode.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};

use crate::compressed_log::{Compressor, compressed};
use crate::error::{Call, Error};
use crate::forward::Forward;
use crate::json_line::{self, find_newline};
use crate::log_identity;
use crate::plan::{LogDriver, LogPlan};
use crate::wire::LogPosition;

/// Longest text in one log line, in bytes.
pub const LINE_LIMIT: usize = 16 << 10;
/// Bytes collected before they are written. The longest possible line fits.
const COLLECT: usize = 128 << 10;
const _: () = assert!(COLLECT > LINE_LIMIT * json_line::WORST + json_line::OVERHEAD);

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one container, open for writing.
#[derive(Debug)]
pub struct LogFile {
    current: Option<Current>,
    out: Vec<u8>,
    /// The beginnings of lines whose ends have not come yet; for each stream less than [`LINE_LIMIT`].
    pending: [Vec<u8>; 2],
    lost: u64,
    forward: Option<Forward>,
    /// JSON of what stands beside each line; empty for nothing.
    attributes: String,
    compressor: Option<Compressor>,
}

#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    identity: u64,
    size: u64,
    max_size: Option<u64>,
    max_file: u32,
    compress: bool,
    /// Size at which rotating is tried; more than `max_size` after a rotation that failed.
    rotate_at: u64,
}

impl LogFile {
    /// Opens the log, appending to what is there.
    ///
    /// # Errors
    /// When the file cannot be opened or its end not be repaired.
    pub fn open(plan: &LogPlan) -> Result<Self, Error> {
        let current = match plan.driver {
            LogDriver::JsonFile => Some(Current::open(plan)?),
            LogDriver::None => None,
        };
        let attributes = match plan.attributes.is_empty() {
            true => String::new(),
            // Strings always become JSON.
            false => serde_json::to_string(&plan.attributes).unwrap_or_default(),
        };
        let mut log = Self {
            compressor: None,
            current,
            out: Vec::new(),
            pending: [Vec::new(), Vec::new()],
            lost: 0,
            forward: plan.forward.as_ref().map(Forward::open).transpose()?,
            attributes,
        };
        // What a monitor that was killed left uncompressed.
        log.begin_compressing();
        Ok(log)
    }

    /// Takes a piece of output and writes all lines that are whole now.
    pub fn append(&mut self, stream: Stream, mut data: &[u8]) {
        if self.current.is_none() && self.forward.is_none() {
            return;
        }
        let place = self.place(stream);
        while !data.is_empty() {
            data = self.take_line(&place, data);
        }
        self.flush();
    }

    /// The stream has ended: writes what remains without a newline.
    pub fn end(&mut self, stream: Stream) {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if !pending.is_empty() {
            let place = self.place(stream);
            self.write_line(&pending, false, &place);
            self.flush();
        }
    }

    /// Nothing more comes: lets go what others have not taken yet, for a moment.
    pub(crate) fn finish(&mut self) {
        if let Some(forward) = &mut self.forward {
            forward.finish();
        }
        self.finish_compressing();
    }

    /// Gives buffers back that hold nothing.
    pub(crate) fn rest(&mut self) {
        for buffer in self.pending.iter_mut().chain([&mut self.out]).filter(|buffer| buffer.is_empty()) {
            *buffer = Vec::new();
        }
    }

    fn finish_compressing(&mut self) {
        if let (Some(compressor), Some(current)) = (self.compressor.take(), &self.current) {
            let mut fds = [PollFd::from_borrowed_fd(compressor.fd(), PollFlags::IN)];
            let patience = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            // Nobody should wait longer for the container's end; the next run compresses the file.
            match rustix::event::poll(&mut fds, Some(&patience)) {
                Ok(ready) if ready > 0 => compressor.end(&current.path, current.max_file),
                _ => compressor.abandon(&current.path),
            }
        }
    }

    fn begin_compressing(&mut self) {
        if let (None, Some(current)) = (&self.compressor, &self.current)
            && current.compress
        {
            self.compressor = Compressor::begin(&current.path, current.max_file);
        }
    }

    /// Readable when [`Self::compressed`] should be called.
    pub(crate) fn compressing(&self) -> Option<BorrowedFd<'_>> {
        self.compressor.as_ref().map(Compressor::fd)
    }

    /// A file has been compressed; the next one's turn.
    pub(crate) fn compressed(&mut self) {
        if let (Some(compressor), Some(current)) = (self.compressor.take(), &self.current) {
            compressor.end(&current.path, current.max_file);
        }
        self.begin_compressing();
    }

    /// Becomes writable when [`Self::flush_forward`] should be called.
    pub(crate) fn forwarding(&self) -> Option<BorrowedFd<'_>> {
        self.forward.as_ref().and_then(Forward::waits_for)
    }

    pub(crate) fn flush_forward(&mut self) {
        if let Some(forward) = &mut self.forward {
            forward.flush();
        }
    }

    /// Whether the container's output has to wait for somebody who takes it slowly.
    pub(crate) fn is_full(&self) -> bool {
        self.forward.as_ref().is_some_and(Forward::is_full)
    }

    fn place(&self, stream: Stream) -> Place {
        let time = crate::clock::now();
        Place { stream, suffix: json_line::suffix_with(stream.name(), &self.attributes, &time), time }
    }

    /// Lines that could not be written because of errors.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.lost + self.forward.as_ref().map_or(0, Forward::lost)
    }

    /// End of what has been written.
    #[must_use]
    pub fn position(&self) -> Option<LogPosition> {
        self.current.as_ref().map(|current| LogPosition { identity: current.identity, offset: current.size })
    }

    /// Takes the next line, or the next full piece of one, from the pending text and `data`; returns the rest of `data`.
    fn take_line<'a>(&mut self, place: &Place, data: &'a [u8]) -> &'a [u8] {
        let stream = place.stream;
        let have = self.pending[stream as usize].len();
        let window = &data[..data.len().min(LINE_LIMIT - have)];
        if let Some(end) = find_newline(window) {
            self.write_with_pending(&window[..end], true, place);
            return &data[end + 1..];
        }
        if have + window.len() < LINE_LIMIT {
            self.pending[stream as usize].extend_from_slice(window);
            return &[];
        }
        // Docker counts bytes before the newline: a line of exactly the limit is whole.
        if data.get(window.len()) == Some(&b'\n') {
            self.write_with_pending(window, true, place);
            return &data[window.len() + 1..];
        }
        if have == 0 {
            let whole = whole_characters(window);
            self.write_line(&window[..whole], false, place);
            return &data[whole..];
        }
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        pending.extend_from_slice(window);
        let whole = whole_characters(&pending);
        self.write_line(&pending[..whole], false, place);
        pending.drain(..whole);
        self.pending[stream as usize] = pending;
        &data[window.len()..]
    }

    fn write_with_pending(&mut self, text: &[u8], newline: bool, place: &Place) {
        let stream = place.stream;
        if self.pending[stream as usize].is_empty() {
            self.write_line(text, newline, place);
        } else {
            let mut pending = std::mem::take(&mut self.pending[stream as usize]);
            pending.extend_from_slice(text);
            self.write_line(&pending, newline, place);
            pending.clear();
            self.pending[stream as usize] = pending;
        }
    }

    fn write_line(&mut self, text: &[u8], newline: bool, place: &Place) {
        if let Some(forward) = &mut self.forward {
            forward.line(place.stream, text, newline, &place.time);
        }
        let Some(current) = &self.current else { return };
        let full = current.size + self.out.len() as u64 >= current.rotate_at;
        if full || self.out.len() + text.len() * json_line::WORST + json_line::OVERHEAD > COLLECT {
            self.flush();
        }
        if full && let Some(current) = &mut self.current {
            current.rotate();
            self.begin_compressing();
        }
        if self.out.capacity() == 0 {
            self.out.reserve_exact(COLLECT);
        }
        json_line::append(&mut self.out, text, newline, &place.suffix);
    }

    fn flush(&mut self) {
        let Some(current) = &mut self.current else { return };
        if !self.out.is_empty() && !current.write(&self.out) {
            self.lost += self.out.iter().filter(|&&byte| byte == b'\n').count() as u64;
        }
        self.out.clear();
    }
}

/// What all lines have that come together.
struct Place {
    stream: Stream,
    suffix: String,
    time: String,
}

/// Length of the prefix of `text` that does not end in the middle of a character; all of it when it is not UTF-8 anyway.
fn whole_characters(text: &[u8]) -> usize {
    let tail = &text[text.len().saturating_sub(4)..];
    let Some(back) = tail.iter().rev().position(|&byte| byte & 0xc0 != 0x80) else { return text.len() };
    let first = text.len() - 1 - back;
    let needs = match text[first] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return text.len(),
    };
    if first > 0 && back + 1 < needs { first } else { text.len() }
}

impl Current {
    fn open(plan: &LogPlan) -> Result<Self, Error> {
        let path = &plan.path;
        let mut file = open_log(path, false)
            .call(|| format!("openat(AT_FDCWD, {path:?}, O_RDWR|O_CREAT|O_APPEND|O_CLOEXEC, 0640)"))?;
        let size = repair_end(&mut file).call(|| format!("ftruncate(<{}>)", path.display()))?;
        let identity = log_identity::of(&file).call(|| format!("statx(<{}>)", path.display()))?;
        let rotate_at = plan.max_size.unwrap_or(u64::MAX);
        let (max_size, max_file) = (plan.max_size, plan.max_file.max(1));
        let compress = plan.compress && max_file > 1;
        Ok(Self { file, path: path.clone(), identity, size, max_size, max_file, compress, rotate_at })
    }

    /// Writes whole lines, or nothing. Says whether it worked.
    fn write(&mut self, lines: &[u8]) -> bool {
        if self.file.write_all(lines).is_ok() {
            self.size += lines.len() as u64;
            return true;
        }
        // What was written before the error would be half a line. If even this fails, opening the log repairs it.
        drop(self.file.set_len(self.size));
        false
    }

    fn rotate(&mut self) {
        match self.try_rotate() {
            Ok((file, identity)) => {
                (self.file, self.identity, self.size) = (file, identity, 0);
                self.rotate_at = self.max_size.unwrap_or(u64::MAX);
            }
            // Better a log that is too long than none; try again a while later.
            Err(_) => self.rotate_at = self.size + (64 << 10),
        }
    }

    fn try_rotate(&self) -> std::io::Result<(File, u64)> {
        let new = numbered(&self.path, "new");
        let file = open_log(&new, true)?;
        let identity = log_identity::of(&file)?;
        for number in (1..self.max_file.saturating_sub(1)).rev() {
            // Of the one that is overwritten, the other form must go as well.
            for (from, to, other) in [
                (numbered(&self.path, number), numbered(&self.path, number + 1), compressed(&self.path, number + 1)),
                (compressed(&self.path, number), compressed(&self.path, number + 1), numbered(&self.path, number + 1)),
            ] {
                match std::fs::rename(from, to) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    Err(_) => {}
                    Ok(()) => drop(std::fs::remove_file(other)),
                }
            }
        }
        if self.max_file > 1 {
            let first = numbered(&self.path, 1);
            drop(std::fs::remove_file(compressed(&self.path, 1)));
            match std::fs::remove_file(&first) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A file system without hard links leaves a moment without `<path>`, which readers wait out.
            if std::fs::hard_link(&self.path, &first).is_err() {
                std::fs::rename(&self.path, &first)?;
            }
        }
        std::fs::rename(&new, &self.path)?;
        Ok((file, identity))
    }
}

/// The name of a rotated file.
pub(crate) fn numbered(path: &Path, number: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open_log(path: &Path, empty: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o640);
    let file = options.open(path)?;
    if empty {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Removes what stands behind the last newline: half a line of a monitor that was killed. Returns the size.
fn repair_end(file: &mut File) -> std::io::Result<u64> {
    let mut size = file.metadata()?.len();
    let mut block = [0; 4096];
    loop {
        let length = size.min(block.len() as u64);
        let start = size - length;
        // At most the size of `block`.
        let block = &mut block[..length as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            size = start + at as u64 + 1;
        } else if start > 0 {
            size = start;
            continue;
        } else {
            size = 0;
        }
        if size != file.metadata()?.len() {
            file.set_len(size)?;
        }
        return Ok(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch {
        directory: tempfile::TempDir,
        plan: LogPlan,
    }

    fn scratch(max_size: Option<u64>, max_file: u32) -> Scratch {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c-json.log");
        Scratch { directory, plan: LogPlan { max_size, max_file, ..LogPlan::json_file(path) } }
    }

    fn texts(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn lines_arrive_whole_however_they_are_cut() {
        let scratch = scratch(None, 1);
        let mut log = LogFile::open(&scratch.plan).unwrap();
        log.append(Stream::Stdout, b"one\ntw");
        assert_eq!(texts(&scratch.plan.path), ["one\n"]);
        log.append(Stream::Stderr, b"err");
        log.append(Stream::Stdout, b"o\n\nthree");
        log.end(Stream::Stdout);
        log.end(Stream::Stderr);
        assert_eq!(texts(&scratch.plan.path), ["one\n", "two\n", "\n", "three", "err"]);
    }

    #[test]
    fn long_lines_are_split_at_16_kib_between_characters() {
        let scratch = scratch(None, 1);
        let mut log = LogFile::open(&scratch.plan).unwrap();
        let limit = "x".repeat(LINE_LIMIT);
        log.append(Stream::Stdout, format!("{limit}\n").as_bytes());
        log.append(Stream::Stdout, format!("{limit}y\n").as_bytes());
        let wide = format!("y{}\n", "é".repeat(LINE_LIMIT));
        log.append(Stream::Stdout, &wide.as_bytes()[..7]);
        log.append(Stream::Stdout, &wide.as_bytes()[7..]);
        let texts = texts(&scratch.plan.path);
        assert_eq!(texts[0], format!("{limit}\n"));
        assert_eq!((texts[1].as_str(), texts[2].as_str()), (limit.as_str(), "y\n"));
        assert_eq!(texts[3].len(), LINE_LIMIT - 1);
        assert_eq!(texts[3..].concat(), wide);
        assert!(!texts[3..].concat().contains('\u{fffd}'));
    }

    #[test]
    fn rotation_keeps_the_newest_files_and_tears_no_line() {
        let scratch = scratch(Some(1000), 3);
        let mut log = LogFile::open(&scratch.plan).unwrap();
        for number in 0..100 {
            log.append(Stream::Stdout, format!("line {number}\nagain {number}\n").as_bytes());
        }
        let path = &scratch.plan.path;
        let mut all = texts(&numbered(path, 2));
        all.extend(texts(&numbered(path, 1)));
        all.extend(texts(path));
        let expected: Vec<String> =
            (0..100).flat_map(|n| [format!("line {n}\n"), format!("again {n}\n")]).skip(200 - all.len()).collect();
        assert_eq!(all, expected);
        assert!(all.len() > 25);
        assert_eq!(std::fs::read_dir(scratch.directory.path()).unwrap().count(), 3);
        for file in [path.clone(), numbered(path, 1)] {
            assert!(file.metadata().unwrap().len() < 1200);
        }
    }

    #[test]
    fn a_single_file_is_started_anew() {
        let scratch = scratch(Some(300), 1);
        let mut log = LogFile::open(&scratch.plan).unwrap();
        for number in 0..20 {
            log.append(Stream::Stdout, format!("{number}\n").as_bytes());
        }
        assert!(texts(&scratch.plan.path).contains(&"19\n".to_owned()));
        assert_eq!(std::fs::read_dir(scratch.directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn half_a_line_of_a_killed_monitor_is_removed() {
        let scratch = scratch(None, 1);
        LogFile::open(&scratch.plan).unwrap().append(Stream::Stdout, b"whole\n");
        let mut file = OpenOptions::new().append(true).open(&scratch.plan.path).unwrap();
        file.write_all(b"{\"log\":\"").unwrap();
        file.write_all(&vec![b'x'; 10_000]).unwrap();
        LogFile::open(&scratch.plan).unwrap().append(Stream::Stdout, b"next\n");
        assert_eq!(texts(&scratch.plan.path), ["whole\n", "next\n"]);
    }

    #[test]
    fn a_full_disk_loses_lines_but_tears_none() {
        let mut log = LogFile::open(&scratch(None, 1).plan).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        log.current.as_mut().unwrap().file = full;
        log.append(Stream::Stdout, b"a\nb\n");
        assert_eq!(log.lost_lines(), 2);
    }
}
