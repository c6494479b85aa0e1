//! Cache and memory bandwidth by class of service (`linux.intelRdt`), by the kernel's file system resctrl.
//!
//! config-linux.md, "IntelRdt"; the kernel's Documentation/filesystems/resctrl.rst. A class of service is a directory in the
//! root of that file system, which is the default class itself; a monitoring group is a directory in a class's `mon_groups`.
//! Below the root everything is reached through descriptors and without following links, and no read is without an end.

mod error;
mod figures;
mod schemata;

pub use error::Error;
pub use figures::{BandwidthInfo, BandwidthUse, CacheInfo, CacheUse, Figures};

use crate::files::{Directory, read_path};
use crate::hierarchy::unescape;
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

type Result<T, E = Error> = std::result::Result<T, E>;

const RDTGROUP_SUPER_MAGIC: u64 = 0x0765_5821;
/// No file of it is longer than a few kilobytes, on the largest machines.
const LONGEST: usize = 1 << 18;
const MON_GROUPS: &str = "mon_groups";

/// The root of a resctrl file system.
#[derive(Debug)]
pub struct Resctrl {
    root: Directory,
}

/// What a container wants of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Name of the class, one component of a path; the empty one is the default class.
    pub class: &'a str,
    /// Somebody chose the name (`closID`): the class is for more than this container and stays when it goes.
    pub named: bool,
    /// Lines (`l3CacheSchema`, `memBwSchema`) with which a class that is there already must agree.
    pub agreed: &'a [String],
    /// Lines (`schemata`) that are written after these.
    pub schemata: &'a [String],
    /// Name of the container's own monitoring group.
    pub monitoring: Option<&'a str>,
}

/// Where a container is: enough to find it again, and to remove what was made for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The root of the file system.
    pub root: PathBuf,
    /// The class; the empty one is the default class.
    pub class: String,
    /// The class was not there before.
    pub made: bool,
    /// It was named, and stays when the container is deleted.
    pub named: bool,
    /// The container's monitoring group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub monitoring: Option<String>,
}

/// A class of service, with the monitoring group of a container in it.
#[derive(Debug)]
pub struct Group {
    root: Directory,
    class: Directory,
    monitoring: Option<Directory>,
    made: bool,
}

impl Resctrl {
    /// Finds the file system by its type in the mount table.
    ///
    /// # Errors
    /// [`Error::Absent`] with the reason: the machine has none, or nobody has mounted it.
    pub fn find() -> Result<Resctrl> {
        let table = read_path("/proc/self/mountinfo")?;
        for place in mount_points(&table) {
            let root = Directory::open(&place)?;
            // Something else may lie over the mount.
            if is_resctrl(&root) {
                return Ok(Resctrl { root });
            }
        }
        let known = read_path("/proc/filesystems").unwrap_or_default();
        let known = known.lines().any(|line| line.split_ascii_whitespace().any(|word| word == "resctrl"));
        Err(Error::Absent { known })
    }

    /// With this directory for its root.
    ///
    /// # Errors
    /// A directory that cannot be opened.
    pub fn at(root: &Path) -> Result<Resctrl> {
        Ok(Resctrl { root: Directory::open(root)? })
    }

    /// What [`Resctrl::make`] will make for a request, to be written down before.
    ///
    /// # Errors
    /// [`Error::NoClass`] for a class that has to be there and is not.
    pub fn describe(&self, request: &Request<'_>) -> Result<Description> {
        let there = match request.class {
            "" => true,
            name => match self.root.child(name) {
                Ok(_) => true,
                Err(failed) if failed.errno() == Errno::NOENT => false,
                Err(failed) => return Err(failed.into()),
            },
        };
        if !there && request.named && request.agreed.is_empty() && request.schemata.is_empty() {
            return Err(Error::NoClass { name: request.class.to_owned() });
        }
        Ok(Description {
            root: self.root.path().to_owned(),
            class: request.class.to_owned(),
            made: !there,
            named: request.named,
            monitoring: request.monitoring.map(str::to_owned),
        })
    }

    /// Makes the class, if it is not there, and the monitoring group, which must not be there.
    ///
    /// # Errors
    /// The kernel's refusal; nothing is left then.
    pub fn make(self, description: &mut Description) -> Result<Group> {
        if description.made {
            match self.root.make(&description.class) {
                // Somebody else was faster: it is theirs.
                Err(failed) if failed.errno() == Errno::EXIST => description.made = false,
                other => other.map_err(|failed| self.refused(failed))?,
            }
        }
        let monitoring = description.monitoring.take();
        let result = self.fill(&description.class, monitoring.as_deref());
        match result {
            Ok((class, group)) => {
                description.monitoring = monitoring;
                Ok(Group { root: self.root, class, monitoring: group, made: description.made })
            }
            Err(error) => {
                if description.made {
                    // The error that is reported is the first one.
                    drop(self.root.remove(&description.class));
                    description.made = false;
                }
                Err(error)
            }
        }
    }

    fn fill(&self, class: &str, monitoring: Option<&str>) -> Result<(Directory, Option<Directory>)> {
        let class = self.class(class)?;
        let Some(name) = monitoring else { return Ok((class, None)) };
        let groups = class.child(MON_GROUPS)?;
        groups.make(name).map_err(|failed| self.refused(failed))?;
        let group = groups.child(name)?;
        Ok((class, Some(group)))
    }

    fn class(&self, name: &str) -> Result<Directory> {
        // The root's own directory again, for the default class.
        Ok(if name.is_empty() { self.root.child(".")? } else { self.root.child(name)? })
    }

    fn refused(&self, failed: crate::FailedCall) -> Error {
        Error::refused(&self.root, failed)
    }
}

impl Group {
    /// Finds it again; `None` when the class is gone.
    ///
    /// # Errors
    /// A directory that cannot be opened.
    pub fn open(description: &Description) -> Result<Option<Group>> {
        let found = || -> Result<Group> {
            let here = Resctrl::at(&description.root)?;
            let class = here.class(&description.class)?;
            let monitoring = match &description.monitoring {
                Some(name) => Some(class.child(MON_GROUPS)?.child(name)?),
                None => None,
            };
            Ok(Group { root: here.root, class, monitoring, made: description.made })
        };
        match found() {
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Writes what the class may use. One that was there must agree with [`Request::agreed`] before.
    ///
    /// # Errors
    /// [`Error::Differs`]; the kernel's refusal, with its own words.
    pub fn configure(&self, request: &Request<'_>) -> Result<()> {
        if !self.made && !request.agreed.is_empty() {
            let present = self.class.read_small("schemata", LONGEST)?;
            let step = self.root.read_small("info/MB/bandwidth_gran", LONGEST).unwrap_or_default();
            let step = step.trim().parse().unwrap_or(0);
            if let Some((asked, present)) = schemata::difference(request.agreed, request.schemata, &present, step) {
                return Err(Error::Differs { class: self.class.path().to_owned(), asked, present });
            }
        }
        // In this order, and apart: in one write the kernel takes no domain twice.
        self.write_schemata(request.agreed)?;
        self.write_schemata(request.schemata)
    }

    /// Changes what the class may use.
    ///
    /// # Errors
    /// The kernel's refusal, with its own words.
    pub fn write_schemata(&self, lines: &[String]) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if text.is_empty() { Ok(()) } else { self.write(&self.class, "schemata", &text) }
    }

    /// Whether this machine has a resource, such as `L3` or `MB`.
    #[must_use]
    pub fn has(&self, resource: &str) -> bool {
        self.root.child("info").and_then(|info| info.child(resource)).is_ok()
    }

    /// Puts a process into the class and the monitoring group; what it makes from then on is born there.
    ///
    /// # Errors
    /// The kernel's refusal, with its own words.
    pub fn assign(&self, pid: Pid) -> Result<()> {
        let pid = pid.as_raw_nonzero().to_string();
        // The kernel takes a process into a monitoring group of its own class alone.
        for group in std::iter::once(&self.class).chain(&self.monitoring) {
            self.write(group, "tasks", &pid)?;
        }
        Ok(())
    }

    fn write(&self, group: &Directory, file: &str, text: &str) -> Result<()> {
        group.write(file, text).map_err(|failed| Error::refused(&self.root, failed))
    }
}

/// Removes what was made for a container: its monitoring group, and its class unless that was named. After a `failed` start
/// also a named class that was not there before, if nobody has come into it.
///
/// # Errors
/// A directory that cannot be removed; one that is gone is none.
pub fn remove(description: &Description, failed: bool) -> Result<()> {
    let gone = |result: Result<()>| match result {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        other => other,
    };
    gone(remove_there(description, failed))
}

fn remove_there(description: &Description, failed: bool) -> Result<()> {
    let here = Resctrl::at(&description.root)?;
    let class = here.class(&description.class)?;
    let own = description.made && !description.class.is_empty();
    let unused = || class.read_small("tasks", LONGEST).is_ok_and(|tasks| tasks.trim().is_empty());
    if own && !description.named {
        // The kernel removes the monitoring groups of a class with it.
        return here.root.remove(&description.class).map_err(|failed| here.refused(failed));
    }
    if let Some(name) = &description.monitoring {
        match class.child(MON_GROUPS)?.remove(name) {
            Err(failed) if failed.errno() == Errno::NOENT => {}
            other => other.map_err(|failed| here.refused(failed))?,
        }
    }
    if own && failed && unused() {
        return here.root.remove(&description.class).map_err(|failed| here.refused(failed));
    }
    Ok(())
}

fn is_resctrl(directory: &Directory) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    rustix::fs::fstatfs(directory).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == RDTGROUP_SUPER_MAGIC)
}

/// Where it is mounted from its root on (proc_pid_mountinfo(5)).
fn mount_points(table: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let whole = left.next() == Some("/") && right.split(' ').next() == Some("resctrl");
        left.next().filter(|_| whole).map(unescape)
    };
    table.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests;
