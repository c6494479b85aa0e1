//! What a full store costs: lists, the first command, and a server's start and memory, with 10,000 images and 1,000 containers
//! beside 10 images and 1 container. Peers are not asked: filling theirs would take hours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::peers::{Daemon, time};
use super::start::{Subject, measure};
use super::table::{Samples, print};
use crate::command::{command, run as run_command};
use crate::paths;

/// Images and containers: a store that is nearly empty, and a full one.
const STORES: [(&str, usize, usize); 2] = [("small", 10, 1), ("full", 10_000, 1_000)];

/// What is wanted of the full store: milliseconds, or MiB for the memory.
const WANTED: &[(&str, f64)] = &[("server starts", 20.0), ("server's memory", 10.0)];

/// The program that fills stores; built before the benchmark's own namespaces are entered.
pub fn build() -> Result<()> {
    let words = ["build", "--quiet", "--release", "--package", "engine", "--example", "fill"];
    run_command(command("cargo", words).current_dir(paths::workspace()))
}

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let fill = bench.dhow.with_file_name("examples").join("fill");
    for (name, images, containers) in STORES {
        let began = Instant::now();
        let mut command = Command::new(&fill);
        command.args([root(bench, name), running(bench, name)]).args([images.to_string(), containers.to_string()]);
        run_command(&mut command)?;
        println!("bench: {images} images and {containers} containers in {:.1} s", began.elapsed().as_secs_f64());
    }
    let mut subjects = vec![];
    for (name, _, _) in STORES {
        let verbs: [&[&str]; 7] = [
            &["version"],
            &["inspect", "--type", "image", "fill/image7"],
            &["run", "--rm", "--network", "none", "dhow/hello"],
            &["ps", "-a"],
            &["images", "-q"],
            &["images"],
            &["system", "df"],
        ];
        for words in verbs {
            let round = move || time(&mut dhow(bench, name, words));
            subjects.push(Subject { name: format!("{name}: {}", words.join(" ")), round: Box::new(round) });
        }
    }
    let mut samples = measure(subjects, bench.rounds);
    for (name, _, _) in STORES {
        let served = (0..bench.rounds.max(3)).map(|_| serve(bench, name)).collect::<Result<Vec<_>>>()?;
        let (starts, memory) = served.into_iter().unzip();
        samples.push(Samples { name: format!("{name}: server starts"), values: starts });
        samples.push(Samples { name: format!("{name}: server's memory"), values: memory });
    }
    show(&samples);
    Ok(json!(samples.iter().map(Samples::json).collect::<Vec<_>>()))
}

fn root(bench: &Bench, name: &str) -> PathBuf {
    bench.path(name).join("data")
}

fn running(bench: &Bench, name: &str) -> PathBuf {
    bench.path(name).join("run")
}

fn dhow(bench: &Bench, name: &str, words: &[&str]) -> Command {
    let mut command = Command::new(&bench.dhow);
    command.arg("--root").arg(root(bench, name)).arg("--run-dir").arg(running(bench, name)).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Milliseconds until a server's socket takes a client, and the MiB of its memory when nobody asks anything.
fn serve(bench: &Bench, name: &str) -> Result<(f64, f64)> {
    let socket = running(bench, name).join("docker.sock");
    let began = Instant::now();
    let server = Daemon(dhow(bench, name, &["serve"]).spawn().context("start dhow serve")?);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        ensure!(began.elapsed() < Duration::from_secs(10), "the server does not listen");
        std::thread::sleep(Duration::from_micros(200));
    }
    let started = began.elapsed().as_secs_f64() * 1e3;
    // A second after the last client has gone it gives back what it does not need.
    std::thread::sleep(Duration::from_millis(2500));
    Ok((started, resident(server.0.id())?))
}

fn resident(process: u32) -> Result<f64> {
    let text = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kibibytes / 1024.0)
}

fn show(samples: &[Samples]) {
    let median = |name: &str| samples.iter().find(|each| each.name == name).map_or(f64::NAN, Samples::median);
    let rows: Vec<Vec<String>> = samples
        .iter()
        .filter_map(|each| {
            let what = each.name.strip_prefix("full: ")?;
            let small = median(&format!("small: {what}"));
            let wanted = WANTED.iter().find(|(name, _)| *name == what);
            let verdict = wanted.map_or_else(String::new, |(_, most)| {
                format!("{most:.0}: {}", if each.median() <= *most { "yes" } else { "no" })
            });
            Some(vec![what.to_owned(), format!("{small:.1}"), format!("{:.1}", each.median()), verdict])
        })
        .collect();
    println!();
    print(&["ms; memory in MiB", "10 images, 1 container", "10,000 images, 1,000 containers", "at most"], &rows);
}
