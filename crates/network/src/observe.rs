//! What a network namespace has, read from the kernel: for `inspect` and `xray`.

use crate::error::Error;
use crate::links::{self, Link};
use crate::namespace;
use crate::routes::{self, Address, Route};
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};

/// Devices, addresses and routes of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Every device.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<Address>,
    /// The unicast routes of the main table.
    pub routes: Vec<Route>,
}

/// Reads a network namespace.
///
/// # Errors
/// `setns` or the kernel's refusal of a dump.
pub fn observe(netns: BorrowedFd<'_>) -> Result<Observed, Error> {
    let mut socket = namespace::within(netns, links::open)??;
    let links = links::all(&mut socket)?;
    Ok(Observed { links, addresses: routes::addresses(&mut socket)?, routes: routes::routes(&mut socket)? })
}

/// Reads the network namespace of the calling thread.
///
/// # Errors
/// The kernel's refusal of a dump.
pub fn observe_here() -> Result<Observed, Error> {
    let mut socket = links::open()?;
    let links = links::all(&mut socket)?;
    Ok(Observed { links, addresses: routes::addresses(&mut socket)?, routes: routes::routes(&mut socket)? })
}
