//! The server's life: it listens, serves, reaps, and ends when it is told to.

use crate::access::{Policy, PolicyError, Who};
use crate::connection;
use crate::context::Shared;
use crate::flights::Flights;
use crate::glances::Glances;
use crate::listen::{self, Address, Listener, Way};
use crate::log::{Level, Log};
use crate::metrics::Metrics;
use crate::old_style::Socket;
use crate::runs::Runs;
use crate::workers::Workers;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};

/// What `dhow serve` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's directories.
    pub engine: engine::Config,
    /// Where to listen.
    pub addresses: Vec<Address>,
    /// The group that may connect to Unix sockets beside their owner.
    pub group: Option<String>,
    /// The file that says who may do what; without one, whoever may connect may do everything.
    pub policy: Option<PathBuf>,
    /// For TCP that does not stay on loopback.
    pub tls: Option<crate::tls::Files>,
    /// Where everybody gets `/metrics`, and nothing else, without TLS.
    pub metrics: Option<SocketAddr>,
    /// Where the server tells of itself.
    pub log: Log,
}

/// Why the server did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address, or a file of TLS, cannot be used.
    #[error("{0}")]
    Listen(String),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The kernel gives no event loop.
    #[error("cannot start the event loop")]
    EventLoop(#[source] std::io::Error),
}

/// Clients at the same time; more wait until one has gone.
const CLIENTS: usize = 10_240;
/// Parts of the allocator that threads share: more threads than this are rarely at work at once.
const ARENAS: i32 = 4;
/// How long clients may go on when the server ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT. Must be called while this process has one thread.
///
/// `listening` is called when clients can connect, before the first of them is served.
///
/// # Errors
/// When an address cannot be used, or the kernel gives no event loop.
pub fn serve(options: &Options, listening: impl FnOnce()) -> Result<(), Error> {
    engine::roles::raise_descriptor_limit();
    kernel::heap::keep_little(ARENAS);
    let policy = match &options.policy {
        Some(path) => Policy::read(path)?,
        None => Policy::open(),
    };
    let tls = options.tls.as_ref().map(crate::tls::acceptor).transpose().map_err(Error::Listen)?;
    let way = Way { group: options.group.as_deref(), everybody: options.policy.is_some(), tls: tls.is_some() };
    let mut listeners = Vec::new();
    for address in &options.addresses {
        listeners
            .extend(listen::open(address, &way).map_err(Error::Listen)?.into_iter().map(|one| (one, Kind::Everything)));
    }
    if let Some(address) = options.metrics {
        // Numbers only, so that a scraper of another machine may have them without TLS.
        let open = listen::open(&Address::Tcp(address), &Way { tls: true, ..way }).map_err(Error::Listen)?;
        listeners.extend(open.into_iter().map(|one| (one, Kind::Metrics)));
    }
    let access = Arc::new(Access { policy: Mutex::new(Arc::new(policy)), tls });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::EventLoop)?;
    runtime.block_on(run(options, listeners, access, listening)).map_err(Error::EventLoop)
}

/// How long after the last client has gone, or the last thread that called the engine has ended, memory is given back.
const QUIET: Duration = Duration::from_secs(1);

/// Gives memory back to the kernel when it has become quiet. Without, a burst of clients stays in the allocator.
async fn give_back(shared: Arc<Shared>) {
    loop {
        shared.left.notified().await;
        while tokio::time::timeout(QUIET, shared.left.notified()).await.is_ok() {}
        shared.flights.forget();
        shared.glances.forget();
        kernel::heap::trim();
        // Of what is resident then, most would be instructions that nobody executes.
        kernel::heap::let_go_of_program();
    }
}

/// What is served at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All operations.
    Everything,
    /// `/metrics` alone.
    Metrics,
}

/// Who may come in, and how.
struct Access {
    policy: Mutex<Arc<Policy>>,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Access {
    fn policy(&self) -> Arc<Policy> {
        // Nothing that can panic happens while it is held.
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the policy again; one that cannot be used leaves the old one in force.
    fn reload(&self, path: Option<&PathBuf>, log: &Log) {
        let Some(path) = path else { return };
        match Policy::read(path) {
            Ok(policy) => {
                *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
                log.tell(Level::Info, "the policy was read again", || json!({ "path": path }));
            }
            Err(error) => {
                log.tell(Level::Error, "the old policy stays in force", || json!({ "error": error.to_string() }))
            }
        }
    }
}

async fn run(
    options: &Options,
    listeners: Vec<(Listener, Kind)>,
    access: Arc<Access>,
    listening: impl FnOnce(),
) -> std::io::Result<()> {
    let mut signals = Signals {
        child: signal(SignalKind::child())?,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let left = Arc::new(Notify::new());
    let shared = Arc::new(Shared {
        workers: Workers::new(&options.engine, &left),
        flights: Flights::default(),
        glances: Glances::default(),
        runs: Runs::default(),
        execs: crate::exec::Sessions::default(),
        metrics: Metrics::default(),
        log: options.log.clone(),
        left,
    });
    // What its start needed is given back, too, if nobody comes.
    shared.left.notify_one();
    tokio::spawn(give_back(shared.clone()));
    let (end, ending) = watch::channel(false);
    let room = Arc::new(Semaphore::new(CLIENTS));
    let mut files = Vec::new();
    for (listener, kind) in listeners {
        let (shared, room, ending) = (shared.clone(), room.clone(), ending.clone());
        let door = Door { shared, room, ending, access: access.clone(), kind };
        match listener {
            Listener::Unix(listener, made) => {
                listener.set_nonblocking(true)?;
                files.push(made);
                tokio::spawn(door.unix(tokio::net::UnixListener::from_std(listener)?));
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                tokio::spawn(door.tcp(tokio::net::TcpListener::from_std(listener)?));
            }
        }
    }
    listening();
    signals.told(|| access.reload(options.policy.as_ref(), &options.log)).await;
    options.log.tell(Level::Info, "told to end", || json!({}));
    // No new client finds us, and those that there are finish what they are at.
    drop(files);
    end.send_replace(true);
    drop(ending);
    drop(tokio::time::timeout(FAREWELL, end.closed()).await);
    Ok(())
}

struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Reaps, and reads its files again when told so, until a signal tells to end.
    async fn told(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.child.recv() => engine::roles::reap(),
                _ = self.hangup.recv() => reload(),
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}

/// Waits until the server ends.
pub async fn told(ending: &mut watch::Receiver<bool>) {
    // A server that is gone has ended.
    drop(ending.wait_for(|ending| *ending).await);
}

/// A client that has connected.
enum Incoming {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

impl Incoming {
    /// Finds out who it is. `None` for one that is not who it says.
    async fn greet(self, access: &Access, kind: Kind) -> Option<(Socket, Who)> {
        match (self, &access.tls) {
            (Incoming::Unix(stream), _) => {
                let who = Who::at(&stream);
                Some((stream.into(), who))
            }
            (Incoming::Tcp(stream), Some(acceptor)) if kind == Kind::Everything => {
                let (stream, who) = crate::tls::greet(acceptor, stream).await?;
                Some((stream.into(), who))
            }
            (Incoming::Tcp(stream), _) => Some((stream.into(), Who::Anonymous)),
        }
    }
}

/// A listener's surroundings.
struct Door {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
    access: Arc<Access>,
    kind: Kind,
}

impl Door {
    async fn unix(self, listener: tokio::net::UnixListener) {
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => self.admit(accepted.map(|(stream, _)| Incoming::Unix(stream))).await,
                () = told(&mut ending) => return,
            }
        }
    }

    async fn tcp(self, listener: tokio::net::TcpListener) {
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => self.admit(accepted.map(|(stream, _)| Incoming::Tcp(stream))).await,
                () = told(&mut ending) => return,
            }
        }
    }

    async fn admit(&self, accepted: std::io::Result<Incoming>) {
        let Ok(incoming) = accepted else {
            // No descriptor left: it would be reported again at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        };
        let Ok(place) = self.room.clone().acquire_owned().await else { return };
        let (shared, ending, access, kind) = (self.shared.clone(), self.ending.clone(), self.access.clone(), self.kind);
        tokio::spawn(async move {
            shared.metrics.clients.fetch_add(1, Relaxed);
            let counted = shared.clone();
            if let Some((socket, who)) = incoming.greet(&access, kind).await {
                let peer = access.policy().of(who);
                connection::serve(shared, socket, peer, kind, ending).await;
            }
            counted.metrics.clients.fetch_sub(1, Relaxed);
            counted.left.notify_one();
            drop(place);
        });
    }
}
