//! kernel

pub mod bpf;
