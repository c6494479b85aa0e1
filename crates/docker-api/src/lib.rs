//! The Docker Engine API: `dhow serve`.
//!
//! HTTP/1.1 on Unix sockets and loopback, in Docker's shapes, in front of the engine. It translates and decides nothing:
//! what a request asks for and the engine cannot do is refused with a sentence, never ignored.
//!
//! ```text
//! client ── listen ── connection ── route ── handler ── workers (few threads, each with an engine of its own)
//!                                               │
//!                                               └────── monitors' sockets and logs, polled: no thread waits for a container
//! ```
//!
//! - `access`: who may do what; [`log`], `metrics`: what the server tells of itself; [`tls`]: clients over a network
//! - [`listen`]: sockets; `connection`: one client, its limits; `old_style`: streams without an `Upgrade` header;
//!   `parting`: clients that go; `taking`: clients that take nothing
//! - `route`, `version`, `newer`, `query`, `spelling`: from a request to a handler; `reply`, `failure`: and back
//! - `workers`: the engine blocks and belongs to one thread; here is who calls it
//! - `flights`: clients that ask for the same at the same time are told the same
//! - `glances`: what was answered a moment ago, told again in the event loop as long as it is true
//! - `runs`: those who wait for, or are attached to, what has not been started yet
//! - `streams`, `websocket`, `polled`: between a hijacked connection and a monitor
//! - `create`: Docker's container configuration as the engine's options
//! - `piped`: archives between a thread and a client
//! - `containers`, `exec`, `events`, `images`, `networks`, `volumes`, `system`: the operations
#![forbid(unsafe_code)]

mod access;
mod connection;
mod containers;
mod content;
mod context;
mod create;
mod document;
mod events;
mod exec;
mod failure;
mod filters;
mod flights;
mod glances;
mod images;
pub mod listen;
pub mod log;
mod metrics;
mod networks;
mod newer;
mod old_style;
mod parting;
mod piped;
mod polled;
mod query;
mod reply;
mod route;
mod runs;
mod server;
mod spelling;
mod streams;
mod system;
mod taking;
pub mod tls;
mod version;
mod volumes;
mod websocket;
mod workers;

pub use access::{Policy, PolicyError};
pub use listen::Address;
pub use server::{Error, Options, serve};
pub use system::document as info;

/// The newest version of the API that is answered.
pub fn newest() -> String {
    version::NEWEST.to_string()
}

/// The oldest version of the API that is answered.
pub fn oldest() -> String {
    version::OLDEST.to_string()
}
