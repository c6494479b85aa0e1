//! The events that a container's monitor writes down: it alone sees all of them, whoever caused them.

use super::{Type, container_attributes, record};
use crate::containers::record::Settings;
use monitor::{Exit, Monitor, Occurrence};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the plan tells the monitor's role: the attributes of its container's events.
pub(crate) fn for_caller(name: &str, settings: &Settings) -> Value {
    // Strings always become JSON.
    serde_json::to_value(container_attributes(name, settings)).unwrap_or_default()
}

fn attributes(caller: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(caller.clone()).unwrap_or_default()
}

/// Writes down what a monitor tells of.
pub(crate) fn observer(data: PathBuf, id: String) -> monitor::Observer {
    Box::new(move |occurrence, caller| {
        let note = |action: &str, more: &[(&str, &str)]| {
            let mut attributes = attributes(caller);
            attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
            record(&data, Type::Container, action, &id, attributes);
        };
        match occurrence {
            Occurrence::Started => note("start", &[]),
            Occurrence::ExecStarted { id, command } => {
                let words = command.join(" ");
                note(&format!("exec_create: {words}"), &[("execID", id)]);
                note(&format!("exec_start: {words}"), &[("execID", id)]);
            }
            Occurrence::ExecEnded { id, exit } => {
                note("exec_die", &[("execID", id), ("exitCode", &exit.exit_code.to_string())]);
            }
            Occurrence::Signalled(signal) => note("kill", &[("signal", &signal.to_string())]),
            Occurrence::Ending | Occurrence::Resting => {}
            Occurrence::Paused => note("pause", &[]),
            Occurrence::Unpaused => note("unpause", &[]),
            Occurrence::Resized(size) => {
                note("resize", &[("height", &size.rows.to_string()), ("width", &size.columns.to_string())]);
            }
            Occurrence::OutOfMemory => note("oom", &[]),
            Occurrence::Health(status) => note(&format!("health_status: {}", status.name()), &[]),
        }
    })
}

/// The end of a run.
pub(crate) fn record_end(monitor: &Monitor, exit: &Exit, data: &Path) {
    let mut attributes = attributes(&monitor.plan().caller);
    let ran = crate::restart::duration(monitor.started_at(), &exit.finished_at).as_secs();
    attributes.insert("execDuration".into(), ran.to_string());
    attributes.insert("exitCode".into(), exit.exit_code.to_string());
    record(data, Type::Container, "die", &monitor.plan().id, attributes);
}

/// The first half of a restart that somebody asked for.
pub(crate) fn record_stop(monitor: &Monitor, data: &Path) {
    record(data, Type::Container, "stop", &monitor.plan().id, attributes(&monitor.plan().caller));
}
