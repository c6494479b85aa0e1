//! A verb that stays while a process runs: passes on signals, joins the caller's terminal with the process's, gives the
//! exit status.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::signals::Blocked;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::termios::{OptionalActions, Termios};

use crate::error::{Error, Result};

/// Passed on to the process, but for the last, which is about the caller's terminal.
const SIGNALS: [Signal; 11] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::CONT,
    Signal::POWER,
    Signal::VTALARM,
    Signal::WINCH,
];

/// Holds the signals back from before the process exists, so that none is lost.
pub(crate) fn block_signals() -> Result<Blocked> {
    let blocked = Blocked::new(&SIGNALS.map(Signal::as_raw));
    blocked.map_err(|source| Error::File { what: "wait for signals".to_owned(), source })
}

/// A process that the caller waits for.
#[derive(Debug)]
pub(crate) struct Foreground {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub terminal: Option<OwnedFd>,
    pub signals: Blocked,
}

impl Foreground {
    /// Until the process has ended, and its terminal's last words are written.
    pub(crate) fn wait(self) -> Result<u8> {
        let raw = self.terminal.as_ref().and_then(|_| Raw::enter());
        self.resize();
        let mut input_open = self.terminal.is_some();
        loop {
            let [ended, signals, output, input] = self.poll(input_open, None)?;
            if signals {
                self.pass_signals();
            }
            if output {
                self.copy_output();
            }
            if input && !self.copy_input() {
                input_open = false;
            }
            if ended {
                break;
            }
        }
        // What it wrote before it ended. Others in the container may still hold the terminal, so only what is there.
        while let Ok([_, _, true, _]) = self.poll(false, Some(Timespec { tv_sec: 0, tv_nsec: 0 })) {
            if !self.copy_output() {
                break;
            }
        }
        drop(raw);
        reap(self.pid)
    }

    /// Whether the process has ended, there are signals, output, input.
    fn poll(&self, input_open: bool, timeout: Option<Timespec>) -> Result<[bool; 4]> {
        let (stdin, nothing) = (rustix::stdio::stdin(), PollFlags::empty());
        let terminal = self.terminal.as_ref().map(AsFd::as_fd);
        let mut fds = [
            PollFd::new(&self.pidfd, if timeout.is_some() { nothing } else { PollFlags::IN }),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(terminal.unwrap_or(self.signals.as_fd()), PollFlags::IN),
            PollFd::from_borrowed_fd(if input_open { stdin } else { self.signals.as_fd() }, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(kernel::Error::new("poll(<process, signals, terminal>)", errno).into()),
        }
        let ready = fds.map(|fd| !fd.revents().is_empty());
        Ok([ready[0], ready[1], ready[2] && terminal.is_some(), ready[3] && input_open])
    }

    fn pass_signals(&self) {
        while let Ok(Some(delivered)) = self.signals.next() {
            if delivered.signal == Signal::WINCH.as_raw() {
                self.resize();
            } else {
                // A process that has just ended needs none.
                drop(kernel::signals::send(self.pidfd.as_fd(), delivered.signal));
            }
        }
    }

    fn resize(&self) {
        let Some(terminal) = &self.terminal else { return };
        if let Ok((rows, columns)) = kernel::terminal::size(rustix::stdio::stdin())
            && rows > 0
        {
            drop(kernel::terminal::set_size(terminal.as_fd(), rows, columns));
        }
    }

    /// False at the end.
    fn copy_output(&self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(terminal, &mut buffer) {
            Ok(0) => false,
            Ok(length) => write_all(rustix::stdio::stdout(), &buffer[..length]),
            // EIO when nobody has the other end open, which somebody may open again; the process's end tells.
            Err(Errno::IO) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                false
            }
            Err(_) => true,
        }
    }

    /// False at the end.
    fn copy_input(&self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(length) if length > 0 => write_all(terminal.as_fd(), &buffer[..length]),
            Err(Errno::INTR | Errno::AGAIN) => true,
            _ => {
                // The end of the input, as a person would type it: ^D.
                write_all(terminal.as_fd(), &[4]);
                false
            }
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(length) => data = &data[length..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn reap(pid: Pid) -> Result<u8> {
    let wait = || rustix::process::waitpid(Some(pid), WaitOptions::empty());
    let status = rustix::io::retry_on_intr(wait).map_err(|errno| kernel::Error::new("wait4(<process>)", errno))?;
    let Some((_, status)) = status else { return Ok(255) };
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (_, Some(signal)) => 128 + signal,
        _ => 255,
    };
    Ok(u8::try_from(code).unwrap_or(255))
}

/// The caller's terminal in raw mode until this is dropped.
struct Raw(Termios);

impl Raw {
    /// `None` when standard input is no terminal.
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        // The process's terminal leaves line ends to this one.
        raw.output_modes = before.output_modes;
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0).ok();
    }
}
