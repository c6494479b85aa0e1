//! `GET /containers/{id}/stats`: counters of now and of a moment before, in the shape that `docker stats` and others read.

use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::{NetworkUsage, Usage};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Between two lines, and between the two looks of a single answer.
const PERIOD: Duration = Duration::from_secs(1);

/// `GET /containers/{id}/stats`
pub async fn stats(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let id = context.workers().quick(move |engine| Ok(engine.inspect(&name)?.id)).await?;
    let first = look(&context.shared, &id).await?;
    if !context.query.switch_or("stream", true) {
        if context.query.switch("one-shot") || first.cgroup.is_none() {
            return reply::ok(&document(&first, None));
        }
        tokio::time::sleep(PERIOD).await;
        let second = look(&context.shared, &id).await?;
        return reply::ok(&document(&second, Some(&first)));
    }
    let (sender, reply) = reply::stream("application/json");
    let shared = context.shared;
    tokio::spawn(async move {
        let mut before: Option<Usage> = None;
        let mut now = first;
        loop {
            let line = format!("{}\n", document(&now, before.as_ref()));
            if sender.send(line.into()).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = sender.closed() => return,
            }
            // One that has been removed has no counters any more.
            let Ok(next) = look(&shared, &id).await else { return };
            before = Some(std::mem::replace(&mut now, next));
        }
    });
    Ok(reply)
}

async fn look(shared: &Arc<Shared>, id: &str) -> Result<Usage, Failure> {
    let id = id.to_owned();
    shared.workers.quick(move |engine| engine.usage(&id)).await
}

fn document(now: &Usage, before: Option<&Usage>) -> Value {
    let cgroup = now.cgroup.as_ref();
    let mut document = json!({
        "read": time(now),
        "preread": before.map_or_else(|| docker_json::NEVER.to_owned(), time),
        "name": format!("/{}", now.name),
        "id": now.id,
        "os_type": "linux",
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": pids(cgroup),
        "blkio_stats": blocks(cgroup),
        "cpu_stats": processors(Some(now)),
        "precpu_stats": processors(before),
        "memory_stats": memory(now),
    });
    if !now.networks.is_empty() {
        let all: Map<String, Value> = now.networks.iter().map(|(name, usage)| (name.clone(), network(usage))).collect();
        document["networks"] = all.into();
    }
    document
}

fn time(usage: &Usage) -> String {
    usage.time.to_string()
}

fn pids(cgroup: Option<&engine::CgroupStats>) -> Value {
    match cgroup.and_then(|cgroup| cgroup.pids.as_ref()) {
        // Docker writes the largest number for "no limit".
        Some(pids) => json!({ "current": pids.current, "limit": pids.limit.unwrap_or(u64::MAX) }),
        None => json!({}),
    }
}

fn blocks(cgroup: Option<&engine::CgroupStats>) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for device in cgroup.iter().flat_map(|cgroup| &cgroup.io) {
        let line =
            |op: &str, value: u64| json!({ "major": device.major, "minor": device.minor, "op": op, "value": value });
        bytes.extend([line("read", device.read_bytes), line("write", device.write_bytes)]);
        operations.extend([line("read", device.reads), line("write", device.writes)]);
    }
    json!({
        "io_service_bytes_recursive": bytes,
        "io_serviced_recursive": operations,
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

fn processors(usage: Option<&Usage>) -> Value {
    let cpu = usage.and_then(|usage| usage.cgroup.as_ref()?.cpu.clone()).unwrap_or_default();
    let mut document = json!({
        "cpu_usage": {
            "total_usage": cpu.usage,
            "usage_in_kernelmode": cpu.system,
            "usage_in_usermode": cpu.user,
        },
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled,
        },
    });
    if let Some(usage) = usage.filter(|usage| usage.cgroup.is_some()) {
        document["system_cpu_usage"] = usage.machine_time.into();
        document["online_cpus"] = usage.processors.into();
    }
    document
}

fn memory(usage: &Usage) -> Value {
    let Some(memory) = usage.cgroup.as_ref().and_then(|cgroup| cgroup.memory.as_ref()) else { return json!({}) };
    let mut document = json!({ "usage": memory.usage, "stats": memory.detail, "limit": usage.memory_limit });
    if let Some(peak) = memory.peak {
        document["max_usage"] = peak.into();
    }
    if memory.failures > 0 {
        document["failcnt"] = memory.failures.into();
    }
    document
}

fn network(usage: &NetworkUsage) -> Value {
    json!({
        "rx_bytes": usage.received_bytes,
        "rx_packets": usage.received_packets,
        "rx_errors": usage.received_errors,
        "rx_dropped": usage.received_dropped,
        "tx_bytes": usage.sent_bytes,
        "tx_packets": usage.sent_packets,
        "tx_errors": usage.sent_errors,
        "tx_dropped": usage.sent_dropped,
    })
}
