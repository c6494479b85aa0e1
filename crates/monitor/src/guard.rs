//! Noticing that another program removed our firewall rules, with no daemon: one of the monitors watches.
//!
//! Which one: the holder of a lock on a file that all monitors of this engine share. It listens to the kernel; the others
//! keep a descriptor of its process in their poll set, and try for the lock when it has ended. So a change of rules wakes
//! one process, and an idle machine none.
//!
//! What is to be done then is the engine's affair: it runs in a process of its own, because it may have to wait.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags};

/// How long after a look that told nothing the next one comes: the holder of the lock has not written its number yet, or
/// the rules could not be put right.
const PAUSE: Duration = Duration::from_secs(1);

/// How long this process has listened before it also holds translations: what ends sooner is spared the cost.
const SETTLED: Duration = Duration::from_secs(1);

/// Starts the process that puts the rules right.
pub type Healer = Box<dyn FnMut() -> std::io::Result<Child> + Send>;

/// See the head of the module.
pub(crate) struct Guard {
    file: File,
    post: Post,
    healer: Healer,
    healing: Option<(Child, OwnedFd)>,
    /// Something was removed while the rules were being put right.
    missed: bool,
    again: Option<Instant>,
    hold: Option<Instant>,
}

enum Post {
    /// This process listens.
    Listening(network::Watch),
    /// Another one does; its end is told here.
    Standing(OwnedFd),
    /// Nobody is known to.
    Open,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Guard {
    /// Listens, or stands behind who does.
    pub(crate) fn open(lock: &Path, healer: Healer) -> std::io::Result<Guard> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(lock)?;
        let mut guard = Guard { file, post: Post::Open, healer, healing: None, missed: false, again: None, hold: None };
        guard.take_post();
        Ok(guard)
    }

    fn take_post(&mut self) {
        self.post = Post::Open;
        (self.again, self.hold) = (None, None);
        if rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let number = rustix::process::getpid().as_raw_nonzero().to_string();
            let written = self.file.set_len(0).and_then(|()| self.file.rewind());
            let written = written.and_then(|()| self.file.write_all(number.as_bytes()));
            if let (Ok(()), Ok(watch)) = (written, network::Watch::open()) {
                self.post = Post::Listening(watch);
                self.hold = Some(Instant::now() + SETTLED);
                return;
            }
        } else if let Some(process) = self.holder() {
            self.post = Post::Standing(process);
            return;
        }
        self.again = Some(Instant::now() + PAUSE);
    }

    /// The process that holds the lock.
    fn holder(&mut self) -> Option<OwnedFd> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        self.file.read_to_string(&mut text).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok().filter(|pid| *pid > 0)?)?;
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    /// Nothing will be looked at any more: see [`network::Watch::close_ears`]. The others are told by the end of this process, as
    /// ever.
    pub(crate) fn conclude(&self) {
        if let Post::Listening(watch) = &self.post {
            watch.close_ears();
        }
    }

    /// What to poll for reading.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let post = match &self.post {
            Post::Listening(watch) => Some(watch.as_fd()),
            Post::Standing(process) => Some(process.as_fd()),
            Post::Open => None,
        };
        post.into_iter().chain(self.healing.as_ref().map(|(_, process)| process.as_fd()))
    }

    /// When [`Self::look`] wants to be called even if nothing is ready.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again.into_iter().chain(self.hold).min()
    }

    /// Does what has come up. Never waits.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        let is_due = self.again.is_some_and(|time| now >= time);
        if let Some((child, _)) = &mut self.healing {
            let ended = child.try_wait().map_or(Some(false), |status| status.map(|status| status.code().is_none()));
            if let Some(was_killed) = ended {
                self.healing = None;
                if was_killed | std::mem::take(&mut self.missed) {
                    self.heal(now);
                }
            }
        }
        match &mut self.post {
            Post::Listening(watch) => {
                if self.hold.take_if(|time| now >= *time).is_some() {
                    // Older kernels cannot: translated connections are reset when rules go.
                    watch.hold().ok();
                }
                // A socket that cannot be read is no reason to believe that all is well.
                if watch.is_touched().unwrap_or(true) || is_due {
                    self.heal(now);
                }
            }
            Post::Standing(process) if is_gone(process) => self.take_post(),
            Post::Open if is_due => self.take_post(),
            Post::Standing(_) | Post::Open => {}
        }
    }

    fn heal(&mut self, now: Instant) {
        self.again = None;
        if self.healing.is_some() {
            // It may have read the rules before this change: another look when it has ended.
            self.missed = true;
            return;
        }
        let started = (self.healer)().ok();
        self.healing = started.and_then(|child| {
            let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok()?;
            Some((child, process))
        });
        if self.healing.is_none() {
            self.again = Some(now + PAUSE);
        }
    }
}

fn is_gone(process: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    let no_time = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&no_time)).is_ok_and(|ready| ready > 0)
}
