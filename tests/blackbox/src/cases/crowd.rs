//! Many processes at the same engine at once: nobody waits for ever, nobody waits long for a lock, and no change is lost.
//!
//! `DHOW_CROWD_SECONDS` is how long (4 where not given; 300 for a real try), `DHOW_CROWD` how many processes at once (64).

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::case::{cases, same};
use crate::sandbox::Sandbox;

cases![crowd: containers_come_and_go [Alone, Long], every_step_in_every_state [Root]];

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Options of `update`, and where `inspect` shows each; one worker changes each, so that it must always find what it wrote.
const CHANGES: &[(&str, &str)] = &[
    ("--pids-limit", "{{.HostConfig.PidsLimit}}"),
    ("--cpu-shares", "{{.HostConfig.CpuShares}}"),
    ("--cpu-quota", "{{.HostConfig.CpuQuota}}"),
    ("--memory-reservation", "{{.HostConfig.MemoryReservation}}"),
];

fn containers_come_and_go(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // It does not run: limits are changed in the records alone, and an ordinary user needs no delegated cgroup.
    sandbox.ok(["create", "--name", "shared", "--network", "none", "busybox", "true"])?;
    let usual = if sandbox.is_slow() { 8 } else { 64 };
    let until = Instant::now() + sandbox.seconds(number("DHOW_CROWD_SECONDS", 4));
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let updates = Updates::default();
    let (longest, who) = thread::scope(|scope| {
        let watch = scope.spawn(|| longest_wait(&done));
        let workers: Vec<_> = (0..number("DHOW_CROWD", usual))
            .map(|worker| {
                let (rounds, updates) = (&rounds, &updates);
                scope.spawn(move || {
                    let change = CHANGES.get(usize::try_from(worker)?);
                    for round in 0.. {
                        if Instant::now() > until {
                            break;
                        }
                        one_life(sandbox, &format!("box{worker}-{round}"))?;
                        if let Some((option, shown)) = change {
                            one_change(sandbox, option, shown, round, updates)?;
                        }
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let ended: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked"))).collect();
        done.store(true, Ordering::Relaxed);
        let longest = watch.join().unwrap_or_else(|_| bail!("the watch panicked"))?;
        ended.into_iter().collect::<Result<()>>()?;
        anyhow::Ok(longest)
    })?;
    let Updates { written, lost } = updates;
    let (written, lost) = (written.into_inner(), lost.into_inner());
    let report = format!(
        "{} containers came and went; longest wait for a lock: {longest:?} ({who}); {written} updates, {lost} lost",
        rounds.into_inner()
    );
    eprintln!("{report}");
    if let Some(path) = std::env::var_os("DHOW_CROWD_REPORT") {
        fs::write(path, report)?;
    }
    same!(lost, 0, "of {written} updates");
    ensure!(longest < sandbox.seconds(1), "a command waited {longest:?} for a lock: {who}");
    same!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"])?, "shared");
    sandbox.ok(["system", "check"])?;
    Ok(())
}

fn quiet(sandbox: &Sandbox, words: &[&str]) -> Result<String> {
    let output = sandbox.command(words).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {errors}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn one_life(sandbox: &Sandbox, name: &str) -> Result<()> {
    let id = quiet(sandbox, &["create", "--name", name, "--network", "none", "busybox", "sleep", "1000"])?;
    quiet(sandbox, &["start", name])?;
    let seen = quiet(sandbox, &["inspect", "--format", "{{.Id}} {{.State.Status}}", name])?;
    same!(seen, format!("{id} running"));
    quiet(sandbox, &["rm", "-f", name])?;
    Ok(())
}

/// What was written, and what of it was not there a moment later.
#[derive(Default)]
struct Updates {
    written: AtomicU64,
    lost: AtomicU64,
}

fn one_change(sandbox: &Sandbox, option: &str, shown: &str, round: u64, updates: &Updates) -> Result<()> {
    // Anything but what is there, and more than the least memory.
    let value = ((8 << 20) + round * 4096).to_string();
    quiet(sandbox, &["update", option, &value, "shared"])?;
    updates.written.fetch_add(1, Ordering::Relaxed);
    let there = quiet(sandbox, &["inspect", "--format", shown, "shared"])?;
    if there != value {
        eprintln!("{option} {value} was lost: there is {there}");
        updates.lost.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Calls in which a command line waits for a lock: flock, fcntl, and the naps between two attempts (x86-64, aarch64).
const WAITS: &[&str] =
    if cfg!(target_arch = "x86_64") { &["73", "72", "35", "230"] } else { &["32", "25", "101", "115"] };

/// The longest time that a command line was seen waiting for locks without doing anything else. One that gets no processor
/// neither waits nor works.
fn longest_wait(done: &AtomicBool) -> Result<(Duration, String)> {
    let mut waiting: HashMap<String, Duration> = HashMap::new();
    let mut longest = (Duration::ZERO, String::new());
    let mut last = Instant::now();
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        let step = last.elapsed();
        last = Instant::now();
        let mut now = HashMap::new();
        for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
            let Ok(pid) = entry.file_name().into_string() else { continue };
            // Each may have ended since.
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            if !pid.bytes().all(|byte| byte.is_ascii_digit()) || read("comm").trim() != "dhow" {
                continue;
            }
            let call = read("syscall");
            let call = call.split_whitespace().next().unwrap_or("");
            let before = waiting.get(&pid).copied().unwrap_or_default();
            if WAITS.contains(&call) {
                if before + step > longest.0 {
                    let words = read("cmdline").replace('\0', " ");
                    let words = words.split_once("/run ").map_or(words.as_str(), |(_, verb)| verb);
                    longest = (before + step, format!("{words}, in call {call}"));
                }
                now.insert(pid, before + step);
            } else if call == "running" {
                now.insert(pid, before);
            }
        }
        waiting = now;
    }
    Ok(longest)
}

/// Brings a container into each state, tries every verb, and finds a success or one clear refusal, never a panic or a hang.
fn every_step_in_every_state(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let made = |verb: &[&str]| {
        sandbox
            .ok([verb, &["--name", "box", "--network", "none", "--stop-timeout", "0", "busybox", "sleep", "1000"]]
                .concat())
    };
    let bring = |state: &str| -> Result<()> {
        sandbox.dhow(["rm", "-f", "box"])?;
        match state {
            "created" => made(&["create"])?,
            "running" => made(&["run", "-d"])?,
            "paused" => {
                made(&["run", "-d"])?;
                sandbox.ok(["pause", "box"])?
            }
            "restarting" => {
                let words =
                    ["run", "-d", "--name", "box", "--network", "none", "--restart", "always", "busybox", "sh", "-c"];
                sandbox.ok([&words[..], &["sleep 0.1; exit 1"]].concat())?;
                sandbox.wait_for_state("box", "restarting")?;
                String::new()
            }
            _ => {
                made(&["run", "-d"])?;
                sandbox.ok(["stop", "box"])?
            }
        };
        Ok(())
    };
    // What Docker refuses, with its words; everything else succeeds.
    let refused: &[(&str, &[&str], &str)] = &[
        ("created", &["kill", "box"], "is not running"),
        ("created", &["pause", "box"], "is not running"),
        ("created", &["unpause", "box"], "is not running"),
        ("created", &["exec", "box", "true"], "is not running"),
        ("created", &["top", "box"], "is not running"),
        ("created", &["attach", "box"], "cannot attach to a stopped container"),
        ("running", &["unpause", "box"], "is not paused"),
        ("running", &["rm", "box"], "is running: stop the container before removing or force remove"),
        ("paused", &["pause", "box"], "is already paused"),
        ("paused", &["start", "box"], "cannot start a paused container, try unpause instead"),
        ("paused", &["exec", "box", "true"], "unpause the container before exec"),
        ("paused", &["rm", "box"], "is paused: unpause and then stop the container"),
        ("exited", &["kill", "box"], "is not running"),
        ("exited", &["pause", "box"], "is not running"),
        ("exited", &["exec", "box", "true"], "is not running"),
        ("exited", &["top", "box"], "is not running"),
    ];
    for (state, words, said) in refused {
        bring(state)?;
        sandbox.dhow(*words)?.fails(1, &[said])?;
    }
    for state in ["created", "running", "paused", "restarting", "exited"] {
        for words in [&["stop", "box"][..], &["restart", "-t", "0", "box"], &["inspect", "box"], &["rm", "-f", "box"]] {
            bring(state)?;
            sandbox.ok(words)?;
        }
    }
    Ok(())
}
