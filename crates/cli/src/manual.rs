//! Manual pages (man(7)) from the definitions of the flags.

use crate::commands::{GROUPS, Group, VERBS};
use crate::verb::{self, Entry, Verb};
use clap::Command;
use std::fmt::Write as _;

/// `dhow(1)`
pub fn root() -> String {
    let mut page = head("", "a container engine without a daemon", "dhow [OPTIONS] COMMAND");
    section(&mut page, "DESCRIPTION");
    paragraph(
        &mut page,
        "Runs containers from OCI and Docker images. There is no daemon: each command does its work itself, and one small monitor stays with each running container. Commands, flags, output and exit statuses are Docker's.",
    );
    options(&mut page, &verb::root());
    section(&mut page, "COMMANDS");
    list(&mut page, "", VERBS);
    for group in GROUPS {
        item(&mut page, &reference(group.name), group.about);
    }
    section(&mut page, "ENVIRONMENT");
    for (name, meaning) in [
        ("DHOW_ROOT, DHOW_RUN_DIR", "As --root and --run-dir."),
        ("DOCKER_CONFIG", "As --config."),
        ("NO_PROXY, HTTPS_PROXY, HTTP_PROXY", "How registries are reached."),
    ] {
        item(&mut page, &format!("\\fB{}\\fR", escape(name)), meaning);
    }
    section(&mut page, "EXIT STATUS");
    for (status, meaning) in [
        ("0", "It was done."),
        ("1", "It was not."),
        ("125", "A flag is wrong; with run also: the container could not be made."),
        ("126, 127", "With run and exec: the program cannot be executed, or does not exist."),
        ("other", "With run and exec: that of the program, or 128 and the signal that ended it."),
    ] {
        item(&mut page, status, meaning);
    }
    page
}

/// `dhow-GROUP(1)`
pub fn group(group: &Group) -> String {
    let mut page = head(group.name, group.about, &format!("dhow {} COMMAND", group.name));
    section(&mut page, "COMMANDS");
    list(&mut page, &format!("{} ", group.name), group.verbs);
    see(&mut page, &["dhow".to_owned()]);
    page
}

/// `dhow-VERB(1)`, for one of the names of the verb.
pub fn verb(verb: &Verb, path: &str) -> String {
    let mut page = head(path, verb.about, &format!("dhow {path} {}", verb.usage));
    section(&mut page, "DESCRIPTION");
    paragraph(&mut page, &format!("{}.", verb.about.trim_end_matches('.')));
    options(&mut page, &verb::command(verb, path));
    let mut others: Vec<String> = crate::help::names(verb)
        .into_iter()
        .filter(|other| other != path)
        .map(|other| format!("dhow {other}"))
        .collect();
    if !others.is_empty() {
        section(&mut page, "ALIASES");
        paragraph(&mut page, &others.join(", "));
    }
    others = vec!["dhow".to_owned()];
    others.extend(path.split_once(' ').map(|(group, _)| format!("dhow-{group}")));
    see(&mut page, &others);
    page
}

fn head(path: &str, about: &str, usage: &str) -> String {
    let name = if path.is_empty() { "dhow".to_owned() } else { format!("dhow-{}", path.replace(' ', "-")) };
    let mut page = format!(".TH \"{}\" \"1\" \"\" \"dhow {}\" \"dhow\"\n", name.to_uppercase(), engine::VERSION);
    section(&mut page, "NAME");
    _ = writeln!(page, "{} \\- {}", escape(&name), escape(about));
    section(&mut page, "SYNOPSIS");
    paragraph(&mut page, usage);
    page
}

fn options(page: &mut String, command: &Command) {
    let shown = || command.get_arguments().filter(|argument| !argument.is_hide_set());
    if shown().any(clap::Arg::is_positional) {
        section(page, "ARGUMENTS");
        for argument in shown().filter(|argument| argument.is_positional()) {
            let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
            item(page, &format!("\\fI{}\\fR", escape(name)), &help(argument));
        }
    }
    section(page, "OPTIONS");
    for argument in shown().filter(|argument| !argument.is_positional()) {
        let mut names: Vec<String> =
            argument.get_short().map(|short| format!("\\fB\\-{short}\\fR")).into_iter().collect();
        names.extend(argument.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escape(long))));
        let value = match argument.get_action().takes_values() {
            true => argument
                .get_value_names()
                .and_then(|names| names.first())
                .map(|name| format!(" \\fI{}\\fR", escape(name))),
            false => None,
        };
        item(page, &format!("{}{}", names.join(", "), value.unwrap_or_default()), &help(argument));
    }
}

fn help(argument: &clap::Arg) -> String {
    argument.get_help().map(ToString::to_string).unwrap_or_default()
}

fn list(page: &mut String, before: &str, entries: &[Entry]) {
    for (names, verb) in entries {
        item(page, &reference(&format!("{before}{}", names[0])), verb.about);
    }
}

fn reference(path: &str) -> String {
    format!("\\fBdhow\\-{}\\fR(1)", escape(&path.replace(' ', "-")))
}

fn see(page: &mut String, names: &[String]) {
    section(page, "SEE ALSO");
    let names: Vec<String> = names.iter().map(|name| format!("\\fB{}\\fR(1)", escape(name))).collect();
    _ = writeln!(page, "{}", names.join(", "));
}

fn section(page: &mut String, title: &str) {
    // Writing to a string does not fail.
    _ = writeln!(page, ".SH {title}");
}

fn paragraph(page: &mut String, text: &str) {
    _ = writeln!(page, "{}", escape(text));
}

fn item(page: &mut String, title: &str, text: &str) {
    _ = writeln!(page, ".TP\n{title}\n{}", escape(text));
}

/// Nothing of a text is a command of roff: no dot or quote at the start of a line, no backslash, and dashes stay dashes.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let page = super::verb(verb::find(VERBS, "stop").unwrap(), "stop");
        for line in [
            ".SH NAME\ndhow\\-stop \\- Stop one or more running containers\n",
            ".SH SYNOPSIS\ndhow stop [OPTIONS] CONTAINER [CONTAINER...]\n",
            ".TP\n\\fB\\-s\\fR, \\fB\\-\\-signal\\fR \\fIstring\\fR\nSignal",
            ".SH ALIASES\ndhow container stop\n",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        assert_eq!(escape("'x' \\ -a"), "\\&'x' \\e \\-a");
        assert!(root().contains("\\fBdhow\\-container\\fR(1)"));
        assert!(
            group(GROUPS.iter().find(|group| group.name == "container").unwrap())
                .contains("\\fBdhow\\-container\\-attach\\fR(1)")
        );
    }
}
