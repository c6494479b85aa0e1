//! The container's name server: answers for the names of its networks, forwards the rest.
//!
//! `message` reads and writes the wire format (RFC 1035, EDNS RFC 6891), `zone` says what is known and answers from it, both
//! pure; `responder` holds the sockets and is polled by the container's monitor. There is no DNS daemon.
//!
//! Does not write `resolv.conf` (the engine does: `nameserver 127.0.0.11`, search domains, options).

mod forward;
mod message;
mod responder;
mod stream;
mod zone;

pub use message::{Header, Query, Reply};
pub use responder::{ADDRESS, Interest, Responder};
pub use zone::{Decision, Transport, Zone};
