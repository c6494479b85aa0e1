//! `dhow oci` beside crun and runc: how long each verb takes, and in how little memory a container starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, time};
use super::table::{Samples, print};
use crate::command::{command, output};

/// What is wanted of dhow: a row, and the part of another row that it may take at most.
const WANTED: &[(&str, &str, f64)] = &[
    ("dhow run", "crun run", 0.65),
    ("dhow run", "floor", 1.5),
    ("dhow create, start, delete", "crun create, start, delete", 0.65),
    ("dhow exec", "crun exec", 0.65),
];

/// So many at the same time.
const AT_ONCE: usize = 64;
/// So many one after the other.
const IN_A_ROW: usize = 100;

/// A runtime, with a state directory of its own.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    root: PathBuf,
    /// A bundle that runs `true`, and one that stays.
    ends: PathBuf,
    stays: PathBuf,
}

impl Runtime {
    fn new(bench: &Bench, name: &'static str, bundle: &Path) -> Result<Self> {
        let program = match name {
            "dhow" => {
                // By its other name it needs no word `oci`, as whoever has it in place of runc calls it.
                let link = bench.path("runc");
                if !link.exists() {
                    std::os::unix::fs::symlink(&bench.dhow, &link)?;
                }
                link
            }
            other => PathBuf::from(other),
        };
        let bundle_of = |what: &str, args: Value| {
            let directory = bench.path(&format!("{name}-{what}"));
            write_bundle(bundle, &directory, |spec| {
                spec["process"]["args"] = args;
                spec["linux"]["cgroupsPath"] = json!(format!("/dhow-bench-{name}-{what}"));
            })?;
            Ok::<_, anyhow::Error>(directory)
        };
        let ends = bundle_of("ends", json!(["/bin/true"]))?;
        let stays = bundle_of("stays", json!(["/bin/sleep", "100000"]))?;
        Ok(Self { name, program, root: bench.path(&format!("{name}-state")), ends, stays })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn in_bundle(&self, verb: &[&str], bundle: &Path, id: &str) -> Command {
        let mut command = self.command(verb);
        command.arg("--bundle").arg(bundle).arg(id);
        command
    }

    fn run(&self) -> Result<f64> {
        time(&mut self.in_bundle(&["run"], &self.ends, "run"))
    }

    fn create_start_delete(&self) -> Result<f64> {
        let created = time(&mut self.in_bundle(&["create"], &self.ends, "one"))?;
        let started = time(&mut self.command(&["start", "one"]))?;
        // Its program has ended, or is about to.
        Ok(created + started + time(&mut self.command(&["delete", "--force", "one"]))?)
    }

    fn cold(&self) -> Result<f64> {
        command("sync", std::iter::empty::<&str>()).status()?;
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the caches")?;
        self.run()
    }

    fn in_a_row(&self) -> Result<f64> {
        let started = Instant::now();
        for _ in 0..IN_A_ROW {
            self.run()?;
        }
        Ok(started.elapsed().as_secs_f64() * 1e3 / IN_A_ROW as f64)
    }

    /// All at once, each a container of its own; milliseconds for one.
    fn at_once(&self, bench: &Bench, bundle: &Path) -> Result<f64> {
        let mut bundles = Vec::new();
        for number in 0..AT_ONCE {
            let directory = bench.path(&format!("many-{number}"));
            write_bundle(bundle, &directory, |spec| {
                spec["process"]["args"] = json!(["/bin/true"]);
                spec["linux"]["cgroupsPath"] = json!(format!("/dhow-bench-many-{number}"));
            })?;
            bundles.push(directory);
        }
        let started = Instant::now();
        let children: Vec<_> = bundles
            .iter()
            .enumerate()
            .map(|(number, bundle)| self.in_bundle(&["run"], bundle, &format!("many{number}")).spawn())
            .collect();
        let mut failed = 0;
        for child in children {
            failed += usize::from(!child?.wait()?.success());
        }
        ensure!(failed == 0, "{failed} of {AT_ONCE} failed");
        Ok(started.elapsed().as_secs_f64() * 1e3 / AT_ONCE as f64)
    }

    /// The smallest memory limit with which `true` runs, in KiB.
    fn least_memory(&self, bundle: &Path, bench: &Bench) -> Result<u64> {
        let directory = bench.path(&format!("{}-memory", self.name));
        let runs = |kib: u64| -> Result<bool> {
            write_bundle(bundle, &directory, |spec| {
                spec["process"]["args"] = json!(["/bin/true"]);
                spec["linux"]["resources"] = json!({"memory": {"limit": kib << 10}});
                spec["linux"]["cgroupsPath"] = json!(format!("/dhow-bench-{}-memory", self.name));
            })?;
            // Luck is not enough.
            for _ in 0..3 {
                let done = self.in_bundle(&["run"], &directory, "memory").status()?.success();
                drop(self.command(&["delete", "--force", "memory"]).status());
                if !done {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let Some(mut enough) = [64, 128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10]
            .into_iter()
            .find(|kib| runs(*kib).unwrap_or(false))
        else {
            bail!("not even in 64 MiB");
        };
        let mut short = enough / 2;
        while enough - short > enough.div_ceil(16).max(4) {
            let middle = u64::midpoint(short, enough);
            if runs(middle)? { enough = middle } else { short = middle }
        }
        Ok(enough)
    }

    /// What a container that waits for its start keeps in memory, in KiB: its own, and with what it shares.
    fn waiting(&self) -> Result<(u64, u64)> {
        time(&mut self.in_bundle(&["create"], &self.ends, "waits"))?;
        let state: Value = serde_json::from_str(&output(
            Command::new(&self.program).arg("--root").arg(&self.root).args(["state", "waits"]),
        )?)?;
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", state["pid"]));
        drop(self.command(&["delete", "--force", "waits"]).status());
        let text = text?;
        let sum = |prefix: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with(prefix));
            lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
        };
        Ok((sum("Private_"), sum("Rss:")))
    }
}

/// The busybox bundle's configuration, changed, beside the same root file system.
fn write_bundle(from: &Path, to: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut spec: Value = serde_json::from_slice(&fs::read(from.join("config.json"))?)?;
    spec["root"]["path"] = json!(from.join("rootfs"));
    change(&mut spec);
    Ok(fs::write(to.join("config.json"), spec.to_string())?)
}

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let bundle = peers::bundle(bench)?;
    let floor = peers::floor(bench, &bundle)?;
    let runtimes = ["dhow", "crun", "runc"].map(|name| Runtime::new(bench, name, &bundle));
    let runtimes: Vec<Runtime> = runtimes.into_iter().collect::<Result<_>>()?;
    for runtime in &runtimes {
        time(&mut runtime.in_bundle(&["run", "--detach"], &runtime.stays, "stays"))?;
    }
    let mut rows: Vec<Samples> = Vec::new();
    let mut measure = |rounds: usize, name: &str, work: &dyn Fn(&Runtime) -> Result<f64>, with_floor: bool| {
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); runtimes.len() + 1];
        for round in 0..=rounds {
            // The first warms up.
            for (runtime, values) in runtimes.iter().zip(&mut values) {
                match work(runtime) {
                    Ok(value) if round > 0 => values.push(value),
                    Ok(_) => {}
                    Err(error) => println!("bench: {} {name}: {error:#}", runtime.name),
                }
            }
            if with_floor && let (Ok(value), true) = (time(&mut floor()), round > 0) {
                values[runtimes.len()].push(value);
            }
        }
        let last = values.pop().unwrap_or_default();
        rows.extend(
            runtimes.iter().zip(values).map(|(each, values)| Samples { name: format!("{} {name}", each.name), values }),
        );
        if with_floor {
            rows.push(Samples { name: "floor".to_owned(), values: last });
        }
    };
    measure(bench.rounds, "run", &Runtime::run, true);
    measure(bench.rounds, "create, start, delete", &Runtime::create_start_delete, false);
    measure(bench.rounds, "exec", &|runtime| time(&mut runtime.command(&["exec", "stays", "/bin/true"])), false);
    measure(3, "run, cold", &Runtime::cold, false);
    measure(2, "100 in a row, each", &Runtime::in_a_row, false);
    measure(2, "64 at once, each", &|runtime| runtime.at_once(bench, &bundle), false);
    show(&rows);
    let mut memory = Vec::new();
    for runtime in &runtimes {
        let least =
            runtime.least_memory(&bundle, bench).map_err(|error| println!("bench: {}: {error:#}", runtime.name));
        let waiting = runtime.waiting().map_err(|error| println!("bench: {}: {error:#}", runtime.name));
        if let (Ok(least), Ok((private, resident))) = (least, waiting) {
            println!(
                "{}: `true` runs in {least} KiB; a waiting create holds {private} KiB of its own, {resident} KiB in all",
                runtime.name
            );
            memory.push(
                json!({"name": runtime.name, "least_kib": least, "private_kib": private, "resident_kib": resident}),
            );
        }
        drop(runtime.command(&["delete", "--force", "stays"]).status());
    }
    let instructions = instructions(bench, &bundle);
    match &instructions {
        Ok(count) => println!("user-space instructions of `dhow oci plan` (callgrind): {count}"),
        Err(error) => println!("bench: without callgrind: {error:#}"),
    }
    Ok(json!({
        "unit": "ms", "rows": rows.iter().map(Samples::json).collect::<Vec<_>>(), "memory": memory,
        "instructions": instructions.ok(),
    }))
}

/// What callgrind counts for reading a configuration, lowering it and printing the plan: the same on every machine, so that
/// a later regression shows whatever else the machine does.
pub fn instructions(bench: &Bench, bundle: &Path) -> Result<u64> {
    let out = bench.path("callgrind.out");
    let mut valgrind = command("valgrind", ["--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(&bench.dhow).args(["oci", "plan"]).arg(bundle);
    let result = valgrind.stdin(Stdio::null()).output().context("start valgrind (package valgrind)")?;
    let text = String::from_utf8_lossy(&result.stderr).into_owned();
    ensure!(result.status.success(), "{}", text.lines().last().unwrap_or_default());
    let collected = text.lines().find_map(|line| line.split("Collected :").nth(1));
    collected.context("callgrind counted nothing")?.trim().parse().context("callgrind's count")
}

fn show(samples: &[Samples]) {
    let median = |name: &str| samples.iter().find(|each| each.name == name).map(Samples::median);
    let rows: Vec<Vec<String>> = samples
        .iter()
        .map(|each| vec![each.name.clone(), format!("{:.2}", each.median()), format!("{:.2}", each.least())])
        .collect();
    print(&["", "median ms", "least ms"], &rows);
    let ratios: Vec<Vec<String>> = WANTED
        .iter()
        .filter_map(|(name, of, wanted)| {
            let ratio = median(name)? / median(of)?;
            let reached = if ratio <= *wanted { "yes" } else { "no" };
            Some(vec![format!("{name} / {of}"), format!("{ratio:.2}"), format!("{wanted:.2}"), reached.to_owned()])
        })
        .collect();
    println!();
    print(&["ratio of medians", "measured", "wanted at most", "reached"], &ratios);
}
