//! The other side of the protocol: what the engine and the command line call.
//!
//! Everything here blocks but [`Connection::try_receive`], for front ends that poll the connection's descriptor.

mod pending;

pub use pending::Pending;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::error::{Call, Error, Failure, Kind};
use crate::log_file::Stream;
use crate::plan::MonitorPlan;
use crate::record::{Exit, State};
use crate::run_directory;
use crate::wire::{Attach, Exec, Frame, HEADER, LogPosition, MESSAGE_LIMIT, Reply, Request, Size};

/// Bytes read from the monitor at once: a frame of it with its header.
const READ: usize = (64 << 10) + HEADER;

/// A connection: first for one request, then, once attached, for the streams of a process.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    terminal: bool,
    log: Option<LogPosition>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    kind: Frame,
    left: usize,
}

/// Whether a monitor lives for this container. Asks the lock, so it is right however a monitor ended.
#[must_use]
pub fn is_alive(run_directory: &Path) -> bool {
    run_directory::is_held(run_directory)
}

/// [`Connection::resize`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn resize(run_directory: &Path, session: Option<&str>, size: Size) -> Result<(), Error> {
    Connection::open(run_directory)?.resize(session, size)
}

/// [`Connection::signal`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn signal(run_directory: &Path, session: Option<&str>, signal: i32) -> Result<(), Error> {
    Connection::open(run_directory)?.signal(session, signal)
}

/// [`Connection::stop`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn stop(run_directory: &Path, signal: Option<i32>, timeout_seconds: Option<i64>) -> Result<Exit, Error> {
    Connection::open(run_directory)?.stop(signal, timeout_seconds)
}

/// [`Connection::wait`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn wait(run_directory: &Path, session: Option<&str>) -> Result<Exit, Error> {
    Connection::open(run_directory)?.wait(session)
}

/// [`Connection::pause`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn pause(run_directory: &Path) -> Result<(), Error> {
    Connection::open(run_directory)?.pause()
}

/// [`Connection::unpause`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn unpause(run_directory: &Path) -> Result<(), Error> {
    Connection::open(run_directory)?.unpause()
}

/// Lets a running container join or leave networks.
///
/// # Errors
/// [`Kind::NotRunning`], the kernel's refusal, or [`Error::NoMonitor`].
pub fn change_network(run_directory: &Path, change: crate::plan::NetworkChange) -> Result<(), Error> {
    Connection::open(run_directory)?.change_network(change)
}

/// [`Connection::status`] on a new connection.
///
/// # Errors
/// As there, and [`Error::NoMonitor`].
pub fn status(run_directory: &Path) -> Result<State, Error> {
    Connection::open(run_directory)?.status()
}

impl From<OwnedFd> for Connection {
    /// Our end of the control connection of a monitor that is being started.
    fn from(socket: OwnedFd) -> Self {
        Self { socket, terminal: false, log: None, buffer: Vec::new(), start: 0, end: 0, kind: Frame::Stdout, left: 0 }
    }
}

impl Connection {
    /// Connects to the monitor of the container with this run directory.
    ///
    /// # Errors
    /// [`Error::NoMonitor`] when none answers.
    pub fn open(run_directory: &Path) -> Result<Self, Error> {
        run_directory::connect(run_directory).map(Self::from)
    }

    /// For a control connection: hands the monitor its plan.
    ///
    /// # Errors
    /// A broken connection, or a plan of more than [`MESSAGE_LIMIT`] bytes.
    pub fn send_plan(&self, plan: &MonitorPlan) -> Result<(), Error> {
        self.send_message(plan, "write plan")
    }

    /// For a control connection: waits until the container runs, and returns its pid. If the plan said so, the connection
    /// is attached from then on.
    ///
    /// # Errors
    /// [`Error::Remote`] with the reason why it does not run, [`Error::Closed`] when the monitor died.
    pub fn started(&self) -> Result<i32, Error> {
        self.started_with_warnings().map(|(pid, _)| pid)
    }

    /// [`Self::started`], with what was asked for and is not in force.
    ///
    /// # Errors
    /// As there.
    pub fn started_with_warnings(&self) -> Result<(i32, Vec<String>), Error> {
        match self.reply()? {
            Reply::Started { pid, warnings } => Ok((pid, warnings)),
            other => Err(unexpected(&other)),
        }
    }

    /// Joins the container's streams.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], or a broken connection.
    pub fn attach(mut self, attach: Attach) -> Result<Self, Error> {
        match self.call(&Request::Attach(attach))? {
            Reply::Attached { terminal, log } => {
                (self.terminal, self.log) = (terminal, log);
                Ok(self)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// After [`Self::attach`]: whether the process has a terminal.
    #[must_use]
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// After [`Self::attach`]: where the log ended at that moment. What came before is in the log up to here, what comes
    /// after is in the frames.
    #[must_use]
    pub fn log_position(&self) -> Option<LogPosition> {
        self.log
    }

    /// Starts a process in the container; returns its pid when it has been executed. If the request said so, the connection
    /// is attached from then on.
    ///
    /// # Errors
    /// [`Kind::NotFound`] and [`Kind::NotExecutable`] for the program, [`Kind::NotRunning`] for the container.
    pub fn exec(self, exec: Exec) -> Result<(i32, Self), Error> {
        match self.call(&Request::Exec(Box::new(exec)))? {
            Reply::Started { pid, .. } => Ok((pid, self)),
            other => Err(unexpected(&other)),
        }
    }

    /// Tells a terminal its size; `session` is an exec session, `None` the container.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where there is no terminal.
    pub fn resize(self, session: Option<&str>, size: Size) -> Result<(), Error> {
        self.done(&Request::Resize { session: session.map(str::to_owned), size })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], [`Kind::Invalid`] for a number that is no signal.
    pub fn signal(self, session: Option<&str>, signal: i32) -> Result<(), Error> {
        self.done(&Request::Signal { session: session.map(str::to_owned), signal })
    }

    /// Stops the container and waits for its end. `None` means what the plan says.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], or a broken connection.
    pub fn stop(self, signal: Option<i32>, timeout_seconds: Option<i64>) -> Result<Exit, Error> {
        self.exited(&Request::Stop { signal, timeout_seconds })
    }

    /// Stops the container and starts it again; returns its new pid.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], the reason why it does not run again, or a broken connection.
    pub fn restart(self, signal: Option<i32>, timeout_seconds: Option<i64>) -> Result<i32, Error> {
        match self.call(&Request::Restart { signal, timeout_seconds })? {
            Reply::Started { pid, .. } => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    /// Replaces [`MonitorPlan::caller`].
    ///
    /// # Errors
    /// A broken connection.
    pub fn tell(self, value: serde_json::Value) -> Result<(), Error> {
        self.done(&Request::Tell { value })
    }

    /// Waits for the end of the container or of an exec session.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an unknown session, [`Error::Closed`] when the monitor ended first: then the exit record tells.
    pub fn wait(self, session: Option<&str>) -> Result<Exit, Error> {
        self.exited(&Request::Wait { session: session.map(str::to_owned) })
    }

    /// Lets the container join or leave networks.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], or the kernel's refusal.
    pub fn change_network(self, change: crate::plan::NetworkChange) -> Result<(), Error> {
        self.done(&Request::Network(Box::new(change)))
    }

    /// For a control connection, after the plan: hands over the sockets that hold published ports.
    ///
    /// # Errors
    /// A broken connection.
    pub fn send_sockets(&self, sockets: &[OwnedFd]) -> Result<(), Error> {
        for some in sockets.chunks(crate::handover::SOCKETS_AT_ONCE) {
            let fds: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
            rustix::net::sendmsg(&self.socket, &[IoSlice::new(b".")], &mut ancillary, SendFlags::NOSIGNAL)
                .call(|| format!("sendmsg(<control>, SCM_RIGHTS of {})", fds.len()))?;
        }
        Ok(())
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], or the cgroup's error.
    pub fn pause(self) -> Result<(), Error> {
        self.done(&Request::Pause)
    }

    /// Lets the container go on.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], or the cgroup's error.
    pub fn unpause(self) -> Result<(), Error> {
        self.done(&Request::Unpause)
    }

    /// What runs.
    ///
    /// # Errors
    /// A broken connection.
    pub fn status(self) -> Result<State, Error> {
        match self.call(&Request::Status)? {
            Reply::Status(state) => Ok(*state),
            other => Err(unexpected(&other)),
        }
    }

    fn done(self, request: &Request) -> Result<(), Error> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn exited(self, request: &Request) -> Result<Exit, Error> {
        match self.call(request)? {
            Reply::Exited(exit) => Ok(exit),
            other => Err(unexpected(&other)),
        }
    }

    fn call(&self, request: &Request) -> Result<Reply, Error> {
        self.send_message(request, "write request")?;
        self.reply()
    }

    fn send_message(&self, message: &impl serde::Serialize, what: &str) -> Result<(), Error> {
        let json = serde_json::to_vec(message).map_err(|source| Error::Json { what: what.to_owned(), source })?;
        if json.len() > MESSAGE_LIMIT {
            let message = format!("{what}: {} bytes are more than {MESSAGE_LIMIT}", json.len());
            return Err(Error::refused(Kind::Invalid, message));
        }
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
        send_all(&self.socket, &length, &json)
    }

    fn reply(&self) -> Result<Reply, Error> {
        let mut length = [0; 4];
        receive_exact(&self.socket, &mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_LIMIT {
            return Err(Error::Protocol(format!("reply of {length} bytes, more than {MESSAGE_LIMIT}")));
        }
        let mut json = vec![0; length];
        receive_exact(&self.socket, &mut json)?;
        match serde_json::from_slice(&json) {
            Ok(Reply::Failed(failure)) => Err(Error::Remote(failure)),
            Ok(reply) => Ok(reply),
            Err(source) => Err(Error::Json { what: "read reply".to_owned(), source }),
        }
    }
}

/// What comes from an attached process.
#[derive(Debug)]
pub enum Event<'a> {
    /// Output, as much as is there; not necessarily a whole frame, never empty.
    Output(Stream, &'a [u8]),
    /// The process has ended, and this was all of its output.
    Exit(Exit),
    /// The monitor ends the attachment, the process goes on.
    Failed(Failure),
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Once attached.
impl Connection {
    /// The next event; waits for it. `None` when the monitor has closed the connection.
    ///
    /// # Errors
    /// A broken connection.
    pub fn receive(&mut self) -> Result<Option<Event<'_>>, Error> {
        while !self.is_ready()? {
            if !self.fill(RecvFlags::empty())? {
                return Ok(None);
            }
        }
        self.take()
    }

    /// The next event that is complete already; waits for nothing. `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Closed`] when the monitor has closed the connection, or another broken connection.
    pub fn try_receive(&mut self) -> Result<Option<Event<'_>>, Error> {
        while !self.is_ready()? {
            match self.fill(RecvFlags::DONTWAIT) {
                Ok(true) => {}
                Ok(false) => return Err(Error::Closed),
                Err(Error::System { errno, .. }) if errno.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        self.take()
    }

    /// Sends input; waits until it has been taken.
    ///
    /// # Errors
    /// A broken connection.
    pub fn send_input(&self, data: &[u8]) -> Result<(), Error> {
        data.chunks(64 << 10).try_for_each(|chunk| self.send(Frame::Stdin, chunk))
    }

    /// Says that no more input comes; output goes on.
    ///
    /// # Errors
    /// A broken connection.
    pub fn close_input(&self) -> Result<(), Error> {
        self.send(Frame::CloseStdin, &[])
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// A broken connection.
    pub fn send(&self, kind: Frame, payload: &[u8]) -> Result<(), Error> {
        send_all(&self.socket, &kind.header(payload.len()), payload)
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether [`Self::take`] has something to return. Reads the header when it has come.
    fn is_ready(&mut self) -> Result<bool, Error> {
        loop {
            if self.left == 0 {
                let Some(header) = self.pending().first_chunk().copied() else { return Ok(false) };
                (self.kind, self.left) = Frame::parse(header)?;
                self.start += HEADER;
                if self.left == 0 {
                    continue;
                }
            }
            return Ok(match self.kind {
                Frame::Stdout | Frame::Stderr => !self.pending().is_empty(),
                _ => self.pending().len() >= self.left,
            });
        }
    }

    fn take(&mut self) -> Result<Option<Event<'_>>, Error> {
        let n = self.left.min(self.end - self.start);
        let part = self.start..self.start + n;
        self.start += n;
        self.left -= n;
        let part = &self.buffer[part];
        let json = |source| Error::Json { what: "read frame".to_owned(), source };
        Ok(Some(match self.kind {
            Frame::Stdout => Event::Output(Stream::Stdout, part),
            Frame::Stderr => Event::Output(Stream::Stderr, part),
            Frame::Exit => Event::Exit(serde_json::from_slice(part).map_err(json)?),
            Frame::Error => Event::Failed(serde_json::from_slice(part).map_err(json)?),
            other => return Err(Error::Protocol(format!("a monitor may not send frames of kind {}", other as u8))),
        }))
    }

    /// Reads more. `false` when the monitor has closed the connection.
    fn fill(&mut self, flags: RecvFlags) -> Result<bool, Error> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let room = READ.max(self.end + self.left.max(HEADER));
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        loop {
            match rustix::net::recv(&self.socket, &mut self.buffer[self.end..], flags) {
                Ok((n, _)) => {
                    self.end += n;
                    return Ok(n > 0);
                }
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(error).call(|| "recvfrom(<monitor.sock>)".to_owned()),
            }
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("unexpected reply {reply:?}"))
}

fn send_all(socket: &OwnedFd, head: &[u8], body: &[u8]) -> Result<(), Error> {
    let (mut head, mut body) = (head, body);
    while !head.is_empty() || !body.is_empty() {
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        match rustix::net::sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
            Ok(n) => {
                let of_head = n.min(head.len());
                (head, body) = (&head[of_head..], &body[n - of_head..]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(Error::Closed),
            Err(error) => return Err(error).call(|| "sendmsg(<monitor.sock>)".to_owned()),
        }
    }
    Ok(())
}

fn receive_exact(socket: &OwnedFd, mut buffer: &mut [u8]) -> Result<(), Error> {
    while !buffer.is_empty() {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Err(Error::Closed),
            Ok((n, _)) => buffer = &mut buffer[n..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).call(|| "recvfrom(<monitor.sock>)".to_owned()),
        }
    }
    Ok(())
}
