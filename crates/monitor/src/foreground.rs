//! A person's terminal, or a script's pipes, joined to an attached process until it ends or the person leaves.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use kernel::signals::Blocked;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::Signal;

use crate::client::{self, Connection, Event};
use crate::detach_keys::{DetachKeys, Matcher};
use crate::error::{Call, Error};
use crate::log_file::Stream;
use crate::record::Exit;
use crate::terminal::{self, Raw};
use crate::wire::Frame;

/// Signals that are passed on to the process. Not those of job control, so that this program can be stopped and continued;
/// not SIGCHLD, SIGPIPE and the like, which are about this program.
const PROXIED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::POWER,
    Signal::VTALARM,
];
/// Signals that would end this program and leave a raw terminal behind.
const FATAL: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// How to join.
#[derive(Clone, Debug)]
pub struct Options<'fd> {
    /// Where input comes from; `None` sends none.
    pub stdin: Option<BorrowedFd<'fd>>,
    /// Where the standard output goes.
    pub stdout: BorrowedFd<'fd>,
    /// Where the standard error goes.
    pub stderr: BorrowedFd<'fd>,
    /// The process has a terminal: `stdin`, if it is one too, becomes raw, and its size is passed on.
    pub terminal: bool,
    /// Keys that leave.
    pub detach_keys: DetachKeys,
    /// Pass signals on to the process instead of letting them act here.
    pub signal_proxy: bool,
    /// The container's run directory, for signals and sizes, which must not wait behind input.
    pub run_directory: PathBuf,
    /// The exec session; `None` is the container itself.
    pub session: Option<String>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process has ended.
    Exited(Exit),
    /// The person has left; the process goes on.
    Detached,
}

struct Foreground<'a, 'fd> {
    options: &'a Options<'fd>,
    connection: &'a mut Connection,
    signals: Blocked,
    raw: Option<Raw<'fd>>,
    keys: Matcher,
    input_open: bool,
    outgoing: Vec<u8>,
    sent: usize,
    /// There may be events that the connection has read already: its socket says nothing of them.
    behind: bool,
}

/// Joins `connection`, which is attached, with the given descriptors. Returns when the process has ended and all of its output has been
/// written, or when the detach keys were typed. The terminal is restored in any case, also when a signal ends this program.
///
/// # Errors
/// [`Error::Closed`] when the monitor died, [`Error::Remote`] when it cut this client off, a failing write to `stdout`.
pub fn join(connection: &mut Connection, options: &Options<'_>) -> Result<Ended, Error> {
    let raw = match options.stdin {
        Some(fd) if options.terminal && terminal::is_terminal(fd) => Some(Raw::enter(fd)?),
        _ => None,
    };
    let mut blocked: Vec<i32> = Vec::new();
    if options.signal_proxy {
        blocked.extend(PROXIED.map(Signal::as_raw));
    }
    if raw.is_some() {
        blocked.extend(FATAL.map(Signal::as_raw));
        blocked.push(Signal::CONT.as_raw());
    }
    if options.terminal {
        blocked.push(Signal::WINCH.as_raw());
    }
    let signals = Blocked::new(&blocked).call(|| format!("signalfd4(-1, {blocked:?})"))?;
    let foreground = Foreground {
        keys: Matcher::new(options.detach_keys.clone()),
        input_open: options.stdin.is_some(),
        options,
        connection,
        signals,
        raw,
        outgoing: Vec::new(),
        sent: 0,
        behind: false,
    };
    foreground.resize();
    foreground.run()
}

impl Foreground<'_, '_> {
    fn run(mut self) -> Result<Ended, Error> {
        loop {
            let (socket, input, signals) = self.wait()?;
            if signals {
                self.take_signals();
            }
            if socket.intersects(PollFlags::OUT) {
                self.flush()?;
            }
            if (self.behind || socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
                && let Some(exit) = self.take_output()?
            {
                return Ok(Ended::Exited(exit));
            }
            if input && self.take_input()? {
                return Ok(Ended::Detached);
            }
        }
    }

    /// Waits for something. Returns what the socket is ready for, whether there is input, and whether there are signals.
    fn wait(&self) -> Result<(PollFlags, bool, bool), Error> {
        let waiting = !self.outgoing.is_empty();
        let flags = if waiting { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds =
            vec![PollFd::new(&*self.connection, flags), PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
        if let Some(fd) = self.options.stdin
            && self.input_open
            && !waiting
        {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::event::poll(&mut fds, self.behind.then_some(&at_once)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((PollFlags::empty(), false, false)),
            Err(error) => return Err(error).call(|| "ppoll()".to_owned()),
        }
        let input = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        Ok((fds[0].revents(), input, !fds[1].revents().is_empty()))
    }

    fn take_output(&mut self) -> Result<Option<Exit>, Error> {
        // Few events at a time, so that keys are not left waiting behind a flood.
        self.behind = true;
        for _ in 0..4 {
            match self.connection.try_receive()? {
                None => {
                    self.behind = false;
                    return Ok(None);
                }
                Some(Event::Output(Stream::Stdout, data)) => write_all(self.options.stdout, data, 1)?,
                Some(Event::Output(Stream::Stderr, data)) => write_all(self.options.stderr, data, 2)?,
                Some(Event::Exit(exit)) => return Ok(Some(exit)),
                Some(Event::Failed(failure)) => return Err(Error::Remote(failure)),
            }
        }
        Ok(None)
    }

    /// Reads input and sends it. Returns whether the detach keys were typed.
    fn take_input(&mut self) -> Result<bool, Error> {
        let Some(fd) = self.options.stdin else { return Ok(false) };
        let mut buffer = [0; 16 << 10];
        let mut input = Vec::new();
        let detach = match rustix::io::read(fd, &mut buffer) {
            Ok(n) if n > 0 && self.raw.is_some() => self.keys.feed(&buffer[..n], &mut input),
            Ok(n) if n > 0 => {
                input.extend_from_slice(&buffer[..n]);
                false
            }
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            // A terminal that was hung up (EIO) gives no more input either.
            Ok(_) | Err(_) => {
                self.keys.finish(&mut input);
                self.input_open = false;
                false
            }
        };
        if !input.is_empty() {
            self.outgoing.extend(Frame::Stdin.header(input.len()));
            self.outgoing.extend(input);
        }
        if !self.input_open {
            self.outgoing.extend(Frame::CloseStdin.header(0));
        }
        self.flush()?;
        Ok(detach)
    }

    fn flush(&mut self) -> Result<(), Error> {
        while self.sent < self.outgoing.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(self.connection.as_fd(), &self.outgoing[self.sent..], flags) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // The process may have ended; its last output and its exit can still be read.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.input_open = false;
                    break;
                }
                Err(error) => return Err(error).call(|| "sendto(<monitor.sock>)".to_owned()),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }

    fn take_signals(&mut self) {
        while let Ok(Some(delivered)) = self.signals.next() {
            let signal = delivered.signal;
            if signal == Signal::WINCH.as_raw() {
                self.resize();
            } else if signal == Signal::CONT.as_raw() {
                // On a terminal that is gone, reading fails next.
                drop(self.raw.as_ref().map(Raw::again));
                self.resize();
            } else if self.options.signal_proxy {
                // A process that has just ended needs no signal; its exit comes over the attachment.
                let session = self.options.session.as_deref();
                drop(client::signal(&self.options.run_directory, session, signal));
            } else {
                self.die_of(signal);
            }
        }
    }

    /// Restores the terminal and lets a signal that was held back have its effect.
    fn die_of(&mut self, signal: i32) {
        self.raw = None;
        if let Some(signal) = Signal::from_named_raw(signal) {
            let own = rustix::process::getpid();
            if rustix::process::kill_process(own, signal).is_ok()
                && let Ok(nothing) = Blocked::new(&[])
            {
                drop(std::mem::replace(&mut self.signals, nothing));
            }
        }
    }

    fn resize(&self) {
        if !self.options.terminal {
            return;
        }
        let fds = self.options.stdin.into_iter().chain([self.options.stdout]);
        if let Some(size) = fds.into_iter().find_map(terminal::size) {
            // The process may have ended; its exit comes over the attachment.
            let session = self.options.session.as_deref();
            drop(client::resize(&self.options.run_directory, session, size));
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut data: &[u8], number: u8) -> Result<(), Error> {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(Errno::INTR) => {}
            // Somebody who shares the descriptor, such as the terminal's other users, made it non-blocking.
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                match rustix::event::poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error).call(|| "ppoll()".to_owned()),
                }
            }
            Err(error) => return Err(error).call(|| format!("write({number}, …, {})", data.len())),
        }
    }
    Ok(())
}
