//! A container's every day beside podman and docker: run, start, stop, exec, a long list, a long log, many files, many starts at
//! once, and what a container that does nothing costs.
//!
//! Limits are measured beside what they limit: the floor program for starts, cp(1) for files, cat(1) for logs. Peers that would
//! need minutes get fewer containers; the output says how many.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, Engine, time};
use super::start::{Subject, measure, standing};
use super::table::{Samples, print};
use crate::command::{command, output, run as run_command};

/// What is wanted: dhow's part of the better peer's figure, at most.
const WANTED: &[(&str, f64)] = &[
    ("run", 0.1),
    ("start", 0.1),
    ("stop", 0.1),
    ("exec", 0.1),
    ("ps", 0.1),
    ("logs written", 1.0 / 3.0),
    ("logs read", 1.0 / 3.0),
    ("cp in", 1.0 / 3.0),
    ("cp out", 1.0 / 3.0),
    ("starts at once", 1.0 / 3.0),
    ("memory", 1.0 / 3.0),
];

/// Containers in the list, in dhow and in its peers.
const LISTED: (usize, usize) = (1000, 300);
/// Starts in all, in dhow and in its peers; as many at once.
const STARTS: (usize, usize) = (500, 100);
const AT_ONCE: usize = 100;
/// Bytes of the log: a fifth of the gigabyte that is talked of, so that all is done in minutes.
const LOG_BYTES: usize = 200 << 20;
/// Files that are copied.
const FILES: usize = 10_000;
/// Idle containers whose memory is compared.
const IDLE: usize = 10;

/// One figure for each engine and, where there is one, the limit: seconds, milliseconds or KiB.
type Figures = BTreeMap<String, BTreeMap<String, f64>>;

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let began = Instant::now();
    let bundle = peers::bundle(bench)?;
    let floor = peers::floor(bench, &bundle)?;
    let mut engines = vec![peers::dhow(bench), peers::podman(bench)];
    match peers::docker(bench) {
        Ok(docker) => engines.push(docker),
        Err(error) => println!("bench: without docker: {error:#}"),
    }
    engines.retain(|engine| match engine.load("busybox") {
        Ok(()) => true,
        Err(error) => {
            println!("bench: without {}: {error:#}", engine.name);
            false
        }
    });
    let mut figures = Figures::new();
    let samples = every_day(&engines, bench.rounds)?;
    for each in &samples {
        if let Some((engine, what)) = each.name.split_once(' ') {
            note(&mut figures, what, engine, each.median());
        }
    }
    let files = files(bench)?;
    for engine in &engines {
        attempt(engine, "memory", idle(engine, &mut figures));
        attempt(engine, "logs", log(bench, engine, &mut figures));
        attempt(engine, "cp", copies(bench, engine, &files, &mut figures));
        attempt(engine, "starts", starts(engine, &mut figures));
    }
    limits(bench, &files, &floor, &mut figures)?;
    for engine in &engines {
        attempt(engine, "ps", list(engine, bench.rounds, &mut figures));
    }
    show(&figures);
    println!(
        "\nlist: {} containers in dhow, {} in the peers; starts: {} and {}, {AT_ONCE} at once; log: {} MiB; {FILES} files of 1 KiB; \
         all in {:.0} s",
        LISTED.0,
        LISTED.1,
        STARTS.0,
        STARTS.1,
        LOG_BYTES >> 20,
        began.elapsed().as_secs_f64()
    );
    Ok(json!({ "figures": figures, "samples": samples.iter().map(Samples::json).collect::<Vec<_>>() }))
}

fn note(figures: &mut Figures, what: &str, who: &str, value: f64) {
    figures.entry(what.to_owned()).or_default().insert(who.to_owned(), value);
}

/// What cannot be measured is said and left out.
fn attempt(engine: &Engine, what: &str, result: Result<()>) {
    if let Err(error) = result {
        println!("bench: without {what} of {}: {error:#}", engine.name);
    }
}

fn pick(engine: &Engine, (own, peers): (usize, usize)) -> usize {
    if engine.name == "dhow" { own } else { peers }
}

/// run, start, stop, exec: milliseconds, in interleaved rounds.
fn every_day(engines: &[Engine], rounds: usize) -> Result<Vec<Samples>> {
    let mut subjects = vec![];
    for engine in engines {
        let container = standing(engine)?;
        let name = |what: &str| format!("{} {what}", engine.name);
        subjects.push(Subject {
            name: name("run"),
            round: Box::new(move || time(&mut engine.run(&["--rm", "--network", "none"], &["true"]))),
        });
        let made = engine.create(&["--network", "none", "--stop-signal", "KILL"], &["sleep", "100000"]);
        let stopped = engine.output(made)?.lines().next_back().map(str::to_owned).context("create printed no id")?;
        let again = stopped.clone();
        subjects.push(Subject {
            name: name("start"),
            round: Box::new(move || time(&mut engine.command(&["start", &again]))),
        });
        subjects.push(Subject {
            name: name("stop"),
            round: Box::new(move || time(&mut engine.command(&["stop", &stopped]))),
        });
        subjects.push(Subject {
            name: name("exec"),
            round: Box::new(move || time(&mut engine.command(&["exec", &container, "true"]))),
        });
    }
    Ok(measure(subjects, rounds))
}

/// KiB for each idle container: memory of everything that is there because of it, but its own program.
fn idle(engine: &Engine, figures: &mut Figures) -> Result<()> {
    let before = proportional()?;
    let ids = (0..IDLE).map(|_| standing(engine)).collect::<Result<Vec<_>>>()?;
    thread::sleep(Duration::from_millis(500));
    let after = proportional()?;
    note(figures, "memory", engine.name, (after - before) / IDLE as f64);
    remove(engine, &ids)
}

/// Proportional memory of all processes but containers' programs and ourselves, in KiB.
fn proportional() -> Result<f64> {
    let own = std::process::id().to_string();
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Each may have ended meanwhile.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name == own || comm.trim() == "sleep" || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let text = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        sum += line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(sum)
}

fn remove(engine: &Engine, ids: &[String]) -> Result<()> {
    let mut remove = engine.command(&["rm", "-f"]);
    remove.args(ids);
    engine.output(remove).map(drop)
}

/// Seconds in which a container writes a log, and in which it is read.
fn log(bench: &Bench, engine: &Engine, figures: &mut Figures) -> Result<()> {
    let script = format!("yes {} | head -c {LOG_BYTES}", "0123456789abcdef".repeat(4));
    let driver: &[&str] = match engine.name {
        "dhow" => &["--log-opt", "max-size=2g"],
        "podman" => &["--log-driver", "k8s-file"],
        _ => &[],
    };
    let options = [&["--network", "none", "--name", "bench-log"], driver].concat();
    let written = time(&mut engine.run(&options, &["sh", "-c", &script]))? / 1e3;
    note(figures, "logs written", engine.name, written);
    let read = time(&mut engine.command(&["logs", "bench-log"]))? / 1e3;
    note(figures, "logs read", engine.name, read);
    if engine.name == "dhow" {
        let place = engine.output(engine.command(&["inspect", "--format", "{{.LogPath}}", "bench-log"]))?;
        let seconds = time(command("cat", [place.trim()]).stdout(Stdio::null()))? / 1e3;
        note(figures, "logs read", "limit", seconds);
        let copy = bench.path("log-copy");
        let seconds = time(&mut command("sh", ["-c", &format!("{script} > {}", copy.display())]))? / 1e3;
        note(figures, "logs written", "limit", seconds);
        fs::remove_file(copy)?;
    }
    remove(engine, &["bench-log".to_owned()])
}

/// A directory with many small files.
fn files(bench: &Bench) -> Result<PathBuf> {
    let directory = bench.path("many");
    for group in 0..FILES / 100 {
        let below = directory.join(format!("group{group}"));
        fs::create_dir_all(&below)?;
        for number in 0..100 {
            fs::write(below.join(format!("file{number}")), [b'x'; 1024])?;
        }
    }
    Ok(directory)
}

/// Seconds for `cp` of many files, in and out.
fn copies(bench: &Bench, engine: &Engine, files: &std::path::Path, figures: &mut Figures) -> Result<()> {
    let container = standing(engine)?;
    let (inside, out) = (format!("{container}:/many"), bench.path(&format!("out-{}", engine.name)));
    run_command(&mut Command::new("sync"))?;
    let seconds = time(engine.command(&["cp"]).arg(files).arg(&inside))? / 1e3;
    note(figures, "cp in", engine.name, seconds);
    run_command(&mut Command::new("sync"))?;
    let seconds = time(engine.command(&["cp", &inside]).arg(&out))? / 1e3;
    note(figures, "cp out", engine.name, seconds);
    let copied = output(&mut command("find", [out.as_os_str(), "-type".as_ref(), "f".as_ref()]))?.lines().count();
    ensure!(copied == FILES, "{copied} of {FILES} files came out");
    fs::remove_dir_all(&out)?;
    remove(engine, &[container])
}

/// Milliseconds for each of many starts at once.
fn starts(engine: &Engine, figures: &mut Figures) -> Result<()> {
    let number = pick(engine, STARTS);
    let began = Instant::now();
    at_once(number, AT_ONCE, |each| {
        let name = format!("bench-start{each}");
        engine.run(&["-d", "--network", "none", "--name", &name], &["sleep", "100000"])
    })?;
    note(figures, "starts at once", engine.name, began.elapsed().as_secs_f64() * 1e3 / number as f64);
    let names: Vec<String> = (0..number).map(|each| format!("bench-start{each}")).collect();
    names.chunks(100).try_for_each(|part| remove(engine, part))
}

/// Runs commands, so many at once; all must succeed.
fn at_once(number: usize, limit: usize, make: impl Fn(usize) -> Command + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                let each = next.fetch_add(1, Ordering::Relaxed);
                if each >= number {
                    return Ok(());
                }
                time(&mut make(each))?;
            }
        };
        let workers: Vec<_> = (0..limit.min(number)).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|each| each.join().unwrap_or_else(|_| bail!("a worker panicked")));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Milliseconds for a list of many containers.
fn list(engine: &Engine, rounds: usize, figures: &mut Figures) -> Result<()> {
    at_once(pick(engine, LISTED), 4, |_| engine.create(&["--network", "none"], &["true"]))?;
    let values = (0..rounds.max(3)).map(|_| time(&mut engine.command(&["ps", "-a"]))).collect::<Result<Vec<_>>>()?;
    note(figures, "ps", engine.name, Samples { name: String::new(), values }.median());
    Ok(())
}

/// What no engine can be better than.
fn limits(
    bench: &Bench,
    files: &std::path::Path,
    floor: &(impl Fn() -> Command + Sync),
    figures: &mut Figures,
) -> Result<()> {
    for what in ["cp in", "cp out"] {
        let copy = bench.path("copied");
        run_command(&mut Command::new("sync"))?;
        let seconds = time(command("cp", ["-a"]).arg(files).arg(&copy))? / 1e3;
        note(figures, what, "limit", seconds);
        fs::remove_dir_all(copy)?;
    }
    // One overlay's directories can be used once at a time.
    let began = Instant::now();
    const FLOORS: usize = 100;
    for _ in 0..FLOORS {
        time(&mut floor())?;
    }
    note(figures, "starts at once", "limit", began.elapsed().as_secs_f64() * 1e3 / FLOORS as f64);
    File::open(files).map(drop).context("the files are gone")
}

fn show(figures: &Figures) {
    let unit = |what: &str| match what {
        "memory" => "KiB",
        "logs written" | "logs read" | "cp in" | "cp out" => "s",
        _ => "ms",
    };
    let cell = |value: Option<&f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut rows = vec![];
    for (what, wanted) in WANTED {
        let Some(row) = figures.get(*what) else { continue };
        let best = ["podman", "docker"].iter().filter_map(|name| row.get(*name)).copied().fold(f64::NAN, f64::min);
        let ratio = row.get("dhow").map_or(f64::NAN, |own| own / best);
        let near = row.get("limit").zip(row.get("dhow")).is_some_and(|(limit, own)| *own <= limit * 1.5);
        let verdict = match (ratio <= *wanted, near) {
            (true, _) => "yes",
            (false, true) => "at the limit",
            (false, false) => "no",
        };
        rows.push(vec![
            format!("{what}, {}", unit(what)),
            cell(row.get("dhow")),
            cell(row.get("podman")),
            cell(row.get("docker")),
            cell(row.get("limit")),
            format!("{ratio:.3}"),
            format!("{wanted:.2}"),
            verdict.to_owned(),
        ]);
    }
    println!();
    print(&["what", "dhow", "podman", "docker", "limit", "of the better peer", "wanted at most", "reached"], &rows);
}
