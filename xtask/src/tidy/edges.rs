//! Which crate may use which: an edge that is not in the table fails, so that a new one is a visible change.

use serde_json::Value;

/// Our crates, lowest first, and what each may use of ours.
const EDGES: &[(&str, &[&str])] = &[
    ("dbus", &[]),
    ("kernel", &[]),
    ("oci", &[]),
    ("archive", &[]),
    ("erofs", &[]),
    ("seccomp", &["oci"]),
    ("cgroup", &["dbus", "kernel", "oci"]),
    ("criu", &["kernel"]),
    ("network", &["dbus", "kernel"]),
    ("registry", &["oci"]),
    ("signature", &["oci"]),
    ("store", &["kernel", "oci", "archive", "erofs"]),
    ("runtime", &["kernel", "cgroup", "criu", "seccomp", "oci"]),
    ("monitor", &["kernel", "oci", "cgroup", "network", "runtime"]),
    // The command line that other engines call; beside the engine, not below it.
    ("oci-runtime", &["kernel", "oci", "cgroup", "network", "runtime"]),
    (
        "engine",
        &[
            "kernel",
            "oci",
            "seccomp",
            "cgroup",
            "runtime",
            "monitor",
            "archive",
            "store",
            "registry",
            "signature",
            "network",
        ],
    ),
    ("docker-json", &["engine", "oci"]),
    // Beside the engine: who is at the other end of a socket, rootless start (kernel), the streams that the engine hands out
    // (monitor), other people's formats.
    ("docker-api", &["docker-json", "engine", "kernel", "monitor", "oci"]),
    ("cli", &["docker-api", "docker-json", "engine", "kernel", "runtime", "monitor", "oci", "oci-runtime"]),
    ("blackbox", &[]),
    ("xtask", &[]),
];

/// Foreign crates that only some of ours may use.
const PLACES: &[(&str, &[&str])] = &[
    ("anyhow", &["xtask", "blackbox"]),
    ("clap", &["cli"]),
    ("hyper", &["docker-api", "registry"]),
    ("libc", &["kernel"]),
    ("linux-raw-sys", &["kernel"]),
    ("nix", &["blackbox"]),
    ("ring", &["signature"]),
    ("rusqlite", &["engine"]),
    ("rustls-webpki", &["signature"]),
    ("tokio", &["docker-api", "registry"]),
];

/// Edges that the table does not have, and crates that it does not know.
pub fn undeclared(metadata: &Value) -> Vec<String> {
    let mut broken = vec![];
    for (name, dependencies) in packages(metadata) {
        // The program's package has the program's name.
        let known = if name == "dhow" { "cli" } else { name };
        let Some((_, allowed)) = EDGES.iter().find(|(each, _)| *each == known) else {
            broken.push(format!("{name}: not in the table of xtask/src/tidy/edges.rs"));
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| !dependency["path"].is_null()) {
            let used = dependency["name"].as_str().unwrap_or_default();
            // A test may stand on more than what it tests.
            if dependency["kind"] != "dev" && !allowed.contains(&used) {
                broken.push(format!("{name} uses {used}, which is not in the table"));
            }
        }
    }
    broken
}

/// Foreign crates used where they do not belong.
pub fn misplaced(metadata: &Value) -> Vec<String> {
    let mut broken = vec![];
    for (name, dependencies) in packages(metadata) {
        let known = if name == "dhow" { "cli" } else { name };
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"] != "dev") {
            let used = dependency["name"].as_str().unwrap_or_default();
            if PLACES.iter().any(|(each, places)| *each == used && !places.contains(&known)) {
                broken.push(format!("{name} uses {used}"));
            }
        }
    }
    broken
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Vec<Value>)> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter_map(|package| Some((package["name"].as_str()?, package["dependencies"].as_array()?)))
}
