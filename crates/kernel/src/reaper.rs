//! What an init needs: taking signals one by one, and reaping every child.

use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::error::{Error, Result};

/// All signals, blocked, to be taken one by one.
#[derive(Debug)]
pub struct Signals {
    before: libc::sigset_t,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// At least one child has ended or stopped (SIGCHLD).
    ChildrenEnded,
    /// Another signal, by its number.
    Passed(i32),
}

/// Those that the kernel sends for a fault of the process itself; blocked, they would make it go on in a loop.
const FAULTS: [i32; 7] =
    [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

impl Signals {
    /// Blocks every signal that is not the sign of a fault.
    pub fn block() -> Result<Self> {
        // SAFETY: both sets are written by the calls before they are read.
        let (result, before) = unsafe {
            let mut all = std::mem::zeroed::<libc::sigset_t>();
            let mut before = std::mem::zeroed::<libc::sigset_t>();
            libc::sigfillset(&raw mut all);
            for fault in FAULTS {
                libc::sigdelset(&raw mut all, fault);
            }
            (libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before), before)
        };
        if result == 0 { Ok(Self { before }) } else { Err(Error::new("sigprocmask(SIG_SETMASK, <all>)", last_errno())) }
    }

    /// Starts a program with the signals as they were before they were blocked.
    ///
    /// In a new process group, which becomes the foreground of the terminal if there is one.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<Pid> {
        use std::os::unix::process::CommandExt;
        let before = self.before;
        // SAFETY: the closure runs in the child between fork and execve and calls only functions that are safe there
        // (signal-safety(7)): signal, sigprocmask, tcsetpgrp, getpid.
        unsafe {
            command.pre_exec(move || {
                // With the signal for background writes still blocked, this cannot stop the child.
                libc::tcsetpgrp(0, libc::getpid());
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
                Ok(())
            });
        }
        let child = command.spawn()?;
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| std::io::Error::from(Errno::SRCH))
    }

    /// Waits for the next signal.
    #[must_use]
    pub fn wait(&self) -> Event {
        let mut number = 0;
        loop {
            // SAFETY: the set is filled before it is read, and the number is written by the call.
            let result = unsafe {
                let mut all = std::mem::zeroed::<libc::sigset_t>();
                libc::sigfillset(&raw mut all);
                libc::sigwait(&raw const all, &raw mut number)
            };
            if result == 0 {
                return if number == libc::SIGCHLD { Event::ChildrenEnded } else { Event::Passed(number) };
            }
        }
    }
}

/// Sends a signal by its number to a process; should that be gone, to nobody.
pub fn pass(to: Pid, signal: i32) {
    // SAFETY: no memory is passed.
    unsafe { libc::kill(to.as_raw_nonzero().get(), signal) };
}

/// Reaps every child that has ended; gives the exit status of `main`, or 128 plus its signal, if it was among them.
#[must_use]
pub fn reap_all(main: Pid) -> Option<u8> {
    let mut result = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == main {
            let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            result = Some(code.and_then(|code| u8::try_from(code & 0xff).ok()).unwrap_or(255));
        }
    }
    result
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
