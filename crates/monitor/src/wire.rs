//! The protocol on `monitor.sock` and on the control connection: its messages, and nothing about sending them.
//!
//! A connection is a Unix stream socket. The client sends one request, the monitor answers with one reply; after a reply
//! `attached` (or, with streams, `started`) both sides speak frames until one closes.
//!
//! ```text
//! client                                             monitor
//!   │  u32 BE length │ JSON Request ───────────────────► │   peer credentials: root or the monitor's own user
//!   │ ◄───────────────────── u32 BE length │ JSON Reply  │   one of: done started attached exited status failed
//!   │                                                    │
//!   │            only after attached / started:          │
//!   │  frame* ─────────────────────────────────────────► │   stdin(0) resize(3) close-stdin(4) detach(5)
//!   │ ◄───────────────────────────────────────── frame*  │   stdout(1) stderr(2) exit(6) error(7)
//!   │ ◄───────────────────────────────────────── close   │   exit is always the last frame
//!
//! frame:  ┌──────┬───┬───┬───┬───────────────┬─────────────┐
//!         │ kind │ 0 │ 0 │ 0 │ length u32 BE │ payload     │   the same eight bytes as Docker's multiplexed streams
//!         └──────┴───┴───┴───┴───────────────┴─────────────┘
//! ```
//!
//! - `wait` and `stop` are answered when the process has ended; the connection stays open so long.
//! - Closing the connection detaches; what is attached goes on. `close-stdin` is the half close.
//! - On the control connection there is no request: the monitor sends `started` or `failed` by itself, and frames follow if
//!   the plan says `attach_control`.
//! - The end of the container is told after its monitor has cleaned behind it, so whoever hears of it finds nothing left
//!   (`run --rm`). A connection that closes without `exit` or `exited` means that the monitor has died.
//!
//! Slow readers. Bytes that a client's socket does not take are kept, at most one read (64 KiB) for each client. While
//! something is kept, the session's output is not read, so its writer waits, exactly as if the client were a pipe. A client
//! that sets [`Attach::patience_seconds`] is cut off when it took nothing for that long; others then get everything. One
//! that does not, waits for ever, as `dhow run … | less` must. Copies in the log are complete in any case.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Failure};
use crate::record::{Exit, State};

/// Largest request or reply, in bytes.
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// Largest payload of a frame, in bytes.
pub const FRAME_LIMIT: usize = 1 << 20;
/// Length of a frame's header, in bytes.
pub const HEADER: usize = 8;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Frame {
    /// Input for the process.
    Stdin = 0,
    /// Output of the process; everything, when it has a terminal.
    Stdout = 1,
    /// Error output of the process.
    Stderr = 2,
    /// New size of the terminal: rows and columns, each u16 BE.
    Resize = 3,
    /// No more input will come.
    CloseStdin = 4,
    /// The client leaves. Closing the connection says the same.
    Detach = 5,
    /// The process has ended: JSON of [`Exit`].
    Exit = 6,
    /// The attachment ends for another reason: JSON of [`Failure`].
    Error = 7,
}

impl Frame {
    /// The header in front of `length` bytes of payload.
    #[must_use]
    pub fn header(self, length: usize) -> [u8; HEADER] {
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [self as u8, 0, 0, 0, a, b, c, d]
    }

    /// Reads a header: the kind, and the payload's length in bytes.
    ///
    /// # Errors
    /// An unknown kind, or a length over [`FRAME_LIMIT`].
    pub fn parse(header: [u8; HEADER]) -> Result<(Self, usize), Error> {
        let [kind, _, _, _, a, b, c, d] = header;
        let kind = match kind {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Resize,
            4 => Self::CloseStdin,
            5 => Self::Detach,
            6 => Self::Exit,
            7 => Self::Error,
            other => return Err(Error::Protocol(format!("frame of unknown kind {other}"))),
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_LIMIT {
            return Err(Error::Protocol(format!("frame of {length} bytes, more than {FRAME_LIMIT}")));
        }
        Ok((kind, length))
    }
}

/// Which of a process's streams a client is joined to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// The client's frames go to the standard input.
    pub stdin: bool,
    /// The standard output (with a terminal: everything) comes as frames.
    pub stdout: bool,
    /// The standard error comes as frames.
    pub stderr: bool,
}

impl Streams {
    /// All three.
    pub const ALL: Self = Self { stdin: true, stdout: true, stderr: true };
    /// Both outputs.
    pub const OUTPUT: Self = Self { stdin: false, stdout: true, stderr: true };

    /// Whether there is any.
    #[must_use]
    pub fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// How to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Which streams.
    pub streams: Streams,
    /// Cut the client off when it took no byte for so many seconds although some waited; `None` lets the process wait for
    /// it for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_seconds: Option<u32>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Size {
    /// Payload of a resize frame.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.rows.to_be_bytes(), self.columns.to_be_bytes());
        [a, b, c, d]
    }

    /// Reads the payload of a resize frame.
    #[must_use]
    pub fn from_bytes([a, b, c, d]: [u8; 4]) -> Self {
        Self { rows: u16::from_be_bytes([a, b]), columns: u16::from_be_bytes([c, d]) }
    }
}

/// A process to start inside the running container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Name of the session, chosen by the client; must not be in use.
    pub id: String,
    /// What to execute.
    pub process: crate::plan::ExecLaunch,
    /// Give it a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Size of that terminal from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Join this connection to it. Without, its streams are `/dev/null` (a terminal is drained) and nobody can attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<Attach>,
}

/// What a client asks for. `session` is the id of an exec session; without it the container's own process is meant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Join the container's streams. Reply: `attached`, then frames.
    Attach(Attach),
    /// Start a process in the container. Reply: `started`, then frames if attached.
    Exec(Box<Exec>),
    /// Tell a terminal its size. Reply: `done`.
    Resize {
        /// Which session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        /// The new size.
        size: Size,
    },
    /// Send a signal, through a pidfd, so it can never reach a stranger. Reply: `done`.
    Signal {
        /// Which session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        /// Signal number.
        signal: i32,
    },
    /// End the container: its stop signal, then SIGKILL after the timeout. Goes on when the client leaves. Reply: `exited`.
    Stop {
        /// Instead of the plan's stop signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Instead of the plan's timeout; negative waits for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_seconds: Option<i64>,
    },
    /// Stop the container and start it again. Reply: `started`, or `failed`, when that has been done.
    Restart {
        /// Instead of the plan's stop signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Instead of the plan's timeout; negative waits for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_seconds: Option<i64>,
    },
    /// Replaces [`crate::MonitorPlan::caller`]. Reply: `done`.
    Tell {
        /// The new value.
        value: serde_json::Value,
    },
    /// Wait for the end. Reply: `exited`, when it has come.
    Wait {
        /// Which session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    /// Freeze all processes of the container. Reply: `done`.
    Pause,
    /// Let them go on. Reply: `done`.
    Unpause,
    /// Join or leave networks. Reply: `done`.
    Network(Box<crate::plan::NetworkChange>),
    /// What is running. Reply: `status`.
    Status,
}

/// What the monitor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// It has been done.
    Done,
    /// The process runs.
    Started {
        /// Its number in the monitor's pid namespace.
        pid: i32,
        /// What was asked for and is not in force, a sentence each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// Frames follow.
    Attached {
        /// Whether the process has a terminal.
        terminal: bool,
        /// End of the log at the moment of attaching, for a client that wants what came before: it reads the log up to here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<LogPosition>,
    },
    /// The process has ended.
    Exited(Exit),
    /// What is running.
    Status(Box<State>),
    /// It could not be done.
    Failed(Failure),
}

/// A place in a log that may have been rotated since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Which file.
    pub identity: u64,
    /// Bytes from its start.
    pub offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_dockers() {
        assert_eq!(Frame::Stderr.header(0x0102), [2, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Frame::parse(Frame::Exit.header(9)).unwrap(), (Frame::Exit, 9));
        assert!(Frame::parse([8, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(Frame::parse([0, 0, 0, 0, 0xff, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_size_survives() {
        let size = Size { rows: 300, columns: 80 };
        assert_eq!(Size::from_bytes(size.to_bytes()), size);
    }
}
