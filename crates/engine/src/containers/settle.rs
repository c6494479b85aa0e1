//! From what was asked and what the image says to [`Settings`]: defaults, conflicts and limits resolved, nothing touched.

use super::options::{Limits, MountSource, NetworkMode, Options, PublishedPort};
use super::record::Settings;
use crate::error::{Error, Kind, Result};
use crate::images::ImageDefaults;
use crate::plain_path::plain_path;
use std::collections::BTreeMap;
use std::path::Path;

/// Docker's default capabilities (moby, `oci/caps/defaults.go`), sorted.
pub(crate) const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// 64 MiB, Docker's size of /dev/shm.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Seconds between the stop signal and SIGKILL.
const DEFAULT_STOP_TIMEOUT: i64 = 10;

/// Resolves everything that does not depend on the container's identifier.
pub(crate) fn settle(options: &Options, image: &ImageDefaults) -> Result<Settings> {
    conflicts(options)?;
    let (entrypoint, command) = program(options, image)?;
    Ok(Settings {
        image_name: options.image.clone(),
        image_id: image.id.clone(),
        layers: image.layers.clone(),
        entrypoint,
        command,
        env: environment(&image.env, &options.env)?,
        user: clean("user", options.user.as_deref().unwrap_or(&image.user))?,
        group_add: options.group_add.clone(),
        working_directory: working_directory(options, image)?,
        hostname: hostname(options.hostname.as_deref().unwrap_or(""))?,
        domainname: clean("domain name", options.domainname.as_deref().unwrap_or_default())?,
        labels: image.labels.iter().chain(&options.labels).map(|(k, v)| (k.clone(), v.clone())).collect(),
        terminal: options.terminal,
        terminal_size: options.terminal_size.filter(|_| options.terminal),
        open_stdin: options.open_stdin,
        stdin_once: options.stdin_once,
        auto_remove: options.auto_remove,
        mounts: mounts(options)?,
        volumes_from: options.volumes_from.iter().map(from_container).collect(),
        storage_options: crate::quota::options(&options.storage_options)?,
        read_only: options.read_only,
        network: options.network.clone(),
        networks: options.networks.clone(),
        ports: ports(options, image)?,
        publish_all: options.publish_all,
        exposed_ports: exposed(options, image)?,
        volumes: image.volumes.clone(),
        dns: all_clean("--dns", &options.dns)?,
        dns_search: all_clean("--dns-search", &options.dns_search)?,
        dns_options: all_clean("--dns-option", &options.dns_options)?,
        extra_hosts: extra_hosts(&options.extra_hosts)?,
        cap_add: options.cap_add.clone(),
        cap_drop: options.cap_drop.clone(),
        capabilities: capabilities(options)?,
        privileged: options.privileged,
        security_options: options.security_options.clone(),
        masked_paths: hidden(options.masked_paths.as_deref())?,
        readonly_paths: hidden(options.readonly_paths.as_deref())?,
        ulimits: options.ulimits.clone(),
        annotations: options.annotations.clone(),
        userns_mode: userns(options),
        devices: options.devices.clone(),
        device_rules: device_rules(&options.device_rules)?,
        sysctls: options.sysctls.clone(),
        init: options.init,
        shm_size: options.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        limits: limits(&options.limits)?,
        cgroup_parent: options.cgroup_parent.clone().unwrap_or_default(),
        cgroup_namespace: options.cgroup_namespace.clone().unwrap_or_default(),
        pid_mode: or_container("--pid", &options.pid_mode, &["host", "private"])?,
        ipc_mode: or_container("--ipc", &options.ipc_mode, &["host", "private", "shareable", "none"])?,
        uts_mode: or_container("--uts", &options.uts_mode, &["host", "private"])?,
        oom_score_adj: options.oom_score_adj,
        umask: options.umask,
        stop_signal: options.stop_signal.clone().unwrap_or_else(|| image.stop_signal.clone()),
        stop_timeout: options.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT),
        log_driver: log_driver(options)?,
        log_options: options.log_options.clone(),
        restart: options.restart,
        health: super::health::settle(&options.health, image.health.as_ref())?,
        health_on_failure: options.health.on_failure,
        front_end: options.front_end.clone(),
        // Found by the engine: secrets, ids, who makes the container, its SELinux level.
        ..Settings::default()
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

fn one_of(flag: &str, value: &Option<String>, allowed: &[&str]) -> Result<String> {
    match value.as_deref() {
        None | Some("") => Ok(String::new()),
        Some(value) if allowed.contains(&value) => Ok(value.to_owned()),
        Some(value) => Err(invalid(format!("{flag} {value:?} is not supported; use one of: {}", allowed.join(", ")))),
    }
}

/// The same, or the namespace of another container.
fn or_container(flag: &str, value: &Option<String>, allowed: &[&str]) -> Result<String> {
    match value.as_deref() {
        Some(mode) if mode.starts_with("container:") => Ok(mode.to_owned()),
        _ => one_of(flag, value, allowed),
    }
}

/// Paths of the container's that are covered, or read-only.
fn hidden(paths: Option<&[String]>) -> Result<Option<Vec<String>>> {
    let bad = |path: &&String| !path.starts_with('/') || path.contains('\0');
    match paths.iter().copied().flatten().find(bad) {
        Some(path) => Err(invalid(format!("invalid masked or read-only path {path:?}: it must be absolute"))),
        None => Ok(paths.map(<[String]>::to_vec)),
    }
}

fn log_driver(options: &Options) -> Result<String> {
    let driver = options.log_driver.clone().unwrap_or_default();
    super::log_options::check(&driver, &options.log_options)?;
    Ok(driver)
}

fn conflicts(options: &Options) -> Result<()> {
    if options.limits.nano_cpus.is_some() && (options.limits.cpu_quota.is_some() || options.limits.cpu_period.is_some())
    {
        return Err(invalid("conflicting options: --cpus cannot be used with --cpu-period or --cpu-quota"));
    }
    let foreign = |mode: &str| mode == "host" || mode.starts_with("container:");
    if options.hostname.is_some() && options.uts_mode.as_deref().is_some_and(foreign) {
        return Err(invalid("conflicting options: hostname and the UTS mode"));
    }
    if options.network != NetworkMode::Bridge && !options.networks.is_empty() {
        return Err(invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes"));
    }
    if matches!(options.network, NetworkMode::Container(_)) {
        shared_network_conflicts(options)?;
    }
    if options.network != NetworkMode::Bridge && !options.ports.is_empty() {
        return Err(invalid("conflicting options: ports can only be published on a bridge network"));
    }
    if options.auto_remove && options.restart != super::options::RestartPolicy::No {
        return Err(invalid("conflicting options: cannot specify both --restart and --rm"));
    }
    let score = options.oom_score_adj.unwrap_or(0);
    if !matches!(score, -1000..=1000) {
        return Err(invalid(format!("invalid value {score}, range for oom score adj is [-1000, 1000]")));
    }
    if let Some(umask) = options.umask.filter(|umask| *umask > 0o777) {
        return Err(invalid(format!("invalid umask {umask:#o}: the largest is 0777")));
    }
    Ok(())
}

/// What belongs to the container whose network is shared cannot be chosen for the one that shares it.
fn shared_network_conflicts(options: &Options) -> Result<()> {
    let given = [
        (options.hostname.is_some(), "hostname and the network mode"),
        (!options.dns.is_empty(), "dns and the network mode"),
        (!options.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (!options.ports.is_empty() || options.publish_all, "port publishing and the container type network mode"),
        (!options.expose.is_empty(), "port exposing and the container type network mode"),
    ];
    match given.iter().find(|(is_given, _)| *is_given) {
        Some((_, what)) => Err(invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// Docker's rule: an entry point of the caller drops the image's command too.
fn program(options: &Options, image: &ImageDefaults) -> Result<(Vec<String>, Vec<String>)> {
    let (entrypoint, default) = match &options.entrypoint {
        None => (image.entrypoint.clone(), image.command.clone()),
        Some(own) if own.iter().all(String::is_empty) => (Vec::new(), Vec::new()),
        Some(own) => (own.clone(), Vec::new()),
    };
    let command = if options.command.is_empty() { default } else { options.command.clone() };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(invalid("no command specified").hint("the image has no default command; name one after the image"));
    }
    if entrypoint.iter().chain(&command).any(|word| word.contains('\0')) {
        return Err(invalid("the command contains a NUL byte"));
    }
    Ok((entrypoint, command))
}

/// The caller's first, then what the image has beside them, as `inspect` shows it in Docker. What every container gets is not
/// here: `lower` adds it.
///
/// An entry without `=` never reaches the container (CVE-2026-57231: it must not pull the host's value in).
fn environment(image: &[String], own: &[String]) -> Result<Vec<String>> {
    let mut result: Vec<String> = Vec::with_capacity(own.len() + image.len());
    for entry in own {
        let key = entry.split_once('=').map(|(key, _)| key);
        if key.unwrap_or(entry).is_empty() {
            return Err(invalid(format!("invalid environment variable: {entry}")).hint("a variable needs a name"));
        }
        if entry.contains('\0') {
            return Err(invalid(format!("invalid environment variable: {entry:?} has a NUL byte")));
        }
        let Some(key) = key else { continue };
        put(&mut result, key, entry);
    }
    let given = result.len();
    for entry in image {
        let Some((key, _)) = entry.split_once('=').filter(|(key, _)| !key.is_empty() && !entry.contains('\0')) else {
            continue;
        };
        // `-e KEY` of a variable that the caller does not have removes the image's.
        let is_own = own.contains(&key.to_owned()) || result[..given].iter().any(|each| key_of(each) == key);
        if !is_own {
            put(&mut result, key, entry);
        }
    }
    Ok(result)
}

fn key_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

/// Replaces the entry of that name in its place, or adds one.
pub(crate) fn put(entries: &mut Vec<String>, key: &str, entry: &str) {
    match entries.iter_mut().find(|old| key_of(old) == key) {
        Some(old) => entry.clone_into(old),
        None => entries.push(entry.to_owned()),
    }
}

/// No value that ends up as a line of a file may contain a line break (CVE-2022-4318).
fn clean(what: &str, value: &str) -> Result<String> {
    if value.contains(['\n', '\0', '\r']) {
        return Err(invalid(format!("the {what} {value:?} contains a line break or NUL byte")));
    }
    Ok(value.to_owned())
}

fn all_clean(what: &str, values: &[String]) -> Result<Vec<String>> {
    values.iter().map(|value| clean(what, value)).collect()
}

fn working_directory(options: &Options, image: &ImageDefaults) -> Result<String> {
    let directory =
        clean("working directory", options.working_directory.as_deref().unwrap_or(&image.working_directory))?;
    match options.working_directory {
        Some(_) if !directory.starts_with('/') => {
            Err(invalid(format!("the working directory {directory:?} is invalid: it must be an absolute path")))
        }
        // Docker takes a relative one of the image from the root.
        _ if !directory.is_empty() && !directory.starts_with('/') => Ok(plain_path(&format!("/{directory}"))),
        _ if directory.is_empty() => Ok(directory),
        _ => Ok(plain_path(&directory)),
    }
}

/// Docker's grammar: `TYPE MAJOR:MINOR ACCESS`, such as `c 1:3 rw` or `b *:* m`.
fn device_rules(rules: &[String]) -> Result<Vec<String>> {
    for rule in rules {
        crate::lower::resources::device_rule(rule).ok_or_else(|| {
            invalid(format!("invalid device cgroup format {rule:?}"))
                .hint("expected TYPE MAJOR:MINOR ACCESS, such as \"c 1:3 rw\" or \"b *:* m\"")
        })?;
    }
    Ok(rules.to_vec())
}

/// As the caller wrote it; maps of other flags are a user namespace of the container's own, too.
fn userns(options: &Options) -> String {
    let mapped = !options.uid_maps.is_empty()
        || !options.gid_maps.is_empty()
        || options.sub_uid_name.is_some()
        || options.sub_gid_name.is_some();
    match options.userns_mode.as_deref() {
        None | Some("") if mapped => "private".into(),
        mode => mode.unwrap_or_default().to_owned(),
    }
}

fn hostname(name: &str) -> Result<String> {
    // Docker allows dots and underscores; the kernel's limit is 64 bytes (sethostname(2)).
    let good = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if good { Ok(name.to_owned()) } else { Err(invalid(format!("invalid host name {name:?}"))) }
}

fn extra_hosts(entries: &[String]) -> Result<Vec<String>> {
    for entry in entries {
        let (name, address) = entry.split_once([':', '=']).unwrap_or((entry, ""));
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let known = address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok();
        if name.is_empty() || entry.contains(char::is_whitespace) || !known {
            return Err(invalid(format!("invalid --add-host {entry:?}: expected NAME:ADDRESS")));
        }
    }
    Ok(entries.to_vec())
}

fn mounts(options: &Options) -> Result<Vec<super::options::Mount>> {
    let mut seen = BTreeMap::new();
    for mount in &options.mounts {
        check_target(&mount.target, options.privileged)?;
        if seen.insert(mount.target.trim_end_matches('/').to_owned(), ()).is_some() {
            return Err(invalid(format!("Duplicate mount point: {}", mount.target)));
        }
    }
    Ok(options.mounts.clone())
}

/// A bind mount of what the data root lies in, or of what lies in it, sees what the host mounts there later, and has nothing of its own
/// that would hold it: Docker's rule, by which `-v /:/host` shows the whole host.
pub(crate) fn follow_the_host(mounts: &mut [super::options::Mount], root: &Path) -> Result<()> {
    for mount in mounts {
        let MountSource::Bind { path, propagation, .. } = &mut mount.source else { continue };
        let source = Path::new(path.as_str());
        if !source.starts_with(root) && !root.starts_with(source) {
            continue;
        }
        match propagation.as_deref() {
            None | Some("") => *propagation = Some("rslave".to_owned()),
            Some("rslave" | "rshared") => {}
            Some(other) => {
                return Err(invalid(format!(
                    "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within \
                     the daemon root, daemon root: {root:?}, bind mount source: {source:?}, propagation: {other:?}"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses places where nothing can be mounted, whoever asks for it.
pub(crate) fn check_target(target: &str, privileged: bool) -> Result<()> {
    let target = clean("mount target", target)?;
    if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
        return Err(invalid(format!("invalid mount target {target:?}: it must be an absolute path without `..`")));
    }
    let normal = target.trim_end_matches('/');
    if normal.is_empty() {
        return Err(invalid("invalid mount target \"/\": destination can't be '/'").hint("use --rootfs, or an image"));
    }
    // CVE-2019-16884: something mounted over procfs hides what the runtime checks there. By text, as links of the image
    // that lead there are refused when the mount is made.
    let plain: Vec<&str> = normal.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if plain.first() == Some(&"proc") && (plain.len() == 1 || !privileged) {
        return Err(invalid(format!("invalid mount target {target:?}: nothing can be mounted inside /proc")));
    }
    Ok(())
}

fn from_container(from: &super::options::VolumesFrom) -> String {
    let mode = if from.read_only { ":ro" } else { "" };
    format!("{}{mode}", from.container)
}

fn ports(options: &Options, _image: &ImageDefaults) -> Result<Vec<PublishedPort>> {
    for port in &options.ports {
        if port.container_port == 0 {
            return Err(invalid("a published port must not be 0 in the container"));
        }
    }
    Ok(options.ports.clone())
}

/// What the image names, then what the caller adds, each once.
fn exposed(options: &Options, image: &ImageDefaults) -> Result<Vec<String>> {
    let mut all = image.exposed_ports.clone();
    for text in &options.expose {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Err(invalid(format!("invalid range format for --expose: {text}")));
        };
        let protocol = protocol.to_ascii_lowercase();
        if first == 0 || last < first || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(invalid(format!("invalid range format for --expose: {text}")));
        }
        for port in first..=last {
            let port = format!("{port}/{protocol}");
            if !all.contains(&port) {
                all.push(port);
            }
        }
    }
    Ok(all)
}

/// Docker's rule: from the defaults, or all with `--cap-add ALL`; then drops win over `ALL` and adds over drops of `ALL`.
pub(crate) fn capabilities(options: &Options) -> Result<Vec<String>> {
    let all = || kernel::capabilities::Set::ALL.names().map(str::to_owned);
    let normal = |flag: &str, name: &String| -> Result<String> {
        let upper = name.to_uppercase();
        let full = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if full == "ALL" || kernel::capabilities::by_name(&full).is_some() {
            return Ok(full);
        }
        Err(invalid(format!("invalid {flag} {name:?}: unknown capability")))
    };
    let add = options.cap_add.iter().map(|name| normal("--cap-add", name)).collect::<Result<Vec<_>>>()?;
    let drop = options.cap_drop.iter().map(|name| normal("--cap-drop", name)).collect::<Result<Vec<_>>>()?;
    let mut result: Vec<String> = if options.privileged || add.iter().any(|name| name == "ALL") {
        all().collect()
    } else if drop.iter().any(|name| name == "ALL") {
        Vec::new()
    } else {
        DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned()).collect()
    };
    if !options.privileged {
        result.retain(|name| !drop.contains(name));
    }
    result.extend(add.into_iter().filter(|name| name != "ALL"));
    result.sort();
    result.dedup();
    Ok(result)
}

/// Numbers and ranges with commas between them. The kernel knows at most 8192 processors (x86's `NR_CPUS`), as Docker has it.
fn is_set(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number <= 8192);
    text.is_empty()
        || text.split(',').all(|part| match part.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
            None => number(part).is_some(),
        })
}

pub(super) fn limits(limits: &Limits) -> Result<Limits> {
    let memory = limits.memory.unwrap_or(0);
    if memory < 0 {
        return Err(invalid(format!("invalid memory limit {memory}: it must be positive")));
    }
    if memory > 0 && memory < 512 << 10 {
        return Err(invalid(format!("the memory limit of {memory} bytes is too small: 512 KiB is the minimum"))
            .hint("a program needs that much to be loaded; give it more, for example -m 16m"));
    }
    match limits.memory_swap {
        Some(swap) if swap > 0 && memory == 0 => {
            return Err(invalid("--memory-swap needs --memory as well"));
        }
        Some(swap) if swap > 0 && swap < memory => {
            return Err(invalid("--memory-swap counts memory and swap together and cannot be smaller than --memory"));
        }
        _ => {}
    }
    if limits.memory_reservation.is_some_and(|soft| memory > 0 && soft > memory) {
        return Err(invalid("--memory-reservation cannot be larger than --memory"));
    }
    if limits.nano_cpus.is_some_and(|cpus| cpus <= 0) {
        return Err(invalid("invalid --cpus: it must be more than 0"));
    }
    let online = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
    if limits.nano_cpus.is_some_and(|cpus| cpus > online * 1_000_000_000) {
        return Err(invalid(format!("--cpus is more than this machine has: it has {online}"))
            .hint(format!("choose a value from 0.01 to {online}.00")));
    }
    if limits.cpu_period.is_some_and(|period| period != 0 && !(1_000..=1_000_000).contains(&period)) {
        return Err(invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"));
    }
    if limits.cpu_quota.is_some_and(|quota| quota > 0 && quota < 1_000) {
        return Err(invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    for (what, set) in [("cpus", &limits.cpuset_cpus), ("mems", &limits.cpuset_mems)] {
        if let Some(text) = set.as_deref().filter(|text| !is_set(text)) {
            return Err(invalid(format!("invalid value {text} for cpuset {what}"))
                .hint("expected numbers and ranges, as in 0-2,7"));
        }
    }
    if limits.memory_swappiness.is_some_and(|value| value > 100) {
        return Err(invalid("invalid memory swappiness: valid memory swappiness range is 0-100"));
    }
    let weights = limits.io.weight.iter().chain(limits.io.weights.iter().map(|(_, weight)| weight));
    if weights.into_iter().any(|weight| !(10..=1000).contains(weight)) {
        return Err(invalid("range of blkio weight is from 10 to 1000"));
    }
    if limits.pids.is_some_and(|pids| pids < -1) {
        return Err(invalid("invalid --pids-limit: use a positive number, or -1 for unlimited"));
    }
    Ok(limits.clone())
}
