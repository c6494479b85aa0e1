//! The help of `dhow` itself and of its groups; a verb's help comes from its flags.

use crate::commands::{GROUPS, Group, VERBS};
use crate::verb::{self, Entry, Verb};
use std::fmt::Write as _;

/// `dhow --help`
pub fn root() -> String {
    let name = crate::program::name();
    let mut text = format!("Usage:  {name} [OPTIONS] COMMAND\n\nA container engine without a daemon\n\nCommands:\n");
    list(&mut text, VERBS);
    text.push_str("\nManagement commands:\n");
    for group in GROUPS {
        // Writing to a string does not fail.
        _ = writeln!(text, "  {:<11} {}", group.name, group.about);
    }
    text.push_str("\nGlobal options:\n");
    let options = verb::root().help_template("{options}").render_help().to_string();
    _ = writeln!(text, "{}", options.trim_end());
    _ = writeln!(text, "\n'{name} COMMAND --help' tells more about a command.");
    text
}

/// `dhow GROUP --help`
pub fn group(group: &Group) -> String {
    let name = crate::program::name();
    let mut text = format!("Usage:  {name} {} COMMAND\n\n{}\n\nCommands:\n", group.name, group.about);
    list(&mut text, group.verbs);
    _ = writeln!(text, "\n'{name} {} COMMAND --help' tells more about a command.", group.name);
    text
}

fn list(text: &mut String, entries: &[Entry]) {
    for (names, verb) in entries {
        _ = writeln!(text, "  {:<11} {}", names[0], verb.about);
    }
}

/// All paths under which a verb can be called, the shortest first.
pub fn names(verb: &Verb) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |before: &str, entries: &[Entry]| {
        for (names, _) in entries.iter().filter(|(_, other)| (other.about, other.usage) == (verb.about, verb.usage)) {
            found.extend(names.iter().map(|name| format!("{before}{name}")));
        }
    };
    add("", VERBS);
    for group in GROUPS {
        add(&format!("{} ", group.name), group.verbs);
    }
    found.sort_by_key(String::len);
    found
}
