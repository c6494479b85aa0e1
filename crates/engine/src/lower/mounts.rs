//! The mounts of a container, in the order in which they are made.

use super::Place;
use crate::containers::options::{Below, ImageMount, Mount as Asked, MountSource, VolumeMount};
use crate::containers::record::Settings;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::volumes::{Source, Sources};
use oci::runtime::Mount;

/// Where the init stands in a container that has one.
pub(crate) const INIT_PATH: &str = "/sbin/dhow-init";

/// The kernel's file systems, then the caller's mounts by depth, then the generated files that nothing of them covers.
pub(crate) fn mounts(settings: &Settings, host: &Host, place: &Place<'_>) -> Result<Vec<Mount>> {
    let mut mounts = kernel_mounts(settings, host);
    let mut asked: Vec<&Asked> = settings.mounts.iter().collect();
    // A mount on /a/b must come after one on /a; equal depths keep the caller's order.
    asked.sort_by_key(|mount| mount.target.trim_end_matches('/').matches('/').count());
    // What the caller puts on /dev/shm, /sys/fs/cgroup or /tmp replaces ours.
    mounts.retain(|own| !asked.iter().any(|mount| mount.target.trim_end_matches('/') == own.destination));
    let mut result = mounts;
    // A volume on /etc would hide the generated files.
    let (below, asked): (Vec<&Asked>, Vec<&Asked>) =
        asked.into_iter().partition(|mount| mount.target.trim_end_matches('/') == "/etc");
    for mount in below {
        result.push(lower(mount, settings, place.sources)?);
    }
    for (target, file) in [("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname"), ("/etc/hosts", "hosts")]
    {
        if !asked.iter().any(|mount| mount.target.trim_end_matches('/') == target) {
            let mut own = bind(&place.directory.join(file).display().to_string(), target, &["rprivate"]);
            own.options.extend(own_ids(settings));
            result.push(own);
        }
    }
    if settings.init {
        result.push(bind(&place.program.display().to_string(), INIT_PATH, &["ro", "rprivate"]));
    }
    if let Some(path) = crate::hello::program_path(&settings.image_id) {
        result.push(bind(&place.program.display().to_string(), path, &["ro", "nosuid", "rprivate"]));
    }
    if host.user_namespace && !settings.privileged {
        for (source, target) in super::resources::device_paths(settings)? {
            result.push(bind(&source, &target, &["rprivate"]));
        }
    }
    for mount in asked {
        result.push(lower(mount, settings, place.sources)?);
    }
    Ok(result)
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(source: &str, destination: &str, options: &[&str]) -> Mount {
    let mut all = vec!["rbind"];
    all.extend(options);
    mount("bind", source, destination, &all)
}

fn kernel_mounts(settings: &Settings, host: &Host) -> Vec<Mount> {
    let access = if settings.privileged { "rw" } else { "ro" };
    let own_network = settings.network != crate::NetworkMode::Host;
    let proc = if host.user_namespace && settings.pid_mode == "host" {
        // procfs can be mounted only by the owner of the pid namespace (kernel: proc_init_fs_context, since 3.8).
        bind("/proc", "/proc", &["nosuid", "noexec", "nodev", "rprivate"])
    } else {
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"])
    };
    let mut mounts = vec![
        proc,
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        devpts(host),
    ];
    if host.user_namespace && !own_network {
        // sysfs can be mounted only by the owner of the network namespace (kernel: sysfs_init_fs_context, since 3.8).
        // `rro`: what the host has mounted below must not stay writable.
        mounts.push(bind("/sys", "/sys", &["nosuid", "noexec", "nodev", "rro", "rprivate"]));
    } else {
        mounts.push(mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", access]));
    }
    let groups = if super::security::writable_cgroups(settings) { "rw" } else { "ro" };
    mounts.push(mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", groups]));
    if settings.ipc_mode == "host" {
        // A host without systemd may have none.
        if std::path::Path::new("/dev/mqueue").is_dir() {
            mounts.push(bind("/dev/mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev", "rprivate"]));
        }
        mounts.push(bind("/dev/shm", "/dev/shm", &["nosuid", "noexec", "nodev", "rprivate"]));
    } else {
        mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]));
        if settings.ipc_mode != "none" {
            let size = format!("size={}", settings.shm_size);
            mounts.push(mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
        }
    }
    mounts
}

fn devpts(host: &Host) -> Mount {
    let mut options = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // Group tty of every distribution; a user namespace of one id does not have it.
    if host.tty_group {
        options.push("gid=5");
    }
    mount("devpts", "devpts", "/dev/pts", &options)
}

/// What dhow keeps has the ids that containers see themselves, and is shown to one with maps with those. What the host has
/// is shown as it is, unless the caller asks for the same.
fn own_ids(settings: &Settings) -> Option<String> {
    settings.id_maps.as_ref().filter(|maps| !maps.is_identity() && !maps.shifted).map(|_| "idmap".to_owned())
}

fn lower(asked: &Asked, settings: &Settings, sources: &Sources) -> Result<Mount> {
    let access = if asked.read_only { "ro" } else { "rw" };
    match &asked.source {
        MountSource::Bind { path, propagation, recursive, create, below, id_map } => {
            if !create && std::fs::symlink_metadata(path).is_err() {
                return Err(Error::new(
                    Kind::InvalidArgument,
                    format!("invalid mount config for type \"bind\": bind source path does not exist: {path}"),
                ));
            }
            let kind = if *recursive { "rbind" } else { "bind" };
            // Linux 5.12 makes the mounts below read-only as well, which Docker does since 25.
            let access = if asked.read_only && *recursive && *below == Below::ReadOnly { "rro" } else { access };
            let propagation = propagation.as_deref().unwrap_or("rprivate");
            let mut bind = mount("bind", path, &asked.target, &[kind, access, propagation]);
            if *id_map {
                if settings.id_maps.is_none() {
                    let text = format!("idmap on {} needs a container with ids of its own", asked.target);
                    return Err(Error::new(Kind::InvalidArgument, text).hint("--userns auto gives it some"));
                }
                if settings.stored_shift().is_some() {
                    let text = format!("idmap on {} cannot work for an ordinary user", asked.target);
                    let hint = "only root of the machine may show its files with other owners; with --userns keep-id the \
                                user's own files are the user's";
                    return Err(Error::new(Kind::Unavailable, text).hint(hint));
                }
                bind.options.extend(own_ids(settings));
            }
            Ok(bind)
        }
        MountSource::Tmpfs { size, mode, options } => {
            let mut all: Vec<String> = ["nosuid", "nodev", "noexec"].iter().map(|&o| o.to_owned()).collect();
            // Docker: `--tmpfs PATH:exec` takes the default back.
            for option in options {
                let opposite = option.strip_prefix("no").map_or_else(|| format!("no{option}"), str::to_owned);
                all.retain(|old| *old != opposite && old != option);
                all.push(option.clone());
            }
            if let Some(size) = size {
                all.push(format!("size={size}"));
            }
            match mode {
                Some(mode) => all.push(format!("mode={mode:o}")),
                None if !all.iter().any(|o| o.starts_with("mode=")) => all.push("mode=1777".into()),
                None => {}
            }
            all.push(access.into());
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            Ok(mount("tmpfs", "tmpfs", &asked.target, &all))
        }
        MountSource::Volume(wanted) => {
            let mut mount = volume(asked, wanted, sources)?;
            if matches!(sources.volumes.get(&wanted.name), Some(Source::Directory(_))) {
                mount.options.extend(own_ids(settings));
            }
            Ok(mount)
        }
        MountSource::Image(wanted) => {
            let mut mount = image(asked, wanted, sources)?;
            mount.options.extend(own_ids(settings));
            Ok(mount)
        }
    }
}

/// A volume: a bind mount of where its data are, or a file system of the container's own.
fn volume(asked: &Asked, volume: &VolumeMount, sources: &Sources) -> Result<Mount> {
    let source = sources.volumes.get(&volume.name).ok_or_else(|| crate::volumes::no_such_volume(&volume.name))?;
    // The later of two options is in force, and a volume that its options make read-only stays so.
    let sealed = match source {
        Source::Bind { options, .. } | Source::FileSystem { options, .. } => {
            options.iter().any(|option| option == "ro")
        }
        Source::Directory(_) | Source::Limited(_) => false,
    };
    let access = if asked.read_only || sealed { "ro" } else { "rw" };
    let subpath = format!("x-dhow.subpath={}", volume.subpath);
    let (path, kind, own): (String, &str, &[String]) = match source {
        Source::Directory(path) => (path.display().to_string(), "rbind", &[]),
        Source::Bind { path, recursive, options } => {
            if std::fs::symlink_metadata(path).is_err() {
                return Err(Error::new(
                    Kind::Internal,
                    format!("failed to mount local volume {}: its device {path} does not exist", volume.name),
                ));
            }
            (path.clone(), if *recursive { "rbind" } else { "bind" }, options)
        }
        Source::Limited(image) => {
            refuse_subpath(volume, "a file system of its own size")?;
            let options = ["x-dhow.outside", access, "rprivate"];
            return Ok(mount("ext4", &image.display().to_string(), &asked.target, &options));
        }
        Source::FileSystem { kind, device, options } => {
            refuse_subpath(volume, &format!("a {kind} of each container's own"))?;
            let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
            // Memory starts with what the image has; other file systems have their own content, and those of the
            // network must be reached from the host's.
            match (kind.as_str(), volume.no_copy) {
                ("tmpfs", false) => all.push("tmpcopyup"),
                ("tmpfs", true) => {}
                _ => all.push("x-dhow.outside"),
            }
            all.extend([access, "rprivate"]);
            return Ok(mount(kind, device, &asked.target, &all));
        }
    };
    let mut all = vec![kind, "rprivate"];
    all.extend(own.iter().map(String::as_str));
    all.push(access);
    if asked.read_only {
        all.push("rro");
    }
    if !volume.subpath.is_empty() {
        all.push(&subpath);
    }
    Ok(mount("bind", &path, &asked.target, &all))
}

fn refuse_subpath(volume: &VolumeMount, what: &str) -> Result<()> {
    if volume.subpath.is_empty() {
        return Ok(());
    }
    let message = format!("volume-subpath cannot be used with volume {}, {what}", volume.name);
    Err(Error::new(Kind::InvalidArgument, message))
}

/// An image's content, read-only.
fn image(asked: &Asked, image: &ImageMount, sources: &Sources) -> Result<Mount> {
    let layers = sources.images.get(&image.id).filter(|layers| !layers.is_empty());
    let layers = layers.ok_or_else(|| crate::images::no_such_image(&image.name))?;
    let mut all: Vec<String> = vec!["bind".into(), "ro".into(), "rprivate".into()];
    all.extend(layers.iter().map(|layer| format!("x-dhow.layer={}", layer.display())));
    if !image.subpath.is_empty() {
        all.push(format!("x-dhow.subpath={}", image.subpath));
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    // The name is for whoever reads the specification; the layers are the source.
    Ok(mount("bind", &format!("/{}", image.name), &asked.target, &all))
}

/// A shared or slave bind needs a root that lets mounts through.
pub(crate) fn root_propagation(settings: &Settings) -> Option<String> {
    let wanted = |suffix: &str| {
        settings.mounts.iter().any(|mount| {
            matches!(&mount.source, MountSource::Bind { propagation: Some(p), .. } if p.trim_start_matches('r') == suffix)
        })
    };
    if wanted("shared") {
        Some("rshared".into())
    } else if wanted("slave") {
        Some("rslave".into())
    } else {
        None
    }
}
