//! `--log-driver` and `--log-opt`: from Docker's words to the monitor's plan.
//!
//! Every driver but `none` keeps a bounded file, so that `logs` works with all of them (Docker calls this dual logging);
//! `journald` and `syslog` send each line on.

use super::record::Settings;
use super::table::Entry;
use crate::error::{Error, Kind, Result};
use monitor::LogPlan;
use monitor::forward::{ForwardPlan, SyslogFormat, Target};
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::path::Path;

/// The drivers, and the options of each beside those of all.
const DRIVERS: &[(&str, &[&str])] = &[
    ("journald", &["env", "env-regex", "labels", "labels-regex", "tag"]),
    ("json-file", &["compress", "env", "env-regex", "labels", "labels-regex", "max-file", "max-size", "tag"]),
    ("local", &["compress", "max-file", "max-size"]),
    ("none", &[]),
    (
        "syslog",
        &["env", "env-regex", "labels", "labels-regex", "syslog-address", "syslog-facility", "syslog-format", "tag"],
    ),
];

/// Options of all drivers.
const ALL: &[&str] = &["max-buffer-size", "mode"];

/// Facilities of syslog(3), in the order of their numbers; empty ones are reserved.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Docker's size of the buffer between a container and a slow reader.
const BUFFER: u64 = 1 << 20;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// Refuses what cannot be, when the container is made.
pub(super) fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let settings = Settings { log_driver: driver.to_owned(), log_options: options.clone(), ..Settings::default() };
    plan(&settings, "", "", Path::new("/")).map(drop)
}

/// The plan of a container's log in `directory`.
pub(super) fn of(entry: &Entry, directory: &Path) -> Result<LogPlan> {
    plan(&entry.settings, &entry.id, &entry.name, directory)
}

fn plan(settings: &Settings, id: &str, name: &str, directory: &Path) -> Result<LogPlan> {
    let driver = if settings.log_driver.is_empty() { "json-file" } else { settings.log_driver.as_str() };
    let known = DRIVERS.iter().find(|(known, _)| *known == driver).ok_or_else(|| {
        invalid(format!("logger: no log driver named '{driver}' is registered"))
            .hint("known are json-file, local, journald, syslog and none")
    })?;
    if driver == "none" && !settings.log_options.is_empty() {
        return Err(invalid("invalid logging opts for driver none"));
    }
    if let Some(key) =
        settings.log_options.keys().find(|key| !known.1.contains(&key.as_str()) && !ALL.contains(&key.as_str()))
    {
        return Err(invalid(format!("unknown log opt '{key}' for {driver} log driver"))
            .hint(format!("known are {}", [known.1, ALL].concat().join(", "))));
    }
    let options = Options { settings, id, name };
    let drops = options.drops()?;
    let buffer = usize::try_from(options.size("max-buffer-size")?.unwrap_or(BUFFER)).unwrap_or(usize::MAX);
    if driver == "none" {
        return Ok(LogPlan { client_buffer: drops.then_some(buffer), ..LogPlan::none() });
    }
    let mut plan = LogPlan::json_file(directory.join(format!("{id}-json.log")));
    if driver == "local" {
        (plan.max_size, plan.max_file) = (Some(20 << 20), 5);
    }
    match options.get("max-size") {
        Some("-1") => plan.max_size = None,
        _ => plan.max_size = options.size("max-size")?.or(plan.max_size),
    }
    if let Some(text) = options.get("max-file") {
        plan.max_file = text.parse().ok().filter(|&files| files > 0).ok_or_else(|| options.wrong("max-file"))?;
        if plan.max_size.is_none() && plan.max_file > 1 {
            return Err(invalid("max-file cannot be set without max-size"));
        }
    }
    plan.compress = match options.get("compress") {
        None | Some("true" | "1") => true,
        Some("false" | "0") => false,
        Some(_) => return Err(options.wrong("compress")),
    };
    let attributes = options.attributes()?;
    plan.client_buffer = drops.then_some(buffer);
    plan.forward = options.target(driver, &attributes)?.map(|target| ForwardPlan { target, buffer, drops });
    if driver == "json-file" {
        plan.attributes = attributes;
    }
    Ok(plan)
}

struct Options<'a> {
    settings: &'a Settings,
    id: &'a str,
    name: &'a str,
}

impl Options<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.settings.log_options.get(key).map(String::as_str)
    }

    fn wrong(&self, key: &str) -> Error {
        invalid(format!("invalid --log-opt {key}={}", self.get(key).unwrap_or_default()))
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(|text| size(text).ok_or_else(|| self.wrong(key))).transpose()
    }

    fn drops(&self) -> Result<bool> {
        let drops = match self.get("mode") {
            None | Some("" | "blocking") => false,
            Some("non-blocking") => true,
            Some(other) => {
                return Err(invalid(format!("logger: logging mode not supported: {other}"))
                    .hint("use blocking or non-blocking"));
            }
        };
        if !drops && self.get("max-buffer-size").is_some() {
            return Err(invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"));
        }
        Ok(drops)
    }

    /// What stands beside each line: chosen labels and variables, and the tag if one was chosen.
    fn attributes(&self) -> Result<BTreeMap<String, String>> {
        let mut attributes = BTreeMap::new();
        let wanted = |key: &str| self.get(key).unwrap_or_default().split(',').map(str::trim).collect::<Vec<_>>();
        let (labels, pattern) = (wanted("labels"), self.pattern("labels-regex")?);
        let chosen = |names: &[&str], pattern: &Option<Regex>, key: &str| {
            names.contains(&key) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(key))
        };
        let all = self.settings.labels.iter().filter(|(key, _)| chosen(&labels, &pattern, key));
        attributes.extend(all.map(|(key, value)| (key.clone(), value.clone())));
        let (names, pattern) = (wanted("env"), self.pattern("env-regex")?);
        let pairs = self.settings.env.iter().filter_map(|entry| entry.split_once('='));
        let pairs = pairs.filter(|(key, _)| chosen(&names, &pattern, key));
        attributes.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        if let Some(tag) = self.get("tag").filter(|tag| !tag.is_empty()) {
            attributes.insert("tag".into(), self.tag(tag)?);
        }
        Ok(attributes)
    }

    fn pattern(&self, key: &str) -> Result<Option<Regex>> {
        let pattern = self.get(key).filter(|text| !text.is_empty()).map(Regex::new).transpose();
        pattern.map_err(|error| Error::caused(Kind::InvalidArgument, format!("invalid --log-opt {key}"), error))
    }

    /// Docker's template of a tag.
    fn tag(&self, template: &str) -> Result<String> {
        let image = self.settings.image_id.trim_start_matches("sha256:");
        let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
        let mut result = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let wrong = || {
                invalid(format!("cannot use the tag {template:?} of the log")).hint("known are .ID, .FullID, .Name, .ImageID, .ImageFullID, .ImageName and .DaemonName in double braces")
            };
            let (field, after) = after.split_once("}}").ok_or_else(wrong)?;
            result.push_str(before);
            result.push_str(&match field.trim() {
                ".ID" => short(self.id),
                ".FullID" => self.id.to_owned(),
                ".Name" => self.name.to_owned(),
                ".ImageID" => short(image),
                ".ImageFullID" => self.settings.image_id.clone(),
                ".ImageName" => self.settings.image_name.clone(),
                ".DaemonName" => "dhow".to_owned(),
                _ => return Err(wrong()),
            });
            rest = after;
        }
        result.push_str(rest);
        if result.contains(['\n', '\0']) {
            return Err(invalid("the tag of the log contains a line break or NUL byte"));
        }
        Ok(result)
    }

    fn target(&self, driver: &str, attributes: &BTreeMap<String, String>) -> Result<Option<Target>> {
        let tag = self.tag(self.get("tag").filter(|tag| !tag.is_empty()).unwrap_or("{{.ID}}"))?;
        match driver {
            "journald" => {
                let mut fields = vec![
                    ("CONTAINER_ID".to_owned(), self.id.get(..12).unwrap_or(self.id).to_owned()),
                    ("CONTAINER_ID_FULL".to_owned(), self.id.to_owned()),
                    ("CONTAINER_NAME".to_owned(), self.name.to_owned()),
                    ("CONTAINER_TAG".to_owned(), tag.clone()),
                    ("IMAGE_NAME".to_owned(), self.settings.image_name.clone()),
                    ("SYSLOG_IDENTIFIER".to_owned(), tag),
                ];
                let others = attributes.iter().filter(|(name, _)| *name != "tag");
                fields.extend(others.map(|(name, value)| (journal_name(name), value.clone())));
                Ok(Some(Target::Journal { socket: "/run/systemd/journal/socket".into(), fields }))
            }
            "syslog" => {
                let address = self.get("syslog-address").unwrap_or("unixgram:///dev/log");
                Ok(Some(Target::Syslog {
                    address: self.address(address)?,
                    facility: self.facility()?,
                    format: self.format()?,
                    tag,
                }))
            }
            _ => Ok(None),
        }
    }

    fn address(&self, text: &str) -> Result<String> {
        let wrong = || {
            self.wrong("syslog-address")
                .hint("expected udp://HOST[:PORT], tcp://HOST[:PORT], unix://PATH or unixgram://PATH")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        match scheme {
            "unix" | "unixgram" if rest.starts_with('/') => Ok(text.to_owned()),
            "tcp+tls" => Err(invalid("--log-opt syslog-address: tcp+tls is not supported")
                .hint("let a syslog server on this machine send the lines on, encrypted")),
            "tcp" | "udp" if !rest.is_empty() => {
                let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                // Docker's default, for TCP as well.
                Ok(if has_port { text.to_owned() } else { format!("{text}:514") })
            }
            _ => Err(wrong()),
        }
    }

    fn facility(&self) -> Result<u8> {
        let text = self.get("syslog-facility").unwrap_or("daemon");
        let number = match text.parse::<usize>() {
            Ok(number) => Some(number).filter(|&number| number < FACILITIES.len()),
            Err(_) => FACILITIES.iter().position(|&name| !name.is_empty() && name == text),
        };
        number.and_then(|number| u8::try_from(number).ok()).ok_or_else(|| invalid("invalid syslog facility"))
    }

    fn format(&self) -> Result<SyslogFormat> {
        match self.get("syslog-format") {
            None | Some("") => Ok(SyslogFormat::Local),
            Some("rfc3164") => Ok(SyslogFormat::Rfc3164),
            Some("rfc5424") => Ok(SyslogFormat::Rfc5424),
            Some("rfc5424micro") => Ok(SyslogFormat::Rfc5424Micro),
            Some(_) => Err(invalid("Invalid syslog format")),
        }
    }
}

/// Names of the journal's fields: capitals, digits and underscores, not beginning with one.
fn journal_name(name: &str) -> String {
    let upper: String =
        name.to_uppercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
    upper.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit()).to_owned()
}

fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match lower.get(digits.len()..)? {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(driver: &str, options: &[(&str, &str)]) -> Result<LogPlan> {
        let settings = Settings {
            log_driver: driver.into(),
            log_options: options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            env: vec!["MODE=test".into()],
            image_name: "busybox".into(),
            ..Settings::default()
        };
        plan(&settings, &"0123456789abcdef".repeat(4), "box", Path::new("/d"))
    }

    #[test]
    fn bounded_and_compressed_by_default() {
        let plan = made("", &[]).unwrap();
        assert_eq!((plan.max_size, plan.max_file, plan.compress, plan.client_buffer), (Some(10 << 20), 3, true, None));
        let plan = made("local", &[]).unwrap();
        assert_eq!((plan.max_size, plan.max_file), (Some(20 << 20), 5));
        let plan = made("json-file", &[("max-size", "1k"), ("max-file", "2"), ("compress", "false")]).unwrap();
        assert_eq!((plan.max_size, plan.max_file, plan.compress), (Some(1024), 2, false));
        let plan = made("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "4m")]).unwrap();
        assert_eq!(plan.client_buffer, Some(4 << 20));
    }

    #[test]
    fn attributes_and_tags() {
        let plan =
            made("json-file", &[("labels", "app,none"), ("env", "MODE"), ("tag", "{{.Name}}/{{ .ID }}")]).unwrap();
        let pairs: Vec<_> = plan.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["MODE=test", "app=web", "tag=box/0123456789ab"]);
        let plan = made("json-file", &[("labels-regex", "^ap"), ("env-regex", "^(MODE|X)$")]).unwrap();
        let pairs: Vec<_> = plan.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["MODE=test", "app=web"]);
        let plan =
            made("syslog", &[("syslog-address", "udp://h"), ("syslog-facility", "local3"), ("tag", "x")]).unwrap();
        let Some(Target::Syslog { address, facility, tag, .. }) = plan.forward.map(|forward| forward.target) else {
            panic!()
        };
        assert_eq!((address.as_str(), facility, tag.as_str()), ("udp://h:514", 19, "x"));
        assert_eq!(journal_name("com.example/x-1"), "COM_EXAMPLE_X_1");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (driver, options) in [
            ("paper", &[][..]),
            ("none", &[("max-size", "1m")]),
            ("json-file", &[("syslog-address", "udp://x")]),
            ("json-file", &[("max-size", "lots")]),
            ("json-file", &[("max-file", "0")]),
            ("json-file", &[("max-size", "-1"), ("max-file", "3")]),
            ("json-file", &[("compress", "maybe")]),
            ("json-file", &[("labels-regex", "(")]),
            ("json-file", &[("mode", "fast")]),
            ("json-file", &[("max-buffer-size", "1m")]),
            ("json-file", &[("tag", "{{.Foo}}")]),
            ("json-file", &[("tag", "{{.ID")]),
            ("syslog", &[("syslog-address", "tcp+tls://x:1")]),
            ("syslog", &[("syslog-address", "x")]),
            ("syslog", &[("syslog-facility", "kitchen")]),
            ("syslog", &[("syslog-format", "rfc1")]),
        ] {
            assert_eq!(made(driver, options).unwrap_err().kind(), Kind::InvalidArgument, "{driver} {options:?}");
        }
    }
}
