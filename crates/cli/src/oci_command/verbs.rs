//! The table of verbs, and those of them that need few words.

use std::path::PathBuf;
use std::process::Command as Program;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use oci_runtime::{Error, Result};
use serde_json::json;

use super::{Call, Ended, images, process, resources, show};

/// One verb.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What stands after its name.
    pub usage: &'static str,
    /// Adds its flags.
    pub flags: fn(Command) -> Command,
    /// Does it.
    pub run: fn(&Call, &ArgMatches) -> Ended,
    /// Exit status when it fails.
    pub failure: u8,
}

macro_rules! verbs {
    ($($name:literal, $usage:literal, $about:literal, $flags:expr, $run:expr, $failure:literal;)*) => {
        /// All verbs.
        pub const VERBS: &[Verb] = &[$(
            Verb { name: $name, about: $about, usage: $usage, flags: $flags, run: $run, failure: $failure },
        )*];
    };
}

verbs! {
    "checkpoint", "[OPTIONS] ID", "Write a running container into files", images::checkpoint_flags, images::checkpoint, 1;
    "create", "[OPTIONS] ID", "Make a container that waits for its start", process::create_flags, process::create, 1;
    "delete", "[OPTIONS] ID", "Remove a container", delete_flags, delete, 1;
    "events", "[OPTIONS] ID", "Print what a container uses, and when memory runs out", events_flags, events, 1;
    // 255 tells a failure of the runtime from the program's own status.
    "exec", "[OPTIONS] ID COMMAND [ARG...]", "Run a process in a container", process::exec_flags, process::exec, 255;
    "features", "", "Print what this runtime can do", |command| command, features, 1;
    "kill", "[OPTIONS] ID [SIGNAL]", "Send a signal to a container", kill_flags, kill, 1;
    "list", "[OPTIONS]", "List containers", list_flags, list, 1;
    "pause", "ID", "Stop all processes of a container", id, pause, 1;
    "plan", "BUNDLE [ID]", "Print all that would be done to make a container", process::plan_flags, process::plan, 1;
    "ps", "[OPTIONS] ID [PS OPTIONS]", "List the processes of a container", ps_flags, ps, 1;
    "restore", "[OPTIONS] ID", "Make a container from such files", images::restore_flags, images::restore, 1;
    "resume", "ID", "Let the processes of a container go on", id, resume, 1;
    "run", "[OPTIONS] ID", "Make a container and start it", process::run_flags, process::run, 1;
    "spec", "[OPTIONS]", "Write a config.json to begin with", spec_flags, spec, 1;
    "start", "ID", "Start a container that waits", id, start, 1;
    "state", "ID", "Print the state of a container", id, state, 1;
    "update", "[OPTIONS] ID", "Change the limits of a container", resources::update_flags, resources::update, 1;
}

fn id(command: Command) -> Command {
    command.arg(Arg::new("id").value_name("ID").required(true))
}

fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).help(help)
}

fn form(help: &'static str) -> Arg {
    Arg::new("format").long("format").short('f').value_parser(["table", "json"]).default_value("table").help(help)
}

fn word<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

fn delete_flags(command: Command) -> Command {
    id(command).arg(switch("force", 'f', "End it first, if it runs; none is no error"))
}

fn delete(call: &Call, matches: &ArgMatches) -> Ended {
    oci_runtime::delete(&call.globals.store(), word(matches, "id"), matches.get_flag("force"))?;
    Ok(0)
}

fn kill_flags(command: Command) -> Command {
    id(command)
        .arg(switch("all", 'a', "To all processes and not to the first alone"))
        .arg(Arg::new("signal").value_name("SIGNAL").default_value("SIGTERM").allow_hyphen_values(true))
}

fn kill(call: &Call, matches: &ArgMatches) -> Ended {
    let signal = oci_runtime::signal(word(matches, "signal"))?;
    oci_runtime::kill(&call.globals.store(), word(matches, "id"), signal, matches.get_flag("all"))?;
    Ok(0)
}

fn pause(call: &Call, matches: &ArgMatches) -> Ended {
    oci_runtime::pause(&call.globals.store(), word(matches, "id"))?;
    Ok(0)
}

fn resume(call: &Call, matches: &ArgMatches) -> Ended {
    oci_runtime::resume(&call.globals.store(), word(matches, "id"))?;
    Ok(0)
}

fn start(call: &Call, matches: &ArgMatches) -> Ended {
    oci_runtime::start(&call.globals.store(), word(matches, "id"))?;
    Ok(0)
}

fn state(call: &Call, matches: &ArgMatches) -> Ended {
    show::json(&call.globals.store().find(word(matches, "id"))?.describe()?)
}

fn features(_call: &Call, _matches: &ArgMatches) -> Ended {
    show::json(&oci_runtime::features())
}

fn list_flags(command: Command) -> Command {
    command.arg(form("As table or as json")).arg(switch("quiet", 'q', "Only names"))
}

fn list(call: &Call, matches: &ArgMatches) -> Ended {
    let (found, problems) = oci_runtime::list(&call.globals.store())?;
    for problem in problems {
        crate::output::remark(&problem);
    }
    if matches.get_flag("quiet") {
        let names: String = found.iter().map(|each| format!("{}\n", each.id)).collect();
        return show::text(&names);
    }
    match word(matches, "format") {
        "json" if found.is_empty() => show::text("null\n"),
        "json" => show::json_line(&found),
        _ => show::table(&found),
    }
}

fn ps_flags(command: Command) -> Command {
    let rest = Arg::new("options").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
    id(command).arg(form("As table or as json")).arg(rest.value_name("PS OPTIONS"))
}

fn ps(call: &Call, matches: &ArgMatches) -> Ended {
    let pids = oci_runtime::processes(&call.globals.store(), word(matches, "id"))?;
    let pids: Vec<i32> = pids.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    if word(matches, "format") == "json" {
        return show::json_line(&pids);
    }
    let options: Vec<&String> = matches.get_many::<String>("options").into_iter().flatten().collect();
    let mut program = Program::new("ps");
    if options.is_empty() {
        program.arg("-ef")
    } else {
        program.args(options)
    };
    let output = program.output().map_err(|error| Error::Refused(format!("cannot run ps: {error}")))?;
    if !output.status.success() {
        return Err(Error::Refused(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    show::text(&only(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The head of a table by ps(1), and the lines of these processes.
fn only(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let Some(column) = head.split_ascii_whitespace().position(|word| word == "PID") else {
        return Err(Error::Refused("ps was told not to print the column PID".to_owned()));
    };
    let of = |line: &str| line.split_ascii_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
    let kept = lines.filter(|line| of(line).is_some_and(|pid| pids.contains(&pid)));
    Ok(std::iter::once(head).chain(kept).map(|line| format!("{line}\n")).collect())
}

fn spec_flags(command: Command) -> Command {
    let bundle = Arg::new("bundle").long("bundle").short('b').value_name("DIRECTORY").default_value(".");
    let rootless = Arg::new("rootless").long("rootless").action(ArgAction::SetTrue);
    command
        .arg(bundle.value_parser(value_parser!(PathBuf)).help("Directory of the bundle"))
        .arg(rootless.help("For an ordinary user"))
}

fn spec(_call: &Call, matches: &ArgMatches) -> Ended {
    let bundle = matches.get_one::<PathBuf>("bundle").cloned().unwrap_or_default();
    let path = bundle.join("config.json");
    let fail = |error: std::io::Error| Error::Refused(format!("{}: {error}", path.display()));
    let spec = match matches.get_flag("rootless") {
        true => {
            let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            oci_runtime::rootless_template(ids.0, ids.1)
        }
        false => oci_runtime::template(),
    };
    let mut text = serde_json::to_string_pretty(&spec).map_err(|error| fail(error.into()))?;
    text.push('\n');
    let mut file = match std::fs::File::options().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Refused(format!("file {} exists; remove it first", path.display())));
        }
        other => other.map_err(fail)?,
    };
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(fail)?;
    Ok(0)
}

fn events_flags(command: Command) -> Command {
    let stats = Arg::new("stats").long("stats").action(ArgAction::SetTrue).help("Print the present use and end");
    let interval = Arg::new("interval").long("interval").default_value("5s").value_name("DURATION");
    id(command).arg(stats).arg(interval.help("Time between two prints"))
}

fn events(call: &Call, matches: &ArgMatches) -> Ended {
    let (store, id) = (call.globals.store(), word(matches, "id").to_owned());
    let print = || -> Result<u8> {
        show::json_line(&json!({"type": "stats", "id": id, "data": oci_runtime::usage(&store, &id)?}))
    };
    if matches.get_flag("stats") {
        return print();
    }
    let interval = crate::values::duration::parse(word(matches, "interval"))
        .map_err(|error| Error::Refused(format!("--interval: {error}")))?;
    let interval = Duration::from_nanos(u64::try_from(interval).unwrap_or(0));
    if interval.is_zero() {
        return Err(Error::Refused("duration interval must be greater than 0".to_owned()));
    }
    let oom = || matches!(show::json_line(&json!({"type": "oom", "id": id})), Ok(0));
    oci_runtime::watch_for_oom(&store, &id, interval, oom, || matches!(print(), Ok(0)))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_builds() {
        for verb in VERBS {
            super::super::command(verb, "runc").debug_assert();
        }
    }

    #[test]
    fn ps_is_cut_to_the_processes_of_the_container() {
        let table = "UID PID CMD\nroot 1 init\nroot 22 sh -c 1\nroot 3 x\n";
        assert_eq!(only(table, &[22, 3]).unwrap(), "UID PID CMD\nroot 22 sh -c 1\nroot 3 x\n");
        assert!(only("CMD\n", &[1]).is_err());
    }
}
