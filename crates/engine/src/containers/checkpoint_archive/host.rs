//! What a container of an archive asks of the host that imports it.
//!
//! Nobody sees an archive's settings before they are in force, so what a user would have had to ask for at a `run` is named
//! and refused unless the caller allows it (as CVE-2024-8676 was of another engine: mounts came in with a checkpoint).

use crate::containers::options::{MountSource, NetworkMode};
use crate::containers::record::Settings;
use crate::containers::settle::DEFAULT_CAPABILITIES;

/// Each in the words of the command line; empty for a container that is confined as one is by default.
pub(super) fn asked(settings: &Settings) -> Vec<String> {
    let mut asked = Vec::new();
    for mount in &settings.mounts {
        match &mount.source {
            MountSource::Bind { path, .. } => asked.push(format!("a mount of the host's {path:?}")),
            MountSource::Volume(volume) if volume.options.contains_key("device") => {
                asked.push(format!("a volume of the host's device {:?}", volume.options["device"]));
            }
            _ => {}
        }
    }
    if settings.privileged {
        asked.push("--privileged".to_owned());
    }
    let more = settings.capabilities.iter().filter(|name| !DEFAULT_CAPABILITIES.contains(&name.as_str()));
    asked.extend(more.chain(&settings.cap_add).map(|name| format!("--cap-add {name}")));
    asked.extend(settings.devices.iter().map(|device| format!("--device {device}")));
    asked.extend(settings.device_rules.iter().map(|rule| format!("--device-cgroup-rule {rule:?}")));
    asked.extend(settings.security_options.iter().map(|option| format!("--security-opt {option}")));
    asked.extend(settings.sysctls.keys().map(|name| format!("--sysctl {name}")));
    asked.extend(settings.annotations.keys().map(|name| format!("--annotation {name}")));
    asked.extend(settings.secrets.iter().map(|one| format!("the secret or configuration {:?}", one.name)));
    if settings.masked_paths.is_some() || settings.readonly_paths.is_some() {
        asked.push("its own list of hidden or read-only paths".to_owned());
    }
    match &settings.network {
        NetworkMode::Host => asked.push("--network host".to_owned()),
        NetworkMode::Container(id) => asked.push(format!("--network container:{id}")),
        NetworkMode::Bridge | NetworkMode::None => {}
    }
    let foreign = |mode: &str| mode == "host" || mode.starts_with("container:");
    for (flag, mode) in [
        ("--pid", &settings.pid_mode),
        ("--ipc", &settings.ipc_mode),
        ("--uts", &settings.uts_mode),
        ("--cgroupns", &settings.cgroup_namespace),
    ] {
        asked.extend(foreign(mode).then(|| format!("{flag} {mode}")));
    }
    for (flag, value) in [("--cgroup-parent", &settings.cgroup_parent), ("--userns", &settings.userns_mode)] {
        asked.extend((!value.is_empty()).then(|| format!("{flag} {value}")));
    }
    asked.extend(settings.runtime.as_ref().map(|runtime| format!("--runtime {}", runtime.name)));
    if settings.oom_score_adj.is_some_and(|score| score < 0) {
        asked.push("--oom-score-adj below zero".to_owned());
    }
    if !matches!(settings.log_driver.as_str(), "" | "json-file" | "local" | "none") {
        asked.push(format!("--log-driver {}", settings.log_driver));
    }
    asked.sort();
    asked.dedup();
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_named() {
        let capabilities = DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
        let mut settings = Settings { capabilities, ..Settings::default() };
        assert!(asked(&settings).is_empty());
        settings.capabilities.push("CAP_SYS_ADMIN".to_owned());
        settings.pid_mode = "host".to_owned();
        settings.network = NetworkMode::Host;
        settings.annotations.insert("org.criu.config".to_owned(), "/x".to_owned());
        let all = ["--annotation org.criu.config", "--cap-add CAP_SYS_ADMIN", "--network host", "--pid host"];
        assert_eq!(asked(&settings), all);
    }
}
