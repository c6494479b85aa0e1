//! `/images/…`

pub mod ask;
pub mod change;
pub mod transfer;
