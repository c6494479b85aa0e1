//! kernel

pub mod private_umask;
