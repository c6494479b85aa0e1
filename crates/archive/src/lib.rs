//! archive
#![forbid(unsafe_code)]
