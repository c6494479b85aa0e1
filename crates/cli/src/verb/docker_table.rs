//! docs/docker-cli.md against the definitions: what it says to be there is there, what it says to be absent is not, and
//! nothing that is there is left out. `cargo xtask docker-cli` compares it with Docker's own help.

use crate::commands::{GROUPS, VERBS};
use crate::verb::{self, Entry};
use clap::Command;
use std::collections::{BTreeMap, BTreeSet};

const TABLE: &str = include_str!("../../../../docs/docker-cli.md");

/// A row: what it is about, what dhow has, and why.
struct Row<'a> {
    words: Vec<&'a str>,
    status: &'a str,
    remark: &'a str,
}

/// Words in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Headings that name commands, with the rows below them.
fn sections() -> Vec<(Vec<&'static str>, Vec<Row<'static>>)> {
    let mut sections: Vec<(Vec<&str>, Vec<Row<'_>>)> = Vec::new();
    for line in TABLE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push((quoted(heading), Vec::new()));
        } else if let Some((_, rows)) = sections.last_mut()
            && line.starts_with("| `")
        {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [words, status, remark] = cells.as_slice() else { panic!("three cells: {line}") };
            rows.push(Row { words: quoted(words), status, remark: remark.trim_end_matches('|').trim() });
        }
    }
    sections
}

/// Every name under which a verb can be called.
fn paths() -> BTreeSet<String> {
    let of = |before: &str, entries: &[Entry]| -> Vec<String> {
        entries.iter().flat_map(|(names, _)| names.iter().map(move |name| format!("{before}{name}"))).collect()
    };
    let mut all: BTreeSet<String> = of("", VERBS).into_iter().collect();
    for group in GROUPS {
        all.extend(of(&format!("{} ", group.name), group.verbs));
    }
    all
}

fn command(path: &str) -> Option<Command> {
    let verb = match path.split_once(' ') {
        None => verb::find(VERBS, path)?,
        Some((group, name)) => verb::find(GROUPS.iter().find(|each| each.name == group)?.verbs, name)?,
    };
    Some(verb::command(verb, path))
}

/// Flags by their long names: the short one, and whether the help leaves it out.
fn flags(command: &Command) -> BTreeMap<String, (Option<char>, bool)> {
    let named = command.get_arguments().filter(|argument| argument.get_id() != "help");
    named.filter_map(|each| Some((each.get_long()?.to_owned(), (each.get_short(), each.is_hide_set())))).collect()
}

fn check_row(path: &str, row: &Row<'_>, flags: &BTreeMap<String, (Option<char>, bool)>) -> Option<String> {
    let long = row.words.iter().find_map(|word| word.strip_prefix("--")).unwrap_or_default();
    let short = row.words.iter().find_map(|word| word.strip_prefix('-')?.chars().next().filter(|c| *c != '-'));
    let wrong = |what: &str| Some(format!("{path} --{long}: {what}"));
    if row.remark.is_empty() && row.status != "same" {
        return wrong("a reason is missing");
    }
    match (row.status, flags.get(long)) {
        ("absent", Some((_, false))) => wrong("is there"),
        ("absent", _) => None,
        ("same" | "better" | "own", None) => wrong("is not there"),
        ("same" | "better" | "own", Some((own, _))) if *own != short => wrong("has another short form"),
        ("same" | "better" | "own", Some(_)) => None,
        (other, _) => wrong(&format!("says {other:?}")),
    }
}

#[test]
fn agrees_with_the_flags() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (names, rows) in sections() {
        let is_root = names == ["docker"];
        for path in &names {
            let Some(command) = (if is_root { Some(verb::root()) } else { command(path) }) else {
                wrong.push(format!("{path}: no such command"));
                continue;
            };
            let flags = flags(&command);
            wrong.extend(rows.iter().filter_map(|row| check_row(path, row, &flags)));
            let listed: BTreeSet<&str> =
                rows.iter().flat_map(|row| row.words.iter().filter_map(|word| word.strip_prefix("--"))).collect();
            let missing = flags.iter().filter(|(name, (_, hidden))| !hidden && !listed.contains(name.as_str()));
            wrong.extend(missing.map(|(name, _)| format!("{path} --{name}: is not in the table")));
            if !is_root && !seen.insert((*path).to_owned()) {
                wrong.push(format!("{path}: twice in the table"));
            }
        }
        if names.is_empty() {
            // Commands that are not there at all.
            for row in rows {
                wrong.extend(
                    row.words.iter().filter(|path| command(path).is_some()).map(|path| format!("{path}: is there")),
                );
                if row.remark.is_empty() || row.status != "absent" {
                    wrong.push(format!("{:?}: a reason is missing", row.words));
                }
            }
        }
    }
    wrong.extend(paths().difference(&seen).map(|path| format!("{path}: is not in the table")));
    assert!(wrong.is_empty(), "docs/docker-cli.md and the flags differ:\n{}", wrong.join("\n"));
}
