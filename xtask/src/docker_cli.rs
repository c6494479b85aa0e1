//! `docker-cli`: is every command and flag of a docker in docs/docker-cli.md? Docker's own help is the source.
//!
//! A test of the program itself compares the table with dhow's flags; this compares it with Docker's. It needs a docker, no
//! daemon, and asks it for the help of each command.

use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What the help of one command says.
#[derive(Debug, Default)]
struct Help {
    commands: Vec<String>,
    flags: BTreeSet<String>,
}

/// Compares, and fails with a list of what differs.
pub fn run(docker: &str) -> Result<()> {
    let table = std::fs::read_to_string("docs/docker-cli.md").context("docs/docker-cli.md")?;
    let (known, absent) = read(&table);
    let mut differences = Vec::new();
    let mut todo: Vec<Vec<String>> = vec![Vec::new()];
    let (mut commands, mut flags) = (0, 0);
    while let Some(path) = todo.pop() {
        let help = ask(docker, &path)?;
        let name = path.join(" ");
        if !help.commands.is_empty() {
            let inside = |command: &String| path.iter().chain([command]).cloned().collect();
            todo.extend(help.commands.iter().filter(|command| *command != "help").map(inside));
        }
        if !path.is_empty() && !help.commands.is_empty() {
            continue;
        }
        (commands, flags) = (commands + 1, flags + help.flags.len());
        let key = if path.is_empty() { "docker" } else { name.as_str() };
        match known.get(key) {
            Some(listed) => {
                let missing = help.flags.iter().filter(|flag| !listed.contains_key(*flag));
                differences.extend(missing.map(|flag| format!("docker {name} --{flag} is not in the table")));
                let others = listed.iter().filter(|(flag, status)| **status != "own" && !help.flags.contains(*flag));
                differences.extend(others.map(|(flag, _)| format!("docker {name} has no --{flag}, the table says so")));
            }
            None if absent.contains(key) => {}
            None => differences.push(format!("docker {name} is not in the table")),
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    println!("{commands} commands of {docker} and {flags} flags are in the table");
    Ok(())
}

/// Flags with their status by command, and the commands that are absent.
fn read(table: &str) -> (BTreeMap<String, BTreeMap<String, &str>>, BTreeSet<String>) {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (mut known, mut absent, mut names) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for line in table.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            names = quoted(heading);
            for name in &names {
                known.entry(name.clone()).or_insert_with(BTreeMap::new);
            }
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            let (words, status) = (cells.next().unwrap_or(row), cells.next().unwrap_or_default());
            if names.is_empty() {
                absent.extend(quoted(words));
            }
            let long = quoted(words).into_iter().find_map(|word| word.strip_prefix("--").map(str::to_owned));
            for name in &names {
                if let (Some(flags), Some(long)) = (known.get_mut(name), &long) {
                    flags.insert(long.clone(), status);
                }
            }
        }
    }
    (known, absent)
}

/// Asks for the help of one command, in a home of its own so that no plugin of a user is in it.
fn ask(docker: &str, path: &[String]) -> Result<Help> {
    let output = Command::new(docker)
        .args(path)
        .arg("--help")
        .env("HOME", "/nonexistent")
        .output()
        .with_context(|| format!("{docker} {} --help", path.join(" ")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && text.contains("Usage:"), "{docker} {} --help says nothing", path.join(" "));
    let (mut help, mut section) = (Help::default(), "");
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(title) if !line.starts_with(' ') => section = title,
            _ if section.ends_with("ommands") => {
                let word = line
                    .strip_prefix("  ")
                    .filter(|rest| !rest.starts_with(' '))
                    .and_then(|rest| rest.split(' ').next());
                help.commands.extend(word.map(|word| word.trim_end_matches('*').to_owned()));
            }
            _ if section.ends_with("ptions") => help.flags.extend(flag(line)),
            _ => {}
        }
    }
    Ok(help)
}

/// The long flag that a line of the help begins with.
fn flag(line: &str) -> Option<String> {
    let start = line.trim_start();
    let start = match start.strip_prefix('-')?.strip_prefix('-') {
        Some(rest) => rest,
        // `-a, --all`
        None => start.get(2..)?.strip_prefix(", --")?,
    };
    Some(start.split([' ', '=']).next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty() && name != "help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_help_and_of_the_table() {
        for (line, name) in [
            ("  -a, --attach list    Attach", Some("attach")),
            ("      --annotation map   Add", Some("annotation")),
            ("                         (default -1)", None),
            ("      --help             Print usage", None),
        ] {
            assert_eq!(flag(line).as_deref(), name, "{line}");
        }
        let (known, absent) =
            read("# x\n| `swarm init` | absent | swarm |\n## `ps`, `container ls`\n| `-a`, `--all` | same | |\n");
        assert_eq!(known["container ls"]["all"], "same");
        assert!(absent.contains("swarm init") && !known.contains_key("swarm init"));
    }
}
