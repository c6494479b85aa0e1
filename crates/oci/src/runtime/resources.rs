//! `linux.resources`: the limits of a container (OCI runtime specification 1.3, config-linux.md, "Control groups").
//!
//! Plain values as they stand in the document. Nothing is checked here: whether a limit makes sense, and how it is said
//! to the kernel, is the business of the crate `cgroup`. Unknown fields are ignored; `null` means absent, as in Go.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Go's programs write `null` for an empty list or map.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Everything that can be limited by control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxResources {
    /// Device rules in order; the last one that matches decides.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<LinuxDeviceCgroup>,
    /// Memory and swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<LinuxMemory>,
    /// Processor time and placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<LinuxCPU>,
    /// Number of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<LinuxPids>,
    /// Block devices' bandwidth.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<LinuxBlockIO>,
    /// Huge pages, one limit per page size.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<LinuxHugepageLimit>,
    /// Packet class and priority; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<LinuxNetwork>,
    /// RDMA limits by device name.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, LinuxRdma>,
    /// cgroup v2 files and what to write into them, verbatim.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// One device rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxDeviceCgroup {
    /// Whether what matches is allowed.
    pub allow: bool,
    /// `a` (all, also when absent), `b` (block) or `c` (character).
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    /// Major number; absent or -1 means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number; absent or -1 means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// A combination of `r` (read), `w` (write) and `m` (mknod).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// Memory limits in bytes; -1 means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxMemory {
    /// The hard limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The soft limit: kept when the host runs short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory **and** swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Kernel memory; deprecated, without effect since Linux 5.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// TCP buffers; cgroup v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Stop instead of kill when the limit is reached; cgroup v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting; always on since Linux 5.11.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Refuse an update below the current use instead of reclaiming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// Processor limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxCPU {
    /// Relative weight, 2 to 262144; 1024 is a group's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Microseconds of processor time in one period; -1 means unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Microseconds that unused quota may accumulate to (Linux 5.14).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The period of the quota in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Microseconds for real-time scheduling in one period; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The period of that in microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// Processors to run on, e.g. `0-3,7`; empty means absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Memory nodes to allocate from, e.g. `0,1`; empty means absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1: the whole group is `SCHED_IDLE` (Linux 5.15); 0: normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// The limit on tasks (processes and threads).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxPids {
    /// At most so many; -1 means unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Limits on block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxBlockIO {
    /// Relative weight, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight against child groups; CFQ only, gone since Linux 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights of single devices.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<LinuxWeightDevice>,
    /// Bytes per second read.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<LinuxThrottleDevice>,
    /// Bytes per second written.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<LinuxThrottleDevice>,
    /// Operations per second read.
    #[serde(
        rename = "throttleReadIOPSDevice",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_read_iops_device: Vec<LinuxThrottleDevice>,
    /// Operations per second written.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_write_iops_device: Vec<LinuxThrottleDevice>,
}

/// The weight of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxWeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Relative weight, 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight against child groups; CFQ only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// The rate limit of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations per second; 0 means unlimited.
    pub rate: u64,
}

/// The limit on huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxHugepageLimit {
    /// The size as the kernel writes it: `64KB`, `2MB`, `1GB`.
    #[serde(rename = "pageSize", alias = "pagesize")]
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// RDMA limits of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxRdma {
    /// Handles that may be open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects that may exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

/// Packet class and priorities (`net_cls` and `net_prio`, cgroup v1 only).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxNetwork {
    /// The class identifier of the container's packets.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<LinuxInterfacePriority>,
}

/// The priority of packets on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxInterfacePriority {
    /// The interface's name.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_specification() {
        let text = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}],
            "memory":{"limit":67108864,"reservation":1,"swap":-1,"kernel":2,"kernelTCP":3,"swappiness":60,
            "disableOOMKiller":true,"useHierarchy":true,"checkBeforeUpdate":false},
            "cpu":{"shares":512,"quota":50000,"burst":1,"period":100000,"realtimeRuntime":5,"realtimePeriod":6,
            "cpus":"0-1","mems":"0","idle":0},"pids":{"limit":50},
            "blockIO":{"weight":10,"leafWeight":11,"weightDevice":[{"major":8,"minor":0,"weight":5,"leafWeight":6}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}],"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":8}],
            "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":9}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":10}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
            "network":{"classID":1048577,"priorities":[{"name":"eth0","priority":500}]},
            "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000}},"unified":{"memory.high":"1"}}"#;
        let compact: String = text.split_whitespace().collect();
        let parsed: LinuxResources = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), compact);
    }

    #[test]
    fn null_and_unknown_fields_are_no_obstacle() {
        let parsed: LinuxResources = serde_json::from_str(
            r#"{"devices":null,"memory":null,"rdma":null,"future":{},"blockIO":{"weightDevice":null}}"#,
        )
        .unwrap();
        assert_eq!(parsed, LinuxResources { block_io: Some(LinuxBlockIO::default()), ..Default::default() });
        assert_eq!(serde_json::to_string(&LinuxResources::default()).unwrap(), "{}");
    }
}
