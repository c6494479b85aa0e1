//! `delete`: removes what is left of a container.

use std::time::{Duration, Instant};

use oci::runtime::{ContainerState, LinuxNamespaceType};
use rustix::process::Signal;

use crate::class;
use crate::error::{Error, Result};
use crate::groups;
use crate::kin::Kin;
use crate::record::Status;
use crate::store::{Container, Store};

/// Removes a container that has ended or was never started; with `force` one that runs, too, and then none is no error.
///
/// # Errors
/// [`Error::State`] for one that runs; a cgroup that cannot be removed.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    let container = match store.hold(id) {
        Err(Error::Missing) if force => return Ok(()),
        other => other?,
    };
    let status = match container.status() {
        Err(_) if force => Status::Running,
        other => other?,
    };
    match status {
        Status::Stopped => {}
        Status::Created => end(&container)?,
        _ if force => end(&container)?,
        status => {
            return Err(Error::State(format!("cannot delete container {id} that is not stopped: {status}")));
        }
    }
    groups::remove(&container.record)?;
    class::remove(&container.record, false)?;
    container.forget()?;
    if let Some(hooks) = &container.record.spec.hooks {
        // The container is gone; a hook that fails is told and changes nothing (runtime.md, "Lifecycle").
        runtime::run_hooks("poststop", &hooks.poststop, &container.state(ContainerState::Stopped))?;
    }
    Ok(())
}

/// Ends the container's processes and waits for the first to be gone, which is when its mounts are.
fn end(container: &Container) -> Result<()> {
    if !container.has_own(LinuxNamespaceType::Pid) {
        match groups::open(&container.record)? {
            Some(mut group) => group.kill()?,
            None => Kin::of(container)?.iter().for_each(Kin::kill),
        }
    }
    let Some(process) = container.open_process()? else { return Ok(()) };
    rustix::process::pidfd_send_signal(&process, Signal::KILL).ok();
    if let Some(mut group) = groups::open(&container.record)? {
        // A frozen process of v1 does not die before it is thawed.
        group.thaw()?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while container.open_process()?.is_some() {
        if Instant::now() > deadline {
            return Err(Error::State(format!("container {} does not end", container.record.id)));
        }
        let poll = rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN);
        let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        rustix::event::poll(&mut [poll], Some(&wait)).ok();
    }
    Ok(())
}
