//! Lowering: from a specification to a plan, without touching the kernel.

mod class;
mod process;

use std::path::{Path, PathBuf};

use oci::runtime::{Hooks, Linux, LinuxDevice, LinuxIDMapping, LinuxNamespaceType, Mount, Spec};

use crate::mount_options::{self, Sorted};
use crate::plan::{
    CgroupPlan, DeviceKind, DevicePlan, FilterPlan, IdMap, MountPlan, Mounted, NamespacePlan, Plan, Propagate,
    PropagationKind, RootPlan, RootSource,
};

pub use process::{compile_filter, filter_architectures, plan_memory_policy, plan_personality, plan_process};

/// Whether `linux.netDevices` is executed.
pub const HAS_NET_DEVICES: bool = true;

/// What the specification does not say.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Name of the container.
    pub id: String,
    /// Directory to which relative paths of the specification refer; absolute.
    pub bundle: PathBuf,
    /// The root file system, in place of `root.path`.
    pub root: Option<RootSource>,
    /// The container's cgroup.
    pub cgroup: CgroupPlan,
    /// A compiled filter, in place of `linux.seccomp`.
    pub filter: Option<FilterPlan>,
    /// User as an image writes it (`user`, `user:group`, numbers, empty), in place of the numbers of `process.user`;
    /// looked up in the container's files.
    pub user: Option<String>,
    /// Supplementary groups beside those of the files, names or numbers; only together with `user`.
    pub additional_groups: Vec<String>,
    /// Make the working directory when it is missing.
    pub create_cwd: bool,
    /// Give the container a session keyring of its own.
    pub new_keyring: bool,
    /// How many descriptors from 3 on stay open for the process.
    pub preserve_descriptors: u32,
    /// A terminal passes line ends on as they are.
    pub plain_line_ends: bool,
    /// Enter the root by chroot(2) and not by pivot_root(2).
    pub no_pivot: bool,
    /// In a new user namespace: the files of the root file system have the ids of the outside already.
    pub root_has_outside_ids: bool,
    /// A bind mount keeps whatever its source forbids (`ro`, `nosuid`, `nodev`, `noexec`), even if its options name others.
    pub bind_mounts_keep_attributes: bool,
    /// Not being allowed to lower `oom_score_adj` is no error.
    pub oom_score_adj_is_a_wish: bool,
}

/// A specification that cannot be executed: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PlanError {
    /// Path of the field, such as `process.cwd`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

pub(crate) fn wrong<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError { field: field.into(), problem: problem.into() })
}

/// Lowers a specification.
///
/// Pure: reads no file and asks the kernel nothing. What only the kernel or the container's files can answer is left to
/// [`crate::create`].
pub fn plan(spec: &Spec, options: &PlanOptions) -> Result<Plan, PlanError> {
    let Some(process) = &spec.process else { return wrong("process", "is missing") };
    let empty = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    let namespaces = namespaces(linux)?;
    let hooks = spec.hooks.clone().unwrap_or_default();
    check_hooks(&hooks)?;
    if options.no_pivot && has(&namespaces, LinuxNamespaceType::User) {
        // It stays mounted below the root, and as long as one whole procfs is there the kernel lets the namespace's root
        // mount another.
        return wrong("root", "without pivot_root a user namespace would keep the host's /proc");
    }
    let filter = match &options.filter {
        Some(filter) => Some(filter.clone()),
        None => compile_filter(spec, options)?,
    };
    let mut process = plan_process(process, options, filter)?;
    process.personality = plan_personality(spec)?;
    process.memory_policy = plan_memory_policy(spec)?;
    let root_path = spec.root.as_ref().map(|root| root.path.as_str()).filter(|path| !path.is_empty());
    let mounts = spec.mounts.iter().enumerate().map(|(index, each)| mount(index, each, linux, options, root_path));
    let mounts = mounts.collect::<Result<Vec<_>, _>>()?;
    let own_dev = !mounts.iter().any(|mount| mount.destination == "/dev" && matches!(mount.what, Mounted::Bind { .. }));
    let root = root(spec, linux, options)?;
    check_propagation(&namespaces, &root, &mounts)?;
    let uts = has(&namespaces, LinuxNamespaceType::Uts);
    if (spec.hostname.is_some() || spec.domainname.is_some()) && !uts {
        return wrong("hostname", "needs a UTS namespace of the container's own, or the host would be renamed");
    }
    let mut sysctl = sysctl(linux, &namespaces)?;
    let hostname = name_of_host(&mut sysctl, "kernel/hostname").or_else(|| spec.hostname.clone());
    let domainname = name_of_host(&mut sysctl, "kernel/domainname").or_else(|| spec.domainname.clone());
    Ok(Plan {
        id: options.id.clone(),
        bundle: options.bundle.clone(),
        annotations: spec.annotations.clone(),
        cgroup: options.cgroup.clone(),
        root,
        mounts,
        devices: devices(linux, own_dev)?,
        links: if own_dev { links() } else { Vec::new() },
        masked_paths: absolute_all("linux.maskedPaths", &linux.masked_paths)?,
        readonly_paths: absolute_all("linux.readonlyPaths", &from_the_root(&linux.readonly_paths))?,
        sysctl,
        net_devices: net_devices(linux, &namespaces)?,
        class: class::class(linux.intel_rdt.as_ref(), &options.id)?,
        hostname: hostname.filter(|name| !name.is_empty()),
        domainname: domainname.filter(|name| !name.is_empty()),
        keyring: options.new_keyring.then(|| format!("_ses.{}", options.id)),
        hooks,
        namespaces,
        process,
    })
}

/// config.md, "POSIX-platform Hooks".
fn check_hooks(hooks: &Hooks) -> Result<(), PlanError> {
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, list) in kinds {
        if let Some(index) = list.iter().position(|hook| hook.timeout.is_some_and(|seconds| seconds <= 0)) {
            return wrong(format!("hooks.{kind}[{index}].timeout"), "must be greater than zero");
        }
    }
    Ok(())
}

fn net_devices(linux: &Linux, namespaces: &NamespacePlan) -> Result<Vec<(String, String)>, PlanError> {
    let field = "linux.netDevices";
    if !linux.net_devices.is_empty() && !has(namespaces, LinuxNamespaceType::Network) {
        return wrong(field, "needs a network namespace of the container's own to move devices into");
    }
    let named = |name: &str| !name.is_empty() && name.len() < 16 && !name.contains(['/', ':', '%', ' ', '\n', '\0']);
    let mut devices: Vec<(String, String)> = Vec::new();
    for (name, device) in &linux.net_devices {
        let inside = device.name.clone().filter(|inside| !inside.is_empty()).unwrap_or_else(|| name.clone());
        if let Some(bad) = [name, &inside].into_iter().find(|each| !named(each) || matches!(each.as_str(), "." | ".."))
        {
            return wrong(field, format!("{bad:?} is no name of a network device"));
        }
        if devices.iter().any(|(_, other)| *other == inside) {
            return wrong(field, format!("two devices would have the name {inside:?}"));
        }
        devices.push((name.clone(), inside));
    }
    Ok(devices)
}

fn has(namespaces: &NamespacePlan, kind: LinuxNamespaceType) -> bool {
    namespaces.is_new(kind) || namespaces.join.iter().any(|(each, _)| *each == kind)
}

fn namespaces(linux: &Linux) -> Result<NamespacePlan, PlanError> {
    let mut plan = NamespacePlan {
        uid_mappings: linux.uid_mappings.clone(),
        gid_mappings: linux.gid_mappings.clone(),
        time_offsets: linux.time_offsets.clone(),
        ..NamespacePlan::default()
    };
    for namespace in &linux.namespaces {
        if has(&plan, namespace.kind) {
            return wrong("linux.namespaces", format!("{:?} stands there twice", namespace.kind));
        }
        match namespace.path.as_deref().filter(|path| !path.is_empty()) {
            None => plan.new.push(namespace.kind),
            Some(path) if path.starts_with('/') => plan.join.push((namespace.kind, PathBuf::from(path))),
            Some(path) => return wrong("linux.namespaces", format!("path {path:?} is not absolute")),
        }
    }
    if plan.is_new(LinuxNamespaceType::User) && !plan.is_new(LinuxNamespaceType::Mount) {
        // setns(2) back into it wants CAP_SYS_ADMIN where it belongs to.
        return wrong(
            "linux.namespaces",
            "a new user namespace has no right to a mount namespace that exists, so it needs a new one as well",
        );
    }
    let maps = !plan.uid_mappings.is_empty() || !plan.gid_mappings.is_empty();
    if maps && !has(&plan, LinuxNamespaceType::User) {
        return wrong("linux.uidMappings", "ids are mapped, but there is no user namespace");
    }
    if plan.is_new(LinuxNamespaceType::User) && (plan.uid_mappings.is_empty() || plan.gid_mappings.is_empty()) {
        return wrong("linux.uidMappings", "a new user namespace needs mappings of user and group ids");
    }
    if !plan.time_offsets.is_empty() && !plan.is_new(LinuxNamespaceType::Time) {
        return wrong("linux.timeOffsets", "needs a new time namespace");
    }
    // As many as the kernel takes (user_namespaces(7), Linux 4.15). A file of thousands is an attack or an accident.
    if plan.uid_mappings.len() > 340 || plan.gid_mappings.len() > 340 {
        return wrong("linux.uidMappings", "the kernel takes at most 340 ranges");
    }
    Ok(plan)
}

fn root(spec: &Spec, linux: &Linux, options: &PlanOptions) -> Result<RootPlan, PlanError> {
    let readonly = spec.root.as_ref().is_some_and(|root| root.readonly);
    let source = match (&options.root, &spec.root) {
        (Some(source), _) => source.clone(),
        (None, Some(root)) if !root.path.is_empty() => RootSource::Directory { path: options.bundle.join(&root.path) },
        (None, _) => return wrong("root.path", "is missing"),
    };
    match &source {
        RootSource::Overlay { lower, upper, work, .. } => {
            if lower.is_empty() {
                return wrong("root", "an overlay needs at least one lower directory");
            }
            if upper.is_some() != work.is_some() {
                return wrong("root", "an overlay needs both upper and work directory, or neither");
            }
        }
        RootSource::Directory { path } if !path.is_absolute() => {
            return wrong("root.path", "the bundle is not absolute");
        }
        RootSource::Directory { .. } => {}
    }
    let propagation = match linux.rootfs_propagation.as_deref() {
        None | Some("") => None,
        Some(name) => match mount_options::sort(&[name.to_owned()]).propagation {
            Some(found) => Some(found),
            None => {
                return wrong(
                    "linux.rootfsPropagation",
                    format!("{name:?} is none of shared, slave, private, unbindable"),
                );
            }
        },
    };
    let label = linux.mount_label.clone().filter(|label| !label.is_empty());
    // A directory's files belong to whoever prepared it; layers are shared, and belong to nobody in particular.
    let own_users = linux.namespaces.iter().any(|each| each.kind == LinuxNamespaceType::User && each.path.is_none());
    let maps = |maps: &[LinuxIDMapping]| if options.root_has_outside_ids { Vec::new() } else { maps.to_vec() };
    let id_map = (own_users && matches!(source, RootSource::Overlay { .. })).then(|| IdMap {
        uids: maps(&linux.uid_mappings),
        gids: maps(&linux.gid_mappings),
        namespace: None,
        recursive: false,
    });
    Ok(RootPlan { source, readonly, propagation, label, no_pivot: options.no_pivot, id_map })
}

/// Without a mount namespace of its own a container's mounts belong to none ([`crate::root`]): the kernel propagates nothing to
/// them and nothing from them, and leaves out what is unbindable where it copies them.
fn check_propagation(namespaces: &NamespacePlan, root: &RootPlan, mounts: &[MountPlan]) -> Result<(), PlanError> {
    let refused = |found: Option<Propagate>| found.is_some_and(|found| found.how != PropagationKind::Private);
    let problem = "without a new mount namespace only private propagation works";
    if namespaces.is_new(LinuxNamespaceType::Mount) {
        return Ok(());
    }
    if refused(root.propagation) {
        return wrong("linux.rootfsPropagation", problem);
    }
    match mounts.iter().position(|mount| refused(mount.propagation)) {
        Some(index) => wrong(format!("mounts[{index}].options"), problem),
        None => Ok(()),
    }
}

/// Some write a destination with the host's path of the root file system before it, which runc takes off.
fn inside(destination: &str, options: &PlanOptions, root: Option<&str>) -> Option<String> {
    let root = options.bundle.join(root.filter(|_| options.root.is_none())?);
    let below = Path::new(destination).strip_prefix(&root).ok().filter(|_| root != Path::new("/"))?;
    Some(format!("/{}", below.to_str()?))
}

fn mount(
    index: usize,
    mount: &Mount,
    linux: &Linux,
    options: &PlanOptions,
    root: Option<&str>,
) -> Result<MountPlan, PlanError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let mut sorted = mount_options::sort(&mount.options);
    // Relative destinations were allowed before 1.0.2 and still mean the same.
    let destination =
        if mount.destination.starts_with('/') { mount.destination.clone() } else { format!("/{}", mount.destination) };
    let destination = inside(&destination, options, root).unwrap_or(destination);
    let destination = match destination.trim_end_matches('/') {
        "" => return wrong(field("destination"), "must not be the root"),
        trimmed => trimmed.to_owned(),
    };
    let kind = mount.kind.as_deref().unwrap_or_default();
    let what = if let Some(recursive) = sorted.bind.or((kind == "bind").then_some(false)) {
        bind(index, mount, &mut sorted, recursive, (linux, options))?
    } else if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() || sorted.id_map.is_some() {
        return wrong(field("uidMappings"), "only bind mounts can be idmapped");
    } else if kind == "cgroup" {
        Mounted::Cgroup
    } else if kind.is_empty() {
        return wrong(field("type"), "is missing, and the options have no bind");
    } else {
        let mut label = linux.mount_label.clone().filter(|label| !label.is_empty());
        match kind {
            // The policy labels their files one by one.
            "proc" | "sysfs" | "cgroup2" => label = None,
            // mqueue takes no options at all (kernel: ipc/mqueue.c), but its root can be labelled.
            "mqueue" => {}
            _ => sorted.data.extend(label.take().map(|label| ("context".to_owned(), Some(label)))),
        }
        Mounted::FileSystem {
            name: kind.to_owned(),
            source: mount.source.clone().unwrap_or_else(|| kind.to_owned()),
            options: sorted.data,
            copy_up: sorted.copy_up && kind == "tmpfs",
            from_outside: sorted.from_outside,
            label,
        }
    };
    protect_system_directories(&destination, &what, &field("destination"))?;
    Ok(MountPlan { destination, what, attributes: sorted.attributes, propagation: sorted.propagation })
}

/// CVE-2019-16884, CVE-2015-3631: what is mounted over `/proc` must be procfs, or the security labels that are written
/// there go nowhere.
fn protect_system_directories(destination: &str, what: &Mounted, field: &str) -> Result<(), PlanError> {
    if destination != "/proc" {
        return Ok(());
    }
    match what {
        Mounted::FileSystem { name, .. } if name == "proc" => Ok(()),
        Mounted::Bind { source, .. } if source == Path::new("/proc") => Ok(()),
        _ => wrong(field, "only procfs may be mounted on /proc"),
    }
}

fn bind(
    index: usize,
    mount: &Mount,
    sorted: &mut Sorted,
    recursive: bool,
    (linux, options): (&Linux, &PlanOptions),
) -> Result<Mounted, PlanError> {
    let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) else {
        return wrong(format!("mounts[{index}].source"), "is missing");
    };
    let maps = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if maps && (mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty()) {
        return wrong(format!("mounts[{index}].uidMappings"), "needs mappings of user and group ids");
    }
    if options.bind_mounts_keep_attributes {
        // `rw` takes nothing away: a read-only source stays so, as what is there with `nosuid` stays without programs of
        // others.
        sorted.attributes.clear &= kernel::mount::Attributes::MOUNT_ATTR__ATIME.bits();
    } else if sorted.names_attributes {
        sorted.attributes = crate::bound::named(sorted.attributes, sorted.chooses_times);
    }
    let recursive_map = sorted.id_map.unwrap_or(false);
    let id_map = match (maps, sorted.id_map) {
        (true, _) => Some(IdMap {
            uids: mount.uid_mappings.clone(),
            gids: mount.gid_mappings.clone(),
            namespace: None,
            recursive: recursive_map,
        }),
        (false, Some(_)) => Some(map_of_the_container(index, linux, recursive_map)?),
        (false, None) => None,
    };
    let (subpath, layers) = (sorted.subpath.take(), std::mem::take(&mut sorted.layers));
    Ok(Mounted::Bind { source: options.bundle.join(source), recursive, id_map, subpath, layers })
}

/// Without mappings of its own, a mount is mapped as the container is.
fn map_of_the_container(index: usize, linux: &Linux, recursive: bool) -> Result<IdMap, PlanError> {
    let (uids, gids) = (linux.uid_mappings.clone(), linux.gid_mappings.clone());
    let user = linux.namespaces.iter().find(|each| each.kind == LinuxNamespaceType::User);
    let path = user.and_then(|user| user.path.clone()).filter(|path| !path.is_empty());
    if path.is_none() && (uids.is_empty() || gids.is_empty()) {
        return wrong(
            format!("mounts[{index}].uidMappings"),
            "idmap needs mappings of the mount's own, or a user namespace of the container's",
        );
    }
    Ok(IdMap { uids, gids, namespace: path.map(PathBuf::from), recursive })
}

const SIMPLE_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(linux: &Linux, own_dev: bool) -> Result<Vec<DevicePlan>, PlanError> {
    let mut devices = Vec::new();
    if own_dev {
        devices.extend(SIMPLE_DEVICES.iter().map(|&(path, major, minor)| DevicePlan {
            path: path.to_owned(),
            kind: DeviceKind::Character,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }));
    }
    for device in &linux.devices {
        let plan = lower_device(device)?;
        devices.retain(|each| each.path != plan.path);
        devices.push(plan);
    }
    Ok(devices)
}

fn lower_device(device: &LinuxDevice) -> Result<DevicePlan, PlanError> {
    let kind = match device.kind.as_str() {
        "c" | "u" => DeviceKind::Character,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Pipe,
        other => return wrong("linux.devices", format!("{:?} has type {other:?}, none of c, u, b, p", device.path)),
    };
    if !device.path.starts_with('/') {
        return wrong("linux.devices", format!("path {:?} is not absolute", device.path));
    }
    if device.uid == Some(u32::MAX) || device.gid == Some(u32::MAX) {
        return wrong(
            "linux.devices",
            format!("{:?} cannot belong to {}, which is nobody's number", device.path, u32::MAX),
        );
    }
    let number = |value: Option<i64>| match value {
        None if kind == DeviceKind::Pipe => Ok(0),
        Some(value) if u32::try_from(value).is_ok() => Ok(value as u32),
        _ => wrong("linux.devices", format!("{:?} needs major and minor number", device.path)),
    };
    Ok(DevicePlan {
        path: device.path.clone(),
        kind,
        major: number(device.major)?,
        minor: number(device.minor)?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

/// runtime-linux.md, "Dev symbolic links", and the multiplexer of the container's own devpts (config-linux.md, "Default
/// Devices").
fn links() -> Vec<(String, String)> {
    [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ]
    .map(|(path, target)| (path.to_owned(), target.to_owned()))
    .to_vec()
}

/// As runc takes what the author should have written from the root (config-linux.md, "Readonly Paths").
fn from_the_root(paths: &[String]) -> Vec<String> {
    let below =
        |path: &String| if path.is_empty() || path.starts_with('/') { path.clone() } else { format!("/{path}") };
    paths.iter().map(below).collect()
}

fn absolute_all(field: &str, paths: &[String]) -> Result<Vec<String>, PlanError> {
    let mut each_once: Vec<String> = Vec::with_capacity(paths.len());
    for path in paths {
        if !path.starts_with('/') {
            return wrong(field, format!("{path:?} is not absolute"));
        }
        if !each_once.contains(path) {
            each_once.push(path.clone());
        }
    }
    Ok(each_once)
}

const IPC_PARAMETERS: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Only parameters of namespaces that the container does not share with the host (CVE-2022-0532). Name and value go to
/// one file as they are, so a `+` or newline joins nothing (CVE-2022-0811).
fn sysctl(linux: &Linux, namespaces: &NamespacePlan) -> Result<Vec<(String, String)>, PlanError> {
    let mut result = Vec::new();
    for (name, value) in &linux.sysctl {
        let path = sysctl_path(name);
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
            return wrong("linux.sysctl", format!("{name:?} is no name of a kernel parameter"));
        }
        let needed = match parts[..] {
            ["net", ..] => LinuxNamespaceType::Network,
            ["fs", "mqueue", ..] => LinuxNamespaceType::Ipc,
            ["kernel", parameter] if IPC_PARAMETERS.contains(&parameter) => LinuxNamespaceType::Ipc,
            ["kernel", "domainname" | "hostname"] => LinuxNamespaceType::Uts,
            ["user", ..] => LinuxNamespaceType::User,
            _ => return wrong("linux.sysctl", format!("{name:?} belongs to no namespace and would change the host")),
        };
        if !has(namespaces, needed) {
            return wrong("linux.sysctl", format!("{name:?} needs a {needed:?} namespace of the container's own"));
        }
        result.push((path, value.clone()));
    }
    Ok(result)
}

/// A name that is asked for as a kernel parameter, as Docker does with `--domainname`: root of a user namespace may not write that file, but
/// has the call (Linux: the file is root's of the machine). What the call would understand otherwise stays.
fn name_of_host(sysctl: &mut Vec<(String, String)>, parameter: &str) -> Option<String> {
    let plain = |value: &String| (1..=64).contains(&value.len()) && !value.contains(['\n', '\0']);
    let at = sysctl.iter().position(|(name, value)| name == parameter && plain(value))?;
    Some(sysctl.remove(at).1)
}

/// `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are the same (sysctl.d(5)): whichever
/// separator comes first separates, and the other stands for it inside a name.
fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|each| {
                if each == '.' {
                    '/'
                } else if each == '/' {
                    '.'
                } else {
                    each
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

impl From<PropagationKind> for kernel::mount::Propagation {
    fn from(kind: PropagationKind) -> Self {
        match kind {
            PropagationKind::Shared => Self::Shared,
            PropagationKind::Slave => Self::Slave,
            PropagationKind::Private => Self::Private,
            PropagationKind::Unbindable => Self::Unbindable,
        }
    }
}

impl Propagate {
    pub(crate) fn is_shared(self) -> bool {
        self.how == PropagationKind::Shared
    }
}
