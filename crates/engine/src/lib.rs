//! The engine: containers, images, networks, and the state that they leave. **The** interface of dhow.
//!
//! A front end (command line, Docker API, CRI) fills plain values such as [`Options`], calls a method of [`Engine`], and
//! prints plain values such as [`Container`]. It decides nothing. The engine knows neither HTTP nor flags nor Docker's JSON,
//! prints nothing, and blocks: whoever needs to wait for many things at once polls the descriptors it hands out.
//!
//! - [`archives`]: files in and out of containers
//! - [`check`]: is what is on disk what it should be?
//! - [`engine`]: where things are, and what is opened when
//! - [`cni`]: networks of pods, by plugins
//! - [`commits`]: what a container became
//! - [`containers`]: one file for each verb; [`containers::options`] is what can be asked for
//! - [`events`]: what happened, for whoever wants to know
//! - [`images`]: pull, push, load, save, remove, look up
//! - `lower`: from settings to an OCI specification, pure
//! - [`networks`]: what users mean by them, addresses, ports, names
//! - `files`, `apparmor`, `hello`: what a container finds around it
//! - [`registries`]: accounts there
//! - [`roles`]: the same program as a container's monitor
//! - [`secrets`]: documents that become files of containers
//! - [`shares`]: who shares what
//! - `sweep`: what a killed process left
//! - `view`: a container's files as the container sees them
//! - [`volumes`]: data that outlives containers
//! - [`xray`]: what the kernel really did
//! - `database`: what survives
#![forbid(unsafe_code)]

mod apparmor;
pub mod archives;
pub mod check;
mod clock;
pub mod cni;
pub mod commits;
pub mod containers;
mod database;
mod directories;
mod disk;
pub mod engine;
mod error;
pub mod events;
mod files;
mod group;
mod halt;
mod hello;
mod host;
pub mod images;
mod info;
mod lower;
mod names;
pub mod networks;
mod plain_path;
mod plan;
mod quota;
pub mod registries;
mod relabel;
pub mod remote;
mod restart;
pub mod roles;
pub mod rootless;
pub mod runtimes;
pub mod secrets;
pub mod shares;
mod storage;
mod sweep;
mod users;
mod view;
pub mod volumes;
mod wal_head;
pub mod xray;

pub use archives::{ArchiveIn, PathStat};
pub use cgroup::Stats as CgroupStats;
pub use commits::{Change, ChangeKind, CommitOptions, Committed, ConfigParts, ImportOptions};
pub use containers::options::{
    Below, HealthAction, HealthOptions, ImageMount, IoLimits, Limits, Mount, MountSource, NetworkMode, Options,
    PublishedPort, PullPolicy, RestartPolicy, Ulimit, VolumeMount, VolumesFrom,
};
pub use containers::record::{Address, Container, Run, Settings, Status};
pub use containers::{
    ArchiveCompression, CheckpointChoices, CheckpointExport, CheckpointImport, Created, Detail, Exec, ExecOptions,
    ExecState, Glance, Inspected, LogPlace, NetworkUsage, PruneFilter, Pruned, Sizes, Stamp, Started, Streams, Top,
    UpdateOptions, Usage, Waiting,
};
pub use directories::Directories;
pub use disk::{ContainerSize, ContainerUsage, DiskUsage, ImageUsage, VolumeUsage};
pub use engine::{Config, Engine};
pub use error::{Error, Kind, Result};
pub use events::{Event, EventFilter, EventOptions, EventReader};
pub use images::{
    Distribution, HistoryStep, Image, ImageSummary, Loaded, PrunedImages, PullEvent, PullProgress, Pulled, PushEvent,
    PushOptions, PushProgress, PushedName, Quiet, Removed, SaveFormat, SaveOptions,
};
pub use info::{Info, VERSION};
pub use monitor::{Health, HealthStatus, Probe};
pub use networks::{
    Cidr, ConnectOptions, Driver, Endpoint, Member, Network, NetworkOptions, NetworkRequest, NetworkSettings, Place,
    PoolRequest, Subnet,
};
pub use plain_path::plain_path;
pub use registry::{Configured as ConfiguredRegistries, Proxies};
pub use restart::Booted;
pub use runtimes::Runtime;
pub use secrets::{NewSecret, Secret, SecretKind, SecretTarget, SecretUse};
pub use users::IdMaps;
pub use volumes::{NewVolume, PrunedVolumes, Volume};
