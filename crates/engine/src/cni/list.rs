//! The configuration of a network: `/etc/cni/net.d/*.conflist`, and the older `*.conf` with one plugin.

use crate::error::{Context, Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// The versions of the specification whose forms this is.
const OLDEST: (u32, u32) = (0, 3);
const NEWEST: (u32, u32) = (1, 1);

/// A network: its plugins in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkList {
    /// Its name.
    pub name: String,
    /// Version of the specification, such as `1.0.0`.
    pub version: String,
    /// Plugins are not to be asked to check.
    pub disable_check: bool,
    /// Plugins are not to be asked to collect, and nothing is detached because nobody names it.
    #[serde(default)]
    pub disable_collection: bool,
    /// What each plugin is configured with.
    pub plugins: Vec<Map<String, Value>>,
}

impl NetworkList {
    /// Reads a configuration; one without `plugins` is itself the only plugin.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for what is none.
    pub fn parse(text: &[u8]) -> Result<NetworkList> {
        let wrong = |what: &str| {
            Error::new(Kind::InvalidArgument, format!("this is no configuration of a CNI network: {what}"))
        };
        let value: Value = serde_json::from_slice(text)
            .kind(Kind::InvalidArgument, || "this is no configuration of a CNI network".into())?;
        let name = value["name"]
            .as_str()
            .filter(|name| is_name(name))
            .ok_or_else(|| wrong("it has no name, or an impossible one"))?;
        let version = value["cniVersion"].as_str().unwrap_or("0.2.0");
        let number = numbers(version).ok_or_else(|| wrong("cniVersion is no version"))?;
        if !(OLDEST..=NEWEST).contains(&number) {
            return Err(wrong(&format!("version {version} is not among 0.3.0 to 1.1.0")));
        }
        let plugins: Vec<Map<String, Value>> = match (&value["plugins"], &value) {
            (Value::Array(all), _) => all.iter().filter_map(|each| each.as_object().cloned()).collect(),
            (Value::Null, Value::Object(only)) => vec![only.clone()],
            _ => Vec::new(),
        };
        if plugins.is_empty() || !plugins.iter().all(|each| each.get("type").is_some_and(Value::is_string)) {
            return Err(wrong("it needs plugins, each with a type"));
        }
        // The specification allows the word, too.
        let is_set = |key: &str| value[key] == true || value[key] == "true";
        let (disable_check, disable_collection) = (is_set("disableCheck"), is_set("disableGC"));
        let (name, version) = (name.to_owned(), version.to_owned());
        Ok(NetworkList { name, version, disable_check, disable_collection, plugins })
    }

    /// The network of that name among the files of a directory, which count in the order of their names.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::InvalidArgument`] if a file of that network is wrong.
    pub fn find(directory: &Path, name: &str) -> Result<NetworkList> {
        let entries =
            std::fs::read_dir(directory).kind(Kind::NotFound, || format!("cannot read {}", directory.display()))?;
        let files = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut files: Vec<_> =
            files.collect::<std::io::Result<_>>().internal(|| format!("cannot read {}", directory.display()))?;
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| ["conflist", "conf", "json"].iter().any(|known| extension == *known))
        });
        files.sort();
        for path in files {
            let text = std::fs::read(&path).internal(|| format!("cannot read {}", path.display()))?;
            // A file of another network may be as it likes.
            let is_it = serde_json::from_slice::<Value>(&text).is_ok_and(|value| value["name"] == name);
            if is_it {
                return NetworkList::parse(&text);
            }
        }
        Err(Error::new(Kind::NotFound, format!("no CNI network {name} in {}", directory.display())))
    }

    /// Whether the version is at least that.
    pub(super) fn is_at_least(&self, major: u32, minor: u32) -> bool {
        numbers(&self.version).is_some_and(|number| number >= (major, minor))
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let list = br#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
        let list = NetworkList::parse(list).unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len()), ("pods", 2));
        assert!(list.is_at_least(0, 4) && !list.is_at_least(1, 1));
        assert_eq!(
            NetworkList::parse(br#"{"cniVersion":"0.3.1","name":"one","type":"bridge"}"#).unwrap().plugins.len(),
            1
        );
        for wrong in [
            r#"{}"#,
            r#"{"name":"../x","cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#,
            r#"{"name":"x","cniVersion":"2.0.0","plugins":[{"type":"a"}]}"#,
            r#"{"name":"x","cniVersion":"1.0.0","plugins":[]}"#,
            r#"{"name":"x","cniVersion":"1.0.0","plugins":[{}]}"#,
            "[",
        ] {
            assert!(NetworkList::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
