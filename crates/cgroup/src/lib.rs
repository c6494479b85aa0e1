//! Control groups: one model of resources, and what to tell cgroup v1 and v2 about it.
//!
//! Owns the directories of a container below the cgroup mounts: making, limiting, entering, freezing, killing, measuring
//! and removing them. Does not own defaults (the engine's), nor the cgroup namespace and mounts inside the container
//! (the runtime's). Limits come as the OCI runtime specification's `linux.resources`; [`check`] refuses what cannot be
//! right before the kernel is touched; `table` is the one list of limits, with a column for each version.
//!
//! cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
#![forbid(unsafe_code)]

mod apply;
mod check;
#[cfg(test)]
mod contract;
mod controller;
mod convert;
mod delegation;
mod devices;
mod error;
mod files;
mod freeze;
mod group;
mod hierarchy;
mod live;
mod oom;
mod path;
pub mod resctrl;
mod stats;
pub mod systemd;
mod table;

pub use apply::Unenforced;
pub use check::check;
pub use controller::Controller;
pub use devices::default_device_rules;
pub use error::{Error, FailedCall, Invalid, Result};
pub use group::{Cgroup, Description, remove_if_empty};
pub use hierarchy::{Hierarchy, Layout, Mount, Version};
pub use live::{Limits, LiveGroup, LiveValue};
pub use oom::OomWatch;
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Stats};
