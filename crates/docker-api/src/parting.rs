//! A client that has said all it has to say, and one that has gone.
//!
//! Both look alike to whoever reads: the end of what comes. HTTP's library takes it for the second and drops the request;
//! `printf 'GET /info …' | nc -N` and Docker's older libraries mean the first. A Unix socket's other end tells the two apart
//! (unix(7), poll(2): `POLLHUP` only when both directions are shut). TCP does not, so its clients get a few seconds more.

use crate::polled::is_ready;
use crate::reply;
use hyper::body::Body;
use rustix::event::PollFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often it is looked whether the client is still there.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long it may take to read what has come of a request.
const UNFINISHED: Duration = Duration::from_secs(2);
/// How long an answer to a client over TCP may take that has said all.
const GRACE: Duration = Duration::from_secs(10);

/// What is known of a client's going.
#[derive(Debug, Default)]
pub struct Parting {
    /// The request that is being answered has come to its end.
    complete: AtomicBool,
    /// Said already that nothing more comes.
    noted: AtomicBool,
    /// The answer that is on its way is in memory as a whole, and stays there until it is taken.
    whole: AtomicBool,
    /// The socket of a client that has said all, and whether it can tell when it goes.
    socket: Mutex<Option<(OwnedFd, bool)>>,
    told: Notify,
}

impl Parting {
    /// A request begins.
    pub fn begin(&self, body: &impl Body) {
        self.complete.store(body.is_end_stream(), Relaxed);
    }

    /// There is an answer, as a whole or piece by piece.
    pub fn answer(&self, answer: &reply::Content) {
        self.whole.store(matches!(answer, reply::Content::Whole(_)), Relaxed);
    }

    /// Whether the answer stays in memory until it is taken.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Relaxed)
    }

    /// The request has come to its end.
    pub fn complete(&self) {
        self.complete.store(true, Relaxed);
    }

    /// Nothing more comes from the client. True when it waits for an answer to what it has said.
    pub fn awaits(&self, socket: BorrowedFd<'_>, tells: bool) -> bool {
        if tells && has_gone(socket) {
            return false;
        }
        if !self.noted.swap(true, Relaxed) {
            // Without a descriptor for it, it is as if it had gone.
            let Ok(own) = socket.try_clone_to_owned() else { return false };
            *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some((own, tells));
            self.told.notify_one();
        }
        true
    }

    /// Waits until the client has said all.
    pub async fn said_all(&self) {
        self.told.notified().await;
    }

    /// Waits until a client that has said all has gone, or has had its time.
    pub async fn gone(&self) {
        let Some((socket, tells)) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let began = Instant::now();
        while !(tells && has_gone(socket.as_fd())) {
            let limit = match self.complete.load(Relaxed) {
                // What has come is still on its way to whoever reads it, or it was half a request.
                false => UNFINISHED,
                true if tells => Duration::MAX,
                true => GRACE,
            };
            if began.elapsed() > limit {
                return;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn has_gone(socket: BorrowedFd<'_>) -> bool {
    // With no events asked for, poll(2) reports hang-ups and errors alone.
    is_ready(socket, PollFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    #[test]
    fn half_and_whole() {
        let (server, client) = UnixStream::pair().unwrap();
        let parting = Parting::default();
        client.shutdown(Shutdown::Write).unwrap();
        parting.begin(&Empty::<bytes::Bytes>::new());
        assert!(parting.awaits(server.as_fd(), true));
        assert!(!has_gone(server.as_fd()));
        drop(client);
        assert!(has_gone(server.as_fd()));
        assert!(!parting.awaits(server.as_fd(), true));
    }
}
