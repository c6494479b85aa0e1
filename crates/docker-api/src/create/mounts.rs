//! `Binds`, `Mounts` and `Tmpfs`: three ways to say what is mounted.

use super::host::HostConfig;
use crate::failure::Failure;
use engine::{Below, ImageMount, Mount, MountSource, VolumeMount, VolumesFrom};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One of `Mounts`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Asked {
    r#type: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    bind_options: Option<BindOptions>,
    tmpfs_options: Option<TmpfsOptions>,
    volume_options: Option<VolumeOptions>,
    image_options: Option<ImageOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    no_copy: Option<bool>,
    labels: Option<BTreeMap<String, String>>,
    subpath: Option<String>,
    driver_config: Option<DriverConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DriverConfig {
    name: Option<String>,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageOptions {
    subpath: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BindOptions {
    propagation: Option<String>,
    non_recursive: Option<bool>,
    create_mountpoint: Option<bool>,
    read_only_non_recursive: Option<bool>,
    read_only_force_recursive: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TmpfsOptions {
    size_bytes: Option<u64>,
    mode: Option<u32>,
    options: Option<Vec<Vec<String>>>,
}

pub(super) fn all(host: &HostConfig) -> Result<Vec<Mount>, Failure> {
    let mut mounts = Vec::new();
    for text in host.binds.iter().flatten() {
        mounts.push(bind(text, host.volume_driver.as_deref().unwrap_or_default())?);
    }
    for asked in host.mounts.iter().flatten() {
        mounts.push(one(asked)?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        mounts.push(tmpfs(target, options)?);
    }
    for mount in &mut mounts {
        // A slash at the end makes no other place of it.
        mount.target = match mount.target.trim_end_matches('/') {
            "" => "/".into(),
            target => target.to_owned(),
        };
    }
    Ok(mounts)
}

/// `SOURCE:TARGET[:OPTIONS]`
fn bind(text: &str, driver: &str) -> Result<Mount, Failure> {
    let invalid = |reason: &str| Failure::bad(format!("invalid volume specification: '{text}'{reason}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid("")),
    };
    if (source.is_empty() && parts.len() > 1) || target.is_empty() {
        return Err(invalid(""));
    }
    if !target.starts_with('/') {
        return Err(invalid(&format!(
            ": invalid mount config for type \"bind\": invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let (mut read_only, mut writability, mut relabel, mut propagation, mut no_copy) = (false, 0, None, None, false);
    let mut id_map = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "rw" => (read_only, writability) = (option == "ro", writability + 1),
            "z" | "Z" if relabel.is_none() => relabel = option.chars().next(),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if propagation.is_none() => {
                propagation = Some(option.to_owned());
            }
            "idmap" if source.starts_with('/') => id_map = true,
            "nocopy" if !source.starts_with('/') => no_copy = true,
            "consistent" | "cached" | "delegated" => {}
            _ => return Err(Failure::bad(format!("invalid mode: {options}"))),
        }
    }
    if writability > 1 {
        return Err(Failure::bad(format!("invalid mode: {options}")));
    }
    let source = if source.starts_with('/') {
        let below = Below::default();
        MountSource::Bind {
            path: engine::plain_path(source),
            create: true,
            propagation,
            recursive: true,
            below,
            id_map,
        }
    } else if propagation.is_some() {
        return Err(Failure::bad(format!("invalid mode: {options}")));
    } else {
        MountSource::Volume(VolumeMount {
            name: source.to_owned(),
            anonymous: source.is_empty(),
            no_copy,
            driver: driver.to_owned(),
            ..VolumeMount::default()
        })
    };
    Ok(Mount { source, target: target.to_owned(), read_only, relabel })
}

fn one(asked: &Asked) -> Result<Mount, Failure> {
    let kind = asked.r#type.as_deref().unwrap_or_default();
    let invalid = |reason: &str| Failure::bad(format!("invalid mount config for type {kind:?}: {reason}"));
    let target = asked.target.clone().filter(|target| !target.is_empty());
    let target = target.ok_or_else(|| invalid("field Target must not be empty"))?;
    if !target.starts_with('/') {
        return Err(invalid(&format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let read_only = asked.read_only.unwrap_or(false);
    let source = asked.source.as_deref().unwrap_or_default();
    let source = match kind {
        "bind" => {
            if source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if asked.volume_options.is_some() || asked.tmpfs_options.is_some() {
                return Err(invalid("options of another type must not be specified"));
            }
            bind_source(source, asked.bind_options.as_ref(), &invalid)?
        }
        "tmpfs" => {
            if !source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            let options = asked.tmpfs_options.as_ref();
            let words = options.and_then(|options| options.options.as_ref());
            MountSource::Tmpfs {
                size: options.and_then(|options| options.size_bytes).filter(|size| *size > 0),
                mode: options.and_then(|options| options.mode).filter(|mode| *mode > 0),
                options: words.into_iter().flatten().map(|pair| pair.join("=")).collect(),
            }
        }
        "volume" => volume(source, asked.volume_options.as_ref()),
        "image" => {
            if source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            let subpath = asked.image_options.as_ref().and_then(|options| options.subpath.clone());
            let subpath = subpath.unwrap_or_default();
            MountSource::Image(ImageMount { name: source.to_owned(), subpath, ..ImageMount::default() })
        }
        "" => return Err(Failure::bad("invalid mount config: field Type must not be empty")),
        other => return Err(Failure::bad(format!("invalid mount config for type {other:?}: mount type unknown"))),
    };
    Ok(Mount { source, target, read_only, relabel: None })
}

fn bind_source(
    source: &str,
    options: Option<&BindOptions>,
    invalid: &dyn Fn(&str) -> Failure,
) -> Result<MountSource, Failure> {
    if !source.starts_with('/') {
        return Err(invalid(&format!("invalid mount path: '{source}' mount path must be absolute")));
    }
    let on = |switch: fn(&BindOptions) -> Option<bool>| options.and_then(switch).unwrap_or(false);
    let (writable, force) =
        (on(|options| options.read_only_non_recursive), on(|options| options.read_only_force_recursive));
    if writable && force {
        return Err(invalid("ReadOnlyNonRecursive and ReadOnlyForceRecursive contradict each other"));
    }
    // What is read-only is so with everything below it, or the container does not start.
    let below = if writable { Below::Writable } else { Below::ReadOnly };
    let create = on(|options| options.create_mountpoint);
    let path = engine::plain_path(source);
    if !create && std::fs::symlink_metadata(&path).is_err() {
        return Err(invalid(&format!("bind source path does not exist: {path}")));
    }
    let propagation = options.and_then(|options| options.propagation.clone()).filter(|text| !text.is_empty());
    let recursive = !on(|options| options.non_recursive);
    Ok(MountSource::Bind { path, create, propagation, recursive, below, id_map: false })
}

fn volume(name: &str, options: Option<&VolumeOptions>) -> MountSource {
    let driver = options.and_then(|options| options.driver_config.as_ref());
    MountSource::Volume(VolumeMount {
        name: name.to_owned(),
        anonymous: name.is_empty(),
        no_copy: options.and_then(|options| options.no_copy).unwrap_or(false),
        subpath: options.and_then(|options| options.subpath.clone()).unwrap_or_default(),
        driver: driver.and_then(|driver| driver.name.clone()).unwrap_or_default(),
        options: driver.and_then(|driver| driver.options.clone()).unwrap_or_default(),
        labels: options.and_then(|options| options.labels.clone()).unwrap_or_default(),
    })
}

/// `Volumes`: a new volume at each of these paths at which nothing else is mounted.
pub(super) fn anonymous(paths: &[String], mounts: &mut Vec<Mount>) -> Result<(), Failure> {
    for path in paths {
        if !path.starts_with('/') {
            return Err(Failure::bad(format!("invalid volume specification: '{path}': the path must be absolute")));
        }
        let target = path.trim_end_matches('/');
        if !mounts.iter().any(|mount| mount.target == target) {
            let source = MountSource::Volume(VolumeMount { anonymous: true, ..VolumeMount::default() });
            mounts.push(Mount { source, target: target.to_owned(), read_only: false, relabel: None });
        }
    }
    Ok(())
}

/// `VolumesFrom`: `CONTAINER[:ro|rw]`.
pub(super) fn volumes_from(texts: &[String]) -> Result<Vec<VolumesFrom>, Failure> {
    let one = |text: &String| match text.split_once(':') {
        None => Ok(VolumesFrom { container: text.clone(), read_only: false }),
        Some((name, mode @ ("ro" | "rw"))) => Ok(VolumesFrom { container: name.to_owned(), read_only: mode == "ro" }),
        Some((_, mode)) => Err(Failure::bad(format!("invalid mode for volumes-from: {mode}"))),
    };
    texts.iter().map(one).collect()
}

/// `Tmpfs`: a path, and options as mount(8) takes them.
fn tmpfs(target: &str, words: &str) -> Result<Mount, Failure> {
    if !target.starts_with('/') {
        return Err(Failure::bad(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let (mut size, mut mode, mut read_only, mut options) = (None, None, false, Vec::new());
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let invalid = || Failure::bad(format!("invalid tmpfs option {word:?}"));
        match word.split_once('=') {
            Some(("size", value)) if !value.ends_with('%') => size = Some(bytes(value).ok_or_else(invalid)?),
            Some(("mode", value)) => mode = Some(u32::from_str_radix(value, 8).map_err(|_| invalid())?),
            None if matches!(word, "ro" | "rw") => read_only = word == "ro",
            _ => options.push(word.to_owned()),
        }
    }
    let source = MountSource::Tmpfs { size, mode, options };
    Ok(Mount { source, target: target.to_owned(), read_only, relabel: None })
}

/// A number of bytes with one of the letters k, m and g behind it.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
