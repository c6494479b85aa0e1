//! Black-box tests of the built `dhow`: a static program with its own runner, so that it can be copied into a machine that has
//! nothing else.
//!
//! Each test runs in a process of its own. As root it also has its own network, mount and process namespaces: what it breaks or
//! leaves behind ends with it, bridges stay off the host, and whatever is left running is dhow's leak. The engine is told where
//! to keep everything by `--root` and `--run-dir`, so nothing is shared between tests.
//!
//! `DHOW_BIN` is the program under test, `DHOW_IMAGES` the directory of archives that `cargo xtask images` makes.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test runner talks to its terminal")]

use std::process::ExitCode;

mod audit;
mod bed;
mod case;
mod cases;
mod clients;
// It knows the registers of this processor.
#[cfg(target_arch = "x86_64")]
mod crash;
mod host;
mod neighbour;
mod registry;
mod runner;
mod same;
mod sandbox;
mod schema;
mod server;

fn main() -> ExitCode {
    match runner::Options::parse(std::env::args().skip(1)) {
        Ok(options) => runner::main(&options),
        Err(message) => {
            eprintln!("blackbox: {message}\n\n{}", runner::USAGE);
            ExitCode::from(2)
        }
    }
}
