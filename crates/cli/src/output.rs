//! Standard output, which may be a closed pipe, and standard error, whose failures nobody could be told of.

use crate::failure::Failure;
use std::io::Write as _;
use std::os::fd::AsFd as _;

/// Prints text as it is.
pub fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Prints a line.
pub fn line(line: &str) -> Result<(), Failure> {
    let mut owned = String::with_capacity(line.len() + 1);
    owned.push_str(line);
    owned.push('\n');
    text(&owned)
}

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Standard output for streams: without the buffer that looks for the ends of lines.
pub fn unbuffered() -> Result<std::fs::File, Failure> {
    std::io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from).map_err(Failure::Output)
}

/// Prints a line on standard error.
pub fn remark(line: &str) {
    // Where standard error is closed, there is nowhere to report that.
    _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Shows a failure on standard error.
pub fn failure(failure: &Failure) {
    _ = std::io::stderr().lock().write_all(failure.render().as_bytes());
}

/// Prints JSON with Docker's indentation of four spaces.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    line(&pretty(value)?)
}

/// JSON with Docker's indentation of four spaces.
pub fn pretty(value: &impl serde::Serialize) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|error| Failure::caused("the result cannot be written as JSON", error))?;
    String::from_utf8(bytes).map_err(|error| Failure::caused("the result cannot be written as JSON", error))
}

/// Writes to a file that appears under its name only when it is complete; what was there before stays until then.
pub fn to_file(path: &str, write: impl FnOnce(&std::fs::File) -> Result<(), Failure>) -> Result<(), Failure> {
    to_file_of_mode(path, 0o666, write)
}

/// The same with a file that nobody else may read.
pub fn to_private_file(path: &str, write: impl FnOnce(&std::fs::File) -> Result<(), Failure>) -> Result<(), Failure> {
    to_file_of_mode(path, 0o600, write)
}

fn to_file_of_mode(
    path: &str,
    mode: u32,
    write: impl FnOnce(&std::fs::File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error: std::io::Error| Failure::caused(format!("cannot write {path}"), error);
    // A pipe or a device is written as it is.
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return write(&std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?);
    }
    let place = std::path::Path::new(path);
    let name = place.file_name().ok_or_else(|| Failure::new(format!("cannot write {path}: it is no file name")))?;
    let unfinished = place.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let file = std::fs::File::options().write(true).create_new(true).mode(mode).open(&unfinished).map_err(failed)?;
    let written = write(&file).and_then(|()| std::fs::rename(&unfinished, place).map_err(failed));
    if written.is_err() {
        // The first failure is the one to be told.
        _ = std::fs::remove_file(&unfinished);
    }
    written
}
