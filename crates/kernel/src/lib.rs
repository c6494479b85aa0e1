//! kernel

pub mod netlink;
