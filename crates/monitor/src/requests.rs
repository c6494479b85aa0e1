//! What clients ask for, carried out.

use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::exec_session;
use crate::peer::Role;
use crate::session::Session;
use crate::supervisor::{CONTAINER, Monitor, Occurrence};
use crate::wire::{Exec, Reply, Request};

const KILL: i32 = rustix::process::Signal::KILL.as_raw();

impl Monitor {
    /// Answers a request, at once or, for `wait` and `stop`, when the process has ended.
    pub(crate) fn answer(&mut self, index: usize, request: Request) -> Result<(), Error> {
        let reply = match request {
            Request::Attach(attach) => {
                let container = self.container()?;
                let reply = Reply::Attached { terminal: container.terminal.is_some(), log: self.log.position() };
                self.peers[index].reply(&reply);
                self.peers[index].role = Role::Attached { session: CONTAINER, attach };
                return Ok(());
            }
            Request::Exec(exec) => return self.exec(index, *exec),
            Request::Restart { signal, timeout_seconds } => {
                if self.state.paused {
                    // What is frozen cannot obey; Docker lets it go on first, too.
                    self.let_die();
                }
                self.begin_stop(signal, timeout_seconds)?;
                self.again = true;
                self.peers[index].role = Role::Restarting;
                return Ok(());
            }
            Request::Tell { value } => {
                self.plan.caller = value;
                Reply::Done
            }
            Request::Wait { session } => return self.wait_for(index, session.as_deref()),
            Request::Stop { signal, timeout_seconds } => {
                self.begin_stop(signal, timeout_seconds)?;
                self.peers[index].role = Role::Waiting { session: CONTAINER };
                return Ok(());
            }
            Request::Resize { session, size } => {
                let is_container = session.is_none();
                let session = self.find(session.as_deref())?;
                let terminal =
                    session.terminal.as_ref().ok_or_else(|| Error::refused(Kind::Invalid, "there is no terminal"))?;
                terminal.resize(size)?;
                if is_container {
                    self.notify(&Occurrence::Resized(size));
                }
                Reply::Done
            }
            Request::Signal { session, signal } => {
                self.send_signal(session.as_deref(), signal)?;
                Reply::Done
            }
            Request::Pause => {
                self.container()?;
                self.confinement.freeze()?;
                self.set_paused(true);
                self.notify(&Occurrence::Paused);
                Reply::Done
            }
            Request::Unpause => {
                self.container()?;
                self.confinement.thaw()?;
                self.set_paused(false);
                self.notify(&Occurrence::Unpaused);
                Reply::Done
            }
            Request::Network(change) => {
                self.change_network(*change)?;
                Reply::Done
            }
            Request::Status => Reply::Status(Box::new(self.state.clone())),
        };
        self.peers[index].reply(&reply);
        self.peers[index].role = Role::Leaving;
        Ok(())
    }

    fn container(&self) -> Result<&Session, Error> {
        self.find(None)
    }

    /// The running session of that id, or the container.
    fn find(&self, id: Option<&str>) -> Result<&Session, Error> {
        let Some(id) = id else {
            return self
                .sessions
                .get(&CONTAINER)
                .filter(|session| session.exit.is_none())
                .ok_or_else(|| Error::refused(Kind::NotRunning, "the container is not running"));
        };
        let session = self.sessions.iter().find(|(key, session)| **key != CONTAINER && session.id == id);
        match session {
            Some((_, session)) => Ok(session),
            None if self.state.sessions.iter().any(|state| state.id == id) => {
                Err(Error::refused(Kind::NotRunning, format!("exec session {id} has ended")))
            }
            None => Err(Error::refused(Kind::Invalid, format!("there is no exec session {id}"))),
        }
    }

    fn exec(&mut self, index: usize, exec: Exec) -> Result<(), Error> {
        if self.state.sessions.iter().any(|state| state.id == exec.id) {
            return Err(Error::refused(Kind::Invalid, format!("exec session {} exists already", exec.id)));
        }
        if self.state.paused {
            // It would freeze before it could say whether it has started, and this monitor with it.
            return Err(Error::refused(Kind::Invalid, "the container is paused"));
        }
        if self.state.restarting {
            return Err(Error::refused(Kind::NotRunning, "the container is restarting: wait until it runs"));
        }
        let attach = exec.attach;
        let (id, command) = (exec.id.clone(), exec.process.command().to_vec());
        let session = exec_session::start(exec, self.container()?, &self.confinement, self.plan.pipe_label())?;
        self.notify(&Occurrence::ExecStarted { id: &id, command: &command });
        let pid = session.pid;
        let key = self.add_session(session);
        let peer = &mut self.peers[index];
        peer.reply(&Reply::Started { pid, warnings: Vec::new() });
        peer.role = match attach {
            Some(attach) => Role::Attached { session: key, attach },
            None => Role::Leaving,
        };
        Ok(())
    }

    fn wait_for(&mut self, index: usize, id: Option<&str>) -> Result<(), Error> {
        let Some(id) = id else {
            // Also between two runs: the next end is meant.
            self.peers[index].role = Role::Waiting { session: CONTAINER };
            return Ok(());
        };
        if let Some((&key, _)) = self.sessions.iter().find(|(key, session)| **key != CONTAINER && session.id == id) {
            self.peers[index].role = Role::Waiting { session: key };
            return Ok(());
        }
        let ended = self.state.sessions.iter().find(|state| state.id == id).and_then(|state| state.exit.clone());
        let exit = ended.ok_or_else(|| Error::refused(Kind::Invalid, format!("there is no exec session {id}")))?;
        self.peers[index].reply(&Reply::Exited(exit));
        self.peers[index].role = Role::Leaving;
        Ok(())
    }

    fn send_signal(&mut self, id: Option<&str>, signal: i32) -> Result<(), Error> {
        if id.is_none() && self.state.restarting && (signal == KILL || signal == self.plan.stop_signal) {
            // It is not started again, which is what was meant.
            return self.begin_stop(Some(signal), None);
        }
        match id {
            None => self.signal_container(signal)?,
            id => self.find(id)?.signal(signal)?,
        }
        if id.is_none() {
            self.notify(&Occurrence::Signalled(signal));
        }
        if id.is_none() && (signal == KILL || signal == self.plan.stop_signal) {
            self.requested = true;
            self.let_die();
            self.notify(&Occurrence::Ending);
        }
        Ok(())
    }

    /// Sends the stop signal and sets the time of the SIGKILL. A second request may shorten the time, never lengthen it.
    pub(crate) fn begin_stop(&mut self, signal: Option<i32>, timeout_seconds: Option<i64>) -> Result<(), Error> {
        self.requested = true;
        self.again = false;
        if self.state.restarting {
            // Nothing runs that could be asked; it is not started again.
            return Ok(());
        }
        let signal = signal.unwrap_or(self.plan.stop_signal);
        self.signal_container(signal)?;
        self.notify(&Occurrence::Signalled(signal));
        // A frozen process gets its signal only when it runs again.
        self.let_die();
        self.notify(&Occurrence::Ending);
        let seconds = timeout_seconds.unwrap_or(self.plan.stop_timeout_seconds);
        // What has been killed is not killed again.
        if signal != KILL
            && let Ok(seconds) = u64::try_from(seconds)
        {
            // A year is as good as for ever, and no addition can overflow.
            let end = Instant::now() + Duration::from_secs(seconds.min(365 * 24 * 3600));
            self.stop_deadline = Some(self.stop_deadline.map_or(end, |earlier| earlier.min(end)));
        }
        Ok(())
    }

    /// By the runtime that has made it: what runs may be a whole machine behind the process that is seen here.
    fn signal_container(&self, signal: i32) -> Result<(), Error> {
        let container = self.container()?;
        match self.plan.launch.external() {
            // A frozen one is asked by nobody but the kernel.
            Some(runtime) if !self.state.paused && runtime.kill(&self.plan.id, signal).is_ok() => Ok(()),
            _ => container.signal(signal),
        }
    }

    pub(crate) fn kill_container(&mut self) {
        if self.container().is_ok() {
            // The only error is that it has ended by itself.
            drop(self.signal_container(KILL));
            self.notify(&Occurrence::Signalled(KILL));
        }
        self.let_die();
    }

    pub(crate) fn let_die(&mut self) {
        if self.state.paused && self.confinement.thaw().is_ok() {
            self.set_paused(false);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        self.state.paused = paused;
        // `status` is exact in any case.
        drop(self.write_state());
    }
}
