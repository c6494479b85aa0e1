//! `--mount type=bind|volume|tmpfs|image,KEY=VALUE,…`.

use super::{boolean, quoted, size, tmpfs, volume};
use engine::containers::options::{Below, ImageMount, Mount, MountSource, VolumeMount};
use std::path::PathBuf;

/// What the keys said, before it is known that they belong together.
#[derive(Default)]
struct Keys {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    propagation: Option<String>,
    not_recursive: bool,
    /// `writable` or `readonly`, which only mean something on a read-only mount.
    below: Option<Below>,
    create: bool,
    id_map: bool,
    volume: VolumeMount,
    image_subpath: String,
    size: Option<u64>,
    mode: Option<u32>,
    /// The first key that only a kind of mount has, with the kind.
    bound_to: Vec<(&'static str, String)>,
}

/// What keys of one kind of mount begin with, and the kind.
const OWNERS: &[(&str, &str)] = &[("bind-", "bind"), ("image-", "image"), ("tmpfs-", "tmpfs"), ("volume-", "volume")];

/// Reads one mount. `directory` is what a source starting with `.` is relative to.
pub fn parse(text: &str, directory: &dyn Fn() -> Option<PathBuf>) -> Result<Mount, String> {
    let mut keys = Keys::default();
    for field in quoted::fields(text)? {
        keys.set(&field)?;
    }
    let target = keys.target.clone().filter(|target| !target.is_empty()).ok_or("target is required")?;
    let kind = keys.kind.clone().unwrap_or_else(|| "volume".to_owned());
    if let Some((owner, key)) = keys.bound_to.iter().find(|(owner, _)| *owner != kind) {
        return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}' ({key})"));
    }
    if !target.starts_with('/') {
        return Err(format!(
            "invalid mount config for type {kind:?}: invalid mount path: '{target}' mount path must be absolute"
        ));
    }
    let source = match kind.as_str() {
        "bind" => keys.bind(directory)?,
        "tmpfs" => keys.tmpfs()?,
        "volume" => keys.volume()?,
        "image" => keys.image()?,
        "cluster" | "npipe" => return Err(format!("mounts of type {kind} do not exist on this host")),
        _ => return Err(format!("mount type unknown: {kind:?}")),
    };
    Ok(Mount { source, target, read_only: keys.read_only, relabel: None })
}

impl Keys {
    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        if key.is_empty() || key.trim() != key {
            return Err(format!(
                "invalid option '{field}' in '{field}': option should not have whitespace or be empty"
            ));
        }
        if let Some((_, owner)) = OWNERS.iter().find(|(prefix, _)| key.starts_with(prefix)) {
            self.bound_to.push((owner, key.clone()));
        }
        if key == "idmap" {
            self.bound_to.push(("bind", key.clone()));
        }
        if self.set_switch(&key, value)? {
            return Ok(());
        }
        let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.as_str() {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            // Without meaning on Linux, in Docker too.
            "consistency" => {}
            "bind-propagation" => self.propagation = Some(propagation(value)?),
            "bind-recursive" => (self.not_recursive, self.below) = recursion(value)?,
            "tmpfs-size" => {
                self.size = Some(size::parse(value).map_err(|_| format!("invalid value for {key}: {value}"))?);
            }
            "tmpfs-mode" => {
                self.mode = Some(tmpfs::octal(value).map_err(|_| format!("invalid value for {key}: {value}"))?);
            }
            "volume-subpath" => value.clone_into(&mut self.volume.subpath),
            "volume-driver" => value.clone_into(&mut self.volume.driver),
            "volume-label" | "volume-opt" => {
                let map = if key == "volume-opt" { &mut self.volume.options } else { &mut self.volume.labels };
                let (name, content) = value.split_once('=').unwrap_or((value, ""));
                map.insert(name.to_owned(), content.to_owned());
            }
            "image-subpath" => value.clone_into(&mut self.image_subpath),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    /// The keys that may stand alone.
    fn set_switch(&mut self, key: &str, value: Option<&str>) -> Result<bool, String> {
        let switch = match key {
            "readonly" | "ro" => &mut self.read_only,
            "volume-nocopy" => &mut self.volume.no_copy,
            "bind-create-src" => &mut self.create,
            "idmap" => &mut self.id_map,
            "bind-nonrecursive" => &mut self.not_recursive,
            _ => return Ok(false),
        };
        *switch = value
            .map_or(Ok(true), boolean::parse)
            .map_err(|_| format!("invalid value for {key}: {}", value.unwrap_or_default()))?;
        Ok(true)
    }

    fn bind(&self, directory: &dyn Fn() -> Option<PathBuf>) -> Result<MountSource, String> {
        let source = self.source.as_deref().unwrap_or_default();
        if source.is_empty() {
            return Err("invalid mount config for type \"bind\": field Source must not be empty".into());
        }
        if !source.starts_with(['/', '.']) {
            return Err(format!(
                "invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
            ));
        }
        Ok(MountSource::Bind {
            path: volume::host_path(source, directory)?,
            create: self.create,
            propagation: self.below_with_propagation()?,
            recursive: !self.not_recursive,
            below: self.below.unwrap_or_default(),
            id_map: self.id_map,
        })
    }

    /// What belongs together with `bind-recursive`.
    fn below_with_propagation(&self) -> Result<Option<String>, String> {
        if self.below.is_some() && !self.read_only {
            return Err(
                "option 'bind-recursive=writable' or 'readonly' requires 'readonly' to be specified in conjunction"
                    .into(),
            );
        }
        if self.below == Some(Below::ReadOnly) && self.propagation.as_deref() != Some("rprivate") {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .into(),
            );
        }
        Ok(self.propagation.clone())
    }

    fn volume(&self) -> Result<MountSource, String> {
        let name = self.source.clone().unwrap_or_default();
        if name.is_empty() && !self.volume.subpath.is_empty() {
            return Err(
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes".into()
            );
        }
        Ok(MountSource::Volume(VolumeMount { name, ..self.volume.clone() }))
    }

    fn image(&self) -> Result<MountSource, String> {
        let name = self.source.clone().unwrap_or_default();
        if name.is_empty() {
            return Err("invalid mount config for type \"image\": field Source must not be empty".into());
        }
        Ok(MountSource::Image(ImageMount { name, subpath: self.image_subpath.clone(), ..ImageMount::default() }))
    }

    fn tmpfs(&self) -> Result<MountSource, String> {
        if self.source.as_deref().is_some_and(|source| !source.is_empty()) {
            return Err("invalid mount config for type \"tmpfs\": field Source must not be specified".into());
        }
        Ok(MountSource::Tmpfs { size: self.size, mode: self.mode, options: Vec::new() })
    }
}

fn propagation(value: &str) -> Result<String, String> {
    let value = value.to_ascii_lowercase();
    match value.as_str() {
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => Ok(value),
        _ => Err(format!("invalid propagation value: {value}")),
    }
}

/// Whether the mounts below are left out, and what a read-only mount means for them.
fn recursion(value: &str) -> Result<(bool, Option<Below>), String> {
    match value {
        "enabled" => Ok((false, None)),
        "disabled" => Ok((true, None)),
        "writable" => Ok((false, Some(Below::Writable))),
        "readonly" => Ok((false, Some(Below::ReadOnly))),
        _ => Err(format!(
            "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        super::parse(text, &|| Some("/home/me".into()))
    }

    fn bind(path: &str, propagation: Option<&str>, recursive: bool) -> MountSource {
        let propagation = propagation.map(String::from);
        MountSource::Bind {
            path: path.into(),
            create: false,
            propagation,
            recursive,
            below: Below::ReadOnly,
            id_map: false,
        }
    }

    #[test]
    fn volumes_and_images() {
        let volume = |change: fn(&mut VolumeMount)| {
            let mut volume = VolumeMount::default();
            change(&mut volume);
            MountSource::Volume(volume)
        };
        for (text, source) in [
            ("src=data,dst=/d", volume(|v| v.name = "data".into())),
            ("type=volume,dst=/d", volume(|_| {})),
            ("type=volume,src=data,dst=/d,volume-nocopy", volume(|v| (v.name, v.no_copy) = ("data".into(), true))),
            ("src=a1,dst=/d,volume-subpath=x/y", volume(|v| (v.name, v.subpath) = ("a1".into(), "x/y".into()))),
            (
                "dst=/d,volume-driver=local,volume-opt=type=tmpfs,\"volume-opt=o=a,b\",volume-label=k=v",
                volume(|v| {
                    v.driver = "local".into();
                    v.options = [("type", "tmpfs"), ("o", "a,b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
                    v.labels = [("k".to_owned(), "v".to_owned())].into();
                }),
            ),
            (
                "type=image,src=busybox,dst=/d,image-subpath=bin",
                MountSource::Image(ImageMount {
                    name: "busybox".into(),
                    subpath: "bin".into(),
                    ..ImageMount::default()
                }),
            ),
        ] {
            assert_eq!(parse(text).unwrap().source, source, "{text}");
        }
        assert!(parse("dst=/d,volume-subpath=x").is_err());
        assert!(parse("type=image,dst=/d").is_err());
        assert!(parse("type=bind,src=/a,dst=/d,bind-recursive=readonly").is_err());
        assert!(parse("type=bind,src=/a,dst=/d,ro,bind-recursive=readonly,bind-propagation=rprivate").is_ok());
        assert!(parse("type=bind,src=/a,dst=/d,ro,bind-recursive=writable").is_ok());
    }

    #[test]
    fn table() {
        for (text, source, target, read_only) in [
            ("type=bind,src=/a,dst=/b", bind("/a", None, true), "/b", false),
            ("type=bind,source=/a,target=/b,readonly", bind("/a", None, true), "/b", true),
            ("TYPE=bind,src=/a,destination=/b,ro=false", bind("/a", None, true), "/b", false),
            ("type=bind,src=./x,dst=/b,bind-propagation=rslave", bind("/home/me/x", Some("rslave"), true), "/b", false),
            ("type=bind,src=/a,dst=/b,bind-recursive=disabled", bind("/a", None, false), "/b", false),
            ("type=bind,\"src=/a,b\",dst=/b", bind("/a,b", None, true), "/b", false),
            ("type=tmpfs,dst=/t", MountSource::Tmpfs { size: None, mode: None, options: vec![] }, "/t", false),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                MountSource::Tmpfs { size: Some(1 << 20), mode: Some(0o1770), options: vec![] },
                "/t",
                false,
            ),
        ] {
            let mount = parse(text).unwrap();
            assert_eq!((mount.source, mount.target.as_str(), mount.read_only), (source, target, read_only), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("type=bind,src=/a", "target is required"),
            ("type=foo", "target is required"),
            ("type=foo,dst=/a", "mount type unknown: \"foo\""),
            ("type=bind,dst=/b", "invalid mount config for type \"bind\": field Source must not be empty"),
            ("type=tmpfs,src=/a,dst=/b", "invalid mount config for type \"tmpfs\": field Source must not be specified"),
            (
                "type=bind,src=/a,dst=/b,tmpfs-size=1",
                "cannot mix 'tmpfs-*' options with mount type 'bind' (tmpfs-size)",
            ),
            ("type=bind,src=/a,dst=/b,foo=1", "unexpected key 'foo' in 'foo=1'"),
            ("type=bind,src=/a,dst=/b,foo", "invalid field 'foo' must be a key=value pair"),
            ("type=bind,src=/a,dst=/b,readonly=x", "invalid value for readonly: x"),
            ("type=bind,src=/a,dst=/b,bind-propagation=x", "invalid propagation value: x"),
            ("type=tmpfs,dst=/b,tmpfs-size=x", "invalid value for tmpfs-size: x"),
            ("type=cluster,src=data,dst=/b", "mounts of type cluster do not exist on this host"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
        assert!(parse("type=bind,src=a,dst=/b").is_err());
        assert!(parse("type=tmpfs,dst=b").is_err());
    }
}
