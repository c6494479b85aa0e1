//! What a running container uses now: its cgroup's counters and its network devices'.

use super::record::Container;
use crate::engine::Engine;
use crate::error::{Context, Result};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Counters at one moment. All but the present use of memory and tasks rise from the container's start on; a front end
/// that wants rates takes two.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Identifier of the container.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When the counters were read.
    pub time: Timestamp,
    /// The cgroup's counters; `None` for a container that does not run, or has no cgroup.
    pub cgroup: Option<cgroup::Stats>,
    /// Bytes of memory that the container can use: its limit, or the machine's memory.
    pub memory_limit: u64,
    /// Network devices by name, without loopback.
    pub networks: BTreeMap<String, NetworkUsage>,
    /// Processors of the machine.
    pub processors: usize,
    /// Processor time of the whole machine since its boot, in nanoseconds, idle time included.
    pub machine_time: u64,
}

/// Counters of one network device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets that came damaged.
    pub received_errors: u64,
    /// Packets that came and were dropped.
    pub received_dropped: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that could not be sent.
    pub sent_errors: u64,
    /// Packets that were to be sent and were dropped.
    pub sent_dropped: u64,
}

impl Usage {
    /// Bytes of memory in use, without page cache that is dropped first.
    pub fn memory(&self) -> u64 {
        let memory = self.cgroup.as_ref().and_then(|stats| stats.memory.as_ref());
        // The two are not read at the same moment.
        memory.map_or(0, |memory| match memory.usage.checked_sub(memory.inactive_file) {
            Some(rest) if rest > 0 => rest,
            _ => memory.usage,
        })
    }

    /// Share of one processor since `earlier`, in percent: 200 is two processors.
    pub fn processor_percent(&self, earlier: &Usage) -> f64 {
        let total =
            |usage: &Usage| usage.cgroup.as_ref().and_then(|stats| stats.cpu.as_ref()).map_or(0, |cpu| cpu.usage);
        let used = total(self).saturating_sub(total(earlier)) as f64;
        let passed = self.time.duration_since(earlier.time).as_nanos() as f64;
        if passed > 0.0 { used / passed * 100.0 } else { 0.0 }
    }

    /// Bytes that block devices read and wrote.
    pub fn block_bytes(&self) -> (u64, u64) {
        let devices = self.cgroup.iter().flat_map(|stats| &stats.io);
        devices.fold((0, 0), |(read, written), io| (read + io.read_bytes, written + io.write_bytes))
    }

    /// Bytes that network devices received and sent.
    pub fn network_bytes(&self) -> (u64, u64) {
        self.networks.values().fold((0, 0), |(in_, out), device| (in_ + device.received_bytes, out + device.sent_bytes))
    }

    /// Processes and threads.
    pub fn tasks(&self) -> u64 {
        self.cgroup.as_ref().and_then(|stats| stats.pids.as_ref()).map_or(0, |pids| pids.current)
    }
}

impl Engine {
    /// What a container uses. One that does not run uses nothing.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`], or counters that cannot be read.
    pub fn usage(&self, wanted: &str) -> Result<Usage> {
        let container = self.inspect(wanted)?;
        self.usage_of(&container)
    }

    /// The same of a container that has been looked up: for many at once.
    ///
    /// # Errors
    /// Counters that cannot be read.
    pub fn usage_of(&self, container: &Container) -> Result<Usage> {
        let running = container.status.is_running() && container.run.pid > 0;
        let stats = if running { self.cgroup_stats(container)? } else { None };
        let memory = crate::info::memory();
        let limit = stats.as_ref().and_then(|stats| stats.memory.as_ref()).and_then(|memory| memory.limit);
        let pid = container.run.pid;
        let own_network = running && container.settings.network != crate::NetworkMode::Host;
        // The process may end while it is looked at; then its devices are gone as well.
        let devices = match own_network {
            true => std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default(),
            false => String::new(),
        };
        Ok(Usage {
            id: container.id.clone(),
            name: container.name.clone(),
            time: Timestamp::now(),
            memory_limit: if stats.is_some() { limit.map_or(memory, |limit| limit.min(memory)) } else { 0 },
            cgroup: stats,
            networks: devices.lines().filter_map(device).collect(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            machine_time: machine_time(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        })
    }

    fn cgroup_stats(&self, container: &Container) -> Result<Option<cgroup::Stats>> {
        let path = crate::lower::cgroup_path(&container.settings, &container.id);
        let state = self.running_state(&container.id)?;
        let Some(group) = crate::group::find(self.host()?, &path, state.as_ref())? else { return Ok(None) };
        match group.stats() {
            Ok(stats) => Ok(Some(stats)),
            // It has ended since.
            Err(_) if !group.exists() => Ok(None),
            Err(error) => Err(error).internal(|| format!("cannot read the counters of the cgroup {path}")),
        }
    }
}

/// A line of /proc/PID/net/dev (proc_pid_net(5)).
fn device(line: &str) -> Option<(String, NetworkUsage)> {
    let (name, counters) = line.split_once(':')?;
    let name = name.trim();
    let numbers: Vec<u64> = counters.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let usage = NetworkUsage {
        received_bytes: at(0),
        received_packets: at(1),
        received_errors: at(2),
        received_dropped: at(3),
        sent_bytes: at(8),
        sent_packets: at(9),
        sent_errors: at(10),
        sent_dropped: at(11),
    };
    (name != "lo").then(|| (name.to_owned(), usage))
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks of 1/100 s (proc_stat(5)).
fn machine_time(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: u64 = line.split_ascii_whitespace().skip(1).take(8).filter_map(|word| word.parse::<u64>().ok()).sum();
    ticks.saturating_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_time() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  eth0:    1500      10    1    2    0     0          0         0      700       5    3    4    0     0       0          0\n";
        let devices: BTreeMap<_, _> = text.lines().filter_map(device).collect();
        assert_eq!(devices.len(), 1);
        let eth0 = devices["eth0"];
        assert_eq!((eth0.received_bytes, eth0.received_dropped, eth0.sent_bytes, eth0.sent_errors), (1500, 2, 700, 3));
        assert_eq!(machine_time("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n"), 360_000_000);
    }
}
