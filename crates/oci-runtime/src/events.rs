//! `events`: what a container uses, and when memory runs out in it.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};

use crate::class;
use crate::error::{Error, Result};
use crate::groups;
use crate::record::Status;
use crate::store::Store;

/// Use at one moment, as runc prints it.
pub type Usage = Value;

/// What a container uses now.
///
/// # Errors
/// [`Error::State`] for one that does not run.
pub fn usage(store: &Store, id: &str) -> Result<Usage> {
    let container = store.find(id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::State(format!("container with id {id} is not running")));
    }
    let stats = groups::need(&container.record)?.stats()?;
    let (cpu, memory, pids) =
        (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default(), stats.pids.unwrap_or_default());
    let by_device = |values: fn(&cgroup::IoStats) -> [(&'static str, u64); 2]| {
        let rows = stats.io.iter().flat_map(|device| {
            values(device).map(|(operation, value)| {
                json!({"major": device.major, "minor": device.minor, "op": operation, "value": value})
            })
        });
        Value::Array(rows.collect())
    };
    let cache = memory.detail.get("cache").or_else(|| memory.detail.get("file")).copied().unwrap_or(0);
    let swap = memory.swap.unwrap_or(0);
    Ok(json!({
        "cpu": {
            "usage": {"total": cpu.usage, "kernel": cpu.system, "user": cpu.user},
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled,
            },
        },
        "cpuset": {},
        "memory": {
            "cache": cache,
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.peak.unwrap_or(0),
                "failcnt": memory.failures,
            },
            "swap": {"limit": 0, "usage": swap, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": memory.detail,
        },
        "pids": {"current": pids.current, "limit": pids.limit.unwrap_or(0)},
        "blkio": {
            "ioServiceBytesRecursive": by_device(|device| [("read", device.read_bytes), ("write", device.write_bytes)]),
            "ioServicedRecursive": by_device(|device| [("read", device.reads), ("write", device.writes)]),
        },
        "hugetlb": {},
        "intel_rdt": class::figures(&container.record)?,
        "network_interfaces": null,
    }))
}

/// Calls `oom` each time that memory ran out, and `tick` each `interval`, until the container has ended or one of them says
/// that it is enough.
///
/// # Errors
/// [`Error::State`] for a container that does not run.
pub fn watch_for_oom(
    store: &Store,
    id: &str,
    interval: Duration,
    mut oom: impl FnMut() -> bool,
    mut tick: impl FnMut() -> bool,
) -> Result<()> {
    let container = store.find(id)?;
    let Some(process) = container.open_process()? else {
        return Err(Error::State(format!("container with id {id} is not running")));
    };
    let group = groups::need(&container.record)?;
    let watch = group.oom_watch()?;
    let mut seen = group.oom_kills()?;
    let wait = Timespec {
        tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: interval.subsec_nanos().into(),
    };
    loop {
        let other = watch.as_ref().map_or(process.as_fd(), AsFd::as_fd);
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&wait)));
        let ready = ready.map_err(|errno| kernel::Error::new("poll(<process, memory>)", errno))?;
        let (ended, memory) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if memory && let Some(watch) = &watch {
            watch.drain()?;
        }
        // The group may be gone together with the process.
        let kills = group.oom_kills().unwrap_or(seen);
        if kills > seen {
            seen = kills;
            if !oom() {
                return Ok(());
            }
        }
        if ended || (ready == 0 && !tick()) {
            return Ok(());
        }
    }
}
