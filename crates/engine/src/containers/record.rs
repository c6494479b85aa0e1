//! What the database remembers of a container: plain values with every default resolved.
//!
//! [`Settings`] is stored as JSON in the column `container.settings`. Fields may be added with a serde default; a change
//! of meaning needs a migration in [`crate::database`].

use super::options::{HealthAction, Limits, Mount, NetworkMode, PublishedPort, RestartPolicy, Ulimit};
use crate::networks::{Endpoint, NetworkRequest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container's configuration after its creation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The image as the caller named it.
    pub image_name: String,
    /// Identifier of the image: its configuration's digest, or the name of a built-in image.
    pub image_id: String,
    /// Layers of the image, lowest first, as diffIDs.
    pub layers: Vec<String>,
    /// Entry point, before the command.
    pub entrypoint: Vec<String>,
    /// Command; with the entry point before it, what is executed.
    pub command: Vec<String>,
    /// Environment as `KEY=VALUE`, image first, each key once.
    pub env: Vec<String>,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Supplementary groups, names or numbers.
    pub group_add: Vec<String>,
    /// Working directory; empty for `/`.
    pub working_directory: String,
    /// Host name.
    pub hostname: String,
    /// SELinux level with the container's own two categories, such as `s0:c12,c700`.
    #[serde(default)]
    pub selinux_level: String,
    /// Domain name.
    pub domainname: String,
    /// Labels of image and caller.
    pub labels: BTreeMap<String, String>,
    /// Whether there is a terminal.
    pub terminal: bool,
    /// Its size at the start: rows and columns.
    pub terminal_size: Option<(u16, u16)>,
    /// Whether standard input stays open.
    pub open_stdin: bool,
    /// Standard input is closed when the first client that gave input leaves; if that was not said, when the client was
    /// there from the start.
    pub stdin_once: Option<bool>,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Mounts: the caller's, those of other containers, and the image's volumes.
    pub mounts: Vec<Mount>,
    /// Containers whose mounts were taken over, as `NAME[:ro]`.
    pub volumes_from: Vec<String>,
    /// Options of the writable layer.
    pub storage_options: BTreeMap<String, String>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// Network.
    pub network: NetworkMode,
    /// The networks that it was made with, by name; which it is on now is in [`Container::networks`].
    pub networks: Vec<NetworkRequest>,
    /// Published ports as asked; with the host's ports chosen they are in [`Container::ports`].
    #[serde(with = "network::runs")]
    pub ports: Vec<PublishedPort>,
    /// Publishes all exposed ports.
    pub publish_all: bool,
    /// Ports that it listens on, by the image's word or the caller's, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// `name:address` pairs.
    pub extra_hosts: Vec<String>,
    /// As asked.
    pub cap_add: Vec<String>,
    /// As asked.
    pub cap_drop: Vec<String>,
    /// The capabilities that result, `CAP_…`, sorted.
    pub capabilities: Vec<String>,
    /// No isolation of devices, capabilities and kernel interfaces.
    pub privileged: bool,
    /// As asked.
    pub security_options: Vec<String>,
    /// Covered paths, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Annotations of the OCI specification.
    pub annotations: BTreeMap<String, String>,
    /// Devices as asked.
    pub devices: Vec<String>,
    /// Further devices that may be used, as asked.
    pub device_rules: Vec<String>,
    /// As asked; empty for the engine's user namespace.
    pub userns_mode: String,
    /// Ids of its own, with the ranges that it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_maps: Option<crate::users::IdMaps>,
    /// Who makes it, if it is not dhow itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<crate::runtimes::Runtime>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// An init as PID 1.
    pub init: bool,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Limits of the cgroup.
    pub limits: Limits,
    /// Parent cgroup; empty for ours.
    pub cgroup_parent: String,
    /// `host` or `private`; empty for the default of the cgroup version.
    pub cgroup_namespace: String,
    /// `host`, `container:ID` or empty.
    pub pid_mode: String,
    /// `host`, `private`, `shareable`, `none`, `container:ID`.
    pub ipc_mode: String,
    /// `host` or empty.
    pub uts_mode: String,
    /// Added to the OOM score.
    pub oom_score_adj: Option<i32>,
    /// Permissions that new files do not get; the runtime's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Signal that asks the container to stop; empty for SIGTERM.
    pub stop_signal: String,
    /// Seconds before SIGKILL; -1 waits for ever.
    pub stop_timeout: i64,
    /// `json-file` or `none`.
    pub log_driver: String,
    /// Options of the log driver.
    pub log_options: BTreeMap<String, String>,
    /// What happens when the container ends by itself.
    pub restart: RestartPolicy,
    /// How to see whether the container is well, with the image's part; the test is `["NONE"]` where there is none on
    /// purpose.
    pub health: Option<oci::image::Healthcheck>,
    /// What happens when it is not.
    pub health_on_failure: HealthAction,
    /// Secrets and configurations that it gets; their content is elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<crate::secrets::SecretUse>,
    /// What the front end wants to find again; the engine does not look at it.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub front_end: serde_json::Value,
}

/// Where a container stands in its life; the transitions are in [`super::state`].
///
/// `Removing` is seen only while another process removes the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its first process has ended, and its restart policy starts it again in a moment.
    Restarting,
    /// Its first process has ended.
    Exited,
    /// Being removed.
    Removing,
}

impl Status {
    /// Whether the container is in the hands of a monitor: Docker's `State.Running`.
    pub fn is_running(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }

    /// The word that Docker uses.
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Removing => "removing",
        }
    }
}

/// What is known of the last or present run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Process id of the first process, as the host sees it; 0 when it does not run.
    pub pid: i32,
    /// Start, RFC 3339 with nanoseconds; empty if never.
    pub started_at: String,
    /// End; empty while it runs.
    pub finished_at: String,
    /// Exit status, 128+n for a signal.
    pub exit_code: i32,
    /// The kernel killed a process of it for lack of memory.
    pub oom_killed: bool,
    /// Why it did not start.
    pub error: String,
    /// How often its policy has started it again since somebody started it.
    pub restart_count: u32,
    /// Somebody stopped or killed it: a policy leaves it alone.
    pub stopped_by_hand: bool,
}

/// A container as the engine reports it.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name, without a slash.
    pub name: String,
    /// Creation, RFC 3339 with nanoseconds.
    pub created_at: String,
    /// Configuration.
    pub settings: Settings,
    /// Where it stands.
    pub status: Status,
    /// The last or present run.
    pub run: Run,
    /// Its first address.
    pub address: Option<Address>,
    /// The networks that it is on, or will be on when it runs.
    pub networks: Vec<Endpoint>,
    /// Published ports; while it runs, with the host's ports chosen.
    pub ports: Vec<PublishedPort>,
    /// What its health checks say; none where it has none.
    pub health: Option<monitor::Health>,
    /// The directory of its log and generated files.
    pub directory: std::path::PathBuf,
}

impl Container {
    /// Where the data of a volume of it are, unless the volume's options say otherwise.
    pub fn volume_path(&self, name: &str) -> std::path::PathBuf {
        // `<data>/containers/<id>`
        let data = self.directory.ancestors().nth(2).unwrap_or(&self.directory);
        data.join("volumes").join(name).join("_data")
    }
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Network name.
    pub network: String,
    /// Address and prefix length.
    pub ipv4: String,
    /// Prefix length of the network.
    pub prefix: u8,
    /// Gateway.
    pub gateway: String,
    /// Hardware address.
    pub mac: String,
}

impl Address {
    /// Of a container that runs.
    pub(crate) fn of(endpoint: &Endpoint) -> Option<Address> {
        let place = endpoint.place.as_ref()?;
        let ipv4 = place.ipv4?;
        Some(Address {
            network: endpoint.network.clone(),
            ipv4: ipv4.address().to_string(),
            prefix: ipv4.prefix(),
            gateway: place.gateway4.map(|gateway| gateway.to_string()).unwrap_or_default(),
            mac: place.mac.clone(),
        })
    }
}
