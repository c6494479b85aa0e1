//! The program `criu`, which writes running processes into files and brings them back, spoken to over its RPC.
//!
//! Owns the few messages of `criu swrk` that are needed (criu's `rpc.proto`; protobuf by hand, as no more than numbers
//! and strings occur) and the life of that process. What is dumped and what a container is, `runtime` knows.
#![forbid(unsafe_code)]

mod error;
mod message;
mod options;
mod session;

pub use error::{BoxError, Error, Result};
pub use options::{Action, CgroupMode, Options};
pub use session::{Notice, Outcome, Program, run, version};
