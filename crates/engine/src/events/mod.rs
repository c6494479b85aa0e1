//! What happens to containers, images, networks and volumes, written down by whoever does it.
//!
//! There is no daemon that could see everything, so each process appends one line to a journal below the data root, under
//! a lock that is held for that one write: lines are whole, and their times rise. Readers need no lock; they follow the
//! file with inotify. An event that cannot be written (a full disk) is lost and nothing else fails.
//!
//! ```text
//! <data>/events/journal      the current file: one JSON object in a line       0600
//! <data>/events/journal.1    the one before it
//! ```

mod filter;
mod journal;
mod of_monitor;
mod reader;

use crate::containers::record::Settings;
use crate::engine::Engine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use filter::EventFilter;
pub(crate) use of_monitor::{for_caller, observer, record_end, record_stop};
pub use reader::{EventOptions, EventReader};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// A container; the actor is its identifier.
    Container,
    /// The engine itself.
    Daemon,
    /// An image; the actor is its identifier, or its name.
    Image,
    /// A network; the actor is its identifier.
    Network,
    /// A volume; the actor is its name.
    Volume,
}

impl Type {
    /// The word that Docker uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Type::Container => "container",
            Type::Daemon => "daemon",
            Type::Image => "image",
            Type::Network => "network",
            Type::Volume => "volume",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since 1970, UTC.
    pub time: i64,
    /// What it happened to.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What happened, in Docker's words: `start`, `die`, `exec_create: ls`, `health_status: healthy`.
    pub action: String,
    /// Identifier of the thing.
    #[serde(rename = "id")]
    pub actor: String,
    /// Name, image, labels, and what belongs to the action, such as `exitCode`.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Engine {
    /// Writes an event down. It cannot fail in a way that the caller should care about.
    pub fn record_event(&self, kind: Type, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        record(&self.directories().data, kind, action, actor, attributes);
    }

    /// Writes an event of a container down; `more` is what belongs to the action.
    pub(crate) fn record_of(&self, id: &str, name: &str, settings: &Settings, action: &str, more: &[(&str, &str)]) {
        let mut attributes = container_attributes(name, settings);
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.record_event(Type::Container, action, id, attributes);
    }

    /// Writes down that somebody left a container, or an exec session of it, by its keys.
    pub fn record_detach(&self, id: &str, session: Option<&str>) {
        let found = self.database().and_then(|database| crate::containers::table::find(database.read(), id));
        // One that is gone has nothing to be said of it.
        let Ok(entry) = found else { return };
        match session {
            None => self.record_of(&entry.id, &entry.name, &entry.settings, "detach", &[]),
            Some(session) => {
                self.record_of(&entry.id, &entry.name, &entry.settings, "exec_detach", &[("execID", session)]);
            }
        }
    }

    /// Reads events, old ones and those to come.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn events(&self, options: EventOptions) -> crate::Result<EventReader> {
        EventReader::open(&self.directories().data, options)
    }
}

/// Writes an event down, for a process that has no engine open. `data` is the data root.
pub fn record(data: &std::path::Path, kind: Type, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
    // What could be said about a failure has no reader here, and what happened has happened.
    let event = Event { time: 0, kind, action: action.to_owned(), actor: actor.to_owned(), attributes };
    journal::append(data, event).unwrap_or_default();
}

/// What every event of a container says about it: its labels, image and name.
pub(crate) fn container_attributes(name: &str, settings: &Settings) -> BTreeMap<String, String> {
    let mut attributes = settings.labels.clone();
    attributes.insert("image".into(), settings.image_name.clone());
    attributes.insert("name".into(), name.to_owned());
    attributes
}
