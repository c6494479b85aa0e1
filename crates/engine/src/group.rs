//! Finding a container's cgroup again.

use crate::error::{Context, Result};
use crate::host::Host;
use cgroup::{Cgroup, Description, Hierarchy};

/// The group that the container's state names, else the one at `path` below ours; `None` when no tree has it.
pub(crate) fn find(host: &Host, path: &str, state: Option<&monitor::State>) -> Result<Option<Cgroup>> {
    let failed = || format!("cannot look up the cgroup {path}");
    let recorded = state.and_then(|state| state.cgroup.clone());
    let description = match recorded {
        Some(description) => description,
        None => {
            let mut hierarchy = Hierarchy::detect().internal(failed)?;
            if host.user_namespace {
                match hierarchy.delegated() {
                    Ok(delegated) => hierarchy = delegated,
                    // Then none was made.
                    Err(_) => return Ok(None),
                }
            }
            let base = hierarchy.base().trim_end_matches('/').to_owned();
            Description { path: format!("{base}{path}"), mounts: hierarchy.mounts().to_vec(), base }
        }
    };
    let group = Cgroup::open(&description).internal(failed)?;
    Ok(Some(group).filter(Cgroup::exists))
}
