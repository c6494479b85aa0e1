//! network
#![forbid(unsafe_code)]
