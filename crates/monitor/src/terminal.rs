//! The terminal of the person at the command line: raw mode, restored whatever happens, and its size.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, Termios};

use crate::error::{Call, Error};
use crate::wire::Size;

/// A terminal in raw mode until this is dropped.
#[derive(Debug)]
pub struct Raw<'fd> {
    fd: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> Raw<'fd> {
    /// Switches to raw mode: every key goes to the process, none is interpreted here.
    ///
    /// # Errors
    /// `ENOTTY` when `fd` is no terminal.
    pub fn enter(fd: BorrowedFd<'fd>) -> Result<Self, Error> {
        let before = rustix::termios::tcgetattr(fd).call(|| "ioctl(<terminal>, TCGETS)".to_owned())?;
        let raw = Self { fd, before };
        raw.again()?;
        Ok(raw)
    }

    /// Switches to raw mode once more, after a shell has changed it while this process was stopped.
    ///
    /// # Errors
    /// The terminal has been hung up.
    pub fn again(&self) -> Result<(), Error> {
        let mut raw = self.before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(self.fd, OptionalActions::Now, &raw).call(|| "ioctl(<terminal>, TCSETS)".to_owned())
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        drop(rustix::termios::tcsetattr(self.fd, OptionalActions::Drain, &self.before).map_err(std::io::Error::from));
    }
}

/// Whether this is a terminal.
#[must_use]
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Its size; `None` when it is no terminal or does not know.
#[must_use]
pub fn size(fd: impl AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}
