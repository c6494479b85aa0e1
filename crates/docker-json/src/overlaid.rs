//! A part of an answer with what the front end noted at the creation above what the settings say: it is nearer to what was asked.

use crate::Error;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A part as it is, or with fields of others in their places or behind its own.
#[derive(Debug)]
pub(crate) enum Overlaid<T> {
    /// Nothing was noted: no need for a copy as values, which takes longer than all the rest.
    Plain(T),
    /// Something was.
    Changed(Value),
}

impl<T: Serialize> Overlaid<T> {
    /// The part with the fields noted under its name.
    pub fn new(part: T, noted: &Value, name: &str) -> Result<Self, Error> {
        match noted.get(name).and_then(Value::as_object).filter(|fields| !fields.is_empty()) {
            None => Ok(Self::Plain(part)),
            Some(fields) => changed(&part, fields).map(Self::Changed),
        }
    }
}

fn changed(part: &impl Serialize, fields: &Map<String, Value>) -> Result<Value, Error> {
    let mut value = crate::to_value(part)?;
    for (name, field) in fields {
        value[name] = field.clone();
    }
    Ok(value)
}

impl<T: Serialize> Serialize for Overlaid<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(part) => part.serialize(serializer),
            Self::Changed(value) => value.serialize(serializer),
        }
    }
}
