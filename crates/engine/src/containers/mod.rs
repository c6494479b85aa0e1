//! Containers: what they are, and what can be done with them. One file for each verb.

mod checkpoint;
mod checkpoint_archive;
mod checkpoint_making;
mod create;
mod exec;
mod glance;
mod health;
mod lines;
mod list;
mod live_mounts;
pub(crate) mod lock;
mod log_options;
mod logs;
pub mod options;
mod prune;
pub mod record;
mod remove;
mod serving;
pub(crate) mod settle;
mod sharing;
mod signal;
mod sizes;
mod stamp;
mod start;
pub mod state;
pub(crate) mod table;
mod top;
mod update;
mod usage;

pub use checkpoint::CheckpointChoices;
pub use checkpoint_archive::{ArchiveCompression, CheckpointExport, CheckpointImport};
pub use create::Created;
pub use exec::{Exec, ExecOptions};
pub use glance::Glance;
pub use lines::Detail;
pub use logs::LogPlace;
pub use prune::{PruneFilter, Pruned};
pub use serving::{ExecState, Waiting};
pub(crate) use signal::number as signal_number;
pub use sizes::Sizes;
pub use stamp::{Inspected, Stamp};
pub(crate) use start::chain;
pub use start::{Started, Streams};
pub use top::Top;
pub use update::UpdateOptions;
pub use usage::{NetworkUsage, Usage};

use crate::error::Result;

/// The chosen name, or the next random one.
fn names_for(chosen: Option<&str>, attempt: u32) -> Result<String> {
    match chosen {
        Some(name) => Ok(crate::names::bare(name).to_owned()),
        None => crate::names::random_name(attempt),
    }
}
