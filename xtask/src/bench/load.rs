//! How long an image takes from archive to runnable, and how much memory that needs.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, Engine};
use super::table::{Samples, print};
use super::{forms, limit, room};
use crate::command::{run as run_command, text};
use crate::images;

/// Image, form of the archive, and whether all engines read that form (docker of Debian 12 does not read OCI archives).
const ARCHIVES: &[(&str, &str, bool)] =
    &[("python", "docker", true), ("python", "oci", false), ("layers20", "docker", true)];

/// What was measured of one archive; by the engine's name.
struct Measured {
    limits: Samples,
    times: HashMap<&'static str, Samples>,
    peaks: HashMap<&'static str, f64>,
    removals: HashMap<&'static str, Samples>,
}

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let engines = engines(bench)?;
    let mut rows = vec![];
    let mut results = vec![];
    let mut compared = vec![];
    for (name, form, all) in ARCHIVES {
        let wanted: Vec<&Engine> = engines.iter().filter(|engine| *all || engine.name != "docker").collect();
        let measured = measure(bench, &wanted, name, form)?;
        results.push(json!({ "seconds": measured.limits.json() }));
        rows.extend(measured.rows(&wanted, &mut results));
        let medians = |of: &HashMap<&str, Samples>| {
            ["dhow", "dhow erofs"].map(|engine| of.get(engine).map_or(f64::NAN, Samples::median))
        };
        let limit = Some(measured.limits.median());
        compared.push(forms::Row::new(format!("load {name} ({form}), s"), medians(&measured.times), limit));
        compared.push(forms::Row::new(format!("rmi {name}, s"), medians(&measured.removals), None));
    }
    println!();
    let head = ["what", "median s", "min s", "of the best peer (wanted 0.5)", "of the limit (wanted 1.5)"];
    print(&[&head[..], &["peak MiB", "removal s"]].concat(), &rows);
    let taken = room::run_all(bench, &engines)?;
    let megabytes = ["dhow", "dhow erofs"].map(|engine| {
        let found = taken.iter().find(|each| each["name"] == engine);
        found.and_then(|each| each["bytes"].as_f64()).map_or(f64::NAN, |bytes| bytes / 1e6)
    });
    compared.push(forms::Row::new("all test images, MB on disk".to_owned(), megabytes, None));
    let (starts, samples) = forms::starts(bench, &engines)?;
    compared.extend(starts);
    forms::show(&compared);
    results.extend(taken.into_iter().chain(samples));
    Ok(json!(results))
}

/// All rounds of one archive.
fn measure(bench: &Bench, engines: &[&Engine], name: &str, form: &str) -> Result<Measured> {
    let archive = images::directory()?.join(format!("{name}.{form}.tar"));
    let layers = limit::layers(&archive, &bench.path("limit").join(name).join(form))?;
    let mut measured = Measured {
        limits: Samples { name: format!("limit of {name} ({form})"), values: vec![] },
        times: HashMap::new(),
        peaks: HashMap::new(),
        removals: HashMap::new(),
    };
    // Once through the page cache, so that the first engine has no disadvantage.
    std::io::copy(&mut fs::File::open(&archive)?, &mut std::io::sink())?;
    for _ in 0..bench.rounds {
        run_command(&mut Command::new("sync"))?;
        measured.limits.values.push(limit::seconds(&layers, &bench.path("limit/written"))?);
        for engine in engines {
            // What others have written and the disk does not have yet is not this one's to wait for.
            run_command(&mut Command::new("sync"))?;
            let label = format!("{} load {name} ({form})", engine.name);
            let (seconds, peak) = match load(engine, engine.command(&["load", "-i"]).arg(&archive)) {
                Ok(loaded) => loaded,
                Err(error) => {
                    println!("bench: without {label}: {error:#}");
                    continue;
                }
            };
            let samples = |name| Samples { name, values: vec![] };
            measured.times.entry(engine.name).or_insert_with(|| samples(label)).values.push(seconds);
            let highest = measured.peaks.entry(engine.name).or_default();
            *highest = highest.max(peak);
            let started = Instant::now();
            remove(engine)?;
            let removal = || samples(format!("{} rmi {name}", engine.name));
            let seconds = started.elapsed().as_secs_f64();
            measured.removals.entry(engine.name).or_insert_with(removal).values.push(seconds);
        }
    }
    Ok(measured)
}

impl Measured {
    /// Rows of the table: the limit, and each engine.
    fn rows(&self, engines: &[&Engine], results: &mut Vec<Value>) -> Vec<Vec<String>> {
        let peers = self.times.iter().filter(|(engine, _)| !engine.starts_with("dhow"));
        let best = peers.map(|(_, samples)| samples.median()).fold(f64::NAN, f64::min);
        let least = self.limits.median();
        let mut rows =
            vec![vec![self.limits.name.clone(), format!("{least:.2}"), format!("{:.2}", self.limits.least())]];
        for engine in engines {
            let (Some(samples), Some(removed)) = (self.times.get(engine.name), self.removals.get(engine.name)) else {
                continue;
            };
            let (median, peak) = (samples.median(), self.peaks[engine.name]);
            rows.push(vec![
                samples.name.clone(),
                format!("{median:.2}"),
                format!("{:.2}", samples.least()),
                format!("{:.2}", median / best),
                format!("{:.2}", median / least),
                format!("{peak:.0}"),
                format!("{:.2}", removed.median()),
            ]);
            results.push(json!({ "seconds": samples.json(), "peak_mib": peak, "removal": removed.json() }));
        }
        rows
    }
}

fn engines(bench: &Bench) -> Result<Vec<Engine>> {
    let mut engines = vec![peers::dhow(bench), peers::dhow_with_images(bench)?];
    if !super::is_wanted("peers") {
        return Ok(engines);
    }
    engines.push(peers::podman(bench));
    match peers::docker(bench) {
        Ok(docker) => engines.push(docker),
        Err(error) => println!("bench: without docker: {error:#}"),
    }
    Ok(engines)
}

/// Every image of the engine, so that the next load begins anew.
fn remove(engine: &Engine) -> Result<()> {
    let ids = engine.output(engine.command(&["images", "-q"]))?;
    let mut remove = engine.command(&["rmi", "-f"]);
    engine.output({
        remove.args(ids.lines());
        remove
    })?;
    Ok(())
}

/// Runs a command, and returns its seconds and the highest memory in MiB that it, its daemon and their children had together.
fn load(engine: &Engine, command: &mut Command) -> Result<(f64, f64)> {
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {}", text(command)))?;
    let roots: Vec<u32> =
        std::iter::once(child.id()).chain(engine.daemon.as_ref().map(|daemon| daemon.0.id())).collect();
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            let seconds = started.elapsed().as_secs_f64();
            if !status.success() {
                bail!("{}: {status}", text(command));
            }
            return Ok((seconds, peak as f64 / 1024.0));
        }
        peak = peak.max(resident(&roots));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Anonymous memory of processes and all their descendants, in KiB: the page cache of mapped files is nobody's cost.
fn resident(roots: &[u32]) -> u64 {
    let mut parents: HashMap<u32, u32> = HashMap::new();
    let mut memory: HashMap<u32, u64> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        };
        parents.insert(pid, field("PPid:").unwrap_or(0) as u32);
        memory.insert(pid, field("RssAnon:").unwrap_or(0));
    }
    let belongs = |mut pid: u32| {
        while pid > 1 {
            if roots.contains(&pid) {
                return true;
            }
            pid = parents.get(&pid).copied().unwrap_or(0);
        }
        false
    };
    memory.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, kib)| kib).sum()
}
