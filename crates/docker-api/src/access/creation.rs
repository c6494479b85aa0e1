//! What clients of less than the full tier may make: nothing that has power over the host, and with nobody else's things.
//!
//! Looked at is what the engine will be given, after the translation of the request, with names replaced by identifiers
//! where another could take the name over in between.

use super::peer::Peer;
use super::policy::Tier;
use crate::failure::Failure;
use engine::{
    Driver, Engine, Mount, MountSource, NetworkMode, NetworkOptions, NewVolume, Options, Settings, VolumeMount,
    VolumesFrom,
};
use std::collections::BTreeMap;

/// The part of a container's configuration in which power over the host can lie.
struct Powers<'a> {
    privileged: bool,
    capabilities: &'a [String],
    devices: &'a [String],
    device_rules: &'a [String],
    security: &'a [String],
    /// Covered and read-only paths of the client's own, in place of those that keep the host's secrets.
    hidden: [&'a Option<Vec<String>>; 2],
    mounts: &'a [Mount],
    network: &'a NetworkMode,
    /// Namespaces by name and mode.
    namespaces: [(&'static str, &'a str); 5],
    cgroup_parent: &'a str,
    oom_score: i32,
    log_driver: &'a str,
    annotations: &'a BTreeMap<String, String>,
    runtime: &'a str,
}

impl<'a> Powers<'a> {
    fn of_options(options: &'a Options) -> Powers<'a> {
        let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        Powers {
            privileged: options.privileged,
            capabilities: &options.cap_add,
            devices: &options.devices,
            device_rules: &options.device_rules,
            security: &options.security_options,
            hidden: [&options.masked_paths, &options.readonly_paths],
            mounts: &options.mounts,
            network: &options.network,
            namespaces: [
                ("pid", text(&options.pid_mode)),
                ("ipc", text(&options.ipc_mode)),
                ("uts", text(&options.uts_mode)),
                ("user", text(&options.userns_mode)),
                ("cgroup", text(&options.cgroup_namespace)),
            ],
            cgroup_parent: text(&options.cgroup_parent),
            oom_score: options.oom_score_adj.unwrap_or(0),
            log_driver: text(&options.log_driver),
            annotations: &options.annotations,
            runtime: text(&options.runtime),
        }
    }

    fn of_settings(settings: &'a Settings) -> Powers<'a> {
        Powers {
            privileged: settings.privileged,
            capabilities: &settings.cap_add,
            devices: &settings.devices,
            device_rules: &settings.device_rules,
            security: &settings.security_options,
            hidden: [&settings.masked_paths, &settings.readonly_paths],
            mounts: &settings.mounts,
            network: &settings.network,
            namespaces: [
                ("pid", &settings.pid_mode),
                ("ipc", &settings.ipc_mode),
                ("uts", &settings.uts_mode),
                ("user", &settings.userns_mode),
                ("cgroup", &settings.cgroup_namespace),
            ],
            cgroup_parent: &settings.cgroup_parent,
            oom_score: settings.oom_score_adj.unwrap_or(0),
            log_driver: &settings.log_driver,
            annotations: &settings.annotations,
            runtime: settings.runtime.as_ref().map_or("", |runtime| &runtime.name),
        }
    }

    /// The first power over the host that is found, in words.
    fn found(&self) -> Option<String> {
        let capability = self.capabilities.iter().find(|name| !is_default(name));
        let security = self.security.iter().find(|option| !option.starts_with("no-new-privileges"));
        let namespace = self.namespaces.iter().find(|(_, mode)| *mode == "host");
        let words = |name: &str, value: &str| format!("{name} {value}");
        if self.privileged {
            return Some("a privileged container".into());
        }
        capability
            .map(|name| words("the capability", name))
            .or_else(|| self.devices.first().map(|device| words("the device", device)))
            .or_else(|| self.device_rules.first().map(|rule| words("the device rule", rule)))
            .or_else(|| security.map(|option| words("the security option", option)))
            .or_else(|| self.bared().map(|path| words("showing", &path)))
            .or_else(|| self.mounts.iter().find_map(host_mount))
            .or_else(|| (*self.network == NetworkMode::Host).then(|| "the host's network".into()))
            .or_else(|| namespace.map(|(name, _)| format!("the host's {name} namespace")))
            .or_else(|| (!self.cgroup_parent.is_empty()).then(|| words("the parent cgroup", self.cgroup_parent)))
            .or_else(|| (self.oom_score < 0).then(|| words("the OOM score", &self.oom_score.to_string())))
            // The others speak to sockets and services of the host.
            .or_else(|| {
                (!matches!(self.log_driver, "" | "json-file" | "local" | "none"))
                    .then(|| words("the log driver", self.log_driver))
            })
            .or_else(|| {
                (!matches!(self.runtime, "" | "dhow" | "runc" | "io.containerd.runc.v2"))
                    .then(|| words("the runtime", self.runtime))
            })
            .or_else(|| self.annotations.keys().next().map(|key| words("the annotation", key)))
    }

    /// A path that is covered or read-only by default and would not be. Clients that make a container anew send the
    /// paths that they were shown.
    fn bared(&self) -> Option<String> {
        let (masked, readonly) = Settings::default().hidden_paths()?;
        let missing = |asked: &Option<Vec<String>>, default: Vec<String>| {
            let asked = asked.as_ref()?;
            default.into_iter().find(|path| !asked.contains(path))
        };
        let [covered, fixed] = self.hidden;
        missing(covered, masked).or_else(|| missing(fixed, readonly))
    }

    /// Containers whose namespaces it shares.
    fn partners(&self) -> Vec<String> {
        let network = match self.network {
            NetworkMode::Container(name) => Some(name.clone()),
            _ => None,
        };
        let others = self.namespaces.iter().filter_map(|(_, mode)| Some(mode.strip_prefix("container:")?.to_owned()));
        network.into_iter().chain(others).collect()
    }
}

/// Docker's default capabilities: who adds one of them adds nothing.
fn is_default(name: &str) -> bool {
    const DEFAULT: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let name = name.to_ascii_uppercase();
    DEFAULT.contains(&name.strip_prefix("CAP_").unwrap_or(&name))
}

fn host_mount(mount: &Mount) -> Option<String> {
    match &mount.source {
        MountSource::Bind { path, .. } => Some(format!("the host's {path}")),
        MountSource::Volume(volume) => driver_options(&volume.options),
        MountSource::Tmpfs { .. } | MountSource::Image(_) => None,
    }
}

/// A volume's options can mount anything of the host; only memory of its own is nothing of the host's.
fn driver_options(options: &BTreeMap<String, String>) -> Option<String> {
    let of_memory = options.get("type").is_some_and(|kind| kind == "tmpfs")
        && !options.get("o").is_some_and(|words| words.split(',').any(|word| matches!(word, "bind" | "rbind")));
    (!options.is_empty() && !of_memory).then(|| format!("volumes with the options {options:?}"))
}

/// How many containers may share namespaces one behind the other.
const DEPTH: usize = 8;

/// The power over the host that a container has, by itself or by what it shares.
fn power(engine: &Engine, settings: &Settings, depth: usize) -> Result<Option<String>, Failure> {
    let powers = Powers::of_settings(settings);
    if let Some(found) = powers.found() {
        return Ok(Some(found));
    }
    for mount in &settings.mounts {
        let MountSource::Volume(volume) = &mount.source else { continue };
        if let Some(found) = volume_power(engine, &volume.name)? {
            return Ok(Some(found));
        }
    }
    for partner in powers.partners() {
        if depth == 0 {
            return Ok(Some("too long a chain of shared namespaces".into()));
        }
        match engine.inspect(&partner) {
            Ok(other) => {
                if let Some(found) = power(engine, &other.settings, depth - 1)? {
                    return Ok(Some(found));
                }
            }
            Err(error) if error.kind() == engine::Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn volume_power(engine: &Engine, name: &str) -> Result<Option<String>, Failure> {
    match engine.volume(name) {
        Ok(volume) => Ok(driver_options(&volume.options)),
        Err(error) if error.kind() == engine::Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The identifier of a container that a client may use as if it were inside.
///
/// # Errors
/// 403 when it is another's, or has power over the host; 404.
pub fn usable(engine: &Engine, peer: &Peer, wanted: &str) -> Result<String, Failure> {
    let container = engine.inspect(wanted)?;
    if peer.is_confined() && !peer.made(&container) {
        return Err(peer.denied(&format!("the container {wanted} is not yours")));
    }
    // A secret was given to a container, and not to whoever may look into containers.
    if peer.tier != Tier::Full && !container.settings.secrets.is_empty() && !peer.made(&container) {
        return Err(peer.denied(&format!("the container {wanted} holds secrets of another's")));
    }
    // One's own may have got more since: from a client of a higher tier, by an update.
    match power(engine, &container.settings, DEPTH)? {
        Some(found) if peer.tier != Tier::Full => {
            Err(peer.denied(&format!("the container {wanted} has power over the host: {found}")))
        }
        _ => Ok(container.id),
    }
}

impl Peer {
    /// Checks a container that this client wants, and binds its names to identifiers.
    ///
    /// # Errors
    /// 403 for what its tier may not have; 404 for a container that it names and that is not there.
    pub fn check_container(&self, engine: &Engine, options: &mut Options) -> Result<(), Failure> {
        if self.tier == Tier::Full {
            return Ok(());
        }
        if let Some(found) = Powers::of_options(options).found() {
            return Err(self.denied(&format!("{found} is not allowed")));
        }
        if let NetworkMode::Container(name) = &mut options.network {
            *name = usable(engine, self, name)?;
        }
        for mode in [&mut options.pid_mode, &mut options.ipc_mode, &mut options.uts_mode] {
            let Some(name) = mode.as_deref().and_then(|mode| mode.strip_prefix("container:")) else { continue };
            *mode = Some(format!("container:{}", usable(engine, self, name)?));
        }
        for VolumesFrom { container, .. } in &mut options.volumes_from {
            *container = usable(engine, self, container)?;
        }
        for mount in &mut options.mounts {
            if let MountSource::Volume(volume) = &mut mount.source {
                self.check_mounted_volume(engine, volume)?;
            }
        }
        for request in &mut options.networks {
            self.check_network_use(engine, &request.network)?;
            self.check_links(engine, &mut request.links)?;
        }
        if let serde_json::Value::Object(noted) = &mut options.front_end {
            noted.insert("Owner".into(), self.owner().into());
        }
        Ok(())
    }

    /// A volume that is mounted is made first, so that whose it is can be told for certain.
    fn check_mounted_volume(&self, engine: &Engine, mount: &mut VolumeMount) -> Result<(), Failure> {
        self.mark(&mut mount.labels)?;
        if mount.anonymous || mount.name.is_empty() {
            return Ok(());
        }
        let new = NewVolume {
            name: Some(mount.name.clone()),
            driver: mount.driver.clone(),
            options: mount.options.clone(),
            labels: mount.labels.clone(),
        };
        let volume = engine.create_volume(&new)?;
        if let Some(found) = driver_options(&volume.options) {
            return Err(self.denied(&format!("the volume {} is not allowed: {found}", mount.name)));
        }
        if !self.owns(&volume.labels) {
            return Err(self.denied(&format!("the volume {} is not yours", mount.name)));
        }
        Ok(())
    }

    /// Checks that a container of this client may be on a network.
    ///
    /// # Errors
    /// 403 for another's network, 404 for one that is not there.
    pub fn check_network_use(&self, engine: &Engine, name: &str) -> Result<(), Failure> {
        if self.tier == Tier::Full {
            return Ok(());
        }
        let (network, _) = engine.network(name)?;
        if matches!(network.settings.driver, Driver::Host) {
            return Err(self.denied("the host's network is not allowed"));
        }
        if !self.is_confined() {
            return Ok(());
        }
        if network.is_predefined() || self.owns(&network.settings.labels) {
            return Ok(());
        }
        Err(self.denied(&format!("the network {name} is not yours")))
    }

    /// The container that this client wants on a network, or off it.
    ///
    /// # Errors
    /// 403 for another's, 404.
    pub fn check_connected(&self, engine: &Engine, name: String) -> Result<String, Failure> {
        if self.is_confined() { usable(engine, self, &name) } else { Ok(name) }
    }

    /// Checks links, which tell of the other container where it is, and binds them to identifiers: another's could have the name later.
    ///
    /// # Errors
    /// 403 for another's, 404.
    pub fn check_links(&self, engine: &Engine, links: &mut [String]) -> Result<(), Failure> {
        if !self.is_confined() {
            return Ok(());
        }
        for link in links {
            let (wanted, name) = link.split_once(':').unwrap_or((link.as_str(), link.as_str()));
            *link = format!("{}:{name}", usable(engine, self, wanted)?);
        }
        Ok(())
    }

    /// Checks a volume that this client wants to make.
    ///
    /// # Errors
    /// 403 for options that mount what is the host's.
    pub fn check_volume(&self, new: &mut NewVolume) -> Result<(), Failure> {
        if self.tier == Tier::Full {
            return Ok(());
        }
        if let Some(found) = driver_options(&new.options) {
            return Err(self.denied(&format!("{found} is not allowed")));
        }
        self.mark(&mut new.labels)
    }

    /// Checks a network that this client wants to make.
    ///
    /// # Errors
    /// 403 for options that take over what is the host's.
    pub fn check_network(&self, options: &mut NetworkOptions) -> Result<(), Failure> {
        const HARMLESS: &[&str] = &[
            "com.docker.network.bridge.enable_icc",
            "com.docker.network.bridge.enable_ip_masquerade",
            "com.docker.network.bridge.gateway_mode_ipv4",
            "com.docker.network.bridge.gateway_mode_ipv6",
            "com.docker.network.driver.mtu",
            "mtu",
        ];
        if self.tier == Tier::Full {
            return Ok(());
        }
        if options.driver != Driver::Bridge {
            return Err(self.denied("networks of other drivers than bridge are not allowed"));
        }
        if let Some(name) = options.options.keys().find(|name| !HARMLESS.contains(&name.as_str())) {
            return Err(self.denied(&format!("the network option {name} is not allowed")));
        }
        self.mark(&mut options.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl FnOnce(&mut Options)) -> Option<String> {
        let mut options = Options::default();
        change(&mut options);
        Powers::of_options(&options).found()
    }

    fn volume(options: &[(&str, &str)]) -> Mount {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let source = MountSource::Volume(VolumeMount { options, ..VolumeMount::default() });
        Mount { source, target: "/x".into(), read_only: false, relabel: None }
    }

    #[test]
    fn every_way_to_the_host() {
        assert_eq!(found(|_| ()), None);
        assert_eq!(found(|o| o.cap_add = vec!["chown".into(), "CAP_KILL".into()]), None);
        assert_eq!(found(|o| o.mounts = vec![volume(&[("type", "tmpfs"), ("device", "tmpfs")])]), None);
        assert_eq!(found(|o| o.ipc_mode = Some("shareable".into())), None);
        assert!(found(|o| o.privileged = true).is_some());
        assert!(found(|o| o.cap_add = vec!["SYS_ADMIN".into()]).is_some());
        assert!(found(|o| o.cap_add = vec!["all".into()]).is_some());
        assert!(found(|o| o.devices = vec!["/dev/sda".into()]).is_some());
        assert!(found(|o| o.device_rules = vec!["a *:* rwm".into()]).is_some());
        assert!(found(|o| o.security_options = vec!["seccomp=unconfined".into()]).is_some());
        assert!(found(|o| o.network = NetworkMode::Host).is_some());
        assert!(found(|o| o.pid_mode = Some("host".into())).is_some());
        assert!(found(|o| o.ipc_mode = Some("host".into())).is_some());
        assert!(found(|o| o.uts_mode = Some("host".into())).is_some());
        assert!(found(|o| o.userns_mode = Some("host".into())).is_some());
        assert!(found(|o| o.cgroup_namespace = Some("host".into())).is_some());
        assert!(found(|o| o.cgroup_parent = Some("/".into())).is_some());
        assert!(found(|o| o.oom_score_adj = Some(-1)).is_some());
        assert!(found(|o| o.log_driver = Some("syslog".into())).is_some());
        assert!(found(|o| o.annotations = [("a".to_owned(), String::new())].into()).is_some());
        let bind = [("type", "none"), ("o", "bind"), ("device", "/")];
        assert!(found(|o| o.mounts = vec![volume(&bind)]).is_some());
        // A tmpfs whose options say that it is none.
        let disguised = [("type", "tmpfs"), ("o", "size=1m,bind"), ("device", "/")];
        assert!(found(|o| o.mounts = vec![volume(&disguised)]).is_some());
        let nfs = [("type", "nfs"), ("o", "addr=1.2.3.4"), ("device", ":/")];
        assert!(found(|o| o.mounts = vec![volume(&nfs)]).is_some());
        let bind = MountSource::Bind {
            path: "/".into(),
            create: false,
            propagation: None,
            recursive: true,
            below: Default::default(),
            id_map: false,
        };
        let bind = Mount { source: bind, target: "/host".into(), read_only: true, relabel: None };
        assert!(found(|o| o.mounts = vec![bind]).is_some());
    }
}
