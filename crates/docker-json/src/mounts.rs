//! The mounts of a container: as `Mounts` has them, and as the flags would write them.

use engine::{Container, Mount, MountSource};
use serde::Serialize;

/// What is mounted somewhere in a container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'static str>,
    mode: String,
    #[serde(rename = "RW")]
    rw: bool,
    propagation: String,
}

/// A bind mount or named volume as `-v` would write it.
pub(crate) fn bind(mount: &Mount) -> Option<String> {
    match &mount.source {
        MountSource::Bind { path, .. } => Some(spelled(path, mount)),
        MountSource::Volume(volume) if !volume.anonymous => Some(spelled(&volume.name, mount)),
        MountSource::Volume(_) | MountSource::Image(_) | MountSource::Tmpfs { .. } => None,
    }
}

fn spelled(source: &str, mount: &Mount) -> String {
    let mode = mode(mount);
    let mode = if mode.is_empty() { mode } else { format!(":{mode}") };
    format!("{source}:{}{mode}", mount.target)
}

fn mode(mount: &Mount) -> String {
    let mut words = Vec::new();
    if mount.read_only {
        words.push("ro".to_owned());
    }
    words.extend(mount.relabel.map(String::from));
    if let MountSource::Bind { propagation, .. } = &mount.source {
        words.extend(propagation.clone());
    }
    words.join(",")
}

/// A tmpfs as `--tmpfs` would write it.
pub(crate) fn tmpfs(mount: &Mount) -> Option<(String, String)> {
    match &mount.source {
        MountSource::Tmpfs { size, mode, options } => {
            let mut words = options.clone();
            words.extend(size.map(|size| format!("size={size}")));
            words.extend(mode.map(|mode| format!("mode={mode:o}")));
            if mount.read_only {
                words.push("ro".into());
            }
            Some((mount.target.clone(), words.join(",")))
        }
        MountSource::Bind { .. } | MountSource::Volume(_) | MountSource::Image(_) => None,
    }
}

/// An element of `Mounts`.
pub(crate) fn mount_point(container: &Container, mount: &Mount) -> MountPoint {
    let (kind, source, propagation) = match &mount.source {
        MountSource::Bind { path, propagation, .. } => {
            ("bind", path.clone(), propagation.clone().unwrap_or_else(|| "rprivate".into()))
        }
        MountSource::Tmpfs { .. } => ("tmpfs", String::new(), String::new()),
        MountSource::Volume(volume) => {
            ("volume", container.volume_path(&volume.name).display().to_string(), String::new())
        }
        MountSource::Image(image) => ("image", image.name.clone(), String::new()),
    };
    let volume = match &mount.source {
        MountSource::Volume(volume) => Some(volume),
        _ => None,
    };
    let mut mode = mode(mount);
    if mode.is_empty() && volume.is_some_and(|volume| !volume.anonymous) {
        // What Docker shows for a named volume that nobody said anything about.
        mode.push('z');
    }
    MountPoint {
        r#type: kind,
        name: volume.map(|volume| volume.name.clone()),
        source,
        destination: mount.target.clone(),
        driver: volume.map(|_| engine::volumes::DRIVER),
        mode,
        rw: !mount.read_only,
        propagation,
    }
}
