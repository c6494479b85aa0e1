//! One round of the monitor's loop: wait for descriptors and deadlines, then do everything that is ready.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::Signal;

use crate::error::{Call, Error};
use crate::log_file::Stream;
use crate::peer::{Peer, Piece, Role};
use crate::supervisor::{CONTAINER, Monitor};
use crate::wire::{Frame, Reply};

/// Reads from one stream before others have their turn.
const TURNS: usize = 8;
/// What may be kept for a client of a process that has ended, in bytes.
const KEPT_AT_END: usize = 1 << 20;
/// Bytes taken from a client at once.
const INPUT: usize = 16 << 10;

/// Connections at once; more wait in the socket's queue, and this process does not run out of descriptors.
const PEERS: usize = 256;

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Guard,
    Listener,
    Names,
    Signals,
    Process,
    Output(u32, Stream),
    Input(u32),
    Peer(usize),
    Orphan(usize),
    Relay,
    Compressor,
    Forward,
}

impl Source {
    /// Whether it only hands bytes on, in buffers that are there.
    fn is_traffic(self) -> bool {
        matches!(self, Source::Output(..) | Source::Input(_) | Source::Names | Source::Relay | Source::Forward)
    }
}

#[derive(Default)]
struct PollSet<'a> {
    sources: Vec<Source>,
    fds: Vec<PollFd<'a>>,
}

impl<'a> PollSet<'a> {
    fn add(&mut self, source: Source, fd: PollFd<'a>) {
        self.sources.push(source);
        self.fds.push(fd);
    }
}

impl Monitor {
    /// One round. `until` bounds the waiting.
    ///
    /// A monitor waits here for days, and this frame stays: what there is to do has frames of its own.
    #[inline(never)]
    pub(crate) fn turn(&mut self, until: Option<Instant>) -> Result<(), Error> {
        let ready = self.wait(until)?;
        self.work(ready);
        Ok(())
    }

    #[inline(never)]
    fn work(&mut self, ready: Vec<(Source, PollFlags)>) {
        let (mut process_ended, mut names, mut guard, mut relay) = (false, false, false, false);
        for (source, flags) in ready {
            if !source.is_traffic() {
                self.rest_later();
            }
            match source {
                Source::Guard => guard = true,
                Source::Listener => self.accept(),
                Source::Names => names = true,
                Source::Relay => relay = true,
                Source::Signals => self.take_signals(),
                Source::Process => process_ended = true,
                Source::Output(session, stream) => self.pump(session, stream),
                Source::Input(session) => {
                    if let Some(session) = self.sessions.get_mut(&session) {
                        session.flush_stdin();
                    }
                }
                Source::Peer(index) => self.serve(index, flags),
                Source::Orphan(index) => self.drain_orphan(index),
                Source::Compressor => self.log.compressed(),
                Source::Forward => self.log.flush_forward(),
            }
        }
        self.orphans.retain(Option::is_some);
        if process_ended {
            self.reap();
        }
        self.keep_deadlines();
        self.keep_health();
        self.serve_networks(names, guard, relay);
        self.end_exec_sessions();
        self.drop_peers();
    }

    fn wait(&self, until: Option<Instant>) -> Result<Vec<(Source, PollFlags)>, Error> {
        let mut set = PollSet::default();
        set.add(Source::Signals, PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN));
        if self.peers.len() < PEERS {
            set.add(Source::Listener, PollFd::new(&self.directory.listener, PollFlags::IN));
        }
        for (&key, session) in &self.sessions {
            if session.exit.is_none() {
                set.add(Source::Process, PollFd::new(&session.pidfd, PollFlags::IN));
            }
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(fd) = &session.outputs[stream as usize]
                    && self.may_read(key, session.exit.is_some())
                {
                    set.add(Source::Output(key, stream), PollFd::new(fd, PollFlags::IN));
                }
            }
            if let Some(fd) = session.stdin_fd()
                && session.stdin_waits()
            {
                set.add(Source::Input(key), PollFd::new(fd, PollFlags::OUT));
            }
        }
        for (index, peer) in self.peers.iter().enumerate() {
            set.add(Source::Peer(index), PollFd::from_borrowed_fd(peer.fd(), peer.interest(self.takes_input(peer))));
        }
        for (index, orphan) in self.orphans.iter().enumerate() {
            if let Some(fd) = orphan {
                set.add(Source::Orphan(index), PollFd::new(fd, PollFlags::IN));
            }
        }
        if let Some(names) = &self.networks.names {
            for (fd, interest) in names.fds() {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, interest.read);
                flags.set(PollFlags::OUT, interest.write);
                set.add(Source::Names, PollFd::from_borrowed_fd(fd, flags));
            }
        }
        if let Some(relay) = &self.networks.relay {
            set.add(Source::Relay, PollFd::new(relay, PollFlags::IN));
        }
        for fd in self.networks.guard.iter().flat_map(crate::guard::Guard::fds) {
            set.add(Source::Guard, PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(fd) = self.log.compressing() {
            set.add(Source::Compressor, PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(fd) = self.log.forwarding() {
            set.add(Source::Forward, PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        }
        let timeout = self.next_deadline(until).map(remaining);
        match rustix::event::poll(&mut set.fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).call(|| format!("ppoll([{} descriptors])", set.fds.len())),
        }
        let ready = set.sources.into_iter().zip(set.fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// Whether a session's output is read now: not while a client of it has not taken what it got before.
    fn may_read(&self, key: u32, ended: bool) -> bool {
        // A process that has ended writes no more; what is left is bounded by what a pipe holds.
        let limit = match self.plan.log.client_buffer {
            // It is cut off when it has left more than that, so nobody waits for it.
            Some(_) => usize::MAX,
            None if ended => KEPT_AT_END,
            None => 0,
        };
        if key == CONTAINER && self.log.is_full() {
            return false;
        }
        self.peers.iter().all(|peer| match peer.role {
            Role::Attached { session, attach }
                if session == key && (attach.streams.stdout || attach.streams.stderr) =>
            {
                peer.kept() <= limit
            }
            _ => true,
        })
    }

    /// Whether to read from a peer now: not while the input that came before waits for the process.
    fn takes_input(&self, peer: &Peer) -> bool {
        match peer.role {
            Role::Attached { session, .. } => self.sessions.get(&session).is_none_or(|session| !session.stdin_waits()),
            _ => true,
        }
    }

    fn next_deadline(&self, until: Option<Instant>) -> Option<Instant> {
        let drains = self.sessions.values().filter_map(crate::session::Session::drain_deadline);
        let patience = self.peers.iter().filter_map(Peer::deadline);
        let networks = [
            self.networks.names.as_ref().and_then(crate::names::NameServer::deadline),
            self.networks.guard.as_ref().and_then(crate::guard::Guard::deadline),
            self.networks.relay.as_ref().and_then(|relay| {
                let now = Instant::now();
                Some(now + relay.timeout(now)?)
            }),
        ];
        let own = drains
            .chain(patience)
            .chain(self.stop_deadline)
            .chain(self.health_deadline())
            .chain(self.rest)
            .chain(until);
        own.chain(networks.into_iter().flatten()).min()
    }

    /// The name server, the guard over the rules and the relay of ports: when a descriptor of theirs is ready, or their time has come.
    fn serve_networks(&mut self, names: bool, guard: bool, relay: bool) {
        let now = Instant::now();
        if let Some(server) = &mut self.networks.names
            && (names || server.is_due(now))
        {
            server.serve();
        }
        if let Some(each) = &mut self.networks.guard
            && (guard || each.deadline().is_some_and(|time| now >= time))
        {
            each.look();
        }
        if let Some(each) = &mut self.networks.relay
            && (relay || each.timeout(now).is_some_and(|time| time.is_zero()))
        {
            each.handle_ready(now);
        }
    }

    fn accept(&mut self) {
        let Ok(socket) = rustix::net::accept_with(&self.directory.listener, SocketFlags::CLOEXEC) else {
            // No descriptor left, or the client has gone already. It would be reported again at once.
            std::thread::sleep(Duration::from_millis(5));
            return;
        };
        let own = rustix::process::geteuid();
        let trusted =
            rustix::net::sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == own || peer.uid.is_root());
        if trusted {
            self.peers.push(Peer::new(socket));
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(delivered)) = self.signals.next() {
            if [Signal::TERM, Signal::INT].map(Signal::as_raw).contains(&delivered.signal) {
                // The machine goes down, or somebody wants this monitor to end: so must the container. Its processes' end
                // is watched as always, so an error here changes nothing.
                self.shutdown = true;
                drop(self.begin_stop(None, None));
            }
        }
    }

    /// Moves output from a session to its log and its clients.
    fn pump(&mut self, key: u32, stream: Stream) {
        let kind = match stream {
            Stream::Stdout => Frame::Stdout,
            Stream::Stderr => Frame::Stderr,
        };
        for _ in 0..TURNS {
            let Some(session) = self.sessions.get_mut(&key) else { return };
            let Some(n) = session.read_output(stream, &mut self.buffer) else { return };
            let ended = session.exit.is_some();
            if n == 0 {
                if key == CONTAINER {
                    self.log.end(stream);
                }
                return;
            }
            self.rest_after_output(n);
            let data = &self.buffer[..];
            for peer in &mut self.peers {
                if let Role::Attached { session, attach } = peer.role
                    && session == key
                    && (if stream == Stream::Stdout { attach.streams.stdout } else { attach.streams.stderr })
                {
                    peer.frame(kind, data);
                }
            }
            if key == CONTAINER {
                self.log.append(stream, data);
            } else {
                self.keep_probe_output(key, n);
            }
            if !self.may_read(key, ended) {
                return;
            }
        }
    }

    fn serve(&mut self, index: usize, flags: PollFlags) {
        let peer = &mut self.peers[index];
        if flags.intersects(PollFlags::OUT) {
            peer.flush();
        }
        if flags.intersects(PollFlags::IN) {
            let mut buffer = [0; INPUT];
            if let Some(data) = peer.receive(&mut buffer) {
                if let Err(error) = self.take(index, data) {
                    let peer = &mut self.peers[index];
                    peer.reply(&Reply::Failed(error.to_failure()));
                    peer.role = Role::Leaving;
                }
                return;
            }
        }
        // Both sides closed. What the other side sent before has been read: input is reported together with the hang-up.
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) && !flags.intersects(PollFlags::IN) {
            self.peers[index].gone = true;
        }
    }

    /// What a peer sent; nothing means that it sends no more.
    fn take(&mut self, index: usize, data: &[u8]) -> Result<(), Error> {
        let peer = &mut self.peers[index];
        match peer.role {
            Role::Asking if data.is_empty() => peer.gone = true,
            Role::Asking => {
                if let Some((request, rest)) = peer.take_request(data)? {
                    self.answer(index, request)?;
                    if !rest.is_empty() {
                        return self.take(index, &rest);
                    }
                }
            }
            Role::Attached { session, .. } if data.is_empty() => self.end_input(index, session),
            Role::Attached { session, .. } => return self.take_frames(index, session, data),
            Role::Waiting { .. } | Role::Restarting | Role::Leaving => {}
        }
        Ok(())
    }

    fn take_frames(&mut self, index: usize, key: u32, mut data: &[u8]) -> Result<(), Error> {
        let peer = &mut self.peers[index];
        let Role::Attached { attach, .. } = peer.role else { return Ok(()) };
        loop {
            match self.peers[index].frames.next(&mut data) {
                Ok(None) => return Ok(()),
                Ok(Some(Piece::Stdin(part))) => {
                    if attach.streams.stdin
                        && let Some(session) = self.sessions.get_mut(&key)
                    {
                        session.write_stdin(part);
                    }
                }
                Ok(Some(Piece::Resize(size))) => {
                    if let Some(terminal) = self.sessions.get(&key).and_then(|session| session.terminal.as_ref()) {
                        // A size that the terminal does not take is the client's loss alone.
                        drop(terminal.resize(size));
                    }
                }
                Ok(Some(Piece::CloseStdin)) => self.end_input(index, key),
                Ok(Some(Piece::Detach)) => {
                    self.peers[index].gone = true;
                    return Ok(());
                }
                Err(error) => {
                    self.cut_off(index, &error);
                    return Ok(());
                }
            }
        }
    }

    /// A client's input has ended; so does the session's, if it belongs to this client.
    fn end_input(&mut self, index: usize, key: u32) {
        if let Role::Attached { attach, .. } = self.peers[index].role
            && attach.streams.stdin
            && let Some(session) = self.sessions.get_mut(&key)
        {
            session.end_stdin();
        }
    }

    /// Ends an attachment that the client did not want to end.
    fn cut_off(&mut self, index: usize, error: &Error) {
        // A failure is text and always becomes JSON.
        let json = serde_json::to_vec(&error.to_failure()).unwrap_or_default();
        let peer = &mut self.peers[index];
        peer.frame(Frame::Error, &json);
        peer.gone = true;
    }

    fn drain_orphan(&mut self, index: usize) {
        let Some(Some(fd)) = self.orphans.get(index) else { return };
        self.buffer.clear();
        match rustix::io::read(fd, spare_capacity(&mut self.buffer)) {
            Ok(n) if n > 0 => {}
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.orphans[index] = None,
        }
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        if self.stop_deadline.is_some_and(|end| now >= end) {
            self.stop_deadline = None;
            self.kill_container();
        }
        if let Some(most) = self.plan.log.client_buffer {
            for index in 0..self.peers.len() {
                let peer = &self.peers[index];
                if peer.kept() > most && matches!(peer.role, Role::Attached { session: CONTAINER, .. }) {
                    let message = format!("this client left {most} bytes untaken and was cut off; the process goes on");
                    self.cut_off(index, &Error::refused(crate::error::Kind::Failed, message));
                }
            }
        }
        for index in 0..self.peers.len() {
            if self.peers[index].deadline().is_some_and(|end| now >= end) {
                let message = "this client took no output for so long that it was cut off; the process goes on";
                self.cut_off(index, &Error::refused(crate::error::Kind::Failed, message));
            }
        }
    }

    /// Forgets connections that are over.
    fn drop_peers(&mut self) {
        for index in 0..self.peers.len() {
            let peer = &self.peers[index];
            if let Role::Attached { session, .. } = peer.role
                && peer.gone
            {
                self.end_input(index, session);
            }
        }
        self.peers.retain(|peer| {
            let finished = matches!(peer.role, Role::Leaving) && peer.kept() == 0;
            !peer.gone && !finished
        });
    }
}

/// Time until `end`, for `ppoll`.
pub(crate) fn remaining(end: Instant) -> Timespec {
    let left = end.saturating_duration_since(Instant::now());
    // Cannot be out of range: deadlines are seconds away.
    Timespec::try_from(left).unwrap_or_default()
}
