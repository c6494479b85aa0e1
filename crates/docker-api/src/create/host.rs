//! `HostConfig`: limits, namespaces, privileges, mounts, ports.

use super::{devices, given, mounts, ports, says};
use crate::failure::Failure;
use crate::version::Version;
use engine::{IoLimits, Limits, Options, RestartPolicy, Ulimit};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    pub(super) binds: Option<Vec<String>>,
    pub(super) mounts: Option<Vec<mounts::Asked>>,
    pub(super) tmpfs: Option<BTreeMap<String, String>>,
    pub(super) port_bindings: Option<BTreeMap<String, Option<Vec<ports::Binding>>>>,
    log_config: Option<LogConfig>,
    pub(super) network_mode: Option<String>,
    pub(super) links: Option<Vec<String>>,
    volumes_from: Option<Vec<String>>,
    pub(super) volume_driver: Option<String>,
    storage_opt: Option<BTreeMap<String, String>>,
    console_size: Option<[u16; 2]>,
    restart_policy: Option<RestartAsked>,
    auto_remove: Option<bool>,
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    cgroupns_mode: Option<String>,
    dns: Option<Vec<String>>,
    dns_options: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: Option<String>,
    oom_score_adj: Option<i32>,
    umask: Option<u32>,
    pid_mode: Option<String>,
    privileged: Option<bool>,
    publish_all_ports: Option<bool>,
    readonly_rootfs: Option<bool>,
    security_opt: Option<Vec<String>>,
    #[serde(rename = "UTSMode")]
    uts_mode: Option<String>,
    shm_size: Option<i64>,
    sysctls: Option<BTreeMap<String, String>>,
    runtime: Option<String>,
    cgroup_parent: Option<String>,
    devices: Option<Vec<Device>>,
    ulimits: Option<Vec<Limit>>,
    device_requests: Option<Vec<devices::Request>>,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    init: Option<bool>,
    annotations: Option<BTreeMap<String, String>>,
    device_cgroup_rules: Option<Vec<String>>,
    userns_mode: Option<String>,
    #[serde(flatten)]
    limits: LimitsAsked,
    /// Everything else.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfig {
    r#type: Option<String>,
    config: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartAsked {
    name: Option<String>,
    maximum_retry_count: Option<i64>,
}

impl RestartAsked {
    /// Whether it says anything.
    pub(crate) fn is_named(&self) -> bool {
        self.name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// The engine's policy.
    ///
    /// # Errors
    /// 400 for an unknown name, or a count where none belongs.
    pub(crate) fn policy(&self) -> Result<RestartPolicy, Failure> {
        let count = self.maximum_retry_count.unwrap_or(0);
        let maximum = u32::try_from(count).map_err(|_| Failure::bad("maximum retry count cannot be negative"))?;
        let policy = match self.name.as_deref().unwrap_or_default() {
            "" | "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => return Ok(RestartPolicy::OnFailure { maximum }),
            name => {
                return Err(Failure::bad(format!(
                    "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
                )));
            }
        };
        if maximum > 0 {
            return Err(Failure::bad("invalid restart policy: maximum retry count can only be used with 'on-failure'"));
        }
        Ok(policy)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Device {
    path_on_host: String,
    path_in_container: Option<String>,
    cgroup_permissions: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Limit {
    name: String,
    soft: i64,
    hard: Option<i64>,
}

/// Fields that Docker gives an effect and the engine does not have yet.
const UNSUPPORTED: &[&str] = &["Cgroup"];

/// Refuses what Docker gives an effect and the engine does not have yet.
///
/// # Errors
/// 501 with the field's name.
pub(crate) fn refuse(others: &BTreeMap<String, Value>) -> Result<(), Failure> {
    if let Some(name) = UNSUPPORTED.iter().find(|name| others.get(**name).is_some_and(says)) {
        return Err(Failure::unsupported(&format!("HostConfig.{name}")));
    }
    Ok(())
}

/// What Docker tells of limits that kernels have not had since 5.4, or only with cgroup v1, and otherwise leaves aside;
/// since 1.42, or 1.52, it does so without a word.
pub(crate) fn discarded(others: &BTreeMap<String, Value>, version: Version) -> Vec<String> {
    let gone = [("KernelMemory", "a kernel memory limit", 42), ("KernelMemoryTCP", "a limit of memory for TCP", 52)];
    let said = gone.iter().filter(|(name, _, since)| version < Version(*since) && others.get(*name).is_some_and(says));
    said.map(|(name, what, _)| format!("{name} was discarded: Linux no longer has {what} of its own")).collect()
}

impl HostConfig {
    /// What is left aside, in sentences for the client.
    pub(super) fn discarded(&self, version: Version) -> Vec<String> {
        discarded(&self.others, version)
    }

    pub(super) fn apply(self, options: &mut Options, version: Version) -> Result<(), Failure> {
        self.refuse()?;
        self.check_modes()?;
        options.mounts = mounts::all(&self)?;
        options.ports = ports::published(&self)?;
        options.publish_all = self.publish_all_ports.unwrap_or(false);
        options.terminal_size = self
            .console_size
            .filter(|[rows, columns]| *rows > 0 && *columns > 0)
            .map(|[rows, columns]| (rows, columns));
        options.restart = self.restart()?;
        options.volumes_from = mounts::volumes_from(self.volumes_from.as_deref().unwrap_or_default())?;
        options.storage_options = self.storage_opt.clone().unwrap_or_default();
        options.limits = self.limits.limits()?;
        options.shm_size = match self.shm_size {
            Some(size) if size < 0 => return Err(Failure::bad("SHM size can not be less than 0")),
            size => size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0),
        };
        options.security_options = self.security()?;
        options.devices = self.devices.iter().flatten().map(device).collect();
        options.devices.extend(devices::names(self.device_requests.as_deref().unwrap_or_default())?);
        (options.masked_paths, options.readonly_paths) = self.hidden_paths();
        options.ulimits = self.ulimits.iter().flatten().map(ulimit).collect();
        options.auto_remove = self.auto_remove.unwrap_or(false);
        options.cap_add = self.cap_add.unwrap_or_default();
        options.cap_drop = self.cap_drop.unwrap_or_default();
        options.cgroup_namespace = given(self.cgroupns_mode);
        options.dns = self.dns.unwrap_or_default();
        options.dns_options = self.dns_options.unwrap_or_default();
        options.dns_search = self.dns_search.unwrap_or_default();
        options.extra_hosts = self.extra_hosts.unwrap_or_default();
        options.group_add = self.group_add.unwrap_or_default();
        // Until 1.40 other containers could join an IPC namespace that nobody said anything about.
        let usual = (version < Version(40)).then(|| "shareable".to_owned());
        options.ipc_mode = given(self.ipc_mode).or(usual);
        options.oom_score_adj = self.oom_score_adj.filter(|score| *score != 0);
        options.umask = self.umask;
        options.pid_mode = given(self.pid_mode);
        options.privileged = self.privileged.unwrap_or(false);
        options.read_only = self.readonly_rootfs.unwrap_or(false);
        options.uts_mode = given(self.uts_mode);
        options.sysctls = self.sysctls.unwrap_or_default();
        options.cgroup_parent = given(self.cgroup_parent);
        options.init = self.init.unwrap_or(false);
        options.annotations = self.annotations.unwrap_or_default();
        options.device_rules = self.device_cgroup_rules.unwrap_or_default();
        options.userns_mode = given(self.userns_mode);
        options.runtime = given(self.runtime);
        let log = self.log_config.unwrap_or_default();
        options.log_driver = given(log.r#type);
        options.log_options = log.config.unwrap_or_default();
        Ok(())
    }

    fn refuse(&self) -> Result<(), Failure> {
        refuse(&self.others)?;
        if self.others.get("Isolation").is_some_and(|isolation| says(isolation) && isolation != "default") {
            return Err(Failure::bad("invalid isolation: Linux knows only the default"));
        }
        if self.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
            let text = "invalid Annotations: the empty string is not permitted as an annotation key";
            return Err(Failure::bad(text));
        }
        Ok(())
    }

    /// Refuses what is no mode of a namespace, in Docker's words: those of the engine name flags of the command line.
    fn check_modes(&self) -> Result<(), Failure> {
        let known: [(&str, &Option<String>, &[&str]); 3] = [
            ("IPC", &self.ipc_mode, &["host", "none", "private", "shareable"]),
            ("PID", &self.pid_mode, &["host", "private"]),
            ("UTS", &self.uts_mode, &["host", "private"]),
        ];
        for (what, mode, words) in known {
            let Some(mode) = mode.as_deref().filter(|mode| !mode.is_empty()) else { continue };
            let other = mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
            if !other && !words.contains(&mode) {
                return Err(Failure::bad(format!("invalid {what} mode: {mode}")));
            }
        }
        Ok(())
    }

    fn restart(&self) -> Result<RestartPolicy, Failure> {
        self.restart_policy.as_ref().map_or(Ok(RestartPolicy::No), RestartAsked::policy)
    }

    /// Docker's command line writes `systempaths=unconfined` as empty lists of masked and read-only paths.
    fn is_without_hidden_paths(&self) -> bool {
        let empty = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(Vec::is_empty);
        empty(&self.masked_paths) && empty(&self.readonly_paths)
    }

    /// Covered and read-only paths of the client's own.
    fn hidden_paths(&self) -> (Option<Vec<String>>, Option<Vec<String>>) {
        match self.is_without_hidden_paths() {
            true => (None, None),
            false => (self.masked_paths.clone(), self.readonly_paths.clone()),
        }
    }

    fn security(&self) -> Result<Vec<String>, Failure> {
        let mut options = Vec::new();
        for text in self.security_opt.iter().flatten() {
            // Before 1.11 a colon stood where the equals sign stands now.
            let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
                Some(pair) => pair,
                None if matches!(text.as_str(), "no-new-privileges" | "writable-cgroups") => {
                    options.push(text.clone());
                    continue;
                }
                None => return Err(Failure::bad(format!("invalid --security-opt 1: {text:?}"))),
            };
            match key {
                "writable-cgroups" if matches!(value, "true" | "false") => options.push(format!("{key}={value}")),
                "no-new-privileges" | "seccomp" | "apparmor" | "label" => options.push(format!("{key}={value}")),
                _ => return Err(Failure::bad(format!("invalid --security-opt 2: {text:?}"))),
            }
        }
        if self.is_without_hidden_paths() {
            options.push("systempaths=unconfined".into());
        }
        Ok(options)
    }
}

fn device(device: &Device) -> String {
    let inside = device.path_in_container.as_deref().filter(|path| !path.is_empty()).unwrap_or(&device.path_on_host);
    let permissions = device.cgroup_permissions.as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    format!("{}:{inside}:{permissions}", device.path_on_host)
}

fn ulimit(limit: &Limit) -> Ulimit {
    Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard.unwrap_or(limit.soft) }
}

/// The limits, as creations and updates carry them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LimitsAsked {
    blkio_weight: Option<u16>,
    blkio_weight_device: Option<Vec<WeightAsked>>,
    blkio_device_read_bps: Option<Vec<RateAsked>>,
    blkio_device_write_bps: Option<Vec<RateAsked>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Option<Vec<RateAsked>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Option<Vec<RateAsked>>,
    cpu_realtime_period: Option<i64>,
    cpu_realtime_runtime: Option<i64>,
    memory_swappiness: Option<i64>,
    oom_kill_disable: Option<bool>,
    cpu_shares: Option<i64>,
    memory: Option<i64>,
    nano_cpus: Option<i64>,
    cpu_period: Option<i64>,
    cpu_quota: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    memory_reservation: Option<i64>,
    memory_swap: Option<i64>,
    pids_limit: Option<i64>,
}

impl LimitsAsked {
    fn cpu_shares(&self) -> Result<Option<u64>, Failure> {
        let Some(shares) = self.cpu_shares.filter(|shares| *shares != 0) else { return Ok(None) };
        let refused = |_| Failure::bad(format!("invalid CPU shares ({shares}): value must be a positive integer"));
        u64::try_from(shares).map(Some).map_err(refused)
    }

    /// The engine's limits, for one that is there: a limit of processes can be taken away, since 1.40.
    ///
    /// # Errors
    /// As [`Self::limits`].
    pub(crate) fn changes(&self, version: Version) -> Result<Limits, Failure> {
        let pids = self.pids_limit.filter(|_| version >= Version(40));
        Ok(Limits { pids: pids.map(|limit| if limit <= 0 { -1 } else { limit }), ..self.limits()? })
    }

    /// The engine's limits.
    ///
    /// # Errors
    /// 400 for a negative number where none belongs.
    pub(crate) fn limits(&self) -> Result<Limits, Failure> {
        let positive = |name: &str, value: Option<i64>| match value.filter(|value| *value != 0) {
            None => Ok(None),
            Some(value) => {
                u64::try_from(value).map(Some).map_err(|_| Failure::bad(format!("invalid {name}: {value} is negative")))
            }
        };
        let some = |value: Option<i64>| value.filter(|value| *value != 0);
        Ok(Limits {
            memory: some(self.memory),
            memory_swap: some(self.memory_swap),
            memory_reservation: some(self.memory_reservation),
            nano_cpus: some(self.nano_cpus),
            cpu_shares: self.cpu_shares()?,
            cpu_period: positive("CpuPeriod", self.cpu_period)?,
            cpu_quota: some(self.cpu_quota),
            cpuset_cpus: given(self.cpuset_cpus.clone()),
            cpuset_mems: given(self.cpuset_mems.clone()),
            // Docker: zero and below mean unlimited.
            pids: self.pids_limit.filter(|limit| *limit > 0),
            cpu_realtime_period: positive("CpuRealtimePeriod", self.cpu_realtime_period)?,
            cpu_realtime_runtime: some(self.cpu_realtime_runtime),
            // Docker's command line sends -1 for "as it is".
            memory_swappiness: match self.memory_swappiness.filter(|value| *value != -1) {
                None => None,
                Some(value) => {
                    Some(u64::try_from(value).map_err(|_| {
                        Failure::bad(format!("invalid MemorySwappiness: {value}: the range is 0 to 100"))
                    })?)
                }
            },
            oom_kill_disable: self.oom_kill_disable.unwrap_or(false),
            io: IoLimits {
                weight: self.blkio_weight.filter(|weight| *weight != 0),
                weights: self
                    .blkio_weight_device
                    .iter()
                    .flatten()
                    .map(|each| (each.path.clone(), each.weight))
                    .collect(),
                read_bytes: rates(self.blkio_device_read_bps.as_deref()),
                write_bytes: rates(self.blkio_device_write_bps.as_deref()),
                read_operations: rates(self.blkio_device_read_iops.as_deref()),
                write_operations: rates(self.blkio_device_write_iops.as_deref()),
            },
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WeightAsked {
    path: String,
    weight: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RateAsked {
    path: String,
    rate: u64,
}

fn rates(list: Option<&[RateAsked]>) -> Vec<(String, u64)> {
    list.unwrap_or_default().iter().map(|each| (each.path.clone(), each.rate)).collect()
}
