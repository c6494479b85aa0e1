//! The two forms of dhow's layers side by side: what the choice between directories and EROFS images is made by
//! (`AUTOMATIC` in `crates/engine/src/storage.rs`).

use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, Engine, time};
use super::table::{Samples, print};

/// Rounds of starts for one of loads: they are short.
const STARTS: usize = 5;

const EXEC: &str = "exec python3 -c pass, ms";

/// One figure of both forms, less being better.
pub struct Row {
    /// What was measured, with its unit.
    pub what: String,
    /// With directories.
    pub directories: f64,
    /// With images.
    pub images: f64,
    /// What nothing can be faster than, if that is known.
    pub limit: Option<f64>,
}

impl Row {
    /// From the figures with directories and with images.
    pub fn new(what: String, [directories, images]: [f64; 2], limit: Option<f64>) -> Self {
        Self { what, directories, images, limit }
    }
}

/// Prints them, with ratios.
pub fn show(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.what.clone(),
                format!("{:.2}", row.directories),
                format!("{:.2}", row.images),
                format!("{:.2}", row.images / row.directories),
            ];
            if let Some(limit) = row.limit {
                cells.extend([row.directories / limit, row.images / limit].map(|ratio| format!("{ratio:.2}")));
            }
            cells
        })
        .collect();
    println!();
    print(
        &["what", "directories", "EROFS", "EROFS of directories", "directories of the limit", "EROFS of the limit"],
        &cells,
    );
}

/// What is run: the image's archive, its name, what to call it, and the words; with a busybox from outside if they begin with it.
const RUNS: &[(&str, &str, &str, &[&str])] = &[
    ("busybox", "busybox", "start, 1 layer, ms", &["/busybox", "true"]),
    ("layers20", "layers20", "start, 20 layers, ms", &["/busybox", "true"]),
    // What a container reads for the first time comes from its own page cache where layers are images.
    ("python", "python:3.11", "python3 -c pass, ms", &["python3", "-c", "pass"]),
];

/// Milliseconds to the end of programs in new containers, of images of one layer, twenty, and two with much to read, each engine in
/// turn; and of the last of them in one that runs.
pub fn starts(bench: &Bench, engines: &[Engine]) -> Result<(Vec<Row>, Vec<Value>)> {
    let program = peers::bundle(bench)?.join("rootfs/bin/busybox");
    let volume = format!("{}:/busybox:ro", program.display());
    let options = ["--rm", "--network", "none", "-v", &volume];
    let mut all: Vec<(&Engine, &str, Command, Samples)> = vec![];
    for (archive, image, what, words) in RUNS {
        for engine in engines {
            match engine.load(archive) {
                Ok(()) => {
                    let samples = Samples { name: format!("{} {what}", engine.name), values: vec![] };
                    all.push((engine, what, engine.run_of(&options, image, words), samples));
                }
                Err(error) => println!("bench: without {} {what}: {error:#}", engine.name),
            }
        }
    }
    let mut running = vec![];
    if let Some((_, image, _, words)) = RUNS.last() {
        for engine in engines {
            let started = engine.output(engine.run_of(&["-d", "--network", "none"], image, &["sleep", "100000"]));
            let Ok(id) = started else { continue };
            let mut command = engine.command(&["exec", id.trim()]);
            command.args(*words);
            let samples = Samples { name: format!("{} {EXEC}", engine.name), values: vec![] };
            all.push((engine, EXEC, command, samples));
            running.push((engine, id));
        }
    }
    for _ in 0..bench.rounds * STARTS {
        for (_, _, command, samples) in &mut all {
            samples.values.push(time(command)?);
        }
    }
    for (engine, id) in running {
        engine.output(engine.command(&["rm", "-f", id.trim()]))?;
    }
    println!();
    let cells: Vec<Vec<String>> = all
        .iter()
        .map(|(_, _, _, samples)| {
            vec![samples.name.clone(), format!("{:.2}", samples.median()), format!("{:.2}", samples.least())]
        })
        .collect();
    print(&["start", "median ms", "min ms"], &cells);
    let median = |name: &str, of: &str| {
        let found = all.iter().find(|(engine, what, _, _)| engine.name == name && *what == of);
        found.map_or(f64::NAN, |(_, _, _, samples)| samples.median())
    };
    let rows = RUNS.iter().map(|run| run.2).chain([EXEC]).map(|what| {
        let both = ["dhow", "dhow erofs"].map(|engine| median(engine, what));
        Row::new(what.to_owned(), both, None)
    });
    Ok((rows.collect(), all.iter().map(|(_, _, _, samples)| json!({ "milliseconds": samples.json() })).collect()))
}
