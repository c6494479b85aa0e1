//! Just enough of D-Bus to ask system services for something: EXTERNAL authentication, method calls, replies, errors, signals.
//!
//! Blocking, with a time after which it gives up. Who is asked for what is the callers' affair: systemd for a scope (`cgroup`),
//! firewalld for its consent (`network`). Never listens for calls, and passes no file descriptors.
#![forbid(unsafe_code)]

mod connection;
mod message;

pub use connection::{Connection, Error, SYSTEM_BUS, system_bus};
pub use message::{Call, ERROR, Message, NO_REPLY, NO_START, REPLY, Reader, SIGNAL, Writer};

use serde::{Deserialize, Serialize};

/// A value whose type is told with it, in the types that are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `u`
    Small(u32),
    /// `i`
    Signed(i32),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}
