//! The command line of dhow: flags to the engine's options, records to text. It decides nothing.
//!
//! - [`verb`]: from the command line to a verb, which alone builds its flags
//! - [`commands`]: one file for each verb
//! - [`flags`], [`values`]: flags that verbs share, and the small languages inside them
//! - [`completion`]: what may come next on a command line
//! - [`configuration`]: what of it stands in `config.json`
//! - [`template`], [`display`], [`filter`]: Go's templates, Docker's words and columns, `--filter`
//! - [`help`], [`manual`]: what explains a verb beside its flags
//! - [`oci_command`]: `dhow oci`, which speaks as runc does
//! - [`exit`]: the only place where a failure becomes an exit status
//! - [`failure`], [`output`]: what is said, and where; [`program`]: under which name
#![forbid(unsafe_code)]

mod commands;
mod completion;
mod configuration;
mod confirm;
mod display;
mod exit;
mod failure;
mod filter;
mod flags;
mod help;
mod manual;
mod oci_command;
mod output;
mod program;
mod session;
mod streams;
mod template;
mod values;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A monitor, or the init of a container, is this program under another name, without threads and without flags.
    if let Some(code) = engine::roles::dispatch() {
        return code;
    }
    command_line()
}

/// Out of line, as the frame of `main` stays in every monitor.
#[inline(never)]
fn command_line() -> ExitCode {
    oci_command::dispatch().unwrap_or_else(|| ExitCode::from(verb::main(std::env::args_os())))
}
