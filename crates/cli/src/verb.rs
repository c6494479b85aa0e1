//! From the command line to a verb: the table of verbs, and the parsing of one of them.
//!
//! Only the verb that is called builds its flags, because building all of them would cost more than the rest of the
//! start. The flags in front of the verb are read first, with everything from the verb on left alone, as in Docker.

use crate::exit::Class;
use crate::failure::{Failure, Usage};
use crate::flags::refused;
use crate::session::{Globals, Session};
use crate::{commands, output};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};
use std::ffi::OsString;

/// One verb.
pub struct Verb {
    /// What it does, in one line.
    pub about: &'static str,
    /// What stands after its name in the usage line.
    pub usage: &'static str,
    /// Adds its flags and arguments.
    pub flags: fn(Command) -> Command,
    /// Does it.
    pub run: fn(&Session, &ArgMatches) -> Result<(), Failure>,
    /// How it ends.
    pub class: Class,
}

/// The names of a verb in one place of the tree; the first is the one that is shown.
pub type Entry = (&'static [&'static str], &'static Verb);

/// Splits the command line, runs the verb, and says how the process ends.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let (class, debug, result) = match start(arguments) {
        Ok(Start { verb, path, session, rest }) => (verb.class, session.debug(), execute(verb, &path, &session, rest)),
        Err(failure) => (Class::Other, false, Err(failure)),
    };
    let Err(failure) = result else { return 0 };
    output::failure(&failure);
    let status = crate::exit::code(class, &failure);
    if debug && let Failure::Engine(error) = &failure {
        output::remark(&format!("  kind: {:?}, exit status {status}", error.kind()));
    }
    status
}

/// Docker's commands that dhow knows but does not have yet.
const LATER: &[&str] = &["build", "builder", "buildx", "compose"];

/// A verb that has been found.
struct Start {
    verb: &'static Verb,
    path: String,
    session: Session,
    rest: Vec<OsString>,
}

fn start(arguments: impl IntoIterator<Item = OsString>) -> Result<Start, Failure> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = root().try_get_matches_from(&arguments).map_err(|error| root_failure(&error))?;
    let globals = Globals::from_arg_matches(&matches).map_err(|error| root_failure(&error))?;
    if globals.version {
        return shown(&crate::program::version_line());
    }
    let Some((name, rest)) = matches.subcommand().filter(|_| !globals.help) else {
        return shown(&crate::help::root());
    };
    globals.check(&arguments)?;
    let mut rest: Vec<OsString> = rest.get_many::<OsString>("").into_iter().flatten().cloned().collect();
    let mut name = name.to_owned();
    if name == "help" {
        if rest.is_empty() {
            return shown(&crate::help::root());
        }
        // `dhow help VERB` is `dhow VERB --help`.
        name = rest.remove(0).to_string_lossy().into_owned();
        rest.push("--help".into());
    }
    if let Some(bare) = name.strip_prefix("__complete").filter(|bare| matches!(*bare, "" | "NoDesc")) {
        crate::completion::main(globals, &rest, bare.is_empty())?;
        return Err(Failure::Ended(0));
    }
    let mut path = name.clone();
    let mut entry = find(commands::VERBS, &name);
    if entry.is_none()
        && let Some(group) = commands::GROUPS.iter().find(|group| group.name == name)
    {
        match rest.first().map(|word| word.to_string_lossy().into_owned()) {
            None => return shown(&crate::help::group(group)),
            Some(word) if matches!(word.as_str(), "--help" | "-h") => return shown(&crate::help::group(group)),
            Some(word) => {
                path = format!("{name} {word}");
                entry = find(group.verbs, &word);
                rest.remove(0);
            }
        }
    }
    let program = crate::program::name();
    match entry {
        Some(verb) => Ok(Start { verb, path, session: Session::new(globals), rest }),
        None => Err(Failure::Usage(Usage {
            message: match LATER.contains(&name.as_str()) {
                true => format!("'{program} {name}' is not supported yet"),
                false => format!("unknown command: {program} {path}"),
            },
            usage: format!("'{program} --help' lists the commands"),
            flag: false,
        })),
    }
}

/// What was asked for was a text.
fn shown(text: &str) -> Result<Start, Failure> {
    output::text(text)?;
    Err(Failure::Ended(0))
}

/// The verb of that name.
pub fn find(entries: &[Entry], name: &str) -> Option<&'static Verb> {
    entries.iter().find(|(names, _)| names.contains(&name)).map(|(_, verb)| *verb)
}

/// The flags before the verb; whatever follows the first word that is none is left to the verb.
pub fn root() -> Command {
    Globals::augment_args(Command::new("dhow"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::value_parser!(OsString))
        .args_override_self(true)
}

/// A verb's own command line, under the name by which it was called.
pub fn command(verb: &Verb, path: &str) -> Command {
    let usage = format!("{} {path} {}", crate::program::name(), verb.usage);
    let command = (verb.flags)(Command::new("dhow").no_binary_name(true))
        .about(verb.about)
        .override_usage(usage)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true);
    let mut help = Arg::new("help").long("help").action(ArgAction::Help).help("Print usage");
    if command.get_arguments().all(|argument| argument.get_short() != Some('h')) {
        help = help.short('h');
    }
    command.arg(help)
}

fn execute(verb: &Verb, path: &str, session: &Session, rest: Vec<OsString>) -> Result<(), Failure> {
    let matches = match parse(verb, path, rest) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return output::text(&explained(verb, path)),
        Err(error) => return Err(usage_failure(verb, path, &error)),
    };
    (verb.run)(session, &matches)
}

/// The help of a verb, with its other names.
fn explained(verb: &Verb, path: &str) -> String {
    let mut command = command(verb, path);
    let names = crate::help::names(verb);
    if names.len() > 1 {
        let program = crate::program::name();
        let names: Vec<String> = names.iter().map(|name| format!("{program} {name}")).collect();
        command = command.after_help(format!("Aliases:\n  {}", names.join(", ")));
    }
    command.render_help().to_string()
}

/// Parses a verb's arguments. `--switch=false`, which Docker takes, is understood on a second attempt, so that the
/// help shows switches without a value.
pub fn parse(verb: &Verb, path: &str, rest: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
    match command(verb, path).try_get_matches_from(&rest) {
        Err(error) if error.kind() == ErrorKind::TooManyValues => {
            command(verb, path).mut_args(switch).try_get_matches_from(rest)
        }
        result => result,
    }
}

fn switch(argument: Arg) -> Arg {
    if !matches!(argument.get_action(), ArgAction::SetTrue) {
        return argument;
    }
    argument
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .value_parser(crate::values::boolean::parse)
}

fn root_failure(error: &clap::Error) -> Failure {
    Failure::Usage(Usage {
        message: invalid(error)
            .and_then(|flag| refused::reason(&flag))
            .or_else(|| sentence(error, None))
            .unwrap_or_else(|| plain(error)),
        usage: "'dhow --help' lists the commands and the flags before them".into(),
        flag: true,
    })
}

fn usage_failure(verb: &Verb, path: &str, error: &clap::Error) -> Failure {
    let name = crate::program::name();
    let usage = format!("{name} {path} {}; '{name} {path} --help' explains the flags", verb.usage);
    let failure = |message, flag| Failure::Usage(Usage { message, usage: usage.clone(), flag });
    match error.kind() {
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            let least = verb.usage.split(' ').filter(|word| word.starts_with(char::is_alphabetic)).count();
            let plural = if least == 1 { "" } else { "s" };
            failure(format!("'{name} {path}' requires at least {least} argument{plural}"), false)
        }
        ErrorKind::UnknownArgument => match invalid(error) {
            Some(flag) if flag.starts_with('-') => {
                if let Some(reason) = refused::reason(&flag) {
                    return failure(reason, true);
                }
                let short = !flag.starts_with("--");
                let kind = if short { "shorthand flag" } else { "flag" };
                failure(format!("unknown {kind}: {flag}"), true)
            }
            _ => {
                let most = verb.usage.split(' ').filter(|word| word.starts_with(char::is_alphabetic)).count();
                let limit = match most {
                    0 => "accepts no arguments".to_owned(),
                    1 => "requires 1 argument".to_owned(),
                    most => format!("requires {most} arguments"),
                };
                failure(format!("'{name} {path}' {limit}"), false)
            }
        },
        _ => {
            let built = command(verb, path);
            failure(sentence(error, Some(&built)).unwrap_or_else(|| plain(error)), true)
        }
    }
}

/// Docker's sentence for a value that a flag does not take.
fn sentence(error: &clap::Error, command: Option<&Command>) -> Option<String> {
    let flag = invalid(error)?;
    let flag = flag.split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    let long = flag.trim_start_matches('-');
    let short = command
        .and_then(|command| command.get_arguments().find(|a| a.get_long() == Some(long)))
        .and_then(Arg::get_short)
        .map_or(String::new(), |short| format!("-{short}, "));
    match error.kind() {
        ErrorKind::UnknownArgument => Some(format!("unknown flag: {flag}")),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) => value.clone(),
                _ => String::new(),
            };
            if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
                return Some(format!("flag needs an argument: {flag}"));
            }
            let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            Some(format!("invalid argument {value:?} for \"{short}{flag}\" flag{source}"))
        }
        _ => None,
    }
}

fn invalid(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    }
}

/// The first line of clap's own text.
fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod docker_table;
#[cfg(test)]
mod tests;
