//! Runs a command under ptrace(2), counts its system calls, and hits one of them.
//!
//! Seized rather than attached, so that nothing sees a signal (PTRACE_SEIZE, Linux 3.4). What dhow executes that is not dhow,
//! the container's program above all, is let go. Everything happens in a thread of its own: when that ends, the kernel lets go of
//! whatever it still traces (ptrace(2), "PTRACE_DETACH").

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::faults::{Fault, Place, Point, Role, Seen};

/// How long a command may take; longer is a hang.
const LIMIT: Duration = Duration::from_secs(60);
/// No call for so long after the command line's end: what is left of dhow waits for something.
const QUIET: Duration = Duration::from_millis(25);

/// What happened.
#[derive(Debug, Default)]
pub struct Traced {
    /// Calls in their order, up to the point.
    pub seen: Vec<Seen>,
    /// Whether the point was reached.
    pub hit: bool,
    /// How the command line ended: its exit status, or 128 and its signal.
    pub status: i32,
    /// It did not end in time and was killed.
    pub hung: bool,
    /// What it printed to its errors.
    pub errors: String,
}

/// Runs a command, with monitors that run already traced beside it, and hits a point if there is one. With `ends`, waits until
/// all that is traced has ended.
pub fn trace(command: &Command, beside: &[i32], ends: bool, point: Option<Point>, scratch: &Path) -> Result<Traced> {
    thread::scope(|scope| {
        let work = scope.spawn(|| Tracer::run(command, beside, ends, point, scratch));
        work.join().unwrap_or_else(|_| bail!("the tracer panicked"))
    })
}

struct Tracee {
    role: Option<Role>,
    /// The error that the call returns when it ends.
    failing: Option<i32>,
}

struct Tracer {
    client: Pid,
    tracees: HashMap<Pid, Tracee>,
    /// Killed by us. Each holds locks and files until its end, which is waited for.
    killed: BTreeSet<Pid>,
    counts: BTreeMap<(Role, i64), u32>,
    point: Option<Point>,
    outcome: Traced,
    ended: Option<Instant>,
    /// For the watchdog.
    alive: Arc<Mutex<BTreeSet<i32>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options() -> Options {
    Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
}

impl Tracer {
    fn run(command: &Command, beside: &[i32], ends: bool, point: Option<Point>, scratch: &Path) -> Result<Traced> {
        let errors = scratch.join("errors");
        let client = stopped(command, &errors)?;
        let mut tracer = Tracer {
            client,
            tracees: HashMap::new(),
            killed: BTreeSet::new(),
            counts: BTreeMap::new(),
            point,
            outcome: Traced::default(),
            ended: None,
            alive: Arc::default(),
        };
        let (done, watched) = mpsc::channel::<()>();
        let alive = Arc::clone(&tracer.alive);
        let dog = thread::spawn(move || {
            let late = watched.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                // One that has ended is what is wanted.
                lock(&alive).iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap_or_default());
            }
            late
        });
        let traced = tracer.all(beside, ends);
        drop(done);
        tracer.outcome.hung = dog.join().unwrap_or(true);
        traced?;
        let said = fs::read(&errors).with_context(|| format!("read {}", errors.display()))?;
        tracer.outcome.errors = String::from_utf8_lossy(&said).into_owned();
        Ok(tracer.outcome)
    }

    fn all(&mut self, beside: &[i32], ends: bool) -> Result<()> {
        for &monitor in beside {
            let pid = Pid::from_raw(monitor);
            ptrace::seize(pid, options()).with_context(|| format!("trace process {pid}"))?;
            self.add(pid, Some(Role::Monitor));
            ptrace::interrupt(pid)?;
        }
        ptrace::seize(self.client, options()).context("trace the command")?;
        self.add(self.client, None);
        kill(self.client, Signal::SIGCONT)?;
        let mut last = Instant::now();
        loop {
            let mut flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            if self.ended.is_some() {
                flags |= WaitPidFlag::WNOHANG;
            }
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => {
                    let dying = self.killed.iter().any(|pid| self.tracees.contains_key(pid));
                    let patience = if dying || ends && !self.outcome.hit { LIMIT } else { QUIET };
                    if last.elapsed() > patience {
                        return Ok(());
                    }
                    thread::sleep(Duration::from_micros(200));
                    continue;
                }
                Ok(status) => self.event(status)?,
                Err(Errno::ECHILD) => return Ok(()),
                // A real-time signal, which the crate has no name for; the next look finds the process again.
                Err(Errno::EINTR | Errno::EINVAL) => {}
                Err(errno) => bail!("waitpid: {errno}"),
            }
            last = Instant::now();
            if self.ended.is_some() && self.tracees.is_empty() {
                return Ok(());
            }
        }
    }

    fn add(&mut self, pid: Pid, role: Option<Role>) {
        lock(&self.alive).insert(pid.as_raw());
        self.tracees.insert(pid, Tracee { role, failing: None });
    }

    fn gone(&mut self, pid: Pid, status: i32) {
        lock(&self.alive).remove(&pid.as_raw());
        self.tracees.remove(&pid);
        if pid == self.client {
            self.ended = Some(Instant::now());
            self.outcome.status = status;
        }
    }

    fn event(&mut self, status: WaitStatus) -> Result<()> {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, 128 + signal as i32),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            WaitStatus::PtraceEvent(pid, _, event) => {
                if !self.tracees.contains_key(&pid) {
                    let role = self.role_of_new(pid);
                    self.add(pid, role);
                }
                if event == libc::PTRACE_EVENT_EXEC && !self.executed(pid) {
                    self.release(pid);
                } else {
                    self.resume(pid, None);
                }
            }
            // One that was killed in its stop cannot be asked any more; its end is reported next.
            WaitStatus::PtraceSyscall(pid) if self.call(pid).is_ok() => self.resume(pid, None),
            _ => {}
        }
        Ok(())
    }

    /// The role of a process by its parent, which is known since it had to make it.
    fn role_of_new(&self, pid: Pid) -> Option<Role> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<i32>().ok().map(Pid::from_raw)
        };
        let group = field("Tgid:")?;
        if group != pid {
            return self.tracees.get(&group)?.role;
        }
        let parent = self.tracees.get(&field("PPid:")?)?.role?;
        Some(if parent == Role::Client { Role::Client } else { Role::Child })
    }

    /// Sees what a process has become. False if it is none of ours any more.
    fn executed(&mut self, pid: Pid) -> bool {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = first.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(tracee) = self.tracees.get_mut(&pid) else { return false };
        let role = match name {
            b"dhow-monitor" => Role::Monitor,
            name if name.starts_with(b"dhow") => tracee.role.unwrap_or(Role::Client),
            _ => return false,
        };
        tracee.role = Some(role);
        true
    }

    /// Lets a process go on: until its next call while calls are counted, else for good.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        let Some(tracee) = self.tracees.get(&pid).filter(|_| !self.killed.contains(&pid)) else { return };
        let done = self.outcome.hit && tracee.failing.is_none();
        // Each fails only when the process has been killed; its end is reported next.
        let resumed = match tracee.role {
            Some(_) if done && pid != self.client => {
                lock(&self.alive).remove(&pid.as_raw());
                self.tracees.remove(&pid);
                ptrace::detach(pid, signal)
            }
            Some(_) if done => ptrace::cont(pid, signal),
            Some(_) => ptrace::syscall(pid, signal),
            None => ptrace::cont(pid, signal),
        };
        resumed.unwrap_or_default();
    }

    fn release(&mut self, pid: Pid) {
        lock(&self.alive).remove(&pid.as_raw());
        self.tracees.remove(&pid);
        ptrace::detach(pid, None).unwrap_or_default();
    }

    /// The beginning or end of a call.
    fn call(&mut self, pid: Pid) -> Result<()> {
        let Some(Tracee { role: Some(role), failing }) = self.tracees.get_mut(&pid) else { return Ok(()) };
        let role = *role;
        let mut registers = ptrace::getregs(pid)?;
        if ptrace::syscall_info(pid)?.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            if let Some(errno) = failing.take() {
                registers.rax = i64::from(-errno).cast_unsigned();
                ptrace::setregs(pid, registers)?;
            }
            return Ok(());
        }
        if self.outcome.hit {
            return Ok(());
        }
        let call = registers.orig_rax.cast_signed();
        let count = self.counts.entry((role, call)).or_default();
        let place = Place { role, call, nth: *count };
        *count += 1;
        let flags = match call {
            libc::SYS_open => registers.rsi,
            libc::SYS_openat => registers.rdx,
            _ => 0,
        };
        let creates = flags & libc::O_CREAT.cast_unsigned() as u64 != 0;
        self.outcome.seen.push(Seen { place, creates });
        let Some(point) = self.point.filter(|point| point.place == place) else { return Ok(()) };
        self.outcome.hit = true;
        match point.fault {
            Fault::Kill => {
                self.killed.insert(pid);
                kill(pid, Signal::SIGKILL)?;
            }
            Fault::KillAll => {
                let all = self.tracees.iter().filter(|(_, tracee)| tracee.role != Some(Role::Child));
                self.killed.extend(all.map(|(pid, _)| *pid));
                self.killed.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap_or_default());
            }
            Fault::Fail(errno) => {
                registers.orig_rax = u64::MAX;
                ptrace::setregs(pid, registers)?;
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    tracee.failing = Some(errno);
                }
            }
        }
        Ok(())
    }
}

/// Starts the command and stops it before it is executed.
fn stopped(command: &Command, errors: &Path) -> Result<Pid> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(errors)?);
    let child = shell.spawn().context("start a shell")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    match waitpid(pid, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(..) => Ok(pid),
        other => bail!("the shell before the command did not stop: {other:?}"),
    }
}
