//! Docker's rules of `cp`: what is a container's path, and under which name a copy stands where.

use crate::failure::Failure;
use std::path::Path;

/// `CONTAINER:PATH`; `None` for a path of the host, which is absolute, begins with a dot, or has no colon.
pub fn container(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('/') {
        return None;
    }
    text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.starts_with('.'))
}

/// What is copied.
#[derive(Debug)]
pub struct Source<'a> {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The last name of its path as it was written: `.` for a directory's content.
    pub name: &'a str,
}

/// Where to.
#[derive(Debug)]
pub struct Destination {
    /// Its path, with a slash at its end if there was one.
    pub path: String,
    /// Whether there is something.
    pub exists: bool,
    /// Whether that is a directory.
    pub is_directory: bool,
}

impl Destination {
    /// A path of the host. A link at its end stands for what it leads to.
    pub fn of_host(path: &Path) -> Destination {
        let mut text = path.to_string_lossy().into_owned();
        let mut links = 0;
        while let Ok(target) = std::fs::read_link(text.trim_end_matches('/'))
            && links < 40
        {
            links += 1;
            let above = Path::new(text.trim_end_matches('/')).parent().unwrap_or(Path::new("/")).to_owned();
            text = above.join(target).to_string_lossy().into_owned();
        }
        let there = std::fs::metadata(&text);
        Destination { exists: there.is_ok(), is_directory: there.is_ok_and(|there| there.is_dir()), path: text }
    }
}

/// The directory that is unpacked into, and the first name there.
pub fn place(source: &Source<'_>, destination: &Destination) -> Result<(String, String), Failure> {
    let path = &destination.path;
    if destination.exists && destination.is_directory {
        return Ok((path.clone(), source.name.to_owned()));
    }
    if destination.exists && source.is_directory {
        return Err(Failure::new("cannot copy directory"));
    }
    if !destination.exists && !source.is_directory && (path.ends_with('/') || path.ends_with("/.") || path.is_empty()) {
        return Err(Failure::new("no such directory"));
    }
    let plain = path.trim_end_matches("/.").trim_end_matches('/');
    let (above, name) = plain.rsplit_once('/').unwrap_or(("", plain));
    Ok((if above.is_empty() { "/".to_owned() } else { above.to_owned() }, name.to_owned()))
}

/// The name by which a path's archive begins.
pub fn last_name(path: &str) -> String {
    if path.ends_with("/.") || path == "." {
        return ".".into();
    }
    match path.trim_end_matches('/').rsplit('/').next() {
        // The root is known by its content.
        None | Some("" | "..") => ".".into(),
        Some(name) => name.into(),
    }
}

/// What stands for that name in a renaming: members of `.` have no common name.
pub fn archived(name: &str) -> Vec<u8> {
    if name == "." { Vec::new() } else { name.as_bytes().to_vec() }
}

/// A source on the host.
#[derive(Debug)]
pub struct HostSource {
    /// The path that is packed.
    pub path: String,
    /// The name by which its archive begins.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Looks at a source on the host; with `follow` a link at its end stands for what it leads to, under its own name.
pub fn of_host(path: &str, follow: bool) -> Result<HostSource, Failure> {
    let absolute = absolute(path)?;
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(format!("lstat {}: no such file or directory", absolute.trim_end_matches('/')))
        }
        _ => Failure::caused(format!("lstat {absolute}"), error),
    };
    let mut packed = absolute.clone();
    if follow && !absolute.ends_with('/') && !absolute.ends_with("/.") {
        let resolved = std::fs::canonicalize(&absolute).map_err(missing)?;
        packed = resolved.to_str().ok_or_else(|| Failure::new(format!("the path {path:?} is not UTF-8")))?.to_owned();
    }
    let there = std::fs::symlink_metadata(&packed).map_err(missing)?;
    Ok(HostSource { name: last_name(&absolute), path: packed, is_directory: there.is_dir() })
}

/// The absolute path, with the slash or `/.` at its end, which say something here.
pub fn absolute(path: &str) -> Result<String, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| Failure::caused(format!("{path:?} is no path"), error))?;
    let text = absolute.to_str().ok_or_else(|| Failure::new(format!("the path {path:?} is not UTF-8")))?;
    let text = text.trim_end_matches('/');
    Ok(if path.ends_with("/.") || path == "." {
        format!("{text}/.")
    } else if path.ends_with('/') || text.is_empty() {
        format!("{text}/")
    } else {
        text.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        assert_eq!(container("web:/x"), Some(("web", "/x")));
        assert_eq!(container("web:x:y"), Some(("web", "x:y")));
        for host in ["/a:b", "./a:b", "../a:b", "a", "-", ":/x"] {
            assert_eq!(container(host), None, "{host}");
        }
    }

    #[test]
    fn places() {
        let directory = |path: &str| Destination { path: path.into(), exists: true, is_directory: true };
        let file = |path: &str| Destination { path: path.into(), exists: true, is_directory: false };
        let nothing = |path: &str| Destination { path: path.into(), exists: false, is_directory: false };
        let from_file = || Source { is_directory: false, name: "f" };
        let from_directory = || Source { is_directory: true, name: "d" };
        for (source, destination, expected) in [
            (from_file(), directory("/x"), Some(("/x", "f"))),
            (from_directory(), directory("/x"), Some(("/x", "d"))),
            (Source { is_directory: true, name: "." }, directory("/x"), Some(("/x", "."))),
            (from_file(), file("/x/y"), Some(("/x", "y"))),
            (from_directory(), file("/x/y"), None),
            (from_file(), nothing("/x/y"), Some(("/x", "y"))),
            (from_file(), nothing("/y"), Some(("/", "y"))),
            (from_file(), nothing("/x/y/"), None),
            (from_directory(), nothing("/x/y"), Some(("/x", "y"))),
            (from_directory(), nothing("/x/y/"), Some(("/x", "y"))),
            (Source { is_directory: true, name: "." }, nothing("/x/y/."), Some(("/x", "y"))),
        ] {
            let found = place(&source, &destination).ok();
            let found = found.as_ref().map(|(directory, name)| (directory.as_str(), name.as_str()));
            assert_eq!(found, expected, "{source:?} {destination:?}");
        }
    }

    #[test]
    fn last_names() {
        for (path, name) in
            [("/a/b", "b"), ("/a/b/", "b"), ("/a/b/.", "."), ("/", "."), (".", "."), ("a/..", "."), ("b", "b")]
        {
            assert_eq!(last_name(path), name, "{path}");
        }
    }
}
