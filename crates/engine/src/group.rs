//! Finding a container's cgroup again.

use crate::error::{Context, Result};
use crate::host::Host;
use cgroup::{Cgroup, Hierarchy};

/// The group that the container's state names, else the one at `path` below ours; `None` when no tree has it.
pub(crate) fn find(host: &Host, path: &str, state: Option<&monitor::State>) -> Result<Option<Cgroup>> {
    let failed = || format!("cannot look up the cgroup {path}");
    if let Some(description) = state.and_then(|state| state.cgroup.as_ref()) {
        let group = Cgroup::open(description).internal(failed)?;
        return Ok(Some(group).filter(Cgroup::exists));
    }
    let mut hierarchy = Hierarchy::detect().internal(failed)?;
    if host.user_namespace {
        match hierarchy.delegated() {
            Ok(delegated) => hierarchy = delegated,
            // Then none was made.
            Err(_) => return Ok(None),
        }
    }
    Cgroup::find(&hierarchy, path).internal(failed)
}
