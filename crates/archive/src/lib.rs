//! Archives from people we do not trust, and archives that others can reproduce.
//!
//! This crate owns the formats: decompression by magic ([`decompress`]), reading tar ([`Reader`]), writing it ([`Writer`]),
//! and what is needed to write it again bit for bit ([`recipe`]). It is pure: bytes in, values out. It opens no file, knows no layer, no whiteout and no path rule; whoever
//! extracts decides where a name may lead (crate `store`).
//!
//! Two archive readers that disagree about one header are a way to smuggle files past a scanner (CVE-2025-62518). Where
//! the formats leave room, this reader does what Go's `archive/tar` does, because that is what every registry, scanner
//! and peer engine uses; the places are marked in [`Reader`].
#![forbid(unsafe_code)]

pub mod compress;
pub mod decompress;
mod entry;
mod header;
mod pax;
mod reader;
pub mod recipe;
mod sparse;
mod writer;

pub use entry::{Attributes, Entry, Kind, Time};
pub use reader::{Limits, Reader, TarError};
pub use writer::{Header, Writer};
