//! Finding a group in which an ordinary user (or root in a container) may make groups.
//!
//! On cgroup v2 a group is delegated by giving its directory, its cgroup.procs and its cgroup.subtree_control to a user
//! (cgroup-v2.rst, "Delegation"). A process can be moved within such a subtree only, so that what is looked for is above
//! the own group, never beside it. v1 has no delegation that is safe.

use crate::error::{Error, Result};
use crate::files::{Directory, read_path};
use crate::group::Cgroup;
use crate::hierarchy::{Hierarchy, Version};
use rustix::fs::{Access, AtFlags};
use std::path::{Path, PathBuf};

impl Hierarchy {
    /// The same trees, with the prefix below which this process may make groups: nothing for the machine's root, else
    /// the nearest group above that systemd has marked as delegated (`user.delegate`, which the machine's systemd sets) or
    /// that is a scope of dhow (`dhow-….scope`, which the user's systemd does not mark), else the topmost that belongs to
    /// this user. Trees that cannot be written to are left out.
    ///
    /// # Errors
    /// [`Error::NotDelegated`] with the reason; containers can be run then, but not limited.
    pub fn delegated(&self) -> Result<Hierarchy> {
        let writable: Vec<_> =
            self.mounts.iter().filter(|mount| may_make_groups(&mount.mount_point, "")).cloned().collect();
        if !writable.is_empty() {
            return Ok(Hierarchy { mounts: writable, base: String::new() });
        }
        let Some(mount) = self.mounts.iter().find(|mount| mount.version == Version::V2) else {
            return Err(Error::NotDelegated { reason: "cgroup v1 belongs to root and cannot be delegated".to_owned() });
        };
        let own = own_group()?;
        let mut found = None;
        let mut candidate = own.as_str();
        while !candidate.is_empty() {
            if may_make_groups(&mount.mount_point, candidate) {
                found = Some(candidate);
                if is_ours(candidate) || is_marked(&mount.mount_point.join(candidate)) {
                    break;
                }
            } else if found.is_some() {
                break;
            }
            candidate = candidate.rsplit_once('/').map_or("", |(above, _)| above);
        }
        let Some(found) = found else {
            let reason = format!("{own} and all groups above it belong to somebody else, or are mounted read-only");
            return Err(Error::NotDelegated { reason });
        };
        let mut mount = mount.clone();
        let text = Directory::open(&mount.mount_point)?.child(found)?.read("cgroup.controllers")?;
        let has = |name: &str| text.split_ascii_whitespace().any(|word| word == name);
        mount.controllers.retain(|controller| has(controller.v2_name()));
        Ok(Hierarchy { mounts: vec![mount], base: format!("/{found}") })
    }

    /// The same trees with another prefix: a group that somebody gave us, such as a scope of systemd.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn beneath(&self, base: &str) -> Result<Hierarchy> {
        let base = crate::path::components(base)?.join("/");
        Ok(Hierarchy { mounts: self.mounts.clone(), base: format!("/{base}") })
    }
}

impl Hierarchy {
    /// Where containers of this process can be limited: [`Hierarchy::delegated`], else, with systemd, a scope of the name
    /// `unit` (`dhow-….scope`) into which this process moves ([`Hierarchy::in_own_scope`], by the user's systemd). The scope ends with its last
    /// process; stopping it is for those who want that earlier.
    ///
    /// # Errors
    /// [`Error::NotDelegated`] if there is neither.
    pub fn obtain(&self, unit: &str) -> Result<(Hierarchy, Option<crate::systemd::Scope>)> {
        match self.delegated() {
            Ok(hierarchy) => Ok((hierarchy, None)),
            Err(Error::NotDelegated { reason }) if crate::systemd::running() => {
                match self.in_own_scope(crate::systemd::Bus::User, unit, "user.slice") {
                    Ok((hierarchy, scope)) => Ok((hierarchy, Some(scope))),
                    Err(error) => Err(Error::NotDelegated { reason: format!("{reason}; {error}") }),
                }
            }
            Err(error) => Err(error),
        }
    }
}

impl Cgroup {
    /// Whether the kernel lets this process move a process of its own group here: on v2 that wants the right to write to the
    /// nearest group above both (cgroup-v2.rst, "Delegation Containment").
    pub fn may_be_entered(&self) -> bool {
        let may = |directory: &Path| {
            rustix::fs::accessat(rustix::fs::CWD, directory.join("cgroup.procs"), Access::WRITE_OK, AtFlags::EACCESS)
                .is_ok()
        };
        self.directories().iter().all(|(mount, directory)| match (mount.version, own_group()) {
            (Version::V2, Ok(own)) => may(directory) && may(&common(directory, &mount.mount_point.join(own))),
            _ => may(directory),
        })
    }
}

fn common(one: &Path, other: &Path) -> PathBuf {
    one.components().zip(other.components()).take_while(|(one, other)| one == other).map(|(one, _)| one).collect()
}

fn is_ours(group: &str) -> bool {
    let name = group.rsplit('/').next().unwrap_or(group);
    name.starts_with("dhow-") && name.ends_with(".scope")
}

fn is_marked(directory: &std::path::Path) -> bool {
    let mut value = [0u8; 8];
    rustix::fs::getxattr(directory, "user.delegate", &mut value).is_ok_and(|length| value[..length] == *b"1")
}

/// The path of this process's group in the v2 tree, without leading slash.
pub(crate) fn own_group() -> Result<String> {
    let text = read_path("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    // The own group may be outside of the cgroup namespace's root.
    if path.contains("/..") {
        let reason = format!("the own group {path} is outside of the mounted tree");
        return Err(Error::NotDelegated { reason });
    }
    Ok(path.trim_matches('/').to_owned())
}

fn may_make_groups(mount_point: &std::path::Path, group: &str) -> bool {
    let directory = mount_point.join(group);
    let may = |file: &str| {
        let path = if file.is_empty() { directory.clone() } else { directory.join(file) };
        rustix::fs::accessat(rustix::fs::CWD, &path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    };
    // The root of a v1 tree has no subtree_control.
    may("")
        && may("cgroup.procs")
        && (may("cgroup.subtree_control") || !directory.join("cgroup.subtree_control").exists())
}
