//! What is remembered of a container: `state.json` in its directory.
//!
//! The names of the fields that runc has too are runc's, so that tools that read its file find the process, the
//! namespaces and the cgroups. The rest is ours.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci::runtime::Spec;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// Everything about one container that its directory keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// Its first process; 0 until there is one.
    pub init_process_pid: i32,
    /// When that was born, in clock ticks since the boot.
    pub init_process_start: u64,
    /// When the container was made, as RFC 3339.
    pub created: String,
    /// Directory by controller; the v2 one by the empty name.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// File by kind, in the words of clone(2).
    pub namespace_paths: BTreeMap<String, PathBuf>,
    /// Made by an ordinary user.
    pub rootless: bool,
    /// User id of who made it.
    pub owner: u32,
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// Directory of the root file system.
    pub rootfs: PathBuf,
    /// Where its processes are accounted and limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<cgroup::Description>,
    /// systemd's unit around that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<cgroup::systemd::Scope>,
    /// Directory of its class of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt_path: Option<PathBuf>,
    /// Directory of its monitoring group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt_mon_path: Option<PathBuf>,
    /// Both, and what of them was made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<cgroup::resctrl::Description>,
    /// It has a session keyring of its own.
    pub keyring: bool,
    /// What it was made from.
    #[serde(rename = "spec")]
    pub spec: Spec,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made by a process that still runs.
    Creating,
    /// Made; waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// Its program stands still.
    Paused,
    /// Its program has ended, or its making was interrupted.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

impl Record {
    /// Its first process, if one was made.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.init_process_pid)
    }

    pub(crate) fn name_namespaces(&mut self) {
        const KINDS: [(&str, &str); 8] = [
            ("NEWCGROUP", "cgroup"),
            ("NEWIPC", "ipc"),
            ("NEWNET", "net"),
            ("NEWNS", "mnt"),
            ("NEWPID", "pid"),
            ("NEWTIME", "time"),
            ("NEWUSER", "user"),
            ("NEWUTS", "uts"),
        ];
        let pid = self.init_process_pid;
        self.namespace_paths =
            KINDS.iter().map(|(kind, file)| ((*kind).to_owned(), format!("/proc/{pid}/ns/{file}").into())).collect();
    }
}
