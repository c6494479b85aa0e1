//! Networks of containers: bridges, veth pairs, addresses, firewall rules, published ports, name answers.
//!
//! Spoken to the kernel directly: rtnetlink for devices, addresses and routes, nfnetlink for one nftables table of ours
//! (`inet dhow`), `/proc/sys/net` for settings. No other program is started, nothing of others is changed or flushed; firewalld is asked over D-Bus.
//! What is to be made is given as plain values ([`plan`]); which container has which address is the engine's to remember.
//!
//! Does not own: the state database, the container's namespaces (they are borrowed as file descriptors), `resolv.conf`.
#![forbid(unsafe_code)]

pub mod address;
pub mod dns;
pub mod plan;
pub mod pools;
pub mod runs;
pub mod sysctl;

mod attach;
mod bridge;
mod cidr;
mod error;
mod firewall;
mod firewalld;
mod gate;
mod lend;
mod links;
mod namespace;
mod netlink;
mod nft;
mod observe;
mod relay;
mod reserve;
mod routes;
mod sweep;

pub use attach::{DirectAttachment, attach, attach_direct, detach, loopback_up, remove_inside, reroute};
pub use bridge::{ensure_bridge, remove_bridge};
pub use cidr::{Cidr, InvalidCidr};
pub use error::{Error, Refusal};
pub use firewall::{
    Ensured, RuleCounter, Watch, add_to_rules, asks_the_host, ensure_rules, publish, remove_rules, rule_counters,
    rules_owner, rules_present, unpublish,
};
pub use firewalld::{ask_firewalld, firewalld_waits, forget_in_firewalld};
pub use lend::lend;
pub use links::{Link, Traffic, Upper, check_name, link, list as links};
pub use namespace::within;
pub use observe::{Observed, observe, observe_here};
pub use plan::{
    Attachment, Bridge, GatewayMode, InvalidGatewayMode, Mac, OpenPort, Protocol, Publication, PublishedPort, Ruleset,
    Subnet, bridge_interface, host_interface,
};
pub use relay::{Relay, RelayedPort, prepare_for_relays};
pub use reserve::{hold, reserve};
pub use routes::{Address, Route};
pub use sweep::{is_ours, sweep};
