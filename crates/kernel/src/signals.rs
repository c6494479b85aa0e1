//! Signals as file descriptors: blocking them, reading them with `signalfd`, sending any number through a pidfd.
//!
//! Owns the calling thread's signal mask. Does not install handlers: a program that polls has no use for them.
//!
//! signalfd(2), sigprocmask(2), pidfd_send_signal(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals held back from their ordinary effect and read from a descriptor instead, until this is dropped.
#[derive(Debug)]
pub struct Blocked {
    fd: OwnedFd,
    previous: libc::sigset_t,
}

/// One signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Signal number.
    pub signal: i32,
    /// Process that sent it, 0 when the kernel did or when it is outside of our pid namespace.
    pub sender: u32,
}

impl Blocked {
    /// Blocks `signals` in the calling thread and opens a non-blocking, close-on-exec descriptor to read them.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal; `EMFILE`, `ENFILE`, `ENOMEM` from `signalfd4`.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals)?;
        // SAFETY: `set` is an initialised signal set, made by `set_of`; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was returned by the call above and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let previous = set_mask(libc::SIG_BLOCK, &set)?;
        Ok(Self { fd, previous })
    }

    /// The next signal that waits, or `None`.
    ///
    /// # Errors
    /// What `read` on the signalfd returns, except `EAGAIN`.
    pub fn next(&self) -> io::Result<Option<Delivered>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` is writable for exactly `size` bytes, and lives through the call.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        if n.cast_unsigned() != size {
            return Ok(None);
        }
        // SAFETY: the kernel filled the whole structure (checked above), which is plain integers.
        let info = unsafe { info.assume_init() };
        Ok(Some(Delivered { signal: info.ssi_signo.cast_signed(), sender: info.ssi_pid }))
    }
}

impl AsFd for Blocked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // A mask that was valid when the kernel returned it is valid now; there is nothing to do about an error here.
        drop(set_mask(libc::SIG_SETMASK, &self.previous));
    }
}

/// Lets every signal through again, for a process that may have inherited a mask from whoever started it.
///
/// # Errors
/// None that is known.
pub fn unblock_all() -> io::Result<()> {
    set_mask(libc::SIG_SETMASK, &set_of(&[])?).map(drop)
}

/// No signal blocked, until this is dropped: for starting a program that should not inherit our mask.
#[derive(Debug)]
pub struct Unblocked {
    previous: libc::sigset_t,
}

impl Unblocked {
    /// Unblocks everything in the calling thread. A signal that waits takes effect at once.
    ///
    /// # Errors
    /// None that is known.
    pub fn new() -> io::Result<Self> {
        Ok(Self { previous: set_mask(libc::SIG_SETMASK, &set_of(&[])?)? })
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        // As for `Blocked`.
        drop(set_mask(libc::SIG_SETMASK, &self.previous));
    }
}

/// Sends `signal`, real-time signals included (which rustix cannot name), to the process behind `pidfd`.
///
/// # Errors
/// `ESRCH` when it has been reaped, `EINVAL` for a number that is no signal, `EPERM`.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is documented to mean what kill(2) would send; the other arguments are integers.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the whole set and cannot fail for a valid pointer.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: `set` is initialised and exclusively borrowed; a bad number is reported, not stored.
        if unsafe { libc::sigaddset(&mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are valid for the duration of the call, `previous` for writing.
    let error = unsafe { libc::pthread_sigmask(how, set, previous.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: `pthread_sigmask` succeeded, so it stored the previous mask.
    Ok(unsafe { previous.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_from_the_descriptor() {
        let blocked = Blocked::new(&[libc::SIGUSR2]).unwrap();
        assert_eq!(blocked.next().unwrap(), None);
        // SAFETY: raises a signal that this thread has just blocked.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        assert_eq!(blocked.next().unwrap().unwrap().signal, libc::SIGUSR2);
        assert_eq!(blocked.next().unwrap(), None);
    }

    #[test]
    fn a_number_that_is_no_signal_is_refused() {
        assert!(Blocked::new(&[4000]).is_err());
    }
}
