//! How long a container takes to start, and what its monitor costs.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, Engine, time};
use super::table::{Samples, print};

/// What is wanted of dhow: a row, and the part of another row that it may take at most.
const WANTED: &[(&str, &str, f64)] = &[
    ("dhow run --network none", "floor", 3.0),
    ("dhow run --network none", "podman run --network none", 0.12),
    ("dhow run --network none", "docker run --network none", 0.06),
    ("dhow run, bridge", "podman run, bridge", 0.08),
    ("dhow exec", "docker exec", 0.1),
];

/// A thing to measure: one round of it gives milliseconds.
pub struct Subject<'a> {
    /// What it is called in tables.
    pub name: String,
    /// One round.
    pub round: Box<dyn Fn() -> Result<f64> + 'a>,
}

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let bundle = peers::bundle(bench)?;
    let floor = peers::floor(bench, &bundle)?;
    let mut engines = vec![peers::dhow(bench), peers::podman(bench)];
    match peers::docker(bench) {
        Ok(docker) => engines.push(docker),
        Err(error) => println!("bench: without docker: {error:#}"),
    }
    // Newer than what Debian calls old: what cannot be measured here is said and left out, never silently.
    engines.retain(|engine| match engine.load("busybox") {
        Ok(()) => true,
        Err(error) => {
            println!("bench: without {}: {error:#}", engine.name);
            false
        }
    });
    // Two of each, so that memory which monitors share is not counted as one's own.
    let others = engines.iter().filter_map(|engine| Some((engine, standing(engine).ok()?))).collect::<Vec<_>>();
    let containers = engines.iter().map(standing).collect::<Vec<_>>();
    let mut subjects = vec![Subject { name: "floor".into(), round: Box::new(|| time(&mut floor())) }];
    for runtime in ["crun", "runc"] {
        let bundle = bundle.clone();
        let round = move || time(Command::new(runtime).args(["run", "--bundle"]).arg(&bundle).arg("dhow-bench"));
        subjects.push(Subject { name: format!("{runtime} run, bundle"), round: Box::new(round) });
    }
    for (engine, container) in engines.iter().zip(&containers) {
        match container {
            Ok(container) => subjects.extend(of_engine(engine, container)),
            Err(error) => println!("bench: without {}: {error:#}", engine.name),
        }
    }
    let samples = measure(subjects, bench.rounds);
    show(&samples);
    let monitors: Vec<Value> = engines
        .iter()
        .zip(&containers)
        .filter_map(|(engine, container)| monitor(engine, container.as_ref().ok()?))
        .collect();
    let standing = engines.iter().zip(containers).filter_map(|(engine, container)| Some((engine, container.ok()?)));
    for (engine, container) in standing.chain(others) {
        // The figures are there already; the namespaces end whatever stays.
        if let Err(error) = engine.output(engine.command(&["rm", "-f", &container])) {
            println!("bench: {error:#}");
        }
    }
    Ok(json!({ "unit": "ms", "rows": samples.iter().map(Samples::json).collect::<Vec<_>>(), "monitors": monitors }))
}

/// A container that stays, to execute in.
pub fn standing(engine: &Engine) -> Result<String> {
    let id = engine.output(engine.run(&["-d", "--network", "none"], &["sleep", "100000"]))?;
    id.lines().next_back().map(str::to_owned).context("run -d printed no id")
}

fn of_engine<'a>(engine: &'a Engine, container: &'a str) -> Vec<Subject<'a>> {
    let subject = |what: &str, round: Box<dyn Fn() -> Result<f64> + 'a>| Subject {
        name: format!("{} {what}", engine.name),
        round,
    };
    vec![
        subject("run --network none", Box::new(|| time(&mut engine.run(&["--rm", "--network", "none"], &["true"])))),
        subject("run, bridge", Box::new(|| time(&mut engine.run(&["--rm"], &["true"])))),
        subject(
            "run -d",
            Box::new(|| {
                let elapsed = time(
                    &mut engine.run(&["-d", "--network", "none", "--name", "bench-detached"], &["sleep", "1000"]),
                )?;
                engine.output(engine.command(&["rm", "-f", "bench-detached"]))?;
                Ok(elapsed)
            }),
        ),
        subject("exec", Box::new(move || time(&mut engine.command(&["exec", container, "true"])))),
    ]
}

/// Round by round, each subject once, so that whatever else the machine does meets all of them. Two rounds warm up. What fails
/// is said once and left out.
pub fn measure(subjects: Vec<Subject>, rounds: usize) -> Vec<Samples> {
    let mut measured: Vec<(Subject, Vec<f64>)> = subjects.into_iter().map(|subject| (subject, vec![])).collect();
    for round in 0..rounds + 2 {
        measured.retain_mut(|(subject, values)| match (subject.round)() {
            Ok(value) => {
                if round >= 2 {
                    values.push(value);
                }
                true
            }
            Err(error) => {
                println!("bench: without {}: {error:#}", subject.name);
                false
            }
        });
    }
    measured.into_iter().map(|(subject, values)| Samples { name: subject.name, values }).collect()
}

fn show(samples: &[Samples]) {
    let median = |name: &str| samples.iter().find(|each| each.name == name).map(Samples::median);
    let floor = median("floor").unwrap_or(f64::NAN);
    let rows: Vec<Vec<String>> = samples
        .iter()
        .map(|each| {
            let middle = each.median();
            vec![
                each.name.clone(),
                format!("{middle:.1}"),
                format!("{:.1}", each.least()),
                format!("{:.2}", middle / floor),
            ]
        })
        .collect();
    println!();
    print(&["what", "median ms", "min ms", "times the floor"], &rows);
    println!();
    let rows: Vec<Vec<String>> = WANTED
        .iter()
        .filter_map(|(name, other, most)| {
            let ratio = median(name)? / median(other)?;
            let verdict = if ratio <= *most { "yes" } else { "no" };
            Some(vec![format!("{name} / {other}"), format!("{ratio:.3}"), format!("{most}"), verdict.to_owned()])
        })
        .collect();
    print(&["ratio of medians", "measured", "wanted at most", "reached"], &rows);
}

/// Private memory of the process above the container's first one: what one container more would cost.
fn monitor(engine: &Engine, container: &str) -> Option<Value> {
    let pid = engine.output(engine.command(&["inspect", "--format", "{{.State.Pid}}", container])).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).ok()?.trim().to_owned();
    let memory = fs::read_to_string(format!("/proc/{parent}/smaps_rollup")).ok()?;
    let private: u64 = memory
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    println!("monitor of {} ({name}): {private} KiB of private memory", engine.name);
    Some(json!({ "engine": engine.name, "monitor": name, "private_kib": private }))
}
