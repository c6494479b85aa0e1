//! What parent and child tell each other until the program is executed, over a socket pair of packets.
//!
//! ```text
//! parent                                child (or its forerunner)
//!         <---------------- Born        only with a forerunner: pid of the child, and its descriptor
//!  Mapped ---------------->             only with a new user namespace
//!         <---------------- Map         only with an idmapped mount of what is mounted in the container, in a user namespace
//!  Go     ---------------->
//!         <---------------- Hooks       only with hooks: namespaces are made, root not yet pivoted
//!  Go     ---------------->
//!         <---------------- Listener    only with a filter that asks a supervisor; at any later point too
//!         <---------------- Ready       with the terminal's descriptor if there is one
//!  Go     ---------------->             from Created::start
//!         <---------------- (closed)    execve succeeded; the socket is close-on-exec
//! ```
//! In place of any answer the child may send `Failed` and end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::error::Error as SystemCall;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::error::{During, Error, Result};

/// Longest packet. An error's text is cut to fit.
const MAXIMUM: usize = 16 * 1024;

/// One end of the socket pair.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// What the child said before its forerunner said that it was born.
    early: RefCell<VecDeque<Up>>,
}

/// What the child says.
#[derive(Debug)]
pub(crate) enum Up {
    Born {
        pid: i32,
        pidfd: OwnedFd,
    },
    Hooks,
    /// Ids of this mount are to be mapped, which the container's user namespace has no right to: the plan's number of it.
    Map {
        index: u32,
        tree: OwnedFd,
    },
    Ready {
        terminal: Option<OwnedFd>,
    },
    Listener {
        listener: OwnedFd,
    },
    Failed(Error),
    /// The other end is gone: the program was executed, or the process has ended.
    Closed,
    /// The process has ended without having read all that it was told, so without having executed its program.
    Lost,
}

/// What the parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    Mapped,
    Go,
}

const BORN: u8 = b'B';
const HOOKS: u8 = b'H';
const MAP: u8 = b'I';
const READY: u8 = b'R';
const LISTENER: u8 = b'L';
const FAILED: u8 = b'F';
const MAPPED: u8 = b'M';
const GO: u8 = b'G';

pub(crate) fn pair() -> Result<(Channel, Channel)> {
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| SystemCall::new("socketpair(AF_UNIX, SOCK_SEQPACKET)", errno))
        .during(|| "make the channel between the runtime and the container")?;
    Ok((Channel::of(one), Channel::of(other)))
}

impl Channel {
    pub(crate) fn of(socket: OwnedFd) -> Self {
        Self { socket, early: RefCell::default() }
    }

    pub(crate) fn send_up(&self, message: &Up) -> Result<()> {
        match message {
            Up::Born { pid, pidfd } => {
                let mut packet = vec![BORN];
                packet.extend(pid.to_ne_bytes());
                self.send(&packet, Some(pidfd.as_fd()))
            }
            Up::Hooks => self.send(&[HOOKS], None),
            Up::Map { index, tree } => {
                let mut packet = vec![MAP];
                packet.extend(index.to_ne_bytes());
                self.send(&packet, Some(tree.as_fd()))
            }
            Up::Ready { terminal } => self.send(&[READY], terminal.as_ref().map(AsFd::as_fd)),
            Up::Listener { listener } => self.send(&[LISTENER], Some(listener.as_fd())),
            Up::Failed(error) => self.send(&encode(error), None),
            Up::Closed | Up::Lost => Ok(()),
        }
    }

    pub(crate) fn send_down(&self, message: Down) -> Result<()> {
        let byte = match message {
            Down::Mapped => MAPPED,
            Down::Go => GO,
        };
        self.send(&[byte], None)
    }

    /// The birth that a forerunner tells of. The child is as fast as its forerunner and may say something before; that is
    /// kept for [`Self::receive_up`].
    pub(crate) fn receive_born(&self) -> Result<Up> {
        let mut early = VecDeque::new();
        loop {
            match self.next_up()? {
                born @ Up::Born { .. } => {
                    *self.early.borrow_mut() = early;
                    return Ok(born);
                }
                // Nobody was born: why, the forerunner has said before.
                end @ (Up::Closed | Up::Lost) => {
                    return Ok(early.into_iter().find(|said| matches!(said, Up::Failed(_))).unwrap_or(end));
                }
                said => early.push_back(said),
            }
        }
    }

    pub(crate) fn receive_up(&self) -> Result<Up> {
        let early = self.early.borrow_mut().pop_front();
        early.map_or_else(|| self.next_up(), Ok)
    }

    fn next_up(&self) -> Result<Up> {
        let mut buffer = vec![0; MAXIMUM];
        let received = match self.receive(&mut buffer) {
            // The child ended without having read all that it was told. The kernel reports that once, and before the
            // child's own last words.
            Err(Errno::CONNRESET) => match self.receive(&mut buffer) {
                Ok((0, _)) => return Ok(Up::Lost),
                other => other,
            },
            other => other,
        };
        let (length, descriptor) = received
            .map_err(|errno| SystemCall::new("recvmsg(<channel>)", errno))
            .during(|| "hear from the container")?;
        Ok(match (buffer[..length].split_first(), descriptor) {
            (None, _) => Up::Closed,
            (Some((&BORN, rest)), Some(pidfd)) => match rest.try_into() {
                Ok(bytes) => Up::Born { pid: i32::from_ne_bytes(bytes), pidfd },
                Err(_) => Up::Failed(Error::Vanished("a garbled message".to_owned())),
            },
            (Some((&HOOKS, _)), _) => Up::Hooks,
            (Some((&MAP, rest)), Some(tree)) => match rest.try_into() {
                Ok(bytes) => Up::Map { index: u32::from_ne_bytes(bytes), tree },
                Err(_) => Up::Failed(Error::Vanished("a garbled message".to_owned())),
            },
            (Some((&READY, _)), terminal) => Up::Ready { terminal },
            (Some((&LISTENER, _)), Some(listener)) => Up::Listener { listener },
            (Some((&FAILED, rest)), _) => Up::Failed(decode(rest)),
            _ => Up::Failed(Error::Vanished("a garbled message".to_owned())),
        })
    }

    /// Waits for a message of the parent. A parent that is gone ends the wait with an error.
    pub(crate) fn wait_for(&self, wanted: Down) -> Result<()> {
        let mut buffer = [0; 8];
        let answer = self.receive(&mut buffer);
        let expected = if wanted == Down::Go { GO } else { MAPPED };
        match answer {
            Ok((1, _)) if buffer[0] == expected => Ok(()),
            Ok(_) => Err(SystemCall::new("recvmsg(<channel>)", Errno::CONNRESET)),
            Err(errno) => Err(SystemCall::new("recvmsg(<channel>)", errno)),
        }
        .during(|| "wait for the runtime")
    }

    fn send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            // The space is for exactly one, so it is never refused.
            let _ = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)
        })
        .map(drop)
        .map_err(|errno| SystemCall::new("sendmsg(<channel>)", errno))
        .during(|| "tell the other side of the channel")
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptor = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next();
            }
        }
        Ok((received.bytes, descriptor))
    }
}

/// An [`Error`] on its way.
#[derive(Serialize, Deserialize)]
enum Failure {
    Step { step: String, call: String, errno: i32, log: Vec<String> },
    Refused(String),
    Locked { source_path: String, destination: String, flags: String },
    NotFound { program: String, errno: i32 },
    NotExecutable { program: String, errno: i32 },
    Hook { kind: String, number: usize, path: String, outcome: String },
    Other(String),
}

fn encode(error: &Error) -> Vec<u8> {
    let failure = match error {
        Error::Step { step, source } => Failure::Step {
            step: step.clone(),
            call: source.call().to_owned(),
            errno: source.errno().raw_os_error(),
            log: source.log().to_vec(),
        },
        Error::Refused(text) => Failure::Refused(text.clone()),
        Error::Locked { source_path, destination, flags } => {
            Failure::Locked { source_path: source_path.clone(), destination: destination.clone(), flags: flags.clone() }
        }
        Error::NotFound { program, errno } => {
            Failure::NotFound { program: program.clone(), errno: errno.raw_os_error() }
        }
        Error::NotExecutable { program, errno } => {
            Failure::NotExecutable { program: program.clone(), errno: errno.raw_os_error() }
        }
        Error::Hook { kind, number, path, outcome } => {
            Failure::Hook { kind: kind.clone(), number: *number, path: path.clone(), outcome: outcome.clone() }
        }
        Error::InParallel(error) | Error::NotLed(error) => Failure::Other(error.to_string()),
        Error::Criu(error) => Failure::Other(error.to_string()),
        Error::Vanished(text) => Failure::Other(text.clone()),
    };
    let mut packet = vec![FAILED];
    // Texts and numbers cannot fail to be written to memory.
    serde_json::to_writer(&mut packet, &failure).ok();
    if packet.len() > MAXIMUM {
        packet.truncate(1);
        serde_json::to_writer(&mut packet, &failure.shortened()).ok();
    }
    packet
}

impl Failure {
    /// The same kind of error, by which callers choose what they do, about a name of 70 kB: the beginning and the end of it.
    fn shortened(self) -> Self {
        let short = |text: String| {
            let letters: Vec<char> = text.chars().collect();
            match letters.len() {
                0..=300 => text,
                length => letters[..150].iter().chain(&['…']).chain(&letters[length - 150..]).collect(),
            }
        };
        match self {
            Self::Step { step, call, errno, log } => {
                let log = log.into_iter().take(3).map(short).collect();
                Self::Step { step: short(step), call: short(call), errno, log }
            }
            Self::Refused(text) => Self::Refused(short(text)),
            Self::Locked { source_path, destination, flags } => {
                Self::Locked { source_path: short(source_path), destination: short(destination), flags: short(flags) }
            }
            Self::NotFound { program, errno } => Self::NotFound { program: short(program), errno },
            Self::NotExecutable { program, errno } => Self::NotExecutable { program: short(program), errno },
            Self::Hook { kind, number, path, outcome } => {
                Self::Hook { kind: short(kind), number, path: short(path), outcome: short(outcome) }
            }
            Self::Other(text) => Self::Other(short(text)),
        }
    }
}

fn decode(packet: &[u8]) -> Error {
    match serde_json::from_slice(packet) {
        Ok(Failure::Step { step, call, errno, log }) => {
            Error::Step { step, source: SystemCall::new(call, Errno::from_raw_os_error(errno)).with_log(log) }
        }
        Ok(Failure::Refused(text)) => Error::Refused(text),
        Ok(Failure::Locked { source_path, destination, flags }) => Error::Locked { source_path, destination, flags },
        Ok(Failure::NotFound { program, errno }) => Error::NotFound { program, errno: Errno::from_raw_os_error(errno) },
        Ok(Failure::NotExecutable { program, errno }) => {
            Error::NotExecutable { program, errno: Errno::from_raw_os_error(errno) }
        }
        Ok(Failure::Hook { kind, number, path, outcome }) => Error::Hook { kind, number, path, outcome },
        Ok(Failure::Other(text)) => Error::Vanished(text),
        Err(error) => Error::Vanished(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_as_it_was_sent() {
        let source = SystemCall::new("fsmount(proc, 0)", Errno::PERM).with_log(vec!["e proc: no".to_owned()]);
        let error = Error::Step { step: "mount proc on /proc".to_owned(), source };
        let (one, other) = pair().unwrap();
        one.send_up(&Up::Failed(error)).unwrap();
        let Up::Failed(arrived) = other.receive_up().unwrap() else { panic!("no failure") };
        let source = std::error::Error::source(&arrived).unwrap();
        assert_eq!(arrived.to_string(), "mount proc on /proc");
        assert_eq!(source.to_string(), "fsmount(proc, 0): EPERM (Operation not permitted); kernel: e proc: no");
        drop(one);
        assert!(matches!(other.receive_up().unwrap(), Up::Closed));
    }

    #[test]
    fn a_long_error_keeps_its_kind_and_number() {
        let (one, other) = pair().unwrap();
        let long = "\u{1}".repeat(70_000);
        let step =
            || Error::Step { step: format!("begin {long}"), source: SystemCall::new(&*long, Errno::NAMETOOLONG) };
        let program = || Error::NotExecutable { program: long.clone(), errno: Errno::TOOBIG };
        for error in [step(), program(), Error::Refused(long.clone())] {
            one.send_up(&Up::Failed(error)).unwrap();
        }
        let arrived: Vec<Error> = (0..3)
            .map(|_| match other.receive_up().unwrap() {
                Up::Failed(error) => error,
                _ => panic!("no failure"),
            })
            .collect();
        assert_eq!(arrived[0].errno(), Some(Errno::NAMETOOLONG));
        assert!(arrived[0].to_string().starts_with("begin "));
        assert_eq!((arrived[1].is_not_executable(), arrived[1].errno()), (true, Some(Errno::TOOBIG)));
        assert!(matches!(&arrived[2], Error::Refused(text) if text.chars().count() == 301));
    }

    #[test]
    fn last_words_arrive_although_the_child_did_not_listen() {
        let (child, parent) = pair().unwrap();
        parent.send_down(Down::Go).unwrap();
        child.send_up(&Up::Failed(Error::Refused("no".to_owned()))).unwrap();
        drop(child);
        assert!(matches!(parent.receive_up().unwrap(), Up::Failed(_)));
        let (child, parent) = pair().unwrap();
        parent.send_down(Down::Go).unwrap();
        drop(child);
        assert!(matches!(parent.receive_up().unwrap(), Up::Lost));
    }
}
