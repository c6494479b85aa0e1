//! One look for all who ask at the same time.
//!
//! What is asked before the engine begins to look is answered by that look; what is asked after it has begun gets one of its own. So
//! nobody hears of anything from before their question, and a hundred clients that poll the same list cost what one costs, in time and
//! in memory, as they share the answer.

use crate::failure::Failure;
use crate::workers::Workers;
use bytes::Bytes;
use engine::Engine;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Outcome = Result<Bytes, Failure>;
type Waiting = HashMap<String, Vec<oneshot::Sender<Outcome>>>;

/// Looks that have not begun, by what is looked for.
#[derive(Clone, Debug, Default)]
pub struct Flights(Arc<Mutex<Waiting>>);

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
        let flight = match self.board(same) {
            Ok(flight) => flight,
            Err(answer) => {
                return answer.await.unwrap_or_else(|_| Err(Failure::internal("the request could not be worked on")));
            }
        };
        let work = move |engine: &Engine| {
            let others = flight.begin();
            let outcome = work(engine);
            for other in others {
                // Some have gone meanwhile.
                drop(other.send(outcome.clone()));
            }
            outcome
        };
        workers.translate(work).await
    }

    /// The look, for who is the first to ask for it; for others, where its answer comes.
    fn board(&self, same: String) -> Result<Flight, oneshot::Receiver<Outcome>> {
        match self.lock().entry(same) {
            Entry::Occupied(mut waiting) => {
                let (sender, receiver) = oneshot::channel();
                waiting.get_mut().push(sender);
                Err(receiver)
            }
            Entry::Vacant(place) => {
                let same = place.key().clone();
                place.insert(Vec::new());
                Ok(Flight { flights: self.clone(), same, begun: false })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic happens while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look that has not begun. One that never does leaves nothing behind: who waits for it hears that.
struct Flight {
    flights: Flights,
    same: String,
    begun: bool,
}

impl Flight {
    /// From here on nobody joins it.
    fn begin(mut self) -> Vec<oneshot::Sender<Outcome>> {
        self.begun = true;
        self.flights.lock().remove(&self.same).unwrap_or_default()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // One that has begun has taken its own away, and what is there by now is another's.
        if !self.begun {
            self.flights.lock().remove(&self.same);
        }
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

    #[test]
    fn who_asks_before_it_begins_shares_it_and_who_asks_later_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = |name| directory.path().join(name);
        let config = engine::Config { data_root: root("data"), run_root: root("run"), program: None };
        let workers = Workers::new(&config, &Arc::default());
        let flights = Flights::default();
        let looks = Arc::new(AtomicUsize::new(0));
        let look = |text: &'static str, hold: Option<mpsc::Receiver<()>>, began: Option<mpsc::Sender<()>>| {
            let looks = looks.clone();
            move |_: &Engine| {
                looks.fetch_add(1, SeqCst);
                if let Some(began) = began {
                    began.send(()).unwrap();
                }
                if let Some(hold) = hold {
                    hold.recv().unwrap();
                }
                answer(text)
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let same = || Some("same".to_owned());
            // One that has begun.
            let (go, hold) = mpsc::channel();
            let (began, has_begun) = mpsc::channel();
            let first = tokio::spawn({
                let (flights, workers, work) = (flights.clone(), workers.clone(), look("old", Some(hold), Some(began)));
                async move { flights.join(&workers, same(), work).await }
            });
            tokio::task::yield_now().await;
            has_begun.recv().unwrap();
            // Two that ask then share a second look, which has not begun when both have asked.
            let flight = flights.board("same".into()).expect("the first look has begun");
            let second = flights.join(&workers, same(), look("never", None, None));
            let mut second = std::pin::pin!(second);
            assert!(asked_once(second.as_mut()).await.is_none());
            for other in flight.begin() {
                other.send(answer("new")).unwrap();
            }
            assert_eq!(second.await.unwrap(), "new");
            go.send(()).unwrap();
            assert_eq!(first.await.unwrap().unwrap(), "old");
            assert_eq!(looks.load(SeqCst), 1);
            // One that never begins is no reason to wait for ever, and the next one begins.
            let lost = flights.board("same".into()).unwrap();
            let Err(waiting) = flights.board("same".into()) else { panic!("the look is there already") };
            drop(lost);
            assert!(waiting.await.is_err());
            assert_eq!(flights.join(&workers, same(), look("next", None, None)).await.unwrap(), "next");
            assert!(flights.lock().is_empty());
        });
    }

    /// What a future has come to, if anything, when it is asked once.
    async fn asked_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
