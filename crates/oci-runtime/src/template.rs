//! `spec`: a configuration to begin with, as runc writes it.

use oci::runtime::{
    Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxIDMapping, LinuxNamespace, LinuxNamespaceType, LinuxResources,
    Mount, POSIXRlimit, Process, Root, Spec,
};

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|each| (*each).to_owned()).collect()
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: strings(options),
        ..Mount::default()
    }
}

/// A shell with few rights on a read-only root in `rootfs`. On cgroup v1 without a cgroup namespace, as many programs look for
/// their own path in each of its trees.
#[must_use]
pub fn template() -> Spec {
    use LinuxNamespaceType as Kind;
    let names = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let quiet = ["nosuid", "noexec", "nodev"];
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    let deny = LinuxDeviceCgroup { access: Some("rwm".to_owned()), ..LinuxDeviceCgroup::default() };
    Spec {
        oci_version: oci::runtime::VERSION.to_owned(),
        process: Some(Process {
            terminal: true,
            args: strings(&["sh"]),
            env: strings(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
            cwd: "/".to_owned(),
            capabilities: Some(LinuxCapabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names,
                ..LinuxCapabilities::default()
            }),
            rlimits: vec![POSIXRlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".to_owned(), readonly: true }),
        hostname: Some("dhow".to_owned()),
        mounts: vec![
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &pts),
            mount("/dev/shm", "tmpfs", "shm", &shm),
            mount("/dev/mqueue", "mqueue", "mqueue", &quiet),
            mount("/sys", "sysfs", "sysfs", &read_only),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        linux: Some(Linux {
            resources: Some(LinuxResources { devices: vec![deny], ..LinuxResources::default() }),
            namespaces: [Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Mount]
                .into_iter()
                .chain(std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists().then_some(Kind::Cgroup))
                .map(|kind| LinuxNamespace { kind, path: None })
                .collect(),
            masked_paths: strings(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ]),
            readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// The same for an ordinary user: root inside is the user outside, the network is the host's.
#[must_use]
pub fn rootless_template(uid: u32, gid: u32) -> Spec {
    let mut spec = template();
    let Some(linux) = &mut spec.linux else { return spec };
    linux.resources = None;
    linux.namespaces.retain(|namespace| namespace.kind != LinuxNamespaceType::Network);
    linux.namespaces.push(LinuxNamespace { kind: LinuxNamespaceType::User, path: None });
    linux.uid_mappings = vec![LinuxIDMapping { container_id: 0, host_id: uid, size: 1 }];
    linux.gid_mappings = vec![LinuxIDMapping { container_id: 0, host_id: gid, size: 1 }];
    // A group that is not mapped cannot own anything, and sysfs belongs to the network's owner.
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
    }
    if let Some(at) = spec.mounts.iter().position(|mount| mount.destination == "/sys") {
        spec.mounts[at] = mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
    }
    spec
}
