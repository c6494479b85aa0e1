//! Noticing that somebody changed rules: `nft flush ruleset`, a firewall that was loaded anew.
//!
//! The kernel tells every change of rules in the network namespace to those who listen (`NFNLGRP_NFTABLES`). Only what removes
//! something of ours matters, or makes a forward chain that would not let us pass (ufw that is turned on, dockerd that starts), and
//! only if somebody else did it: each transaction ends with a message that names its process. And firewalld that starts, or loads its
//! rules anew, may not know our zone.

use super::rules::TABLE;
use super::{coexist, hold};
use crate::error::{Error, failed};
use crate::firewalld;
use crate::netlink::{Attributes, Socket};
use crate::nft;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// What removes: table, chain, rule, set, element.
const REMOVALS: [u16; 5] = [2, 5, 8, 11, 14];
/// `NFT_MSG_DELRULE`.
const RULE_REMOVED: u16 = 8;
/// `NFT_MSG_NEWCHAIN`, which also tells a change of its policy.
const CHAIN_MADE: u16 = 3;
/// `NFT_MSG_NEWGEN`: the end of a transaction.
const END: u16 = 15;
/// `NFTA_GEN_PROC_NAME` (Linux 4.12).
const PROCESS_NAME: u16 = 3;
/// How the names of our own processes begin.
const OURS: &str = "dhow";

/// A socket to be polled for reading; see the head of the module.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    /// In the transaction whose end has not been told yet.
    touched: bool,
    /// Has the table that keeps translations alive.
    held: Option<Socket>,
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
        Ok(Watch { socket, touched: false, held: None })
    }

    /// From now on connections that are translated go on while the rules are away (see `hold`), until this value ends. Costs
    /// some 20 ms at its end, in which no other process can change rules: not for what lives for a moment.
    ///
    /// # Errors
    /// The kernel's refusal; before Linux 5.12 it knows no such table.
    pub fn hold(&mut self) -> Result<(), Error> {
        if self.held.is_none() {
            self.held = Some(hold::open()?);
        }
        Ok(())
    }

    /// Listens no longer, but holds what it holds: before a change with many elements, of each of which the kernel would make a
    /// message for nobody.
    pub fn close_ears(&self) {
        kernel::netlink::leave(&self.socket, GROUP).ok();
    }

    /// Reads what was told without waiting. `true` when another program removed something of ours, or made a chain in which we
    /// have to have rules: then [`crate::ensure_rules`] is to be called.
    ///
    /// # Errors
    /// The kernel's refusal to read. That it told more than the socket could hold is no error but `true`.
    pub fn is_touched(&mut self) -> Result<bool, Error> {
        let mut by_others = false;
        let Watch { socket, touched, .. } = self;
        loop {
            let read = socket.try_receive(|kind, payload| {
                if kind >> 8 != 10 {
                    return;
                }
                let attributes = Attributes(payload.get(4..).unwrap_or_default());
                match kind & 0xff {
                    END => {
                        let is_own = attributes.text(PROCESS_NAME).is_some_and(|name| name.starts_with(OURS));
                        by_others |= std::mem::take(touched) && !is_own;
                    }
                    removal if REMOVALS.contains(&removal) => {
                        // Of the rules in other programs' chains, ours have a comment that says so.
                        let elsewhere = || {
                            removal == RULE_REMOVED
                                && payload.windows(coexist::OURS.len()).any(|part| part == coexist::OURS.as_bytes())
                        };
                        *touched |= attributes.text(1).as_deref() == Some(TABLE) || elsewhere();
                    }
                    CHAIN_MADE => *touched |= coexist::is_made(attributes) || firewalld::is_made(attributes),
                    _ => {}
                }
            });
            match read {
                Ok(()) => {}
                Err(failure) if failure.errno == Errno::AGAIN => return Ok(by_others),
                Err(failure) if failure.errno == Errno::NOBUFS => by_others = true,
                Err(failure) => return Err(failed("recvfrom(NETLINK_NETFILTER)", failure.errno)),
            }
        }
    }
}
