//! Answers that are given again without an engine, as long as a glance says that they are still true.
//!
//! A thread that calls the engine is two hand-overs away, which take longer than the looking itself. What is done here in the event loop
//! instead is bounded and waits for nobody: one look at the list, and at most five system calls about files in memory. Every answer of
//! this kind was given by the engine a moment ago: once in [`LASTS`] it looks itself, and puts right what it finds.

use crate::exec::Sessions;
use bytes::Bytes;
use engine::Glance;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long after the engine has looked a glance will do. Threads stay longer without work, so the engine that has looked is there.
const LASTS: Duration = Duration::from_millis(100);
/// Answers that are kept: whoever polls containers polls a few.
const KEPT: usize = 64;

/// An answer, and what it was made from.
#[derive(Debug)]
struct Given {
    looked: Instant,
    glance: Glance,
    /// How often sessions of `exec` had been changed.
    sessions: u64,
    answer: Bytes,
}

/// Answers, by what was asked.
#[derive(Debug, Default)]
pub struct Glances(Mutex<HashMap<String, Given>>);

/// The moment before the engine looks.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    looked: Instant,
    sessions: u64,
}

impl Before {
    /// Now.
    pub fn now(sessions: &Sessions) -> Before {
        Before { looked: Instant::now(), sessions: sessions.changes() }
    }
}

impl Glances {
    /// The answer of a moment ago, if it is still true.
    pub fn answer(&self, asked: &str, sessions: &Sessions) -> Option<Bytes> {
        // Whoever has it now has it for a moment, but nothing is waited for here.
        let mut given = match self.0.try_lock() {
            Ok(given) => given,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let known = given.get(asked)?;
        if known.looked.elapsed() < LASTS && known.sessions == sessions.changes() && known.glance.is_true() {
            return Some(known.answer.clone());
        }
        given.remove(asked);
        None
    }

    /// Keeps an answer that the engine has given.
    pub fn keep(&self, asked: &str, before: Before, glance: Glance, answer: Bytes) {
        // Nothing that can panic happens while it is held.
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= KEPT && !given.contains_key(asked) {
            given.retain(|_, known| known.looked.elapsed() < LASTS);
            if given.len() >= KEPT {
                return;
            }
        }
        let Before { looked, sessions } = before;
        given.insert(asked.to_owned(), Given { looked, glance, sessions, answer });
    }

    /// Lets go of all.
    pub fn forget(&self) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *given = HashMap::new();
    }
}
