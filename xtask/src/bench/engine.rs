//! A container's every day beside podman and docker: run, start, stop, exec, a long list, a long log, many files, many starts at
//! once, and what a container that does nothing costs.
//!
//! Limits are measured beside what they limit: the floor program for starts, cp(1) for files, cat(1) for logs. Peers that would
//! need minutes get fewer containers; the output says how many.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::peers::{self, Engine, time};
use super::start::{Subject, measure, standing};
use super::table::{Samples, print};
use super::{Bench, is_wanted};
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

/// How much there is of everything.
#[derive(Clone, Copy)]
struct Sizes {
    /// Containers in the list, in dhow and in its peers.
    listed: (usize, usize),
    /// Starts in all, in dhow and in its peers.
    starts: (usize, usize),
    /// Starts at once.
    at_once: usize,
    /// Bytes of the log: a fifth of a gigabyte, so that all is done in minutes.
    log: usize,
    /// Files that are copied, in directories of a hundred.
    files: usize,
    /// Idle containers whose memory is compared.
    idle: usize,
}

impl Sizes {
    fn of(bench: &Bench) -> Self {
        let all =
            Self { listed: (1000, 1000), starts: (500, 100), at_once: 100, log: 200 << 20, files: 10_000, idle: 10 };
        let tenth = |(own, peers): (usize, usize)| (own / 10, peers / 10);
        match bench.rounds {
            1 => Self {
                listed: tenth(all.listed),
                starts: tenth(all.starts),
                at_once: all.at_once / 10,
                log: all.log / 10,
                files: all.files / 10,
                idle: 3,
            },
            _ => all,
        }
    }
}

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
    let sizes = Sizes::of(bench);
    let mut figures = Figures::new();
    let samples = every_day(&engines, bench.rounds)?;
    for each in &samples {
        if let Some((engine, what)) = each.name.split_once(' ') {
            note(&mut figures, what, engine, each.median());
        }
    }
    let files = files(bench, sizes.files)?;
    for engine in &engines {
        attempt(engine, "memory", || idle(engine, sizes.idle, &mut figures));
        attempt(engine, "logs", || log(engine, sizes.log, &mut figures));
        attempt(engine, "cp", || copies(bench, engine, (&files, sizes.files), &mut figures));
        attempt(engine, "starts", || starts(engine, sizes, &mut figures));
    }
    if is_wanted("limits") {
        limits(bench, &files, &floor, &mut figures)?;
    }
    for engine in &engines {
        attempt(engine, "ps", || list(engine, sizes, bench.rounds, &mut figures));
    }
    show(&figures);
    println!(
        "\nlist: {} containers in dhow, {} in the peers; starts: {} and {}, {} at once; log: {} MiB; {} files of 1 KiB; \
         all in {:.0} s",
        sizes.listed.0,
        sizes.listed.1,
        sizes.starts.0,
        sizes.starts.1,
        sizes.at_once,
        sizes.log >> 20,
        sizes.files,
        began.elapsed().as_secs_f64()
    );
    Ok(json!({ "figures": figures, "samples": samples.iter().map(Samples::json).collect::<Vec<_>>() }))
}

fn note(figures: &mut Figures, what: &str, who: &str, value: f64) {
    figures.entry(what.to_owned()).or_default().insert(who.to_owned(), value);
}

/// What cannot be measured is said and left out, what is not wanted left out.
fn attempt(engine: &Engine, what: &str, work: impl FnOnce() -> Result<()>) {
    if is_wanted(what)
        && let Err(error) = work()
    {
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
fn idle(engine: &Engine, number: usize, figures: &mut Figures) -> Result<()> {
    let before = proportional()?;
    let ids = (0..number).map(|_| standing(engine)).collect::<Result<Vec<_>>>()?;
    // Idle is who has done nothing for a while.
    thread::sleep(Duration::from_secs(3));
    let after = proportional()?;
    note(figures, "memory", engine.name, (after - before) / number as f64);
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
fn log(engine: &Engine, bytes: usize, figures: &mut Figures) -> Result<()> {
    let script = format!("yes {} | head -c {bytes}", "0123456789abcdef".repeat(4));
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
        // The same program as in the container, which takes most of the time: its output into a file, and nobody's log.
        let alone = ["sh", "-c", &format!("{script} > /log-copy")];
        let seconds = time(&mut engine.run(&["--rm", "--network", "none", "--log-driver", "none"], &alone))? / 1e3;
        note(figures, "logs written", "limit", seconds);
    }
    remove(engine, &["bench-log".to_owned()])
}

/// A directory with many small files.
fn files(bench: &Bench, number: usize) -> Result<PathBuf> {
    let directory = bench.path("many");
    for group in 0..number / 100 {
        let below = directory.join(format!("group{group}"));
        fs::create_dir_all(&below)?;
        for number in 0..100 {
            fs::write(below.join(format!("file{number}")), [b'x'; 1024])?;
        }
    }
    Ok(directory)
}

/// Seconds for `cp` of many files, in and out.
fn copies(bench: &Bench, engine: &Engine, files: (&Path, usize), figures: &mut Figures) -> Result<()> {
    let (files, number) = files;
    let container = standing(engine)?;
    let (inside, out) = (format!("{container}:/many"), bench.path(&format!("out-{}", engine.name)));
    run_command(&mut Command::new("sync"))?;
    let seconds = time(engine.command(&["cp"]).arg(files).arg(&inside))? / 1e3;
    note(figures, "cp in", engine.name, seconds);
    run_command(&mut Command::new("sync"))?;
    let seconds = time(engine.command(&["cp", &inside]).arg(&out))? / 1e3;
    note(figures, "cp out", engine.name, seconds);
    let copied = output(&mut command("find", [out.as_os_str(), "-type".as_ref(), "f".as_ref()]))?.lines().count();
    ensure!(copied == number, "{copied} of {number} files came out");
    fs::remove_dir_all(&out)?;
    remove(engine, &[container])
}

/// Milliseconds for each of many starts at once.
fn starts(engine: &Engine, sizes: Sizes, figures: &mut Figures) -> Result<()> {
    let number = pick(engine, sizes.starts);
    let began = Instant::now();
    at_once(number, sizes.at_once, |each| {
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
fn list(engine: &Engine, sizes: Sizes, rounds: usize, figures: &mut Figures) -> Result<()> {
    at_once(pick(engine, sizes.listed), 4, |_| engine.create(&["--network", "none"], &["true"]))?;
    let values = (0..rounds.max(3)).map(|_| time(&mut engine.command(&["ps", "-a"]))).collect::<Result<Vec<_>>>()?;
    note(figures, "ps", engine.name, Samples { name: String::new(), values }.median());
    Ok(())
}

/// What no engine can be better than.
fn limits(bench: &Bench, files: &Path, floor: &(impl Fn() -> Command + Sync), figures: &mut Figures) -> Result<()> {
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
