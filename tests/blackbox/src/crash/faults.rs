//! Points at which something goes wrong, and what may go wrong there.
//!
//! Every system call of dhow's own processes is a point. Calls that change nothing outside of their process ([`EFFECTLESS`])
//! are no points of a kill: a kill before one and a kill before the next that has an effect leave the same behind. The commit of
//! the database is a row of `pwrite64` and `fcntl` calls, and so a row of points.

use std::fmt;

use nix::libc;

/// Which of dhow's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The command line, with what it clones for itself.
    Client,
    /// A monitor.
    Monitor,
    /// A process that a monitor has cloned, until it executes the container's program.
    Child,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed before the call.
    Kill,
    /// All of dhow's processes that are traced are killed before the call: the command line and the monitor.
    KillAll,
    /// The call is not made and returns this error.
    Fail(i32),
}

/// The `nth` call of this number (0 is the first) by processes of this role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Whose call.
    pub role: Role,
    /// Its number in the kernel's table.
    pub call: i64,
    /// Calls of the same number and role before it.
    pub nth: u32,
}

/// A place and what goes wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Kill => "killed".to_owned(),
            Fault::KillAll => "all killed".to_owned(),
            Fault::Fail(errno) => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        };
        let role = match self.place.role {
            Role::Client => "command line",
            Role::Monitor => "monitor",
            Role::Child => "container's child",
        };
        write!(f, "{role}, {} #{}: {what}", name(self.place.call), self.place.nth)
    }
}

/// A call as the tracer saw it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which.
    pub place: Place,
    /// It opens a file that it may make.
    pub creates: bool,
}

const EIO: i32 = libc::EIO;
const ENOSPC: i32 = libc::ENOSPC;
const EMFILE: i32 = libc::EMFILE;
const ENOMEM: i32 = libc::ENOMEM;

/// Calls, their names, and which of the four errors the kernel may answer them with.
const CALLS: &[(i64, &str, &[i32])] = &[
    (libc::SYS_accept4, "accept4", &[EMFILE, ENOMEM]),
    (libc::SYS_bind, "bind", &[ENOMEM]),
    (libc::SYS_bpf, "bpf", &[ENOMEM]),
    (libc::SYS_brk, "brk", &[ENOMEM]),
    (libc::SYS_chdir, "chdir", &[EIO, ENOMEM]),
    (libc::SYS_clone, "clone", &[ENOMEM]),
    (libc::SYS_clone3, "clone3", &[ENOMEM, ENOSPC]),
    // EIO comes from network file systems that write at the end; the standard library takes it for impossible (closedir).
    (libc::SYS_close, "close", &[]),
    (libc::SYS_connect, "connect", &[ENOMEM]),
    (libc::SYS_copy_file_range, "copy_file_range", &[EIO, ENOSPC]),
    (libc::SYS_dup, "dup", &[EMFILE]),
    (libc::SYS_dup3, "dup3", &[EMFILE]),
    (libc::SYS_epoll_create1, "epoll_create1", &[EMFILE, ENOMEM]),
    (libc::SYS_epoll_ctl, "epoll_ctl", &[ENOMEM, ENOSPC]),
    (libc::SYS_eventfd2, "eventfd2", &[EMFILE, ENOMEM]),
    (libc::SYS_execve, "execve", &[EIO, ENOMEM]),
    (libc::SYS_execveat, "execveat", &[EIO, ENOMEM]),
    (libc::SYS_fallocate, "fallocate", &[EIO, ENOSPC]),
    (libc::SYS_fchmod, "fchmod", &[EIO]),
    (libc::SYS_fchmodat, "fchmodat", &[EIO]),
    (libc::SYS_fchown, "fchown", &[EIO]),
    (libc::SYS_fchownat, "fchownat", &[EIO]),
    (libc::SYS_fcntl, "fcntl", &[]),
    (libc::SYS_fdatasync, "fdatasync", &[EIO, ENOSPC]),
    (libc::SYS_flock, "flock", &[ENOMEM]),
    (libc::SYS_fsconfig, "fsconfig", &[ENOMEM]),
    (libc::SYS_fsetxattr, "fsetxattr", &[EIO, ENOSPC]),
    (libc::SYS_fsmount, "fsmount", &[EMFILE, ENOSPC, ENOMEM]),
    (libc::SYS_fsopen, "fsopen", &[EMFILE, ENOMEM]),
    (libc::SYS_fstat, "fstat", &[EIO]),
    (libc::SYS_fstatfs, "fstatfs", &[EIO]),
    (libc::SYS_fsync, "fsync", &[EIO, ENOSPC]),
    (libc::SYS_ftruncate, "ftruncate", &[EIO, ENOSPC]),
    (libc::SYS_getdents64, "getdents64", &[EIO]),
    (libc::SYS_inotify_add_watch, "inotify_add_watch", &[ENOSPC, ENOMEM]),
    (libc::SYS_inotify_init1, "inotify_init1", &[EMFILE, ENOMEM]),
    (libc::SYS_ioctl, "ioctl", &[EIO]),
    (libc::SYS_linkat, "linkat", &[EIO, ENOSPC]),
    (libc::SYS_lseek, "lseek", &[]),
    (libc::SYS_memfd_create, "memfd_create", &[EMFILE, ENOMEM]),
    (libc::SYS_mkdir, "mkdir", &[EIO, ENOSPC]),
    (libc::SYS_mkdirat, "mkdirat", &[EIO, ENOSPC]),
    (libc::SYS_mknodat, "mknodat", &[EIO, ENOSPC]),
    (libc::SYS_mmap, "mmap", &[ENOMEM]),
    (libc::SYS_mount, "mount", &[ENOSPC, ENOMEM]),
    (libc::SYS_mount_setattr, "mount_setattr", &[ENOMEM]),
    (libc::SYS_move_mount, "move_mount", &[ENOSPC, ENOMEM]),
    (libc::SYS_mprotect, "mprotect", &[ENOMEM]),
    (libc::SYS_newfstatat, "newfstatat", &[EIO]),
    (libc::SYS_open, "open", &[EIO, EMFILE]),
    (libc::SYS_open_tree, "open_tree", &[EMFILE, ENOMEM]),
    (libc::SYS_openat, "openat", &[EIO, EMFILE]),
    (libc::SYS_openat2, "openat2", &[EIO, EMFILE]),
    (libc::SYS_pidfd_open, "pidfd_open", &[EMFILE, ENOMEM]),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", &[]),
    (libc::SYS_pipe2, "pipe2", &[EMFILE]),
    (libc::SYS_pivot_root, "pivot_root", &[ENOMEM]),
    (libc::SYS_poll, "poll", &[ENOMEM]),
    (libc::SYS_ppoll, "ppoll", &[ENOMEM]),
    (libc::SYS_prctl, "prctl", &[]),
    (libc::SYS_pread64, "pread64", &[EIO]),
    (libc::SYS_pwrite64, "pwrite64", &[EIO, ENOSPC]),
    (libc::SYS_read, "read", &[EIO]),
    (libc::SYS_readlink, "readlink", &[EIO, ENOMEM]),
    (libc::SYS_readlinkat, "readlinkat", &[EIO, ENOMEM]),
    (libc::SYS_recvfrom, "recvfrom", &[ENOMEM]),
    (libc::SYS_recvmsg, "recvmsg", &[ENOMEM]),
    (libc::SYS_rename, "rename", &[EIO, ENOSPC]),
    (libc::SYS_renameat, "renameat", &[EIO, ENOSPC]),
    (libc::SYS_renameat2, "renameat2", &[EIO, ENOSPC]),
    (libc::SYS_rmdir, "rmdir", &[EIO]),
    (libc::SYS_seccomp, "seccomp", &[ENOMEM]),
    (libc::SYS_sendmsg, "sendmsg", &[ENOMEM]),
    (libc::SYS_sendto, "sendto", &[ENOMEM]),
    (libc::SYS_setns, "setns", &[ENOMEM]),
    (libc::SYS_setsockopt, "setsockopt", &[ENOMEM]),
    (libc::SYS_signalfd4, "signalfd4", &[EMFILE, ENOMEM]),
    (libc::SYS_socket, "socket", &[EMFILE, ENOMEM]),
    (libc::SYS_socketpair, "socketpair", &[EMFILE]),
    (libc::SYS_splice, "splice", &[ENOMEM]),
    (libc::SYS_statfs, "statfs", &[EIO]),
    (libc::SYS_statx, "statx", &[EIO]),
    (libc::SYS_symlinkat, "symlinkat", &[EIO, ENOSPC]),
    (libc::SYS_timerfd_create, "timerfd_create", &[EMFILE, ENOMEM]),
    (libc::SYS_umount2, "umount2", &[ENOMEM]),
    (libc::SYS_unlink, "unlink", &[EIO]),
    (libc::SYS_unlinkat, "unlinkat", &[EIO]),
    (libc::SYS_unshare, "unshare", &[ENOMEM, ENOSPC]),
    (libc::SYS_utimensat, "utimensat", &[EIO]),
    (libc::SYS_wait4, "wait4", &[]),
    (libc::SYS_waitid, "waitid", &[]),
    (libc::SYS_write, "write", &[EIO, ENOSPC]),
    (libc::SYS_writev, "writev", &[EIO, ENOSPC]),
];

/// Calls that change nothing that another process or a later command could see.
const EFFECTLESS: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_exit,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrlimit,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_uname,
];

/// The name of a call.
pub fn name(call: i64) -> String {
    let known = CALLS.iter().find(|(number, ..)| *number == call);
    known.map_or_else(|| format!("call {call}"), |(_, name, _)| (*name).to_owned())
}

/// All points of a run.
pub fn points(seen: &[Seen]) -> Vec<Point> {
    let mut points = vec![];
    let has_monitor = seen.iter().any(|seen| seen.place.role != Role::Client);
    for Seen { place, creates } in seen {
        let mut add = |fault| points.push(Point { place: *place, fault });
        if !EFFECTLESS.contains(&place.call) {
            add(Fault::Kill);
            if has_monitor {
                add(Fault::KillAll);
            }
        }
        let known = CALLS.iter().find(|(number, ..)| *number == place.call);
        known.map_or(&[][..], |(_, _, errors)| errors).iter().for_each(|errno| add(Fault::Fail(*errno)));
        if *creates {
            add(Fault::Fail(ENOSPC));
        }
    }
    points
}
