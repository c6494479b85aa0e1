//! Namespaces of other containers: `--pid container:NAME`, `--ipc container:NAME`, `--uts container:NAME`.
//!
//! Lowering gives such a container namespaces like any other; here, at its start, they get the files of the other one's. The
//! other one must run then. What it shares lives as long as one of the two does; a pid namespace ends with its first process.

use super::options::NetworkMode;
use super::record::{Container, Settings, Status};
use super::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use oci::runtime::{LinuxNamespaceType, Mount, Spec};

/// The other container's identifier or name.
fn other(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

impl Engine {
    /// At creation: names become identifiers, which stay right when the other container is renamed.
    pub(crate) fn settle_sharing(&self, settings: &mut Settings) -> Result<()> {
        let Settings { pid_mode, ipc_mode, uts_mode, hostname, domainname, .. } = settings;
        for (flag, mode) in [("--pid", pid_mode), ("--ipc", ipc_mode), ("--uts", uts_mode)] {
            let Some(wanted) = other(mode) else { continue };
            if wanted.is_empty() {
                return Err(Error::new(
                    Kind::InvalidArgument,
                    format!("{flag}: container: needs a name or identifier"),
                ));
            }
            let entry = table::find(self.database()?.read(), wanted)?;
            if flag == "--uts" {
                (*hostname, *domainname) = (entry.settings.hostname, entry.settings.domainname);
            }
            *mode = format!("container:{}", entry.id);
        }
        Ok(())
    }

    /// At the start: the files of the other containers' namespaces.
    pub(crate) fn share(&self, entry: &Entry, spec: &mut Spec) -> Result<()> {
        let settings = &entry.settings;
        if let Some(wanted) = other(&settings.pid_mode) {
            let pid = self.sharer(wanted, "PID")?.run.pid;
            set(spec, LinuxNamespaceType::Pid, format!("/proc/{pid}/ns/pid"));
        }
        if let Some(wanted) = other(&settings.ipc_mode) {
            let sharer = self.sharer(wanted, "IPC")?;
            if !matches!(sharer.settings.ipc_mode.as_str(), "shareable" | "host") {
                return Err(not_shareable(&sharer.id));
            }
            let pid = sharer.run.pid;
            set(spec, LinuxNamespaceType::Ipc, format!("/proc/{pid}/ns/ipc"));
            share_memory(spec, pid);
        }
        if let Some(wanted) = other(&settings.uts_mode) {
            let pid = self.sharer(wanted, "UTS")?.run.pid;
            set(spec, LinuxNamespaceType::Uts, format!("/proc/{pid}/ns/uts"));
            // The name is that of the other one, who may have changed it since it was started.
            (spec.hostname, spec.domainname) = (None, None);
        }
        Ok(())
    }

    /// Whether one that it shares namespaces with is there but does not run.
    pub(crate) fn waits_for_another(&self, id: &str) -> bool {
        let is_away = |wanted: &str| {
            let found = self.database().and_then(|database| table::find(database.read(), wanted));
            let found = found.and_then(|entry| self.observe(entry));
            found.is_ok_and(|found| !matches!(found.status, Status::Running | Status::Paused))
        };
        let entry = self.database().and_then(|database| table::find(database.read(), id));
        entry.is_ok_and(|Entry { settings, .. }| {
            let network = match &settings.network {
                NetworkMode::Container(wanted) => Some(wanted.as_str()),
                _ => None,
            };
            let modes = [&settings.pid_mode, &settings.ipc_mode, &settings.uts_mode];
            modes.into_iter().filter_map(|mode| other(mode)).chain(network).any(is_away)
        })
    }

    fn sharer(&self, wanted: &str, what: &str) -> Result<Container> {
        let container = self.observe(table::find(self.database()?.read(), wanted)?)?;
        match container.status {
            Status::Running | Status::Paused => Ok(container),
            Status::Restarting => Err(cannot_join(what, &container.id, "restarting")),
            _ => Err(cannot_join(what, &container.id, "non running").hint("start that container first")),
        }
    }
}

/// Docker's clients tell this one by its kind, as a failure of the server, and by its last words.
fn cannot_join(what: &str, id: &str, state: &str) -> Error {
    let end = if state == "restarting" { "is restarting" } else { "is not running" };
    let text =
        format!("failed to join {what} namespace: cannot join {what} of a {state} container: container {id} {end}");
    Error::new(Kind::Internal, text)
}

fn not_shareable(id: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("cannot join IPC of container {id}: non-shareable IPC"))
        .hint("make that container with --ipc shareable")
}

fn set(spec: &mut Spec, kind: LinuxNamespaceType, path: String) {
    let namespaces = spec.linux.iter_mut().flat_map(|linux| &mut linux.namespaces);
    for namespace in namespaces.filter(|namespace| namespace.kind == kind) {
        namespace.path = Some(path.clone());
    }
}

/// POSIX shared memory lives in files: the other container's /dev/shm takes the place of our own, unless the caller has put
/// something there.
fn share_memory(spec: &mut Spec, pid: i32) {
    for mount in spec.mounts.iter_mut().filter(|mount| mount.destination == "/dev/shm") {
        if mount.kind.as_deref() == Some("tmpfs") && mount.source.as_deref() == Some("shm") {
            *mount = Mount {
                destination: "/dev/shm".into(),
                kind: Some("bind".into()),
                // Copied from within the other's mount namespace (`runtime::mounts`).
                source: Some(format!("/proc/{pid}/root/dev/shm")),
                options: ["bind", "nosuid", "noexec", "nodev", "rprivate"].map(str::to_owned).into(),
                ..Mount::default()
            };
        }
    }
}
