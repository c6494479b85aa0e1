//! The namespaces that a benchmark runs in.

use anyhow::{Result, bail};

use crate::command::command;

/// Set in the environment of the process inside.
pub const MARK: &str = "DHOW_BENCH_CAGE";

/// `/sys` must belong to the new network namespace, or dockerd waits for a bridge that it cannot see; and crun refuses to work
/// where a v2 hierarchy stands beside those of v1. A process namespace ends every daemon with the benchmark. Every podman counts its
/// containers in one file of `/dev/shm`, whatever its root is, and refuses the 2,049th: a new one forgets those that earlier runs left.
const ENTER: &str = "
    ip link set lo up
    mount -t tmpfs tmpfs /dev/shm
    mkdir -p /run/dhow-bench-cgroup
    mount --rbind /sys/fs/cgroup /run/dhow-bench-cgroup
    umount --recursive --lazy /sys
    mount -t sysfs sysfs /sys
    mount --move /run/dhow-bench-cgroup /sys/fs/cgroup
    rmdir /run/dhow-bench-cgroup
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    exec \"$@\"";

/// Runs this program with the same words inside.
pub fn enter(words: &[&str]) -> Result<()> {
    let own = std::env::current_exe()?;
    let mut outer = command("unshare", ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    outer.args(["bash", "-euc", ENTER, "cage"]).arg(own).arg("bench").args(words).env(MARK, "1");
    let status = outer.status()?;
    if !status.success() {
        bail!("the benchmark: {status}");
    }
    Ok(())
}
