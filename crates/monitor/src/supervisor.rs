//! The monitor itself: one thread, one `poll`, until the container has ended.
//!
//! ```text
//! new ──► run_once ──► [idle ──► run_once]* ──► finish
//!         launch: create ─ state.json ─ start ─ tell control
//!         loop:   poll ─ output to log and clients ─ input ─ requests ─ reap ─ deadlines
//!         end:    kill what is left ─ drain ─ exit record               finish: unlock, tell everybody
//! ```
//!
//! Killed at any point: the kernel releases the lock; `state.json` has named the container's first process since before it
//! could execute anything, and the exit record is missing, by which the engine sees what happened.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions};

use crate::confinement::Confinement;
use crate::error::{Call, Error, Failure, Kind};
use crate::health::{HealthStatus, Watch};
use crate::launch;
use crate::log_file::{LogFile, Stream};
use crate::networks::Networks;
use crate::peer::{Peer, Role};
use crate::plan::MonitorPlan;
use crate::record::{self, Exit, SessionState, State};
use crate::run_directory::RunDirectory;
use crate::session::{self, Session, Stdio, Terminal};
use crate::turn::remaining;
use crate::wire::{Frame, Reply, Size};

/// Key of the container's own session.
pub(crate) const CONTAINER: u32 = 0;
/// Bytes read from a pipe at once: what a pipe holds.
pub(crate) const READ: usize = 64 << 10;
const KILL: i32 = Signal::KILL.as_raw();
/// Signals that would end or stop this process. SIGTERM and SIGINT are obeyed in our own way, the others ignored: among
/// them SIGXFSZ, which the limit of a shell may raise on writing the log, and which then becomes an error of that write.
const HELD_BACK: [Signal; 15] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::XCPU,
    Signal::XFSZ,
    Signal::VTALARM,
    Signal::PROF,
    Signal::POWER,
];
/// How many ended exec sessions are remembered.
const REMEMBERED: usize = 16;

/// What a caller may want to write down when it happens. The end of a run is not among them: [`Monitor::run_once`] returns.
#[derive(Debug)]
pub enum Occurrence<'a> {
    /// The container runs; whoever waits for that is told after this.
    Started,
    /// A process runs in the container beside the first.
    ExecStarted {
        /// Its session.
        id: &'a str,
        /// Program and arguments.
        command: &'a [String],
    },
    /// It has ended.
    ExecEnded {
        /// Its session.
        id: &'a str,
        /// How.
        exit: &'a Exit,
    },
    /// The container's first process was sent a signal.
    Signalled(i32),
    /// That signal was to end it. While the kernel takes it apart, there is time for what the end will need.
    Ending,
    /// It has not ended soon after [`Occurrence::Ending`], or it has never been asked to: what is kept ready can be given back.
    Resting,
    /// All processes are frozen.
    Paused,
    /// They go on.
    Unpaused,
    /// The size of the container's terminal has changed.
    Resized(Size),
    /// The kernel has killed a process because the memory limit was reached.
    OutOfMemory,
    /// The health checks came to another result.
    Health(HealthStatus),
}

/// Is told of occurrences, with the plan's [`MonitorPlan::caller`].
pub type Observer = Box<dyn FnMut(&Occurrence<'_>, &serde_json::Value)>;

/// Why [`Monitor::idle`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The time is over.
    Elapsed,
    /// Somebody asked to stop the container, so it should not be started again.
    Stop,
    /// Somebody asked to start it at once.
    Again,
}

/// A monitor that holds its run directory.
pub struct Monitor {
    pub(crate) plan: MonitorPlan,
    pub(crate) state: State,
    pub(crate) sessions: BTreeMap<u32, Session>,
    pub(crate) confinement: Confinement,
    pub(crate) requested: bool,
    pub(crate) stop_deadline: Option<Instant>,
    pub(crate) log: LogFile,
    pub(crate) networks: Networks,
    pub(crate) peers: Vec<Peer>,
    pub(crate) next_session: u32,
    pub(crate) health: Option<Watch>,
    /// After this run somebody wants another.
    pub(crate) again: bool,
    /// The stop was a signal to this process.
    pub(crate) shutdown: bool,
    cgroup_stays: bool,
    observer: Option<Observer>,
    /// When unused memory is given back; none when that has been done.
    pub(crate) rest: Option<Instant>,
    pub(crate) directory: RunDirectory,
    control: Option<OwnedFd>,
    pub(crate) signals: kernel::signals::Blocked,
    /// Outputs of exec sessions that have ended, still held open by what they left behind: read so that nobody gets stuck or
    /// SIGPIPE, and thrown away.
    pub(crate) orphans: Vec<Option<OwnedFd>>,
    pub(crate) buffer: Vec<u8>,
}

/// Leaves the session, the terminal and the directory of the command that started this process. For the role's `main`,
/// before [`Monitor::new`].
///
/// # Errors
/// A failing system call; none is known to fail.
pub fn detach_from_session() -> Result<(), Error> {
    // EPERM: already the leader of a session of its own, which is what we want.
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => Err(error).call(|| "setsid()".to_owned())?,
    }
    kernel::signals::unblock_all().call(|| "rt_sigprocmask(SIG_SETMASK, [])".to_owned())?;
    rustix::process::chdir("/").call(|| "chdir(\"/\")".to_owned())
}

/// The whole life of a monitor whose container runs once. `cleanup` is called when it has ended (or never started), while
/// this monitor still holds the lock and its clients still wait.
///
/// # Errors
/// When the container could not be started or the monitor not hold its directory; the control connection has been told.
pub fn supervise(
    plan: MonitorPlan,
    control: OwnedFd,
    lock: OwnedFd,
    cleanup: impl FnOnce(&Result<Exit, Error>),
) -> Result<Exit, Error> {
    let mut monitor = match Monitor::new(plan, control, lock) {
        Ok(monitor) => monitor,
        Err(error) => {
            let result = Err(error);
            cleanup(&result);
            return result;
        }
    };
    let result = monitor.run_once();
    cleanup(&result);
    if let Ok(exit) = &result {
        monitor.finish(exit);
    }
    result
}

impl Monitor {
    /// Takes the lock, opens socket and log. Signals that would end this process are held back from here on: SIGTERM and
    /// SIGINT stop the container instead, the others are ignored.
    ///
    /// # Errors
    /// [`Error::Locked`], or a failing system call; `control` has been told.
    pub fn new(plan: MonitorPlan, control: OwnedFd, lock: OwnedFd) -> Result<Self, Error> {
        match Self::prepare(plan, lock) {
            Ok(mut monitor) => {
                monitor.control = Some(control);
                Ok(monitor)
            }
            Err(error) => {
                Peer::new(control).reply(&Reply::Failed(error.to_failure()));
                Err(error)
            }
        }
    }

    fn prepare(plan: MonitorPlan, lock: OwnedFd) -> Result<Self, Error> {
        let directory = RunDirectory::hold(&plan.run_directory, lock)?;
        let signals = kernel::signals::Blocked::new(&HELD_BACK.map(Signal::as_raw))
            .call(|| "signalfd4(-1, [HUP INT QUIT …])".to_owned())?;
        let state = State {
            id: plan.id.clone(),
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: 0,
            pid_start_time: 0,
            network_namespace: 0,
            cgroup: None,
            started_at: String::new(),
            paused: false,
            restarts: plan.restarts,
            restarting: false,
            last_exit: None,
            health: None,
            sessions: Vec::new(),
        };
        let log = LogFile::open(&plan.log)?;
        Ok(Self {
            plan,
            state,
            sessions: BTreeMap::new(),
            confinement: Confinement::default(),
            requested: false,
            stop_deadline: None,
            log,
            networks: Networks::default(),
            peers: Vec::new(),
            next_session: CONTAINER + 1,
            health: None,
            again: false,
            shutdown: false,
            cgroup_stays: false,
            observer: None,
            rest: None,
            directory,
            control: None,
            signals,
            orphans: Vec::new(),
            // Not filled with zeros: pages that no output has touched cost nothing.
            buffer: Vec::with_capacity(READ),
        })
    }

    /// The plan, for a caller that changes it between two runs.
    pub fn plan_mut(&mut self) -> &mut MonitorPlan {
        &mut self.plan
    }

    /// Starts the container and watches it until it has ended. May be called again for a restart; the first call also
    /// answers the control connection.
    ///
    /// # Errors
    /// When the container could not be started. The exit record has been written and the control connection been told.
    pub fn run_once(&mut self) -> Result<Exit, Error> {
        (self.requested, self.again, self.shutdown, self.stop_deadline) = (false, false, false, None);
        if self.state.last_exit.is_some() {
            // It says how the run before ended, and must not be taken for the end of this one.
            drop(std::fs::remove_file(&self.plan.exit_record));
        }
        if let Err(error) = self.launch() {
            return Err(self.never_started(error));
        }
        self.rest_later();
        while !self.everything_is_over() {
            if self.turn(None).is_err() {
                // Polling fails for want of memory only. The container runs, and must be watched on.
                std::thread::sleep(Duration::from_millis(20));
            }
            // Here, where the frames of everything that a turn may do are gone.
            self.rest_if_due();
        }
        Ok(self.conclude())
    }

    /// After [`Self::announce`]: serves requests for at most `time` while no container runs: the pause before a restart.
    ///
    /// # Errors
    /// When polling fails.
    pub fn idle(&mut self, time: Duration) -> Result<Wake, Error> {
        let end = Instant::now() + time;
        (self.requested, self.again) = (false, false);
        self.state.restarting = true;
        // For people; a request is answered rightly in any case.
        drop(self.write_state());
        let result = loop {
            if Instant::now() >= end {
                self.state.restarts += 1;
                break Ok(Wake::Elapsed);
            }
            if let Err(error) = self.turn(Some(end)) {
                break Err(error);
            }
            self.rest_if_due();
            if self.again {
                self.state.restarts = 0;
                break Ok(Wake::Again);
            }
            if self.requested {
                break Ok(Wake::Stop);
            }
        };
        self.state.restarting = false;
        result
    }

    /// Whether somebody asked for another run after the one that has ended. Then it counts as the first.
    pub fn wants_again(&mut self) -> bool {
        if self.again {
            self.state.restarts = 0;
        }
        self.again
    }

    /// Whether the end of the last run, or of the pause after it, was asked for by a signal to this process.
    #[must_use]
    pub fn was_shut_down(&self) -> bool {
        self.shutdown
    }

    /// Whether the cgroup of the last run could not be removed. The directory of the run then has to stay, by which somebody
    /// else finds it.
    #[must_use]
    pub fn left_cgroup(&self) -> bool {
        self.cgroup_stays
    }

    /// How often the container has been started again.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.state.restarts
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &MonitorPlan {
        &self.plan
    }

    /// Tells `observer` of everything that happens from now on.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    pub(crate) fn notify(&mut self, occurrence: &Occurrence<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(occurrence, &self.plan.caller);
        }
    }

    /// When the container was last started, RFC 3339 in UTC with nanoseconds; empty when it never was.
    #[must_use]
    pub fn started_at(&self) -> &str {
        &self.state.started_at
    }

    /// Tells all who are attached or wait that the container has ended. For a caller that will run it again; otherwise
    /// [`Self::finish`] does it.
    pub fn announce(&mut self, exit: &Exit) {
        tell_end(&mut self.peers, CONTAINER, exit);
    }

    /// Gives up lock, socket and state, announces the end, and lets clients take what is kept for them (each as long as its
    /// patience). To be called after everything has been cleaned: who hears of the end may start the container anew.
    pub fn finish(mut self, exit: &Exit) {
        // Whoever takes the lock may want the same ports.
        drop(std::mem::take(&mut self.networks));
        let Self { directory, mut peers, .. } = self;
        directory.clear();
        drop(directory);
        tell_end(&mut peers, CONTAINER, exit);
        for peer in peers.iter_mut().filter(|peer| matches!(peer.role, Role::Restarting)) {
            let reason = exit.error.clone().unwrap_or_else(|| "the container was not started again".to_owned());
            peer.reply(&Reply::Failed(Failure { kind: Kind::Failed, chain: vec![reason] }));
        }
        loop {
            let now = Instant::now();
            peers.retain(|peer| !peer.gone && peer.kept() > 0 && peer.deadline().is_none_or(|end| now < end));
            if peers.is_empty() {
                return;
            }
            let timeout = peers.iter().filter_map(Peer::deadline).min().map(remaining);
            let mut fds: Vec<_> =
                peers.iter().map(|peer| PollFd::from_borrowed_fd(peer.fd(), PollFlags::OUT)).collect();
            if rustix::event::poll(&mut fds, timeout.as_ref()).is_err_and(|error| error != Errno::INTR) {
                return;
            }
            peers.iter_mut().for_each(Peer::flush);
        }
    }

    #[inline(never)]
    fn launch(&mut self) -> Result<(), Error> {
        let (stdio, ends) = if self.plan.terminal {
            (Stdio::Terminal, None)
        } else {
            let (stdio, ends) = session::pipes(self.plan.stdin_open, true, self.plan.pipe_label())?;
            (stdio, Some(ends))
        };
        let mut created = launch::create(&mut self.plan, stdio, &mut self.confinement, &mut self.networks)?;
        let terminal = created.terminal.take().map(Terminal::new);
        if let (Some(terminal), Some(size)) = (&terminal, self.plan.size) {
            terminal.resize(size)?;
        }
        let ends = match (ends, &terminal) {
            (Some(ends), _) => ends,
            (None, Some(terminal)) => terminal.ends(self.plan.stdin_open)?,
            (None, None) => return Err(Error::refused(Kind::Failed, "the runtime made no terminal")),
        };
        self.state.pid = created.pid;
        self.state.pid_start_time = record::process_start_time(created.pid).unwrap_or(0);
        self.state.network_namespace = launch::network_namespace(created.pid);
        self.state.cgroup = self.confinement.description();
        // Before it may execute: from here on a monitor that dies leaves a name behind for what it has started.
        self.write_state()?;
        let running = created.start()?;
        let session = Session::new(String::new(), running, ends, terminal, self.plan.stdin_once);
        self.state.started_at = session.started_at.clone();
        self.begin_health();
        // It runs; that the file lacks the time of its start is no reason to kill it.
        drop(self.write_state());
        self.sessions.insert(CONTAINER, session);
        self.notify(&Occurrence::Started);
        let started = Reply::Started { pid: self.state.pid, warnings: self.confinement.warnings().to_vec() };
        for peer in self.peers.iter_mut().filter(|peer| matches!(peer.role, Role::Restarting)) {
            peer.reply(&started);
            peer.role = Role::Leaving;
        }
        if let Some(control) = self.control.take() {
            let mut peer = Peer::new(control);
            peer.reply(&started);
            if let Some(attach) = self.plan.attach_control {
                peer.role = Role::Attached { session: CONTAINER, attach };
                self.peers.push(peer);
            }
        }
        Ok(())
    }

    /// Records and reports that the container could not be started.
    fn never_started(&mut self, error: Error) -> Error {
        // Whatever got as far as being created must not stay.
        let oom_killed = self.confinement.oom_kills() > 0;
        if self.plan.launch.leaves_processes() {
            drop(self.confinement.kill_all());
        }
        self.reap();
        if let Some(runtime) = self.plan.launch.external() {
            // What it cannot take back, the sweep does.
            drop(runtime.delete(&self.plan.id));
        }
        drop(self.confinement.remove());
        let failure = error.to_failure();
        let exit_code = match failure.kind {
            Kind::NotFound => 127,
            Kind::NotExecutable => 126,
            Kind::NotRunning | Kind::Invalid | Kind::Gone | Kind::Busy | Kind::Failed => 125,
        };
        let exit = Exit {
            exit_code,
            signal: None,
            oom_killed,
            finished_at: crate::clock::now(),
            error: Some(failure.to_string()),
            requested: self.requested,
            shutdown: self.shutdown,
        };
        // The error that is returned and reported says more than that its record could not be written.
        drop(record::replace(&self.plan.exit_record, &exit));
        if let Some(control) = self.control.take() {
            let mut peer = Peer::new(control);
            peer.reply(&Reply::Failed(failure.clone()));
        }
        for peer in self.peers.iter_mut().filter(|peer| matches!(peer.role, Role::Restarting)) {
            peer.reply(&Reply::Failed(failure.clone()));
            peer.role = Role::Leaving;
        }
        tell_end(&mut self.peers, CONTAINER, &exit);
        (self.state.pid, self.state.pid_start_time) = (0, 0);
        error
    }

    pub(crate) fn write_state(&self) -> Result<(), Error> {
        record::replace(&self.directory.file("state.json"), &self.state)
    }

    fn everything_is_over(&self) -> bool {
        let now = Instant::now();
        self.sessions.values().all(|session| session.is_over(now))
    }

    /// Records the end of the container and tells everybody.
    fn conclude(&mut self) -> Exit {
        let mut exit = self.sessions.get(&CONTAINER).and_then(|session| session.exit.clone()).unwrap_or_else(|| Exit {
            // Not reached: the loop ends only when the container's session has an exit.
            exit_code: 255,
            signal: None,
            oom_killed: false,
            finished_at: crate::clock::now(),
            error: None,
            requested: false,
            shutdown: false,
        });
        self.log.end(Stream::Stdout);
        self.log.end(Stream::Stderr);
        self.log.finish();
        if let Some(Err(error)) = self.plan.launch.external().map(|runtime| runtime.delete(&self.plan.id)) {
            exit.error = Some(error.to_failure().to_string());
        }
        if let Err(error) = self.confinement.remove() {
            self.cgroup_stays = true;
            exit.error = Some(error.to_failure().to_string());
        }
        if self.log.lost_lines() > 0 {
            exit.error = Some(format!("{} lines of output could not be written to the log", self.log.lost_lines()));
        }
        if let Err(error) = record::replace(&self.plan.exit_record, &exit) {
            exit.error = Some(error.to_failure().to_string());
        }
        (self.state.pid, self.state.pid_start_time, self.state.network_namespace) = (0, 0, 0);
        self.state.paused = false;
        self.state.last_exit = Some(exit.clone());
        self.end_health();
        // Only says what the exit record says, too.
        drop(self.write_state());
        self.sessions.clear();
        // Its sockets are in a namespace that ends with them.
        self.networks.names = None;
        self.networks.relay = None;
        exit
    }

    /// Collects every child that has ended, known or not.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let Some((&key, _)) =
                self.sessions.iter().find(|(_, session)| session.pid == pid && session.exit.is_none())
            else {
                continue;
            };
            let signal = status.terminating_signal();
            let mut exit = Exit {
                exit_code: status.exit_status().unwrap_or_else(|| 128 + signal.unwrap_or(127)),
                signal,
                oom_killed: false,
                finished_at: crate::clock::now(),
                error: None,
                requested: false,
                shutdown: false,
            };
            if key == CONTAINER {
                for session in self.sessions.values().filter(|session| session.exit.is_none() && session.pid != pid) {
                    // The kernel has killed those in the container's pid namespace; the only error is that one has ended.
                    drop(session.signal(KILL));
                }
                exit.oom_killed = self.confinement.oom_kills() > 0;
                (exit.requested, exit.shutdown) = (self.requested, self.shutdown);
                if exit.oom_killed {
                    self.notify(&Occurrence::OutOfMemory);
                }
                self.stop_deadline = None;
                if self.plan.launch.leaves_processes()
                    && let Err(error) = self.confinement.kill_all()
                {
                    exit.error = Some(error.to_failure().to_string());
                }
            }
            if let Some(session) = self.sessions.get_mut(&key) {
                session.has_ended(exit);
            }
        }
    }

    /// Exec sessions whose process has ended and whose output has been delivered.
    pub(crate) fn end_exec_sessions(&mut self) {
        let now = Instant::now();
        let over: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(key, session)| **key != CONTAINER && session.is_over(now))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            let Some(mut session) = self.sessions.remove(&key) else { continue };
            let Some(exit) = session.exit.take() else { continue };
            self.orphans.extend(session.outputs.into_iter().filter(Option::is_some));
            if self.end_probe(key, &exit) {
                continue;
            }
            self.notify(&Occurrence::ExecEnded { id: &session.id, exit: &exit });
            if let Some(state) = self.state.sessions.iter_mut().find(|state| state.id == session.id) {
                state.exit = Some(exit.clone());
            }
            tell_end(&mut self.peers, key, &exit);
            self.forget_old_sessions();
            // The list in the file is for people; `status` is exact.
            drop(self.write_state());
        }
    }

    fn forget_old_sessions(&mut self) {
        let ended = self.state.sessions.iter().filter(|state| state.exit.is_some()).count();
        let mut too_many = ended.saturating_sub(REMEMBERED);
        self.state.sessions.retain(|state| {
            let forget = too_many > 0 && state.exit.is_some();
            too_many -= usize::from(forget);
            !forget
        });
    }

    /// Adds a session that has started.
    pub(crate) fn add_session(&mut self, session: Session) -> u32 {
        let key = self.next_session;
        self.next_session += 1;
        self.state.sessions.push(SessionState {
            id: session.id.clone(),
            pid: session.pid,
            terminal: session.terminal.is_some(),
            started_at: session.started_at.clone(),
            exit: None,
        });
        // As above.
        drop(self.write_state());
        self.sessions.insert(key, session);
        key
    }
}

/// Tells those who are attached to a session, and those who wait for it, that it has ended.
fn tell_end(peers: &mut [Peer], key: u32, exit: &Exit) {
    // An exit is integers and text, which always become JSON.
    let json = serde_json::to_vec(exit).unwrap_or_default();
    for peer in peers {
        match peer.role {
            Role::Attached { session, .. } if session == key => {
                peer.frame(Frame::Exit, &json);
                peer.role = Role::Leaving;
            }
            Role::Waiting { session } if session == key => {
                peer.reply(&Reply::Exited(exit.clone()));
                peer.role = Role::Leaving;
            }
            _ => {}
        }
    }
}
