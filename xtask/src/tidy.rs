//! Rules of the house that a program can check: edges between crates, `unsafe`, names, module heads, sizes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{command, output};
use crate::paths;

mod edges;
mod licences;
mod sizes;

/// A rule: its name, and what breaks it, one line each.
pub struct Check {
    pub name: &'static str,
    pub broken: Vec<String>,
}

/// Checks all rules and says what is broken.
pub fn run(bless: bool) -> Result<()> {
    if bless {
        return sizes::bless(&sources()?);
    }
    let checks = checks()?;
    report(&checks);
    let broken: usize = checks.iter().map(|check| check.broken.len()).sum();
    anyhow::ensure!(broken == 0, "tidy: {broken} things are not as they should be");
    Ok(())
}

/// Prints a line for each rule, as tests are printed.
pub fn report(checks: &[Check]) {
    for check in checks {
        println!("tidy {} ... {}", check.name, if check.broken.is_empty() { "ok" } else { "FAILED" });
        for line in &check.broken {
            println!("    {line}");
        }
    }
}

/// The rules and what breaks them.
pub fn checks() -> Result<Vec<Check>> {
    let sources = sources()?;
    let metadata = output(
        command("cargo", ["metadata", "--format-version=1", "--no-deps", "--offline"]).current_dir(paths::workspace()),
    )?;
    let metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    Ok(vec![
        Check { name: "edges point down", broken: edges::undeclared(&metadata) },
        Check { name: "foreign crates stay in their place", broken: edges::misplaced(&metadata) },
        Check { name: "licences and sources are allowed", broken: licences::refused()? },
        Check { name: "unsafe only in kernel", broken: unsafe_outside(&sources) },
        Check { name: "names say what is inside", broken: banned_names(&sources) },
        Check { name: "modules say what they own", broken: headless(&sources) },
        Check { name: "nothing is left for later", broken: unfinished(&sources) },
        Check { name: "functions and files stay small", broken: sizes::grown(&sources)? },
    ])
}

/// A file of Rust, with its path from the root of the tree.
pub struct Source {
    pub path: String,
    pub text: String,
}

fn sources() -> Result<Vec<Source>> {
    let listed = output(
        command("git", ["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
            .current_dir(paths::workspace()),
    )?;
    let mut sources = vec![];
    for path in listed.lines() {
        let file: PathBuf = paths::workspace().join(path);
        // A file that was removed and not yet committed is listed too.
        if file.exists() {
            let text = fs::read_to_string(&file).with_context(|| format!("read {path}"))?;
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

/// Every crate but `kernel` forbids it at its root, which the compiler then enforces for all its modules.
fn unsafe_outside(sources: &[Source]) -> Vec<String> {
    let root = |path: &str| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    sources
        .iter()
        .filter(|source| root(&source.path) && !source.path.starts_with("crates/kernel/"))
        .filter(|source| !source.text.contains("#![forbid(unsafe_code)]"))
        .map(|source| format!("{}: no #![forbid(unsafe_code)]", source.path))
        .collect()
}

const BANNED: &[&str] = &["common", "core", "util", "utils", "helper", "helpers", "types", "manager", "impl", "misc"];

fn banned_names(sources: &[Source]) -> Vec<String> {
    let banned = |path: &str| {
        let names = Path::new(path).with_extension("");
        names.iter().any(|name| BANNED.iter().any(|banned| name == *banned))
    };
    sources
        .iter()
        .filter(|source| banned(&source.path))
        .map(|source| format!("{}: says nothing", source.path))
        .collect()
}

fn headless(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        // A module's tests say what they are about by where they stand.
        .filter(|source| !source.path.ends_with("/tests.rs") && !source.text.starts_with("//!"))
        .map(|source| format!("{}: does not begin with //!", source.path))
        .collect()
}

fn unfinished(sources: &[Source]) -> Vec<String> {
    // In pieces, so that this file passes.
    let marks = [
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("TO", "DO"),
        concat!("todo", "!("),
        concat!("#[ign", "ore]"),
    ];
    let mut broken = vec![];
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                broken.push(format!("{}:{}: {mark}", source.path, number + 1));
            }
        }
    }
    broken
}
