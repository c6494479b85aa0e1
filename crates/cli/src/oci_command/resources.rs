//! `update`: limits as flags or as a document.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, FromArgMatches};
use oci::runtime::{LinuxBlockIO, LinuxCPU, LinuxMemory, LinuxPids, LinuxResources};
use oci_runtime::{Error, Result, Schemas};

use super::{Call, Ended};

#[derive(Args, Clone, Debug, Default)]
struct Update {
    /// File with linux.resources as JSON, - for standard input, in place of the flags
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block devices, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Period of the processor quota in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Quota of processor time in a period in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Quota that may be saved up, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Weight of processor time, 2 to 262144
    #[arg(long, value_name = "SHARES", visible_alias = "cpu-shares")]
    cpu_share: Option<u64>,
    /// Real-time period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Real-time quota in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processors
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// 1 makes all processes SCHED_IDLE
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Memory, in bytes or with k, m, g; -1 is unlimited
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory: Option<i64>,
    /// Memory that is kept when the host runs short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    memory_swap: Option<i64>,
    /// Without effect since Linux 5.4
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size, hide = true)]
    kernel_memory: Option<i64>,
    /// Without effect since Linux 5.4
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size, hide = true)]
    kernel_memory_tcp: Option<i64>,
    /// Number of tasks; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Line for the L3 caches of its class of service (Intel RDT), such as L3:0=f
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Line for the memory bandwidth of its class of service, such as MB:0=50
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Name of the container
    id: String,
}

/// A size with a unit of 1024, as Docker's units package reads it.
fn size(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is no size");
    if let Some(rest) = text.strip_prefix('-') {
        return if rest == "1" { Ok(-1) } else { Err(bad()) };
    }
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    let number: i64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

pub fn update_flags(command: clap::Command) -> clap::Command {
    Update::augment_args(command)
}

pub fn update(call: &Call, matches: &clap::ArgMatches) -> Ended {
    let update = Update::from_arg_matches(matches).map_err(|error| Error::Refused(error.to_string()))?;
    let resources = match &update.resources {
        Some(path) => document(path)?,
        None => update.flags(),
    };
    let schemas = Schemas { l3_cache: update.l3_cache_schema, memory_bandwidth: update.mem_bw_schema };
    oci_runtime::update(&call.globals.store(), &update.id, (&resources, &schemas), &call.progress())?;
    Ok(0)
}

fn document(path: &std::path::Path) -> Result<LinuxResources> {
    let fail = |error: &dyn std::fmt::Display| Error::Refused(format!("resources {}: {error}", path.display()));
    let mut text = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(1 << 20).read_to_end(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut text)),
    };
    read.map_err(|error| fail(&error))?;
    oci::any_case::from_slice(&text).map_err(|error| fail(&error))
}

impl Update {
    fn flags(&self) -> LinuxResources {
        let memory = LinuxMemory {
            limit: self.memory,
            reservation: self.memory_reservation,
            swap: self.memory_swap,
            kernel: self.kernel_memory,
            kernel_tcp: self.kernel_memory_tcp,
            ..LinuxMemory::default()
        };
        let cpu = LinuxCPU {
            shares: self.cpu_share,
            quota: self.cpu_quota,
            burst: self.cpu_burst,
            period: self.cpu_period,
            realtime_runtime: self.cpu_rt_runtime,
            realtime_period: self.cpu_rt_period,
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            idle: self.cpu_idle,
        };
        LinuxResources {
            memory: (memory != LinuxMemory::default()).then_some(memory),
            cpu: (cpu != LinuxCPU::default()).then_some(cpu),
            pids: self.pids_limit.map(|limit| LinuxPids { limit: Some(limit) }),
            block_io: self.blkio_weight.map(|weight| LinuxBlockIO { weight: Some(weight), ..LinuxBlockIO::default() }),
            ..LinuxResources::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0", 0), ("64m", 64 << 20), ("1GiB", 1 << 30), ("-1", -1), ("512kb", 512 << 10)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "1x", "-2", "99999999999999t"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
