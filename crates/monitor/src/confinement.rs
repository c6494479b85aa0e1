//! A container's cgroup, from the monitor's side: made before a run, asked and emptied after it, removed.
//!
//! It is found anew for each use: others may have added directories to it (`dhow update`), and an idle monitor holds no
//! descriptors of it.

use cgroup::systemd::{self, Bus};
use cgroup::{Cgroup, Description, Hierarchy, Unenforced, Version};
use runtime::CgroupPlan;

use crate::error::{Error, Kind};
use crate::leftovers;
use crate::plan::CgroupLaunch;

/// What holds a container's processes together. Empty for ordinary processes, and where no cgroup could be made.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    group: Option<Description>,
    /// A container runs without a group.
    loose: bool,
    warnings: Vec<String>,
}

impl Confinement {
    /// Makes the cgroup with its limits. Returns its directories, into which the container's processes are put.
    pub(crate) fn make(&mut self, wanted: Option<&CgroupLaunch>) -> Result<CgroupPlan, Error> {
        self.group = None;
        let Some(wanted) = wanted else { return Ok(CgroupPlan::default()) };
        match make(wanted) {
            Ok((group, unenforced)) => {
                self.group = Some(group.describe().clone());
                self.warnings = unenforced.iter().map(sentence).collect();
                Ok(directories(&group))
            }
            Err(_) if wanted.optional => {
                leftovers::adopt();
                self.loose = true;
                Ok(CgroupPlan::default())
            }
            Err(cgroup::Error::NotDelegated { reason }) => {
                let message =
                    format!("limits need a cgroup, and none is delegated to this user: {}", reason.trim_start());
                Err(Error::refused(Kind::Failed, message))
            }
            Err(source) => Err(Error::Launch { kind: Kind::Failed, source: source.into() }),
        }
    }

    /// The cgroup's directories.
    pub(crate) fn directories(&self) -> CgroupPlan {
        self.find().ok().flatten().map(|group| directories(&group)).unwrap_or_default()
    }

    /// What was asked of the cgroup and is not in force, a sentence each.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What finds the cgroup again.
    pub(crate) fn description(&self) -> Option<Description> {
        self.group.clone()
    }

    /// How many processes of this run were killed because the memory limit was reached. 0 where the kernel does not say.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.find().ok().flatten().and_then(|group| group.oom_kills().ok()).unwrap_or(0)
    }

    /// Kills every process that is left.
    pub(crate) fn kill_all(&self) -> Result<(), Error> {
        match self.find()? {
            Some(mut group) => group.kill().map_err(failed("kill what is left in the cgroup")),
            None if self.loose => {
                leftovers::kill();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Removes the cgroup.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        let group = self.find()?;
        self.group = None;
        group.map_or(Ok(()), |group| group.remove().map_err(failed("remove the cgroup")))
    }

    /// Stops all processes.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        self.need()?.freeze().map_err(failed("freeze the container"))
    }

    /// Lets all processes go on.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        self.need()?.thaw().map_err(failed("let the container go on"))
    }

    fn find(&self) -> Result<Option<Cgroup>, Error> {
        self.group.as_ref().map(Cgroup::open).transpose().map_err(failed("find the cgroup"))
    }

    fn need(&self) -> Result<Cgroup, Error> {
        self.find()?.ok_or_else(|| {
            Error::refused(Kind::Invalid, "this container has no cgroup, as none is delegated to this user")
        })
    }
}

fn sentence(wish: &Unenforced) -> String {
    format!("the limit {} is not in force: {}", wish.limit, wish.reason)
}

fn make(wanted: &CgroupLaunch) -> cgroup::Result<(Cgroup, Vec<Unenforced>)> {
    let hierarchy = Hierarchy::detect()?;
    let hierarchy = if wanted.delegated { delegated(&hierarchy, &wanted.path)? } else { hierarchy };
    let mut group = Cgroup::create(&hierarchy, &wanted.path)?;
    match group.apply(&wanted.resources) {
        Ok(unenforced) => Ok((group, unenforced)),
        Err(error) => {
            // The error that is reported is the first one.
            drop(group.remove());
            Err(error)
        }
    }
}

/// Where an ordinary user may make groups. systemd comes first: what others make in its tree it may take the controllers from.
fn delegated(hierarchy: &Hierarchy, path: &str) -> cgroup::Result<Hierarchy> {
    if systemd::running() {
        let name = path.rsplit('/').next().unwrap_or(path);
        // This process is in the scope until its end, and systemd forgets the scope when it is empty.
        if let Ok((hierarchy, _scope)) = hierarchy.in_own_scope(Bus::User, &format!("dhow-{name}.scope"), "user.slice")
        {
            return Ok(hierarchy);
        }
    }
    hierarchy.delegated()
}

/// The directories of a cgroup, as the runtime wants them.
#[must_use]
pub fn directories(group: &Cgroup) -> CgroupPlan {
    let mut plan = CgroupPlan::default();
    for (mount, path) in group.directories() {
        match mount.version {
            Version::V2 => plan.unified = Some(path),
            Version::V1 => {
                let name = mount.mount_point.file_name().map(|name| name.to_string_lossy().into_owned());
                plan.legacy.push((name.unwrap_or_default(), path));
            }
        }
    }
    plan
}

fn failed(what: &'static str) -> impl FnOnce(cgroup::Error) -> Error {
    move |source| Error::Cgroup { what, source: Box::new(source) }
}
