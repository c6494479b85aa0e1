//! The two forms of dhow's layers side by side: what the choice between directories and EROFS images is made by
//! (`AUTOMATIC` in `crates/engine/src/storage.rs`).

use anyhow::Result;
use serde_json::{Value, json};

use super::Bench;
use super::peers::{self, Engine, time};
use super::table::{Samples, print};

/// Rounds of starts for one of loads: they are short.
const STARTS: usize = 5;

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

/// Milliseconds to the end of `true` on an image of one layer and on one of twenty, each engine in turn. Twenty layers are twenty
/// mounts more where they are images, so the difference says what a layer costs.
pub fn starts(bench: &Bench, engines: &[Engine]) -> Result<(Vec<Row>, Vec<Value>)> {
    let program = peers::bundle(bench)?.join("rootfs/bin/busybox");
    let volume = format!("{}:/busybox:ro", program.display());
    let options = ["--rm", "--network", "none", "-v", &volume];
    let mut all: Vec<(&Engine, &str, Samples)> = vec![];
    for image in ["busybox", "layers20"] {
        for engine in engines {
            match engine.load(image) {
                Ok(()) => {
                    all.push((engine, image, Samples { name: format!("{} run {image}", engine.name), values: vec![] }))
                }
                Err(error) => println!("bench: without {} run {image}: {error:#}", engine.name),
            }
        }
    }
    for _ in 0..bench.rounds * STARTS {
        for (engine, image, samples) in &mut all {
            samples.values.push(time(&mut engine.run_of(&options, image, &["/busybox", "true"]))?);
        }
    }
    println!();
    let cells: Vec<Vec<String>> = all
        .iter()
        .map(|(_, _, samples)| {
            vec![samples.name.clone(), format!("{:.2}", samples.median()), format!("{:.2}", samples.least())]
        })
        .collect();
    print(&["start", "median ms", "min ms"], &cells);
    let median = |name: &str, image: &str| {
        let found = all.iter().find(|(engine, of, _)| engine.name == name && *of == image);
        found.map_or(f64::NAN, |(_, _, samples)| samples.median())
    };
    let rows = [("busybox", "1 layer"), ("layers20", "20 layers")].map(|(image, layers)| {
        let both = ["dhow", "dhow erofs"].map(|engine| median(engine, image));
        Row::new(format!("start, {layers}, ms"), both, None)
    });
    Ok((rows.into(), all.iter().map(|(_, _, samples)| json!({ "milliseconds": samples.json() })).collect()))
}
