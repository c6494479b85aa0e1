//! An ordinary user's networks: one network namespace for all of the user's containers, in which bridges, rules and name
//! servers are what they are for root on the host, joined to the world by pasta(1).
//!
//! ```text
//! containers ── veth ── bridges, `inet dhow` (the user's namespace) ── tap ── pasta ── sockets of the user ── the wire
//!       ▲                                                                             (the host's namespace)
//!       └── the monitors' relays (`network::Relay`) ◀──────────── sockets of published ports ──┘
//! ```
//!
//! The namespace lives as long as somebody is in it or has it open: the monitors, pasta, and the *holder* (`super::holder`), a
//! process that starts with the first container and ends a moment after the last. Everything about it is in
//! `<run root>/user-network`:
//!
//! | file | what |
//! |---|---|
//! | `in-use` | a FIFO that the holder reads and everybody who uses the namespace has open for writing. To open it says whether a holder is there; its end of file, that nobody uses the namespace any more. Both are the kernel's doing, so nobody is counted wrongly who was killed |
//! | `record.json` | [`Record`] |
//! | `namespace` | where the holder has bound the namespace, in its own mount namespace, for pasta |
//! | `lock` | one process at a time makes or mends |
//!
//! A process that is root of a user namespace can go into the namespace but not back to the host's. So commands send a
//! thread that ends there ([`Engine::in_networks`]), and a monitor moves there as a whole, after it has opened its log.

use crate::engine::{Config, Engine};
use crate::error::{Context, Error, Kind, Result};
use kernel::namespaces::{self, Namespaces};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::Builder;

/// Bytes of a packet on the way to pasta, which takes any size and makes packets of the wire's of them.
pub(crate) const MTU: u32 = 65_520;
/// Where name servers on the host's loopback are asked: pasta passes it on to the first of them.
pub(crate) const HOSTS_RESOLVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 0, 5));

/// What everybody who uses the namespace may know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The holder.
    pub holder: i32,
    /// Inode of the namespace.
    pub namespace: u64,
    /// pasta; 0 where it does not run.
    pub pasta: i32,
    /// The host's own addresses, by which containers reach it.
    pub hosts: Vec<IpAddr>,
    /// Why there is no way out.
    pub warning: Option<String>,
}

impl Record {
    pub(super) fn read(directory: &Path) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(directory.join("record.json")).ok()?).ok()
    }
}

/// The namespace, kept in use by this value.
#[derive(Debug)]
pub(crate) struct UserNetwork {
    pub namespace: OwnedFd,
    pub in_use: OwnedFd,
    pub warning: Option<String>,
}

impl UserNetwork {
    /// For a monitor: the namespace, and what keeps it in use.
    pub(crate) fn for_monitor(self) -> [OwnedFd; 2] {
        [self.namespace, self.in_use]
    }
}

/// The process that keeps the networks of a user whose run directory this is.
pub(crate) fn holder(run: &Path) -> Option<i32> {
    Record::read(&directory(run)).map(|record| record.holder).filter(|pid| *pid > 0)
}

pub(super) fn directory(run: &Path) -> PathBuf {
    run.join("user-network")
}

/// Inode of an open namespace.
pub(super) fn inode(namespace: BorrowedFd<'_>) -> Option<u64> {
    rustix::fs::fstat(namespace).ok().map(|status| status.st_ino)
}

fn own_namespace() -> Option<u64> {
    std::fs::metadata("/proc/thread-self/ns/net").ok().map(|status| status.ino())
}

/// The FIFO, open for writing, if a holder is there.
fn open_in_use(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(CWD, directory.join("in-use"), flags, Mode::empty()).ok()
}

fn open_namespace(path: &str, wanted: u64) -> Option<OwnedFd> {
    let opened = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    (inode(opened.as_fd()) == Some(wanted)).then_some(opened)
}

/// The namespace as its holder has it.
fn present(directory: &Path) -> Option<UserNetwork> {
    let in_use = open_in_use(directory)?;
    let record = Record::read(directory)?;
    let namespace = open_namespace(&format!("/proc/{}/fd/0", record.holder), record.namespace)?;
    Some(UserNetwork { namespace, in_use, warning: record.warning })
}

/// The namespace as a monitor has it whose holder was killed.
fn abandoned(run: &Path, record: &Record) -> Option<OwnedFd> {
    let entries = std::fs::read_dir(run.join("containers")).ok()?;
    entries.flatten().find_map(|entry| {
        let state = monitor::State::read(&entry.path()).ok().flatten()?;
        open_namespace(&format!("/proc/{}/ns/net", state.monitor_pid), record.namespace)
    })
}

/// pasta's program.
pub(super) fn pasta() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|each| each.join("pasta")).find(|file| file.is_file())
}

/// A new network namespace, ready for relays. It is made by a thread that ends in it.
fn new_namespace() -> Result<OwnedFd> {
    let failed = || "cannot make a network namespace for the containers of this user".to_owned();
    let made = std::thread::scope(|scope| -> std::io::Result<_> {
        let work = || -> Result<OwnedFd> {
            namespaces::unshare(Namespaces::NETWORK).kind(Kind::Unavailable, failed)?;
            network::prepare_for_relays().internal(failed)?;
            let path = "/proc/thread-self/ns/net";
            rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).internal(failed)
        };
        Ok(Builder::new().spawn_scoped(scope, work)?.join())
    });
    made.internal(failed).and_then(|made| made.unwrap_or_else(|_panic| Err(Error::new(Kind::Internal, failed()))))
}

/// Does something in a network namespace, by a thread that ends there.
fn within<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let failed = || "cannot enter the network namespace of this user's containers".to_owned();
    let done = std::thread::scope(|scope| -> std::io::Result<_> {
        let inside = || namespaces::join(namespace, Namespaces::NETWORK).map(|()| work());
        Ok(Builder::new().spawn_scoped(scope, inside)?.join())
    });
    done.internal(failed)?.map_err(|_panic| Error::new(Kind::Internal, failed()))?.internal(failed)
}

impl Engine {
    fn user_network_directory(&self) -> PathBuf {
        directory(&self.directories().run)
    }

    /// Whether an ordinary user's containers can have networks of their own here.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] without pasta.
    pub(crate) fn check_networks_can_be(&self) -> Result<()> {
        if !self.host()?.user_namespace || pasta().is_some() {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, "an ordinary user's containers need the program pasta for a bridge network")
            .hint("install it (package passt), or use --network host (the host's own network) or --network none (no network)"))
    }

    /// The namespace that an ordinary user's networks are in, made if it is not there; none for root.
    pub(crate) fn user_network(&self) -> Result<Option<UserNetwork>> {
        if !self.host()?.user_namespace {
            return Ok(None);
        }
        let directory = self.user_network_directory();
        match present(&directory) {
            Some(network) => Ok(Some(network)),
            None => self.make_user_network(&directory).map(Some),
        }
    }

    fn make_user_network(&self, directory: &Path) -> Result<UserNetwork> {
        self.check_networks_can_be()?;
        crate::directories::make(directory, 0o700)?;
        let _alone = lock(directory)?;
        if let Some(network) = present(directory) {
            return Ok(network);
        }
        let run = &self.directories().run;
        let known = Record::read(directory).and_then(|record| abandoned(run, &record));
        let namespace = match known {
            Some(namespace) => namespace,
            None => {
                end_pasta(directory);
                new_namespace()?
            }
        };
        start_holder(directory, namespace)?;
        present(directory).ok_or_else(|| Error::new(Kind::Internal, "the networks of this user ended at once"))
    }

    /// Does something where this engine's networks are: for root here, for others in the user's own network namespace, which
    /// is made if it is not there.
    pub(crate) fn in_networks<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        if !self.host()?.user_namespace || self.is_inside() {
            return Ok(work());
        }
        match self.user_network()? {
            Some(network) => within(network.namespace.as_fd(), work),
            None => Ok(work()),
        }
    }

    /// The same, where they are there; `None` where nothing can be left of them.
    pub(crate) fn in_present_networks<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<Option<T>> {
        if !self.host()?.user_namespace || self.is_inside() {
            return Ok(Some(work()));
        }
        match present(&self.user_network_directory()) {
            Some(network) => within(network.namespace.as_fd(), work).map(Some),
            None => Ok(None),
        }
    }

    /// Has another engine of the same directories do something in the user's own network namespace; `None` where the
    /// networks are here.
    pub(super) fn elsewhere<T: Send>(&self, work: impl FnOnce(&Engine) -> Result<T> + Send) -> Result<Option<T>> {
        if !self.host()?.user_namespace || self.is_inside() {
            return Ok(None);
        }
        let directories = self.directories().clone();
        let config = Config {
            data_root: directories.data,
            run_root: directories.run,
            program: Some(self.program()?.to_owned()),
        };
        self.in_networks(|| work(&Engine::open(config)?))?.map(Some)
    }

    /// This process is a monitor, or what one has started.
    fn is_inside(&self) -> bool {
        let record = Record::read(&self.user_network_directory());
        record.is_some_and(|record| own_namespace() == Some(record.namespace))
    }

    /// The host's own addresses where containers cannot reach it by their gateway.
    pub(crate) fn addresses_of_host(&self) -> Vec<IpAddr> {
        let is_user = self.host().is_ok_and(|host| host.user_namespace);
        let record = is_user.then(|| Record::read(&self.user_network_directory())).flatten();
        record.map(|record| record.hosts).unwrap_or_default()
    }

    /// After a holder was killed: starts another while the namespace is used, ends what is left otherwise.
    pub(crate) fn sweep_user_network(&self) -> Result<()> {
        let directory = self.user_network_directory();
        if !self.host()?.user_namespace || self.is_inside() || !directory.join("record.json").exists() {
            return Ok(());
        }
        if open_in_use(&directory).is_some() {
            return Ok(());
        }
        let _alone = lock(&directory)?;
        if open_in_use(&directory).is_some() {
            return Ok(());
        }
        let Some(record) = Record::read(&directory) else { return Ok(()) };
        match abandoned(&self.directories().run, &record) {
            Some(namespace) => start_holder(&directory, namespace),
            None => {
                end_pasta(&directory);
                super::holder::forget(&directory);
                Ok(())
            }
        }
    }
}

fn lock(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::openat(CWD, directory.join("lock"), flags, Mode::from_raw_mode(0o600))
        .internal(|| format!("cannot open {}/lock", directory.display()))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).internal(|| "cannot lock the user's networks".into())?;
    Ok(lock)
}

/// Whether a process is the pasta of this directory.
pub(super) fn is_pasta(pid: i32, directory: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let wanted = directory.join("namespace");
    pid > 0 && line.split(|byte| *byte == 0).any(|word| word == wanted.as_os_str().as_encoded_bytes())
}

/// Ends a pasta whose holder and namespace are gone.
fn end_pasta(directory: &Path) {
    let Some(pid) = Record::read(directory).map(|record| record.pasta) else { return };
    let Some(process) = Pid::from_raw(pid).filter(|_| pid > 0) else { return };
    let Ok(process) = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()) else { return };
    // Looked at after it was opened: the descriptor stands for the process that has this command line.
    if is_pasta(pid, directory) {
        rustix::process::pidfd_send_signal(&process, Signal::KILL).ok();
    }
}

/// Starts the holder and waits until the namespace is joined to the world, or it is known why not.
fn start_holder(directory: &Path, namespace: OwnedFd) -> Result<()> {
    let failed = || "cannot connect the networks of this user's containers with the machine".to_owned();
    let program = kernel::exe::sealed_self().internal(failed)?;
    let mut command = Command::new(program.path());
    command
        .arg0(crate::roles::HOLDER)
        .arg(directory)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.stdin(namespace).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().internal(failed)?;
    let mut text = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut text).internal(failed)?;
    }
    crate::roles::leave(child);
    match text.trim() {
        super::holder::READY => Ok(()),
        reason => Err(Error::caused(Kind::Unavailable, failed(), Error::new(Kind::Unavailable, reason))
            .hint("use --network host (the host's own network) or --network none (no network) until this is mended")),
    }
}
