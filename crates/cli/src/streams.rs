//! Our terminal or pipes joined to a process in a container; the work is the monitor's client's.

use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::output;
use clap::Args;
use engine::{Engine, Streams};
use monitor::client::Connection;
use monitor::detach_keys::DetachKeys;
use monitor::foreground::{self, Ended};
use std::os::fd::AsFd as _;

/// Flags of verbs that join streams.
#[derive(Args, Clone, Debug)]
pub struct JoinFlags {
    /// Keys that leave the container (default ctrl-p,ctrl-q)
    #[arg(long, value_name = "string", value_parser = keys)]
    pub detach_keys: Option<DetachKeys>,
}

/// What to join.
#[derive(Debug)]
pub struct Target<'a> {
    /// Identifier of the container.
    pub id: &'a str,
    /// The exec session; `None` is the container itself.
    pub session: Option<String>,
    /// The process has a terminal.
    pub terminal: bool,
    /// The streams that were asked for.
    pub streams: Streams,
    /// Signals are passed on.
    pub signal_proxy: bool,
}

/// Joins until the process ends or the person leaves; returns the exit status, or `None` for a person who has left.
pub fn join(
    engine: &Engine,
    target: Target<'_>,
    flags: &JoinFlags,
    mut connection: Connection,
) -> Result<Option<i32>, Failure> {
    let detach_keys = match &flags.detach_keys {
        Some(keys) => keys.clone(),
        // They are looked for in what a terminal sends, and only there.
        None if target.terminal && target.streams.stdin => Configuration::read().detach_keys()?,
        None => DetachKeys::default(),
    };
    let session = target.session.clone();
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let options = foreground::Options {
        stdin: target.streams.stdin.then(|| stdin.as_fd()),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        terminal: target.terminal,
        detach_keys,
        // Docker: with a terminal the keys arrive as they are, and signals are this program's own.
        signal_proxy: target.signal_proxy && !target.terminal,
        run_directory: engine.directories().container_run(target.id),
        session: target.session,
    };
    match foreground::join(&mut connection, &options) {
        Ok(Ended::Detached) => {
            engine.record_detach(target.id, session.as_deref());
            output::remark("read escape sequence");
            Ok(None)
        }
        Ok(Ended::Exited(exit)) => Ok(Some(exit.exit_code)),
        // Whoever read our output has had enough; as with Docker, the process is left alone.
        Err(monitor::Error::System { call, errno })
            if call.starts_with("write(") && errno.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Err(Failure::Output(errno))
        }
        Err(error) => Err(Failure::caused("the connection to the container is lost", error)),
    }
}

/// The status of a joined process as a result; a person who left is a success.
pub fn ended(status: Option<i32>) -> Result<(), Failure> {
    match status {
        None | Some(0) => Ok(()),
        Some(status) => Err(Failure::Ended(status)),
    }
}

fn keys(text: &str) -> Result<DetachKeys, String> {
    text.parse().map_err(|error: monitor::Error| error.to_string())
}
