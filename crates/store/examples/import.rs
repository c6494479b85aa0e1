//! Imports an archive into a fresh store and prints how long it took: `cargo run --release -p store --example import -- FILE…`
//!
//! Each file is imported, settled and removed; figures are for a warm page cache if the file was read before.
#![allow(clippy::print_stdout)] // A program for people who measure.

use std::error::Error;
use std::fs::File;
use std::time::Instant;
use store::{Ownership, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let root = arguments.next().ok_or("usage: import ROOT FILE…")?;
    let store = Store::open(root, Ownership::default())?;
    for path in arguments {
        let file = File::open(&path)?;
        let start = Instant::now();
        let layer = store.layers().import(None, file)?;
        let imported = start.elapsed();
        let start = Instant::now();
        store.settle()?;
        let settled = start.elapsed();
        let status = std::fs::read_to_string("/proc/self/status")?;
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        let start = Instant::now();
        if std::env::var_os("KEEP").is_none() {
            store.layers().remove(&layer.diff_id)?;
        }
        println!(
            "{}: {} entries, {} bytes: import {imported:.2?}, settle {settled:.2?}, remove {:.2?}, {peak}",
            path.display(),
            layer.entries,
            layer.size,
            start.elapsed(),
        );
        layer.warnings.iter().for_each(|warning| println!("  {warning}"));
    }
    Ok(())
}
