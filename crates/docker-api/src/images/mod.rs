//! `/images/…`

pub mod ask;
pub mod change;
pub mod platforms;
pub mod transfer;
