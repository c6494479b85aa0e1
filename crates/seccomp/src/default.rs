//! The default profile: equal in effect to Docker's of June 2026 (moby/profiles), for the architectures that dhow runs on.
//!
//! Everything that is not named fails with `EPERM`. What needs a capability is allowed to containers that have it, the
//! kernel's own check being the second barrier. Creating namespaces without `CAP_SYS_ADMIN` is refused by looking at the
//! flags of clone(2); those of clone3(2) are behind a pointer, so it "does not exist" and C libraries fall back.

use crate::arch::Column;
use crate::compile::{ALLOW, ENOSYS, ERRNO, Error, Rule, assemble};
use crate::emit::Condition;
use crate::names::rows;
use crate::numbers::ROWS;
use crate::program::{FLAG_SPEC_ALLOW, Program};
use oci::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFlag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use std::borrow::Cow;

/// The running kernel's version: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

/// Under which circumstances a group is part of the profile.
enum When {
    Always,
    Since(KernelVersion),
    With(&'static str),
    Without(&'static str),
    On(&'static [Arch]),
}

struct Group {
    when: When,
    calls: &'static [u16],
    /// Allow, or this errno.
    errno: Option<u32>,
    conditions: &'static [Condition],
}

const fn allow(when: When, calls: &'static [u16]) -> Group {
    Group { when, calls, errno: None, conditions: &[] }
}

const fn allow_if(when: When, calls: &'static [u16], conditions: &'static [Condition]) -> Group {
    Group { when, calls, errno: None, conditions }
}

const fn first(operator: Operator, value: u64) -> [Condition; 1] {
    [Condition { index: 0, operator, value, value_two: 0 }]
}

const fn masked(mask: u64, value_two: u64) -> [Condition; 1] {
    [Condition { index: 0, operator: Operator::MaskedEqual, value: mask, value_two }]
}

#[rustfmt::skip]
static ALWAYS: &[u16] = &rows([
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir",
    "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range",
    "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve",
    "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate",
    "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl",
    "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "getcpu", "getcwd", "getdents",
    "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
    "getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list", "getrusage", "getsid", "getsockname",
    "getsockopt", "get_thread_area", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup", "io_submit",
    "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32",
    "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr", "_llseek",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall",
    "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd",
    "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "_newselect", "open",
    "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64",
    "process_mrelease", "pselect6", "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
    "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg",
    "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "rmdir",
    "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
    "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop", "semtimedop",
    "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "setfsgid", "setfsgid32",
    "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority",
    "setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
    "setrlimit", "set_robust_list", "setsid", "setsockopt", "set_thread_area", "set_tid_address", "setuid",
    "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs",
    "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee",
    "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink",
    "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4",
    "waitid", "waitpid", "write", "writev",
]);

const SOCKET: [u16; 1] = rows(["socket"]);
const PERSONALITY: [u16; 1] = rows(["personality"]);
const CLONE: [u16; 1] = rows(["clone"]);
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// `CLONE_NEWNS`, `CLONE_NEWCGROUP`, `CLONE_NEWUTS`, `CLONE_NEWIPC`, `CLONE_NEWUSER`, `CLONE_NEWPID` and `CLONE_NEWNET`.
const NAMESPACES: u64 = 0x7e02_0000;

static GROUPS: &[Group] = &[
    allow(When::Always, ALWAYS),
    // Before Linux 4.8, ptrace was a way around the filter.
    allow(When::Since(KernelVersion(4, 8)), &rows(["process_vm_readv", "process_vm_writev", "ptrace"])),
    // Every address family but AF_ALG, the kernel's cryptography, and AF_VSOCK, which leads to the host of a virtual
    // machine past all network namespaces. The kernel looks at the low 32 bits of the argument, the filter at all 64:
    // Docker's "greater than AF_VSOCK" lets 2^32 + AF_ALG through, so the families above are named, as far as there are
    // any (AF_MAX is 46 in Linux 6.18).
    allow_if(When::Always, &SOCKET, &first(Operator::LessThan, AF_ALG)),
    allow_if(When::Always, &SOCKET, &first(Operator::EqualTo, AF_ALG + 1)),
    allow_if(When::Always, &SOCKET, &first(Operator::EqualTo, AF_VSOCK + 1)),
    allow_if(When::Always, &SOCKET, &masked(!1, AF_VSOCK + 2)),
    allow_if(When::Always, &SOCKET, &masked(!3, AF_VSOCK + 4)),
    // Plain Linux, `UNAME26`, 32-bit Linux, both, and the question which it is.
    allow_if(When::Always, &PERSONALITY, &first(Operator::EqualTo, 0)),
    allow_if(When::Always, &PERSONALITY, &first(Operator::EqualTo, 0x0000_0008)),
    allow_if(When::Always, &PERSONALITY, &first(Operator::EqualTo, 0x0002_0000)),
    allow_if(When::Always, &PERSONALITY, &first(Operator::EqualTo, 0x0002_0008)),
    allow_if(When::Always, &PERSONALITY, &first(Operator::EqualTo, 0xffff_ffff)),
    allow(
        When::On(&[Arch::Aarch64, Arch::Arm]),
        &rows(["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"]),
    ),
    allow(When::On(&[Arch::X86_64]), &rows(["arch_prctl", "modify_ldt"])),
    allow(When::With("CAP_DAC_READ_SEARCH"), &rows(["open_by_handle_at"])),
    allow(
        When::With("CAP_SYS_ADMIN"),
        &rows([
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ]),
    ),
    allow_if(When::Without("CAP_SYS_ADMIN"), &CLONE, &masked(NAMESPACES, 0)),
    Group { when: When::Without("CAP_SYS_ADMIN"), calls: &rows(["clone3"]), errno: Some(ENOSYS), conditions: &[] },
    allow(When::With("CAP_SYS_BOOT"), &rows(["reboot"])),
    allow(When::With("CAP_SYS_CHROOT"), &rows(["chroot"])),
    allow(When::With("CAP_SYS_MODULE"), &rows(["delete_module", "init_module", "finit_module"])),
    allow(When::With("CAP_SYS_PACCT"), &rows(["acct"])),
    allow(
        When::With("CAP_SYS_PTRACE"),
        &rows(["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ),
    allow(When::With("CAP_SYS_RAWIO"), &rows(["iopl", "ioperm"])),
    allow(When::With("CAP_SYS_TIME"), &rows(["settimeofday", "stime", "clock_settime", "clock_settime64"])),
    allow(When::With("CAP_SYS_TTY_CONFIG"), &rows(["vhangup"])),
    allow(When::With("CAP_SYS_NICE"), &rows(["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"])),
    allow(When::With("CAP_SYSLOG"), &rows(["syslog"])),
    allow(When::With("CAP_BPF"), &rows(["bpf"])),
    allow(When::With("CAP_PERFMON"), &rows(["perf_event_open"])),
];

/// The groups for a container with this bounding set.
fn groups<'a, C: AsRef<str>>(
    capabilities: &'a [C],
    kernel: KernelVersion,
    native: Arch,
) -> impl Iterator<Item = &'static Group> + use<'a, C> {
    let has = move |name: &str| capabilities.iter().any(|capability| capability.as_ref() == name);
    GROUPS.iter().filter(move |group| match &group.when {
        When::Always => true,
        When::Since(first) => kernel >= *first,
        When::With(capability) => has(capability),
        When::Without(capability) => !has(capability),
        When::On(architectures) => architectures.contains(&native),
    })
}

/// The default profile as a document: for containers with these capabilities in their bounding set (`CAP_…`), on this
/// kernel, for processes of this architecture.
pub fn default_profile<C: AsRef<str>>(capabilities: &[C], kernel: KernelVersion, native: Arch) -> LinuxSeccomp {
    let syscalls = groups(capabilities, kernel, native).map(|group| LinuxSyscall {
        names: group.calls.iter().map(|row| ROWS[usize::from(*row)].name.to_owned()).collect(),
        action: if group.errno.is_some() { Action::Errno } else { Action::Allow },
        errno_ret: group.errno,
        args: group.conditions.iter().map(argument).collect(),
    });
    let secondary = Column::of(native).map_or(&[][..], Column::secondary);
    LinuxSeccomp {
        default_action: Action::Errno,
        default_errno_ret: Some(1),
        architectures: std::iter::once(native).chain(secondary.iter().copied()).collect(),
        // As runc does where a profile says nothing: the mitigation costs much and is per process since Linux 5.16.
        flags: Some(vec![LinuxSeccompFlag::SpecAllow]),
        listener_path: None,
        listener_metadata: None,
        syscalls: syscalls.collect(),
    }
}

fn argument(condition: &Condition) -> LinuxSeccompArg {
    let Condition { index, operator, value, value_two } = *condition;
    LinuxSeccompArg { index, value, value_two, op: operator }
}

/// The default profile, compiled without the way through the document: the same program as from [`default_profile`].
///
/// # Errors
/// [`Error::Architecture`] only.
pub fn default_program<C: AsRef<str>>(
    capabilities: &[C],
    kernel: KernelVersion,
    native: Arch,
) -> Result<Program, Error> {
    let column = match native {
        Arch::X86_64 | Arch::Aarch64 => Column::of(native),
        _ => None,
    };
    let column = column.ok_or(Error::Architecture(native.name()))?;
    let rules: Vec<Rule<'_>> = groups(capabilities, kernel, native)
        .map(|group| Rule {
            calls: Cow::Borrowed(group.calls),
            answer: group.errno.map_or(ALLOW, |errno| ERRNO | errno),
            conditions: Cow::Borrowed(group.conditions),
        })
        .collect();
    let secondary = column.secondary().iter().filter_map(|arch| Column::of(*arch));
    let columns: Vec<Column> = std::iter::once(column).chain(secondary).collect();
    assemble(&columns, &rules, ERRNO | 1, FLAG_SPEC_ALLOW)
}
