//! The small languages inside Docker's flags: sizes, durations, ports, mounts and so on.
//!
//! Each module is a pure function from the text of a flag to a plain value, with the error text that Docker prints for
//! it. Nothing here knows clap or the engine's behaviour; files are read only where a flag names one.

pub mod boolean;
pub mod cpus;
pub mod devices;
pub mod environment;
pub mod gpus;
pub mod hosts;
pub mod instant;
pub mod keyvalue;
pub mod mount;
pub mod network;
pub mod platform;
pub mod ports;
pub mod quoted;
pub mod restart;
pub mod secret;
pub mod security;
pub mod signal;
pub mod size;
pub mod streams;
pub mod tmpfs;
pub mod ulimit;
pub mod volume;

pub use docker_json::duration;
