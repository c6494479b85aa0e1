//! How long a network, a port and many ports take to set up while containers run; how fast they are then.
//!
//! Peers that are slow get fewer containers: each part has its time, and the table says how many there were.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, Engine, time};
use super::table::{Samples, print};
use crate::command::command;

mod healing;
mod questions;
mod throughput;

pub use questions::client;

/// Containers that run while a network and a port are added.
const COUNTS: [usize; 3] = [1, 100, 400];
/// How long all of it may take: what is not measured by then is left out.
const LIMIT: Duration = Duration::from_secs(300);
/// How long an engine may take to start them.
const FILLING: Duration = Duration::from_secs(18);
/// Ports of one container.
const PORTS: &str = "10000-10849:10000-10849";
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let end = Instant::now() + LIMIT;
    let mut engines = vec![peers::dhow(bench), peers::podman(bench)];
    match peers::docker(bench) {
        Ok(docker) => engines.push(docker),
        Err(error) => println!("bench: without docker: {error:#}"),
    }
    // What comes from outside comes by a wire, as on any machine.
    let lan = throughput::Lan::new()?;
    engines.iter().try_for_each(|engine| engine.load("busybox"))?;
    // podman takes 10.88.0.0/16 without looking; dhow looks, and must choose while that is there.
    let mut first = vec![];
    for engine in engines.iter().rev() {
        first.push((engine, sleeper(engine, &[])?));
    }
    first.into_iter().try_for_each(|(engine, id)| remove(engine, &[id]))?;
    let fast = throughput::run(bench, &engines, &lan)?;
    let names = questions::run(&engines)?;
    let ports = many_ports(&engines)?;
    let set_up = set_up(bench, &engines, end)?;
    // The last thing: the peers do not put their rules back.
    let healed = healing::run(&engines[0])?;
    Ok(json!({ "throughput": fast, "names": names, "healing": healed, "850 ports": ports, "set-up": set_up }))
}

/// A container that sleeps; its identifier.
fn sleeper(engine: &Engine, options: &[&str]) -> Result<String> {
    let mut all = vec!["-d"];
    all.extend(options);
    engine.output(engine.run(&all, &["sleep", "10000"]))
}

/// The process id of a container's first process.
fn pid(engine: &Engine, id: &str) -> Result<String> {
    engine.output(engine.command(&["inspect", "-f", "{{.State.Pid}}", id]))
}

/// Its address on its only network.
fn address(engine: &Engine, id: &str) -> Result<String> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    match engine.output(engine.command(&["inspect", "-f", format, id]))? {
        // podman's default network is not among them.
        none if none.is_empty() => {
            engine.output(engine.command(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", id]))
        }
        address => Ok(address),
    }
}

fn remove(engine: &Engine, ids: &[String]) -> Result<()> {
    for some in ids.chunks(50) {
        let mut words = vec!["rm", "-f"];
        words.extend(some.iter().map(String::as_str));
        // What stays ends with the cage.
        drop(engine.command(&words).status());
    }
    Ok(())
}

fn set_up(bench: &Bench, engines: &[Engine], end: Instant) -> Result<Value> {
    let mut running: Vec<Vec<String>> = engines.iter().map(|_| Vec::new()).collect();
    let mut all: BTreeMap<(usize, usize), [Samples; 3]> = BTreeMap::new();
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (step, count) in COUNTS.into_iter().enumerate() {
        for (engine, running) in engines.iter().zip(&mut running) {
            let started = Instant::now();
            while running.len() < count && started.elapsed() < FILLING && Instant::now() < end {
                running.push(sleeper(engine, &[])?);
            }
        }
        for round in 0..bench.rounds {
            for (number, engine) in engines.iter().enumerate() {
                let full = running[number].len();
                let is_late = round > 0 && Instant::now() > end;
                if is_late || (step > 0 && counts.get(&(number, step - 1)) == Some(&full)) {
                    // There is no time left, or it did not get any further.
                    continue;
                }
                let three = measure(engine, round)?;
                counts.insert((number, step), full);
                let samples = all.entry((number, step)).or_insert_with(|| {
                    ["network create", "run, no network", "run, one port"]
                        .map(|what| Samples { name: format!("{} {what}, {full} running", engine.name), values: vec![] })
                });
                samples.iter_mut().zip(three).for_each(|(samples, value)| samples.values.push(value));
            }
        }
    }
    let mut rows = vec![];
    for ((number, step), [network, none, port]) in &all {
        let [network, none, port] = [network, none, port].map(Samples::median);
        rows.push(vec![
            engines[*number].name.to_owned(),
            counts[&(*number, *step)].to_string(),
            format!("{network:.1}"),
            format!("{none:.1}"),
            format!("{port:.1}"),
            format!("{:.1}", port - none),
        ]);
    }
    println!();
    print(
        &[
            "engine",
            "containers",
            "network create ms",
            "run without network ms",
            "run with a port ms",
            "network and port ms",
        ],
        &rows,
    );
    // The containers end with the cage; removing them one by one would take its time.
    Ok(json!(all.values().flatten().map(Samples::json).collect::<Vec<_>>()))
}

/// `network create`, a run without a network, a run with one port, in milliseconds.
fn measure(engine: &Engine, round: usize) -> Result<[f64; 3]> {
    let name = format!("bench{round}");
    let network = time(&mut engine.command(&["network", "create", &name]))?;
    engine.output(engine.command(&["network", "rm", &name]))?;
    let none = time(&mut engine.run(&["--rm", "--network", "none"], &["true"]))?;
    let port = time(&mut engine.run(&["--rm", "-p", "9000:80"], &["true"]))?;
    Ok([network, none, port])
}

fn many_ports(engines: &[Engine]) -> Result<Value> {
    let mut rows = vec![];
    let mut results = vec![];
    for engine in engines {
        let started = Instant::now();
        let mut child = engine.run(&["--rm", "-p", PORTS], &["true"]).spawn()?;
        let ended = loop {
            match child.try_wait()? {
                Some(status) => break status.success(),
                None if started.elapsed() > PATIENCE => {
                    child.kill()?;
                    child.wait()?;
                    break false;
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let shown = if ended { format!("{:.0}", seconds * 1e3) } else { format!("not in {} s", PATIENCE.as_secs()) };
        rows.push(vec![engine.name.to_owned(), shown]);
        results.push(json!({ "engine": engine.name, "seconds": seconds, "done": ended }));
    }
    println!();
    print(&["engine", "run with 850 ports ms"], &rows);
    Ok(json!(results))
}

/// A program in the network of a process.
fn inside(pid: &str, words: &[&str]) -> Command {
    let mut all = vec!["--net", "--target", pid];
    all.extend(words);
    command("nsenter", all)
}

/// What a command prints; its errors are the error.
fn said(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
