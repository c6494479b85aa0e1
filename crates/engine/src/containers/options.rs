//! What a caller may ask of a new container: plain values, defaults as Docker has them.
//!
//! A front end fills [`Options`]; [`super::create`] turns it into a [`super::record::Settings`] with every default,
//! conflict and limit resolved.

use crate::networks::NetworkRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When the image is looked for in its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if it is not in the store.
    #[default]
    Missing,
    /// Always; what the registry has now is what runs.
    Always,
    /// Never; a missing image is an error.
    Never,
}

/// Which network the container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Its own, on the networks that are named besides, or on the default bridge.
    #[default]
    Bridge,
    /// The host's own network.
    Host,
    /// A loopback interface and nothing else.
    None,
    /// That of another container: its name as asked, its identifier in a record.
    Container(String),
}

/// Where a mount's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum MountSource {
    /// A directory or file of the host.
    Bind {
        /// Absolute path on the host.
        path: String,
        /// Makes the directory when it is missing (`-v` does, `--mount` does not).
        create: bool,
        /// `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`.
        propagation: Option<String>,
        /// Includes the mounts below the directory.
        recursive: bool,
        /// What a read-only mount means for the mounts below.
        #[serde(default)]
        below: Below,
        /// Its files are shown with the ids of the container's user namespace; only of one with maps.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        id_map: bool,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
        /// Mode of its root directory.
        mode: Option<u32>,
        /// Further mount options, as `--tmpfs PATH:OPTIONS` takes them.
        options: Vec<String>,
    },
    /// A volume.
    Volume(VolumeMount),
    /// The content of an image, read-only.
    Image(ImageMount),
}

/// The mounts below a read-only bind mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Below {
    /// Read-only too.
    #[default]
    ReadOnly,
    /// As they are (`bind-recursive=writable`).
    Writable,
}

/// A volume as a mount. One that does not exist is made with the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// Its name; empty for a new anonymous one, whose name the engine draws.
    pub name: String,
    /// Nobody chose the name: it goes with the container's removal by `rm -v`, and with the end of a `--rm` container.
    pub anonymous: bool,
    /// An empty volume is not filled with what the image has at the target.
    pub no_copy: bool,
    /// Only this directory or file of the volume; empty for all.
    pub subpath: String,
    /// Driver of a volume that is made; empty or `local`.
    pub driver: String,
    /// Options of a volume that is made, as `volume create --opt` takes them.
    pub options: BTreeMap<String, String>,
    /// Labels of a volume that is made.
    pub labels: BTreeMap<String, String>,
}

/// An image as a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageMount {
    /// Name or identifier, as the caller wrote it.
    pub name: String,
    /// Only this directory or file of the image; empty for all.
    pub subpath: String,
    /// Identifier of the image; found by the engine.
    pub id: String,
    /// Its layers, lowest first; found by the engine.
    pub layers: Vec<String>,
}

/// The mounts of another container (`--volumes-from`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// Name or identifier.
    pub container: String,
    /// All of them read-only.
    pub read_only: bool,
}

/// A mount that the caller asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    #[serde(flatten)]
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only, with everything below it.
    pub read_only: bool,
    /// SELinux relabelling: `z` (shared) or `Z` (private).
    pub relabel: Option<char>,
}

/// A resource limit of the process (`--ulimit`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower-case name without `RLIMIT_`: `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// A port of the container published on the host (`-p`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address on the host; empty for all.
    pub host_ip: String,
    /// Port on the host; 0 lets the engine choose.
    pub host_port: u16,
    /// The last of a range of ports on the host, of which one is chosen; 0 where there is no range.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_port_end: u16,
    /// Port in the container.
    pub container_port: u16,
}

/// Published ports as they are written down.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct WrittenPorts(#[serde(with = "network::runs")] pub(crate) Vec<PublishedPort>);

impl network::runs::Numbered for PublishedPort {
    fn further(&self, by: u16) -> Option<PublishedPort> {
        // Of a range one is chosen: it has no neighbour. Where the engine chooses, it goes on choosing.
        let host_port = match (self.host_port, self.host_port_end) {
            (0, 0) => 0,
            (port, 0) => port.checked_add(by)?,
            _ if by == 0 => self.host_port,
            _ => return None,
        };
        Some(PublishedPort { host_port, container_port: self.container_port.checked_add(by)?, ..self.clone() })
    }
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}

/// Limits of the container's cgroup. Zero or `None` means: not limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Memory and swap together in bytes; -1 for unlimited swap.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<i64>,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Period of the quota in microseconds.
    pub cpu_period: Option<u64>,
    /// Quota in microseconds per period.
    pub cpu_quota: Option<i64>,
    /// Processors, as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Number of tasks; -1 for unlimited.
    pub pids: Option<i64>,
    /// Real-time period in microseconds (cgroup v1).
    pub cpu_realtime_period: Option<u64>,
    /// Real-time share of it in microseconds (cgroup v1).
    pub cpu_realtime_runtime: Option<i64>,
    /// Tendency to swap, 0 to 100 (cgroup v1).
    pub memory_swappiness: Option<u64>,
    /// Nothing is killed when the memory limit is reached (cgroup v1).
    pub oom_kill_disable: bool,
    /// Block devices.
    pub io: IoLimits,
}

/// Limits of block devices, each named by its path on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoLimits {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Relative weights of single devices.
    pub weights: Vec<(String, u16)>,
    /// Bytes per second read.
    pub read_bytes: Vec<(String, u64)>,
    /// Bytes per second written.
    pub write_bytes: Vec<(String, u64)>,
    /// Operations per second read.
    pub read_operations: Vec<(String, u64)>,
    /// Operations per second written.
    pub write_operations: Vec<(String, u64)>,
}

impl Limits {
    /// Whether anything is limited.
    pub fn any(&self) -> bool {
        *self != Limits::default()
    }
}

/// What happens when a container ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again, also after a boot.
    Always,
    /// The same, but not after a boot when somebody had stopped it.
    UnlessStopped,
    /// It is started again when its exit status is not 0.
    OnFailure {
        /// At most so often; 0 is without a limit.
        maximum: u32,
    },
}

impl RestartPolicy {
    /// Docker's name.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure { .. } => "on-failure",
        }
    }

    /// The limit of `on-failure`; 0 for others.
    pub fn maximum(self) -> u32 {
        match self {
            RestartPolicy::OnFailure { maximum } => maximum,
            _ => 0,
        }
    }
}

/// What a caller says about health checks; what it leaves out is the image's, then Docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthOptions {
    /// No checks, whatever the image says.
    pub disabled: bool,
    /// Docker's form: `["CMD", …]`, or `["CMD-SHELL", command]`. Empty: the image's.
    pub test: Vec<String>,
    /// Nanoseconds between two checks.
    pub interval: Option<i64>,
    /// Nanoseconds for one check.
    pub timeout: Option<i64>,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: Option<i64>,
    /// Nanoseconds between two checks during the start period.
    pub start_interval: Option<i64>,
    /// Failures in a row until the container is unhealthy.
    pub retries: Option<i64>,
    /// What happens then.
    pub on_failure: HealthAction,
}

/// What happens to a container that has become unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthAction {
    /// Its status says so.
    #[default]
    None,
    /// It is stopped and started.
    Restart,
    /// It is killed; its restart policy then does what it does.
    Kill,
    /// It is stopped.
    Stop,
}

/// Everything that `create` and `run` may ask for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Reference or identifier of the image.
    pub image: String,
    /// When to pull.
    pub pull: PullPolicy,
    /// `os/arch[/variant]` to choose from a multi-platform image.
    pub platform: Option<String>,
    /// Name; drawn at random when absent.
    pub name: Option<String>,
    /// Arguments that replace the image's command.
    pub command: Vec<String>,
    /// Replaces the image's entry point; an empty list or `[""]` removes it.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=VALUE` added to the image's environment; `KEY` alone has been resolved by the caller, who knows its environment.
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Supplementary groups.
    pub group_add: Vec<String>,
    /// Working directory.
    pub working_directory: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Domain name.
    pub domainname: Option<String>,
    /// Labels, over the image's.
    pub labels: BTreeMap<String, String>,
    /// A terminal (`-t`).
    pub terminal: bool,
    /// Its size at the start: rows and columns.
    pub terminal_size: Option<(u16, u16)>,
    /// Standard input stays open (`-i`).
    pub open_stdin: bool,
    /// Standard input is closed when the first client that gave input leaves; when absent, if that client was there from
    /// the start.
    pub stdin_once: Option<bool>,
    /// Removed when it ends (`--rm`).
    pub auto_remove: bool,
    /// Mounts; one on the target of another that comes from [`Options::volumes_from`] or the image replaces it.
    pub mounts: Vec<Mount>,
    /// Containers whose mounts this one gets too.
    pub volumes_from: Vec<VolumesFrom>,
    /// Options of the writable layer: `size=BYTES`.
    pub storage_options: BTreeMap<String, String>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// Network.
    pub network: NetworkMode,
    /// The networks it is on, with [`NetworkMode::Bridge`]; none for the default bridge.
    pub networks: Vec<NetworkRequest>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Publishes all ports that the image or `expose` name (`-P`).
    pub publish_all: bool,
    /// Ports that it listens on besides those that the image names, as `80/tcp` or `8000-8010/udp`.
    pub expose: Vec<String>,
    /// Name servers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// `name:address` lines for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Capabilities added; `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities dropped; `ALL` for all.
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no filters, no masks.
    pub privileged: bool,
    /// `seccomp=…`, `apparmor=…`, `label=…`, `no-new-privileges`, `systempaths=unconfined`, `writable-cgroups[=true|false]`.
    pub security_options: Vec<String>,
    /// Paths of the container that are covered; `None` for those that leak from the host.
    pub masked_paths: Option<Vec<String>>,
    /// Paths of the container that are read-only; `None` for those that write to the host.
    pub readonly_paths: Option<Vec<String>>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Annotations of the OCI specification.
    pub annotations: BTreeMap<String, String>,
    /// `HOST[:CONTAINER[:rwm]]` devices, or directories of some.
    pub devices: Vec<String>,
    /// Further devices that may be used: `TYPE MAJOR:MINOR ACCESS`.
    pub device_rules: Vec<String>,
    /// `host`, or nothing, which is the same; `auto`, `keep-id` or `nomap` as Podman has them, or maps:
    /// `CONTAINER:HOST:SIZE[,…]`.
    pub userns_mode: Option<String>,
    /// `CONTAINER:HOST[:SIZE]` maps of user ids.
    pub uid_maps: Vec<String>,
    /// The same of group ids.
    pub gid_maps: Vec<String>,
    /// Whose ranges in /etc/subuid the container's user ids are.
    pub sub_uid_name: Option<String>,
    /// Whose ranges in /etc/subgid the container's group ids are.
    pub sub_gid_name: Option<String>,
    /// Who makes the container: nothing or `dhow`, the name of a runtime that is configured, or the path of one.
    pub runtime: Option<String>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// An init that reaps and forwards signals as PID 1.
    pub init: bool,
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// Limits of the cgroup.
    pub limits: Limits,
    /// Parent cgroup.
    pub cgroup_parent: Option<String>,
    /// `host` or `private` cgroup namespace.
    pub cgroup_namespace: Option<String>,
    /// `host`, private, or `container:NAME` PID namespace.
    pub pid_mode: Option<String>,
    /// `host`, `private`, `shareable`, `none` or `container:NAME` IPC namespace.
    pub ipc_mode: Option<String>,
    /// `host` or private UTS namespace.
    pub uts_mode: Option<String>,
    /// Added to the OOM score, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Permissions that new files do not get (umask(2)), at most 0o777; 0o022 when absent.
    pub umask: Option<u32>,
    /// Signal that asks the container to stop.
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL; -1 waits for ever.
    pub stop_timeout: Option<i64>,
    /// `json-file` or `none`.
    pub log_driver: Option<String>,
    /// `max-size`, `max-file`.
    pub log_options: BTreeMap<String, String>,
    /// What happens when the container ends by itself.
    pub restart: RestartPolicy,
    /// Health checks.
    pub health: HealthOptions,
    /// Secrets and configurations.
    pub secrets: Vec<crate::secrets::SecretUse>,
    /// What the front end wants to find again in the record. The engine does not look at it.
    pub front_end: serde_json::Value,
}
