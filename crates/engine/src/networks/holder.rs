//! The process that keeps an ordinary user's network namespace and its pasta: `dhow-network`. See `super::user`.
//!
//! It starts pasta again when that ends, tries again where there was no way out of the machine yet, and ends itself a moment
//! after the last user of the namespace has gone. A moment, because the next container often comes soon, and pasta takes
//! twenty milliseconds to start; SIGTERM means that nobody will come.
//!
//! Killed, it leaves a namespace that works: monitors and pasta live on, and the next command starts another holder.

use super::user::{self, HOSTS_RESOLVER, MTU, Record};
use kernel::namespaces::Namespaces;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What it says to who has started it.
pub(super) const READY: &str = "ready";
/// How long it stays after the last user of the namespace.
const LINGER: Duration = Duration::from_secs(2);
/// How long pasta may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to start pasta.
const AGAIN: Duration = Duration::from_secs(5);
/// What pasta says on a machine that is connected with nothing.
const NO_WAY_OUT: &str = "No external routable interface";

/// The addresses between the namespace and pasta: of a block that is for this kind of use alone (RFC 7335), so that nobody's
/// network is hidden. The host's own addresses are left to the host, by which containers reach it.
const OWN4: &str = "192.0.0.2";
const PREFIX4: &str = "29";
const GATEWAY4: &str = "192.0.0.1";
/// The same for IPv6, of the range for private use; nothing of it is seen outside.
const OWN6: &str = "fd64:686f:7700::2";
const GATEWAY6: &str = "fd64:686f:7700::1";

/// A pasta that runs.
#[derive(Debug)]
struct Pasta {
    pid: i32,
    process: OwnedFd,
    /// Ours to reap, unless another holder has started it.
    child: Option<Child>,
}

struct Holder {
    directory: PathBuf,
    in_use: OwnedFd,
    pasta: Option<Pasta>,
    record: Record,
}

/// The role's `main`: the namespace is the standard input, the directory the argument.
pub(crate) fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else { return ExitCode::FAILURE };
    let signals = [Signal::HUP, Signal::INT, Signal::TERM].map(Signal::as_raw);
    let begun = monitor::detach_from_session().map_err(|error| error.to_string()).and_then(|()| {
        let signals = kernel::signals::Blocked::new(&signals).map_err(|error| format!("signalfd4: {error}"))?;
        Ok((Holder::begin(directory.clone())?, signals))
    });
    let (holder, signals) = match begun {
        Ok(begun) => begun,
        Err(reason) => {
            forget(&directory);
            say(&reason);
            return ExitCode::FAILURE;
        }
    };
    say(READY);
    holder.stay(&signals);
    ExitCode::SUCCESS
}

/// Tells the starter and lets it go.
fn say(text: &str) {
    // The starter has gone: then nobody wants to know.
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    if let Ok(null) = null {
        rustix::stdio::dup2_stdout(&null).ok();
    }
}

/// Removes the files of a namespace that is gone; the lock stays.
pub(super) fn forget(directory: &Path) {
    for name in ["in-use", "in-use.closing", "record.json", "pasta.pid", "pasta.log", "namespace"] {
        std::fs::remove_file(directory.join(name)).ok();
    }
}

fn call<T>(what: &str, result: Result<T, Errno>) -> Result<T, String> {
    result.map_err(|errno| format!("{what}: {errno}"))
}

impl Holder {
    fn begin(directory: PathBuf) -> Result<Holder, String> {
        rustix::thread::set_name(c"dhow-network").ok();
        let path = directory.join("in-use");
        match rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(format!("mkfifo({path:?}): {errno}")),
        }
        let open = |flags| rustix::fs::openat(CWD, &path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let in_use = call("open(<in-use>, O_RDONLY)", open(OFlags::RDONLY))?;
        // A FIFO says that its last writer has gone only when there was one.
        drop(call("open(<in-use>, O_WRONLY)", open(OFlags::WRONLY))?);
        bind_namespace(&directory)?;
        let known = Record::read(&directory).unwrap_or_default();
        let namespace = user::inode(rustix::stdio::stdin()).unwrap_or_default();
        let record = Record {
            holder: rustix::process::getpid().as_raw_nonzero().get(),
            namespace,
            hosts: super::own::addresses(),
            ..Record::default()
        };
        let mut holder = Holder { directory, in_use, pasta: None, record };
        if known.namespace == namespace && user::is_pasta(known.pasta, &holder.directory) {
            holder.pasta = adopt(known.pasta);
        }
        holder.connect()?;
        Ok(holder)
    }

    /// Sees to it that pasta runs and the record says so. That the machine has no way out is no error.
    fn connect(&mut self) -> Result<(), String> {
        self.record.warning = None;
        if self.pasta.is_none() {
            match start(&self.directory, &self.record.hosts) {
                Ok(pasta) => self.pasta = Some(pasta),
                Err(reason) if reason.contains(NO_WAY_OUT) => {
                    self.record.warning =
                        Some("this machine has no route to anywhere: containers reach each other only".to_owned());
                }
                Err(reason) => return Err(reason),
            }
        }
        self.record.pasta = self.pasta.as_ref().map_or(0, |pasta| pasta.pid);
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let (new, path) = (self.directory.join("record.json.new"), self.directory.join("record.json"));
        let text = serde_json::to_vec(&self.record).map_err(|error| error.to_string())?;
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| format!("write {path:?}: {error}"))
    }

    /// Until nobody uses the namespace.
    fn stay(mut self, signals: &kernel::signals::Blocked) {
        let mut hurry = false;
        // The starter comes in a moment.
        let mut unused_since = Some(Instant::now());
        let mut again = None;
        loop {
            if let Some(since) = unused_since
                && (hurry || since.elapsed() >= LINGER)
            {
                if self.is_unused() && self.close() {
                    return;
                }
                unused_since = None;
            }
            let now = Instant::now();
            if self.pasta.is_none() && again.is_none_or(|time| now >= time) {
                self.record.hosts = super::own::addresses();
                if let Err(reason) = self.connect() {
                    self.record.warning = Some(reason);
                    self.write().ok();
                }
                again = self.pasta.is_none().then(|| Instant::now() + AGAIN);
            }
            let end = unused_since.map(|since| since + LINGER);
            let times = [end, again.filter(|_| self.pasta.is_none())];
            let Some(ready) = self.wait(signals, unused_since.is_none(), times.into_iter().flatten().min()) else {
                continue;
            };
            let [asked, ended, unused] = ready;
            if asked {
                while let Ok(Some(_)) = signals.next() {
                    hurry = true;
                }
                unused_since = unused_since.or_else(|| self.is_unused().then(Instant::now));
            }
            if ended {
                self.reap();
                again = None;
            }
            if unused {
                unused_since = Some(Instant::now());
            }
        }
    }

    /// Whether a signal came, pasta ended, the last user went.
    fn wait(&self, signals: &kernel::signals::Blocked, for_end: bool, until: Option<Instant>) -> Option<[bool; 3]> {
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        fds.extend(self.pasta.as_ref().map(|pasta| PollFd::new(&pasta.process, PollFlags::IN)));
        if for_end {
            // POLLHUP is reported in any case.
            fds.push(PollFd::new(&self.in_use, PollFlags::empty()));
        }
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
        });
        rustix::event::poll(&mut fds, timeout.as_ref()).ok()?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let asked = ready.next()?;
        let ended = self.pasta.is_some() && ready.next()?;
        Some([asked, ended, for_end && ready.next()?])
    }

    fn is_unused(&self) -> bool {
        let mut fds = [PollFd::new(&self.in_use, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Ends everything, unless somebody has just come: who opened the FIFO before its name went is seen after.
    fn close(&mut self) -> bool {
        let (name, away) = (self.directory.join("in-use"), self.directory.join("in-use.closing"));
        if std::fs::rename(&name, &away).is_ok() && !self.is_unused() {
            std::fs::rename(&away, &name).ok();
            return false;
        }
        if let Some(pasta) = self.pasta.take() {
            end(pasta);
        }
        forget(&self.directory);
        true
    }

    fn reap(&mut self) {
        if let Some(pasta) = self.pasta.take()
            && let Some(mut child) = pasta.child
        {
            child.wait().ok();
        }
    }
}

/// Binds the namespace to a file, in a mount namespace of this process's own: pasta has given up its rights over other
/// processes when it opens it, so a path below /proc would not do.
fn bind_namespace(directory: &Path) -> Result<(), String> {
    kernel::namespaces::unshare(Namespaces::MOUNT).map_err(|error| error.to_string())?;
    let path = directory.join("namespace");
    std::fs::write(&path, "").map_err(|error| format!("write {path:?}: {error}"))?;
    let tree = kernel::mount::copy_path("/proc/self/fd/0", false).map_err(|error| error.to_string())?;
    let directory = call(
        "open(<user-network>, O_PATH)",
        rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()),
    )?;
    kernel::mount::attach_at(tree.as_fd(), directory.as_fd(), "namespace").map_err(|error| error.to_string())
}

fn start(directory: &Path, hosts: &[IpAddr]) -> Result<Pasta, String> {
    let program = user::pasta().ok_or("the program pasta (package passt) is not installed")?;
    let (pid_file, log) = (directory.join("pasta.pid"), directory.join("pasta.log"));
    for file in [&pid_file, &log] {
        std::fs::remove_file(file).ok();
    }
    let mut command = Command::new(program);
    command.args(["--foreground", "--config-net", "--no-netns-quit", "--no-map-gw"]);
    // Ports are relayed, with their clients' addresses.
    command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    command.args(["--ns-ifname", "wire", "--mtu", &MTU.to_string(), "--dns-forward", &HOSTS_RESOLVER.to_string()]);
    // On a machine without addresses of a family pasta must not be told of it.
    if hosts.iter().any(IpAddr::is_ipv4) {
        command.args(["-a", OWN4, "-n", PREFIX4, "-g", GATEWAY4]);
    }
    if hosts.iter().any(IpAddr::is_ipv6) {
        command.args(["-a", OWN6, "-g", GATEWAY6]);
    }
    command.arg("--pid").arg(&pid_file).arg("--log-file").arg(&log).arg("--netns").arg(directory.join("namespace"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("pasta cannot be executed: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    // It writes the file when everything is set up.
    while std::fs::metadata(&pid_file).map_or(0, |file| file.len()) == 0 {
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(reason(&log));
        }
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).ok();
            return Err(format!("pasta was not ready after {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = Pid::from_child(&child);
    let process = call("pidfd_open(<pasta>)", rustix::process::pidfd_open(pid, PidfdFlags::empty()))?;
    Ok(Pasta { pid: pid.as_raw_nonzero().get(), process, child: Some(child) })
}

/// The last things that pasta had to say.
fn reason(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> =
        text.lines().skip(1).map(|line| line.split_once(": ").map_or(line, |(_, said)| said).trim()).collect();
    match lines.as_slice() {
        [] => "pasta ended and does not say why".to_owned(),
        lines => format!("pasta says: {}", lines[lines.len().saturating_sub(3)..].join("; ")),
    }
}

fn adopt(pid: i32) -> Option<Pasta> {
    let process = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    Some(Pasta { pid, process, child: None })
}

fn end(pasta: Pasta) {
    rustix::process::pidfd_send_signal(&pasta.process, Signal::TERM).ok();
    let mut fds = [PollFd::new(&pasta.process, PollFlags::IN)];
    let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
    if !matches!(rustix::event::poll(&mut fds, Some(&patience)), Ok(1)) {
        rustix::process::pidfd_send_signal(&pasta.process, Signal::KILL).ok();
    }
    if let Some(mut child) = pasta.child {
        child.wait().ok();
    }
}
