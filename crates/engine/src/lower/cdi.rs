//! Devices by the Container Device Interface (CDI 1.0, cncf-tags/container-device-interface, SPEC.md): a vendor describes in
//! a file what a container needs to use a device: nodes, mounts, variables, hooks. A device is named `VENDOR/CLASS=NAME`.
//!
//! The files are the administrator's, like those that name programs for root to execute, which their hooks do.

use crate::error::{Error, Kind, Result};
use oci::runtime::{Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, Mount, Spec};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Where the files are; one in a later directory goes before one in an earlier.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// No description is larger (the biggest known have 100 KiB).
const LARGEST: u64 = 8 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Description {
    kind: String,
    devices: Vec<Described>,
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Described {
    name: String,
    container_edits: Edits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Place>,
    hooks: Vec<NamedHook>,
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: String,
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: i64,
    minor: i64,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Place {
    host_path: String,
    container_path: String,
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamedHook {
    hook_name: String,
    #[serde(flatten)]
    hook: Hook,
}

/// Whether a `--device` is one of a description: `vendor.com/class=name`.
pub(crate) fn is_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |text: &str, more: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    word(vendor, "_-.") && word(class, "_-") && word(name, "_-.:")
}

/// What the devices among `names` change in a container's specification.
pub(crate) fn apply(names: &[String], user_namespace: bool, spec: &mut Spec) -> Result<()> {
    if !names.iter().any(|name| is_name(name)) {
        return Ok(());
    }
    for edits in chosen(names, &DIRECTORIES.map(PathBuf::from))? {
        edit(&edits, user_namespace, spec)?;
    }
    Ok(())
}

/// The variables that the devices among `names` bring, which a further process of the container gets too.
pub(crate) fn environment(names: &[String]) -> Result<Vec<String>> {
    if !names.iter().any(|name| is_name(name)) {
        return Ok(Vec::new());
    }
    Ok(chosen(names, &DIRECTORIES.map(PathBuf::from))?.into_iter().flat_map(|edits| edits.env).collect())
}

/// The edits of the devices that are asked for, with those of their descriptions once.
fn chosen(names: &[String], directories: &[PathBuf]) -> Result<Vec<Edits>> {
    let (descriptions, broken) = read(directories);
    // Later directories replace, so the last that knows a device has it.
    let mut known: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (number, description) in descriptions.iter().enumerate() {
        for (place, device) in description.devices.iter().enumerate() {
            known.insert(format!("{}={}", description.kind, device.name), (number, place));
        }
    }
    let (mut edits, mut used) = (Vec::new(), Vec::new());
    for name in names.iter().filter(|name| is_name(name)) {
        let Some(&(number, place)) = known.get(name.as_str()) else { return Err(unknown(name, &known, &broken)) };
        let Some(description) = descriptions.get(number) else { continue };
        if !used.contains(&number) {
            used.push(number);
            edits.push(description.container_edits.clone());
        }
        edits.extend(description.devices.get(place).map(|device| device.container_edits.clone()));
    }
    Ok(edits)
}

fn unknown(name: &str, known: &BTreeMap<String, (usize, usize)>, broken: &[String]) -> Error {
    let message = format!("CDI device injection failed: unresolvable CDI devices {name}");
    let error = Error::new(Kind::NotFound, message);
    let names: Vec<&str> = known.keys().map(String::as_str).take(12).collect();
    match (broken.first(), names.as_slice()) {
        (Some(broken), _) => error.hint(broken.clone()),
        (None, []) => error.hint(format!("there are no descriptions of devices in {}", DIRECTORIES.join(" and "))),
        (None, names) => error.hint(format!("described are: {}", names.join(", "))),
    }
}

/// All descriptions in order of their precedence, and what is wrong with those that cannot be used: one that is broken must
/// not keep a container from the devices of another.
fn read(directories: &[PathBuf]) -> (Vec<Description>, Vec<String>) {
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for directory in directories {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match one(&path) {
                Some(Ok(description)) => found.push(description),
                Some(Err(reason)) => broken.push(format!("{} cannot be used: {reason}", path.display())),
                None => {}
            }
        }
    }
    (found, broken)
}

/// One description; `None` for a file that is none by its name.
fn one(path: &Path) -> Option<std::result::Result<Description, String>> {
    let is_json = match path.extension()?.to_str()? {
        "json" => true,
        "yaml" | "yml" => false,
        _ => return None,
    };
    let work = || {
        let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if size > LARGEST {
            return Err(format!("it has {size} bytes, more than {LARGEST}"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let description: Description = match is_json {
            true => serde_json::from_str(&text).map_err(|error| error.to_string())?,
            false => serde_saphyr::from_str(&text).map_err(|error| error.to_string())?,
        };
        match is_name(&format!("{}=x", description.kind)) {
            true => Ok(description),
            false => Err(format!("kind {:?} is not VENDOR/CLASS", description.kind)),
        }
    };
    Some(work())
}

fn edit(edits: &Edits, user_namespace: bool, spec: &mut Spec) -> Result<()> {
    if edits.intel_rdt.is_some() || !edits.net_devices.is_empty() {
        return Err(Error::new(
            Kind::Unavailable,
            "a CDI device asks for intelRdt or netDevices, which dhow does not have",
        ));
    }
    if let Some(process) = &mut spec.process {
        for entry in &edits.env {
            let key = entry.split('=').next();
            process.env.retain(|old| old.split('=').next() != key);
            process.env.push(entry.clone());
        }
        process.user.additional_gids.extend(&edits.additional_gids);
    }
    for node in &edits.device_nodes {
        device(node, user_namespace, spec)?;
    }
    for place in &edits.mounts {
        let kind = if place.kind.is_empty() { "bind" } else { &place.kind };
        let mut options = place.options.clone();
        if kind == "bind" && !options.iter().any(|option| option == "bind" || option == "rbind") {
            options.push("rbind".into());
        }
        spec.mounts.push(mount(kind, &place.host_path, &place.container_path, options));
    }
    let hooks = spec.hooks.get_or_insert_with(Hooks::default);
    for named in &edits.hooks {
        let list = match named.hook_name.as_str() {
            "prestart" => &mut hooks.prestart,
            "createRuntime" => &mut hooks.create_runtime,
            "createContainer" => &mut hooks.create_container,
            "startContainer" => &mut hooks.start_container,
            "poststart" => &mut hooks.poststart,
            "poststop" => &mut hooks.poststop,
            other => {
                return Err(Error::new(Kind::InvalidArgument, format!("a CDI device has an unknown hook: {other}")));
            }
        };
        list.push(named.hook.clone());
    }
    Ok(())
}

fn mount(kind: &str, source: &str, target: &str, options: Vec<String>) -> Mount {
    Mount {
        destination: target.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options,
        ..Mount::default()
    }
}

fn device(node: &Node, user_namespace: bool, spec: &mut Spec) -> Result<()> {
    let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    if user_namespace {
        // Nodes cannot be made there; the host's is bound.
        spec.mounts.push(mount("bind", host, &node.path, vec!["rbind".into(), "rprivate".into()]));
        return Ok(());
    }
    let failed = |why: &str| Error::new(Kind::InvalidArgument, format!("cannot use the CDI device {host:?}: {why}"));
    let (mut kind, mut major, mut minor) = (node.kind.clone(), node.major, node.minor);
    let (mut mode, mut uid, mut gid) = (node.file_mode, node.uid, node.gid);
    if kind.is_empty() || (kind != "p" && major == 0) {
        let metadata = std::fs::metadata(host).map_err(|error| failed(&error.to_string()))?;
        kind = match metadata.file_type() {
            file if file.is_char_device() => "c".into(),
            file if file.is_block_device() => "b".into(),
            file if file.is_fifo() => "p".into(),
            _ => return Err(failed("it is no device")),
        };
        major = i64::from(rustix::fs::major(metadata.rdev()));
        minor = i64::from(rustix::fs::minor(metadata.rdev()));
        mode = mode.or(Some(metadata.mode() & 0o7777));
        (uid, gid) = (uid.or(Some(metadata.uid())), gid.or(Some(metadata.gid())));
    }
    let Some(linux) = &mut spec.linux else { return Ok(()) };
    let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
    if kind == "c" || kind == "b" {
        linux.resources.get_or_insert_default().devices.push(LinuxDeviceCgroup {
            allow: true,
            device_type: Some(kind.clone()),
            major: Some(major),
            minor: Some(minor),
            access: Some(access.into()),
        });
    }
    linux.devices.retain(|old| old.path != node.path);
    linux.devices.push(LinuxDevice {
        path: node.path.clone(),
        kind,
        major: Some(major),
        minor: Some(minor),
        file_mode: mode,
        uid,
        gid,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VENDOR: &str = r#"
cdiVersion: "0.6.0"
kind: example.com/gpu
containerEdits:
  env: ["DRIVER=1"]
devices:
  - name: all
    containerEdits:
      env: [GPU=all]
      deviceNodes:
        - path: /dev/gpu0
          hostPath: /dev/null
          permissions: rw
      mounts:
        - hostPath: /usr/lib/x
          containerPath: /usr/lib/y
          options: [ro, nosuid]
      hooks:
        - hookName: createContainer
          path: /bin/true
          args: ["true", x]
      additionalGids: [44]
  - name: "0"
"#;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_of_devices() {
        for name in ["nvidia.com/gpu=all", "vendor/class=0", "a.b/c_d=x:1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["/dev/null", "/dev/a=b", "gpu=0", "a/b", "a/b=", "/b=c", "a/b=c/d"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn edits_of_a_device() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(first.path().join("v.yaml"), VENDOR).unwrap();
        std::fs::write(first.path().join("broken.json"), "{").unwrap();
        std::fs::write(first.path().join("README"), "no description").unwrap();
        let directories = [first.path().to_owned(), second.path().to_owned()];
        let edits = chosen(&names(&["/dev/null", "example.com/gpu=all", "example.com/gpu=0"]), &directories).unwrap();
        assert_eq!(edits.len(), 3);
        let mut spec = Spec { process: Some(Default::default()), linux: Some(Default::default()), ..Spec::default() };
        edits.iter().for_each(|one| edit(one, false, &mut spec).unwrap());
        let (process, linux) = (spec.process.unwrap(), spec.linux.unwrap());
        assert_eq!(process.env, ["DRIVER=1", "GPU=all"]);
        assert_eq!(process.user.additional_gids, [44]);
        let node = &linux.devices[0];
        assert_eq!(
            (node.path.as_str(), node.kind.as_str(), node.major, node.minor),
            ("/dev/gpu0", "c", Some(1), Some(3))
        );
        assert_eq!(linux.resources.unwrap().devices[0].access.as_deref(), Some("rw"));
        assert_eq!(spec.mounts[0].options, ["ro", "nosuid", "rbind"]);
        assert_eq!(spec.hooks.unwrap().create_container[0].args, ["true", "x"]);
        // A later directory replaces what an earlier has.
        let json = r#"{"cdiVersion":"0.6.0","kind":"example.com/gpu","devices":[{"name":"all","containerEdits":{"env":["GPU=new"]}}]}"#;
        std::fs::write(second.path().join("v.json"), json).unwrap();
        let edits = chosen(&names(&["example.com/gpu=all"]), &directories).unwrap();
        assert_eq!(edits.iter().flat_map(|one| one.env.clone()).collect::<Vec<_>>(), ["GPU=new"]);
    }

    #[test]
    fn what_is_not_described() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("v.yaml"), VENDOR).unwrap();
        let error = chosen(&names(&["example.com/gpu=7"]), &[directory.path().to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "CDI device injection failed: unresolvable CDI devices example.com/gpu=7");
        assert_eq!(error.advice(), Some("described are: example.com/gpu=0, example.com/gpu=all"));
    }
}
