//! The engine's records as the JSON of Docker's API: what `inspect` prints.
//!
//! Pure functions from records to structs in the order of Docker's fields; the later API server takes this folder over.
//! A field that dhow has nothing for keeps Docker's empty value, because clients read it without asking.

pub mod container;
pub mod image;
pub mod network;

use crate::failure::Failure;
use serde_json::Value;

/// Go's time before time, which Docker prints for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(text: &str) -> String {
    if text.is_empty() { NEVER.to_owned() } else { text.to_owned() }
}

fn to_value(object: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|error| Failure::caused("the object cannot be written as JSON", error))
}

/// An empty object, Docker's sets being objects without content.
#[derive(Debug, Default, serde::Serialize)]
pub struct Empty {}
