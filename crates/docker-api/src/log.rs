//! What the server tells of itself: entries with fields, which whoever started it writes where they belong.

use serde_json::{Map, Value};
use std::sync::Arc;

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every request.
    Debug,
    /// What happens to the server, and who was denied what.
    Info,
    /// What should not be so.
    Warning,
    /// What went wrong here.
    Error,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warn",
            Level::Error => "error",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// How much it matters.
    pub level: Level,
    /// A sentence without data in it.
    pub message: &'static str,
    /// The data.
    pub fields: Map<String, Value>,
}

/// Where entries go.
#[derive(Clone)]
pub struct Log {
    least: Level,
    sink: Arc<dyn Fn(&Entry) + Send + Sync>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("least", &self.least).finish_non_exhaustive()
    }
}

impl Log {
    /// Gives entries from `least` on to `sink`, which is called by several threads.
    pub fn new(least: Level, sink: impl Fn(&Entry) + Send + Sync + 'static) -> Log {
        Log { least, sink: Arc::new(sink) }
    }

    /// Nothing is told.
    pub fn silent() -> Log {
        Log::new(Level::Error, |_| ())
    }

    /// Tells something; `fields` is called only if somebody listens, and gives an object.
    pub fn tell(&self, level: Level, message: &'static str, fields: impl FnOnce() -> Value) {
        if level < self.least {
            return;
        }
        let fields = match fields() {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        (self.sink)(&Entry { level, message, fields });
    }
}
