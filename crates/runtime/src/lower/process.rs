//! Lowering of a process, for a container's first and for later ones.

use kernel::capabilities::{self, Set};
use oci::runtime::{
    CPUAffinity, LinuxCapabilities, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxSeccomp,
};
use oci::runtime::{POSIXRlimit, Process, Scheduler, Spec};

use super::{PlanError, PlanOptions, wrong};
use crate::plan::{CapabilityPlan, FilterPlan, ListenerPlan, ProcessPlan, ResourceLimit, SchedulingPlan, UserPlan};

/// Lowers a process; of the options it uses those that concern one. `filter` is the compiled system call filter.
pub fn plan_process(
    process: &Process,
    options: &PlanOptions,
    filter: Option<FilterPlan>,
) -> Result<ProcessPlan, PlanError> {
    if process.args.is_empty() || process.args[0].is_empty() {
        return wrong("process.args", "is empty");
    }
    if !process.cwd.starts_with('/') {
        return wrong("process.cwd", format!("{:?} is not absolute", process.cwd));
    }
    // CVE-2026-57231: a name without value must not mean the runtime's own variable of that name.
    if let Some(entry) = process.env.iter().find(|entry| !entry.contains('=') || entry.starts_with('=')) {
        return wrong("process.env", format!("{entry:?} is not NAME=value"));
    }
    if let Some(text) = process.args.iter().chain(&process.env).find(|text| text.contains('\0')) {
        return wrong("process.args", format!("{text:?} has a zero byte"));
    }
    let size = process.console_size.unwrap_or_default();
    Ok(ProcessPlan {
        args: process.args.clone(),
        env: process.env.clone(),
        cwd: process.cwd.clone(),
        create_cwd: options.create_cwd,
        user: user(process, options)?,
        umask: process.user.umask,
        capabilities: process.capabilities.as_ref().map(capability_sets),
        no_new_privileges: process.no_new_privileges,
        filter,
        apparmor_profile: process.apparmor_profile.clone().filter(|name| !name.is_empty() && name != "unconfined"),
        selinux_label: process.selinux_label.clone().filter(|label| !label.is_empty()),
        resource_limits: resource_limits(&process.rlimits)?,
        oom_score_adj: oom_score_adj(process.oom_score_adj)?,
        oom_score_adj_is_a_wish: options.oom_score_adj_is_a_wish,
        terminal: process.terminal.then_some((clamp(size.height), clamp(size.width))),
        plain_line_ends: options.plain_line_ends,
        scheduling: process.scheduler.as_ref().map(scheduling).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        affinity: process.exec_cpu_affinity.as_ref().map(affinity).transpose()?,
        personality: None,
        memory_policy: None,
        preserve_descriptors: options.preserve_descriptors,
    })
}

fn clamp(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Numbers above 2³¹ are refused: as a signed number they are negative, which programs take for "do not change"
/// (CVE-2024-40635).
fn user(process: &Process, options: &PlanOptions) -> Result<UserPlan, PlanError> {
    if let Some(user) = &options.user {
        return Ok(UserPlan::Named { user: user.clone(), additional: options.additional_groups.clone() });
    }
    let user = &process.user;
    let mut numbers = [user.uid, user.gid].into_iter().chain(user.additional_gids.iter().copied());
    if let Some(number) = numbers.find(|number| *number > i32::MAX.cast_unsigned()) {
        return wrong("process.user", format!("id {number} is larger than 2147483647"));
    }
    Ok(UserPlan::Numeric { uid: user.uid, gid: user.gid, groups: user.additional_gids.clone() })
}

/// Unknown names are left out: the specification wants a warning for them and no error, because a configuration may name
/// capabilities of a later kernel.
fn capability_sets(sets: &LinuxCapabilities) -> CapabilityPlan {
    let set =
        |names: &[String]| names.iter().filter_map(|name| capabilities::by_name(name)).fold(Set::EMPTY, Set::union);
    let permitted = set(&sets.permitted);
    let inheritable = set(&sets.inheritable);
    CapabilityPlan {
        bounding: set(&sets.bounding),
        effective: set(&sets.effective).intersection(permitted),
        permitted,
        inheritable,
        // The kernel refuses an ambient capability that is not both (capabilities(7)).
        ambient: set(&sets.ambient).intersection(permitted).intersection(inheritable),
    }
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>, PlanError> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => {
            wrong("process.oomScoreAdj", format!("{value} is not from -1000 to 1000"))
        }
        _ => Ok(value),
    }
}

/// Names with their numbers for prlimit(2), which are the same on x86-64 and arm64.
const LIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

fn resource_limits(limits: &[POSIXRlimit]) -> Result<Vec<ResourceLimit>, PlanError> {
    let mut result: Vec<ResourceLimit> = Vec::new();
    for limit in limits {
        let Some((_, resource)) = LIMITS.iter().find(|(name, _)| *name == limit.kind) else {
            return wrong("process.rlimits", format!("{:?} is unknown", limit.kind));
        };
        if result.iter().any(|each| each.resource == *resource) {
            return wrong("process.rlimits", format!("{} stands there twice", limit.kind));
        }
        if limit.soft > limit.hard {
            return wrong(
                "process.rlimits",
                format!("{}: soft {} exceeds hard {}", limit.kind, limit.soft, limit.hard),
            );
        }
        result.push(ResourceLimit {
            resource: *resource,
            name: limit.kind.clone(),
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    Ok(result)
}

fn scheduling(scheduler: &Scheduler) -> Result<SchedulingPlan, PlanError> {
    let field = "process.scheduler";
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return wrong(field, format!("policy {other:?} is unknown")),
    };
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return wrong(field, format!("flag {other:?} is unknown")),
        };
    }
    let Ok(priority) = u32::try_from(scheduler.priority.unwrap_or(0)) else {
        return wrong(field, "priority is negative");
    };
    Ok(SchedulingPlan {
        policy,
        flags,
        nice: scheduler.nice.unwrap_or(0),
        priority,
        runtime: scheduler.runtime.unwrap_or(0),
        deadline: scheduler.deadline.unwrap_or(0),
        period: scheduler.period.unwrap_or(0),
    })
}

fn io_priority(priority: &LinuxIOPriority) -> Result<(u8, u8), PlanError> {
    let class = match priority.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return wrong("process.ioPriority", format!("class {other:?} is unknown")),
    };
    match u8::try_from(priority.priority) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => wrong("process.ioPriority", format!("priority {} is not from 0 to 7", priority.priority)),
    }
}

/// The execution domain of a specification's processes, which one that joins later has as well.
///
/// # Errors
/// A domain that Linux does not have.
pub fn plan_personality(spec: &Spec) -> Result<Option<u32>, PlanError> {
    let linux = spec.linux.as_ref();
    linux.and_then(|linux| linux.personality.as_ref()).map(personality).transpose()
}

/// The architectures whose calls a filter can tell apart, by libseccomp's names.
#[must_use]
pub fn filter_architectures() -> Vec<&'static str> {
    use oci::runtime::Arch;
    [Arch::Aarch64, Arch::Arm, Arch::X32, Arch::X86, Arch::X86_64].map(Arch::name).to_vec()
}

/// The memory policy of a specification's processes, which one that joins later has as well.
///
/// # Errors
/// A policy that Linux does not have.
pub fn plan_memory_policy(spec: &Spec) -> Result<Option<(u32, Vec<u64>)>, PlanError> {
    let linux = spec.linux.as_ref();
    linux.and_then(|linux| linux.memory_policy.as_ref()).map(memory_policy).transpose()
}

fn personality(personality: &LinuxPersonality) -> Result<u32, PlanError> {
    if !personality.flags.is_empty() {
        return wrong("linux.personality", "the specification knows no flags");
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => wrong("linux.personality", format!("domain {other:?} is none of LINUX, LINUX32")),
    }
}

fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<(u32, Vec<u64>), PlanError> {
    let field = "linux.memoryPolicy";
    let mut mode = match policy.mode.as_str() {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return wrong(field, format!("invalid memory policy mode {other:?}")),
    };
    for flag in &policy.flags {
        mode |= match flag.as_str() {
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_STATIC_NODES" => 1 << 15,
            other => return wrong(field, format!("invalid memory policy flag {other:?}")),
        };
    }
    let nodes = bits("linux.memoryPolicy.nodes: invalid memory policy node", &policy.nodes)?;
    let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
    if matches!(policy.mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL") && count > 0 {
        return wrong(field, format!("invalid memory policy: mode requires 0 nodes but got {count}"));
    }
    Ok((mode, nodes))
}

fn affinity(affinity: &CPUAffinity) -> Result<(Vec<u64>, Vec<u64>), PlanError> {
    let field = "process.execCPUAffinity";
    let list = |text: &Option<String>| bits(field, text.as_deref().unwrap_or_default());
    Ok((list(&affinity.initial)?, list(&affinity.last)?))
}

/// A list such as `0-2,5` of nodes or CPUs. The kernel is built for 1024 nodes and, as rustix, for 1024 CPUs by this call;
/// a range of millions is an attack (CVE-2018-20699).
fn bits(field: &str, list: &str) -> Result<Vec<u64>, PlanError> {
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < 1024 => {
                bits.resize(bits.len().max(last / 64 + 1), 0u64);
                (first..=last).for_each(|node| bits[node / 64] |= 1 << (node % 64));
            }
            _ => return wrong(field, format!("{range:?} is no range of numbers below 1024")),
        }
    }
    Ok(bits)
}

/// Compiles `linux.seccomp` of a specification; `None` when it has none.
///
/// # Errors
/// A profile that cannot be compiled, or a listener without a socket.
pub fn compile_filter(spec: &Spec, options: &PlanOptions) -> Result<Option<FilterPlan>, PlanError> {
    let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    profile.map(|profile| compile(profile, spec, options)).transpose()
}

fn compile(profile: &LinuxSeccomp, spec: &Spec, options: &PlanOptions) -> Result<FilterPlan, PlanError> {
    let Some(native) = seccomp::native() else {
        return wrong("linux.seccomp", "filters are not supported on this architecture");
    };
    let program = match seccomp::compile(profile, native) {
        Ok(program) => program,
        Err(error) => return wrong("linux.seccomp", error.to_string()),
    };
    let metadata = profile.listener_metadata.clone().unwrap_or_default();
    let listener = match (program.has_listener(), &profile.listener_path) {
        (true, Some(path)) if path.starts_with('/') => Some(ListenerPlan {
            socket: path.into(),
            metadata,
            container: options.id.clone(),
            bundle: options.bundle.clone(),
            annotations: spec.annotations.clone(),
        }),
        (true, _) => return wrong("linux.seccomp.listenerPath", "SCMP_ACT_NOTIFY needs an absolute path of a socket"),
        (false, _) => None,
    };
    Ok(FilterPlan { instructions: program.instructions, flags: program.flags, listener })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_bits() {
        assert_eq!(bits("x", "0-2,65").unwrap(), [7, 2]);
        assert!(bits("x", "1-9999999").is_err());
        assert!(bits("x", "3-1").is_err());
    }
}
