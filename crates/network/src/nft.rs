//! nf_tables over nfnetlink (`linux/netfilter/nf_tables.h`): tables, chains, sets and maps, rules as plain values, written
//! in one atomic transaction and read back.
//!
//! Knows nothing of containers; `firewall` says what is to stand in the table.

mod expression;
mod read;
mod transaction;

pub(crate) use expression::{DEVICE, Expression, KEY, Load, Operator, Rule, Verdict};
pub(crate) use read::{Found, FoundRule, chain_rules, element, elements, generation, has_chain, table};
pub(crate) use transaction::{Chain, Element, Hook, Set, SetKind, Transaction, data_type};

use crate::error::{Error, failed_io};
use crate::netlink::{Family, Socket};
use std::sync::Mutex;

/// Subsystem number of nf_tables, the upper byte of its message types.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFPROTO_INET`: one table for IPv4 and IPv6; with network address translation since Linux 5.2.
pub(crate) const INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub(crate) const IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
pub(crate) const IPV6: u8 = 10;

/// A nfnetlink socket in the network namespace of the calling thread.
pub(crate) fn open() -> Result<Socket, Error> {
    let operation = "socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)";
    Socket::open(Family::Netfilter).map_err(|error| failed_io(operation, &error))
}

/// Keeps a socket whose transaction has removed something until there is another such, or the process ends: closing it at once
/// waits for a grace period of the kernel, some ten milliseconds.
pub(crate) fn retire(socket: Socket) {
    static LATEST: Mutex<Option<Socket>> = Mutex::new(None);
    if let Ok(mut latest) = LATEST.lock() {
        *latest = Some(socket);
    }
}

/// `struct nfgenmsg`: family, version 0, resource in network order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
