//! The process above each container, and how others speak with it.
//!
//! A container's monitor is a single-threaded poll loop without a runtime. It creates the container, owns its pipes or its
//! terminal, writes the log, serves attach, exec, wait, signals and stop on a socket, reaps, and records the exit. It
//! outlives the command that started it, and it is the only parent the container has.
//!
//! ```text
//!   dhow run ──spawn──► monitor ──clone3──► container's init
//!      │ fd 3 (control)   │  ▲ pipes or pty      │ stdout, stderr
//!      └──────────────────┘  └───────────────────┘
//!   dhow attach/exec/stop/wait ──► <run dir>/monitor.sock      <run dir>/lock        held while the monitor lives
//!   dhow logs ──► <log path>, .1, .2 … (no monitor needed)     <run dir>/state.json  who runs, since when
//! ```
//!
//! - [`plan`]: what the monitor is told ([`MonitorPlan`]).
//! - [`supervise`] or, for restart policies, [`Monitor`]: the monitor's side.
//! - [`wire`]: the protocol, drawn. [`client`]: the other side of it; [`foreground`]: a terminal joined to a container.
//! - [`log_file`] writes and [`logs`] reads Docker's json-file format; [`forward`] sends lines elsewhere.
//! - [`record`]: the files in the run directory.
//! - [`external`]: containers that another runtime makes.
//! - [`health`]: the checks of a container that has some.
//!
//! What it does not do: it knows no database, no image, no name; it never decides whether to restart. Its caller does.
#![forbid(unsafe_code)]

pub mod client;
mod clock;
mod compressed_log;
mod confinement;
pub mod detach_keys;
pub mod error;
mod exec_session;
pub mod external;
pub mod foreground;
pub mod forward;
mod guard;
pub mod handover;
pub mod health;
mod json_line;
mod labelled_pipe;
mod launch;
mod leftovers;
pub mod log_file;
mod log_identity;
mod log_line;
pub mod logs;
pub mod names;
mod networks;
mod one_way;
mod peer;
pub mod plan;
pub mod record;
mod requests;
mod rest;
mod run_directory;
mod session;
mod supervisor;
pub mod terminal;
mod turn;
pub mod wire;

pub use confinement::directories as cgroup_directories;
pub use error::{Error, Kind};
pub use external::{ExternalExec, ExternalLaunch, ExternalRuntime};
pub use guard::Healer;
pub use handover::{receive_plan, receive_sockets, take_standard_streams};
pub use health::{Health, HealthPlan, HealthStatus, OnFailure, Probe};
pub use log_file::Stream;
pub use names::{NameEntry, NamePlace, NamePlan};
pub use plan::{
    CgroupLaunch, ContainerLaunch, ExecLaunch, Launch, LogDriver, LogPlan, MonitorPlan, NetworkChange, RelayPlan,
};
pub use record::{Exit, State, process_start_time};
pub use run_directory::lock;
pub use supervisor::{Monitor, Observer, Occurrence, Wake, detach_from_session, supervise};
pub use wire::{Attach, Exec, Size, Streams};
