//! The plan of a container: plain values with every default and conflict resolved, ready to be executed.
//!
//! A plan can be printed, stored and sent to another process. Making one ([`crate::plan`]) touches no kernel; executing
//! one ([`crate::create`]) decides nothing any more but the fallbacks for what a kernel lacks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kernel::capabilities::Set;
use kernel::seccomp::Instruction;
use oci::runtime::{Hooks, LinuxIDMapping, LinuxNamespaceType, LinuxTimeOffset};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything that is done to make a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Name of the container.
    pub id: String,
    /// Absolute path of the bundle, told to hooks.
    pub bundle: PathBuf,
    /// Told to hooks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Which are new and which are joined.
    pub namespaces: NamespacePlan,
    /// Where the container's processes are accounted.
    #[serde(default)]
    pub cgroup: CgroupPlan,
    /// The root file system.
    pub root: RootPlan,
    /// In the order in which they are made.
    pub mounts: Vec<MountPlan>,
    /// Device nodes.
    pub devices: Vec<DevicePlan>,
    /// Symbolic links made in `/dev`: path and target.
    pub links: Vec<(String, String)>,
    /// Unreadable.
    pub masked_paths: Vec<String>,
    /// Unwritable.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters: path below `/proc/sys` and value.
    pub sysctl: Vec<(String, String)>,
    /// Devices of the host that are moved into the network namespace: name there and name inside. Whoever calls the
    /// runtime does it, when the namespaces exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<(String, String)>,
    /// Cache and memory bandwidth, which whoever calls the runtime sees to as well.
    #[serde(default, rename = "intelRdt", skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassPlan>,
    /// For a new UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// For a new UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Name of a new session keyring; none keeps the runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// Programs to call.
    #[serde(default)]
    pub hooks: Hooks,
    /// The first process.
    pub process: ProcessPlan,
}

/// Namespaces of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespacePlan {
    /// Made for the container.
    pub new: Vec<LinuxNamespaceType>,
    /// Joined by a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<(LinuxNamespaceType, PathBuf)>,
    /// User ids of a new user namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<LinuxIDMapping>,
    /// Group ids of a new user namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<LinuxIDMapping>,
    /// Offsets of a new time namespace by clock.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, LinuxTimeOffset>,
}

impl NamespacePlan {
    pub(crate) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.new.contains(&kind)
    }
}

/// Directories of the container's cgroup, which exist already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Its directory in the cgroup v2 hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified: Option<PathBuf>,
    /// Its directories in v1 hierarchies, each with the name under which the hierarchy appears in `/sys/fs/cgroup`,
    /// such as `cpu,cpuacct`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legacy: Vec<(String, PathBuf)>,
    /// Without any of its own: the v1 directories that it is in as its maker is, to be shown alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<(String, PathBuf)>,
}

/// The class of service (resctrl) that the container is put into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassPlan {
    /// Its name; the empty one is the default class.
    pub class: String,
    /// The name was given, so the class stays when the container goes.
    pub named: bool,
    /// Lines that a class which is there must agree with: caches, then bandwidth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<String>,
    /// Lines that are written after these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// A monitoring group of the container's own, with its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub monitoring: bool,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPlan {
    /// Where it comes from.
    pub source: RootSource,
    /// Read-only inside the container.
    pub readonly: bool,
    /// Propagation of the whole tree, from `linux.rootfsPropagation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagate>,
    /// SELinux context of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Entered by chroot(2), because the host's root cannot be pivoted, as on an initial ramdisk. What is below it then
    /// stays mounted, out of reach of a process without `CAP_SYS_CHROOT` and `CAP_SYS_ADMIN` only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_pivot: bool,
    /// Show an overlay's files, which keep the ids that they have in their layers, with the ids of the container's user
    /// namespace (Linux 5.19). Only by a maker with rights over the file systems that the layers are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_map: Option<IdMap>,
}

/// Where a root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum RootSource {
    /// An existing directory, with what is mounted below it.
    Directory {
        /// Absolute.
        path: PathBuf,
    },
    /// An overlay of directories, mounted for the container alone.
    Overlay {
        /// Read-only directories, topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go; none makes a read-only root.
        upper: Option<PathBuf>,
        /// Working directory of overlayfs, on the file system of `upper`; needed with it.
        work: Option<PathBuf>,
        /// Keep whiteouts and opaque marks in `user.overlay.*`; needed in a user namespace (Linux 5.11).
        userxattr: bool,
        /// Never wait for writes to reach the disk (Linux 5.10); a crash of the machine loses the upper directory.
        volatile: bool,
    },
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Absolute within the container.
    pub destination: String,
    /// What is mounted.
    pub what: Mounted,
    /// Attributes of the mount.
    #[serde(default, skip_serializing_if = "AttributePlan::is_empty")]
    pub attributes: AttributePlan,
    /// Propagation of the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagate>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Mounted {
    /// A new instance of a file system type.
    FileSystem {
        /// Type, such as `tmpfs`.
        name: String,
        /// Device or mere name.
        source: String,
        /// Options of the file system, with or without value.
        options: Vec<(String, Option<String>)>,
        /// Copy what the image has at the destination into it first.
        copy_up: bool,
        /// Mounted from outside, before there is a container: a file system of the network needs the host's.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        from_outside: bool,
        /// SELinux context that its root gets once it is mounted, where the type has no option for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A directory or file of the host.
    Bind {
        /// Absolute on the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// Id mapping of the mount.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id_map: Option<IdMap>,
        /// Only this directory or file beneath the source, which a container may have filled with links: they are
        /// followed beneath the source alone (CVE-2017-1002101, CVE-2021-25741).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// The source is an image's layers, topmost first, in place of a directory.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        layers: Vec<PathBuf>,
    },
    /// The container's own cgroup, in the form that the host has.
    Cgroup,
}

/// Id mapping of a mount (Linux 5.12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<LinuxIDMapping>,
    /// Group ids.
    pub gids: Vec<LinuxIDMapping>,
    /// As this user namespace has them, in place of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<PathBuf>,
    /// For the mounts below as well.
    pub recursive: bool,
}

impl IdMap {
    /// Whether it changes no id.
    pub(crate) fn is_identity(&self) -> bool {
        let same = |maps: &[LinuxIDMapping]| maps.iter().all(|map| map.container_id == map.host_id);
        self.namespace.is_none() && same(&self.uids) && same(&self.gids)
    }
}

/// Attributes of a mount as `MOUNT_ATTR_*` bits, printed by the names of mount(8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttributePlan {
    /// Set on the mount.
    #[serde(with = "attribute_names", skip_serializing_if = "is_zero")]
    pub set: u32,
    /// Cleared on the mount.
    #[serde(with = "attribute_names", skip_serializing_if = "is_zero")]
    pub clear: u32,
    /// Of a bind mount: what its source has beyond that goes, but for what is locked (mount_namespaces(7)).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only: bool,
    /// Set on the mount and all below it (Linux 5.12).
    #[serde(with = "attribute_names", skip_serializing_if = "is_zero")]
    pub set_below: u32,
    /// Cleared on the mount and all below it.
    #[serde(with = "attribute_names", skip_serializing_if = "is_zero")]
    pub clear_below: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl AttributePlan {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

mod attribute_names {
    //! Bits as a list of names.
    use super::{Deserialize, Deserializer, Serializer};
    use kernel::mount::Attributes;

    /// `atime` stands for the bits of all ways to note access times, of which relatime is none.
    const NAMES: [(&str, Attributes); 8] = [
        ("atime", Attributes::MOUNT_ATTR__ATIME),
        ("ro", Attributes::MOUNT_ATTR_RDONLY),
        ("nosuid", Attributes::MOUNT_ATTR_NOSUID),
        ("nodev", Attributes::MOUNT_ATTR_NODEV),
        ("noexec", Attributes::MOUNT_ATTR_NOEXEC),
        ("noatime", Attributes::MOUNT_ATTR_NOATIME),
        ("strictatime", Attributes::MOUNT_ATTR_STRICTATIME),
        ("nodiratime", Attributes::MOUNT_ATTR_NODIRATIME),
    ];
    const NO_LINKS: (&str, Attributes) = ("nosymfollow", Attributes::MOUNT_ATTR_NOSYMFOLLOW);

    pub(super) fn serialize<S: Serializer>(bits: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        let mut left = *bits;
        serializer.collect_seq(NAMES.iter().chain([&NO_LINKS]).filter_map(|(name, attribute)| {
            let present = left & attribute.bits() == attribute.bits();
            left &= if present { !attribute.bits() } else { u32::MAX };
            present.then_some(*name)
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().try_fold(0, |bits, wanted| {
            let found = NAMES.iter().chain([&NO_LINKS]).find(|(name, _)| name == wanted);
            let unknown = || serde::de::Error::custom(format!("unknown mount attribute {wanted:?}"));
            found.map(|(_, attribute)| bits | attribute.bits()).ok_or_else(unknown)
        })
    }
}

/// How a mount receives and passes on later mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagate {
    /// Which way.
    pub how: PropagationKind,
    /// For the mounts below as well.
    pub recursive: bool,
}

/// The ways of mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationKind {
    /// Both ways.
    Shared,
    /// Receives only.
    Slave,
    /// Neither.
    Private,
    /// Neither, and cannot be bind-mounted.
    Unbindable,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Absolute within the container.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner as seen inside.
    pub uid: u32,
    /// Group as seen inside.
    pub gid: u32,
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// Named pipe; numbers are without meaning.
    Pipe,
}

/// A process: the first of a container, or one that is started in it later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessPlan {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// Environment as `NAME=value`. `HOME` is added from the container's passwd file when it is missing.
    pub env: Vec<String>,
    /// Working directory, absolute within the container.
    pub cwd: String,
    /// Make the working directory when it is missing.
    #[serde(default)]
    pub create_cwd: bool,
    /// Who it runs as.
    pub user: UserPlan,
    /// File mode creation mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The five sets; none keeps what the runtime has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<CapabilityPlan>,
    /// Set-user-id programs and file capabilities are without effect.
    pub no_new_privileges: bool,
    /// System call filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterPlan>,
    /// AppArmor profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// Resource limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_limits: Vec<ResourceLimit>,
    /// `oom_score_adj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// A failure to lower `oom_score_adj` is no error: an ordinary user may not.
    #[serde(default)]
    pub oom_score_adj_is_a_wish: bool,
    /// Standard streams are a new pseudo-terminal of this size: rows and columns, 0 for the kernel's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<(u16, u16)>,
    /// The terminal passes line ends on as they are (stty(1) `-onlcr`), for one whose output is not shown on a screen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_line_ends: bool,
    /// Scheduling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<SchedulingPlan>,
    /// I/O priority: class 1 to 3, level 0 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<(u8, u8)>,
    /// personality(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// NUMA memory policy: mode with flags, and nodes as bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<(u32, Vec<u64>)>,
    /// CPUs of a process that joins a container, as bits: while it joins, and from then on; empty changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<(Vec<u64>, Vec<u64>)>,
    /// How many descriptors from 3 on stay open.
    #[serde(default)]
    pub preserve_descriptors: u32,
}

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum UserPlan {
    /// Exactly these numbers.
    Numeric {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// `user`, `user:group`, numbers or empty, looked up in the container's own files.
    Named {
        /// As the image or the user wrote it.
        user: String,
        /// Supplementary groups beside those of the files, names or numbers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        additional: Vec<String>,
    },
}

/// The five capability sets, printed by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityPlan {
    /// What the process and its descendants may ever gain.
    #[serde(with = "names")]
    pub bounding: Set,
    /// What the kernel checks.
    #[serde(with = "names")]
    pub effective: Set,
    /// What may be raised.
    #[serde(with = "names")]
    pub permitted: Set,
    /// What is kept over execve(2) by files that allow it.
    #[serde(with = "names")]
    pub inheritable: Set,
    /// What is kept over execve(2).
    #[serde(with = "names")]
    pub ambient: Set,
}

/// Scheduling in the words of sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulingPlan {
    /// `SCHED_*` number.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Number for prlimit(2).
    pub resource: u32,
    /// `RLIMIT_NOFILE` and so on.
    pub name: String,
    /// `u64::MAX` is unlimited.
    pub soft: u64,
    /// `u64::MAX` is unlimited.
    pub hard: u64,
}

/// A compiled system call filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterPlan {
    /// `sock_filter` instructions, printed as hexadecimal digits.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Who answers for calls that the filter neither allows nor refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerPlan>,
}

/// Where a filter's listener is sent, and what is said with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerPlan {
    /// A Unix socket that is listened on.
    pub socket: PathBuf,
    /// Opaque text.
    #[serde(default)]
    pub metadata: String,
    /// Name of the container.
    #[serde(default)]
    pub container: String,
    /// Its bundle.
    #[serde(default)]
    pub bundle: PathBuf,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

mod names {
    //! A set of capabilities as a list of names.
    use super::{Deserialize, Deserializer, Serializer, Set};

    pub(super) fn serialize<S: Serializer>(set: &Set, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(set.names())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Set, D::Error> {
        let mut set = Set::EMPTY;
        for name in Vec::<String>::deserialize(deserializer)? {
            let one = kernel::capabilities::by_name(&name)
                .ok_or_else(|| serde::de::Error::custom(format!("unknown capability {name:?}")))?;
            set = set.union(one);
        }
        Ok(set)
    }
}

fn to_hex<S: Serializer>(instructions: &[Instruction], serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(instructions.len() * 16);
    for byte in instructions.iter().flatten() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    serializer.serialize_str(&text)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Instruction>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    let bytes = bytes.ok_or_else(|| serde::de::Error::custom("a filter must be pairs of hexadecimal digits"))?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    if rest.is_empty() {
        Ok(instructions.to_vec())
    } else {
        Err(serde::de::Error::custom("a filter must be a multiple of 8 bytes"))
    }
}
