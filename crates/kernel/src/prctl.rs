//! Attributes of the calling process that are set by prctl(2) and by calls of its kind.

use std::ffi::CStr;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};

use crate::error::{Error, Result};

/// Makes set-user-id programs and file capabilities without effect from now on, irrevocably (Linux 3.5).
pub fn set_no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| Error::new("prctl(PR_SET_NO_NEW_PRIVS, 1)", errno))
}

/// Whether the permitted capabilities outlast the change from user 0 to another.
pub fn keep_capabilities(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep)
        .map_err(|errno| Error::new(format!("prctl(PR_SET_KEEPCAPS, {})", u8::from(keep)), errno))
}

/// Whether other processes of the same user may trace the process and read its descriptors in procfs.
///
/// execve(2) sets it again.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    let behavior = if dumpable { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    rustix::process::set_dumpable_behavior(behavior)
        .map_err(|errno| Error::new(format!("prctl(PR_SET_DUMPABLE, {})", u8::from(dumpable)), errno))
}

/// The signal to get when the parent ends; cleared by a change of credentials.
pub fn set_parent_death_signal(signal: Option<Signal>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|errno| Error::new(format!("prctl(PR_SET_PDEATHSIG, {signal:?})"), errno))
}

/// Makes the process the parent of orphans among its descendants (Linux 3.4).
pub fn set_child_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Error::new("prctl(PR_SET_CHILD_SUBREAPER, 1)", errno))
}

/// Name of the thread in process lists; 15 bytes are kept.
pub fn set_name(name: &CStr) -> Result<()> {
    rustix::thread::set_name(name).map_err(|errno| Error::new(format!("prctl(PR_SET_NAME, {name:?})"), errno))
}

/// Execution domain (personality(2)).
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::personality(libc::c_ulong::from(domain)) }), || format!("personality({domain:#x})"))
}

/// I/O priority of the calling process: class 1 to 3 and level 0 to 7 (ioprio_set(2)).
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let value = i32::from(class) << 13 | i32::from(level);
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    check(result, || format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, class {class}, level {level})"))
}

/// Scheduling policy and parameters, in the words of `struct sched_attr` (sched_setattr(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*` number.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority of the real-time policies.
    pub priority: u32,
    /// Nanoseconds of run time for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds of deadline.
    pub deadline: u64,
    /// Nanoseconds of period.
    pub period: u64,
}

/// Sets the scheduling of the calling thread (Linux 3.14).
pub fn set_scheduling(scheduling: &Scheduling) -> Result<()> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: scheduling.policy,
        flags: scheduling.flags,
        nice: scheduling.nice,
        priority: scheduling.priority,
        runtime: scheduling.runtime,
        deadline: scheduling.deadline,
        period: scheduling.period,
    };
    // SAFETY: the structure has the layout of version 0 of `sched_attr`, says its size and lives over the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    check(result, || format!("sched_setattr(0, {scheduling:?})"))
}

/// NUMA memory policy: mode with flags, and nodes as bits (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit off the count, a quirk as old as the call.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let pointer = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits from the slice, which has as many, or nothing at all.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    check(result, || format!("set_mempolicy({mode:#x}, {nodes:x?})"))
}

/// Replaces the supplementary groups, user and group ids of the calling thread, in the order in which each may be done.
pub fn set_identity(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    use rustix::process::{Gid, Uid};
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Error::new(format!("setresuid({uid}), setresgid({gid})"), Errno::INVAL));
    }
    if let Some(groups) = groups {
        // SAFETY: the pointer and length are those of a slice of gid_t.
        let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        check(result, || format!("setgroups({groups:?})"))?;
    }
    let gid_ = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid_, gid_, gid_)
        .map_err(|errno| Error::new(format!("setresgid({gid}, {gid}, {gid})"), errno))?;
    let uid_ = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid_, uid_, uid_)
        .map_err(|errno| Error::new(format!("setresuid({uid}, {uid}, {uid})"), errno))
}

/// Files that the calling thread makes belong to this user and group from now on (setfsuid(2)); its rights stay what they are.
pub fn own_files(uid: u32, gid: u32) -> Result<()> {
    for (call, name, id) in [(libc::SYS_setfsgid, "setfsgid", gid), (libc::SYS_setfsuid, "setfsuid", uid)] {
        // SAFETY: no memory is passed. The bare system call changes the calling thread alone.
        unsafe { libc::syscall(call, id) };
        // It answers with the id from before, whether it has changed it or not.
        // SAFETY: as above; -1 is no id, and changes nothing.
        let now = unsafe { libc::syscall(call, u32::MAX) };
        if now != i64::from(id) {
            return Err(Error::new(format!("{name}({id})"), Errno::PERM));
        }
    }
    // Leaving user 0, the kernel takes the capabilities over files out of the effective set (capabilities(7)).
    let sets = crate::capabilities::current()?;
    crate::capabilities::set(crate::capabilities::Thread { effective: sets.permitted, ..sets })
}

/// Sets a resource limit by its `RLIMIT_*` number; `u64::MAX` is unlimited.
pub fn set_resource_limit(resource: u32, name: &str, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit lives over the call, and no old one is asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    };
    check(result, || format!("prlimit({name}, soft {soft}, hard {hard})"))
}

fn check(result: i64, call: impl FnOnce() -> String) -> Result<()> {
    if result >= 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    Err(Error::new(call(), errno))
}
