//! Measurements, not checks: memory of an idle and of a busy monitor, throughput of log and clients, reading speed.
//!
//! `DHOW_TEST_EXAMPLES=<target>/release/examples cargo test -p monitor --test measure -- --nocapture --test-threads 1`
#![allow(clippy::print_stdout, reason = "the numbers are the result")]

mod fixture;

use std::fmt::Write;
use std::time::Instant;

use fixture::Fixture;
use monitor::client::{self, Event};
use monitor::logs::{Options, Reader};
use monitor::{Attach, LogPlan, Streams};

/// Says, unless the examples of another profile are named, that there is nothing to measure.
fn skip() -> bool {
    let skip = std::env::var_os("DHOW_TEST_EXAMPLES").is_none();
    if skip {
        println!("SKIP: measures only with DHOW_TEST_EXAMPLES set to the examples of a release build");
    }
    skip
}

fn memory(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        if ["Rss:", "Pss:", "Private_Clean:", "Private_Dirty:", "Anonymous:"].iter().any(|name| line.starts_with(name))
        {
            write!(out, "{} ", line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap();
        }
    }
    out
}

fn text(line_length: usize, size: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + line_length);
    while text.len() < size {
        let start = text.len();
        text.extend((0..line_length - 1).map(|n| b'a' + ((n * 7 + start) % 26) as u8));
        text.push(b'\n');
    }
    text
}

#[test]
fn memory_of_a_monitor() {
    if skip() {
        return;
    }
    let fixture = Fixture::new(&["sleep", "100"]);
    let (control, child) = fixture.spawn();
    control.started().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    println!("idle: {}", memory(child.id()));
    client::signal(&fixture.plan.run_directory, None, 9).unwrap();
}

fn run(name: &str, line_length: usize, attach: bool, log: bool, max_size: Option<u64>) {
    const TIMES: usize = 20;
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let input = directory.path().join("input");
    let text = text(line_length, 40 << 20);
    std::fs::write(&input, &text).unwrap();
    let mut arguments = vec!["cat"];
    arguments.extend([input.to_str().unwrap(); TIMES]);
    let script = format!("{}; sleep 0.2", arguments.join(" "));
    let mut fixture = Fixture::new(&["sh", "-c", &script]);
    fixture.plan.log = if log { LogPlan::json_file(directory.path().join("log")) } else { LogPlan::none() };
    fixture.plan.log.max_size = max_size;
    if attach {
        fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    }
    let (mut control, mut child) = fixture.spawn();
    control.started().unwrap();
    let start = Instant::now();
    let total = text.len() * TIMES;
    if attach {
        let mut taken = 0;
        while taken < total {
            match control.receive().unwrap().unwrap() {
                Event::Output(_, data) => taken += data.len(),
                other => panic!("{other:?}"),
            }
        }
        println!("{name}: {} MB/s, {}", total as u128 / start.elapsed().as_micros().max(1), memory(child.id()));
        child.wait().unwrap();
    } else {
        // The time on a processor, as the machine may have other things to do.
        let mut busy = 1;
        while child.try_wait().unwrap().is_none() {
            let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap_or_default();
            busy = stat.split(' ').next().and_then(|ns| ns.parse::<usize>().ok()).filter(|&ns| ns > 0).unwrap_or(busy);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let elapsed = start.elapsed().as_micros().saturating_sub(200_000).max(1);
        println!("{name}: {} MB/s, {} MB for a second of processor", total as u128 / elapsed, total * 1000 / busy);
    }
    if max_size.is_none() && log {
        let start = Instant::now();
        let mut reader = Reader::open(Options::all(fixture.plan.log.path.clone())).unwrap();
        let mut read = 0;
        while let Some(entry) = reader.next_entry().unwrap() {
            read += entry.text.len();
        }
        assert_eq!(read, total);
        println!("{name}: reading (in this test's profile) {} MB/s", total as u128 / start.elapsed().as_micros());
    }
}

#[test]
fn throughput() {
    if skip() {
        return;
    }
    run("lines of 1000 bytes, log rotated", 1000, false, true, Some(10 << 20));
    run("lines of 1000 bytes, log unbounded", 1000, false, true, None);
    run("lines of 80 bytes, log rotated", 80, false, true, Some(10 << 20));
    run("lines of 1000 bytes, log and one client", 1000, true, true, Some(10 << 20));
    run("lines of 1000 bytes, one client, no log", 1000, true, false, None);
    run("lines of 20 bytes, log rotated", 20, false, true, Some(10 << 20));
}
