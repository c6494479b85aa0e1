//! `pause`, `resume` and `update`: what is done to a running container's cgroup.

use oci::runtime::{Linux, LinuxResources};

use crate::error::{Error, Result};
use crate::groups;
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

/// Sets the limits that `changes` names, and leaves the others.
///
/// # Errors
/// [`Error::State`] for a container that has ended; a limit that the kernel refuses.
pub fn update(store: &Store, id: &str, changes: &LinuxResources) -> Result<()> {
    let mut container = store.hold(id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::State("container not running".to_owned()));
    }
    let mut group = groups::need(&container.record)?;
    let unenforced = group.apply(changes)?;
    drop(unenforced);
    let linux = container.record.spec.linux.get_or_insert_with(Linux::default);
    merge(linux.resources.get_or_insert_with(LinuxResources::default), changes);
    container.save()
}

/// What a later look at the state says.
fn merge(present: &mut LinuxResources, changes: &LinuxResources) {
    let part = |changed: bool| changed;
    if part(changes.memory.is_some()) {
        present.memory.clone_from(&changes.memory);
    }
    if part(changes.cpu.is_some()) {
        present.cpu.clone_from(&changes.cpu);
    }
    if part(changes.pids.is_some()) {
        present.pids.clone_from(&changes.pids);
    }
    if part(changes.block_io.is_some()) {
        present.block_io.clone_from(&changes.block_io);
    }
    if part(!changes.devices.is_empty()) {
        present.devices.clone_from(&changes.devices);
    }
    present.unified.extend(changes.unified.clone());
}
