//! Waiting for an end without blocking, for front ends that wait for thousands.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Connection;
use crate::error::{Call, Error};
use crate::record::Exit;
use crate::wire::{MESSAGE_LIMIT, Reply, Request};

/// The answer to a request to wait, which comes when the process ends.
#[derive(Debug)]
pub struct Pending {
    connection: Connection,
    inbox: Vec<u8>,
}

impl Connection {
    /// Asks for the end of the container, or of an exec session, without waiting for it.
    ///
    /// # Errors
    /// A broken connection.
    pub fn begin_wait(self, session: Option<&str>) -> Result<Pending, Error> {
        self.send_message(&Request::Wait { session: session.map(str::to_owned) }, "write request")?;
        Ok(Pending { connection: self, inbox: Vec::new() })
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl Pending {
    /// How the process ended; `None` when it has not. Waits for nothing: poll the descriptor for input first.
    ///
    /// # Errors
    /// [`Error::Closed`] when the monitor ended first: then the exit record tells. What the monitor refused.
    pub fn try_exit(&mut self) -> Result<Option<Exit>, Error> {
        loop {
            if let Some(exit) = self.complete()? {
                return Ok(Some(exit));
            }
            let mut part = [0; 1024];
            match rustix::net::recv(&self.connection.socket, &mut part[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(Error::Closed),
                Ok((n, _)) => self.inbox.extend_from_slice(&part[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error).call(|| "recvfrom(<monitor.sock>)".to_owned()),
            }
        }
    }

    fn complete(&self) -> Result<Option<Exit>, Error> {
        let Some((length, rest)) = self.inbox.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_LIMIT {
            return Err(Error::Protocol(format!("reply of {length} bytes, more than {MESSAGE_LIMIT}")));
        }
        let Some((json, _)) = rest.split_at_checked(length) else { return Ok(None) };
        match serde_json::from_slice(json) {
            Ok(Reply::Exited(exit)) => Ok(Some(exit)),
            Ok(Reply::Failed(failure)) => Err(Error::Remote(failure)),
            Ok(other) => Err(super::unexpected(&other)),
            Err(source) => Err(Error::Json { what: "read reply".to_owned(), source }),
        }
    }
}
