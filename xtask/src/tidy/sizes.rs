//! Lengths of functions and files, as a ratchet: what is longer than it should be is listed, and may only shrink.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Source;
use crate::paths;

const FUNCTION: usize = 70;
const FILE: usize = 700;

/// The list of what is longer: `PATH [FUNCTION] LINES`.
fn list() -> PathBuf {
    paths::workspace().join("xtask/src/tidy/longer.txt")
}

/// What is too long and not listed, or longer than listed.
pub fn grown(sources: &[Source]) -> Result<Vec<String>> {
    let text = fs::read_to_string(list()).context("read xtask/src/tidy/longer.txt")?;
    let listed: BTreeMap<&str, usize> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, lines)| Some((name, lines.parse().ok()?)))
        .collect();
    Ok(long(sources)
        .into_iter()
        .filter(|(name, lines)| listed.get(name.as_str()).is_none_or(|allowed| lines > allowed))
        .map(|(name, lines)| {
            format!("{name}: {lines} lines (functions {FUNCTION}, files {FILE}; exceptions: cargo xtask tidy --bless)")
        })
        .collect())
}

/// Writes the list as things are.
pub fn bless(sources: &[Source]) -> Result<()> {
    let text: String = long(sources).into_iter().map(|(name, lines)| format!("{name} {lines}\n")).collect();
    fs::write(list(), text).context("write xtask/src/tidy/longer.txt")
}

fn long(sources: &[Source]) -> BTreeMap<String, usize> {
    let mut long = BTreeMap::new();
    for source in sources {
        let lines = source.text.lines().count();
        if lines > FILE {
            long.insert(source.path.clone(), lines);
        }
        for (name, lines) in functions(&source.text) {
            if lines > FUNCTION {
                long.insert(format!("{} {name}", source.path), lines);
            }
        }
    }
    long
}

/// Functions and their lengths. The text is formatted, so a function ends at the brace that stands where it began.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = vec![];
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = function_name(line.trim_start()) else { continue };
        let end = lines[start..].iter().position(|line| line.len() == indent + 1 && line.ends_with('}'));
        if let Some(length) = end {
            found.push((name, length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    const BEFORE: &[&str] = &["pub", "const", "unsafe", "async", "extern", "\"C\""];
    let (before, after) = line.split_once("fn ")?;
    let qualifies = |word: &str| BEFORE.contains(&word) || word.starts_with("pub(");
    if !before.split_whitespace().all(qualifies) || line.ends_with('}') || line.ends_with(';') {
        return None;
    }
    after.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn functions_are_measured_to_their_brace() {
        let text = "pub(crate) const fn one(\n) {\n    if x {\n    }\n}\nimpl X {\n    fn two() {\n    }\n    fn three();\n}\n// fn four\n";
        assert_eq!(functions(text), [("one", 5), ("two", 2)]);
    }
}
