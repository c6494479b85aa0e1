//! Running other programs, with errors that say which one failed and what it said.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Builds a command from a program and its arguments.
pub fn command<S: AsRef<std::ffi::OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs a command whose output goes where ours goes.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {}", text(command)))?;
    if !status.success() {
        bail!("{}: {status}", text(command));
    }
    Ok(())
}

/// Runs a command and returns its output; what it wrote to its errors is shown only when it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("start {}", text(command)))?;
    if !result.status.success() {
        bail!("{}: {}: {}", text(command), result.status, String::from_utf8_lossy(&result.stderr).trim_end());
    }
    Ok(String::from_utf8(result.stdout)?)
}

/// Whether a command ends well; what it prints is discarded.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|result| result.status.success())
}

/// The command as one would type it, cut where it gets long.
pub fn text(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    if let Some((cut, _)) = text.char_indices().nth(300) {
        text.truncate(cut);
        text.push('…');
    }
    text.replace('\n', " ")
}
