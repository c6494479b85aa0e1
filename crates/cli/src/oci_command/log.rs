//! What engines read when a verb fails: the log file, in logrus's two forms, and standard error.

use std::io::Write;

use oci_runtime::Level;
use serde_json::json;

use super::Globals;

/// Says why a verb failed, and gives its exit status.
pub fn fail(globals: &Globals, message: &str, status: u8) -> u8 {
    let line = line(globals, "error", message);
    match append(globals, &line) {
        // In a file for the engine; for a person the words alone.
        Some(Ok(())) => crate::output::remark(message),
        Some(Err(error)) => {
            let path = globals.log.clone().unwrap_or_default();
            crate::output::remark(message);
            crate::output::remark(&format!("cannot log that to {}: {error}", path.display()));
        }
        None => crate::output::remark(line.trim_end()),
    }
    status
}

/// Says that a program could not be executed: without a word of ours before it, as its user reads it.
pub fn fail_to_execute(globals: &Globals, message: &str, status: u8) -> u8 {
    drop(append(globals, &line(globals, "error", message)));
    crate::output::remark(message);
    status
}

/// A step or a warning; to the log file if there is one, else to standard error.
pub fn note(globals: &Globals, level: Level, message: &str) {
    let line = line(globals, if level == Level::Debug { "debug" } else { "warning" }, message);
    match append(globals, &line) {
        Some(Ok(())) => {}
        _ => crate::output::remark(line.trim_end()),
    }
}

/// `None` without a log file.
fn append(globals: &Globals, line: &str) -> Option<std::io::Result<()>> {
    globals.log.as_ref().map(|path| {
        let open = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // One write, so that lines of several verbs do not mix.
        open.and_then(|mut file| file.write_all(line.as_bytes()))
    })
}

fn line(globals: &Globals, level: &str, message: &str) -> String {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if globals.log_format == "json" {
        return format!("{}\n", json!({"level": level, "msg": message, "time": time}));
    }
    format!("time={time:?} level={level} msg={message:?}\n")
}
