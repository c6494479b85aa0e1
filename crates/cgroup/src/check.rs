//! Refuses what cannot be right on any machine, before the kernel is touched. Pure.

use crate::error::Invalid;
use oci::runtime::{LinuxBlockIO, LinuxCPU, LinuxMemory, LinuxResources};

/// More processors than any kernel can be built for (x86: 8192, arm64: 4096); a mask of more is refused unparsed.
const PROCESSORS: u32 = 8192;
/// `MAX_NUMNODES` of the largest configurations (`NODES_SHIFT` 10).
const NODES: u32 = 1024;

/// Checks all limits.
///
/// # Errors
/// The first that cannot be right, with the reason.
pub fn check(resources: &LinuxResources) -> Result<(), Invalid> {
    if let Some(memory) = &resources.memory {
        check_memory(memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        check_cpu(cpu)?;
    }
    if let Some(io) = &resources.block_io {
        check_io(io)?;
    }
    for limit in &resources.hugepage_limits {
        check_page_size(&limit.page_size)?;
    }
    for device in resources.rdma.keys() {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Invalid::new("rdma", format!("{device:?}"), "it is not a device name"));
        }
    }
    for priority in resources.network.iter().flat_map(|network| &network.priorities) {
        if priority.name.is_empty() || priority.name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let name = format!("{:?}", priority.name);
            return Err(Invalid::new("network.priorities", name, "it is not an interface name"));
        }
    }
    for (file, value) in &resources.unified {
        check_unified(file, value)?;
    }
    crate::devices::lower(&resources.devices)?;
    Ok(())
}

fn check_memory(memory: &LinuxMemory) -> Result<(), Invalid> {
    let amounts = [
        ("memory.limit", memory.limit),
        ("memory.reservation", memory.reservation),
        ("memory.swap", memory.swap),
        ("memory.kernelTCP", memory.kernel_tcp),
    ];
    for (name, amount) in amounts {
        if let Some(amount) = amount.filter(|amount| *amount < -1) {
            return Err(Invalid::new(name, amount, "bytes, or -1 for unlimited"));
        }
    }
    if let Some(swappiness) = memory.swappiness.filter(|value| *value > 100) {
        return Err(Invalid::new("memory.swappiness", swappiness, "it goes from 0 to 100"));
    }
    let limit = memory.limit.filter(|limit| *limit != 0);
    let Some(swap) = memory.swap.filter(|swap| *swap > 0) else { return Ok(()) };
    match limit {
        None => Err(Invalid::new("memory.swap", swap, "it limits memory and swap together and needs memory.limit too")),
        Some(-1) => Err(Invalid::new("memory.swap", swap, "it cannot be less than memory.limit, which is unlimited")),
        Some(limit) if swap < limit => {
            Err(Invalid::new("memory.swap", swap, format!("it includes memory and is less than memory.limit {limit}")))
        }
        Some(_) => Ok(()),
    }
}

fn check_cpu(cpu: &LinuxCPU) -> Result<(), Invalid> {
    if let Some(period) = cpu.period.filter(|period| *period != 0 && !(1_000..=1_000_000).contains(period)) {
        return Err(Invalid::new("cpu.period", period, "it goes from 1000 to 1000000 microseconds"));
    }
    if let Some(quota) = cpu.quota.filter(|quota| (1..1_000).contains(quota)) {
        return Err(Invalid::new("cpu.quota", quota, "at least 1000 microseconds, or -1 for unlimited"));
    }
    if let Some(idle) = cpu.idle.filter(|idle| !(0..=1).contains(idle)) {
        return Err(Invalid::new("cpu.idle", idle, "0 or 1"));
    }
    check_list("cpu.cpus", cpu.cpus.as_deref().unwrap_or(""), PROCESSORS)?;
    check_list("cpu.mems", cpu.mems.as_deref().unwrap_or(""), NODES)
}

/// A list such as `0-3,7`. CVE-2018-20699: Docker expanded `1-9999999` into a map before it asked whether such a
/// processor exists. Here no list is ever expanded; the numbers are compared with `end`.
fn check_list(name: &str, list: &str, end: u32) -> Result<(), Invalid> {
    let refuse = |reason: &str| Err(Invalid::new(name, format!("{list:?}"), reason));
    if list.is_empty() {
        return Ok(());
    }
    if list.len() > 16 * 1024 {
        return refuse("it is longer than 16 KiB");
    }
    for part in list.trim_end_matches('\n').split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| match text.len() {
            1..=9 if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u32>().ok(),
            _ => None,
        };
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return refuse("it is not a list of numbers and ranges such as 0-3,7");
        };
        if first > last {
            return refuse("a range ends before it begins");
        }
        if last >= end {
            return refuse("no kernel has that many");
        }
    }
    Ok(())
}

fn check_io(io: &LinuxBlockIO) -> Result<(), Invalid> {
    let weights = [("blockIO.weight", io.weight), ("blockIO.leafWeight", io.leaf_weight)];
    let of_devices = io.weight_device.iter().map(|device| ("blockIO.weightDevice", device.weight));
    for (name, weight) in weights.into_iter().chain(of_devices) {
        if let Some(weight) = weight.filter(|weight| *weight != 0 && !(10..=1000).contains(weight)) {
            return Err(Invalid::new(name, weight, "it goes from 10 to 1000"));
        }
    }
    let throttled = [
        &io.throttle_read_bps_device,
        &io.throttle_write_bps_device,
        &io.throttle_read_iops_device,
        &io.throttle_write_iops_device,
    ];
    let numbers = throttled.into_iter().flatten().map(|device| (device.major, device.minor));
    for (major, minor) in numbers.chain(io.weight_device.iter().map(|device| (device.major, device.minor))) {
        if u32::try_from(major).is_err() || u32::try_from(minor).is_err() {
            return Err(Invalid::new("blockIO", format!("{major}:{minor}"), "it is not a device number"));
        }
    }
    Ok(())
}

/// The kernel's names: `64KB`, `2MB`, `1GB`.
fn check_page_size(size: &str) -> Result<(), Invalid> {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit)).unwrap_or("");
    if (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0') {
        return Ok(());
    }
    Err(Invalid::new("hugepageLimits.pageSize", format!("{size:?}"), "a page size is written like 64KB, 2MB or 1GB"))
}

fn check_unified(file: &str, value: &str) -> Result<(), Invalid> {
    let name = || format!("unified[{:?}]", file.chars().take(80).collect::<String>());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let prefixed = file.split_once('.').is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
    if !prefixed || file.contains("..") || file.len() > 255 || !file.bytes().all(plain) {
        return Err(Invalid::new(name(), format!("{value:?}"), "it is not the name of a controller's file"));
    }
    // cgroup.procs, cgroup.subtree_control and the like would let a configuration undo its own confinement.
    if file.starts_with("cgroup.") && !file.starts_with("cgroup.max.") {
        return Err(Invalid::new(name(), format!("{value:?}"), "it is not a limit"));
    }
    if value.is_empty() || value.len() > 4096 || value.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        return Err(Invalid::new(name(), format!("{value:?}"), "it is empty, longer than 4096 bytes or not text"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &str) -> Result<(), Invalid> {
        check(&LinuxResources {
            cpu: Some(LinuxCPU { cpus: Some(list.into()), ..Default::default() }),
            ..Default::default()
        })
    }

    #[test]
    fn cve_2018_20699_a_huge_processor_list_is_refused_at_once() {
        let start = std::time::Instant::now();
        for _ in 0..50 {
            assert!(cpus("1-9999999").is_err());
            assert!(cpus("0-4294967295").is_err());
            assert!(cpus("99999999999999999999").is_err());
        }
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
        assert!(cpus(&"0,".repeat(100_000)).is_err());
    }

    #[test]
    fn processor_lists() {
        for good in ["", "0", "0-3", "0,2-3,8191", "0-3\n"] {
            assert!(cpus(good).is_ok(), "{good:?}");
        }
        for bad in ["a", "3-1", "-1", "1-", "0,,1", "0 1", "8192", "+1", "0-3-5", "٣"] {
            assert!(cpus(bad).is_err(), "{bad:?}");
        }
    }

    fn memory(limit: Option<i64>, swap: Option<i64>) -> Result<(), Invalid> {
        let memory = LinuxMemory { limit, swap, ..Default::default() };
        check(&LinuxResources { memory: Some(memory), ..Default::default() })
    }

    #[test]
    fn swap_includes_memory() {
        assert!(memory(Some(10), Some(10)).is_ok());
        assert!(memory(Some(10), Some(-1)).is_ok());
        assert!(memory(Some(10), None).is_ok());
        assert!(memory(Some(10), Some(9)).is_err());
        assert!(memory(None, Some(9)).is_err());
        assert!(memory(Some(-1), Some(9)).is_err());
        assert!(memory(Some(-2), None).is_err());
        let text = memory(Some(10), Some(9)).unwrap_err().to_string();
        assert_eq!(text, "memory.swap cannot be 9: it includes memory and is less than memory.limit 10");
    }

    fn unified(file: &str, value: &str) -> Result<(), Invalid> {
        let unified = [(file.to_owned(), value.to_owned())].into();
        check(&LinuxResources { unified, ..Default::default() })
    }

    #[test]
    fn unified_names_only_limits() {
        assert!(unified("memory.high", "1073741824").is_ok());
        assert!(unified("io.max", "8:0 rbps=1\n8:16 rbps=2").is_ok());
        for bad in ["cgroup.procs", "cgroup.subtree_control", "../memory.max", "memory", "memory.", ".x", "a/b.c", ""] {
            assert!(unified(bad, "1").is_err(), "{bad:?}");
        }
        assert!(unified("memory.high", "").is_err());
        assert!(unified("memory.high", "a\0").is_err());
    }

    #[test]
    fn page_sizes() {
        for good in ["64KB", "2MB", "1GB", "1024MB"] {
            assert!(check_page_size(good).is_ok(), "{good:?}");
        }
        for bad in ["", "MB", "2", "2mb", "02MB", "2MB/../x", "99999GB"] {
            assert!(check_page_size(bad).is_err(), "{bad:?}");
        }
    }
}
