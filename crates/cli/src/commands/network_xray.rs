//! `network xray`

use super::verb;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::networks::xray::{Drawing, NetworkXray};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Show the way of packets
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] NETWORK|CONTAINER",
    "Show the way of packets between containers and the wire: links, addresses, routes, rules with counters, names"
);

#[derive(Args)]
struct Flags {
    /// A drawing in the language of Graphviz
    #[arg(long)]
    dot: bool,
    /// text, json, or a Go template
    #[arg(short = 'f', long, value_name = "string", default_value = "text", hide_default_value = true)]
    format: String,
    /// Name or identifier of a network or of a running container
    name: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let seen = session.engine()?.network_xray(&flags.name)?;
    match flags.format.as_str() {
        _ if flags.dot => output::text(&dot(&seen.name, &seen.drawing)),
        "text" => output::text(&text(&seen)),
        "json" => output::json(&tree(&seen)),
        template => output::line(&format::object(template, &tree(&seen))?),
    }
}

fn tree(seen: &NetworkXray) -> Value {
    let sections: Vec<Value> = seen
        .sections
        .iter()
        .map(|section| {
            let facts =
                section.facts.iter().map(|fact| json!({ "Name": fact.name, "Value": fact.value, "Note": fact.note }));
            json!({ "Title": section.title, "Facts": facts.collect::<Vec<_>>() })
        })
        .collect();
    json!({ "Name": seen.name, "Sections": sections, "Differences": seen.differences })
}

fn text(seen: &NetworkXray) -> String {
    let mut text = format!("{}\n", seen.name);
    for section in &seen.sections {
        // Writing to a string does not fail.
        _ = writeln!(text, "\n{}", section.title);
        let width = |of: fn(&engine::xray::Fact) -> &str, most: usize| {
            section.facts.iter().map(|fact| of(fact).chars().count()).max().unwrap_or(0).min(most)
        };
        let (name, value) = (width(|fact| &fact.name, 32), width(|fact| &fact.value, 72));
        for fact in &section.facts {
            let line = format!("  {:<name$}  {:<value$}  {}", fact.name, fact.value, fact.note);
            _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text.push_str("\nWhat stands in the way, or differs from the records\n");
    if seen.differences.is_empty() {
        text.push_str("  nothing\n");
    }
    for difference in &seen.differences {
        _ = writeln!(text, "  {difference}");
    }
    text
}

/// A quoted string of the language, lines kept apart.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn dot(name: &str, drawing: &Drawing) -> String {
    let mut text = format!("digraph {} {{\n    rankdir=LR;\n    node [shape=box];\n", quoted(name));
    for (id, label) in &drawing.boxes {
        _ = writeln!(text, "    {} [label={}];", quoted(id), quoted(label));
    }
    for (from, to, label) in &drawing.lines {
        _ = writeln!(text, "    {} -> {} [label={}];", quoted(from), quoted(to), quoted(label));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_quotes_what_it_shows() {
        let drawing = Drawing {
            boxes: vec![("a".into(), "one\n\"two\"".into())],
            lines: vec![("a".into(), "b".into(), "by \\".into())],
        };
        let expected = "digraph \"n\" {\n    rankdir=LR;\n    node [shape=box];\n    \"a\" [label=\"one\\n\\\"two\\\"\"];\n    \
                        \"a\" -> \"b\" [label=\"by \\\\\"];\n}\n";
        assert_eq!(dot("n", &drawing), expected);
    }
}
