//! `pause`, `resume` and `update`: what is done to a running container's cgroup.

use oci::runtime::{Linux, LinuxResources};
use serde_json::Value;

use crate::class::{self, Schemas};
use crate::error::{Error, Result};
use crate::groups;
use crate::progress::Progress;
use crate::record::Status;
use crate::store::Store;

/// Stops all processes of a container.
///
/// # Errors
/// [`Error::State`] for one that does not run.
pub fn pause(store: &Store, id: &str) -> Result<()> {
    let container = store.hold(id)?;
    match container.status()? {
        Status::Running | Status::Created => Ok(groups::need(&container.record)?.freeze()?),
        status => Err(Error::State(format!("container not running: it is {status}"))),
    }
}

/// Lets them go on.
///
/// # Errors
/// [`Error::State`] for a container that is not paused.
pub fn resume(store: &Store, id: &str) -> Result<()> {
    let container = store.hold(id)?;
    match container.status()? {
        Status::Paused => Ok(groups::need(&container.record)?.thaw()?),
        _ => Err(Error::State("container not paused".to_owned())),
    }
}

/// Sets the limits that `changes` and `schemas` name, and leaves the others.
///
/// # Errors
/// [`Error::State`] for a container that has ended; a limit that the kernel refuses.
pub fn update(
    store: &Store,
    id: &str,
    (changes, schemas): (&LinuxResources, &Schemas),
    progress: &Progress,
) -> Result<()> {
    let mut container = store.hold(id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::State("container not running".to_owned()));
    }
    class::change(&mut container.record, schemas)?;
    let linux = container.record.spec.linux.get_or_insert_with(Linux::default);
    let present = linux.resources.get_or_insert_with(LinuxResources::default);
    let mut changes = groups::one_process(changes.clone());
    if let (Some(memory), Some(known)) = (&mut changes.memory, &present.memory)
        && memory.limit == Some(-1)
        && known.swap.is_some()
    {
        // Both together cannot be limited where memory alone is not.
        memory.swap = memory.swap.or(Some(-1));
    }
    if has_weight(&changes) && !cgroup::systemd::is_idle(&changes) {
        // Idleness is a weight, and ends with another.
        present.cpu.iter_mut().for_each(|cpu| cpu.idle = None);
        present.unified.remove("cpu.idle");
    }
    let merged = merge(present, &changes)?;
    if let (Some(memory), Some(known)) = (&mut changes.memory, &present.memory)
        && memory.swap.is_some()
    {
        // It limits both together, so it is told to the kernel together.
        memory.limit = memory.limit.or(known.limit);
    }
    *present = merged;
    let mut group = match groups::open(&container.record)? {
        // As Docker calls it for whatever is changed, also what no group has a say in.
        None if !groups::limits(&changes) => return container.save(),
        None => return Err(groups::none()),
        Some(group) => group,
    };
    group.check_usage(&changes)?;
    if let Some(scope) = &container.record.scope {
        let known = container.record.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        // All of it: quota and period, memory and swap, are one property of two values.
        let properties = cgroup::systemd::properties(known.unwrap_or(&changes)).map_err(cgroup::Error::from)?;
        if has_weight(&changes) && cgroup::systemd::is_idle(&changes) {
            progress.warn("unable to apply both cpu.weight and cpu.idle to systemd, ignoring cpu.weight");
        }
        let mut as_systemd_has_it = known.cloned().unwrap_or_default();
        cgroup::systemd::round_quota(&mut as_systemd_has_it);
        if let Some(known) = as_systemd_has_it.cpu.filter(|cpu| cpu.quota.is_some() || cpu.period.is_some()) {
            // systemd writes a period of its own where there is no quota.
            let cpu = changes.cpu.get_or_insert_default();
            (cpu.quota, cpu.period) = (known.quota, known.period);
        }
        // First, as systemd then writes all that it knows of, in its own words.
        scope.set(&properties)?;
    }
    groups::warn(&group.apply(&changes)?, progress);
    container.save()
}

fn has_weight(resources: &LinuxResources) -> bool {
    let shares = resources.cpu.as_ref().and_then(|cpu| cpu.shares);
    shares.is_some_and(|shares| shares != 0) || resources.unified.contains_key("cpu.weight")
}

/// What is in force after a change: a field that it does not name stays.
fn merge(present: &LinuxResources, changes: &LinuxResources) -> Result<LinuxResources> {
    let fail = |error: serde_json::Error| Error::refused(error.to_string());
    let mut all = serde_json::to_value(present).map_err(fail)?;
    overlay(&mut all, serde_json::to_value(changes).map_err(fail)?);
    serde_json::from_value(all).map_err(fail)
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                overlay(below.entry(name).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let read = |text: &str| serde_json::from_str::<LinuxResources>(text).unwrap();
        let present = read(r#"{"memory": {"limit": 10, "swap": 20}, "pids": {"limit": 5}}"#);
        let merged = merge(&present, &read(r#"{"memory": {"limit": 30}}"#)).unwrap();
        assert_eq!(merged, read(r#"{"memory": {"limit": 30, "swap": 20}, "pids": {"limit": 5}}"#));
    }
}
