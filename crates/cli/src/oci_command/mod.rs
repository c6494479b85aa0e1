//! `dhow oci VERB`: the command line of an OCI runtime, with runc's flags, texts and exit codes.
//!
//! This program called as `runc` or `crun` is that command line without the word `oci`. It has its own way in, beside
//! [`crate::verb`], because nothing of the engine's (its database, its sweep, its user namespace) may happen here.

mod images;
mod log;
mod process;
mod resources;
mod show;
mod verbs;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, FromArgMatches};
use kernel::entry::SEALED;
use kernel::exe;
use oci_runtime::{Error, Result, Store};

/// Flags before the verb.
#[derive(Args, Clone, Debug)]
struct Globals {
    /// Directory for the state of containers
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// File to which failures are appended
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of what is logged: text or json
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Log more than failures
    #[arg(long)]
    debug: bool,
    /// Have systemd make cgroups; cgroupsPath is slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// The same in crun's words: cgroupfs, systemd or disabled
    #[arg(long, value_name = "MANAGER", value_parser = ["cgroupfs", "systemd", "disabled"])]
    cgroup_manager: Option<String>,
    /// What is logged, in crun's words: error, warning or debug
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warning", "debug"])]
    log_level: Option<String>,
    /// Do without what an ordinary user has no right to: true, false or auto
    #[arg(long, value_name = "CHOICE", default_value = "auto", value_parser = ["auto", "true", "false"])]
    rootless: String,
    /// Print the version
    #[arg(long, short)]
    version: bool,
    /// Print usage
    #[arg(long, short)]
    help: bool,
}

impl Globals {
    fn store(&self) -> Store {
        self.root.clone().map_or_else(Store::usual, Store::new)
    }

    fn systemd(&self) -> bool {
        self.systemd_cgroup || self.cgroup_manager.as_deref() == Some("systemd")
    }

    fn without_cgroup(&self) -> bool {
        !self.systemd_cgroup && self.cgroup_manager.as_deref() == Some("disabled")
    }

    fn rootless(&self) -> bool {
        match self.rootless.as_str() {
            "true" => true,
            "false" => false,
            _ => oci_runtime::is_rootless(),
        }
    }
}

/// What every verb gets.
struct Call {
    globals: Globals,
}

impl Call {
    /// Logs warnings, and the steps of a verb when they are wanted.
    fn progress(&self) -> oci_runtime::Progress {
        let globals = self.globals.clone();
        let steps = globals.debug || globals.log_level.as_deref() == Some("debug");
        if !steps && globals.log_level.as_deref() == Some("error") {
            return oci_runtime::Progress::default();
        }
        oci_runtime::Progress::new(steps, move |level, text| log::note(&globals, level, text))
    }
}

/// How a verb ends when it did not fail.
type Ended = Result<u8>;

/// Runs the runtime's command line, if this process was started as one.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    let name = std::path::Path::new(&program).file_name().and_then(OsStr::to_str)?.to_owned();
    let rest: Vec<OsString> = arguments.collect();
    let (name, rest) = match name.as_str() {
        "runc" | "crun" => (name, &rest[..]),
        _ if rest.first().is_some_and(|word| word == "oci") => ("dhow oci".to_owned(), &rest[1..]),
        _ => return None,
    };
    Some(ExitCode::from(main(name, rest)))
}

fn main(name: String, rest: &[OsString]) -> u8 {
    let root = root(&name);
    let matches = match root.clone().try_get_matches_from(rest) {
        Ok(matches) => matches,
        Err(error) => return usage(&name, &error),
    };
    let globals = match Globals::from_arg_matches(&matches) {
        Ok(globals) => globals,
        Err(error) => return usage(&name, &error),
    };
    if globals.version {
        let first = name.split(' ').next().unwrap_or_default();
        return shown(&format!(
            "{first} version {0}\ncommit: v{0}\nspec: {1}\n",
            engine::VERSION,
            oci::runtime::VERSION
        ));
    }
    let Some((verb, rest)) = matches.subcommand().filter(|_| !globals.help) else {
        return shown(&show::help(&name, root));
    };
    let rest: Vec<OsString> = rest.get_many::<OsString>("").into_iter().flatten().cloned().collect();
    let Some(found) = verbs::VERBS.iter().find(|each| each.name == verb) else {
        return log::fail(&globals, &format!("No help topic for '{verb}'; {name} --help lists the commands"), 1);
    };
    let matches = match command(found, &name).try_get_matches_from(&rest) {
        Ok(matches) => matches,
        Err(error) => return usage(&name, &error),
    };
    let call = Call { globals };
    match (found.run)(&call, &matches) {
        Ok(status) => status,
        Err(error) => match (error.execution(), error.mounting()) {
            (Some(text), _) => log::fail_to_execute(&call.globals, &text, found.failure),
            (None, Some(text)) => log::fail(&call.globals, &format!("{name} {verb} failed: {text}"), found.failure),
            (None, None) => log::fail(&call.globals, &error.chain(), found.failure),
        },
    }
}

fn root(name: &str) -> Command {
    Globals::augment_args(Command::new("oci"))
        .no_binary_name(true)
        .override_usage(format!("{name} [OPTIONS] COMMAND"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::value_parser!(OsString))
        .args_override_self(true)
}

fn command(verb: &verbs::Verb, name: &str) -> Command {
    (verb.flags)(Command::new("verb"))
        .no_binary_name(true)
        .override_usage(format!("{name} {} {}", verb.name, verb.usage))
        .help_template(format!(
            "NAME:\n   {name} {} - {}\n\nUSAGE:\n   {{usage}}\n\nOPTIONS:\n{{all-args}}",
            verb.name, verb.about
        ))
        .disable_version_flag(true)
        .args_override_self(true)
}

fn usage(name: &str, error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelp {
        return shown(&text);
    }
    let line = text.lines().next().unwrap_or_default();
    crate::output::remark(&format!("{name}: {}", line.strip_prefix("error: ").unwrap_or(line)));
    1
}

fn shown(text: &str) -> u8 {
    u8::from(crate::output::text(text).is_err())
}

/// Executes this program once more from a file that cannot be written: a process of it ends up in a container, which could
/// write to what it was executed from (CVE-2019-5736). Where `kernel::entry` has done that already, for the same verbs, there is nothing left to do.
fn seal() -> Result<()> {
    if std::env::var_os(SEALED).is_some() {
        // It was executed by a descriptor's number, which would be its name in ps(1). A name is no reason to fail.
        rustix::thread::set_name(c"dhow-oci").ok();
        return Ok(());
    }
    let text =
        |word: OsString| word.into_string().map_err(|word| Error::Refused(format!("{} is not UTF-8", word.display())));
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>>>()?;
    let variable = |(name, value): (OsString, OsString)| Some(format!("{}={}", name.to_str()?, value.to_str()?));
    let environment = std::env::vars_os().filter_map(variable).chain([format!("{SEALED}=1")]);
    let environment: Vec<String> = environment.collect();
    let program = exe::sealed_self()?;
    let path = std::ffi::CString::new(program.path()).unwrap_or_default();
    let arguments = exe::Strings::new(arguments.iter().map(String::as_str))?;
    let environment = exe::Strings::new(environment.iter().map(String::as_str))?;
    match exe::execute(&path, &arguments, &environment) {
        Ok(never) => match never {},
        Err(errno) => Err(kernel::Error::new("execve(<sealed copy of this program>)", errno).into()),
    }
}
