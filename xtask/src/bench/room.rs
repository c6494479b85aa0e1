//! What all test images together take on disk in each engine's store.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Bench;
use super::peers::Engine;
use super::table::print;
use crate::command::{command, output, run};
use crate::images;

/// Loads every image that all engines read, and prints what their stores take, as du(1) counts.
pub fn run_all(bench: &Bench, engines: &[Engine]) -> Result<Vec<serde_json::Value>> {
    let mut archives: Vec<_> = fs::read_dir(images::directory()?)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".docker.tar").map(str::to_owned))
        .collect();
    archives.sort();
    let (mut rows, mut results) = (vec![], vec![]);
    for engine in engines {
        let mut loaded = 0;
        for name in &archives {
            loaded += usize::from(engine.load(name).is_ok());
        }
        run(&mut std::process::Command::new("sync"))?;
        let bytes = used(&bench.path(engine.store))?;
        rows.push(vec![engine.name.to_owned(), loaded.to_string(), format!("{:.0}", bytes as f64 / 1e6)]);
        results.push(serde_json::json!({ "name": engine.name, "images": loaded, "bytes": bytes }));
    }
    println!();
    print(&["store of", "images", "MB on disk"], &rows);
    Ok(results)
}

fn used(directory: &Path) -> Result<u64> {
    let text = output(command("du", ["-s", "-B1"]).arg(directory))?;
    Ok(text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0))
}
