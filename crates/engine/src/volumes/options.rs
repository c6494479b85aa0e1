//! The options of the driver `local`: where a volume's data are.
//!
//! Docker mounts what they name on the volume's directory, in the host's mount table. dhow mounts it in each container's
//! own namespace: nothing is left to unmount, and a tmpfs is each container's own.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The file of a volume that has a size, beside the directory of one that has none.
pub(crate) const LIMITED: &str = "limited.ext4";

/// Where a volume's data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In its own directory.
    Directory(PathBuf),
    /// In a directory of the host.
    Bind {
        /// Absolute path.
        path: String,
        /// With the mounts below it.
        recursive: bool,
        /// Words for the mount: `ro`, `noexec`, …
        options: Vec<String>,
    },
    /// In a file with a file system of limited size, mounted for whoever needs it.
    Limited(PathBuf),
    /// In a file system that is mounted for each container.
    FileSystem {
        /// Its type.
        kind: String,
        /// Its device or address.
        device: String,
        /// Its options.
        options: Vec<String>,
    },
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// Refuses what [`source`] could not use.
pub(crate) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in options {
        match key.as_str() {
            "type" | "device" | "o" => {}
            "size" if options.contains_key("type") => {
                return Err(invalid("the option size is for a volume in a directory of its own")
                    .hint("a tmpfs has its size in o: --opt type=tmpfs --opt device=tmpfs --opt o=size=…"));
            }
            "size" => drop(crate::quota::bytes(value)?),
            _ => return Err(invalid(format!("invalid option: {key:?}")).hint("local knows type, device, o and size")),
        }
        if value.contains(['\0', '\n']) {
            return Err(invalid(format!("the value of option {key:?} contains a line break or NUL byte")));
        }
    }
    let needs = |key: &str, needed: &[&str]| {
        let missing = needed.iter().find(|name| options.get(**name).is_none_or(String::is_empty));
        match missing {
            Some(missing) if options.contains_key(key) => Err(invalid(format!("missing required option: {missing:?}"))),
            _ => Ok(()),
        }
    };
    needs("type", &["device"])?;
    needs("device", &["type"])?;
    needs("o", &["device", "type"])?;
    if is_bind(options) && !options["device"].starts_with('/') {
        return Err(invalid(format!("the device {:?} of a bind must be an absolute path", options["device"])));
    }
    Ok(())
}

fn words(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    options.get("o").map_or("", String::as_str).split(',').filter(|word| !word.is_empty())
}

fn is_bind(options: &BTreeMap<String, String>) -> bool {
    options.contains_key("device") && words(options).any(|word| matches!(word, "bind" | "rbind"))
}

/// Bytes that the volume may have; `None` for no limit, which is also what 0 means.
pub(crate) fn limit(options: &BTreeMap<String, String>) -> Option<u64> {
    // It was checked when the volume was made.
    options.get("size").and_then(|text| crate::quota::bytes(text).ok()).filter(|size| *size > 0)
}

/// Where the data are, by the options of the volume; `directory` is its own.
pub(crate) fn source(options: &BTreeMap<String, String>, directory: PathBuf) -> Source {
    if limit(options).is_some() {
        return Source::Limited(directory.with_file_name(LIMITED));
    }
    let (Some(kind), Some(device)) = (options.get("type"), options.get("device")) else {
        return Source::Directory(directory);
    };
    let rest = words(options).filter(|word| !matches!(*word, "bind" | "rbind")).map(str::to_owned).collect();
    if is_bind(options) {
        let recursive = words(options).any(|word| word == "rbind");
        return Source::Bind { path: device.clone(), recursive, options: rest };
    }
    Source::FileSystem { kind: kind.clone(), device: device.clone(), options: rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn sources() {
        let own = || PathBuf::from("/v");
        assert_eq!(source(&map(&[]), own()), Source::Directory(own()));
        let bind = map(&[("type", "none"), ("o", "bind,ro"), ("device", "/srv")]);
        let expected = Source::Bind { path: "/srv".into(), recursive: false, options: vec!["ro".into()] };
        assert_eq!(source(&bind, own()), expected);
        let tmpfs = map(&[("type", "tmpfs"), ("o", "size=1m,uid=5"), ("device", "tmpfs")]);
        let limited = source(&map(&[("size", "1g")]), "/volumes/v/_data".into());
        assert_eq!(limited, Source::Limited("/volumes/v/limited.ext4".into()));
        assert_eq!(source(&map(&[("size", "0")]), own()), Source::Directory(own()));
        let options = vec!["size=1m".into(), "uid=5".into()];
        assert_eq!(source(&tmpfs, own()), Source::FileSystem { kind: "tmpfs".into(), device: "tmpfs".into(), options });
    }

    #[test]
    fn refusals() {
        for (options, error) in [
            (map(&[("foo", "x")]), "invalid option: \"foo\""),
            (map(&[("type", "nfs")]), "missing required option: \"device\""),
            (map(&[("device", "/x")]), "missing required option: \"type\""),
            (map(&[("o", "bind")]), "missing required option: \"device\""),
            (map(&[("size", "1x")]), "invalid size: '1x'"),
            (
                map(&[("size", "1g"), ("type", "tmpfs"), ("device", "tmpfs")]),
                "the option size is for a volume in a directory of its own",
            ),
        ] {
            assert_eq!(check(&options).unwrap_err().to_string(), error);
        }
        assert!(check(&map(&[("type", "none"), ("o", "bind"), ("device", "srv")])).is_err());
        assert!(check(&map(&[("type", "none"), ("o", "bind"), ("device", "/srv")])).is_ok());
    }
}
