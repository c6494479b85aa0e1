//! `start`: lets a container that waits execute its program.

use oci::runtime::{ContainerState, LinuxSeccompAction};
use runtime::PlanOptions;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{Error, OnFile, Result};
use crate::progress::Progress;
use crate::record::Status;
use crate::store::{Container, DOOR, Store};

/// Starts a container and returns when its program runs.
///
/// # Errors
/// The program's, with a container that is stopped then; [`Error::State`] for one that does not wait.
pub fn start(store: &Store, id: &str) -> Result<()> {
    start_with(store, id, &Progress::default())
}

/// As [`start`], and somebody is told of the steps.
///
/// # Errors
/// Those of [`start`].
pub fn start_with(store: &Store, id: &str, progress: &Progress) -> Result<()> {
    let container = store.hold(id)?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(Error::State("cannot start a container that has stopped".to_owned())),
        Status::Creating => return Err(Error::State("cannot start a container that is being created".to_owned())),
        Status::Running | Status::Paused => {
            return Err(Error::State("cannot start an already running container".to_owned()));
        }
    }
    let Some(pid) = container.record.pid() else { return Err(Error::Missing) };
    // Only a filter that asks somebody is needed again here, to tell them who asks.
    let filter = if asks(&container) { compile(&container)? } else { None };
    let knock = runtime::knock(container.directory(), DOOR)?;
    // From here on it is not to be started a second time, whatever becomes of this process.
    let door = container.directory().join(DOOR);
    std::fs::remove_file(&door).on("remove", &door)?;
    if let Err(error) = knock.start(filter.as_ref(), pid) {
        wait_for_the_end(&container);
        return Err(error.into());
    }
    progress.say(|| "init: closing the pipe to signal completion: the program runs".to_owned());
    match &container.record.spec.hooks {
        // A failure is no reason to stop the container (runtime.md, "Lifecycle"); but it is told.
        Some(hooks) => {
            Ok(runtime::run_hooks("poststart", &hooks.poststart, &container.state(ContainerState::Running))?)
        }
        None => Ok(()),
    }
}

/// A process that has told why it cannot go on ends next; who hears of it may want to delete the container.
fn wait_for_the_end(container: &Container) {
    if let Ok(Some(process)) = container.open_process() {
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&limit))).ok();
    }
}

pub(crate) fn asks(container: &Container) -> bool {
    let linux = container.record.spec.linux.as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp.as_ref()) else { return false };
    profile.default_action == LinuxSeccompAction::Notify
        || profile.syscalls.iter().any(|rule| rule.action == LinuxSeccompAction::Notify)
}

pub(crate) fn compile(container: &Container) -> Result<Option<runtime::FilterPlan>> {
    let record = &container.record;
    let options = PlanOptions { id: record.id.clone(), bundle: record.bundle.clone(), ..PlanOptions::default() };
    Ok(runtime::compile_filter(&record.spec, &options)?)
}
