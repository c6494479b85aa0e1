//! One look for all who ask at the same time.
//!
//! What is asked before the engine begins to look is answered by that look; what is asked after it has begun is answered by the next,
//! which begins when the first has ended. So nobody hears of anything from before their question, and a hundred clients that poll the
//! same list cost what one costs, in time and in memory: one look is taken at a time, and they share its answer. Of large answers that
//! turn out as the one before, the one before is given: ten thousand clients who ask for a list and do not take it hold as many lists as
//! there were different ones.

use crate::failure::Failure;
use crate::workers::Workers;
use bytes::Bytes;
use engine::Engine;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Outcome = Result<Bytes, Failure>;
type Work = Box<dyn FnOnce(&Engine) -> Outcome + Send>;

/// A look that has not begun, and those who wait for it.
struct Planned {
    work: Work,
    askers: Vec<oneshot::Sender<Outcome>>,
}

/// What is being looked for. It is on the list while a look is taken or waits for a thread.
#[derive(Default)]
struct Target {
    planned: Option<Planned>,
}

/// Answers of this many bytes or more are compared with the one before.
const LARGE: usize = 64 << 10;
/// Questions whose last large answer is kept.
const KEPT: usize = 4;

/// Looks, by what is looked for.
#[derive(Clone, Default)]
pub struct Flights {
    targets: Arc<Mutex<HashMap<String, Target>>>,
    /// The last large answers.
    given: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").field("targets", &self.lock().len()).finish()
    }
}

impl Flights {
    /// The answer of `work`, or of the same work that another client waits for and that has not begun. Two that are asked with the same
    /// `same` must be the same; without one, nobody shares the answer.
    ///
    /// # Errors
    /// What the work refuses, and 500 when it cannot be done.
    pub async fn join(
        &self,
        workers: &Workers,
        same: Option<String>,
        work: impl FnOnce(&Engine) -> Outcome + Send + 'static,
    ) -> Outcome {
        let Some(same) = same else { return workers.translate(work).await };
        let (sender, answer) = oneshot::channel();
        if self.board(&same, Box::new(work), sender) {
            self.clone().take_off(workers.clone(), same)?;
        }
        answer.await.unwrap_or_else(|_| Err(Failure::internal("the request could not be worked on")))
    }

    /// Waits for the look that has not begun, or plans one. Says whether nobody is looking or about to, so that it has to begin now.
    fn board(&self, same: &str, work: Work, sender: oneshot::Sender<Outcome>) -> bool {
        let mut targets = self.lock();
        let is_new = !targets.contains_key(same);
        let target = targets.entry(same.to_owned()).or_default();
        match &mut target.planned {
            Some(planned) => planned.askers.push(sender),
            None => target.planned = Some(Planned { work, askers: vec![sender] }),
        }
        is_new
    }

    /// Has a thread take the look that is planned, and then the one that was planned meanwhile.
    fn take_off(self, workers: Workers, same: String) -> Result<(), Failure> {
        let (flights, target) = (self.clone(), same.clone());
        let begun = workers.clone().begin(move |engine| {
            // From here on who asks waits for the next one.
            let planned = flights.lock().get_mut(&target).and_then(|target| target.planned.take());
            let landing = Landing { flights, workers, target };
            let Some(Planned { work, mut askers }) = planned else { return };
            askers.retain(|asker| !asker.is_closed());
            if askers.is_empty() {
                return;
            }
            let outcome = engine.and_then(work).map(|answer| landing.flights.as_before(&landing.target, answer));
            for asker in askers {
                // Some have gone meanwhile.
                drop(asker.send(outcome.clone()));
            }
        });
        if begun.is_err() {
            // There is no thread for it, and those who wait hear that.
            self.lock().remove(&same);
        }
        begun
    }

    /// An answer, or one of the same bytes that some may not have taken yet.
    fn as_before(&self, same: &str, answer: Bytes) -> Bytes {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.len() < LARGE {
            given.remove(same);
            return answer;
        }
        if let Some(before) = given.get(same).filter(|before| **before == answer) {
            return before.clone();
        }
        if given.len() >= KEPT && !given.contains_key(same) {
            given.clear();
        }
        given.insert(same.to_owned(), answer.clone());
        answer
    }

    /// Lets go of the answers that were given.
    pub fn forget(&self) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Target>> {
        // Nothing that can panic happens while it is held.
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a look, of one that fails in the middle too: the next begins, behind whatever else waits for a thread.
struct Landing {
    flights: Flights,
    workers: Workers,
    target: String,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut targets = self.flights.lock();
        let is_awaited = targets.get(&self.target).is_some_and(|target| target.planned.is_some());
        if !is_awaited {
            targets.remove(&self.target);
            return;
        }
        drop(targets);
        // Whoever waits has been told when it cannot begin.
        drop(self.flights.clone().take_off(self.workers.clone(), self.target.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    fn answer(text: &str) -> Outcome {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn workers() -> (tempfile::TempDir, Workers) {
        let directory = tempfile::tempdir().unwrap();
        let root = |name| directory.path().join(name);
        let config = engine::Config { data_root: root("data"), run_root: root("run"), program: None };
        let workers = Workers::new(&config, &Arc::default());
        (directory, workers)
    }

    #[test]
    fn who_asks_before_it_begins_shares_it_and_who_asks_later_does_not() {
        let (_directory, workers) = workers();
        let flights = Flights::default();
        let looks = Arc::new(AtomicUsize::new(0));
        let (began, has_begun) = mpsc::channel();
        let (go, hold) = mpsc::channel::<()>();
        let first = {
            let looks = looks.clone();
            move |_: &Engine| {
                looks.fetch_add(1, SeqCst);
                began.send(()).unwrap();
                hold.recv().unwrap();
                answer("old")
            }
        };
        let other = |text: &'static str| {
            let looks = looks.clone();
            move |_: &Engine| {
                looks.fetch_add(1, SeqCst);
                answer(text)
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let same = || Some("same".to_owned());
            let spawned = |work: Work| {
                let (flights, workers) = (flights.clone(), workers.clone());
                tokio::spawn(async move { flights.join(&workers, same(), work).await })
            };
            let first = spawned(Box::new(first));
            tokio::task::yield_now().await;
            has_begun.recv().unwrap();
            // Three ask while it looks: they share a second look, which the first of them brings, and one does not wait for it.
            let (second, third, gone) =
                (spawned(Box::new(other("new"))), spawned(Box::new(other("never"))), spawned(Box::new(other("never"))));
            tokio::task::yield_now().await;
            gone.abort();
            assert_eq!(looks.load(SeqCst), 1, "one look at a time");
            go.send(()).unwrap();
            assert_eq!(first.await.unwrap().unwrap(), "old");
            assert_eq!((second.await.unwrap().unwrap(), third.await.unwrap().unwrap()), ("new".into(), "new".into()));
            assert_eq!(looks.load(SeqCst), 2);
            // Without a name nobody shares it.
            assert_eq!(flights.join(&workers, None, other("own")).await.unwrap(), "own");
        });
        // The thread that has answered takes it off the list a moment later.
        for _ in 0..1000 {
            if flights.lock().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{flights:?}");
    }

    #[test]
    fn large_answers_that_are_alike_are_one() {
        let flights = Flights::default();
        let large = |letter: char| Bytes::from(letter.to_string().repeat(LARGE));
        let first = flights.as_before("list", large('a'));
        let again = flights.as_before("list", large('a'));
        assert_eq!(first.as_ptr(), again.as_ptr());
        // Another answer, another question, and what is small.
        let other = flights.as_before("list", large('b'));
        assert_eq!((&other[..1], other.len()), (&b"b"[..], LARGE));
        assert_ne!(flights.as_before("list", large('a')).as_ptr(), first.as_ptr());
        for number in 0..2 * KEPT {
            flights.as_before(&format!("list {number}"), large('a'));
        }
        assert!(flights.given.lock().unwrap().len() <= KEPT);
        flights.as_before("list 7", Bytes::from_static(b"small"));
        assert!(!flights.given.lock().unwrap().contains_key("list 7"));
        flights.forget();
        assert!(flights.given.lock().unwrap().is_empty());
    }

    #[test]
    fn one_that_fails_in_the_middle_is_no_reason_to_wait_for_ever() {
        let (_directory, workers) = workers();
        let flights = Flights::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let same = || Some("same".to_owned());
            let lost = flights.join(&workers, same(), |_| panic!("on purpose")).await;
            assert!(lost.is_err());
            assert_eq!(flights.join(&workers, same(), |_| answer("next")).await.unwrap(), "next");
        });
    }
}
