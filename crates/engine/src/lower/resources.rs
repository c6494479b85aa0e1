//! Limits and devices of a container's cgroup.

use crate::containers::options::IoLimits;
use crate::containers::record::Settings;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use oci::runtime::{
    LinuxBlockIO, LinuxCPU, LinuxDevice, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources,
    LinuxThrottleDevice, LinuxWeightDevice,
};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Devices that every container may use: type, major, minor (`None` is any), access.
const DEFAULT_RULES: &[(&str, Option<i64>, Option<i64>, &str)] = &[
    // Making a node is harmless: using it is checked again.
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", Some(1), Some(3), "rwm"), // null
    ("c", Some(1), Some(5), "rwm"), // zero
    ("c", Some(1), Some(7), "rwm"), // full
    ("c", Some(1), Some(8), "rwm"), // random
    ("c", Some(1), Some(9), "rwm"), // urandom
    ("c", Some(5), Some(0), "rwm"), // tty
    ("c", Some(5), Some(1), "rwm"), // console
    ("c", Some(5), Some(2), "rwm"), // ptmx
    ("c", Some(136), None, "rwm"),  // pts/*
];

/// The cgroup's part of the specification.
pub(crate) fn resources(settings: &Settings, host: &Host) -> Result<LinuxResources> {
    let limits = &settings.limits;
    let mut rules = vec![rule(false, None, None, None, "rwm")];
    if host.user_namespace {
        // Neither v1's files nor a BPF program can be had there, and neither is needed: mknod(2) makes no devices in a user
        // namespace, and the host's own nodes keep their permissions.
        rules = Vec::new();
    } else if settings.privileged {
        rules = vec![rule(true, None, None, None, "rwm")];
    } else {
        rules.extend(
            DEFAULT_RULES.iter().map(|&(kind, major, minor, access)| rule(true, Some(kind), major, minor, access)),
        );
        for device in devices(settings)? {
            let node = &device.node;
            rules.push(rule(true, Some(&node.kind), node.major, node.minor, &device.access));
        }
        rules.extend(settings.device_rules.iter().filter_map(|text| device_rule(text)));
    }
    let memory = LinuxMemory {
        limit: limits.memory.filter(|&bytes| bytes > 0),
        // Docker: without a word about swap, as much swap as memory.
        swap: limits
            .memory_swap
            .filter(|&bytes| bytes != 0)
            .or(limits.memory.filter(|&b| b > 0).map(|b| b.saturating_mul(2))),
        reservation: limits.memory_reservation.filter(|&bytes| bytes > 0),
        swappiness: limits.memory_swappiness,
        disable_oom_killer: limits.oom_kill_disable.then_some(true),
        ..LinuxMemory::default()
    };
    let cpu = LinuxCPU {
        shares: limits.cpu_shares.filter(|&shares| shares > 0),
        quota: limits.nano_cpus.map(|nano| nano / 10_000).or(limits.cpu_quota),
        period: if limits.nano_cpus.is_some() { Some(100_000) } else { limits.cpu_period },
        cpus: limits.cpuset_cpus.clone().filter(|list| !list.is_empty()),
        mems: limits.cpuset_mems.clone().filter(|list| !list.is_empty()),
        realtime_period: limits.cpu_realtime_period,
        realtime_runtime: limits.cpu_realtime_runtime,
        ..LinuxCPU::default()
    };
    let block_io = block_io(&limits.io)?;
    Ok(LinuxResources {
        block_io: (block_io != LinuxBlockIO::default()).then_some(block_io),
        devices: rules,
        memory: (memory != LinuxMemory::default()).then_some(memory),
        cpu: (cpu != LinuxCPU::default()).then_some(cpu),
        pids: limits.pids.filter(|&n| n != 0).map(|limit| LinuxPids { limit: Some(limit) }),
        ..LinuxResources::default()
    })
}

fn block_io(limits: &IoLimits) -> Result<LinuxBlockIO> {
    let number = |path: &str| -> Result<(i64, i64)> {
        let failed = || format!("cannot use the device {path:?}");
        let metadata = std::fs::metadata(path).kind(Kind::InvalidArgument, failed)?;
        if !metadata.file_type().is_block_device() {
            return Err(Error::new(Kind::InvalidArgument, format!("{path:?} is not a block device")));
        }
        let device = metadata.rdev();
        Ok((i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device))))
    };
    let throttles = |list: &[(String, u64)]| -> Result<Vec<LinuxThrottleDevice>> {
        let one = |(path, rate): &(String, u64)| {
            let (major, minor) = number(path)?;
            Ok(LinuxThrottleDevice { major, minor, rate: *rate })
        };
        list.iter().map(one).collect()
    };
    let weight = |(path, weight): &(String, u16)| {
        let (major, minor) = number(path)?;
        Ok(LinuxWeightDevice { major, minor, weight: Some(*weight), leaf_weight: None })
    };
    Ok(LinuxBlockIO {
        weight: limits.weight,
        weight_device: limits.weights.iter().map(weight).collect::<Result<_>>()?,
        throttle_read_bps_device: throttles(&limits.read_bytes)?,
        throttle_write_bps_device: throttles(&limits.write_bytes)?,
        throttle_read_iops_device: throttles(&limits.read_operations)?,
        throttle_write_iops_device: throttles(&limits.write_operations)?,
        ..LinuxBlockIO::default()
    })
}

fn rule(allow: bool, kind: Option<&str>, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup { allow, device_type: kind.map(str::to_owned), major, minor, access: Some(access.to_owned()) }
}

/// A device of the host in the container.
#[derive(Debug)]
pub(crate) struct Device {
    /// The node to be made.
    pub node: LinuxDevice,
    /// `r`, `w`, `m` in any combination.
    pub access: String,
    /// Where the host has it.
    pub host: String,
}

/// The devices asked for with `--device`; with `--privileged`, all of the host's.
pub(crate) fn devices(settings: &Settings) -> Result<Vec<Device>> {
    if settings.privileged {
        let mut devices = Vec::new();
        collect("/dev", &mut devices);
        return Ok(devices);
    }
    let mut devices = Vec::new();
    for text in plain(settings) {
        devices.extend(parse(text)?);
    }
    Ok(devices)
}

/// The devices asked for with `--device`, on the host and in the container: no nodes are made in a user namespace, the
/// host's are bound.
pub(crate) fn device_paths(settings: &Settings) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for text in plain(settings) {
        pairs.extend(parse(text)?.into_iter().map(|device| (device.host, device.node.path)));
    }
    Ok(pairs)
}

/// The devices that are named by their paths; `cdi` has the others.
fn plain(settings: &Settings) -> impl Iterator<Item = &String> {
    settings.devices.iter().filter(|text| !super::cdi::is_name(text))
}

/// A rule of `--device-cgroup-rule`; `None` where it is none.
pub(crate) fn device_rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let words: Vec<&str> = text.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words.as_slice() else { return None };
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let good = !access.is_empty() && access.len() <= 3 && access.bytes().all(|byte| matches!(byte, b'r' | b'w' | b'm'));
    good.then_some(rule(true, Some(kind), number(major)?, number(minor)?, access))
}

fn parse(text: &str) -> Result<Vec<Device>> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_access = |word: &str| !word.is_empty() && word.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    let (host, inside, access) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, access] if is_access(access) => (*host, *host, *access),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, access] if is_access(access) => (*host, *inside, *access),
        _ => {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("invalid --device {text:?}: expected HOST[:CONTAINER[:rwm]]"),
            ));
        }
    };
    let metadata = std::fs::metadata(host).kind(Kind::InvalidArgument, || format!("cannot use the device {host:?}"))?;
    if metadata.is_dir() {
        // Docker: all devices below it, at the same places below the other path.
        let mut found = Vec::new();
        collect(host.trim_end_matches('/'), &mut found);
        for device in &mut found {
            let rest = device.host.strip_prefix(host.trim_end_matches('/')).unwrap_or_default();
            device.node.path = format!("{}{rest}", inside.trim_end_matches('/'));
            access.clone_into(&mut device.access);
        }
        return Ok(found);
    }
    let node = node(inside, &metadata)
        .ok_or_else(|| Error::new(Kind::InvalidArgument, format!("{host:?} is not a device node")))?;
    Ok(vec![Device { node, access: access.into(), host: host.into() }])
}

fn node(path: &str, metadata: &std::fs::Metadata) -> Option<LinuxDevice> {
    let kind = if metadata.file_type().is_char_device() {
        "c"
    } else if metadata.file_type().is_block_device() {
        "b"
    } else {
        return None;
    };
    let number = metadata.rdev();
    Some(LinuxDevice {
        path: path.into(),
        kind: kind.into(),
        major: Some(i64::from(rustix::fs::major(number))),
        minor: Some(i64::from(rustix::fs::minor(number))),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// Docker's list: everything below /dev but what a container has of its own.
fn collect(directory: &str, devices: &mut Vec<Device>) {
    const OWN: &[&str] = &["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];
    // A node that vanishes while we look is a device that was unplugged.
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if OWN.iter().any(|own| name.as_encoded_bytes() == own.as_bytes()) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        let path = format!("{directory}/{}", name.to_string_lossy());
        if metadata.is_dir() {
            collect(&path, devices);
        } else if let Some(node) = node(&path, &metadata) {
            devices.push(Device { node, access: "rwm".into(), host: path });
        }
    }
}
