//! Lowering: from a container's [`Settings`] to an OCI runtime specification. Pure: the kernel is described by [`Host`].
//!
//! The result is what `dhow run --dry-run` prints and what `runtime::plan` executes; every default of Docker stands here
//! or in `containers::settle`, and nowhere below.

pub(crate) mod cdi;
pub(crate) mod mounts;
pub(crate) mod resources;
mod security;

use crate::containers::record::Settings;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use oci::runtime::{Linux, LinuxDevice, LinuxNamespace, LinuxNamespaceType, POSIXRlimit, Process, Root, Spec};
use std::path::Path;

pub(crate) use security::{Confinement, confinement, selinux_level};

/// Paths that the specification refers to.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Identifier of the container.
    pub id: &'a str,
    /// Where its generated files are: `hostname`, `hosts`, `resolv.conf`.
    pub directory: &'a Path,
    /// This program, for the init and the built-in image.
    pub program: &'a Path,
    /// Where the content of volumes and images is.
    pub sources: &'a crate::volumes::Sources,
    /// The network namespace that it joins, with [`crate::NetworkMode::Container`].
    pub network: Option<std::path::PathBuf>,
}

/// The specification of a container. User names stay for the runtime, which alone sees the container's passwd file.
pub(crate) fn specification(settings: &Settings, host: &Host, place: &Place<'_>) -> Result<Spec> {
    let confinement = confinement(settings, host)?;
    let resources = resources::resources(settings, host)?;
    // From here on it matters what the container's own root may do.
    let within = settings.id_maps.as_ref().map(|maps| host.within(maps));
    let host = within.as_ref().unwrap_or(host);
    let mut namespaces = vec![namespace(LinuxNamespaceType::Mount)];
    if settings.id_maps.is_some() {
        namespaces.push(namespace(LinuxNamespaceType::User));
    }
    if settings.pid_mode != "host" {
        namespaces.push(namespace(LinuxNamespaceType::Pid));
    }
    if settings.network != crate::NetworkMode::Host {
        let path = place.network.as_ref().map(|path| path.display().to_string());
        namespaces.push(LinuxNamespace { kind: LinuxNamespaceType::Network, path });
    }
    if settings.ipc_mode != "host" {
        namespaces.push(namespace(LinuxNamespaceType::Ipc));
    }
    if settings.uts_mode != "host" {
        namespaces.push(namespace(LinuxNamespaceType::Uts));
    }
    if settings.cgroup_namespace != "host" {
        namespaces.push(namespace(LinuxNamespaceType::Cgroup));
    }
    let (masked_paths, readonly_paths) = security::hidden_paths(settings, &confinement);
    let mut spec = Spec {
        oci_version: oci::runtime::VERSION.into(),
        process: Some(process(settings, &confinement)?),
        // The engine hands the layers to the runtime; the path is where a runtime of others would find them mounted.
        root: Some(Root { path: "rootfs".into(), readonly: settings.read_only }),
        hostname: (settings.uts_mode != "host").then(|| settings.hostname.clone()),
        domainname: (settings.uts_mode != "host" && !settings.domainname.is_empty())
            .then(|| settings.domainname.clone()),
        mounts: mounts::mounts(settings, host, place)?,
        linux: Some(Linux {
            sysctl: sysctls(settings, host)?,
            resources: Some(resources),
            uid_mappings: settings.id_maps.iter().flat_map(|maps| maps.uids.clone()).collect(),
            gid_mappings: settings.id_maps.iter().flat_map(|maps| maps.gids.clone()).collect(),
            cgroups_path: Some(cgroup_path(settings, place.id)),
            namespaces,
            devices: devices(settings, host)?,
            rootfs_propagation: mounts::root_propagation(settings),
            masked_paths,
            readonly_paths,
            mount_label: confinement.mount_label.clone(),
            ..Linux::default()
        }),
        annotations: settings.annotations.clone(),
        ..Spec::default()
    };
    cdi::apply(&settings.devices, host.user_namespace, &mut spec)?;
    Ok(spec)
}

/// The nodes to be made. In a user namespace those that were asked for are mounts instead, as they may have other names here.
fn devices(settings: &Settings, host: &Host) -> Result<Vec<LinuxDevice>> {
    if host.user_namespace && !settings.privileged {
        return Ok(Vec::new());
    }
    Ok(resources::devices(settings)?.into_iter().map(|device| device.node).collect())
}

/// The container's cgroup in every hierarchy.
pub(crate) fn cgroup_path(settings: &Settings, id: &str) -> String {
    match settings.cgroup_parent.trim_matches('/') {
        "" => format!("/dhow/{id}"),
        parent => format!("/{parent}/{id}"),
    }
}

fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    LinuxNamespace { kind, path: None }
}

fn process(settings: &Settings, confinement: &Confinement) -> Result<Process> {
    let mut args: Vec<String> = settings.entrypoint.iter().chain(&settings.command).cloned().collect();
    if settings.init {
        args.splice(0..0, [mounts::INIT_PATH.to_owned(), "--".to_owned()]);
    }
    Ok(Process {
        terminal: settings.terminal,
        args,
        env: environment(settings),
        cwd: if settings.working_directory.is_empty() { "/".into() } else { settings.working_directory.clone() },
        capabilities: Some(security::capabilities(settings)),
        rlimits: settings.ulimits.iter().map(rlimit).collect::<Result<_>>()?,
        no_new_privileges: confinement.no_new_privileges,
        apparmor_profile: confinement.apparmor.clone(),
        selinux_label: confinement.process_label.clone(),
        oom_score_adj: settings.oom_score_adj,
        user: oci::runtime::User { umask: settings.umask, ..Default::default() },
        ..Process::default()
    })
}

/// What every container gets, in Docker's order, with what this one has in its place or behind it.
fn environment(settings: &Settings) -> Vec<String> {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", settings.hostname)];
    env.extend(settings.terminal.then(|| "TERM=xterm".to_owned()));
    for entry in &settings.env {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        crate::containers::settle::put(&mut env, key, entry);
    }
    env
}

fn rlimit(limit: &crate::Ulimit) -> Result<POSIXRlimit> {
    const NAMES: &[&str] = &[
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    if !NAMES.contains(&limit.name.as_str()) {
        return Err(Error::new(Kind::InvalidArgument, format!("invalid ulimit type: {}", limit.name))
            .hint(format!("the kernel knows: {}", NAMES.join(", "))));
    }
    let value = |v: i64| if v < 0 { u64::MAX } else { v as u64 };
    if value(limit.soft) > value(limit.hard) {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!("ulimit soft limit must be less than or equal to hard limit: {} > {}", limit.soft, limit.hard),
        ));
    }
    Ok(POSIXRlimit {
        kind: format!("RLIMIT_{}", limit.name.to_uppercase()),
        soft: value(limit.soft),
        hard: value(limit.hard),
    })
}

/// Only parameters of the container's own namespaces (CVE-2022-0811, CVE-2022-0532): the others belong to the host.
fn sysctls(settings: &Settings, host: &Host) -> Result<std::collections::BTreeMap<String, String>> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut result = settings.sysctls.clone();
    for name in settings.sysctls.keys() {
        let network = name.starts_with("net.");
        let ipc = IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        if network && settings.network == crate::NetworkMode::Host {
            return Err(refused_sysctl(name, "with the host's network it would change the host"));
        }
        if ipc && settings.ipc_mode.starts_with("container:") {
            return Err(refused_sysctl(name, "it would change the container whose IPC namespace is shared"));
        }
        if ipc && settings.ipc_mode == "host" {
            return Err(refused_sysctl(name, "with the host's IPC namespace it would change the host"));
        }
        if !network && !ipc {
            return Err(refused_sysctl(name, "it does not belong to a namespace and would change the host"));
        }
    }
    let own_network = matches!(settings.network, crate::NetworkMode::Bridge | crate::NetworkMode::None);
    if own_network && !settings.privileged {
        // Docker 20.10: ports below 1024 and ping need no privilege inside a network namespace of one's own.
        // The kernel takes only groups that exist in the user namespace (ping_group_range: EINVAL).
        let groups = format!("0 {}", host.last_group);
        for (name, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", groups.as_str())]
        {
            result.entry(name.into()).or_insert_with(|| value.into());
        }
    }
    Ok(result)
}

fn refused_sysctl(name: &str, why: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("sysctl {name:?} is not allowed: {why}"))
}

/// The process of an `exec`: the container's, with what was asked for instead.
pub(crate) fn exec_process(settings: &Settings, options: &crate::ExecOptions, host: &Host) -> Result<Process> {
    let mut settings = settings.clone();
    settings.init = false;
    settings.entrypoint = Vec::new();
    settings.command = options.command.clone();
    settings.terminal = options.terminal;
    for entry in &options.env {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        settings.env.retain(|old| old.split_once('=').map(|(k, _)| k) != Some(key));
        if entry.contains('=') {
            settings.env.push(entry.clone());
        }
    }
    if let Some(directory) = &options.working_directory {
        settings.working_directory = directory.clone();
    }
    if options.privileged {
        settings.capabilities = kernel::capabilities::Set::ALL.names().map(str::to_owned).collect();
    }
    let confinement = confinement(&settings, host)?;
    process(&settings, &confinement)
}
