//! Other people's formats: the OCI runtime, image and distribution specifications, digests, references, platforms.
//!
//! This crate parses and prints. It opens no file, starts nothing and decides nothing.
#![forbid(unsafe_code)]

pub mod any_case;
pub mod digest;
pub mod distribution;
pub mod image;
mod lenient;
pub mod platform;
pub mod reference;
pub mod runtime;
