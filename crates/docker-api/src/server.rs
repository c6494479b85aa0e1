//! The server's life: it listens, serves, reaps, and ends when it is told to.

use crate::connection;
use crate::context::Shared;
use crate::listen::{self, Address, Listener};
use crate::old_style::Socket;
use crate::runs::Runs;
use crate::workers::Workers;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// What `dhow serve` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's directories.
    pub engine: engine::Config,
    /// Where to listen.
    pub addresses: Vec<Address>,
    /// The group that may connect to Unix sockets beside their owner.
    pub group: Option<String>,
}

/// Why the server did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be used.
    #[error("{0}")]
    Listen(String),
    /// The kernel gives no event loop.
    #[error("cannot start the event loop")]
    EventLoop(#[source] std::io::Error),
}

/// Clients at the same time; more wait until one has gone.
const CLIENTS: usize = 10_240;
/// How long clients may go on when the server ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT. Must be called while this process has one thread.
///
/// `listening` is called when clients can connect, before the first of them is served.
///
/// # Errors
/// When an address cannot be used, or the kernel gives no event loop.
pub fn serve(options: &Options, listening: impl FnOnce()) -> Result<(), Error> {
    let mut listeners = Vec::new();
    for address in &options.addresses {
        listeners.extend(listen::open(address, options.group.as_deref()).map_err(Error::Listen)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::EventLoop)?;
    runtime.block_on(run(options, listeners, listening)).map_err(Error::EventLoop)
}

async fn run(options: &Options, listeners: Vec<Listener>, listening: impl FnOnce()) -> std::io::Result<()> {
    let mut signals = Signals {
        child: signal(SignalKind::child())?,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let shared = Arc::new(Shared {
        workers: Workers::new(&options.engine),
        runs: Runs::default(),
        execs: crate::exec::Sessions::default(),
    });
    let (end, ending) = watch::channel(false);
    let room = Arc::new(Semaphore::new(CLIENTS));
    let mut files = Vec::new();
    for listener in listeners {
        let door = Door { shared: shared.clone(), room: room.clone(), ending: ending.clone() };
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
    signals.told().await;
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
}

impl Signals {
    /// Reaps until a signal tells to end.
    async fn told(&mut self) {
        loop {
            tokio::select! {
                _ = self.child.recv() => engine::roles::reap(),
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

/// A listener's surroundings.
struct Door {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
}

impl Door {
    async fn unix(self, listener: tokio::net::UnixListener) {
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => self.admit(accepted.map(|(stream, _)| stream.into())).await,
                () = told(&mut ending) => return,
            }
        }
    }

    async fn tcp(self, listener: tokio::net::TcpListener) {
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => self.admit(accepted.map(|(stream, _)| stream.into())).await,
                () = told(&mut ending) => return,
            }
        }
    }

    async fn admit(&self, accepted: std::io::Result<Socket>) {
        let Ok(socket) = accepted else {
            // No descriptor left: it would be reported again at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        };
        let Ok(place) = self.room.clone().acquire_owned().await else { return };
        let (shared, ending) = (self.shared.clone(), self.ending.clone());
        tokio::spawn(async move {
            connection::serve(shared, socket, ending).await;
            drop(place);
        });
    }
}
