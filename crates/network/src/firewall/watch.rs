//! Noticing that somebody changed rules: `nft flush ruleset`, a firewall that was loaded anew.
//!
//! The kernel tells every change of rules in the network namespace to those who listen (`NFNLGRP_NFTABLES`). Only what removes
//! something of ours matters.

use super::rules::TABLE;
use crate::error::{Error, failed};
use crate::netlink::{Attributes, Socket};
use crate::nft;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// What removes: table, chain, rule, set, element.
const REMOVALS: [u16; 5] = [2, 5, 8, 11, 14];

/// A socket to be polled for reading; see the head of the module.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Watch {
    /// Begins to listen, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` over the namespace.
    pub fn open() -> Result<Watch, Error> {
        let socket = nft::open()?;
        socket
            .join(GROUP)
            .map_err(|errno| failed("setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)", errno))?;
        Ok(Watch { socket })
    }

    /// Reads what was told without waiting. `true` when something was removed from one of our tables, by whomever (our own
    /// `unpublish` too): then [`crate::ensure_rules`] is to be called.
    ///
    /// # Errors
    /// The kernel's refusal to read. That it told more than the socket could hold is no error but `true`.
    pub fn is_touched(&mut self) -> Result<bool, Error> {
        let mut touched = false;
        loop {
            let read = self.socket.try_receive(|kind, payload| {
                let is_removal = kind >> 8 == 10 && REMOVALS.contains(&(kind & 0xff));
                let attributes = Attributes(payload.get(4..).unwrap_or_default());
                touched |= is_removal && attributes.text(1).as_deref() == Some(TABLE);
            });
            match read {
                Ok(()) => {}
                Err(failure) if failure.errno == Errno::AGAIN => return Ok(touched),
                Err(failure) if failure.errno == Errno::NOBUFS => touched = true,
                Err(failure) => return Err(failed("recvfrom(NETLINK_NETFILTER)", failure.errno)),
            }
        }
    }
}
