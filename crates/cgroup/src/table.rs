//! One model, two columns: each limit of the runtime specification, the controller that enforces it, and what to write
//! into which file of cgroup v1 and of cgroup v2. An empty column is a limit that this version does not have.
//!
//! Zero means "not set" where the kernel has no use for zero, as in runc and crun: engines fill structures with zeros.

use crate::controller::Controller;
use crate::convert::{cpu_weight, io_weight, or_max};
use oci::runtime::{LinuxBlockIO, LinuxCPU, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::borrow::Cow;

/// What to write into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub file: Cow<'static, str>,
    pub value: String,
    /// What to do if the kernel does not have the file.
    pub missing: Missing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The limit cannot be had.
    Refuse,
    /// Nothing: another file says the same, or nobody can rely on it.
    Skip,
    /// The other name of the file, and the value on its scale.
    Instead(Cow<'static, str>, String),
}

fn write(file: impl Into<Cow<'static, str>>, value: impl ToString) -> Vec<Write> {
    vec![Write { file: file.into(), value: value.to_string(), missing: Missing::Refuse }]
}

type Lower = fn(&LinuxResources) -> Vec<Write>;

/// One limit.
pub(crate) struct Row {
    /// As the specification names it.
    pub limit: &'static str,
    pub controller: Controller,
    pub asked: fn(&LinuxResources) -> bool,
    pub v1: Option<Lower>,
    pub v2: Option<Lower>,
}

fn memory(resources: &LinuxResources) -> &LinuxMemory {
    const NONE: &LinuxMemory = &LinuxMemory {
        limit: None,
        reservation: None,
        swap: None,
        kernel: None,
        kernel_tcp: None,
        swappiness: None,
        disable_oom_killer: None,
        use_hierarchy: None,
        check_before_update: None,
    };
    resources.memory.as_ref().unwrap_or(NONE)
}

fn cpu(resources: &LinuxResources) -> &LinuxCPU {
    const NONE: &LinuxCPU = &LinuxCPU {
        shares: None,
        quota: None,
        burst: None,
        period: None,
        realtime_runtime: None,
        realtime_period: None,
        cpus: None,
        mems: None,
        idle: None,
    };
    resources.cpu.as_ref().unwrap_or(NONE)
}

fn block_io(resources: &LinuxResources) -> &LinuxBlockIO {
    const NONE: &LinuxBlockIO = &LinuxBlockIO {
        weight: None,
        leaf_weight: None,
        weight_device: Vec::new(),
        throttle_read_bps_device: Vec::new(),
        throttle_write_bps_device: Vec::new(),
        throttle_read_iops_device: Vec::new(),
        throttle_write_iops_device: Vec::new(),
    };
    resources.block_io.as_ref().unwrap_or(NONE)
}

fn set<T: Copy + PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

/// All limits but devices and `unified`, in the order in which they have to be written.
pub(crate) const ROWS: &[Row] = &[
    // A placement must exist before a process can enter a v1 cpuset.
    Row {
        limit: "cpu.cpus",
        controller: Controller::Cpuset,
        asked: |r| text(&cpu(r).cpus).is_some(),
        v1: Some(|r| write("cpuset.cpus", text(&cpu(r).cpus).unwrap_or_default())),
        v2: Some(|r| write("cpuset.cpus", text(&cpu(r).cpus).unwrap_or_default())),
    },
    Row {
        limit: "cpu.mems",
        controller: Controller::Cpuset,
        asked: |r| text(&cpu(r).mems).is_some(),
        v1: Some(|r| write("cpuset.mems", text(&cpu(r).mems).unwrap_or_default())),
        v2: Some(|r| write("cpuset.mems", text(&cpu(r).mems).unwrap_or_default())),
    },
    Row {
        limit: "cpu.shares",
        controller: Controller::Cpu,
        asked: |r| set(cpu(r).shares).is_some(),
        v1: Some(|r| write("cpu.shares", cpu(r).shares.unwrap_or(1024))),
        v2: Some(|r| write("cpu.weight", cpu_weight(cpu(r).shares.unwrap_or(1024)))),
    },
    Row {
        limit: "cpu.quota",
        controller: Controller::Cpu,
        asked: |r| set(cpu(r).quota).is_some() || set(cpu(r).period).is_some(),
        v1: Some(quota_v1),
        v2: Some(quota_v2),
    },
    // After the quota, which it must not exceed.
    Row {
        limit: "cpu.burst",
        controller: Controller::Cpu,
        asked: |r| cpu(r).burst.is_some(),
        v1: Some(|r| write("cpu.cfs_burst_us", cpu(r).burst.unwrap_or(0))),
        v2: Some(|r| write("cpu.max.burst", cpu(r).burst.unwrap_or(0))),
    },
    Row {
        limit: "cpu.realtimePeriod",
        controller: Controller::Cpu,
        asked: |r| set(cpu(r).realtime_period).is_some(),
        v1: Some(|r| write("cpu.rt_period_us", cpu(r).realtime_period.unwrap_or(0))),
        v2: None,
    },
    Row {
        limit: "cpu.realtimeRuntime",
        controller: Controller::Cpu,
        asked: |r| set(cpu(r).realtime_runtime).is_some(),
        v1: Some(|r| write("cpu.rt_runtime_us", cpu(r).realtime_runtime.unwrap_or(0))),
        v2: None,
    },
    // After the shares: an idle group's weight cannot be written.
    Row {
        limit: "cpu.idle",
        controller: Controller::Cpu,
        asked: |r| cpu(r).idle.is_some(),
        v1: Some(|r| write("cpu.idle", cpu(r).idle.unwrap_or(0))),
        v2: Some(|r| write("cpu.idle", cpu(r).idle.unwrap_or(0))),
    },
    Row {
        limit: "memory.limit",
        controller: Controller::Memory,
        asked: |r| set(memory(r).limit).is_some(),
        v1: Some(|r| write("memory.limit_in_bytes", memory(r).limit.unwrap_or(-1))),
        v2: Some(|r| write("memory.max", or_max(memory(r).limit.unwrap_or(-1)))),
    },
    Row {
        limit: "memory.swap",
        controller: Controller::Memory,
        asked: |r| set(memory(r).swap).is_some() || memory(r).limit == Some(-1),
        v1: Some(swap_v1),
        v2: Some(swap_v2),
    },
    Row {
        limit: "memory.reservation",
        controller: Controller::Memory,
        asked: |r| set(memory(r).reservation).is_some(),
        v1: Some(|r| write("memory.soft_limit_in_bytes", memory(r).reservation.unwrap_or(-1))),
        v2: Some(|r| write("memory.low", or_max(memory(r).reservation.unwrap_or(0)))),
    },
    Row {
        limit: "memory.kernelTCP",
        controller: Controller::Memory,
        asked: |r| set(memory(r).kernel_tcp).is_some(),
        v1: Some(|r| write("memory.kmem.tcp.limit_in_bytes", memory(r).kernel_tcp.unwrap_or(-1))),
        v2: None,
    },
    Row {
        limit: "memory.swappiness",
        controller: Controller::Memory,
        asked: |r| memory(r).swappiness.is_some(),
        v1: Some(|r| write("memory.swappiness", memory(r).swappiness.unwrap_or(60))),
        v2: None,
    },
    Row {
        limit: "memory.disableOOMKiller",
        controller: Controller::Memory,
        asked: |r| memory(r).disable_oom_killer == Some(true),
        v1: Some(|_| write("memory.oom_control", 1)),
        v2: None,
    },
    Row {
        limit: "memory.useHierarchy",
        controller: Controller::Memory,
        // Always so since Linux 5.11, and in v2 from its beginning: only the contrary is a wish.
        asked: |r| memory(r).use_hierarchy == Some(false),
        v1: Some(|_| write("memory.use_hierarchy", 0)),
        v2: None,
    },
    Row {
        limit: "pids.limit",
        controller: Controller::Pids,
        asked: |r| pids(r).is_some(),
        v1: Some(|r| write("pids.max", pids(r).unwrap_or_default())),
        v2: Some(|r| write("pids.max", pids(r).unwrap_or_default())),
    },
    Row {
        limit: "blockIO.weight",
        controller: Controller::Io,
        asked: |r| set(block_io(r).weight).is_some(),
        v1: Some(|r| weight_v1("", block_io(r).weight)),
        v2: Some(|r| weight_v2("", block_io(r).weight)),
    },
    Row {
        limit: "blockIO.weightDevice",
        controller: Controller::Io,
        asked: |r| !block_io(r).weight_device.is_empty(),
        v1: Some(|r| {
            let devices = block_io(r).weight_device.iter();
            devices.flat_map(|d| weight_v1(&format!("{}:{} ", d.major, d.minor), d.weight)).collect()
        }),
        v2: Some(|r| {
            let devices = block_io(r).weight_device.iter();
            devices.flat_map(|d| weight_v2(&format!("{}:{} ", d.major, d.minor), d.weight)).collect()
        }),
    },
    Row {
        limit: "blockIO.leafWeight",
        controller: Controller::Io,
        asked: |r| {
            let mut devices = block_io(r).weight_device.iter();
            set(block_io(r).leaf_weight).is_some() || devices.any(|d| set(d.leaf_weight).is_some())
        },
        v1: Some(leaf_weights),
        v2: None,
    },
    Row {
        limit: "blockIO.throttleReadBpsDevice",
        controller: Controller::Io,
        asked: |r| !block_io(r).throttle_read_bps_device.is_empty(),
        v1: Some(|r| throttle_v1("blkio.throttle.read_bps_device", &block_io(r).throttle_read_bps_device)),
        v2: Some(|r| throttle_v2("rbps", &block_io(r).throttle_read_bps_device)),
    },
    Row {
        limit: "blockIO.throttleWriteBpsDevice",
        controller: Controller::Io,
        asked: |r| !block_io(r).throttle_write_bps_device.is_empty(),
        v1: Some(|r| throttle_v1("blkio.throttle.write_bps_device", &block_io(r).throttle_write_bps_device)),
        v2: Some(|r| throttle_v2("wbps", &block_io(r).throttle_write_bps_device)),
    },
    Row {
        limit: "blockIO.throttleReadIOPSDevice",
        controller: Controller::Io,
        asked: |r| !block_io(r).throttle_read_iops_device.is_empty(),
        v1: Some(|r| throttle_v1("blkio.throttle.read_iops_device", &block_io(r).throttle_read_iops_device)),
        v2: Some(|r| throttle_v2("riops", &block_io(r).throttle_read_iops_device)),
    },
    Row {
        limit: "blockIO.throttleWriteIOPSDevice",
        controller: Controller::Io,
        asked: |r| !block_io(r).throttle_write_iops_device.is_empty(),
        v1: Some(|r| throttle_v1("blkio.throttle.write_iops_device", &block_io(r).throttle_write_iops_device)),
        v2: Some(|r| throttle_v2("wiops", &block_io(r).throttle_write_iops_device)),
    },
    Row {
        limit: "hugepageLimits",
        controller: Controller::Hugetlb,
        asked: |r| !r.hugepage_limits.is_empty(),
        v1: Some(|r| huge_pages(r, "limit_in_bytes")),
        v2: Some(|r| huge_pages(r, "max")),
    },
    Row { limit: "rdma", controller: Controller::Rdma, asked: |r| !r.rdma.is_empty(), v1: Some(rdma), v2: Some(rdma) },
    Row {
        limit: "network.classID",
        controller: Controller::NetCls,
        asked: |r| r.network.as_ref().is_some_and(|network| set(network.class_id).is_some()),
        v1: Some(|r| write("net_cls.classid", r.network.as_ref().and_then(|n| n.class_id).unwrap_or(0))),
        v2: None,
    },
    Row {
        limit: "network.priorities",
        controller: Controller::NetPrio,
        asked: |r| r.network.as_ref().is_some_and(|network| !network.priorities.is_empty()),
        v1: Some(|r| {
            let priorities = r.network.iter().flat_map(|network| &network.priorities);
            priorities.flat_map(|p| write("net_prio.ifpriomap", format!("{} {}", p.name, p.priority))).collect()
        }),
        v2: None,
    },
];

fn pids(resources: &LinuxResources) -> Option<String> {
    let limit = resources.pids.as_ref()?.limit?;
    // Zero is Docker's word for unlimited; as a limit it would be the same as one, the first process being there.
    Some(if limit <= 0 { "max".to_owned() } else { limit.to_string() })
}

fn quota_v1(r: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(period) = set(cpu(r).period) {
        writes.extend(write("cpu.cfs_period_us", period));
    }
    if let Some(quota) = set(cpu(r).quota) {
        writes.extend(write("cpu.cfs_quota_us", quota.max(-1)));
    }
    writes
}

/// The word in place of a quota that stays as it is; the kernel wants one where there is a period.
pub(crate) const SAME_QUOTA: &str = "same";

fn quota_v2(r: &LinuxResources) -> Vec<Write> {
    let quota = set(cpu(r).quota).map_or_else(|| SAME_QUOTA.to_owned(), or_max);
    // Without a period the kernel keeps the one it has.
    match set(cpu(r).period) {
        Some(period) => write("cpu.max", format!("{quota} {period}")),
        None => write("cpu.max", quota),
    }
}

fn swap_v1(r: &LinuxResources) -> Vec<Write> {
    // Unlimited memory with a limit on memory and swap is impossible: -1 lifts both.
    write("memory.memsw.limit_in_bytes", set(memory(r).swap).unwrap_or(-1))
}

/// v1 and the specification count memory and swap together, v2 counts swap alone.
fn swap_v2(r: &LinuxResources) -> Vec<Write> {
    let swap = set(memory(r).swap).unwrap_or(-1);
    let limit = memory(r).limit.unwrap_or(0).max(0);
    write("memory.swap.max", or_max(if swap < 0 { -1 } else { (swap - limit).max(0) }))
}

/// CFQ's file is gone since Linux 5.0; BFQ has its own of the same scale.
fn weight_v1(device: &str, weight: Option<u16>) -> Vec<Write> {
    let Some(weight) = set(weight) else { return Vec::new() };
    let suffix = if device.is_empty() { "" } else { "_device" };
    let value = format!("{device}{weight}");
    let missing = Missing::Instead(format!("blkio.bfq.weight{suffix}").into(), value.clone());
    vec![Write { file: format!("blkio.weight{suffix}").into(), value, missing }]
}

/// CFQ's, as the weights: where its files are gone, nobody else keeps such a promise.
fn leaf_weights(r: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = set(block_io(r).leaf_weight) {
        writes.extend(write("blkio.leaf_weight", weight));
    }
    for device in &block_io(r).weight_device {
        if let Some(weight) = set(device.leaf_weight) {
            writes.extend(write("blkio.leaf_weight_device", format!("{}:{} {weight}", device.major, device.minor)));
        }
    }
    writes
}

/// BFQ takes 1 to 1000 as v1 did, io.cost 1 to 10000; the file that is there tells which of the two is at work.
fn weight_v2(device: &str, weight: Option<u16>) -> Vec<Write> {
    let Some(weight) = set(weight) else { return Vec::new() };
    let missing = Missing::Instead("io.weight".into(), format!("{device}{}", io_weight(weight)));
    vec![Write { file: "io.bfq.weight".into(), value: format!("{device}{weight}"), missing }]
}

fn throttle_v1(file: &'static str, devices: &[LinuxThrottleDevice]) -> Vec<Write> {
    devices
        .iter()
        .flat_map(|device| write(file, format!("{}:{} {}", device.major, device.minor, device.rate)))
        .collect()
}

fn throttle_v2(key: &str, devices: &[LinuxThrottleDevice]) -> Vec<Write> {
    let rate = |rate: u64| if rate == 0 { "max".to_owned() } else { rate.to_string() };
    let line = |device: &LinuxThrottleDevice| format!("{}:{} {key}={}", device.major, device.minor, rate(device.rate));
    devices.iter().flat_map(|device| write("io.max", line(device))).collect()
}

/// The reservation is limited too, so that mmap fails instead of a later page fault (Linux 5.7; skipped before).
fn huge_pages(r: &LinuxResources, file: &str) -> Vec<Write> {
    let mut writes = Vec::new();
    for limit in &r.hugepage_limits {
        writes.extend(write(format!("hugetlb.{}.{file}", limit.page_size), limit.limit));
        let reserved = format!("hugetlb.{}.rsvd.{file}", limit.page_size).into();
        writes.push(Write { file: reserved, value: limit.limit.to_string(), missing: Missing::Skip });
    }
    writes
}

fn rdma(r: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    for (device, limit) in &r.rdma {
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        writes.extend(write("rdma.max", line));
    }
    writes
}

/// The files that show the limits in force, for [`crate::Cgroup::limits`].
pub(crate) const LIVE: &[(Controller, &[&str], &[&str])] = &[
    (
        Controller::Memory,
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.kmem.tcp.limit_in_bytes",
            "memory.swappiness",
            "memory.oom_control",
        ],
        &["memory.max", "memory.swap.max", "memory.high", "memory.low", "memory.min", "memory.oom.group"],
    ),
    (
        Controller::Cpu,
        &["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.rt_runtime_us", "cpu.idle"],
        &["cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle"],
    ),
    (
        Controller::Cpuset,
        &["cpuset.cpus", "cpuset.mems"],
        &["cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems", "cpuset.mems.effective"],
    ),
    (Controller::Pids, &["pids.max"], &["pids.max"]),
    (
        Controller::Io,
        &[
            "blkio.weight",
            "blkio.bfq.weight",
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
        ],
        &["io.weight", "io.bfq.weight", "io.max"],
    ),
    (Controller::Rdma, &["rdma.max"], &["rdma.max"]),
    (Controller::Misc, &["misc.max"], &["misc.max"]),
    (Controller::Devices, &["devices.list"], &[]),
    (Controller::NetCls, &["net_cls.classid"], &[]),
    (Controller::NetPrio, &["net_prio.ifpriomap"], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hierarchy::Version;

    fn lowered(json: &str, version: Version) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let mut lines = Vec::new();
        for row in ROWS.iter().filter(|row| (row.asked)(&resources)) {
            let column = if version == Version::V1 { row.v1 } else { row.v2 };
            match column {
                Some(lower) => lines.extend(lower(&resources).into_iter().map(|w| format!("{} = {}", w.file, w.value))),
                None => lines.push(format!("{}: not in this version", row.limit)),
            }
        }
        lines
    }

    const USUAL: &str = r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":33554432},
        "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1"},"pids":{"limit":50},
        "blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576},{"major":8,"minor":16,"rate":0}]},
        "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"rdma":{"mlx5_0":{"hcaHandles":3}}}"#;

    #[test]
    fn the_column_of_v1() {
        assert_eq!(
            lowered(USUAL, Version::V1),
            [
                "cpuset.cpus = 0-1",
                "cpu.shares = 1024",
                "cpu.cfs_period_us = 100000",
                "cpu.cfs_quota_us = 50000",
                "memory.limit_in_bytes = 67108864",
                "memory.memsw.limit_in_bytes = 134217728",
                "memory.soft_limit_in_bytes = 33554432",
                "pids.max = 50",
                "blkio.weight = 500",
                "blkio.throttle.read_bps_device = 8:0 1048576",
                "blkio.throttle.read_bps_device = 8:16 0",
                "hugetlb.2MB.limit_in_bytes = 4194304",
                "hugetlb.2MB.rsvd.limit_in_bytes = 4194304",
                "rdma.max = mlx5_0 hca_handle=3",
            ]
        );
    }

    #[test]
    fn the_column_of_v2() {
        assert_eq!(
            lowered(USUAL, Version::V2),
            [
                "cpuset.cpus = 0-1",
                "cpu.weight = 100",
                "cpu.max = 50000 100000",
                "memory.max = 67108864",
                "memory.swap.max = 67108864",
                "memory.low = 33554432",
                "pids.max = 50",
                "io.bfq.weight = 500",
                "io.max = 8:0 rbps=1048576",
                "io.max = 8:16 rbps=max",
                "hugetlb.2MB.max = 4194304",
                "hugetlb.2MB.rsvd.max = 4194304",
                "rdma.max = mlx5_0 hca_handle=3",
            ]
        );
    }

    #[test]
    fn unlimited_and_unset() {
        let json = r#"{"memory":{"limit":-1},"cpu":{"quota":-1,"shares":0,"cpus":""},"pids":{"limit":0}}"#;
        assert_eq!(
            lowered(json, Version::V2),
            ["cpu.max = max", "memory.max = max", "memory.swap.max = max", "pids.max = max"]
        );
        assert_eq!(
            lowered(json, Version::V1),
            [
                "cpu.cfs_quota_us = -1",
                "memory.limit_in_bytes = -1",
                "memory.memsw.limit_in_bytes = -1",
                "pids.max = max"
            ]
        );
        assert_eq!(lowered(r#"{"memory":{"limit":5,"swap":-1}}"#, Version::V2)[1], "memory.swap.max = max");
        assert_eq!(lowered(r#"{"cpu":{"period":50000}}"#, Version::V2), ["cpu.max = same 50000"]);
        assert!(lowered("{}", Version::V1).is_empty());
    }

    #[test]
    fn what_v2_does_not_have() {
        let json = r#"{"memory":{"swappiness":0,"disableOOMKiller":true,"kernelTCP":1},"cpu":{"realtimeRuntime":950000},
            "network":{"classID":1}}"#;
        assert!(lowered(json, Version::V2).iter().all(|line| line.ends_with("not in this version")));
        assert_eq!(lowered(json, Version::V2).len(), 5);
        let leaves = r#"{"blockIO":{"leafWeight":10,"weightDevice":[{"major":8,"minor":0,"leafWeight":20}]}}"#;
        let lines = ["blkio.leaf_weight = 10", "blkio.leaf_weight_device = 8:0 20"];
        assert_eq!(lowered(leaves, Version::V1), lines);
        assert_eq!(lowered(leaves, Version::V2), ["blockIO.leafWeight: not in this version"]);
        assert!(lowered(r#"{"memory":{"disableOOMKiller":false,"useHierarchy":true}}"#, Version::V2).is_empty());
    }
}
