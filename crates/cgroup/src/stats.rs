//! What a container has used: one structure for both versions.

use crate::controller::Controller;
use crate::error::Result;
use crate::files::Directory;
use crate::freeze::event;
use crate::group::Cgroup;
use crate::hierarchy::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Use at one moment. A part is absent where the group is in no tree that counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Memory and swap.
    pub memory: Option<MemoryStats>,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block devices, by number.
    pub io: Vec<IoStats>,
}

/// Bytes, if nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// In use now, page cache included.
    pub usage: u64,
    /// The highest use (v2: Linux 5.19).
    pub peak: Option<u64>,
    /// The limit; absent if unlimited.
    pub limit: Option<u64>,
    /// Swap in use.
    pub swap: Option<u64>,
    /// Page cache that is dropped first; `docker stats` subtracts it from the use.
    pub inactive_file: u64,
    /// How often an allocation met the limit.
    pub failures: u64,
    /// Processes killed for lack of memory, child groups included.
    pub oom_kills: u64,
    /// The kernel's own detailed list (memory.stat), in its names and units.
    pub detail: BTreeMap<String, u64>,
}

/// Nanoseconds, if nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All processor time.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Number of periods of the quota that have passed.
    pub periods: u64,
    /// Number of those in which the quota was used up.
    pub throttled_periods: u64,
    /// Time that processes were held back.
    pub throttled: u64,
}

/// Numbers of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// Processes and threads now.
    pub current: u64,
    /// The limit; absent if unlimited.
    pub limit: Option<u64>,
}

/// One block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoStats {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

impl Cgroup {
    /// Reads what has been used until now.
    ///
    /// # Errors
    /// A failed read other than "this kernel has no such file".
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        for joined in &self.joined {
            let mount = &self.description.mounts[joined.mount];
            let has = |controller| mount.controllers.contains(&controller);
            let directory = &joined.directory;
            match joined.version {
                Version::V2 => {
                    // The core counts processor time without any controller.
                    // Where both versions are mounted, what v1 has counted stays.
                    stats.cpu = cpu_v2(directory)?.or(stats.cpu);
                    stats.memory = memory_v2(directory)?.or(stats.memory);
                    stats.pids = pids(directory)?.or(stats.pids).or(threads(directory)?);
                    let io = io_v2(&directory.read_if_there("io.stat")?.unwrap_or_default());
                    if !io.is_empty() {
                        stats.io = io;
                    }
                }
                Version::V1 => {
                    if has(Controller::Memory) {
                        stats.memory = Some(memory_v1(directory)?);
                    }
                    if has(Controller::Pids) {
                        stats.pids = pids(directory)?.or(stats.pids);
                    }
                    if has(Controller::Cpuacct) && stats.cpu.is_none() {
                        stats.cpu = Some(cpuacct(directory)?);
                    }
                    if has(Controller::Io) {
                        stats.io = io_v1(directory)?;
                    }
                }
            }
        }
        self.throttling(&mut stats)?;
        Ok(stats)
    }

    /// v1 counts throttling in the tree of `cpu`, which may be another than the one that counts time.
    fn throttling(&self, stats: &mut Stats) -> Result<()> {
        let mounts = &self.description.mounts;
        let cpu = self.joined.iter().find(|joined| {
            joined.version == Version::V1 && mounts[joined.mount].controllers.contains(&Controller::Cpu)
        });
        if let (Some(joined), Some(cpu)) = (cpu, &mut stats.cpu) {
            let text = joined.directory.read_if_there("cpu.stat")?.unwrap_or_default();
            cpu.periods = event(&text, "nr_periods").unwrap_or(0);
            cpu.throttled_periods = event(&text, "nr_throttled").unwrap_or(0);
            cpu.throttled = event(&text, "throttled_time").unwrap_or(0);
        }
        Ok(())
    }

    /// How many processes of the container were killed for lack of memory, child groups included. v1: Linux 4.13.
    ///
    /// # Errors
    /// A failed read.
    pub fn oom_kills(&self) -> Result<u64> {
        let Some((version, directory)) = self.memory_directory() else { return Ok(0) };
        match version {
            Version::V2 => Ok(oom_kills_v2(directory)?),
            Version::V1 => oom_kills_v1(directory, 0),
        }
    }

    /// Where memory is limited and counted.
    pub(crate) fn memory_directory(&self) -> Option<(Version, &Directory)> {
        let mounts = &self.description.mounts;
        let memory = self.joined.iter().find(|joined| mounts[joined.mount].controllers.contains(&Controller::Memory));
        memory.map(|joined| (joined.version, &joined.directory))
    }
}

fn number(directory: &Directory, file: &str) -> Result<Option<u64>> {
    // `max` and v1's -1 are no numbers: unlimited.
    Ok(directory.read_if_there(file)?.and_then(|text| text.trim().parse().ok()))
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn oom_kills_v2(directory: &Directory) -> Result<u64> {
    let text = directory.read_if_there("memory.events")?.unwrap_or_default();
    Ok(event(&text, "oom_kill").unwrap_or(0))
}

/// v1 counts each group by itself.
fn oom_kills_v1(directory: &Directory, depth: u32) -> Result<u64> {
    let text = directory.read_if_there("memory.oom_control")?.unwrap_or_default();
    let mut kills = event(&text, "oom_kill").unwrap_or(0);
    if depth < 16 {
        for name in directory.children()? {
            if let Ok(child) = directory.child(&name) {
                kills += oom_kills_v1(&child, depth + 1)?;
            }
        }
    }
    Ok(kills)
}

fn memory_v2(directory: &Directory) -> Result<Option<MemoryStats>> {
    let Some(usage) = number(directory, "memory.current")? else { return Ok(None) };
    let detail = pairs(&directory.read_if_there("memory.stat")?.unwrap_or_default());
    let events = directory.read_if_there("memory.events")?.unwrap_or_default();
    Ok(Some(MemoryStats {
        usage,
        peak: number(directory, "memory.peak")?,
        limit: number(directory, "memory.max")?,
        swap: number(directory, "memory.swap.current")?,
        inactive_file: detail.get("inactive_file").copied().unwrap_or(0),
        failures: event(&events, "max").unwrap_or(0),
        oom_kills: event(&events, "oom_kill").unwrap_or(0),
        detail,
    }))
}

fn memory_v1(directory: &Directory) -> Result<MemoryStats> {
    // Unlimited is the largest multiple of a page in an i64.
    const UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;
    let detail = pairs(&directory.read_if_there("memory.stat")?.unwrap_or_default());
    let usage = number(directory, "memory.usage_in_bytes")?.unwrap_or(0);
    let with_swap = number(directory, "memory.memsw.usage_in_bytes")?;
    Ok(MemoryStats {
        usage,
        peak: number(directory, "memory.max_usage_in_bytes")?,
        limit: number(directory, "memory.limit_in_bytes")?.filter(|limit| *limit < UNLIMITED),
        swap: with_swap.map(|both| both.saturating_sub(usage)),
        inactive_file: detail.get("total_inactive_file").copied().unwrap_or(0),
        failures: number(directory, "memory.failcnt")?.unwrap_or(0),
        oom_kills: oom_kills_v1(directory, 0)?,
        detail,
    })
}

fn cpu_v2(directory: &Directory) -> Result<Option<CpuStats>> {
    let Some(text) = directory.read_if_there("cpu.stat")? else { return Ok(None) };
    let nanoseconds = |key| event(&text, key).unwrap_or(0).saturating_mul(1000);
    Ok(Some(CpuStats {
        usage: nanoseconds("usage_usec"),
        user: nanoseconds("user_usec"),
        system: nanoseconds("system_usec"),
        periods: event(&text, "nr_periods").unwrap_or(0),
        throttled_periods: event(&text, "nr_throttled").unwrap_or(0),
        throttled: nanoseconds("throttled_usec"),
    }))
}

fn cpuacct(directory: &Directory) -> Result<CpuStats> {
    Ok(CpuStats {
        usage: number(directory, "cpuacct.usage")?.unwrap_or(0),
        user: number(directory, "cpuacct.usage_user")?.unwrap_or(0),
        system: number(directory, "cpuacct.usage_sys")?.unwrap_or(0),
        ..CpuStats::default()
    })
}

fn pids(directory: &Directory) -> Result<Option<PidsStats>> {
    let Some(current) = number(directory, "pids.current")? else { return Ok(None) };
    Ok(Some(PidsStats { current, limit: number(directory, "pids.max")? }))
}

/// Without the controller, tasks are counted by listing them; those of the container's own child groups are not seen.
fn threads(directory: &Directory) -> Result<Option<PidsStats>> {
    let Some(text) = directory.read_if_there("cgroup.threads")? else { return Ok(None) };
    let current = u64::try_from(text.lines().count()).unwrap_or(u64::MAX);
    Ok(Some(PidsStats { current, limit: None }))
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn io_v2(text: &str) -> Vec<IoStats> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        let mut stats = IoStats { major, minor, ..IoStats::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => stats.read_bytes = value,
                "wbytes" => stats.write_bytes = value,
                "rios" => stats.reads = value,
                "wios" => stats.writes = value,
                _ => {}
            }
        }
        all.push(stats);
    }
    all
}

/// `8:0 Read 4096`; BFQ's file counts if the throttle's is not there.
fn io_v1(directory: &Directory) -> Result<Vec<IoStats>> {
    let mut all: BTreeMap<(u32, u32), IoStats> = BTreeMap::new();
    for (files, bytes) in [
        (["blkio.throttle.io_service_bytes_recursive", "blkio.bfq.io_service_bytes_recursive"], true),
        (["blkio.throttle.io_serviced_recursive", "blkio.bfq.io_serviced_recursive"], false),
    ] {
        let mut text = directory.read_if_there(files[0])?.unwrap_or_default();
        if text.lines().count() < 2 {
            text = directory.read_if_there(files[1])?.unwrap_or(text);
        }
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some((major, minor)) = words.next().and_then(device) else { continue };
            let (kind, value) =
                (words.next().unwrap_or(""), words.next().and_then(|word| word.parse().ok()).unwrap_or(0));
            let stats = all.entry((major, minor)).or_insert(IoStats { major, minor, ..IoStats::default() });
            match (kind, bytes) {
                ("Read", true) => stats.read_bytes = value,
                ("Write", true) => stats.write_bytes = value,
                ("Read", false) => stats.reads = value,
                ("Write", false) => stats.writes = value,
                _ => {}
            }
        }
    }
    Ok(all.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_io_stat() {
        let stats = io_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n\nx\n7:1\n");
        assert_eq!(stats.len(), 2);
        assert_eq!(stats[0], IoStats { major: 8, minor: 0, read_bytes: 1, write_bytes: 2, reads: 3, writes: 4 });
        assert_eq!(event("low 0\noom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(event("oom_kill_disable 0\n", "oom_kill"), None);
        assert_eq!(pairs("cache 5\nbad\nx y\n").len(), 1);
    }
}
