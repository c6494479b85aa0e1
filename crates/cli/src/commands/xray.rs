//! `xray`

use super::verb;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::shares::Shared;
use engine::xray::Xray;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Show what the kernel really did for a container
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER|--tree",
    "Show what the kernel really did for a container: namespaces, cgroup, mounts, confinement, network"
);

#[derive(Args)]
struct Flags {
    /// text, json, or a Go template
    #[arg(short = 'f', long, value_name = "string", default_value = "text", hide_default_value = true)]
    format: String,
    /// Show who shares what on this host: namespaces, networks, volumes, layers
    #[arg(long)]
    tree: bool,
    /// Name or identifier
    #[arg(value_name = "CONTAINER", required_unless_present = "tree", conflicts_with = "tree")]
    container: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let Some(container) = &flags.container else {
        let shares = session.engine()?.shares()?;
        return match flags.format.as_str() {
            "text" => output::text(&drawn(&shares)),
            "json" => output::json(&shares.iter().map(shared).collect::<Vec<_>>()),
            template => output::line(&format::object(template, &shares.iter().map(shared).collect())?),
        };
    };
    let seen = session.engine()?.xray(container)?;
    match flags.format.as_str() {
        "text" => output::text(&text(&seen)),
        "json" => output::json(&tree(&seen)),
        template => output::line(&format::object(template, &tree(&seen))?),
    }
}

fn shared(node: &Shared) -> Value {
    json!({ "Name": node.name, "Note": node.note, "Below": node.below.iter().map(shared).collect::<Vec<_>>() })
}

/// Each part with its branches.
fn drawn(parts: &[Shared]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(&part.name);
        text.push('\n');
        if part.below.is_empty() {
            text.push_str("└─ nothing\n");
        }
        branches(&mut text, &part.below, "");
    }
    text
}

fn branches(text: &mut String, nodes: &[Shared], before: &str) {
    for (number, node) in nodes.iter().enumerate() {
        let (corner, further) = if number + 1 == nodes.len() { ("└─", "   ") } else { ("├─", "│  ") };
        let note = if node.note.is_empty() { String::new() } else { format!("  ({})", node.note) };
        // Writing to a string does not fail.
        _ = writeln!(text, "{before}{corner} {}{note}", node.name);
        branches(text, &node.below, &format!("{before}{further}"));
    }
}

fn tree(seen: &Xray) -> Value {
    let sections: Vec<Value> = seen
        .sections
        .iter()
        .map(|section| {
            let facts =
                section.facts.iter().map(|fact| json!({ "Name": fact.name, "Value": fact.value, "Note": fact.note }));
            json!({ "Title": section.title, "Facts": facts.collect::<Vec<_>>() })
        })
        .collect();
    json!({ "Id": seen.id, "Name": seen.name, "Pid": seen.pid, "Sections": sections, "Differences": seen.differences })
}

fn text(seen: &Xray) -> String {
    let short = seen.id.get(..12).unwrap_or(&seen.id);
    let mut text = format!("{} ({short}), process {}\n", seen.name, seen.pid);
    for section in &seen.sections {
        // Writing to a string does not fail.
        _ = writeln!(text, "\n{}", section.title);
        let width = section.facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0).min(40);
        for fact in &section.facts {
            let note = if fact.note.is_empty() { String::new() } else { format!("  ({})", fact.note) };
            // A file of the kernel with several lines stays in its column.
            let value = fact.value.replace('\n', &format!("\n{:1$}", "", width + 4));
            let line = format!("  {:<width$}  {value}{note}", fact.name);
            _ = writeln!(text, "{}", harmless(line.trim_end()));
        }
    }
    text.push_str("\nDifferences between the kernel and the records\n");
    if seen.differences.is_empty() {
        text.push_str("  none\n");
    }
    for difference in &seen.differences {
        _ = writeln!(text, "  {difference}");
    }
    text
}

/// The words of a process and the names of mount points are the container's: they must not speak to the terminal.
fn harmless(line: &str) -> String {
    let shown = |letter: char| match letter.is_control() && letter != '\n' {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    line.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::xray::{Fact, Section};

    fn seen() -> Xray {
        let fact = |name: &str, note: &str| Fact { name: name.into(), value: "1".into(), note: note.into() };
        let lines = Fact { name: "x".into(), value: "a\nb".into(), note: String::new() };
        Xray {
            id: "0123456789abcdef".into(),
            name: "otter".into(),
            pid: 7,
            sections: vec![Section {
                title: "Namespaces",
                facts: vec![fact("mnt", "its own"), fact("cgroup", ""), lines],
            }],
            differences: vec![],
        }
    }

    #[test]
    fn a_tree() {
        let node = |name: &str, note: &str, below| Shared { name: name.into(), note: note.into(), below };
        let parts = [
            node(
                "Networks",
                "",
                vec![node("a", "", vec![node("x", "10.0.0.2", vec![])]), node("b", "", vec![node("y", "", vec![])])],
            ),
            node("Volumes", "", vec![]),
        ];
        assert_eq!(drawn(&parts), "Networks\n├─ a\n│  └─ x  (10.0.0.2)\n└─ b\n   └─ y\nVolumes\n└─ nothing\n");
    }

    #[test]
    fn both_forms() {
        assert_eq!(
            text(&seen()),
            "otter (0123456789ab), process 7\n\nNamespaces\n  mnt     1  (its own)\n  cgroup  1\n  x       a\n          b\n\n\
             Differences between the kernel and the records\n  none\n"
        );
        assert_eq!(tree(&seen())["Sections"][0]["Facts"][0]["Note"], "its own");
    }
}
