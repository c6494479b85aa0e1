//! What engines read when a verb fails: the log file, in logrus's two forms, and standard error.

use std::io::Write;

use serde_json::json;

use super::Globals;

/// Says why a verb failed, and gives its exit status.
pub fn fail(globals: &Globals, message: &str, status: u8) -> u8 {
    let line = line(globals, message);
    let written = globals.log.as_ref().map(|path| {
        let open = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // One write, so that lines of several verbs do not mix.
        open.and_then(|mut file| file.write_all(line.as_bytes()))
    });
    match written {
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

fn line(globals: &Globals, message: &str) -> String {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if globals.log_format == "json" {
        return format!("{}\n", json!({"level": "error", "msg": message, "time": time}));
    }
    format!("time={time:?} level=error msg={message:?}\n")
}
