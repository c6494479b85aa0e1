//! Who calls the engine: it blocks and belongs to one thread, so a few threads have an engine each.
//!
//! Threads are started when work waits and end after some seconds without, so an idle server has none. There are two
//! groups, so that pulls and patient stops, which take minutes, leave those who only look something up alone.

use crate::failure::Failure;
use engine::{Config, Engine};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Threads for what is done in milliseconds.
const QUICK: usize = 4;
/// Threads for what may take long: as many images, stops and archives are worked on at once; the others wait.
const PATIENT: usize = 64;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(Result<&Engine, Failure>) + Send>;

/// All threads.
#[derive(Debug, Clone)]
pub struct Workers {
    quick: Arc<Group>,
    patient: Arc<Group>,
}

impl Workers {
    /// No thread yet. `quiet` is rung when the last thread of a group has ended.
    pub fn new(config: &Config, quiet: &Arc<Notify>) -> Workers {
        let group = |name, limit| Arc::new(Group::new(config.clone(), name, limit, quiet.clone()));
        Workers { quick: group("dhow-quick", QUICK), patient: group("dhow-patient", PATIENT) }
    }

    /// Calls the engine for something that takes milliseconds.
    ///
    /// # Errors
    /// What the engine refuses, and 500 when it cannot be opened.
    pub async fn quick<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, engine::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        Group::run(&self.quick, move |engine| Ok(work(engine)?)).await
    }

    /// Calls the engine for something that may take minutes.
    ///
    /// # Errors
    /// As [`Self::quick`].
    pub async fn patient<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, engine::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        Group::run(&self.patient, move |engine| Ok(work(engine)?)).await
    }

    /// The same for work that has refusals of its own.
    ///
    /// # Errors
    /// As [`Self::quick`], and those of the work.
    pub async fn translate<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        Group::run(&self.quick, work).await
    }

    /// The same for work that may take minutes.
    ///
    /// # Errors
    /// As [`Self::quick`], and those of the work.
    pub async fn patient_translate<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        Group::run(&self.patient, work).await
    }

    /// Has a thread of those for quick work do something, whoever waits for it or not.
    ///
    /// # Errors
    /// 500 when there is no thread and none can be started; then it is not done.
    pub fn begin(&self, work: impl FnOnce(Result<&Engine, Failure>) + Send + 'static) -> Result<(), Failure> {
        Group::add(&self.quick, Box::new(work))
    }

    /// Threads and waiting jobs of both groups, by name.
    pub fn load(&self) -> [(&'static str, usize, usize); 2] {
        [&self.quick, &self.patient].map(|group| {
            let state = group.lock();
            (group.name, state.threads, state.jobs.len())
        })
    }
}

#[derive(Debug)]
struct Group {
    config: Config,
    name: &'static str,
    limit: usize,
    quiet: Arc<Notify>,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("threads", &self.threads).field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl Group {
    fn new(config: Config, name: &'static str, limit: usize, quiet: Arc<Notify>) -> Group {
        Group { config, name, limit, quiet, state: Mutex::default(), work: Condvar::new() }
    }

    async fn run<T: Send + 'static>(
        group: &Arc<Group>,
        work: impl FnOnce(&Engine) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |engine| {
            // A client that has gone does not wait for the answer.
            drop(sender.send(engine.and_then(work)));
        });
        Group::add(group, job)?;
        receiver.await.unwrap_or_else(|_| Err(Failure::internal("the request could not be worked on")))
    }

    fn add(group: &Arc<Group>, job: Job) -> Result<(), Failure> {
        let mut state = group.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads >= group.limit {
            // It would only wait for the lock.
            drop(state);
            group.work.notify_one();
            return Ok(());
        }
        state.threads += 1;
        let own = group.clone();
        let started = std::thread::Builder::new().name(group.name.into()).spawn(move || own.serve());
        match started {
            Ok(_) => Ok(()),
            Err(error) => {
                state.threads -= 1;
                if state.threads == 0 {
                    state.jobs.pop_back();
                    return Err(Failure::internal(format!("cannot start a thread: {error}")));
                }
                // Those that there are do it when their turn comes.
                Ok(())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut counted = Counted(Some(self));
        let engine = Engine::open(self.config.clone());
        while let Some(job) = self.next() {
            match &engine {
                Ok(engine) => job(Ok(engine)),
                Err(error) => job(Err(Failure::internal(crate::failure::sentence(error)))),
            }
        }
        counted.0 = None;
        // What it had open takes memory.
        drop(engine);
        if self.lock().threads == 0 {
            self.quiet.notify_one();
        }
    }

    /// The next job; `None` when there was none for a while, and this thread is not counted any more: a job that is added
    /// from now on gets another.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let (again, waited) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// A thread that is not counted any more when a job panics.
struct Counted<'a>(Option<&'a Group>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            group.lock().threads -= 1;
        }
    }
}
