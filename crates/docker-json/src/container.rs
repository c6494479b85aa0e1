//! A container as `GET /containers/{id}/json` answers.

use crate::block_io::{BlockIo, block_io};
use crate::endpoints::{Binding, NetworkSettings, bindings, network_settings};
use crate::mounts::{MountPoint, bind, mount_point, tmpfs};
use crate::overlaid::Overlaid;
use crate::{Empty, Error, time, with_protocol};
use engine::{Container, NetworkMode, Settings, Status, Ulimit};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Seconds that `stop` waits where nobody said anything: what Docker does not show.
const DEFAULT_STOP_TIMEOUT: i64 = 10;

/// The container as a JSON value.
pub fn value(container: &Container) -> Result<Value, Error> {
    crate::to_value(&Inspect::new(container)?)
}

/// The names of the networks that a container is on.
pub fn network_names(container: &Container) -> Vec<String> {
    match &container.settings.network {
        NetworkMode::Bridge if container.networks.is_empty() => vec!["bridge".to_owned()],
        NetworkMode::Bridge => container.networks.iter().map(|endpoint| endpoint.network.clone()).collect(),
        NetworkMode::Host => vec!["host".to_owned()],
        NetworkMode::None => vec!["none".to_owned()],
        NetworkMode::Container(_) => Vec::new(),
    }
}

/// The command as lists show it: arguments with a blank in them stand in quotes.
pub fn command_line(settings: &Settings) -> String {
    let mut line = String::new();
    for (number, word) in settings.entrypoint.iter().chain(&settings.command).enumerate() {
        let quotes = if number > 0 && word.contains(' ') { "'" } else { "" };
        if number > 0 {
            line.push(' ');
        }
        line.extend([quotes, word, quotes]);
    }
    line
}

/// Docker's word for a container's health.
pub fn health_word(container: &Container) -> &'static str {
    container.health.as_ref().map_or("none", |health| health.status.name())
}

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspect {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: State,
    image: String,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    mount_label: String,
    process_label: String,
    app_armor_profile: String,
    /// Sessions of `exec` that run or can be started.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    host_config: Overlaid<HostConfig>,
    graph_driver: GraphDriver,
    mounts: Vec<MountPoint>,
    config: Overlaid<Config>,
    network_settings: NetworkSettings,
    /// Bytes that the container has written, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// The same with what it has of its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i32,
    exit_code: i32,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
    log: Vec<Probe>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Probe {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<Empty>,
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: &'static str,
    log_config: LogConfig,
    network_mode: String,
    port_bindings: BTreeMap<String, Vec<Binding>>,
    restart_policy: RestartPolicy,
    auto_remove: bool,
    volume_driver: &'static str,
    volumes_from: Option<Vec<String>>,
    console_size: [u16; 2],
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    cgroupns_mode: String,
    dns: Vec<String>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: String,
    cgroup: &'static str,
    links: Option<Vec<String>>,
    oom_score_adj: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    umask: Option<u32>,
    pid_mode: String,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage_opt: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    uts_mode: String,
    userns_mode: String,
    /// Podman's.
    #[serde(rename = "IDMappings", skip_serializing_if = "Option::is_none")]
    id_mappings: Option<IdMappings>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    device_cgroup_rules: Option<Vec<String>>,
    shm_size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<String, String>,
    runtime: String,
    isolation: &'static str,
    cpu_shares: u64,
    memory: i64,
    nano_cpus: i64,
    cgroup_parent: String,
    cpu_period: u64,
    cpu_quota: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    devices: Vec<Device>,
    device_requests: Option<Vec<DeviceRequest>>,
    memory_reservation: i64,
    memory_swap: i64,
    memory_swappiness: Option<u64>,
    #[serde(flatten)]
    block_io: BlockIo,
    cpu_realtime_period: u64,
    cpu_realtime_runtime: i64,
    oom_kill_disable: Option<bool>,
    pids_limit: Option<i64>,
    ulimits: Vec<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
    #[serde(flatten)]
    of_windows: OfWindows,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
}

/// Limits of Windows, which Docker shows everywhere.
/// `CONTAINER:HOST:SIZE` each.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdMappings {
    uid_map: Vec<String>,
    gid_map: Vec<String>,
}

impl IdMappings {
    fn of(maps: &engine::IdMaps) -> Self {
        let texts = |maps: &[oci::runtime::LinuxIDMapping]| {
            maps.iter().map(|map| format!("{}:{}:{}", map.container_id, map.host_id, map.size)).collect()
        };
        Self { uid_map: texts(&maps.uids), gid_map: texts(&maps.gids) }
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OfWindows {
    cpu_count: u64,
    cpu_percent: u64,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    r#type: String,
    config: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: &'static str,
    maximum_retry_count: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceRequest {
    driver: &'static str,
    count: i64,
    #[serde(rename = "DeviceIDs")]
    device_ids: Vec<String>,
    capabilities: Option<Vec<Vec<String>>>,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Device {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Limit {
    name: String,
    hard: i64,
    soft: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Empty>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    image: String,
    volumes: Option<BTreeMap<String, Empty>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_build: Option<Option<Vec<String>>>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<oci::image::Healthcheck>,
}

/// What `Mounts` shows: a tmpfs only if it was asked for as a mount, and not in `HostConfig.Tmpfs`.
fn shown(settings: &Settings) -> impl Iterator<Item = &engine::Mount> {
    settings.mounts.iter().filter(|mount| tmpfs(mount).is_none() || is_noted(settings, mount))
}

/// Whether a mount stands in `HostConfig.Mounts`.
fn is_noted(settings: &Settings, mount: &engine::Mount) -> bool {
    let mounts = settings.front_end.pointer("/HostConfig/Mounts").and_then(Value::as_array);
    let target = |asked: &Value| Some(asked.get("Target")?.as_str()?.trim_end_matches('/').to_owned());
    mounts.into_iter().flatten().any(|asked| target(asked).as_deref() == Some(mount.target.trim_end_matches('/')))
}

impl Inspect {
    /// Docker's view of a record.
    ///
    /// # Errors
    /// For what cannot be written as JSON.
    pub fn new(container: &Container) -> Result<Inspect, Error> {
        let settings = &container.settings;
        let noted = &settings.front_end;
        let removed = noted.get("Removed").and_then(Value::as_array).into_iter().flatten();
        let mut config = config(settings);
        config.env.extend(removed.filter_map(|name| Some(name.as_str()?.to_owned())));
        let mut words = settings.entrypoint.iter().chain(&settings.command).cloned();
        let file = |name: &str| container.directory.join(name).display().to_string();
        Ok(Inspect {
            id: container.id.clone(),
            created: time(&container.created_at),
            path: words.next().unwrap_or_default(),
            args: words.collect(),
            state: state(container),
            image: settings.image_id.clone(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: match settings.log_driver.as_str() {
                "journald" | "local" | "none" | "syslog" => String::new(),
                _ => file(&format!("{}-json.log", container.id)),
            },
            name: format!("/{}", container.name),
            restart_count: container.run.restart_count,
            driver: "overlayfs",
            platform: "linux",
            mount_label: String::new(),
            process_label: String::new(),
            app_armor_profile: security(settings, "apparmor"),
            exec_ids: None,
            host_config: Overlaid::new(
                HostConfig { links: links(container), ..host_config(settings) },
                noted,
                "HostConfig",
            )?,
            graph_driver: GraphDriver { data: None, name: "overlayfs" },
            mounts: shown(settings).map(|mount| mount_point(container, mount)).collect(),
            config: Overlaid::new(config, noted, "Config")?,
            network_settings: network_settings(container),
            size_rw: None,
            size_root_fs: None,
        })
    }

    /// With the place on the default bridge in the fields that held it before there were networks; Docker's API shows them up to
    /// 1.51.
    pub fn on_the_default_bridge(mut self) -> Inspect {
        self.network_settings.show_old_fields();
        self
    }

    /// As versions since 1.52 have it: networks alone, and no `OnBuild` that says nothing.
    pub fn of_docker_29(mut self) -> Inspect {
        self.network_settings.hide_the_default_bridge();
        match &mut self.config {
            Overlaid::Plain(config) => config.on_build = None,
            Overlaid::Changed(config) => {
                let says = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
                if let Some(fields) = config.as_object_mut() {
                    fields.retain(|name, value| name != "OnBuild" || says(value));
                }
            }
        }
        self
    }
}

fn state(container: &Container) -> State {
    let run = &container.run;
    let running = container.status.is_running();
    State {
        status: container.status.name(),
        running,
        paused: container.status == Status::Paused,
        restarting: container.status == Status::Restarting,
        oom_killed: run.oom_killed,
        dead: false,
        pid: if running { run.pid } else { 0 },
        exit_code: run.exit_code,
        error: run.error.clone(),
        started_at: time(&run.started_at),
        finished_at: time(&run.finished_at),
        health: container.health.as_ref().map(health),
    }
}

fn health(health: &engine::Health) -> Health {
    let probe = |probe: &engine::Probe| Probe {
        start: probe.start.clone(),
        end: probe.end.clone(),
        exit_code: probe.exit_code,
        output: probe.output.clone(),
    };
    Health {
        status: health.status.name(),
        failing_streak: health.failing_streak,
        log: health.log.iter().map(probe).collect(),
    }
}

/// The value of a security option.
fn security(settings: &Settings, key: &str) -> String {
    let value = |option: &String| Some(option.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    settings.security_options.iter().find_map(value).unwrap_or_default()
}

pub(crate) fn network_mode(settings: &Settings) -> String {
    match &settings.network {
        NetworkMode::Bridge => settings.networks.first().map_or("bridge", |first| first.network.as_str()).to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
    }
}

/// Docker prints `null` for lists that nobody gave.
pub(crate) fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn host_config(settings: &Settings) -> HostConfig {
    let (limits, (masked_paths, readonly_paths)) = (&settings.limits, settings.hidden_paths().unzip());
    HostConfig {
        binds: some(&settings.mounts.iter().filter_map(bind).collect::<Vec<_>>()),
        container_id_file: "",
        log_config: LogConfig { r#type: or(&settings.log_driver, "json-file"), config: settings.log_options.clone() },
        network_mode: network_mode(settings),
        port_bindings: bindings(&settings.ports),
        restart_policy: RestartPolicy {
            name: settings.restart.name(),
            maximum_retry_count: settings.restart.maximum(),
        },
        auto_remove: settings.auto_remove,
        volume_driver: "",
        volumes_from: some(&settings.volumes_from),
        console_size: settings.terminal_size.map_or([0, 0], |(rows, columns)| [rows, columns]),
        cap_add: some(&settings.cap_add),
        cap_drop: some(&settings.cap_drop),
        cgroupns_mode: settings.cgroup_namespace.clone(),
        dns: settings.dns.clone(),
        dns_options: settings.dns_options.clone(),
        dns_search: settings.dns_search.clone(),
        extra_hosts: some(&settings.extra_hosts),
        group_add: some(&settings.group_add),
        ipc_mode: or(&settings.ipc_mode, "private"),
        cgroup: "",
        links: None,
        oom_score_adj: settings.oom_score_adj.unwrap_or(0),
        umask: settings.umask,
        pid_mode: settings.pid_mode.clone(),
        privileged: settings.privileged,
        publish_all_ports: settings.publish_all,
        readonly_rootfs: settings.read_only,
        security_opt: some(&settings.security_options),
        storage_opt: settings.storage_options.clone(),
        tmpfs: settings.mounts.iter().filter(|mount| !is_noted(settings, mount)).filter_map(tmpfs).collect(),
        uts_mode: settings.uts_mode.clone(),
        userns_mode: settings.userns_mode.clone(),
        id_mappings: settings.id_maps.as_ref().map(IdMappings::of),
        annotations: settings.annotations.clone(),
        device_cgroup_rules: some(&settings.device_rules),
        shm_size: settings.shm_size,
        sysctls: settings.sysctls.clone(),
        runtime: settings.runtime.as_ref().map_or_else(|| engine::runtimes::OWN.into(), |runtime| runtime.name.clone()),
        isolation: "",
        cpu_shares: limits.cpu_shares.unwrap_or(0),
        memory: limits.memory.unwrap_or(0),
        nano_cpus: limits.nano_cpus.unwrap_or(0),
        cgroup_parent: settings.cgroup_parent.clone(),
        cpu_period: limits.cpu_period.unwrap_or(0),
        cpu_quota: limits.cpu_quota.unwrap_or(0),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        devices: settings.devices.iter().filter(|text| text.starts_with('/')).map(|text| device(text)).collect(),
        device_requests: device_requests(settings),
        memory_reservation: limits.memory_reservation.unwrap_or(0),
        memory_swap: memory_swap(limits),
        memory_swappiness: limits.memory_swappiness,
        block_io: block_io(&limits.io),
        cpu_realtime_period: limits.cpu_realtime_period.unwrap_or(0),
        cpu_realtime_runtime: limits.cpu_realtime_runtime.unwrap_or(0),
        oom_kill_disable: limits.oom_kill_disable.then_some(true),
        pids_limit: limits.pids.map(|taken| taken.max(0)),
        ulimits: settings.ulimits.iter().map(ulimit).collect(),
        init: settings.init.then_some(true),
        of_windows: OfWindows::default(),
        masked_paths,
        readonly_paths,
    }
}

/// Links on the default bridge; those of other networks stand with their networks.
fn links(container: &Container) -> Option<Vec<String>> {
    let on_bridge = container.networks.iter().filter(|endpoint| endpoint.network == "bridge");
    let link = |text: &String| {
        let (other, name) = text.split_once(':').unwrap_or((text, text));
        format!("/{other}:/{}/{name}", container.name)
    };
    some(&on_bridge.flat_map(|endpoint| endpoint.request.links.iter().map(link)).collect::<Vec<_>>())
}

/// Devices by CDI, in the form that Docker gives them.
fn device_requests(settings: &Settings) -> Option<Vec<DeviceRequest>> {
    let names: Vec<String> = settings.devices.iter().filter(|text| !text.starts_with('/')).cloned().collect();
    let request = |device_ids| DeviceRequest { driver: "cdi", count: 0, device_ids, capabilities: None, options: None };
    (!names.is_empty()).then(|| vec![request(names)])
}

/// The text, or what stands for an empty one.
fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}

/// As much swap as memory where nobody said anything; Docker counts the two together.
fn memory_swap(limits: &engine::Limits) -> i64 {
    limits.memory_swap.filter(|swap| *swap != 0).or(limits.memory.map(|memory| memory * 2)).unwrap_or(0)
}

fn device(text: &str) -> Device {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host, second] if !second.starts_with('/') => (*host, *host, *second),
        [host] => (*host, *host, "rwm"),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions, ..] => (*host, *container, *permissions),
        [] => ("", "", ""),
    };
    Device { path_on_host: host.into(), path_in_container: container.into(), cgroup_permissions: permissions.into() }
}

fn ulimit(limit: &Ulimit) -> Limit {
    Limit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft }
}

fn config(settings: &Settings) -> Config {
    let exposed =
        settings.exposed_ports.iter().map(|port| with_protocol(port)).chain(bindings(&settings.ports).into_keys());
    let volumes: BTreeMap<String, Empty> = settings.volumes.iter().map(|path| (path.clone(), Empty {})).collect();
    Config {
        hostname: settings.hostname.clone(),
        domainname: settings.domainname.clone(),
        user: settings.user.clone(),
        attach_stdin: settings.stdin_once.unwrap_or(settings.open_stdin),
        attach_stdout: true,
        attach_stderr: true,
        exposed_ports: exposed.map(|port| (port, Empty {})).collect(),
        tty: settings.terminal,
        open_stdin: settings.open_stdin,
        stdin_once: settings.stdin_once.unwrap_or(settings.open_stdin),
        env: settings.env.clone(),
        cmd: some(&settings.command),
        image: settings.image_name.clone(),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: settings.working_directory.clone(),
        entrypoint: some(&settings.entrypoint),
        on_build: Some(None),
        labels: settings.labels.clone(),
        stop_signal: settings.stop_signal.clone(),
        stop_timeout: Some(settings.stop_timeout).filter(|seconds| *seconds != DEFAULT_STOP_TIMEOUT),
        healthcheck: settings.health.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::running;

    #[test]
    fn what_was_noted_stands_above_the_settings() {
        let mut c = running();
        let plain = value(&c).unwrap();
        c.settings.front_end = serde_json::json!({
            "Config": { "Image": "asked", "New": 1 }, "HostConfig": { "Binds": null }, "Removed": ["GONE"],
        });
        let noted = value(&c).unwrap();
        let mut expected = plain.clone();
        expected["Config"]["Image"] = "asked".into();
        expected["Config"]["New"] = 1.into();
        expected["Config"]["Env"].as_array_mut().unwrap().push("GONE".into());
        expected["HostConfig"]["Binds"] = Value::Null;
        assert_eq!(noted.to_string(), expected.to_string());
        assert_ne!(plain["HostConfig"]["Binds"], Value::Null);
    }

    #[test]
    fn the_default_bridge_in_old_fields() {
        let c = running();
        let shown = crate::to_value(&Inspect::new(&c).unwrap().on_the_default_bridge()).unwrap();
        let settings = shown["NetworkSettings"].as_object().unwrap();
        assert_eq!(settings["EndpointID"], settings["Networks"]["bridge"]["EndpointID"]);
        let behind: Vec<&str> = settings.keys().map(String::as_str).skip_while(|name| *name != "Networks").collect();
        let expected = [
            "Networks",
            "EndpointID",
            "GlobalIPv6Address",
            "GlobalIPv6PrefixLen",
            "IPv6Gateway",
            "HairpinMode",
            "LinkLocalIPv6Address",
            "LinkLocalIPv6PrefixLen",
            "SecondaryIPAddresses",
            "SecondaryIPv6Addresses",
        ];
        assert_eq!(behind, expected);
        assert_eq!(value(&c).unwrap()["NetworkSettings"].get("EndpointID"), None);
    }

    #[test]
    fn what_docker_29_no_longer_shows() {
        let mut c = running();
        let whole = crate::to_value(&Inspect::new(&c).unwrap().on_the_default_bridge()).unwrap();
        let shown = |c: &Container| crate::to_value(&Inspect::new(c).unwrap().of_docker_29()).unwrap();
        let new = shown(&c);
        let names: Vec<&str> = new["NetworkSettings"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["SandboxID", "SandboxKey", "Ports", "Networks"]);
        assert_eq!(new["NetworkSettings"]["Networks"], whole["NetworkSettings"]["Networks"]);
        assert_eq!((whole["Config"].get("OnBuild"), new["Config"].get("OnBuild")), (Some(&Value::Null), None));
        assert_eq!(new["Config"]["Cmd"], whole["Config"]["Cmd"]);
        c.settings.front_end = serde_json::json!({ "Config": { "OnBuild": [], "Shell": ["a"] } });
        assert_eq!((shown(&c)["Config"].get("OnBuild"), &shown(&c)["Config"]["Shell"][0]), (None, &"a".into()));
        c.settings.front_end = serde_json::json!({ "Config": { "OnBuild": ["RUN a"] } });
        assert_eq!(shown(&c)["Config"]["OnBuild"][0], "RUN a");
    }

    #[test]
    fn one_that_has_ended() {
        let mut c = running();
        c.status = Status::Exited;
        c.networks[0].place = None;
        c.run.finished_at = "2026-01-02T12:00:00Z".into();
        let value = value(&c).unwrap();
        assert_eq!(value["State"]["Pid"], 0);
        assert_eq!(value["State"]["ExitCode"], 3);
        assert_eq!(value["NetworkSettings"]["Ports"], serde_json::json!({}));
        assert_eq!(value["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "");
    }
}
