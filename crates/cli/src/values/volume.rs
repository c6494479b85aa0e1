//! `-v [SOURCE:]TARGET[:OPTIONS]`: a directory of the host, a named volume, or a new anonymous one.

use engine::containers::options::{Below, Mount, MountSource, VolumeMount, VolumesFrom};
use std::path::{Component, Path, PathBuf};

/// Reads one mount. `driver` is that of volumes that are made; `directory` is what a source starting with `.` is relative to.
pub fn parse(text: &str, driver: &str, directory: &dyn Fn() -> Option<PathBuf>) -> Result<Mount, String> {
    let invalid = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid()),
    };
    if (source.is_empty() && parts.len() > 1) || target.is_empty() {
        return Err(invalid());
    }
    let source = match is_path(source) {
        true => MountSource::Bind {
            path: host_path(source, directory)?,
            create: true,
            propagation: None,
            recursive: true,
            below: Below::ReadOnly,
            id_map: false,
        },
        // The engine knows which names are good.
        false => MountSource::Volume(VolumeMount {
            name: source.to_owned(),
            driver: driver.to_owned(),
            ..VolumeMount::default()
        }),
    };
    if !target.starts_with('/') {
        let kind = if matches!(source, MountSource::Bind { .. }) { "bind" } else { "volume" };
        return Err(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute"
        ));
    }
    if normal(Path::new(target)) == Path::new("/") {
        return Err(format!("invalid volume specification: '{text}': invalid specification: destination can't be '/'"));
    }
    let mut mount = Mount { source, target: target.to_owned(), read_only: false, relabel: None };
    apply(options, &mut mount).map_err(|mode| format!("invalid mode: {mode}"))?;
    Ok(mount)
}

/// Applies the words after the second colon; the error is the text that is at fault.
fn apply(options: &str, mount: &mut Mount) -> Result<(), String> {
    let mut writability = 0;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "rw" => {
                writability += 1;
                mount.read_only = option == "ro";
            }
            "z" | "Z" if mount.relabel.is_none() => mount.relabel = option.chars().next(),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => match &mut mount.source {
                MountSource::Bind { propagation: propagation @ None, .. } => *propagation = Some(option.to_owned()),
                _ => return Err(options.to_owned()),
            },
            "idmap" => match &mut mount.source {
                MountSource::Bind { id_map, .. } if !*id_map => *id_map = true,
                _ => return Err(options.to_owned()),
            },
            "nocopy" => match &mut mount.source {
                MountSource::Volume(volume) if !volume.no_copy => volume.no_copy = true,
                _ => return Err(options.to_owned()),
            },
            // Docker Desktop's hints; on Linux they have no meaning in Docker either.
            "consistent" | "cached" | "delegated" => {}
            _ => return Err(options.to_owned()),
        }
    }
    if writability > 1 { Err(options.to_owned()) } else { Ok(()) }
}

/// Whether a source is a path of the host and not a volume's name. What contains a slash was meant as a path, and gets the
/// error of one.
fn is_path(source: &str) -> bool {
    source.starts_with(['/', '~']) || source.contains('/') || source == "." || source == ".."
}

/// Reads one `--volumes-from CONTAINER[:ro|rw]`.
pub fn from_container(text: &str) -> Result<VolumesFrom, String> {
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        return Err(format!("invalid volumes-from specification: {text:?}"));
    }
    let mut read_only = false;
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => read_only = true,
            "rw" | "z" | "Z" | "nocopy" => {}
            _ => return Err(format!("invalid mode: {mode}")),
        }
    }
    Ok(VolumesFrom { container: container.to_owned(), read_only })
}

/// The absolute form of a path of the host.
pub fn host_path(source: &str, directory: &dyn Fn() -> Option<PathBuf>) -> Result<String, String> {
    if source.starts_with('/') {
        return Ok(text(&normal(Path::new(source))));
    }
    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") {
        let base = directory().ok_or("the working directory cannot be read")?;
        return Ok(text(&normal(&base.join(source))));
    }
    if source == "~" || source.starts_with("~/") {
        return Err(format!("{source} is not an absolute path: the shell expands ~ only at the start of a word"));
    }
    Err(format!(
        "create {source}: {source:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed: if you intended to pass a host directory, use absolute path"
    ))
}

/// The path without `.`, `..` and doubled slashes, by its text alone.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        super::parse(text, "", &|| Some("/home/me".into()))
    }

    fn short(mount: &Mount) -> String {
        let MountSource::Bind { path, propagation, create, recursive, .. } = &mount.source else { panic!() };
        assert!(create & recursive);
        let propagation = propagation.as_deref().unwrap_or("-");
        let relabel = mount.relabel.unwrap_or('-');
        format!("{path} {} {} {relabel} {propagation}", mount.target, if mount.read_only { "ro" } else { "rw" })
    }

    #[test]
    fn table() {
        for (text, expected) in [
            ("/a:/b", "/a /b rw - -"),
            ("/a:/b:ro", "/a /b ro - -"),
            ("/a:/b:rw", "/a /b rw - -"),
            ("/a:/b:ro,z", "/a /b ro z -"),
            ("/a:/b:Z,rslave", "/a /b rw Z rslave"),
            ("/a:/b:cached", "/a /b rw - -"),
            ("./x:/b", "/home/me/x /b rw - -"),
            ("../x//y/.:/b", "/home/x/y /b rw - -"),
            (".:/b:", "/home/me /b rw - -"),
            ("/a/../../b:/c", "/b /c rw - -"),
        ] {
            assert_eq!(short(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn volumes() {
        for (text, name, no_copy, read_only) in [
            ("data:/b", "data", false, false),
            ("data:/b:ro,nocopy", "data", true, true),
            ("/b", "", false, false),
            ("d.a-t_a:/b:z", "d.a-t_a", false, false),
        ] {
            let mount = parse(text).unwrap();
            let volume = VolumeMount { name: name.into(), no_copy, ..VolumeMount::default() };
            assert_eq!((mount.source, mount.read_only), (MountSource::Volume(volume), read_only), "{text}");
            assert_eq!(mount.target, "/b");
        }
    }

    #[test]
    fn other_containers() {
        let from = |text| from_container(text).map(|from| (from.container, from.read_only));
        assert_eq!(from("web"), Ok(("web".into(), false)));
        assert_eq!(from("web:ro"), Ok(("web".into(), true)));
        assert!(from(":ro").is_err() && from("web:x").is_err());
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:", "invalid volume specification: '/a:'"),
            ("/a:/b:foo", "invalid mode: foo"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:z,Z", "invalid mode: z,Z"),
            ("/a:/b:shared,slave", "invalid mode: shared,slave"),
            ("/a:/b:nocopy", "invalid mode: nocopy"),
            ("data:/b:idmap", "invalid mode: idmap"),
            ("data:/b:shared", "invalid mode: shared"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
        assert!(matches!(parse("/a:/b:ro,idmap").unwrap().source, MountSource::Bind { id_map: true, .. }));
        assert!(parse("/a:b").unwrap_err().ends_with("mount path must be absolute"));
        assert!(parse("/a:/.").unwrap_err().ends_with("destination can't be '/'"));
        assert!(parse("a/b:/c").unwrap_err().contains("use absolute path"));
    }
}
