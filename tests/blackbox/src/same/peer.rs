//! Debian's dockerd in namespaces of its own, with nothing of the machine's.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::play::Stage;
use crate::case::skip;
use crate::host;

/// `/sys` must belong to the network namespace, or dockerd waits for a bridge that it cannot see; and runc takes a v2 hierarchy that
/// stands beside those of v1 for the only one.
pub const ENTER: &str = "
    ip link set lo up
    mkdir -p /run/same-cgroup
    mount -t tmpfs tmpfs /run/same-cgroup
    mkdir /run/same-cgroup/keep
    mount --rbind /sys/fs/cgroup /run/same-cgroup/keep
    umount --recursive --lazy /sys
    mount -t sysfs sysfs /sys
    mount --move /run/same-cgroup/keep /sys/fs/cgroup
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    exec \"$@\"";

/// A running dockerd, with bridges and firewall of its own. It ends with the value.
pub struct Peer {
    daemon: Child,
    /// Where its command line is called `docker`.
    pub stage: Stage,
    cgroup: String,
}

impl Peer {
    /// Starts one below the directory and waits until it answers. The test is skipped, with the reason, where it cannot.
    pub fn start(directory: &Path) -> Result<Self> {
        let Some(daemon) = host::program("dockerd") else {
            return skip("dockerd is not installed (package docker.io)");
        };
        // Other versions of the command line say some things in other words: DHOW_SAME_DOCKER is for looking at them.
        let client = std::env::var("DHOW_SAME_DOCKER").unwrap_or_else(|_| "/usr/bin/docker".to_owned());
        fs::create_dir_all(directory)?;
        let log = fs::File::create(directory.join("log"))?;
        let socket = format!("unix://{}/docker.sock", directory.display());
        let cgroup = format!("/same-{}", std::process::id());
        let child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-euc", ENTER, "enter"])
            .arg(daemon)
            .args(["--host", &socket, "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &cgroup])
            .args(
                [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
                    .map(|(flag, name)| format!("{flag}={}", directory.join(name).display())),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let stage = Stage::new(directory.join("stage"), &format!("exec env DOCKER_HOST={socket} {client} \"$@\""))?;
        let mut peer = Self { daemon: child, stage, cgroup };
        let until = Instant::now() + Duration::from_secs(40);
        while peer.stage.run("start", "docker version")?.code != 0 {
            if peer.daemon.try_wait()?.is_some() || Instant::now() > until {
                let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
                let end: Vec<_> = log.lines().rev().take(3).collect();
                return skip(format!("dockerd does not start here: {}", end.join(" / ")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(peer)
    }

    /// Removes everything but images with this name.
    pub fn clear(&self, image: &str) -> Result<()> {
        let script = format!(
            "docker ps -aq | xargs -r docker rm -fv; docker volume prune -f; docker network prune -f;
            docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}} {{{{.ID}}}}' | grep -v '^{image} ' | sed 's/^<none>:<none> //; s/ .*//' |
            xargs -r docker rmi -f; true"
        );
        self.stage.run("clear", &script).map(drop)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // By its own means first, so that its containers and mounts are cleaned up. What fails here has ended already.
        drop(self.clear("none"));
        drop(Command::new("kill").arg(self.daemon.id().to_string()).status());
        drop(host::until("dockerd ends", Duration::from_secs(15), || Ok(self.daemon.try_wait()?)));
        drop(self.daemon.kill());
        drop(self.daemon.wait());
        drop(
            Command::new("sh")
                .args(["-c", "rmdir /sys/fs/cgroup$0 /sys/fs/cgroup/*$0 2>/dev/null", &self.cgroup])
                .status(),
        );
    }
}
