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
    let number = |key, name| {
        let text = query.text(key).unwrap_or_default();
        let refused = |problem| Failure::bad(format!("invalid resize {name} {text:?}: {problem}"));
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused("invalid syntax"));
        }
        let number = text.parse::<u32>().map_err(|_| refused("value out of range"))?;
        // As wide as terminals get.
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    };
    Ok((number("h", "height")?, number("w", "width")?))
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
