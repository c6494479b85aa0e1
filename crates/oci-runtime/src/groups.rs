//! The container's cgroup: where `linux.cgroupsPath` says, made by us or by systemd, limited as `linux.resources` says.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cgroup::systemd::{self, Bus, Scope, Value};
use cgroup::{Cgroup, Hierarchy, Mount, Version};
use kernel::clone::Clone as Cloning;
use oci::runtime::{LinuxDeviceCgroup, LinuxNamespaceType, LinuxPids, LinuxResources, Spec};
use runtime::{BoxError, CgroupPlan};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Error, OnFile, Result};
use crate::progress::Progress;
use crate::record::Record;

/// How cgroups are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// By systemd (`--systemd-cgroup`).
    pub systemd: bool,
    /// Not at all.
    pub none: bool,
    /// By somebody who may have no right to.
    pub rootless: bool,
}

/// A cgroup that was made for a container.
#[derive(Debug)]
pub(crate) struct Made {
    pub group: Cgroup,
    pub scope: Option<Scope>,
    /// Keeps systemd's scope alive until the container is in it.
    holder: Option<Holder>,
    /// The limit of processes, if more are in the scope than the container's own until then.
    pids: Option<LinuxPids>,
}

/// The holder, and who makes the container's process in the scope.
const BESIDES: i64 = 2;

impl Made {
    /// The container is in it, and is alone there from here on.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.holder = None;
        if let Some(pids) = self.pids.take() {
            self.group.apply(&LinuxResources { pids: Some(pids), ..LinuxResources::default() })?;
        }
        Ok(())
    }
}

/// Makes the cgroup and sets its limits; `None` where an ordinary user can have none and asked for no limit.
pub(crate) fn make(spec: &Spec, id: &str, manner: Manner, progress: &Progress) -> Result<Option<Made>> {
    let linux = spec.linux.clone().unwrap_or_default();
    let mut resources = linux.resources.unwrap_or_default();
    if manner.none {
        if limits(&resources) {
            progress.warn("linux.resources is not enforced: the container was to have no cgroup");
        }
        return Ok(None);
    }
    if manner.rootless {
        // bpf(2) and devices.allow are root's alone, and whoever has no right to these can make no device either.
        resources.devices.clear();
    } else {
        resources = with_default_devices(resources);
    }
    let resources = one_process(resources);
    let path = linux.cgroups_path.filter(|path| !path.is_empty());
    let result = if manner.systemd {
        in_scope(path.as_deref(), (id, &spec.annotations), &resources, manner)
    } else {
        in_directory(path.as_deref(), id)
    };
    let limited = result.and_then(|mut made| {
        let mut resources = resources.clone();
        if made.scope.is_some() {
            systemd::round_quota(&mut resources);
        }
        if let (Some(pids), true) = (&mut resources.pids, made.holder.is_some()) {
            made.pids = Some(pids.clone());
            pids.limit = pids.limit.map(|limit| if limit > 0 { limit.saturating_add(BESIDES) } else { limit });
        }
        let limited = made.group.apply(&resources).map_err(Error::from);
        match limited.and_then(|unenforced| {
            warn(&unenforced, progress);
            delegate(&made.group, spec)
        }) {
            Ok(()) => Ok(made),
            Err(error) => {
                // The error that is reported is the first one.
                drop(made.group.remove());
                if let Some(scope) = &made.scope {
                    drop(scope.stop());
                }
                Err(error)
            }
        }
    });
    match limited {
        Err(Error::Cgroup(cgroup::Error::Occupied { path })) => {
            Err(Error::refused(format!("container's cgroup is not empty: {}", path.display())))
        }
        Err(Error::Cgroup(cgroup::Error::Systemd { reason, .. })) if reason.contains("UnitExists") => {
            Err(Error::refused(format!("container's cgroup is not empty: {reason}")))
        }
        // A file of v2 that v1 has no word for.
        Err(Error::Cgroup(error @ cgroup::Error::Unsupported { .. })) if !resources.unified.is_empty() => {
            Err(Error::refused(format!("invalid configuration: {error}")))
        }
        Err(Error::Cgroup(cgroup::Error::Frozen { path })) => {
            Err(Error::refused(format!("container's cgroup unexpectedly frozen: {}", path.display())))
        }
        Err(Error::Cgroup(error)) if manner.rootless && !limits(&resources) && is_forbidden(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// A limit that the machine does not have, and without which the others hold, is no reason to refuse a container; but its
/// caller should hear of it.
pub(crate) fn warn(unenforced: &[cgroup::Unenforced], progress: &Progress) {
    for cgroup::Unenforced { limit, reason } in unenforced {
        progress.warn(&format!("linux.resources.{limit} is not enforced: {reason}"));
    }
}

/// Gives the container's root its own cgroup of v2, where it sees that as the root of a file system that it may write to
/// (config-linux.md, "Cgroup ownership").
fn delegate(group: &Cgroup, spec: &Spec) -> Result<()> {
    let Some(linux) = &spec.linux else { return Ok(()) };
    let is_new = |kind| {
        let mut all = linux.namespaces.iter();
        all.any(|each| each.kind == kind && each.path.as_deref().unwrap_or_default().is_empty())
    };
    let writable = spec.mounts.iter().any(|mount| {
        matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2")) && mount.options.iter().all(|option| option != "ro")
    });
    let root = linux.uid_mappings.iter().find(|map| map.container_id == 0).map(|map| map.host_id);
    let directory = group.directories().into_iter().find(|(mount, _)| mount.version == Version::V2);
    let (Some(root), Some((_, directory))) = (root, directory) else { return Ok(()) };
    if !writable || !is_new(LinuxNamespaceType::User) || !is_new(LinuxNamespaceType::Cgroup) || root == 0 {
        return Ok(());
    }
    // Linux 4.15 lists the files that whoever a group is delegated to may write.
    let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    std::os::unix::fs::chown(&directory, Some(root), None).on("chown", &directory)?;
    for path in list.lines().map(|file| directory.join(file)) {
        match std::os::unix::fs::chown(&path, Some(root), None) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.on("chown", &path)?,
        }
    }
    Ok(())
}

fn in_directory(path: Option<&str>, id: &str) -> Result<Made> {
    let mut hierarchy = Hierarchy::detect()?;
    let given = path.is_some();
    let path = path.unwrap_or(id);
    if !path.starts_with('/') {
        // What limits the caller limits its containers.
        hierarchy = hierarchy.around_caller()?;
    }
    // Limits that the caller gave its group hold; those of a container that was called so before do not.
    let mut group = if given { Cgroup::take_or_create(&hierarchy, path)? } else { Cgroup::create(&hierarchy, path)? };
    if let Err(error) = group.make_everywhere() {
        drop(group.remove());
        return Err(error.into());
    }
    Ok(Made { group, scope: None, holder: None, pids: None })
}

/// systemd makes the group for a process, so there must be one before the container's.
fn in_scope(
    path: Option<&str>,
    (id, annotations): (&str, &BTreeMap<String, String>),
    resources: &LinuxResources,
    manner: Manner,
) -> Result<Made> {
    let bus = if manner.rootless { Bus::User } else { Bus::System };
    let default = format!(":dhow:{id}");
    let (slice, unit) = systemd::scope_name(path.unwrap_or(&default), bus).map_err(cgroup::Error::from)?;
    let hierarchy = Hierarchy::detect()?;
    // systemd would put the container beside whatever is there, and into the cold.
    if let Some(present) =
        systemd::group_of(bus, &slice, &unit).and_then(|path| Cgroup::find(&hierarchy, &path).transpose())
    {
        check_vacant(&present?)?;
    }
    let holder = Holder::new()?;
    let asked = systemd::from_annotations(annotations).map_err(cgroup::Error::from)?;
    let mut properties = systemd::properties(resources).map_err(cgroup::Error::from)?;
    properties.retain(|(name, _)| asked.iter().all(|(other, _)| other != name));
    let asked = asked.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let properties: Vec<(&str, Value)> = properties.into_iter().chain(asked).collect();
    let scope = Scope::start(bus, &unit, &slice, &[holder.pid], &properties)?;
    let Some(group) = Cgroup::of_process(&hierarchy, holder.pid)? else {
        drop(scope.stop());
        return Err(Error::refused(format!("systemd made {unit}, but no cgroup for it")));
    };
    Ok(Made { group, scope: Some(scope), holder: Some(holder), pids: None })
}

fn check_vacant(group: &Cgroup) -> Result<()> {
    let path = || group.directories().first().map(|(_, path)| path.clone()).unwrap_or_default();
    if group.frozen()? {
        return Err(cgroup::Error::Frozen { path: path() }.into());
    }
    match group.processes()?.is_empty() {
        true => Ok(()),
        false => Err(cgroup::Error::Occupied { path: path() }.into()),
    }
}

/// A process that does nothing but be in a cgroup.
#[derive(Debug)]
struct Holder {
    pid: rustix::process::Pid,
    _until: OwnedFd,
}

impl Holder {
    fn new() -> Result<Self> {
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (reader, writer) = pipe.map_err(|errno| kernel::Error::new("pipe2(O_CLOEXEC)", errno))?;
        let mut writer = Some(writer);
        let child = Cloning::default().spawn(|| {
            drop(writer.take());
            // Ends with the other end of the pipe, which nobody writes to.
            rustix::io::read(&reader, &mut [0u8; 1]).ok();
            0
        })?;
        let Some(until) = writer else { return Err(Error::refused("no pipe")) };
        Ok(Self { pid: child.pid, _until: until })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        rustix::process::kill_process(self.pid, rustix::process::Signal::KILL).ok();
        let wait = || rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty());
        rustix::io::retry_on_intr(wait).ok();
    }
}

/// What every container may use (config-linux.md, "Default Devices"), and nothing else unless the rules say so. Last, as in
/// runc: engines write their own rules for a container that they know to have these.
fn with_default_devices(mut resources: LinuxResources) -> LinuxResources {
    if resources.devices.is_empty() {
        resources.devices.push(LinuxDeviceCgroup { access: Some("rwm".to_owned()), ..LinuxDeviceCgroup::default() });
    }
    resources.devices.extend(cgroup::default_device_rules().into_iter().filter(|rule| rule.allow));
    resources
}

/// As runc since 1.4: a limit of no process means the container's first alone, and only a negative one is none.
pub(crate) fn one_process(mut resources: LinuxResources) -> LinuxResources {
    if let Some(pids) = &mut resources.pids {
        pids.limit = pids.limit.map(|limit| if limit == 0 { 1 } else { limit });
    }
    resources
}

/// Whether anything but devices was asked for. Docker 20.10 names all that it does not change, with a 0 each.
pub(crate) fn limits(resources: &LinuxResources) -> bool {
    let rest = LinuxResources { devices: Vec::new(), ..resources.clone() };
    serde_json::to_value(rest).is_ok_and(|rest| !is_nothing(&rest))
}

fn is_nothing(value: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match value {
        Null => true,
        Bool(value) => !value,
        Number(value) => value.as_i64() == Some(0),
        String(value) => value.is_empty(),
        Array(list) => list.iter().all(is_nothing),
        Object(fields) => fields.values().all(is_nothing),
    }
}

fn is_forbidden(error: &cgroup::Error) -> bool {
    matches!(error, cgroup::Error::NotDelegated { .. } | cgroup::Error::NoHierarchy)
        || matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOENT))
}

/// The directories for the runtime, which puts the container's processes there.
pub(crate) fn directories(group: &Cgroup) -> CgroupPlan {
    let mut plan = CgroupPlan::default();
    for (mount, path) in group.directories() {
        match mount.version {
            Version::V2 => plan.unified = Some(path),
            Version::V1 => plan.legacy.push((name_of(mount), path)),
        }
    }
    plan
}

/// The directories of a container without groups: it is where its maker is, which it can see if it is told to.
pub(crate) fn around() -> CgroupPlan {
    // What cannot be found is not shown.
    let Ok(hierarchy) = Hierarchy::detect().and_then(|hierarchy| hierarchy.around_caller()) else {
        return CgroupPlan::default();
    };
    let legacy = hierarchy.mounts().iter().filter(|mount| mount.version == Version::V1);
    let around = legacy.map(|mount| (name_of(mount), mount.mount_point.join(&mount.above))).collect();
    CgroupPlan { around, ..CgroupPlan::default() }
}

fn name_of(mount: &Mount) -> String {
    mount.mount_point.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The directories by controller, as runc notes them.
pub(crate) fn paths(group: &Cgroup) -> std::collections::BTreeMap<String, PathBuf> {
    let mut paths = std::collections::BTreeMap::new();
    for (mount, path) in group.directories() {
        match mount.version {
            Version::V2 => drop(paths.insert(String::new(), path)),
            Version::V1 => {
                let names = mount.controllers.iter().map(|controller| controller.v1_name().to_owned());
                let named = mount.name.iter().map(|name| format!("name={name}"));
                for name in names.chain(named) {
                    paths.insert(name, path.clone());
                }
            }
        }
    }
    paths
}

/// The groups of a container that was made; `None` when it has none.
pub(crate) fn open(record: &Record) -> Result<Option<Cgroup>> {
    let group = record.cgroup.as_ref().map(Cgroup::open).transpose()?;
    Ok(group.filter(Cgroup::exists))
}

/// Those that a further process is put into. An ordinary user's, made from somewhere in the tree of its own systemd, cannot be
/// entered from a login elsewhere: then it goes without, where nothing is limited.
pub(crate) fn open_to_enter(record: &Record) -> Result<Option<Cgroup>> {
    let group = open(record)?;
    let limited = || record.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()).is_some_and(limits);
    Ok(group.filter(|group| !record.rootless || record.scope.is_some() || limited() || group.may_be_entered()))
}

/// As [`open`], for a verb that needs them.
pub(crate) fn need(record: &Record) -> Result<Cgroup> {
    open(record)?.ok_or_else(none)
}

pub(crate) fn none() -> Error {
    Error::refused("the container has no cgroup")
}

/// Who puts a process into an ordinary user's scope, if the kernel does not let us.
pub(crate) fn usher(record: &Record) -> Option<impl Fn(Pid, &Path) -> Result<(), BoxError> + use<>> {
    let scope = record.scope.clone().filter(|scope| scope.bus() == Bus::User)?;
    let top = record.cgroup_paths.get("").cloned()?;
    Some(move |pid, directory: &Path| {
        let below = directory.strip_prefix(&top).unwrap_or(Path::new("")).to_string_lossy();
        Ok(scope.adopt(pid, &below)?)
    })
}

/// Ends what is left in the groups, removes them, and tells systemd.
pub(crate) fn remove(record: &Record) -> Result<()> {
    // An error is one that the other way has more to say of.
    let gone = record.cgroup.as_ref().is_none_or(|description| Cgroup::remove_empty(description).unwrap_or(false));
    if !gone && let Some(mut group) = open(record)? {
        if group.processes().is_ok_and(|processes| !processes.is_empty()) {
            group.kill()?;
        }
        group.remove()?;
    }
    match &record.scope {
        Some(scope) => Ok(scope.stop()?),
        None => Ok(()),
    }
}
