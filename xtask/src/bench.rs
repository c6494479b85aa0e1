//! `cargo xtask bench api|engine|lists|load|network|oci|start`: dhow beside its peers, in one run, in interleaved rounds.
//!
//! Absolute figures depend on the machine and on what else it does; ratios within a run are what counts. Everything runs in
//! network and mount namespaces of its own ([`cage`]), so that the peers' bridges and rules stay off the host.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::command::{command, run as run_command};
use crate::disk::Disk;
use crate::paths::{self, Staging};
use crate::{images, setup, test};

mod api;
mod cage;
mod engine;
mod forms;
mod limit;
mod lists;
mod load;
mod network;
mod oci;
mod peers;
mod room;
mod start;
mod table;

/// Whether a part is to be measured: all are, unless `DHOW_BENCH_PARTS` names some, separated by commas.
fn is_wanted(part: &str) -> bool {
    std::env::var("DHOW_BENCH_PARTS").map_or(true, |parts| parts.split(',').any(|each| each == part))
}

/// What a benchmark works with.
struct Bench {
    // Before the directory it is mounted in, as it goes first.
    disk: Disk,
    _staging: Staging,
    dhow: PathBuf,
    rounds: usize,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }
}

/// Runs the benchmark of that name; builds and installs what that needs first.
pub fn run(words: &[&str]) -> Result<()> {
    let (what, usual) = match words.first() {
        Some(&"engine") => ("engine", 8),
        // Its figures are times, not rounds.
        Some(&"api") => ("api", 1),
        Some(&"start") => ("start", 20),
        Some(&"lists") => ("lists", 10),
        Some(&"load") => ("load", 3),
        Some(&"network") => ("network", 3),
        Some(&"oci") => ("oci", 15),
        _ => bail!("bench: api, engine, lists, load, network, oci or start"),
    };
    if let ["network", "--ask", address] = words {
        return network::client(address);
    }
    let rounds = match words[1..] {
        [] => usual,
        ["--rounds", number] => number.parse()?,
        _ => bail!("bench {what} [--rounds N]"),
    };
    if std::env::var_os(cage::MARK).is_none() {
        if !paths::is_root() {
            bail!("benchmarks need root: the peers make bridges and mounts");
        }
        setup::run(&[setup::Set::Test, setup::Set::Bench])?;
        images::run(None)?;
        run_command(
            command("cargo", ["build", "--quiet", "--release", "--package", "dhow"]).current_dir(paths::workspace()),
        )?;
        if what == "lists" {
            lists::build()?;
        }
        return cage::enter(words);
    }
    let staging = Staging::new(Path::new("/var/tmp"), "dhow-bench")?;
    let bench =
        Bench { disk: Disk::mount(staging.path())?, _staging: staging, dhow: test::built("release", "dhow")?, rounds };
    let result = match what {
        "engine" => engine::run(&bench)?,
        "api" => api::run(&bench)?,
        "lists" => lists::run(&bench)?,
        "network" => network::run(&bench)?,
        "start" => start::run(&bench)?,
        "oci" => oci::run(&bench)?,
        _ => load::run(&bench)?,
    };
    let directory = paths::target().join("bench");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("{what}.json"));
    let machine = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    fs::write(&file, json!({ "kernel": machine.trim(), "rounds": rounds, "results": result }).to_string())
        .with_context(|| format!("write {}", file.display()))?;
    println!("\nall samples: {}", file.display());
    Ok(())
}
