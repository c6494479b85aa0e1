//! A small init for containers whose program does not reap: passes signals on, reaps orphans, ends as the program ends.
//!
//! Runs as PID 1 inside the container, from this same program under the name `dhow-init`:
//! `dhow-init -- PROGRAM ARGUMENT…`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use kernel::reaper::{self, Event};

/// Runs the init with the arguments of this process; gives its exit status when the program has ended.
///
/// 127 when the program is not found, 126 when it cannot be executed, 128 plus the signal that killed it.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|argument| argument == "--") {
        arguments.next();
    }
    let Some(program) = arguments.next() else { return ExitCode::from(127) };
    // Before the program exists, so that no signal is lost between the two.
    let Ok(signals) = reaper::Signals::block() else { return ExitCode::from(125) };
    let mut command = Command::new(&program);
    command.args(arguments);
    // Its own group, and the terminal's foreground, so that ^C reaches the program and its children and not the init.
    command.process_group(0);
    let child = match signals.spawn(&mut command) {
        Ok(child) => child,
        Err(error) => {
            eprint_line(&format!("dhow-init: exec {}: {error}", program.display()));
            return ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    loop {
        match signals.wait() {
            Event::Passed(signal) => reaper::pass(child, signal),
            Event::ChildrenEnded => {
                if let Some(status) = reaper::reap_all(child) {
                    return ExitCode::from(status);
                }
            }
        }
    }
}

fn eprint_line(text: &str) {
    use std::io::Write;
    // Nobody is left to tell if that fails.
    writeln!(std::io::stderr(), "{text}").ok();
}
