//! The command line's own part of Docker's `config.json`: formats of lists, and the keys that leave a container.

use crate::failure::Failure;
use monitor::detach_keys::DetachKeys;
use serde::Deserialize;
use std::path::PathBuf;

/// What a list prints when no `--format` is given, and more. Fields of other programs are left alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    /// `--detach-keys` of `attach`, `exec`, `run` and `start`.
    pub detach_keys: String,
    /// Of `config ls`.
    pub config_format: String,
    /// Of `images`.
    pub images_format: String,
    /// Of `network ls`.
    pub networks_format: String,
    /// Of `ps`.
    pub ps_format: String,
    /// Of `secret ls`.
    pub secret_format: String,
    /// Of `stats`.
    pub stats_format: String,
    /// Of `volume ls`.
    pub volumes_format: String,
}

/// The directory of `config.json`. `--config` has become `DOCKER_CONFIG` before a verb begins.
pub fn directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")))
}

impl Configuration {
    /// Reads the file. One that cannot be used is said and has no effect, as in Docker; none is an empty one.
    pub fn read() -> Configuration {
        let Some(path) = directory().map(|directory| directory.join("config.json")) else {
            return Configuration::default();
        };
        let Ok(text) = std::fs::read_to_string(&path) else { return Configuration::default() };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            crate::output::remark(&format!("WARNING: Error loading config file: {}: {error}", path.display()));
            Configuration::default()
        })
    }

    /// The keys that leave a container.
    pub fn detach_keys(&self) -> Result<DetachKeys, Failure> {
        if self.detach_keys.is_empty() {
            return Ok(DetachKeys::default());
        }
        let wrong = |error: monitor::Error| Failure::caused("detachKeys in config.json cannot be used", error);
        self.detach_keys.parse().map_err(wrong)
    }
}

/// The format of a list: the flag's, else the one in `config.json` unless only identifiers are wanted.
pub fn format(flag: Option<&String>, quiet: bool, of: impl FnOnce(Configuration) -> String) -> Option<String> {
    match flag {
        Some(format) => Some(format.clone()),
        None if quiet => None,
        None => Some(of(Configuration::read())).filter(|format| !format.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_strangers() {
        let text = r#"{"auths": {}, "psFormat": "table {{.ID}}", "detachKeys": "ctrl-x,x", "HttpHeaders": {"a": "b"}}"#;
        let read: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!((read.ps_format.as_str(), read.images_format.as_str()), ("table {{.ID}}", ""));
        assert!(read.detach_keys().is_ok());
        let wrong = Configuration { detach_keys: "ctrl-".into(), ..Configuration::default() };
        assert!(wrong.detach_keys().is_err());
        assert_eq!(format(Some(&"json".to_owned()), false, |_| unreachable!()), Some("json".into()));
        assert_eq!(format(None, true, |_| unreachable!()), None);
    }
}
