//! Joins the standard streams with a container whose run directory is given: `dhow attach` without the engine. The tests
//! start it on terminals of their own. Ends with the container's exit code, 200 after detaching, 201 after an error.
//!
//! `DHOW_TEST_PROXY=1` passes signals on.

use std::os::fd::AsFd;
use std::process::ExitCode;

use monitor::client::Connection;
use monitor::detach_keys::DetachKeys;
use monitor::foreground::{Ended, Options, join};
use monitor::{Attach, Streams};

fn main() -> ExitCode {
    match run() {
        Ok(Ended::Exited(exit)) => ExitCode::from(u8::try_from(exit.exit_code).unwrap_or(255)),
        Ok(Ended::Detached) => ExitCode::from(200),
        Err(_) => ExitCode::from(201),
    }
}

fn run() -> Result<Ended, monitor::Error> {
    let run_directory = std::env::args_os().nth(1).map_or_else(|| ".".into(), std::path::PathBuf::from);
    let streams = Attach { streams: Streams::ALL, patience_seconds: None };
    let mut connection = Connection::open(&run_directory)?.attach(streams)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let options = Options {
        stdin: Some(stdin.as_fd()),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        terminal: connection.terminal(),
        detach_keys: DetachKeys::default(),
        signal_proxy: std::env::var_os("DHOW_TEST_PROXY").is_some(),
        run_directory,
        session: None,
    };
    join(&mut connection, &options)
}
