//! Under which name this program was called: its own, or `docker`, whose place it then takes.

use std::ffi::OsStr;
use std::path::Path;

/// The version of Docker whose command line this is: what scripts compare that call this program `docker`.
const DOCKER_VERSION: &str = "28.3.0";

/// Whether the program was called as `docker`.
pub fn is_docker() -> bool {
    std::env::args_os().next().is_some_and(|name| named_docker(&name))
}

fn named_docker(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new("docker"))
}

/// The name by which the program speaks of itself.
pub fn name() -> &'static str {
    if is_docker() { "docker" } else { "dhow" }
}

/// The version by which scripts judge what can be expected.
pub fn version() -> &'static str {
    if is_docker() { DOCKER_VERSION } else { engine::VERSION }
}

/// What `--version` prints.
pub fn version_line() -> String {
    match is_docker() {
        true => format!("Docker version {DOCKER_VERSION}, build dhow-{}\n", engine::VERSION),
        false => format!("dhow version {}\n", engine::VERSION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_last_part_of_the_path() {
        for (name, expected) in [("docker", true), ("/usr/bin/docker", true), ("dhow", false), ("docker-x", false)] {
            assert_eq!(named_docker(OsStr::new(name)), expected, "{name}");
        }
    }
}
