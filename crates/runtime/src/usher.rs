//! Coming into the container's cgroup. A process is born there (clone3, Linux 5.7), or moves itself; both want the right to write to the
//! nearest group above the old place and the new one (cgroup-v2.rst, "Delegation Containment"), which an ordinary user does not
//! have in the group of a login. There somebody else leads it in.

use std::path::Path;

use kernel::error::Error as SystemCall;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::channel::{Channel, Down};
use crate::error::{BoxError, Error, Result};

/// Puts a process into this directory of cgroup v2, or has it put there.
pub type Usher<'a> = &'a dyn Fn(Pid, &Path) -> std::result::Result<(), BoxError>;

/// How a process comes into the container's group of cgroup v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// By the kernel, when it is made.
    Born,
    /// By its own writing.
    Itself,
    /// By an [`Usher`], for whom it waits.
    Led,
}

impl Entry {
    /// What to try after `error`.
    pub(crate) fn instead(self, error: &SystemCall, usher: Option<Usher<'_>>) -> Option<Entry> {
        match error.errno() {
            Errno::NOSYS | Errno::ACCESS if self == Entry::Born && usher.is_some() => Some(Entry::Led),
            Errno::NOSYS if self == Entry::Born => Some(Entry::Itself),
            _ => None,
        }
    }

    /// In the process: it goes on when it is in, or when it can go there.
    pub(crate) fn wait(self, channel: &Channel) -> Result<()> {
        if self == Entry::Led { channel.wait_for(Down::Go) } else { Ok(()) }
    }
}

/// Leads a process in and lets it go on. One that cannot be led in hears that its channel is closed, once the caller drops it.
pub(crate) fn lead(pid: Pid, directory: &Path, usher: Usher<'_>, channel: &Channel) -> Result<()> {
    usher(pid, directory).map_err(Error::NotLed)?;
    channel.send_down(Down::Go)
}
