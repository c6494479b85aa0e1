//! The start of a container whose maker has ended: a socket at which its first process waits.
//!
//! A runtime that is a command cannot keep the [`channel`](crate::channel) open between `create` and `start`. So the child
//! listens on a socket in the container's state directory; whoever starts it connects, says `Go`, and hears as over the
//! first channel whether the program could be executed. The directory is the maker's alone, the listener is closed with
//! execve(2), and a second connection is never accepted.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::error::Error as SystemCall;
use kernel::signals::Blocked;
use oci::runtime::ContainerState;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};

use crate::channel::{Channel, Down, Up};
use crate::error::{During, Error, Result};
use crate::plan::{FilterPlan, ProcessPlan};
use crate::supervisor::{self, Supervisor};

/// What ends a container that has not been started, beside what nobody can hold back.
const ENDING: [i32; 4] = [Signal::HUP.as_raw(), Signal::INT.as_raw(), Signal::QUIT.as_raw(), Signal::TERM.as_raw()];

/// Where a container will be started from.
#[derive(Debug)]
pub struct Door {
    listener: OwnedFd,
}

impl Door {
    /// Makes the socket `name` in a directory that only its owner can enter.
    ///
    /// # Errors
    /// `EADDRINUSE` when there is one already, or what else socket(2), bind(2), listen(2) say.
    pub fn make(directory: &Path, name: &str) -> Result<Self> {
        let work = || {
            let (_directory, address) = address(directory, name)?;
            let listener = socket()?;
            rustix::net::bind(&listener, &address).map_err(|errno| SystemCall::new("bind(<door>)", errno))?;
            rustix::net::listen(&listener, 1).map_err(|errno| SystemCall::new("listen(<door>, 1)", errno))?;
            Ok(Self { listener })
        };
        work().during(|| "make the socket from which the container is started")
    }

    /// Waits for somebody who starts the container, or a signal that ends it.
    pub(crate) fn wait(&self, signals: &Blocked) -> Result<Channel> {
        let step = || "wait for the start";
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))
            .map_err(|errno| SystemCall::new("poll(<door>, <signals>)", errno))
            .during(step)?;
        if let Some(delivered) = signals.next().map_err(|error| signal_error(&error)).during(step)? {
            return Err(Error::Vanished(format!("signal {} ended it before it was started", delivered.signal)));
        }
        let accept = || rustix::net::accept_with(self.listener.as_fd(), SocketFlags::CLOEXEC);
        let connection = rustix::io::retry_on_intr(accept).map_err(|errno| SystemCall::new("accept4(<door>)", errno));
        connection.during(step).map(Channel::of)
    }
}

/// Holds back the signals that end a container which waits: the first process of a pid namespace is deaf to one that it does
/// not wait for (pid_namespaces(7)), and would wait on. To be called before anybody is told of it.
pub(crate) fn hold_signals() -> Result<Blocked> {
    Blocked::new(&ENDING).map_err(|error| signal_error(&error)).during(|| "wait for the start")
}

fn signal_error(error: &std::io::Error) -> SystemCall {
    SystemCall::new("signalfd4(<while waiting>)", Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// A unix address holds 107 bytes of path; a state directory may be deeper.
fn address(directory: &Path, name: &str) -> kernel::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, directory, flags, Mode::empty())
        .map_err(|errno| SystemCall::new(format!("open({directory:?}, O_PATH)"), errno))?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd()))
        .map_err(|errno| SystemCall::new(format!("sockaddr_un({name:?})"), errno))?;
    Ok((fd, address))
}

fn socket() -> kernel::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| SystemCall::new("socket(AF_UNIX, SOCK_SEQPACKET)", errno))
}

/// A container that waits behind its door.
#[derive(Debug)]
pub struct Knock {
    channel: Channel,
}

/// Connects to the door `name` in `directory`.
///
/// # Errors
/// `ENOENT` when the container was started already, `ECONNREFUSED` when nobody waits behind it any more.
pub fn knock(directory: &Path, name: &str) -> Result<Knock> {
    let work = || {
        let (_directory, address) = address(directory, name)?;
        let connection = socket()?;
        rustix::net::connect(&connection, &address)
            .map_err(|errno| SystemCall::new(format!("connect({:?})", directory.join(name)), errno))?;
        Ok(Knock { channel: Channel::of(connection) })
    };
    work().during(|| "reach the waiting container")
}

impl Knock {
    /// Executes the container's program and returns when that has succeeded. `filter` is the one of the container's plan,
    /// which may name a supervisor; `pid` its first process.
    ///
    /// # Errors
    /// As [`crate::Created::start`].
    pub fn start(self, filter: Option<&FilterPlan>, pid: Pid) -> Result<()> {
        let supervisor = Supervisor::of(filter, ContainerState::Created, pid);
        self.channel.send_down(Down::Go)?;
        loop {
            match self.channel.receive_up()? {
                Up::Closed => return Ok(()),
                Up::Lost => return Err(Error::Vanished("it was killed while it was started".to_owned())),
                Up::Failed(error) => return Err(error),
                Up::Listener { listener } => supervisor::hand_over(supervisor.as_ref(), pid, &listener)?,
                Up::Ready { .. } | Up::Born { .. } | Up::Hooks | Up::Map { .. } => {}
            }
        }
    }
}

/// Closes the door for the container's own processes while it waits: nobody inside may trace the waiting process or
/// open its descriptors (CVE-2016-9962). It waits for long, so whatever else its maker had open is closed.
pub(crate) fn wait(
    door: &Door,
    signals: &Blocked,
    process: &ProcessPlan,
    needed: &[BorrowedFd<'_>],
) -> Result<Channel> {
    let mut kept = vec![door.as_fd(), signals.as_fd()];
    kept.extend(needed);
    kernel::descriptors::close_all_but(3 + process.preserve_descriptors, &kept)
        .during(|| "close what is not needed while waiting")?;
    kernel::prctl::set_dumpable(false).during(|| "hide from the container's processes")?;
    let channel = door.wait(signals)?;
    channel.wait_for(Down::Go)?;
    if process.apparmor_profile.is_some() || process.selinux_label.is_some() {
        // Files of procfs belong to nobody in a user namespace until the process may be traced again.
        kernel::prctl::set_dumpable(true).during(|| "write the process's label")?;
    }
    Ok(channel)
}

/// Whether the error says that nobody waits behind the door.
#[must_use]
pub fn nobody_waits(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::CONNREFUSED))
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
