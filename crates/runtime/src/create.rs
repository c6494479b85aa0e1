//! The parent's side of making a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::clone::{Child, Clone as Cloning};
use kernel::error::Error as SystemCall;
use kernel::namespaces::Namespaces;
use oci::runtime::{ContainerState, LinuxNamespaceType};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::channel::{self, Channel, Down, Up};
use crate::child;
use crate::door::Door;
use crate::error::{BoxError, During, Error, Result};
use crate::hooks;
use crate::join;
use crate::mounts::{self, Prepared};
use crate::plan::Plan;
use crate::supervisor::{self, Supervisor};
use crate::usher::{self, Entry, Usher};

/// Standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Those of the caller.
    Inherit,
    /// These; the caller's copies are closed once the process has them.
    Streams {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new pseudo-terminal, whose other end is handed out; the plan has its size.
    Terminal,
}

/// A container whose namespaces exist and whose mounts are being assembled.
#[derive(Debug)]
pub struct NewContainer<'a> {
    /// Its first process as the caller sees it; its namespaces are in `/proc/PID/ns`.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: BorrowedFd<'a>,
}

impl NewContainer<'_> {
    /// Opens one of its namespaces.
    pub fn namespace(&self, kind: Namespaces) -> Result<OwnedFd> {
        kernel::namespaces::open(self.pid, kind).during(|| "open a namespace of the container")
    }
}

/// A container that stands just before execve(2). Dropping it ends it.
#[derive(Debug)]
pub struct Created {
    process: Unstarted,
    supervisor: Option<Supervisor>,
    /// The other end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Started {
    /// Its id as the caller sees it. It is a child of the caller, which must reap it.
    pub pid: Pid,
    /// The same as a descriptor; readable when it has ended.
    pub pidfd: OwnedFd,
    /// The other end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

impl Created {
    /// Process id as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// The process as a descriptor; readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    /// Executes the container's program and returns when that has succeeded.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::NotExecutable`] for the program; the process has been reaped then.
    pub fn start(mut self) -> Result<Started> {
        self.process.go()?;
        let terminal = self.terminal;
        self.process.until_executed(terminal, self.supervisor.as_ref())
    }

    /// Leaves a container that was made by [`create_for_command`] to whoever starts it by [`crate::knock`]. Until this call it
    /// ends when the caller ends.
    ///
    /// # Errors
    /// The container was gone.
    pub fn leave(mut self) -> Result<Left> {
        self.process.go()?;
        self.process.armed = false;
        let pidfd = self.process.pidfd.try_clone().map_err(|_| SystemCall::new("dup(<pidfd>)", Errno::MFILE));
        let pidfd = pidfd.during(|| "keep the process's descriptor")?;
        Ok(Left { pid: self.process.pid, pidfd, terminal: self.terminal })
    }
}

/// A container that waits for its start without its maker.
#[derive(Debug)]
pub struct Left {
    /// Its first process, a child of the caller.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// The other end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

/// A process that has not executed its program yet. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Unstarted {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
    armed: bool,
}

impl Unstarted {
    pub(crate) fn new(child: Child, channel: Channel) -> Self {
        Self { pid: child.pid, pidfd: child.pidfd, channel, armed: true }
    }

    /// Lets the child go on. A child that is gone cannot be told; what it has said before is still to be read then.
    fn go(&mut self) -> Result<()> {
        let Err(error) = self.channel.send_down(Down::Go) else { return Ok(()) };
        if !matches!(error.errno(), Some(Errno::PIPE | Errno::CONNRESET)) {
            // It lives, and would wait for ever.
            return Err(error);
        }
        loop {
            match self.channel.receive_up() {
                Ok(Up::Failed(failure)) => return Err(failure),
                Ok(Up::Closed | Up::Lost) => return Err(Error::Vanished(self.end())),
                Ok(_) => {}
                Err(_) => return Err(error),
            }
        }
    }

    /// Hears the child out until its end of the channel closes.
    pub(crate) fn until_executed(
        mut self,
        mut terminal: Option<OwnedFd>,
        supervisor: Option<&Supervisor>,
    ) -> Result<Started> {
        loop {
            match self.channel.receive_up()? {
                Up::Closed => break,
                Up::Lost => return Err(Error::Vanished(self.end())),
                Up::Failed(error) => return Err(error),
                Up::Ready { terminal: Some(fd) } => terminal = Some(fd),
                Up::Listener { listener } => supervisor::hand_over(supervisor, self.pid, &listener)?,
                Up::Ready { .. } | Up::Born { .. } | Up::Hooks | Up::Map { .. } => {}
            }
        }
        self.armed = false;
        let pidfd = self.pidfd.try_clone().map_err(|_| SystemCall::new("dup(<pidfd>)", Errno::MFILE));
        Ok(Started { pid: self.pid, pidfd: pidfd.during(|| "keep the process's descriptor")?, terminal })
    }

    /// Why the process is gone, in words.
    fn end(&mut self) -> String {
        self.armed = false;
        reap(self.pid)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if self.armed {
            // It may have ended already; either way it is waited for.
            rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
            reap(self.pid);
        }
    }
}

pub(crate) fn reap(pid: Pid) -> String {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("status {code}"),
                    (_, Some(signal)) => format!("killed by signal {signal}"),
                    _ => "unknown status".to_owned(),
                };
            }
            _ => return "reaped elsewhere".to_owned(),
        }
    }
}

/// Makes a container: everything up to execve(2).
///
/// `in_parallel` runs in the caller while the child assembles its mounts: network, limits that need a process. It sees
/// the container's namespaces; the container's program cannot run before it has returned. The caller must have one
/// thread.
///
/// # Errors
/// The failed step of the child as a typed value, `in_parallel`'s own error, or a hook's. The child is reaped then.
pub fn create(
    plan: &Plan,
    stdio: Stdio,
    in_parallel: impl FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>,
) -> Result<Created> {
    create_with(plan, stdio, (None, None), in_parallel)
}

/// As [`create`], for a runtime that is a command: with a `door` the container waits behind it once it is [left](Created::leave), as
/// the command ends before the start, and a program that cannot be executed is told here already, as far as one can look ahead. The
/// `usher` is asked where the kernel does not let the caller put a process into the container's cgroup.
///
/// # Errors
/// As [`create`], and those of the program.
pub fn create_for_command(
    plan: &Plan,
    stdio: Stdio,
    door: Option<&Door>,
    usher: Option<Usher<'_>>,
    in_parallel: impl FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>,
) -> Result<Created> {
    create_with(plan, stdio, (door, usher), in_parallel)
}

fn create_with(
    plan: &Plan,
    stdio: Stdio,
    of_a_command: (Option<&Door>, Option<Usher<'_>>),
    in_parallel: impl FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>,
) -> Result<Created> {
    let (mut process, supervisor, prepared) = begin(plan, stdio, of_a_command, in_parallel)?;
    loop {
        match process.channel.receive_up()? {
            Up::Map { index, tree } => {
                prepared.map_ids(plan, index as usize, tree.as_fd())?;
                process.channel.send_down(Down::Go)?;
            }
            Up::Ready { terminal } => return Ok(Created { process, supervisor, terminal }),
            Up::Listener { listener } => supervisor::hand_over(supervisor.as_ref(), process.pid, &listener)?,
            Up::Hooks => {
                let state = hooks::state(plan, ContainerState::Creating, process.pid);
                hooks::run_hooks("prestart", &plan.hooks.prestart, &state)?;
                hooks::run_hooks("createRuntime", &plan.hooks.create_runtime, &state)?;
                process.channel.send_down(Down::Go)?;
            }
            Up::Failed(error) => return Err(error),
            Up::Closed | Up::Lost => return Err(Error::Vanished(process.end())),
            Up::Born { .. } => {}
        }
    }
}

/// Makes and starts a container without a stop in between: as [`create`] and [`Created::start`], one exchange of messages
/// cheaper, which on a busy machine is a turn of the scheduler.
///
/// # Errors
/// Those of both.
pub fn run(
    plan: &Plan,
    stdio: Stdio,
    in_parallel: impl FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>,
) -> Result<Started> {
    // Hooks have their place between the two, and their own messages.
    let asks = !plan.hooks.prestart.is_empty() || !plan.hooks.create_runtime.is_empty();
    if asks || mounts::may_ask(plan) {
        return create(plan, stdio, in_parallel)?.start();
    }
    let (mut process, supervisor, _) = begin(plan, stdio, (None, None), in_parallel)?;
    process.go()?;
    process.until_executed(None, supervisor.as_ref())
}

fn begin(
    plan: &Plan,
    stdio: Stdio,
    (door, usher): (Option<&Door>, Option<Usher<'_>>),
    in_parallel: impl FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>,
) -> Result<(Unstarted, Option<Supervisor>, Prepared)> {
    let (ours, theirs) = channel::pair()?;
    let prepared = Prepared::new(plan)?;
    let outside = Outside { stdio: &stdio, prepared: &prepared, door, usher };
    let process = spawn(plan, outside, ours, theirs)?;
    // The child has its own copies now; what stays open here would keep pipes from ending.
    drop(stdio);
    if plan.namespaces.is_new(LinuxNamespaceType::User) {
        join::write_mappings(process.pid, &plan.namespaces)?;
        join::set_oom_score_of(process.pid, &plan.process)?;
        process.channel.send_down(Down::Mapped)?;
    }
    let supervisor = Supervisor::of(plan.process.filter.as_ref(), ContainerState::Creating, process.pid);
    let outcome = in_parallel(&NewContainer { pid: process.pid, pidfd: process.pidfd.as_fd() });
    if let Err(error) = outcome {
        return Err(child_failure(process).unwrap_or(Error::InParallel(error)));
    }
    Ok((process, supervisor, prepared))
}

/// The failure that made the work outside fail as well, if the child has reported one.
fn child_failure(process: Unstarted) -> Option<Error> {
    rustix::process::pidfd_send_signal(&process.pidfd, Signal::KILL).ok();
    loop {
        match process.channel.receive_up() {
            Ok(Up::Failed(error)) => return Some(error),
            Ok(Up::Closed | Up::Lost) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// What the child takes over from its maker.
struct Outside<'a> {
    stdio: &'a Stdio,
    prepared: &'a Prepared,
    door: Option<&'a Door>,
    usher: Option<Usher<'a>>,
}

fn spawn(plan: &Plan, outside: Outside<'_>, ours: Channel, theirs: Channel) -> Result<Unstarted> {
    let cgroup = plan.cgroup.unified.as_deref().map(join::open_cgroup).transpose()?;
    let joined = join::open(&plan.namespaces.join)?;
    let host = join::open_host(&plan.namespaces)?;
    // The cgroup namespace must be made after the cgroup was joined, and clocks set before a time namespace is entered;
    // the child unshares both.
    let namespaces = join::kinds(&plan.namespaces.new).without(Namespaces::CGROUP).without(Namespaces::TIME);
    // Always: the root is assembled in it, also where the container is to leave it again.
    let namespaces = namespaces | Namespaces::MOUNT;
    let Outside { stdio, prepared, door, usher } = outside;
    let ignored = kernel::exe::ignored_signals();
    let context = child::Context { plan, stdio, prepared, host: host.as_ref(), channel: &theirs, ignored, door };
    let mut ours = Some(ours);
    // Who is led into the cgroup has no namespaces yet, in which it could do nothing but wait.
    let forerunner = |entry| entry == Entry::Led || join::needs_forerunner(&plan.namespaces);
    let mut attempt = |entry: Entry| {
        let forerunner = forerunner(entry);
        let cgroup = cgroup.as_ref().filter(|_| entry == Entry::Born).map(AsFd::as_fd);
        let cloning =
            Cloning { namespaces: if forerunner { Namespaces::NONE } else { namespaces }, cgroup, sibling: false };
        cloning.spawn(|| {
            // The child's copy of the parent's end would keep the child from noticing that the parent is gone.
            drop(ours.take());
            if forerunner {
                join::forerun(&context, &joined, namespaces, entry)
            } else {
                child::run(&context, &joined, Some(entry == Entry::Born))
            }
        })
    };
    let mut entry = if cgroup.is_some() { Entry::Born } else { Entry::Itself };
    let mut first = attempt(entry);
    while let Some(next) = first.as_ref().err().and_then(|error| entry.instead(error, usher)) {
        entry = next;
        first = attempt(entry);
    }
    let first = first.during(|| "make the container's first process")?;
    let Some(ours) = ours else { return Err(Error::Vanished("no channel".to_owned())) };
    // What stays open here of the child's end would keep the parent from noticing that the child is gone.
    drop(theirs);
    if !forerunner(entry) {
        return Ok(Unstarted::new(first, ours));
    }
    if let (Entry::Led, Some(usher), Some(directory)) = (entry, usher, &plan.cgroup.unified)
        && let Err(error) = usher::lead(first.pid, directory, usher, &ours)
    {
        drop(ours);
        reap(first.pid);
        return Err(error);
    }
    let born = ours.receive_born();
    reap(first.pid);
    adopt(born?, ours)
}

/// The process that a forerunner has made.
pub(crate) fn adopt(born: Up, channel: Channel) -> Result<Unstarted> {
    match born {
        Up::Born { pid, pidfd } => match Pid::from_raw(pid) {
            Some(pid) => Ok(Unstarted::new(Child { pid, pidfd }, channel)),
            None => Err(Error::Vanished("no process id".to_owned())),
        },
        Up::Failed(error) => Err(error),
        _ => Err(Error::Vanished("its forerunner was killed".to_owned())),
    }
}
