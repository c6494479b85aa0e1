//! Those who wait for, or are attached to, a container that has not been started yet.
//!
//! `docker run` attaches and waits before it starts, so that no byte and no quick end is lost. Who does so stands in a list
//! here; the start takes them off it and joins them to the monitor's control connection, which is there before the
//! container's first instruction.

use engine::Streams;
use monitor::client::Connection;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// How the run ended that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What the shell would say.
    pub exit_code: i32,
}

/// What an attached client gets when its container starts.
#[derive(Debug)]
pub enum Joined {
    /// The control connection itself, and those who want to hear of the end.
    First(Connection, Vec<oneshot::Sender<End>>),
    /// Somebody was first; the log has what this one missed.
    Later,
}

/// A client that is attached to the next run.
#[derive(Debug)]
pub struct Attached {
    /// Which streams it wants.
    pub streams: Streams,
    /// Where it hears of the run.
    pub sender: oneshot::Sender<Joined>,
    ticket: u64,
}

/// Stands for a place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Who waits for one container.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Clients that are attached, in the order in which they came.
    pub attached: Vec<Attached>,
    /// Those who want to hear of the end of the next run.
    pub ends: Vec<oneshot::Sender<End>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.attached.is_empty() && self.ends.is_empty()
    }

    fn forget_gone(&mut self) {
        self.attached.retain(|attached| !attached.sender.is_closed());
        self.ends.retain(|sender| !sender.is_closed());
    }
}

/// All lists.
#[derive(Debug, Default)]
pub struct Runs {
    lists: Mutex<HashMap<String, Waiting>>,
    tickets: AtomicU64,
    /// Rung when a container was removed here.
    removed: Notify,
}

/// From so many lists on, those of clients that have gone are looked for.
const MANY: usize = 256;

impl Runs {
    /// Attaches to the next run.
    pub fn attach(&self, id: &str, streams: Streams) -> (Ticket, oneshot::Receiver<Joined>) {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Relaxed);
        self.add(id, |list| list.attached.push(Attached { streams, sender, ticket }));
        (Ticket(ticket), receiver)
    }

    /// Takes a client off the list. False when it is not there: somebody starts the container in this moment, and will say what
    /// became of it, even if the run has ended by then and the container has gone.
    pub fn withdraw(&self, id: &str, ticket: Ticket) -> bool {
        let mut lists = self.lock();
        let Some(list) = lists.get_mut(id) else { return false };
        let before = list.attached.len();
        list.attached.retain(|attached| attached.ticket != ticket.0);
        list.attached.len() < before
    }

    /// Waits for the end of the next run.
    pub fn end(&self, id: &str) -> oneshot::Receiver<End> {
        let (sender, receiver) = oneshot::channel();
        self.add(id, |list| list.ends.push(sender));
        receiver
    }

    /// Takes everybody off a container's list, which is about to be started.
    pub fn take(&self, id: &str) -> Waiting {
        let mut waiting = self.lock().remove(id).unwrap_or_default();
        waiting.forget_gone();
        waiting
    }

    /// Whether nobody has started a container since somebody began to wait for the end of its next run.
    pub fn is_awaited(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|list| !list.ends.is_empty())
    }

    /// Puts those back whose container was not started.
    pub fn put_back(&self, id: &str, waiting: Waiting) {
        if !waiting.is_empty() {
            self.add(id, |list| {
                list.attached.extend(waiting.attached);
                list.ends.extend(waiting.ends);
            });
        }
    }

    /// Says that containers have gone.
    pub fn ring(&self) {
        self.removed.notify_waiters();
    }

    /// Waits until a container was removed here.
    pub async fn rung(&self) {
        self.removed.notified().await;
    }

    fn add(&self, id: &str, change: impl FnOnce(&mut Waiting)) {
        let mut lists = self.lock();
        if lists.len() >= MANY && !lists.contains_key(id) {
            lists.retain(|_, list| {
                list.forget_gone();
                !list.is_empty()
            });
        }
        let list = lists.entry(id.to_owned()).or_default();
        list.forget_gone();
        change(list);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        // Nothing that can panic happens while it is held.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_is_forgotten() {
        let runs = Runs::default();
        let kept = runs.end("a");
        drop(runs.end("a"));
        drop(runs.attach("a", Streams::ALL));
        for number in 0..2 * MANY {
            drop(runs.end(&number.to_string()));
        }
        assert!(runs.lock().len() <= MANY + 1);
        let waiting = runs.take("a");
        assert_eq!((waiting.attached.len(), waiting.ends.len()), (0, 1));
        runs.put_back("a", waiting);
        for sender in runs.take("a").ends {
            sender.send(End { exit_code: 3 }).unwrap();
        }
        assert_eq!(kept.blocking_recv(), Ok(End { exit_code: 3 }));
    }

    #[test]
    fn who_is_being_started_stays() {
        let runs = Runs::default();
        let (ticket, mut receiver) = runs.attach("a", Streams::ALL);
        let (other, _waits) = runs.attach("a", Streams::ALL);
        assert!(runs.withdraw("a", other) && !runs.withdraw("a", other) && !runs.withdraw("b", ticket));
        // Between these two nobody knows whether the run has begun.
        let mut starting = runs.take("a");
        assert!(!runs.withdraw("a", ticket));
        let attached = starting.attached.remove(0);
        attached.sender.send(Joined::Later).unwrap();
        assert!(matches!(receiver.try_recv(), Ok(Joined::Later)));
        // One that was not started is on the list again, and may leave it.
        let (ticket, _receiver) = runs.attach("a", Streams::ALL);
        let starting = runs.take("a");
        runs.put_back("a", starting);
        assert!(runs.withdraw("a", ticket));
    }
}
