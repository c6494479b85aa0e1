//! Pseudo-terminals (pty(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Error, Result};

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pair {
    /// The end that programs such as terminal emulators hold.
    pub controller: OwnedFd,
    /// The end that looks like a terminal.
    pub terminal: OwnedFd,
}

/// Makes a pair in the instance of devpts whose root directory is given.
///
/// The far end is opened by TIOCGPTPEER (Linux 4.13), never by the path `/dev/pts/N`, which a container could replace
/// between the two steps (CVE-2025-52565).
pub fn open_pair(devpts: BorrowedFd<'_>) -> Result<Pair> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let controller = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())
        .map_err(|errno| Error::new("openat(<devpts>, \"ptmx\", O_RDWR|O_NOCTTY|O_NOFOLLOW)", errno))?;
    let status = rustix::fs::fstatfs(&controller).map_err(|errno| Error::new("fstatfs(<ptmx>)", errno))?;
    if status.f_type != libc::DEVPTS_SUPER_MAGIC as _ {
        return Err(Error::new("fstatfs(<ptmx>): not on devpts", rustix::io::Errno::NOTTY));
    }
    rustix::pty::unlockpt(&controller).map_err(|errno| Error::new("ioctl(<ptmx>, TIOCSPTLCK)", errno))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, flags)
        .map_err(|errno| Error::new("ioctl(<ptmx>, TIOCGPTPEER)", errno))?;
    Ok(Pair { controller, terminal })
}

/// Sets the size in characters and signals SIGWINCH to the programs that use the terminal.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
        .map_err(|errno| Error::new(format!("ioctl(<terminal>, TIOCSWINSZ, {rows} rows, {columns} columns)"), errno))
}

/// Passes line ends on as they are (termios(3), no `ONLCR`).
pub fn pass_line_ends(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut settings =
        rustix::termios::tcgetattr(terminal).map_err(|errno| Error::new("ioctl(<terminal>, TCGETS)", errno))?;
    settings.output_modes.remove(rustix::termios::OutputModes::ONLCR);
    rustix::termios::tcsetattr(terminal, rustix::termios::OptionalActions::Now, &settings)
        .map_err(|errno| Error::new("ioctl(<terminal>, TCSETS)", errno))
}

/// The size in characters: rows and columns.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let size =
        rustix::termios::tcgetwinsize(terminal).map_err(|errno| Error::new("ioctl(<terminal>, TIOCGWINSZ)", errno))?;
    Ok((size.ws_row, size.ws_col))
}

/// Makes the calling process the leader of a new session that has this terminal.
pub fn control(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::setsid().map_err(|errno| Error::new("setsid()", errno))?;
    rustix::process::ioctl_tiocsctty(terminal.as_fd())
        .map_err(|errno| Error::new("ioctl(<terminal>, TIOCSCTTY, 0)", errno))
}
