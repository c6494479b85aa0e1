//! Counters of the server in the format of Prometheus (text, 0.0.4).

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the histogram's buckets, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests by method and status. Both are bounded: methods that Docker does not have are one.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
    /// Clients at this moment.
    pub clients: AtomicU64,
    /// Operations that the policy denied by their kind.
    pub denied: AtomicU64,
}

/// A method by name; all that Docker does not have are one.
fn named(method: &hyper::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

impl Metrics {
    /// A request has its answer's head.
    pub fn answered(&self, method: &hyper::Method, status: StatusCode, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((named(method), status.as_u16())).or_default() += 1;
        drop(requests);
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn text(&self, out: &mut Text) {
        out.about("dhow_http_requests_total", "counter", "Requests that were answered.");
        for ((method, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            out.line(&format!("dhow_http_requests_total{{method=\"{method}\",code=\"{status}\"}}"), *count as f64);
        }
        out.about("dhow_http_request_duration_seconds", "histogram", "Time until the head of the answer.");
        let mut sum = 0;
        for (end, bucket) in BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).zip(&self.buckets) {
            sum += bucket.load(Relaxed);
            out.line(&format!("dhow_http_request_duration_seconds_bucket{{le=\"{end}\"}}"), sum as f64);
        }
        out.line("dhow_http_request_duration_seconds_sum", self.microseconds.load(Relaxed) as f64 / 1e6);
        out.line("dhow_http_request_duration_seconds_count", sum as f64);
        out.gauge("dhow_clients", "Connections at this moment.", self.clients.load(Relaxed) as f64);
        out.about("dhow_denied_total", "counter", "Operations that the policy denied by their kind.");
        out.line("dhow_denied_total", self.denied.load(Relaxed) as f64);
    }
}

/// Lines of the format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn about(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, value: f64) {
        self.0.push_str(&format!("{name} {value}\n"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.about(name, "gauge", help);
        self.line(name, value);
    }
}

/// `GET /metrics`
pub async fn metrics(context: Context) -> Result<Reply, Failure> {
    let info = context.workers().quick(|engine| engine.info()).await?;
    let mut out = Text::default();
    // Docker's name, so that panels made for it show something.
    out.about("engine_daemon_container_states_containers", "gauge", "Containers by state.");
    for (state, count) in [("paused", info.paused), ("running", info.running), ("stopped", info.stopped)] {
        out.line(&format!("engine_daemon_container_states_containers{{state=\"{state}\"}}"), count as f64);
    }
    out.gauge("dhow_images", "Images.", info.images as f64);
    out.about("dhow_build_info", "gauge", "Always 1; the version is the label.");
    out.line(&format!("dhow_build_info{{version=\"{}\"}}", engine::VERSION), 1.0);
    let shared = &context.shared;
    shared.metrics.text(&mut out);
    let load = shared.workers.load();
    out.about("dhow_worker_threads", "gauge", "Threads that call the engine.");
    for (name, threads, _) in &load {
        out.line(&format!("dhow_worker_threads{{group=\"{name}\"}}"), *threads as f64);
    }
    out.about("dhow_worker_queue", "gauge", "Requests that wait for such a thread.");
    for (name, _, queued) in &load {
        out.line(&format!("dhow_worker_queue{{group=\"{name}\"}}"), *queued as f64);
    }
    own_process(&mut out);
    Ok(reply::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", out.0))
}

/// What Prometheus' own libraries tell of a process.
fn own_process(out: &mut Text) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<f64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        out.gauge("process_resident_memory_bytes", "Resident memory of the server.", kib * 1024.0);
    }
    if let Some(threads) = field("Threads:") {
        out.gauge("process_threads", "Threads of the server.", threads);
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        // The one that lists them is among them.
        let count = descriptors.count().saturating_sub(1);
        out.gauge("process_open_fds", "Descriptors of the server.", count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_adds_up() {
        let metrics = Metrics::default();
        metrics.answered(&hyper::Method::GET, StatusCode::OK, Duration::from_millis(2));
        metrics.answered(&hyper::Method::GET, StatusCode::FORBIDDEN, Duration::from_secs(60));
        metrics.answered(&hyper::Method::PATCH, StatusCode::NOT_FOUND, Duration::ZERO);
        let mut out = Text::default();
        metrics.text(&mut out);
        for line in [
            "dhow_http_requests_total{method=\"GET\",code=\"200\"} 1",
            "dhow_http_requests_total{method=\"other\",code=\"404\"} 1",
            "dhow_http_request_duration_seconds_bucket{le=\"0.001\"} 1",
            "dhow_http_request_duration_seconds_bucket{le=\"0.005\"} 2",
            "dhow_http_request_duration_seconds_bucket{le=\"30\"} 2",
            "dhow_http_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "dhow_http_request_duration_seconds_count 3",
            "dhow_denied_total 0",
        ] {
            assert!(out.0.lines().any(|found| found == line), "{line} in {}", out.0);
        }
    }
}
