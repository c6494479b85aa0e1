//! The OCI runtime: from a specification to a running process.
//!
//! [`plan`] lowers a specification to a [`Plan`] without touching the kernel. [`create`] executes it up to the point
//! just before execve(2), [`Created::start`] crosses that point, [`run`] is both, [`exec`] starts a further process in a container.
//! State, names, images and networks belong to the engine.
#![forbid(unsafe_code)]

mod bound;
mod cgroups;
mod channel;
mod checkpoint;
mod child;
mod copy_up;
mod create;
mod devices;
mod door;
mod error;
mod exec;
mod hooks;
mod identity;
pub mod init;
mod join;
pub mod live;
mod lower;
mod mapped;
mod mask;
mod mount_options;
mod mounts;
mod plan;
mod program;
mod restore;
mod root;
mod supervisor;
pub mod users;
mod usher;

pub use checkpoint::{CheckpointOptions, checkpoint, criu_program};
pub use create::{Created, Left, NewContainer, Started, Stdio, create, create_for_command, run};
pub use door::{Door, Knock, knock, nobody_waits};
pub use error::{BoxError, Error, Result};
pub use exec::{ExecPlan, exec, exec_led};
pub use hooks::run_hooks;
pub use lower::{
    HAS_NET_DEVICES, PlanError, PlanOptions, compile_filter, filter_architectures, plan, plan_memory_policy,
    plan_personality, plan_process,
};
pub use mount_options::mount_option_names;
pub use plan::*;
pub use restore::restore;
pub use root::detached_root;
pub use usher::Usher;
