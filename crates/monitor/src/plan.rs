//! What a monitor is told: plain values, every default resolved by the engine.

use std::path::PathBuf;

use oci::runtime::LinuxNamespaceType;
use serde::{Deserialize, Serialize};

use crate::names::NamePlan;
use crate::session::Label;
use crate::wire::{Attach, Size};

/// Everything a monitor needs to know about its container.
#[derive(Debug, Serialize, Deserialize)]
pub struct MonitorPlan {
    /// The container's id.
    pub id: String,
    /// What to start.
    pub launch: Launch,
    /// The container gets a terminal instead of pipes. Must agree with what `launch` says.
    #[serde(default)]
    pub terminal: bool,
    /// Size of that terminal from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// The container's standard input can be written to by attached clients; otherwise it is `/dev/null`.
    #[serde(default)]
    pub stdin_open: bool,
    /// It is closed when the first client that wrote to it closes or leaves.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where the output goes besides the clients.
    pub log: LogPlan,
    /// Directory of this container in the run directory: lock, socket, state. Must exist.
    pub run_directory: PathBuf,
    /// File that will tell how the container ended.
    pub exit_record: PathBuf,
    /// Number of the signal that asks the container to end.
    pub stop_signal: i32,
    /// Seconds until SIGKILL follows it; negative is never.
    pub stop_timeout_seconds: i64,
    /// The control connection is the first client, joined before the container starts, so that no byte is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_control: Option<Attach>,
    /// Checks whether the container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<crate::health::HealthPlan>,
    /// How often the container was started again before this monitor.
    #[serde(default)]
    pub restarts: u32,
    /// What the role that runs this monitor needs to know; the monitor itself does not look at it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub caller: serde_json::Value,
}

/// What the monitor starts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Launch {
    /// A container.
    Container(Box<ContainerLaunch>),
    /// An ordinary process with no isolation at all, for measuring and testing the monitor by itself.
    Command(Command),
}

impl Launch {
    /// Whether processes can outlive the first: not in a pid namespace of their own, which ends with it (pid_namespaces(7)).
    pub(crate) fn leaves_processes(&self) -> bool {
        match self {
            Self::Container(container) => {
                container.external.is_some() || !container.plan.namespaces.new.contains(&LinuxNamespaceType::Pid)
            }
            Self::Command(_) => false,
        }
    }

    /// The runtime of others that makes it.
    pub(crate) fn external(&self) -> Option<&crate::external::ExternalRuntime> {
        match self {
            Self::Container(container) => container.external.as_ref().map(|external| &external.runtime),
            Self::Command(_) => None,
        }
    }
}

/// A container.
#[derive(Debug, Serialize, Deserialize)]
pub struct ContainerLaunch {
    /// What the runtime executes. Its cgroup directories are filled in by the monitor.
    pub plan: runtime::Plan,
    /// Its cgroup, made for each run and removed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupLaunch>,
    /// Networks to join, from outside, while the container assembles its mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<network::Attachment>,
    /// Devices of the host that it is put on directly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct: Vec<network::DirectAttachment>,
    /// Its name server; without, the names are others' affair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<NamePlan>,
    /// How many sockets, bound to the ports that it publishes, follow the plan.
    #[serde(default)]
    pub held_ports: usize,
    /// Take part in watching over the rules: the lock file by which the monitors agree who does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<PathBuf>,
    /// It is not started but brought back from these files. Once: a further run is a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<runtime::CheckpointOptions>,
    /// Another runtime makes it; of the plan above, its mounts and its user are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<Box<crate::external::ExternalLaunch>>,
    /// Set its loopback device up. Not with the host's network namespace.
    #[serde(default)]
    pub loopback: bool,
    /// The ports are relayed from the host's sockets by this monitor: an ordinary user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayPlan>,
    /// Its networks are in a namespace of the user's own: two more descriptors follow the sockets, the namespace, and one
    /// that keeps it in use.
    #[serde(default)]
    pub user_network: bool,
    /// Enter its network namespace with a process for nothing else: root of a user namespace may enter what it made, but
    /// could not return to the host's network.
    #[serde(default)]
    pub one_way: bool,
}

/// What the published ports lead to where they are relayed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RelayPlan {
    /// One for each of the sockets that hold them.
    pub ports: Vec<network::RelayedPort>,
    /// The container's addresses.
    pub targets: Vec<std::net::IpAddr>,
}

/// What is different about the networks of a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkChange {
    /// To be joined.
    pub attachments: Vec<network::Attachment>,
    /// To be joined directly.
    pub direct: Vec<network::DirectAttachment>,
    /// To be left: names of the host's ends.
    pub detach: Vec<String>,
    /// To be left: names of devices inside.
    pub remove: Vec<String>,
    /// The default routes from now on: device inside and gateway, at most one for each family.
    pub routes: Vec<(String, std::net::IpAddr)>,
    /// The name server from now on; none leaves it as it is.
    pub names: Option<NamePlan>,
    /// Host ports to be held from now on, besides those that are: protocol, address or all, number.
    pub hold: Vec<(network::Protocol, Option<std::net::IpAddr>, u16)>,
    /// Host ports to be let go.
    pub let_go: Vec<(network::Protocol, u16)>,
    /// Where relayed ports lead to from now on; none leaves it as it is.
    pub relay_targets: Option<Vec<std::net::IpAddr>>,
}

/// A container's cgroup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CgroupLaunch {
    /// Below [`cgroup::Hierarchy::base`], such as `/dhow/<id>`.
    pub path: String,
    /// Its limits.
    #[serde(default)]
    pub resources: oci::runtime::LinuxResources,
    /// Run without a cgroup where none can be made: for a user who asked for no limit and may not write there.
    #[serde(default)]
    pub optional: bool,
    /// For an ordinary user: made where groups are delegated to them, by systemd or otherwise.
    #[serde(default)]
    pub delegated: bool,
}

/// What an exec session starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ExecLaunch {
    /// A process in the container. Its cgroup directories are filled in by the monitor.
    Container(Box<runtime::ExecPlan>),
    /// A process that another runtime starts in its container.
    External(Box<crate::external::ExternalExec>),
    /// An ordinary process, beside [`Launch::Command`].
    Command(Command),
}

impl MonitorPlan {
    /// What pipes to the container must be labelled with.
    pub(crate) fn pipe_label(&self) -> Option<Label<'_>> {
        match &self.launch {
            Launch::Container(container) => {
                let context = container.plan.root.label.as_deref()?;
                Some(Label { context, directory: &self.run_directory })
            }
            Launch::Command(_) => None,
        }
    }
}

impl ExecLaunch {
    /// Program and arguments.
    #[must_use]
    pub fn command(&self) -> &[String] {
        match self {
            Self::Container(plan) => &plan.process.args,
            Self::External(exec) => &exec.process.args,
            Self::Command(command) => &command.arguments,
        }
    }
}

/// An ordinary process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub arguments: Vec<String>,
}

/// Where a container's output is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogPlan {
    /// In which form.
    pub driver: LogDriver,
    /// The current file; rotated ones are `<path>.1` (the newest), `<path>.2` …
    pub path: PathBuf,
    /// A file that has reached so many bytes is rotated; `None` is never.
    pub max_size: Option<u64>,
    /// How many files there are at most, the current one included; 0 counts as 1.
    pub max_file: u32,
    /// Rotated files are compressed.
    #[serde(default)]
    pub compress: bool,
    /// What stands beside each line: Docker's `attrs`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Where lines go, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<crate::forward::ForwardPlan>,
    /// A client that leaves so many bytes untaken is cut off, and the container never waits for one; `None` lets it wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_buffer: Option<usize>,
}

impl LogPlan {
    /// Docker's format, bounded: three files of 10 MiB.
    #[must_use]
    pub fn json_file(path: PathBuf) -> Self {
        Self { driver: LogDriver::JsonFile, path, max_size: Some(10 << 20), max_file: 3, ..Self::none() }
    }

    /// No log.
    #[must_use]
    pub fn none() -> Self {
        Self {
            driver: LogDriver::None,
            path: PathBuf::new(),
            max_size: None,
            max_file: 1,
            compress: false,
            attributes: std::collections::BTreeMap::new(),
            forward: None,
            client_buffer: None,
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// One JSON object for each line, as Docker's driver of this name.
    JsonFile,
    /// Nothing is kept.
    None,
}
