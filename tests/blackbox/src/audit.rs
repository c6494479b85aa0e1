//! What a container could leave behind: mounts, processes, cgroups, links, firewall rules, directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::host;

/// What was there at a moment; each entry is a line that says what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// Whose cgroups count: they are the one thing here that tests share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of containers whose id is known.
    Own,
    /// All; for a test that runs alone.
    All,
}

impl Snapshot {
    /// Looks at everything, from this process's namespaces and the test's directory.
    pub fn take(directory: &Path, scope: Scope) -> Result<Self> {
        let mut seen = BTreeSet::new();
        mounts(&mut seen)?;
        processes(&mut seen)?;
        cgroups(directory, scope, &mut seen);
        links(&mut seen);
        // Tables and chains outlive containers as the bridge does; a test that has warmed up compares them.
        if scope == Scope::All {
            rules(&mut seen);
        }
        state(directory, &mut seen);
        Ok(Self(seen))
    }

    /// What is there now and was not before.
    pub fn leaks_since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn mounts(seen: &mut BTreeSet<String>) -> Result<()> {
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        // Identifier, parent, device, root, mount point, options, …, type, source.
        let fields: Vec<&str> = line.split(' ').collect();
        seen.insert(format!("mount: {}", fields.get(3..).unwrap_or_default().join(" ")));
    }
    Ok(())
}

/// All processes that are not this one, its threads or its children's shells; by number, since numbers are not soon reused.
fn processes(seen: &mut BTreeSet<String>) -> Result<()> {
    let own = std::process::id();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let mut fields = tail.split_whitespace();
        let (state, parent) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        // Kernel threads come and go; what the test itself has not waited for is its own affair.
        if pid == own || parent == "2" || (state == "Z" && parent == own.to_string()) {
            continue;
        }
        let command = head.split_once('(').map_or("", |(_, name)| name);
        // The bus of the user's systemd, which starts with the first request for a scope and stays.
        if command == "dbus-daemon" {
            continue;
        }
        let zombie = if state == "Z" { " (zombie)" } else { "" };
        seen.insert(format!("process: {pid} {command}{zombie}"));
    }
    Ok(())
}

fn cgroups(directory: &Path, scope: Scope, seen: &mut BTreeSet<String>) {
    let marks = ids(directory);
    let mut waiting = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let path = entry.path();
            if scope == Scope::All || marks.iter().any(|mark| entry.file_name().to_string_lossy().contains(mark)) {
                seen.insert(format!("cgroup: {}", path.display()));
            }
            waiting.push(path);
        }
    }
}

/// The ids that [`remember`] wrote down.
fn ids(directory: &Path) -> Vec<String> {
    fs::read_to_string(directory.join("ids")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Writes down a container's id, so that its cgroup is looked for from now on.
pub fn remember(directory: &Path, id: &str) -> Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(directory.join("ids"))?;
    writeln!(file, "{id}")?;
    Ok(())
}

/// Links of this network namespace, without those that outlive containers: bridges, and the way from them to this machine.
fn links(seen: &mut BTreeSet<String>) {
    let Ok(text) = host::succeed(Command::new("ip").args(["-oneline", "link"])) else { return };
    for line in text.lines() {
        let Some(name) = line.split(": ").nth(1) else { continue };
        let name = name.split('@').next().unwrap_or(name);
        let bridge = host::succeed(Command::new("ip").args(["link", "show", "dev", name, "type", "bridge"]));
        if name.starts_with("dhow-gate") || bridge.is_ok_and(|text| !text.is_empty()) {
            continue;
        }
        seen.insert(format!("link: {name}"));
    }
}

fn rules(seen: &mut BTreeSet<String>) {
    let Ok(text) = host::succeed(Command::new("nft").args(["--stateless", "list", "ruleset"])) else { return };
    seen.extend(text.lines().map(|line| format!("rule: {}", line.trim())));
}

/// What dhow keeps per container or per operation.
fn state(directory: &Path, seen: &mut BTreeSet<String>) {
    for parent in ["run/containers", "data/containers", "data/staging", "data/volumes/.pending", "run/netns"] {
        let Ok(entries) = fs::read_dir(directory.join(parent)) else { continue };
        for entry in entries.flatten() {
            seen.insert(format!("directory: {parent}/{}", entry.file_name().to_string_lossy()));
        }
    }
}
