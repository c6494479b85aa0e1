//! Who a process is: user, groups, limits, capabilities, filter, label.

use std::os::fd::{BorrowedFd, OwnedFd};

use kernel::capabilities::{self, Set, Thread};
use kernel::lsm::{self, Procfs};
use kernel::prctl::{self, Scheduling};
use kernel::seccomp;

use crate::error::{During, Error, Result};
use crate::plan::{CapabilityPlan, FilterPlan, ProcessPlan, UserPlan};
use crate::program;
use crate::users::{self, User};

/// sched.h.
const SCHED_DEADLINE: u32 = 6;

/// Numbers for the user of a plan.
pub(crate) fn resolve(process: &ProcessPlan, root: BorrowedFd<'_>) -> Result<User> {
    match &process.user {
        UserPlan::Numeric { uid, gid, groups } => {
            let home = (!program::has_home(&process.env)).then(|| users::home_of(root, *uid));
            Ok(User { uid: *uid, gid: *gid, groups: groups.clone(), home })
        }
        UserPlan::Named { user, additional } => users::resolve(root, user, additional),
    }
}

/// Raising a hard limit needs `CAP_SYS_RESOURCE`; without it that is an error, as in runc.
pub(crate) fn limit_resources(process: &ProcessPlan) -> Result<()> {
    for limit in &process.resource_limits {
        prctl::set_resource_limit(limit.resource, &limit.name, limit.soft, limit.hard)
            .during(|| format!("set the limit {} (raising a hard limit needs CAP_SYS_RESOURCE)", limit.name))?;
    }
    Ok(())
}

/// CPUs as bits; empty changes nothing.
pub(crate) fn bind_to_cpus(bits: &[u64]) -> Result<()> {
    if bits.iter().all(|word| *word == 0) {
        return Ok(());
    }
    let mut set = rustix::thread::CpuSet::new();
    let numbers = (0..bits.len() * 64).filter(|number| bits[number / 64] >> (number % 64) & 1 == 1);
    numbers.take_while(|number| *number < rustix::thread::CpuSet::MAX_CPU).for_each(|number| set.set(number));
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| kernel::Error::new(format!("sched_setaffinity(0, {bits:x?})"), errno))
        .during(|| "bind to the given CPUs")
}

/// On whichever CPUs the cgroup has: what its maker is bound to is not meant for a container (taskset(1), `CPUAffinity=` of a
/// service). Where that is refused it stays as it was.
pub(crate) fn bind_to_no_cpu() {
    let mut set = rustix::thread::CpuSet::new();
    (0..rustix::thread::CpuSet::MAX_CPU).for_each(|number| set.set(number));
    rustix::thread::sched_setaffinity(None, &set).ok();
}

pub(crate) fn schedule(process: &ProcessPlan) -> Result<()> {
    if let Some(plan) = &process.scheduling {
        let scheduling = Scheduling {
            policy: plan.policy,
            flags: plan.flags,
            nice: plan.nice,
            priority: plan.priority,
            runtime: plan.runtime,
            deadline: plan.deadline,
            period: plan.period,
        };
        prctl::set_scheduling(&scheduling).during(|| match plan.policy {
            // sched_setattr(2): the kernel admits no deadlines to a process that may not run on all CPUs of its domain.
            SCHED_DEADLINE => "set the scheduling policy (process scheduler can't be used together with AllowedCPUs or another cpuset)",
            _ => "set the scheduling policy",
        })?;
    }
    if let Some((class, level)) = process.io_priority {
        prctl::set_io_priority(class, level).during(|| "set the I/O priority")?;
    }
    if let Some(domain) = process.personality {
        prctl::set_personality(domain).during(|| "set the personality")?;
    }
    if let Some((mode, nodes)) = &process.memory_policy {
        prctl::set_memory_policy(*mode, nodes).during(|| "set the memory policy")?;
    }
    Ok(())
}

/// Becomes the user, keeping the capabilities that the steps after it need.
pub(crate) fn become_user(process: &ProcessPlan, user: &User) -> Result<()> {
    let step = || format!("become user {}:{}", user.uid, user.gid);
    // Before CAP_SETPCAP goes.
    if let Some(plan) = &process.capabilities {
        capabilities::limit_bounding(plan.bounding).during(|| "limit the bounding set")?;
    }
    let keep = user.uid != 0 && process.capabilities.is_some();
    if keep {
        prctl::keep_capabilities(true).during(step)?;
    }
    match prctl::set_identity(user.uid, user.gid, Some(&user.groups)) {
        // In a user namespace whose setgroups is denied no group can be had, and none was asked for.
        Err(error) if error.errno() == rustix::io::Errno::PERM && user.groups.is_empty() => {
            prctl::set_identity(user.uid, user.gid, None)
        }
        other => other,
    }
    .map_err(|source| {
        // setresuid(2): an id that the user namespace does not map.
        let unmapped = source.errno() == rustix::io::Errno::INVAL;
        let reason = if unmapped { ", which does not exist in this user namespace (subuid(5))" } else { "" };
        Error::Step { step: format!("{}{reason}", step()), source }
    })?;
    if keep {
        // The change of user has cleared the effective set; a filter without no_new_privs needs CAP_SYS_ADMIN in it.
        let sets = capabilities::current().during(step)?;
        capabilities::set(Thread { effective: sets.permitted, ..sets }).during(step)?;
        prctl::keep_capabilities(false).during(step)?;
    }
    Ok(())
}

/// Sets the four sets that are left. What the runtime does not have itself cannot be given and is left out, as in runc:
/// `--privileged` inside another container means all that there is.
pub(crate) fn limit_capabilities(process: &ProcessPlan) -> Result<()> {
    let Some(CapabilityPlan { effective, permitted, inheritable, ambient, .. }) = process.capabilities else {
        return Ok(());
    };
    let step = || "set the capabilities";
    let available = capabilities::current().during(step)?.permitted;
    let own = |set: Set| set.intersection(available);
    capabilities::set(Thread { effective: own(effective), permitted: own(permitted), inheritable: own(inheritable) })
        .during(step)?;
    capabilities::set_ambient(own(ambient)).during(step)
}

/// Gives the descriptor on which a supervisor answers, if the filter asks for one.
pub(crate) fn load_filter(filter: &FilterPlan) -> Result<Option<OwnedFd>> {
    seccomp::load(&filter.instructions, filter.flags).during(|| "load the system call filter")
}

pub(crate) fn label(process: &ProcessPlan, procfs: &Procfs) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile {
        lsm::set_apparmor_profile(procfs, profile).during(|| format!("use the AppArmor profile {profile:?}"))?;
    }
    if let Some(label) = &process.selinux_label {
        lsm::set_selinux_label(procfs, label).during(|| format!("use the SELinux label {label:?}"))?;
    }
    Ok(())
}
