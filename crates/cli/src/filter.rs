//! `--filter KEY=VALUE`: values of one key are alternatives, keys must all hold; several labels must all hold.

pub use docker_json::pattern::{describes, found};

use crate::failure::{Failure, Usage};
use std::collections::BTreeMap;

/// The filters of a command line, checked against the keys that a list knows.
#[derive(Debug, Default)]
pub struct Filters {
    values: Vec<(String, String)>,
}

impl Filters {
    /// Reads the flags.
    pub fn new(flags: &[String], known: &[&str]) -> Result<Filters, Failure> {
        let mut values = Vec::new();
        for flag in flags {
            let Some((key, value)) = flag.split_once('=') else { return Err(malformed(flag)) };
            let key = key.trim().to_ascii_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(Failure::new(format!("invalid filter '{key}'")));
            }
            values.push((key, value.trim().to_owned()));
        }
        Ok(Filters { values })
    }

    /// The values of one key.
    pub fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        self.of(key).next().is_some()
    }

    /// Whether no filter on `key` was given, or one of them holds.
    pub fn any(&self, key: &str, mut holds: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.of(key).any(&mut holds)
    }

    /// Whether all filters on `label` hold, and none on `label!` does.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.of("label").all(has) && !self.of("label!").any(has)
    }
}

fn malformed(flag: &str) -> Failure {
    Failure::Usage(Usage {
        message: format!(
            "invalid argument {flag:?} for \"-f, --filter\" flag: bad format of filter (expected name=value)"
        ),
        usage: "for example --filter name=web".into(),
        flag: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading() {
        let flags = ["status=running", "status=paused", "label=a=b", "label=c"].map(String::from);
        let filters = Filters::new(&flags, &["status", "label"]).unwrap();
        assert!(filters.any("status", |value| value == "paused"));
        assert!(!filters.any("status", |value| value == "exited"));
        assert!(filters.any("name", |_| false));
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert!(filters.labels(&labels(&[("a", "b"), ("c", "")])));
        assert!(!filters.labels(&labels(&[("a", "b")])));
        assert!(!filters.labels(&labels(&[("a", "x"), ("c", "")])));
        let unknown = Filters::new(&["foo=1".into()], &[]).unwrap_err();
        assert_eq!(unknown.render(), "dhow: error: invalid filter 'foo'\n");
        assert!(Filters::new(&["foo".into()], &["foo"]).is_err());
    }
}
