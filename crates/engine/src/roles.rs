//! What this program is besides a command line: the monitor of a container, the init in one, the built-in image.
//!
//! The role stands in `argv[0]`, so it is known before a flag is parsed or a thread exists.

use crate::containers::record::Run;
use crate::containers::table;
use crate::engine::{Config, Engine};
use crate::error::{Context, Result};
use monitor::client::Connection;
use monitor::{Exit, Monitor, MonitorPlan};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::{Mutex, OnceLock};

pub(crate) const MONITOR: &str = "dhow-monitor";
const HEALER: &str = "dhow-healer";
pub(crate) const HOLDER: &str = "dhow-network";

/// Runs the role that `argv[0]` names; `None` for the command line.
///
/// Must be the first call of `main`: a monitor clones processes and must have one thread.
pub fn dispatch() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let base = std::path::Path::new(&name).file_name().and_then(OsStr::to_str)?;
    match base {
        HEALER => Some(healer_main()),
        HOLDER => Some(crate::networks::holder::main()),
        MONITOR => Some(monitor_main()),
        "dhow-init" => Some(runtime::init::main()),
        "hello" => Some(crate::hello::main()),
        _ => None,
    }
}

/// Starts a monitor: the plan goes over the control socket, the container's lock by inheritance. The number is its process.
pub(crate) fn spawn_monitor(
    engine: &Engine,
    lock: &OwnedFd,
    plan: &MonitorPlan,
    sockets: &[OwnedFd],
) -> Result<(Connection, u32)> {
    let failed = || "cannot start the container's monitor".to_owned();
    // What the container's processes see as /proc/PID/exe before they execute must not lead to a writable file of the
    // host (CVE-2019-5736).
    let program = kernel::exe::sealed_self().internal(failed)?;
    let directories = engine.directories();
    let mut command = Command::new(program.path());
    command.arg0(MONITOR).arg(&directories.data).arg(&directories.run).arg(engine.program()?).env_clear();
    // It lives for days and does next to nothing.
    let (variable, value) = kernel::heap::WITHOUT_CACHES;
    command.env(variable, value);
    if let Some(Some(soft)) = DESCRIPTORS.get() {
        command.arg(soft.to_string());
    }
    // An ordinary user's systemd is asked for a cgroup there.
    if engine.host()?.user_namespace
        && let Some(value) = std::env::var_os("XDG_RUNTIME_DIR")
    {
        command.env("XDG_RUNTIME_DIR", value);
    }
    let (control, child) = monitor::handover::spawn(command, lock.as_fd(), plan).internal(failed)?;
    let process = child.id();
    leave(child);
    control.send_sockets(sockets).internal(failed)?;
    Ok((control, process))
}

/// Kills a monitor that this process has started, and waits for its end: nobody knows how far it is, and what it holds is
/// needed. Without effect on one that has been reaped.
pub(crate) fn kill(process: u32) {
    let found = STARTED.lock().ok().and_then(|mut started| {
        let position = started.iter().position(|child| child.id() == process)?;
        Some(started.swap_remove(position))
    });
    if let Some(mut child) = found {
        // It fails only for one that has ended.
        child.kill().unwrap_or_default();
        drop(child.wait());
    }
}

/// Keeps a process that goes on by itself, to be reaped.
pub(crate) fn leave(child: Child) {
    if let Ok(mut started) = STARTED.lock() {
        started.push(child);
    }
}

/// The soft limit of descriptors as it was before this process raised its own.
static DESCRIPTORS: OnceLock<Option<u64>> = OnceLock::new();

/// Descriptors that a server of many clients has at most.
const MOST_DESCRIPTORS: u64 = 1 << 16;

/// Lets this process have many descriptors: as many as its hard limit allows, up to 65,536. Containers that it starts get
/// the limit that was there before, as if it had not been raised.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok() {
        DESCRIPTORS.get_or_init(|| current);
    }
}

/// Monitors that this process has started and not yet reaped. A command line leaves them to init.
static STARTED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps the monitors that have ended. A process that lives longer than its containers calls this on SIGCHLD, so that no
/// ended monitor stays in the table of processes.
pub fn reap() {
    if let Ok(mut started) = STARTED.lock() {
        // One that cannot be asked is not ours any more.
        started.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

fn monitor_main() -> ExitCode {
    match monitor_role() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens: the starter has been told through the control socket what it can use.
        Err(_) => ExitCode::FAILURE,
    }
}

/// A monitor's whole life. What only its beginning and its end need is other functions': this one's frame stays, for each container.
fn monitor_role() -> Result<()> {
    let mut role = begin()?;
    let open = || role.ready.take().unwrap_or_else(|| Engine::open(role.config.clone()));
    let Some(ended) = crate::restart::keep(&mut role.monitor, &role.config.data_root, &open) else {
        // The starter knows why and undoes what it made; the lock falls with this process.
        return Ok(());
    };
    conclude(role.monitor, *ended)
}

/// What a monitor has when it begins.
struct MonitorRole {
    monitor: Monitor,
    config: Config,
    ready: Ready,
}

/// The engine for a container's end, opened when that has been asked for: the kernel needs as long to take the container apart.
type Ready = Rc<RefCell<Option<Result<Engine>>>>;

/// Writes down what happens, and has the engine ready for the end.
fn observer(config: Config, id: String, ready: Ready) -> monitor::Observer {
    let mut tell = crate::events::observer(config.data_root.clone(), id.clone());
    Box::new(move |occurrence, caller| {
        tell(occurrence, caller);
        match occurrence {
            monitor::Occurrence::Ending => {
                let engine = Engine::open(config.clone());
                if let Ok(engine) = &engine {
                    // What it costs is to open the database. Whether that worked is asked at the end.
                    drop(engine.database());
                }
                ready.replace(Some(engine));
            }
            // One that leaves its signal alone may run for years.
            monitor::Occurrence::Resting => drop(ready.take()),
            _ => {}
        }
    })
}

#[inline(never)]
fn begin() -> Result<Box<MonitorRole>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(data), Some(run), Some(program)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err(crate::Error::new(crate::Kind::InvalidArgument, "the monitor is started by dhow, not by hand"));
    };
    if let Some(soft) = arguments.next().and_then(|text| text.to_str()?.parse().ok()) {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // It only goes down, which is always allowed.
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum }).ok();
    }
    let failed = || "cannot monitor the container".to_owned();
    // It was executed by a descriptor's number, which would be its name in ps(1).
    rustix::thread::set_name(c"dhow-monitor").internal(failed)?;
    let [control, lock] = monitor::handover::take_standard_streams().internal(failed)?;
    monitor::detach_from_session().internal(failed)?;
    let plan = monitor::handover::receive_plan(control.as_fd()).internal(failed)?;
    let id = plan.id.clone();
    let (held_ports, guard, in_user_network) = match &plan.launch {
        monitor::Launch::Container(container) => {
            (container.held_ports, container.guard.clone(), container.user_network)
        }
        monitor::Launch::Command(_) => (0, None, false),
    };
    if held_ports > 0 {
        crate::networks::expect_sockets(held_ports);
    }
    let further = if in_user_network { 2 } else { 0 };
    let mut sockets = monitor::receive_sockets(control.as_fd(), held_ports + further).internal(failed)?;
    let user_network = sockets.split_off(held_ports);
    let mut monitor = Monitor::new(plan, control, lock).internal(failed)?;
    // The log is open by now: a server that it goes to is reached from the host.
    if let Some(namespace) = user_network.first() {
        kernel::namespaces::join(namespace.as_fd(), kernel::namespaces::Namespaces::NETWORK).internal(failed)?;
    }
    monitor.hold_ports(sockets);
    if let Some(guard) = guard {
        monitor.watch_rules(&guard, healer(&data, &run, &program));
    }
    let config = Config { data_root: data, run_root: run, program: Some(program) };
    let ready = Ready::default();
    monitor.observe(observer(config.clone(), id, Rc::clone(&ready)));
    Ok(Box::new(MonitorRole { monitor, config, ready }))
}

#[inline(never)]
fn conclude(monitor: Monitor, ended: crate::restart::Ended) -> Result<()> {
    let crate::restart::Ended { exit, engine } = ended;
    let (id, started_at) = (monitor.plan().id.clone(), monitor.started_at().to_owned());
    monitor.watch_no_longer();
    let cleaned = match monitor.left_cgroup() {
        false => engine.and_then(|engine| engine.end_of_run(&id, &exit, started_at, monitor.restarts())),
        // As if this process had been killed: the next command's sweep tries again.
        true => Ok(()),
    };
    monitor.finish(&exit);
    cleaned
}

/// How a monitor has the packet filter put right: by a process that opens the database, and may wait for it.
fn healer(data: &Path, run: &Path, program: &Path) -> monitor::Healer {
    let arguments = [data, run, program].map(Path::to_owned);
    Box::new(move || {
        // Our own program, whatever has become of its file.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(HEALER).args(&arguments).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    })
}

fn healer_main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(data_root), Some(run_root), program) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    // By this name the kernel's report of a change says whose it is.
    rustix::thread::set_name(c"dhow-healer").ok();
    let healed = Engine::open(Config { data_root, run_root, program }).and_then(|engine| engine.heal_networks());
    if healed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Engine {
    /// Records the end of a run, gives its address back, and removes the container if that was asked for.
    ///
    /// The caller holds the container's lock; the directory of the run, and the lock in it, are gone afterwards.
    pub(crate) fn end_of_run(&self, id: &str, exit: &Exit, started_at: String, restart_count: u32) -> Result<()> {
        self.leave_networks(id)?;
        let goes = table::goes_after_run(self.database()?.read(), id)?;
        if goes != Some(false) {
            return self.remove_held(id);
        }
        let run = Run {
            pid: 0,
            started_at,
            finished_at: exit.finished_at.clone(),
            exit_code: exit.exit_code,
            oom_killed: exit.oom_killed,
            error: exit.error.clone().unwrap_or_default(),
            restart_count,
            stopped_by_hand: exit.requested && !exit.shutdown,
        };
        table::set_run(&mut *self.database()?, id, &run)?;
        crate::containers::lock::release(self.directories(), id)
    }
}
