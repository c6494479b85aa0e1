//! The help of `dhow` itself and of its groups; a verb's help comes from its flags.

use crate::commands::{GROUPS, Group, VERBS};
use crate::verb::{self, Entry};
use std::fmt::Write as _;

/// `dhow --help`
pub fn root() -> String {
    let mut text = "Usage:  dhow [OPTIONS] COMMAND\n\nA container engine without a daemon\n\nCommands:\n".to_owned();
    list(&mut text, VERBS);
    text.push_str("\nManagement commands:\n");
    for group in GROUPS {
        // Writing to a string does not fail.
        _ = writeln!(text, "  {:<11} {}", group.name, group.about);
    }
    text.push_str("\nGlobal options:\n");
    let options = verb::root().help_template("{options}").render_help().to_string();
    _ = writeln!(text, "{}", options.trim_end());
    text.push_str("\n'dhow COMMAND --help' tells more about a command.\n");
    text
}

/// `dhow GROUP --help`
pub fn group(group: &Group) -> String {
    let mut text = format!("Usage:  dhow {} COMMAND\n\n{}\n\nCommands:\n", group.name, group.about);
    list(&mut text, group.verbs);
    _ = writeln!(text, "\n'dhow {} COMMAND --help' tells more about a command.", group.name);
    text
}

fn list(text: &mut String, entries: &[Entry]) {
    for (names, verb) in entries {
        _ = writeln!(text, "  {:<11} {}", names[0], verb.about);
    }
}
