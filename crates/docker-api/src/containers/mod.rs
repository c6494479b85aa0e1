//! `/containers/…`: one file for each kind of question.

pub mod archive;
pub mod attach;
pub mod became;
pub mod checkpoint;
pub mod inspect;
pub mod life;
pub mod list;
pub mod logs;
pub mod make;
pub mod stats;
pub mod top;
pub mod update;
pub mod wait;

use crate::failure::Failure;
use crate::query::Query;
use monitor::detach_keys::{DetachKeys, Matcher};

/// Height and width of a terminal, as `h` and `w`.
///
/// # Errors
/// 400 for what are no such numbers.
pub fn size(query: &Query) -> Result<(u16, u16), Failure> {
    let number = |key| {
        query.number::<u16>(key)?.ok_or_else(|| Failure::bad(format!("bad parameter {key}: a number is required")))
    };
    Ok((number("h")?, number("w")?))
}

/// The keys by which a client leaves a terminal.
///
/// # Errors
/// 400 for what are no keys.
pub fn detach_keys(text: Option<&str>) -> Result<Matcher, Failure> {
    let keys = match text.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map_err(|error: monitor::Error| {
            Failure::bad(format!("Invalid detach keys: {}", crate::failure::sentence(&error)))
        })?,
        None => DetachKeys::default(),
    };
    Ok(Matcher::new(keys))
}
