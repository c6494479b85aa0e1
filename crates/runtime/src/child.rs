//! The child's side: what the container's first process does before it executes its program, step by step.
//!
//! The order is the matter of this file; each step says why it stands where it stands.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use kernel::error::Error as SystemCall;
use kernel::lsm::Procfs;
use kernel::namespaces::{self, Namespaces};
use kernel::signals::Blocked;
use oci::runtime::{ContainerState, LinuxNamespaceType};
use rustix::io::Errno;

use crate::channel::{Channel, Down, Up};
use crate::create::Stdio;
use crate::door::{self, Door};
use crate::error::{During, Error, Result};
use crate::mounts::Prepared;
use crate::plan::{FilterPlan, Plan, ProcessPlan};
use crate::{hooks, identity, join, program, root};

/// What the child gets from the parent's memory.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub plan: &'a Plan,
    pub stdio: &'a Stdio,
    pub prepared: &'a Prepared,
    /// The mount namespace that the container is to be in, where that is not its own.
    pub host: Option<&'a OwnedFd>,
    pub channel: &'a Channel,
    /// Signals that the maker ignores, and the program should not.
    pub ignored: u64,
    /// Where to wait for the start; at the channel when there is none.
    pub door: Option<&'a Door>,
}

/// The whole life of the child up to execve(2); returns its exit status if that is never reached.
///
/// `born_in_cgroup` says whether clone3 has put it there already; `None` when a forerunner has seen to it all.
pub(crate) fn run(context: &Context<'_>, joined: &[(Namespaces, OwnedFd)], born_in_cgroup: Option<bool>) -> i32 {
    let mut starter = None;
    match assemble(context, joined, born_in_cgroup, &mut starter) {
        Ok(never) => match never {},
        Err(error) => {
            // If the other side is gone there is nobody to tell.
            starter.as_ref().unwrap_or(context.channel).send_up(&Up::Failed(error)).ok();
            1
        }
    }
}

fn assemble(
    context: &Context<'_>,
    joined: &[(Namespaces, OwnedFd)],
    born_in_cgroup: Option<bool>,
    starter: &mut Option<Channel>,
) -> Result<Infallible> {
    let plan = context.plan;
    // Modes below are meant exactly.
    rustix::process::umask(rustix::fs::Mode::empty());
    if let Some(born_in_cgroup) = born_in_cgroup {
        join_cgroup(plan, born_in_cgroup)?;
    }
    if plan.namespaces.is_new(LinuxNamespaceType::User) {
        context.channel.wait_for(Down::Mapped)?;
    }
    // After the maps: an id without mapping owns nothing, and could not make files.
    if plan.namespaces.is_new(LinuxNamespaceType::User)
        || plan.namespaces.join.iter().any(|(kind, _)| *kind == LinuxNamespaceType::User)
    {
        become_root()?;
    }
    join::enter(joined)?;
    // After the cgroup was joined: it becomes the root that the container sees.
    if plan.namespaces.is_new(LinuxNamespaceType::Cgroup) {
        namespaces::unshare(Namespaces::CGROUP).during(|| "make a cgroup namespace")?;
    }
    if plan.namespaces.is_new(LinuxNamespaceType::Time) {
        enter_time_namespace(plan)?;
    }
    // Before the keyring, so that it is made in the container's user namespace; before anything of the container runs.
    if let Some(name) = &plan.keyring {
        join_keyring(name)?;
    }
    let built = root::assemble(plan, context.prepared, context.channel)?;
    let hooks = &plan.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        context.channel.send_up(&Up::Hooks)?;
        context.channel.wait_for(Down::Go)?;
    }
    // Before the root is pivoted, so that programs of the host are found (config.md, "createContainer Hooks").
    if !hooks.create_container.is_empty() {
        // As with runc, they begin in the container's root.
        go_to(&built.root)?;
        let state = hooks::state(plan, ContainerState::Creating, rustix::process::getpid());
        hooks::run_hooks("createContainer", &hooks.create_container, &state)?;
    }
    let root = root::enter(plan, built.root, context.host)?;
    name_host(plan)?;
    let (controller, terminal) =
        built.terminal.map_or((None, None), |pair| (Some(pair.controller), Some(pair.terminal)));
    let mut inside = Inside { root, procfs: Some(built.procfs), terminal, ignored: context.ignored };
    let held = context.door.map(|_| door::hold_signals()).transpose()?;
    let mut ready = finish_identity(&plan.process, &inside, context.stdio)?;
    // The program has it as its standard streams now.
    inside.terminal = None;
    if context.door.is_some() {
        ready.program.look_ahead(&plan.process)?;
    }
    if plan.process.filter.as_ref().is_some_and(|filter| filter.listener.is_some()) {
        // Whoever makes the container is told here if there is no supervisor, and a supervisor of the container before it
        // can be started.
        ready.confine(&plan.process, context.channel)?;
    }
    context.channel.send_up(&Up::Ready { terminal: controller })?;
    context.channel.wait_for(Down::Go)?;
    let channel = starting_channel(context, &inside, held, starter)?;
    call_start_hooks(plan, &mut ready, channel)?;
    execute(&plan.process, &inside, ready, channel)
}

/// They are a part of the container, and may be programs of its image, so they have no more rights than it.
fn call_start_hooks(plan: &Plan, ready: &mut Ready, channel: &Channel) -> Result<()> {
    let hooks = &plan.hooks.start_container;
    if hooks.is_empty() {
        return Ok(());
    }
    ready.confine(&plan.process, channel)?;
    let state = hooks::state(plan, ContainerState::Created, rustix::process::getpid());
    let hooks = hooks::with_environment(hooks, &plan.process.env, ready.home.as_deref());
    hooks::run_hooks("startContainer", &hooks, &state)
}

fn go_to(root: &OwnedFd) -> Result<()> {
    rustix::process::fchdir(root)
        .map_err(|errno| SystemCall::new("fchdir(<root>)", errno))
        .during(|| "call createContainer hooks")
}

/// First, while this process still has its rights over the host's files.
fn join_cgroup(plan: &Plan, born_in_cgroup: bool) -> Result<()> {
    identity::bind_to_no_cpu();
    match plan.namespaces.is_new(LinuxNamespaceType::User) {
        // Its maker sets the rest.
        true => join::enter_cgroup(&plan.cgroup, born_in_cgroup),
        false => join::before_namespaces(&plan.process, &plan.cgroup, born_in_cgroup),
    }
}

/// Where the one who starts the container is heard and told: the maker's channel, or what comes through the door.
fn starting_channel<'c>(
    context: &'c Context<'_>,
    inside: &Inside,
    held: Option<Blocked>,
    starter: &'c mut Option<Channel>,
) -> Result<&'c Channel> {
    let (Some(door), Some(held)) = (context.door, held) else { return Ok(context.channel) };
    let procfs = inside.procfs.as_ref().map(Procfs::directory);
    let needed: Vec<_> = [inside.root.as_fd()].into_iter().chain(procfs).collect();
    Ok(starter.insert(door::wait(door, &held, &context.plan.process, &needed)?))
}

/// A process that stands in the container's root.
pub(crate) struct Inside {
    pub root: OwnedFd,
    /// A procfs that the container has had no chance to change.
    pub procfs: Option<Procfs>,
    pub terminal: Option<OwnedFd>,
    /// Signals that the runtime ignores, and the program should not.
    pub ignored: u64,
}

/// What is settled once the identity is.
pub(crate) struct Ready {
    program: program::Program,
    /// The capability sets are still those that loading a filter needs.
    capabilities_pending: bool,
    /// Nothing is left to be given up.
    confined: bool,
    /// `HOME=…` where the plan's environment has none.
    home: Option<String>,
}

impl Ready {
    /// Gives up, once, what is left: gaining privileges, system calls, and the capabilities that a filter needed.
    fn confine(&mut self, process: &ProcessPlan, channel: &Channel) -> Result<()> {
        if std::mem::replace(&mut self.confined, true) {
            return Ok(());
        }
        if process.no_new_privileges {
            kernel::prctl::set_no_new_privileges().during(|| "give up gaining privileges")?;
        }
        if let Some(filter) = &process.filter {
            load_filter(filter, channel)?;
        }
        match self.capabilities_pending {
            true => identity::limit_capabilities(process),
            false => Ok(()),
        }
    }
}

/// Streams, working directory, limits, identity, capabilities; everything but what must be last.
pub(crate) fn finish_identity(process: &ProcessPlan, inside: &Inside, stdio: &Stdio) -> Result<Ready> {
    let user = identity::resolve(process, inside.root.as_fd())?;
    place_streams(stdio, inside, user.uid)?;
    // While this process is root: the directory may be one that the user cannot reach, which Docker allows.
    let directory = program::change_directory(inside.root.as_fd(), &process.cwd);
    identity::limit_resources(process)?;
    identity::schedule(process)?;
    // From here on another user; the capabilities that the next steps need are kept.
    identity::become_user(process, &user)?;
    if directory.is_err() {
        // Root of the container may be nobody on a network file system on which the user is somebody.
        program::change_directory(inside.root.as_fd(), &process.cwd)?;
    }
    // The filter comes last if it can, so that it has the fewest calls of ours to pass. Without no_new_privs the kernel wants
    // CAP_SYS_ADMIN for it, so the capabilities go after it then.
    let capabilities_pending = process.filter.is_some() && !process.no_new_privileges;
    if !capabilities_pending {
        identity::limit_capabilities(process)?;
    }
    let program = program::Program::prepare(process, &user)?;
    let home = user.home.filter(|_| !program::has_home(&process.env)).map(|home| format!("HOME={home}"));
    Ok(Ready { program, capabilities_pending, confined: false, home })
}

/// The last steps.
pub(crate) fn execute(
    process: &ProcessPlan,
    inside: &Inside,
    mut ready: Ready,
    channel: &Channel,
) -> Result<Infallible> {
    if let (Some(procfs), true) =
        (&inside.procfs, process.apparmor_profile.is_some() || process.selinux_label.is_some())
    {
        // As late as possible: the label is lost by the next execve of this thread, whatever it executes.
        identity::label(process, procfs)?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.umask.unwrap_or(0o022)));
    kernel::exe::reset_signals(inside.ignored);
    // CVE-2024-21626, CVE-2016-9962: nothing of ours is open in the program.
    kernel::descriptors::close_on_exec_from(3 + process.preserve_descriptors)
        .during(|| "mark descriptors close-on-exec")?;
    ready.confine(process, channel)?;
    Err(ready.program.execute(process))
}

/// The supervisor's descriptor goes to the parent, which can reach the supervisor's socket. A filter that asks the
/// supervisor about sendmsg(2) itself would wait for ever here, and is refused by nobody but its author.
fn load_filter(filter: &FilterPlan, channel: &Channel) -> Result<()> {
    match identity::load_filter(filter)? {
        Some(listener) => channel.send_up(&Up::Listener { listener }),
        None => Ok(()),
    }
}

pub(crate) fn become_root() -> Result<()> {
    // Groups of the host stay behind where that is allowed; it is not where setgroups was denied.
    match kernel::prctl::set_identity(0, 0, Some(&[])) {
        Err(error) if error.errno() == Errno::PERM => kernel::prctl::set_identity(0, 0, None),
        other => other,
    }
    .during(|| "become root of the user namespace")
}

/// Clocks can be set until the first process enters (time_namespaces(7)), so it is made, set, then entered.
fn enter_time_namespace(plan: &Plan) -> Result<()> {
    let step = || "make a time namespace";
    namespaces::unshare(Namespaces::TIME).during(step)?;
    let procfs = Procfs::of_the_host().during(step)?;
    let lines: String = plan
        .namespaces
        .time_offsets
        .iter()
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs))
        .collect();
    if !lines.is_empty() {
        // Having become the root of a user namespace, this process's files in procfs belong to nobody in it for as long as
        // it may not be traced; and it is alone here.
        let confined = plan.namespaces.is_new(LinuxNamespaceType::User);
        if confined {
            kernel::prctl::set_dumpable(true).during(step)?;
        }
        procfs.write("self/timens_offsets", &lines).during(step)?;
        if confined {
            kernel::prctl::set_dumpable(false).during(step)?;
        }
    }
    // By the magic link, which is not followed beneath a directory; this is the host's procfs, verified above.
    let path = "/proc/self/ns/time_for_children";
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map_err(|errno| SystemCall::new(format!("open({path:?}, O_RDONLY)"), errno))
        .during(step)?;
    namespaces::join(fd.as_fd(), Namespaces::TIME).during(step)
}

pub(crate) fn join_keyring(name: &str) -> Result<()> {
    let name = std::ffi::CString::new(name).map_err(|_| Error::Refused("the id has a zero byte".to_owned()))?;
    kernel::keyring::join_session(&name).during(|| "make a session keyring")
}

fn name_host(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|errno| SystemCall::new(format!("sethostname({name:?})"), errno))
            .during(|| "set the host name")?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(|errno| SystemCall::new(format!("setdomainname({name:?})"), errno))
            .during(|| "set the domain name")?;
    }
    Ok(())
}

/// Puts the standard streams where a program looks for them, and lets its user open them again by `/dev/stdout`.
fn place_streams(stdio: &Stdio, inside: &Inside, uid: u32) -> Result<()> {
    let step = || "set up the standard streams";
    match (stdio, &inside.terminal) {
        (_, Some(terminal)) => {
            kernel::terminal::control(terminal.as_fd()).during(step)?;
            for number in 0..3 {
                kernel::descriptors::place(terminal.as_fd(), number).during(step)?;
            }
        }
        (Stdio::Streams { stdin, stdout, stderr }, None) => {
            new_session()?;
            place_three([stdin, stdout, stderr]).during(step)?;
        }
        _ => new_session()?,
    }
    if uid != 0 {
        give_streams_to(uid);
    }
    Ok(())
}

/// A stream may itself have one of the numbers 0 to 2, so they are moved out of the way first.
fn place_three(streams: [&OwnedFd; 3]) -> kernel::Result<()> {
    let mut aside = Vec::with_capacity(3);
    for stream in streams {
        aside.push(if stream.as_raw_fd() < 3 {
            let moved = rustix::io::fcntl_dupfd_cloexec(stream, 3);
            Some(moved.map_err(|errno| SystemCall::new("fcntl(<stream>, F_DUPFD_CLOEXEC, 3)", errno))?)
        } else {
            None
        });
    }
    for (number, (stream, moved)) in (0..).zip(streams.iter().zip(&aside)) {
        kernel::descriptors::place(moved.as_ref().unwrap_or(stream).as_fd(), number)?;
    }
    Ok(())
}

/// Signals that the caller's terminal sends to its session are not the container's.
fn new_session() -> Result<()> {
    match rustix::process::setsid() {
        // It leads a process group already, as one that was started by hand.
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(SystemCall::new("setsid()", errno)).during(|| "make a session"),
    }
}

/// As root's, a pipe could not be opened again by the user. `/dev/null` belongs to everybody and is left alone; a read-only
/// or foreign file system refuses, which is no reason not to start.
fn give_streams_to(uid: u32) {
    let null = rustix::fs::makedev(1, 3);
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if rustix::fs::fstat(stream).is_ok_and(|status| status.st_rdev != null && status.st_uid != uid) {
            rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None).ok();
        }
    }
}
