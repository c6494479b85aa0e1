//! What may come next on a command line, for the shells: verbs, flags, their values, and the names of what there is.
//!
//! A shell's script (module [`scripts`]) asks the program itself, `dhow __complete WORD…`, where the last word is the one
//! that is being written. So everything comes from the same definitions as the flags, and names are those of this moment.
//! The protocol is that of Go's cobra, so that the scripts that Docker ships work with a `docker` that is this program: a
//! candidate on each line, a tab and its meaning behind it, and at the end a colon with a sum of the directives.

mod names;
pub mod scripts;
mod values;

use crate::commands::{GROUPS, Group, VERBS};
use crate::failure::Failure;
use crate::output;
use crate::session::{Globals, Session};
use crate::verb::{self, Entry, Verb};
use clap::{Arg, ArgAction, Command, FromArgMatches as _};
use std::ffi::OsString;

/// What a shell is to do with the candidates (cobra's numbers).
mod directive {
    /// File names if there is no candidate.
    pub const FILES: u8 = 0;
    /// No blank behind the candidate.
    pub const NO_SPACE: u8 = 2;
    /// No file names.
    pub const NO_FILES: u8 = 4;
}

/// A candidate and its meaning.
type Candidate = (String, String);

/// Where a kind of candidates comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Containers, of some statuses.
    Containers(Which),
    /// Containers with a colon behind them, or files.
    Copied,
    /// Configurations.
    Configs,
    /// Contexts.
    Contexts,
    /// Files of the host.
    Files,
    /// Images.
    Images,
    /// Networks.
    Networks,
    /// Anything that `inspect` knows.
    Objects,
    /// Secrets.
    Secrets,
    /// These words.
    Words(&'static [&'static str]),
    /// Volumes.
    Volumes,
    /// Nothing that could be known.
    Nothing,
}

/// Which containers a verb can do something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    Paused,
    Running,
    Stopped,
}

/// The place on the command line that is being completed.
enum Place {
    /// One of these, and flags if the word begins as one.
    Flags(Box<Command>),
    /// A word of a list of commands.
    Verbs(&'static [Entry], bool),
    /// Something of a source.
    Of(Source),
}

/// Answers a shell. `words` are those behind `__complete`.
pub fn main(globals: Globals, words: &[OsString], with_meanings: bool) -> Result<(), Failure> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (done, last) = match words.split_last() {
        Some((last, done)) => (done, last.as_str()),
        None => (&[][..], ""),
    };
    // The flags in front of the verb stand among the words, and say where the names are.
    let inner = verb::root().try_get_matches_from(std::iter::once("dhow".to_owned()).chain(done.iter().cloned()));
    let inner = inner.and_then(|matches| Globals::from_arg_matches(&matches)).unwrap_or_default();
    let globals = Globals {
        root: inner.root.or(globals.root.clone()),
        run_dir: inner.run_dir.or(globals.run_dir.clone()),
        ..globals
    };
    let place = place(done, last);
    // A value behind an equals sign is completed without its flag.
    let prefix = match last.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') && !matches!(place, Place::Flags(_)) => value,
        _ => last,
    };
    let (candidates, directive) = match place {
        Place::Flags(command) => (flags(&command), directive::NO_FILES),
        Place::Verbs(entries, with_groups) => (verbs(entries, with_groups), directive::NO_FILES),
        Place::Of(Source::Files) => (Vec::new(), directive::FILES),
        Place::Of(Source::Copied) => {
            (names::find(&Session::new(globals), Source::Copied), directive::FILES | directive::NO_SPACE)
        }
        Place::Of(source) => (names::find(&Session::new(globals), source), directive::NO_FILES),
    };
    let mut text = String::new();
    for (word, meaning) in candidates.iter().filter(|(word, _)| word.starts_with(prefix)) {
        text.push_str(word);
        if with_meanings && !meaning.is_empty() {
            text.push('\t');
            text.push_str(meaning.lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    output::text(&format!("{text}:{directive}\n"))
}

/// Finds out where the last word stands.
fn place(done: &[String], last: &str) -> Place {
    let (mut rest, waiting) = before_the_verb(done);
    if waiting {
        return Place::Of(Source::Files);
    }
    if rest.first().is_some_and(|word| word == "help") {
        rest = &rest[1..];
    }
    let Some((first, mut behind)) = rest.split_first() else {
        return if last.starts_with('-') { Place::Flags(Box::new(verb::root())) } else { Place::Verbs(VERBS, true) };
    };
    let mut path = first.clone();
    let mut found = verb::find(VERBS, first);
    if found.is_none()
        && let Some(group) = GROUPS.iter().find(|group| group.name == first)
    {
        let Some((word, rest)) = behind.split_first() else { return Place::Verbs(group.verbs, false) };
        (path, found, behind) = (format!("{first} {word}"), verb::find(group.verbs, word), rest);
    }
    match found {
        Some(verb) => of_verb(verb, &path, behind, last),
        None => Place::Of(Source::Nothing),
    }
}

/// Leaves the flags in front of the verb out; says whether the last of them waits for its value.
fn before_the_verb(words: &[String]) -> (&[String], bool) {
    let root = verb::root();
    let mut rest = words;
    while let Some((word, behind)) = rest.split_first().filter(|(word, _)| word.starts_with('-')) {
        rest = behind;
        if wants_value(&root, word) {
            match rest.split_first() {
                Some((_value, behind)) => rest = behind,
                None => return (rest, true),
            }
        }
    }
    (rest, false)
}

/// The flag that a word ends with, if it takes a value that has not come yet.
fn open_flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let takes = |argument: &&Arg| {
        matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) && !argument.is_require_equals_set()
    };
    if let Some(long) = word.strip_prefix("--") {
        return command.get_arguments().find(|argument| names_long(argument, long)).filter(takes);
    }
    let letters: Vec<char> = word.strip_prefix('-')?.chars().collect();
    // The first letter that takes a value has the rest of the word as its value.
    let of = |letter: &char| command.get_arguments().find(|argument| argument.get_short() == Some(*letter));
    let position = letters.iter().position(|letter| of(letter).is_some_and(|argument| takes(&argument)))?;
    if position + 1 == letters.len() { of(&letters[position]) } else { None }
}

fn names_long(argument: &Arg, long: &str) -> bool {
    argument.get_long() == Some(long) || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
}

fn wants_value(command: &Command, word: &str) -> bool {
    open_flag(command, word).is_some()
}

fn of_verb(verb: &'static Verb, path: &str, words: &[String], last: &str) -> Place {
    let command = verb::command(verb, path);
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    // What stands behind the first word of `run` and `exec` belongs to the container.
    let trailing = positionals.first().is_some_and(|argument| argument.is_trailing_var_arg_set());
    let (mut count, mut only_words) = (0, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if only_words || !word.starts_with('-') || word == "-" {
            count += 1;
            only_words |= trailing;
        } else if word == "--" {
            only_words = true;
        } else if let Some(flag) = open_flag(&command, word)
            && words.next().is_none()
        {
            return Place::Of(values::of_flag(flag, path));
        }
    }
    if trailing && count > 0 {
        return Place::Of(Source::Files);
    }
    if !only_words && last.starts_with('-') {
        return match last.split_once('=') {
            Some((flag, _)) => {
                let long = flag.trim_start_matches('-');
                let found = command.get_arguments().find(|argument| names_long(argument, long));
                Place::Of(found.map_or(Source::Nothing, |flag| values::of_flag(flag, path)))
            }
            None => Place::Flags(Box::new(command)),
        };
    }
    let repeats = |argument: &&&Arg| argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    let argument = positionals.get(count).or_else(|| positionals.last().filter(repeats));
    Place::Of(argument.map_or(Source::Nothing, |argument| values::of_argument(argument, path)))
}

fn flags(command: &Command) -> Vec<Candidate> {
    let mut found = Vec::new();
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set() && !argument.is_positional()) {
        let meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
        found.extend(argument.get_long().map(|long| (format!("--{long}"), meaning.clone())));
        found.extend(argument.get_short().map(|short| (format!("-{short}"), meaning)));
    }
    found
}

fn verbs(entries: &[Entry], with_groups: bool) -> Vec<Candidate> {
    let mut found: Vec<Candidate> =
        entries.iter().map(|(names, verb)| (names[0].to_owned(), verb.about.to_owned())).collect();
    if with_groups {
        found.extend(GROUPS.iter().map(|group: &Group| (group.name.to_owned(), group.about.to_owned())));
        found.push(("help".into(), "Help about any command".into()));
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests;
