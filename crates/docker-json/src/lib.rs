//! The engine's records as the JSON of Docker's API: what `dhow inspect` prints and what the API server answers.
//!
//! Pure functions from records to structs in the order of Docker's fields. A field that dhow has nothing for keeps
//! Docker's empty value, because clients read it without asking.
//!
//! - [`container`], [`image`], [`network`]: `GET /containers/{id}/json` and the like
//! - [`summary`]: their lines in lists
//! - [`duration`], [`pattern`]: the small languages of filters
//! - [`event`]: a line of `GET /events`
//! - [`elapsed`], [`status`]: Docker's words for spans of time and for a container's state
#![forbid(unsafe_code)]

mod block_io;
pub mod container;
pub mod duration;
pub mod elapsed;
mod endpoints;
pub mod event;
pub mod image;
mod mounts;
pub mod network;
mod overlaid;
pub mod pattern;
#[doc(hidden)]
pub mod sample;
pub mod status;
pub mod summary;
pub mod volume;

use serde_json::Value;

/// Go's time before time, which Docker prints for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Why an object cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("the object cannot be written as JSON")]
pub struct Error(#[from] serde_json::Error);

/// `80` as `80/tcp`.
pub fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// Nanoseconds of a duration such as `1h30m`.
pub fn go_duration(text: &str) -> Option<i64> {
    duration::parse(text).ok()
}

fn time(text: &str) -> String {
    if text.is_empty() { NEVER.to_owned() } else { text.to_owned() }
}

fn to_value(object: &impl serde::Serialize) -> Result<Value, Error> {
    Ok(serde_json::to_value(object)?)
}

/// An empty object, Docker's sets being objects without content.
#[derive(Debug, Default, serde::Serialize)]
pub struct Empty {}
