//! A running process with its streams: the container's own, or an exec session's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

use crate::error::{Call, Error, Kind};
use crate::labelled_pipe;
use crate::log_file::Stream;
use crate::record::Exit;
use crate::wire::Size;

/// After the process has ended its output counts as complete when nothing came for this long, even if a process that it left
/// behind still holds the pipe open. What it wrote itself is in the pipe already and is read at once.
const QUIET: Duration = Duration::from_millis(50);
/// The same when what was left behind does not become quiet.
const DRAIN: Duration = Duration::from_secs(2);

/// Bytes that a pipe holds, unless it is told otherwise (pipe(7)).
const PIPE: usize = 64 << 10;
/// The same for one that was found full: the process writes on while what came before is taken.
const WIDE_PIPE: usize = 256 << 10;

/// What the process gets as its streams.
#[derive(Debug)]
pub(crate) enum Stdio {
    Files { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    Terminal,
}

/// Our ends of the streams.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) outputs: [Option<OwnedFd>; 2],
}

/// The process that was started.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// A process and its streams.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) outputs: [Option<OwnedFd>; 2],
    /// Which outputs have been found full, and been widened.
    wide: [bool; 2],
    stdin: Option<OwnedFd>,
    stdin_kept: Vec<u8>,
    stdin_ends: bool,
    /// The first client that closes or leaves ends the input.
    stdin_once: bool,
    pub(crate) exit: Option<Exit>,
    ended: Option<(Instant, Instant)>,
    pub(crate) started_at: String,
}

/// A pseudo-terminal, seen from its master side.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// For resizing; the same open file as output and input.
    master: OwnedFd,
    /// Held while the process lives: without any open slave, the master only says EIO, also when somebody in the container
    /// opens the terminal a moment later (Linux 4.13: TIOCGPTPEER; it needs no path in the container).
    slave: Option<OwnedFd>,
}

/// SELinux context for pipes, and the monitor's own directory, in which they are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    pub(crate) context: &'a str,
    pub(crate) directory: &'a Path,
}

/// Pipes for a process without a terminal. Streams that nobody wants are `/dev/null`. With a `label` the pipes have
/// that SELinux context.
pub(crate) fn pipes(stdin: bool, outputs: bool, label: Option<Label<'_>>) -> Result<(Stdio, Ends), Error> {
    let pipe = || match label {
        Some(Label { context, directory }) => labelled_pipe::make(directory, context),
        None => pipe(),
    };
    let mut ends = Ends::default();
    let stdin = if stdin {
        let (theirs, ours) = pipe()?;
        nonblocking(&ours)?;
        ends.stdin = Some(ours);
        theirs
    } else {
        null()?
    };
    let mut output = |index: usize| -> Result<OwnedFd, Error> {
        if !outputs {
            return null();
        }
        let (ours, theirs) = pipe()?;
        nonblocking(&ours)?;
        ends.outputs[index] = Some(ours);
        Ok(theirs)
    };
    let (stdout, stderr) = (output(0)?, output(1)?);
    Ok((Stdio::Files { stdin, stdout, stderr }, ends))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)".to_owned())
}

fn null() -> Result<OwnedFd, Error> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .call(|| "openat(AT_FDCWD, \"/dev/null\", O_RDWR|O_CLOEXEC)".to_owned())
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).call(|| "fcntl(F_DUPFD_CLOEXEC)".to_owned())
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Error> {
    let flags = rustix::fs::fcntl_getfl(fd).call(|| "fcntl(F_GETFL)".to_owned())?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).call(|| "fcntl(F_SETFL, O_NONBLOCK)".to_owned())
}

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).ok();
        Self { master, slave }
    }

    pub(crate) fn resize(&self, size: Size) -> Result<(), Error> {
        let size = rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size)
            .call(|| format!("ioctl(<pty>, TIOCSWINSZ, {{{}, {}}})", size.ws_row, size.ws_col))
    }

    /// Our ends: the terminal carries output and, if wanted, input.
    pub(crate) fn ends(&self, stdin: bool) -> Result<Ends, Error> {
        nonblocking(&self.master)?;
        let stdin = if stdin { Some(duplicate(&self.master)?) } else { None };
        Ok(Ends { stdin, outputs: [Some(duplicate(&self.master)?), None] })
    }
}

impl Session {
    pub(crate) fn new(id: String, running: Running, ends: Ends, terminal: Option<Terminal>, stdin_once: bool) -> Self {
        Self {
            id,
            pid: running.pid,
            pidfd: running.pidfd,
            terminal,
            outputs: ends.outputs,
            wide: [false; 2],
            stdin: ends.stdin,
            stdin_kept: Vec::new(),
            stdin_ends: false,
            stdin_once,
            exit: None,
            ended: None,
            started_at: crate::clock::now(),
        }
    }

    pub(crate) fn signal(&self, signal: i32) -> Result<(), Error> {
        if self.exit.is_some() {
            return Err(Error::refused(Kind::NotRunning, "the process has ended"));
        }
        match kernel::signals::send(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                Err(Error::refused(Kind::Invalid, format!("{signal} is not a signal")))
            }
            // Ended, but not reaped yet: for the sender the same as a signal that came in time.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            result => result.call(|| format!("pidfd_send_signal(<{}>, {signal}, NULL, 0)", self.pid)),
        }
    }

    /// Input that could not be written yet.
    pub(crate) fn stdin_waits(&self) -> bool {
        !self.stdin_kept.is_empty()
    }

    pub(crate) fn stdin_fd(&self) -> Option<&OwnedFd> {
        self.stdin.as_ref()
    }

    /// Writes input, keeps what does not fit. Input for a closed stream is dropped, as a pipe's writer would lose it.
    pub(crate) fn write_stdin(&mut self, data: &[u8]) {
        if self.stdin.is_none() || self.stdin_ends {
            return;
        }
        self.stdin_kept.extend_from_slice(data);
        self.flush_stdin();
    }

    pub(crate) fn flush_stdin(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        let mut written = 0;
        let mut broken = false;
        while written < self.stdin_kept.len() {
            match rustix::io::write(stdin, &self.stdin_kept[written..]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        self.stdin_kept.drain(..written);
        if self.stdin_kept.is_empty() {
            self.stdin_kept = Vec::new();
        }
        if broken || (self.stdin_ends && self.stdin_kept.is_empty()) {
            (self.stdin, self.stdin_kept) = (None, Vec::new());
        }
    }

    /// A client that wrote input closes its side or leaves.
    pub(crate) fn end_stdin(&mut self) {
        // A terminal has no end of input but the character that its line discipline knows; Docker leaves it alone, too.
        if self.stdin_once && self.terminal.is_none() {
            self.stdin_ends = true;
            self.flush_stdin();
        }
    }

    /// Reads one piece of output into `buffer`, in place of what it holds and no further than its capacity. `Some(0)`: the
    /// stream has ended and is closed now. `None`: nothing now.
    pub(crate) fn read_output(&mut self, stream: Stream, buffer: &mut Vec<u8>) -> Option<usize> {
        let slot = &mut self.outputs[stream as usize];
        buffer.clear();
        let fd = slot.as_ref()?;
        let result = rustix::io::read(fd, spare_capacity(buffer));
        match result {
            Ok(n) if n > 0 => {
                let wide = &mut self.wide[stream as usize];
                if n >= PIPE && !std::mem::replace(wide, true) {
                    // A user who has many such pipes already keeps the narrow one.
                    rustix::pipe::fcntl_setpipe_size(fd, WIDE_PIPE).ok();
                }
                if let Some((_, last)) = &mut self.ended {
                    *last = Instant::now();
                }
                Some(n)
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            // EIO: every slave of the terminal is closed.
            Ok(_) | Err(_) => {
                *slot = None;
                Some(0)
            }
        }
    }

    pub(crate) fn has_ended(&mut self, exit: Exit) {
        let now = Instant::now();
        (self.exit, self.ended) = (Some(exit), Some((now, now)));
        (self.stdin, self.stdin_kept) = (None, Vec::new());
        if let Some(terminal) = &mut self.terminal {
            terminal.slave = None;
        }
    }

    /// When waiting for more output ends; `None` while the process runs.
    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        let (ended, last) = self.ended?;
        Some((ended + DRAIN).min(last + QUIET))
    }

    /// The process has ended and its output is complete, or as complete as it will get.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        match self.drain_deadline() {
            None => false,
            Some(deadline) => self.outputs.iter().all(Option::is_none) || now >= deadline,
        }
    }
}
