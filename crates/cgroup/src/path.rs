//! Which paths of groups are accepted.
//!
//! The path comes from a configuration or an API, and becomes directories below the cgroup mounts: `..` would reach the
//! groups of others, a name such as `memory.max` would collide with the kernel's files.

use crate::error::{Error, Result};

/// Checks `path` and returns its components. A leading slash is optional; empty components and `.` are dropped.
///
/// # Errors
/// [`Error::Path`] for `..`, an empty path, control characters, and names with which the kernel's own files begin.
pub(crate) fn components(path: &str) -> Result<Vec<&str>> {
    let refuse = |reason| Err(Error::Path { path: path.chars().take(160).collect(), reason });
    if path.len() > 2048 {
        return refuse("it is longer than 2048 bytes");
    }
    if path.chars().any(char::is_control) {
        return refuse("it has a control character in it");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() {
        return refuse("the root is not a container's own group");
    }
    for part in &parts {
        if *part == ".." {
            return refuse("`..` would leave the subtree");
        }
        if part.len() > 255 {
            return refuse("a component is longer than 255 bytes");
        }
        if part.starts_with("cgroup.") || matches!(*part, "tasks" | "notify_on_release" | "release_agent") {
            return refuse("a component is the name of one of the kernel's files");
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass() {
        assert_eq!(components("/dhow/abc").unwrap(), ["dhow", "abc"]);
        assert_eq!(components("dhow//./abc/").unwrap(), ["dhow", "abc"]);
        assert_eq!(components("system.slice/x.service..y").unwrap(), ["system.slice", "x.service..y"]);
    }

    #[test]
    fn paths_that_leave_are_refused() {
        for bad in
            ["", "/", ".", "..", "/dhow/../../x", "a/..", "a\nb", "a\0b", "dhow/cgroup.procs", &"x/".repeat(2000)]
        {
            assert!(matches!(components(bad), Err(Error::Path { .. })), "{bad:?}");
        }
        assert!(components(&"x".repeat(256)).is_err());
    }
}
