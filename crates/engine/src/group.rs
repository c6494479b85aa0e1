//! Finding a container's cgroup again by its path.

use crate::error::{Context, Result};
use cgroup::{Cgroup, Description, Hierarchy};

/// The group at `path` below ours; `None` when no tree has it.
pub(crate) fn find(path: &str) -> Result<Option<Cgroup>> {
    let failed = || format!("cannot look up the cgroup {path}");
    let hierarchy = Hierarchy::detect().internal(failed)?;
    let base = hierarchy.base().trim_end_matches('/');
    let description = Description { path: format!("{base}{path}"), mounts: hierarchy.mounts().to_vec(), base: hierarchy.base().to_owned() };
    let group = Cgroup::open(&description).internal(failed)?;
    Ok(Some(group).filter(Cgroup::exists))
}
