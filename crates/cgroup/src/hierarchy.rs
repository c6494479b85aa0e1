//! Where the control groups of this machine are.
//!
//! Three layouts exist: *pure v2* (one tree on /sys/fs/cgroup), *v1* (a tree per controller or per pair of them below
//! /sys/fs/cgroup) and *hybrid* (v1 trees and a v2 tree, usually without controllers, on /sys/fs/cgroup/unified).
//! In a hybrid the v2 tree is used for what its core can do without controllers, and does better than v1: entering on
//! clone, freezing, killing, listing.
//!
//! Detection stands on the start path: the usual places are verified by statfs(2), which costs a microsecond each; only
//! an unusual machine pays for parsing its mount table.

use crate::controller::Controller;
use crate::error::{Error, FailedCall, Result};
use crate::files::read_path;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
const ROOT: &str = "/sys/fs/cgroup";

/// Version of the interface of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// cgroup v1 (Linux 2.6.24).
    V1,
    /// cgroup v2 (Linux 4.5).
    V2,
}

/// One mounted tree of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The interface it has.
    pub version: Version,
    /// The controllers that it can enforce; those that this crate does not know are left out.
    pub controllers: Vec<Controller>,
    /// The name of a v1 tree without controllers, such as `systemd`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The group of this tree below which [`crate::Description::path`] is, without leading slash; empty for the tree's root.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub above: String,
}

/// The layout of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// v2 alone.
    Unified,
    /// v1 alone.
    Legacy,
    /// v1 for controllers, v2 beside it.
    Hybrid,
}

/// All trees of this machine, and where in them dhow's groups are placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    pub(crate) mounts: Vec<Mount>,
    /// The group that was given to us, with a leading slash; empty where all of the trees is ours.
    pub(crate) base: String,
}

impl Hierarchy {
    /// Looks at this machine.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`], or a failed read of /proc.
    pub fn detect() -> Result<Hierarchy> {
        if magic(Path::new(ROOT)) == Some(CGROUP2_SUPER_MAGIC) {
            let mounts = vec![unified(PathBuf::from(ROOT))?];
            return Ok(Hierarchy { mounts, base: String::new() });
        }
        let own = read_path("/proc/self/cgroup")?;
        let mounts = match usual_places(&own) {
            Some(mounts) => mounts,
            None => from_mount_table(&read_path("/proc/self/mountinfo")?),
        };
        let mounts = mounts
            .into_iter()
            .map(|mount| if mount.version == Version::V2 { unified(mount.mount_point) } else { Ok(mount) })
            .collect::<Result<Vec<Mount>, FailedCall>>()?;
        if mounts.is_empty() {
            return Err(Error::NoHierarchy);
        }
        Ok(Hierarchy { mounts, base: String::new() })
    }

    /// The same trees, with the place in each for a group to which nobody gave one: in v1 below this process's own, in v2
    /// beside it, as a group with processes can hand no controllers down. What limits this process, as a batch job or
    /// a login, so limits what it starts, in v2 but for its innermost group. The root where the own group cannot be seen.
    ///
    /// # Errors
    /// A failed read of /proc.
    pub fn around_caller(&self) -> Result<Hierarchy> {
        let own = read_path("/proc/self/cgroup")?;
        let place = |mount: &Mount| {
            let above = place_of_caller(&own, mount).unwrap_or_default();
            let there = above.is_empty() || mount.mount_point.join(&above).is_dir();
            Mount { above: if there { above } else { String::new() }, ..mount.clone() }
        };
        Ok(Hierarchy { mounts: self.mounts.iter().map(place).collect(), base: String::new() })
    }

    /// Which of the three layouts this is.
    pub fn layout(&self) -> Layout {
        let v2 = self.mounts.iter().any(|mount| mount.version == Version::V2);
        let v1 = self.mounts.iter().any(|mount| mount.version == Version::V1);
        match (v1, v2) {
            (false, _) => Layout::Unified,
            (true, false) => Layout::Legacy,
            (true, true) => Layout::Hybrid,
        }
    }

    /// The trees.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The controllers that can enforce something here.
    pub fn controllers(&self) -> Vec<Controller> {
        let mut all: Vec<Controller> = self.mounts.iter().flat_map(|mount| mount.controllers.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The prefix below which groups are made: the delegated group of an ordinary user, else empty.
    pub fn base(&self) -> &str {
        &self.base
    }
}

fn magic(path: &Path) -> Option<u64> {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    rustix::fs::statfs(path).ok().map(|found| found.f_type as u64 & 0xffff_ffff)
}

fn unified(mount_point: PathBuf) -> Result<Mount, FailedCall> {
    let path = mount_point.join("cgroup.controllers");
    let text = read_path(&path.to_string_lossy())?;
    let controllers = text.split_ascii_whitespace().filter_map(Controller::from_v2_name).collect();
    Ok(Mount { version: Version::V2, controllers, name: None, mount_point, above: String::new() })
}

/// A line of /proc/self/cgroup gives the controllers of one tree; systemd and everybody after it mount that tree below
/// a directory of that name. `None` if one of them is not there.
fn usual_places(own: &str) -> Option<Vec<Mount>> {
    let mut mounts = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers)) = (fields.next(), fields.next()) else { continue };
        if number == "0" && controllers.is_empty() {
            // Without a v2 mount the line is there too, and means nothing.
            let mount_point = Path::new(ROOT).join("unified");
            if magic(&mount_point) == Some(CGROUP2_SUPER_MAGIC) {
                mounts.push(Mount {
                    version: Version::V2,
                    controllers: Vec::new(),
                    name: None,
                    mount_point,
                    above: String::new(),
                });
            }
            continue;
        }
        let directory = controllers.strip_prefix("name=").unwrap_or(controllers);
        let mount_point = Path::new(ROOT).join(directory);
        if directory.contains('/') || magic(&mount_point) != Some(CGROUP_SUPER_MAGIC) {
            return None;
        }
        mounts.push(v1(controllers.split(','), mount_point));
    }
    Some(mounts)
}

/// The group in the text of `/proc/PID/cgroup` below which another is put in this tree.
fn place_of_caller(text: &str, mount: &Mount) -> Option<String> {
    let is_of_the_tree = |names: &str| match mount.version {
        Version::V2 => names.is_empty(),
        Version::V1 => {
            let file = mount.mount_point.file_name().and_then(|name| name.to_str());
            file == Some(names.strip_prefix("name=").unwrap_or(names))
                || v1(names.split(','), PathBuf::new()).is_like(mount)
        }
    };
    let path = text
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .find(|(names, _)| is_of_the_tree(names));
    let path = path?.1.trim_matches('/');
    // Outside of the own cgroup namespace.
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    match mount.version {
        Version::V1 => Some(path.to_owned()),
        Version::V2 => Some(path.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned())),
    }
}

impl Mount {
    /// Has the same controllers, and some.
    fn is_like(&self, other: &Mount) -> bool {
        let some = !self.controllers.is_empty() || self.name.is_some();
        some && (&self.controllers, &self.name) == (&other.controllers, &other.name)
    }
}

fn v1<'a>(options: impl Iterator<Item = &'a str>, mount_point: PathBuf) -> Mount {
    let mut mount =
        Mount { version: Version::V1, controllers: Vec::new(), name: None, mount_point, above: String::new() };
    for option in options {
        match option.strip_prefix("name=") {
            Some(name) => mount.name = Some(name.to_owned()),
            None => mount.controllers.extend(Controller::from_v1_name(option)),
        }
    }
    mount
}

/// The cgroup mounts in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); the first of several for one tree.
fn from_mount_table(table: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        let Some(mount_point) = left.split(' ').nth(4).map(unescape) else { continue };
        let mount = match kind {
            "cgroup2" => {
                Mount { version: Version::V2, controllers: Vec::new(), name: None, mount_point, above: String::new() }
            }
            "cgroup" => v1(options.split(','), mount_point),
            _ => continue,
        };
        let same = |other: &Mount| {
            (other.version, &other.controllers, &other.name) == (mount.version, &mount.controllers, &mount.name)
        };
        if !mounts.iter().any(same) {
            mounts.push(mount);
        }
    }
    mounts
}

/// Undoes the octal escapes of spaces and the like.
pub(crate) fn unescape(text: &str) -> PathBuf {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_of_systemd_in_hybrid_mode() {
        let table = "\
25 30 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
27 25 0:24 / /sys/fs/cgroup/systemd rw shared:6 - cgroup cgroup rw,xattr,name=systemd
28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
29 25 0:26 / /odd\\040place rw - cgroup cgroup rw,net_cls,net_prio
30 25 0:25 / /again rw - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / /x rw - ext4 /dev/vda rw
";
        let mounts = from_mount_table(table);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].version, Version::V2);
        assert_eq!(mounts[1].name.as_deref(), Some("systemd"));
        assert_eq!(mounts[2].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(mounts[3].mount_point, Path::new("/odd place"));
        let hierarchy = Hierarchy { mounts, base: String::new() };
        assert_eq!(hierarchy.layout(), Layout::Hybrid);
    }

    #[test]
    fn damaged_tables_are_no_reason_to_panic() {
        for text in ["", " - ", "a - cgroup", "1 2 3 4 \\ - cgroup x y", "1 2 3 4 /\\04é5 - cgroup2 x y", ":::", "0::"]
        {
            from_mount_table(text);
            usual_places(text);
            place_of_caller(text, &v1("cpu".split(','), PathBuf::from("/")));
        }
    }

    #[test]
    fn places_for_groups_without_one() {
        let text = "9:name=systemd:/user.slice/a\n5:memory:/job/1\n4:cpu,cpuacct:/\n3:perf_event:/p\n0::/user.slice/u.slice/s.scope\n";
        let tree = |controllers: &str, place: &str| v1(controllers.split(','), PathBuf::from(place));
        let place = |mount: &Mount| place_of_caller(text, mount);
        assert_eq!(place(&tree("memory", "/odd")).unwrap(), "job/1");
        assert_eq!(place(&tree("name=systemd", "/sys/fs/cgroup/systemd")).unwrap(), "user.slice/a");
        assert_eq!(place(&tree("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")).unwrap(), "");
        assert_eq!(place(&tree("perf_event", "/sys/fs/cgroup/perf_event")).unwrap(), "p");
        assert_eq!(place(&tree("pids", "/sys/fs/cgroup/pids")), None);
        let unified = Mount { version: Version::V2, ..tree("", "/sys/fs/cgroup") };
        assert_eq!(place(&unified).unwrap(), "user.slice/u.slice");
        for (own, expected) in [("0::/", Some("")), ("0::/one", Some("")), ("0::/../x", None), ("", None)] {
            assert_eq!(place_of_caller(own, &unified).as_deref(), expected, "{own}");
        }
    }

    #[test]
    fn this_machine_is_understood_both_ways() {
        let Ok(found) = Hierarchy::detect() else {
            #[allow(clippy::print_stdout, reason = "a test says why it is skipped")]
            {
                println!("SKIP: no control groups on this machine");
            }
            return;
        };
        let table = from_mount_table(&read_path("/proc/self/mountinfo").unwrap());
        let points = |mounts: &[Mount]| {
            let mut points: Vec<PathBuf> = mounts.iter().map(|mount| mount.mount_point.clone()).collect();
            points.sort();
            points
        };
        assert_eq!(points(&found.mounts), points(&table));
    }
}
