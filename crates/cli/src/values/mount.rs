//! `--mount type=bind|tmpfs,KEY=VALUE,…`.

use super::{boolean, quoted, size, tmpfs, volume};
use engine::containers::options::{Mount, MountSource};
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
    size: Option<u64>,
    mode: Option<u32>,
    /// The first key that only a kind of mount has, with the kind.
    bound_to: Vec<(&'static str, String)>,
}

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
        "volume" | "image" | "cluster" | "npipe" => {
            return Err(format!("mounts of type {kind} are not supported yet: bind and tmpfs are"));
        }
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
        // These three may stand alone.
        let truth = |value: Option<&str>| {
            value
                .map_or(Ok(true), boolean::parse)
                .map_err(|_| format!("invalid value for {key}: {}", value.unwrap_or_default()))
        };
        match key.as_str() {
            "readonly" | "ro" => {
                self.read_only = truth(value)?;
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.not_recursive = truth(value)?;
                self.bound_to.push(("bind", key));
                return Ok(());
            }
            _ => {}
        }
        let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.as_str() {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            // Without meaning on Linux, in Docker too.
            "consistency" => {}
            "bind-propagation" => {
                self.propagation = Some(propagation(value)?);
                self.bound_to.push(("bind", key));
            }
            "bind-recursive" => {
                self.not_recursive = recursion(value)?;
                self.bound_to.push(("bind", key));
            }
            "tmpfs-size" => {
                self.size = Some(size::parse(value).map_err(|_| format!("invalid value for {key}: {value}"))?);
                self.bound_to.push(("tmpfs", key));
            }
            "tmpfs-mode" => {
                self.mode = Some(tmpfs::octal(value).map_err(|_| format!("invalid value for {key}: {value}"))?);
                self.bound_to.push(("tmpfs", key));
            }
            _ if key.starts_with("volume-") => self.bound_to.push(("volume", key)),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
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
            create: false,
            propagation: self.propagation.clone(),
            recursive: !self.not_recursive,
        })
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

/// Whether the mounts below are left out.
fn recursion(value: &str) -> Result<bool, String> {
    match value {
        "enabled" => Ok(false),
        "disabled" => Ok(true),
        // A read-only mount is recursively read-only here where the kernel can, which is what "readonly" insists on.
        "writable" | "readonly" => {
            Err(format!("bind-recursive={value} is not supported yet: enabled and disabled are"))
        }
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
        MountSource::Bind { path: path.into(), create: false, propagation: propagation.map(String::from), recursive }
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
            ("src=data,dst=/b", "mounts of type volume are not supported yet: bind and tmpfs are"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
        assert!(parse("type=bind,src=a,dst=/b").is_err());
        assert!(parse("type=tmpfs,dst=b").is_err());
    }
}
