//! `filters={"label":["a=b"]}`: values of one key are alternatives, keys must all hold; labels must all hold.

use crate::failure::Failure;
use serde_json::Value;
use std::collections::BTreeMap;

/// The filters of a list or a prune.
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the parameter `filters`: keys to lists, or keys to sets as before 1.22.
    ///
    /// # Errors
    /// 400 for what is no such document, or a key that is not known.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Filters, Failure> {
        let Some(text) = text else { return Ok(Filters::default()) };
        let invalid = || Failure::bad(format!("invalid filters: {text:?} is not a JSON object of lists"));
        let Ok(Value::Object(document)) = serde_json::from_str(text) else { return Err(invalid()) };
        let mut all = BTreeMap::new();
        for (key, values) in document {
            if !known.contains(&key.as_str()) {
                return Err(Failure::bad(format!("invalid filter '{key}'")));
            }
            let values: Option<Vec<String>> = match values {
                Value::Array(list) => list.into_iter().map(word).collect(),
                Value::Object(set) => {
                    Some(set.into_iter().filter(|(_, on)| *on != Value::Bool(false)).map(|(key, _)| key).collect())
                }
                Value::Null => continue,
                _ => None,
            };
            all.insert(key, values.ok_or_else(invalid)?);
        }
        Ok(Filters(all))
    }

    /// Adds a value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// The values of one key.
    pub fn of(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        !self.of(key).is_empty()
    }

    /// Whether no filter on `key` was given, or one of them holds.
    pub fn any(&self, key: &str, mut holds: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.of(key).iter().any(|value| holds(value))
    }

    /// Whether all filters on `label`, and none on `label!`, hold.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| holds(labels, wanted);
        self.of("label").iter().all(holds) && !self.of("label!").iter().any(holds)
    }

    /// Whether annotations are those that are wanted: `KEY` or `KEY=VALUE`.
    pub fn annotations(&self, annotations: &BTreeMap<String, String>) -> bool {
        self.of("annotation").iter().all(|wanted| holds(annotations, wanted))
    }

    /// The values of a key as pairs; without an equals sign the second is absent.
    pub fn pairs(&self, key: &str) -> Vec<(String, Option<String>)> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        self.of(key).iter().map(pair).collect()
    }

    /// A switch such as `dangling`; `None` when it was not given.
    ///
    /// # Errors
    /// 400 for what is neither true nor false.
    pub fn switch(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.of(key) {
            [] => Ok(None),
            [value] => match value.as_str() {
                "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(Some(true)),
                "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(Some(false)),
                _ => Err(Failure::bad(format!("invalid filter '{key}={value}'"))),
            },
            values => Err(Failure::bad(format!("invalid filter '{key}={values:?}'"))),
        }
    }
}

/// docker-py writes numbers and switches as such.
fn word(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

/// Whether there is a `KEY`, or a `KEY=VALUE`.
fn holds(pairs: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => pairs.get(key).is_some_and(|found| found == value),
        None => pairs.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        for text in [r#"{"label":["a=b","c"]}"#, r#"{"label":{"a=b":true,"c":true,"d":false}}"#] {
            let filters = Filters::parse(Some(text), &["label"]).unwrap();
            let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            assert!(filters.labels(&labels(&[("a", "b"), ("c", "")])), "{text}");
            assert!(!filters.labels(&labels(&[("a", "b")])), "{text}");
        }
        assert!(Filters::parse(Some("{"), &[]).is_err());
        assert!(Filters::parse(Some(r#"{"x":["1"]}"#), &["y"]).is_err());
        assert_eq!(Filters::parse(Some(r#"{"x":["1"]}"#), &["x"]).unwrap().switch("x").unwrap(), Some(true));
        assert!(Filters::parse(None, &[]).unwrap().any("x", |_| false));
    }
}
