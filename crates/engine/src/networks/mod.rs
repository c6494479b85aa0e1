//! Networks: what users mean by them, which container has which address, and what has to be made for that.
//!
//! - [`options`] what can be asked for, [`record`] what is known: plain values
//! - `settle`: from one to the other, pure; `gateway`: which network is a container's way out, pure
//! - `table`: the rows of the database
//! - `verbs`: create, list, look up, remove, prune; `connect`: join and leave; `unlink` and `linked`: the names of others
//! - `join`: what a container's start needs; `ports`: its published ports; `names`: what its name server knows
//! - `rules`: bridges and the packet filter
//! - `user`: where an ordinary user's networks are, and `holder`: the process that keeps them
//! - [`xray`]: the way of a packet
//!
//! A network's ranges are chosen once, from pools that the host's routes do not touch, and stay. Addresses belong to
//! running containers; the rows are made before the interface and deleted after it. What lives until the next boot stands
//! in `<run root>/networks`: a directory for each network with the names of its containers, and the lock of the monitor that
//! watches over the rules.

mod connect;
mod gateway;
pub(crate) mod holder;
mod join;
mod linked;
mod live_ports;
pub(crate) mod names;
pub mod options;
mod own;
mod parameters;
mod ports;
pub mod record;
mod rules;
mod settle;
pub(crate) mod table;
mod unlink;
pub(crate) mod user;
mod verbs;
pub mod xray;

pub(crate) use gateway::Attached;
pub(crate) use gateway::ways_out;
pub(crate) use join::Joined;
pub use network::{Cidr, InvalidCidr};
pub use options::{ConnectOptions, NetworkOptions, NetworkRequest, PoolRequest};
pub use record::{Driver, Endpoint, Member, Network, NetworkSettings, Place, Subnet};
pub(crate) use user::UserNetwork;
pub use verbs::gather;

/// Name of the network that containers are on by default, as Docker calls it.
pub const DEFAULT: &str = "bridge";

/// Name of its interface.
const DEFAULT_INTERFACE: &str = "dhow0";

/// Makes room for the sockets of published ports that a monitor is about to get.
pub(crate) fn expect_sockets(count: usize) {
    if count > ports::FEW {
        ports::more_descriptors();
    }
}
