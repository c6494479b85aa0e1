//! Killing what a container without a cgroup leaves, when it also has no pid namespace whose end kills it.
//!
//! Such containers are an ordinary user's, on a machine that delegates no cgroups, with `--pid host`. The monitor adopts
//! whoever loses its parent (`PR_SET_CHILD_SUBREAPER`, Linux 3.4), so that at the end all of them are its children.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// From now on the calling process is the parent of all orphans among its descendants.
pub(crate) fn adopt() {
    // Has never failed since it exists; without it, leftovers would belong to the machine's init.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
}

/// Kills all children, and theirs, until only zombies are left, which the caller reaps.
pub(crate) fn kill() {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let alive: Vec<Pid> = children().into_iter().filter(|&child| is_alive(child)).collect();
        if alive.is_empty() {
            return;
        }
        for child in alive {
            // A child that is not reaped keeps its number, so this hits nobody else.
            rustix::process::kill_process(child, Signal::KILL).ok();
        }
        // When one is a zombie its children have been adopted, and the next look finds them.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `/proc/thread-self/children` (Linux 4.2 with `CONFIG_PROC_CHILDREN`); empty where the kernel has no such file.
fn children() -> Vec<Pid> {
    let text = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).filter_map(Pid::from_raw).collect()
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The name may have spaces and parentheses of its own.
    !matches!(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()), Some('Z' | 'X') | None)
}
