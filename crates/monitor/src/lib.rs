//! monitor
#![forbid(unsafe_code)]
