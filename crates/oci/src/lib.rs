//! Other people's formats: the OCI runtime, image and distribution specifications, digests, references, platforms.
//!
//! This crate parses and prints. It opens no file, starts nothing and decides nothing.
#![forbid(unsafe_code)]

pub mod digest;
pub mod runtime;
