//! Licences and sources of third-party crates, by the lists of `deny.toml`: what `cargo deny` checks where it is installed.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{command, output};
use crate::paths;

/// Crates whose licence is not among those allowed, or that come from elsewhere than the registry.
pub fn refused() -> Result<Vec<String>> {
    let file = paths::workspace().join("deny.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let allowed = allowed(&text);
    anyhow::ensure!(!allowed.is_empty(), "deny.toml has no list of licences");
    let host = output(&mut command("rustc", ["--print", "host-tuple"]))?;
    let metadata = output(
        command("cargo", ["metadata", "--format-version=1", "--locked", "--filter-platform", host.trim()])
            .current_dir(paths::workspace()),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    Ok(packages.iter().filter_map(|package| wrong(package, &allowed)).collect())
}

fn wrong(package: &Value, allowed: &[&str]) -> Option<String> {
    let name = package["name"].as_str().unwrap_or("?");
    match package["source"].as_str() {
        // Our own.
        None => return None,
        Some(source) if source.starts_with("registry+") || source.starts_with("sparse+") => {}
        Some(source) => return Some(format!("{name} comes from {source}")),
    }
    let licence = package["license"].as_str().unwrap_or_default();
    (!is_allowed(licence, allowed)).then(|| format!("{name} is under {licence:?}"))
}

/// The strings of the list `allow` below `[licenses]`.
fn allowed(text: &str) -> Vec<&str> {
    let section = text.split("[licenses]").nth(1).unwrap_or_default();
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression can be met. `A OR B AND C` is `A OR (B AND C)`, an old `A/B` is `A OR B`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ");
    // What stands in parentheses is decided first, and stands for itself then.
    if let Some(close) = expression.find(')')
        && let Some(open) = expression[..close].rfind('(')
    {
        let inner = if is_allowed(&expression[open + 1..close], allowed) { "yes" } else { "no" };
        return is_allowed(&[&expression[..open], inner, &expression[close + 1..]].concat(), allowed);
    }
    let one = |licence: &str| licence == "yes" || allowed.contains(&licence);
    expression.split(" OR ").any(|all| all.split(" AND ").all(|licence| one(licence.trim())))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-2.0 OR MIT", true),
            ("MIT/GPL-2.0", true),
            ("MIT AND GPL-2.0", false),
            ("(MIT OR GPL-2.0) AND Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }
}
