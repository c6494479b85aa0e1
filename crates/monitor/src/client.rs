//! The other side of the protocol: what the engine and the command line call.
//!
//! Everything here blocks. [`Attachment::fd`] is there for front ends that poll.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::error::{Call, Error, Failure, Kind};
use crate::log_file::Stream;
use crate::record::{Exit, State};
use crate::run_directory;
use crate::wire::{Attach, Exec, Frame, HEADER, LogPosition, MESSAGE_LIMIT, Reply, Request, Size};

/// Bytes read from the monitor at once: a frame of it with its header.
const READ: usize = (64 << 10) + HEADER;

/// A connection on which a request can be made.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

/// Whether a monitor lives for this container. Asks the lock, so it is right however a monitor ended.
#[must_use]
pub fn is_alive(run_directory: &Path) -> bool {
    run_directory::is_held(run_directory)
}

impl Connection {
    /// Connects to the monitor of the container with this run directory.
    ///
    /// # Errors
    /// [`Error::NoMonitor`] when none answers.
    pub fn open(run_directory: &Path) -> Result<Self, Error> {
        Ok(Self { socket: run_directory::connect(run_directory)? })
    }

    /// Our end of the control connection of a monitor that is being started.
    #[must_use]
    pub fn control(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// For a control connection: waits until the container runs, and returns its pid. The connection is an attachment from
    /// then on, if the plan said so.
    ///
    /// # Errors
    /// [`Error::Remote`] with the reason why it does not run, [`Error::Closed`] when the monitor died.
    pub fn started(self) -> Result<(i32, Attachment), Error> {
        match self.receive()? {
            Reply::Started { pid } => Ok((pid, Attachment::new(self.socket))),
            other => Err(unexpected(&other)),
        }
    }

    /// Joins the container's streams.
    ///
    /// # Errors
    /// [`Kind::NotRunning`], or a broken connection.
    pub fn attach(self, attach: Attach) -> Result<Attached, Error> {
        match self.call(&Request::Attach(attach))? {
            Reply::Attached { terminal, log } => {
                Ok(Attached { attachment: Attachment::new(self.socket), terminal, log })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a process in the container; returns its pid when it has been executed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] and [`Kind::NotExecutable`] for the program, [`Kind::NotRunning`] for the container.
    pub fn exec(self, exec: Exec) -> Result<(i32, Attachment), Error> {
        match self.call(&Request::Exec(Box::new(exec)))? {
            Reply::Started { pid } => Ok((pid, Attachment::new(self.socket))),
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
        let exit = self.exited(&Request::Stop { signal, timeout_seconds })?;
        self.until_clean()?;
        Ok(exit)
    }

    /// Waits for the end of the container or of an exec session.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an unknown session, [`Error::Closed`] when the monitor ended first: then the exit record tells.
    pub fn wait(self, session: Option<&str>) -> Result<Exit, Error> {
        let exit = self.exited(&Request::Wait { session: session.map(str::to_owned) })?;
        if session.is_none() {
            self.until_clean()?;
        }
        Ok(exit)
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
            Reply::Status(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    fn done(self, request: &Request) -> Result<(), Error> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn exited(&self, request: &Request) -> Result<Exit, Error> {
        match self.call(request)? {
            Reply::Exited(exit) => Ok(exit),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the monitor closes the connection, which it does when it has cleaned up behind the container: whoever
    /// looks next sees the end recorded.
    fn until_clean(&self) -> Result<(), Error> {
        let mut rest = [0; 64];
        loop {
            match rustix::net::recv(&self.socket, &mut rest, RecvFlags::empty()) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).call(|| "recvfrom(<monitor.sock>)".to_owned()),
            }
        }
    }

    fn call(&self, request: &Request) -> Result<Reply, Error> {
        let json =
            serde_json::to_vec(request).map_err(|source| Error::Json { what: "write request".to_owned(), source })?;
        if json.len() > MESSAGE_LIMIT {
            let message = format!("the request has {} bytes, more than {MESSAGE_LIMIT}", json.len());
            return Err(Error::refused(Kind::Invalid, message));
        }
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
        send_all(&self.socket, &length, &json)?;
        self.receive()
    }

    fn receive(&self) -> Result<Reply, Error> {
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

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A container's streams, joined.
#[derive(Debug)]
pub struct Attached {
    /// The streams.
    pub attachment: Attachment,
    /// Whether the process has a terminal.
    pub terminal: bool,
    /// Where the log ended when joining: what came before is in the log up to here, what comes after is in the frames.
    pub log: Option<LogPosition>,
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

/// A connection that carries a process's streams.
#[derive(Debug)]
pub struct Attachment {
    socket: OwnedFd,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    kind: Frame,
    left: usize,
}

impl Attachment {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Vec::new(), start: 0, end: 0, kind: Frame::Stdout, left: 0 }
    }

    /// The socket, for polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

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
                Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
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

    /// After [`Event::Exit`]: waits until the monitor has cleaned up behind the container.
    ///
    /// # Errors
    /// A broken connection.
    pub fn wait_until_clean(mut self) -> Result<(), Error> {
        while self.receive()?.is_some() {}
        Ok(())
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
