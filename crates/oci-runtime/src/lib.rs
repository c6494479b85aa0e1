//! A runtime for others: the verbs of the OCI runtime command line, as runc has them, over the crate `runtime`.
//!
//! Owns the state directory (`<root>/<id>/state.json` and what else is there) and what each verb means for it: values in,
//! values out, no flag and no line of text for a person. Each verb is a process of its own that ends; what must hold
//! between two of them is in the state directory or asked of the kernel. A verb that changes a container holds the lock
//! of its directory.
#![forbid(unsafe_code)]

mod checkpoint;
mod class;
mod console;
mod create;
mod delete;
mod error;
mod events;
mod exec;
mod features;
mod foreground;
mod groups;
mod kill;
mod kin;
mod list;
mod process;
mod progress;
mod record;
mod resources;
mod start;
mod store;
mod template;

pub use checkpoint::{checkpoint, restore};
pub use class::Schemas;
pub use console::Sockets;
pub use create::{CreateOptions, Interaction, create, plan, run};
pub use delete::delete;
pub use error::{Error, Result};
pub use events::{Usage, usage, watch_for_oom};
pub use exec::{ExecOptions, exec};
pub use features::{Features, features};
pub use kill::{Signal, kill, signal};
pub use list::{Listed, list, processes};
pub use process::Inherited;
pub use progress::{Level, Progress};
pub use runtime::CheckpointOptions;

pub use record::{Record, Status};
pub use resources::{pause, resume, update};
pub use start::start;
pub use store::{Container, Store, is_rootless};
pub use template::{rootless_template, template};
