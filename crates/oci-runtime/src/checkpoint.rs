//! `checkpoint` and `restore`: a container into files and back, by criu.

use std::path::Path;

use oci::runtime::LinuxNamespaceType;
use runtime::{CheckpointOptions, NewContainer, Plan, PlanOptions, Stdio};

use crate::class;
use crate::create::{self, CreateOptions, Interaction};
use crate::error::{Error, Result};
use crate::foreground::{self, Foreground};
use crate::groups;
use crate::record::Status;
use crate::store::{Container, Store};

/// Writes a container into files, and deletes it unless it is to go on.
///
/// # Errors
/// [`Error::State`] for one that does not run; criu's refusal, and the container goes on then.
pub fn checkpoint(store: &Store, id: &str, options: &CheckpointOptions) -> Result<()> {
    let container = store.hold(id)?;
    let status = container.status()?;
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Error::State(format!("Container cannot be checkpointed in {status} state")));
    }
    check_parent(options)?;
    let Some(pid) = container.record.pid() else { return Err(Error::Missing) };
    runtime::checkpoint(&plan_of(&container)?, pid, options)?;
    drop(container);
    if options.leave_running || options.pre_dump { Ok(()) } else { crate::delete(store, id, true) }
}

fn check_parent(options: &CheckpointOptions) -> Result<()> {
    let Some(parent) = &options.parent else { return Ok(()) };
    let place = options.images.join(parent);
    if Path::new(parent).is_absolute() {
        Err(Error::refused("--parent-path must be relative"))
    } else if place.is_dir() {
        Ok(())
    } else {
        Err(Error::refused(format!("invalid --parent-path: {} is not a directory", place.display())))
    }
}

/// The plan that a container was made by, with its cgroup.
fn plan_of(container: &Container) -> Result<Plan> {
    let record = &container.record;
    let options = PlanOptions { id: record.id.clone(), bundle: record.bundle.clone(), ..PlanOptions::default() };
    let mut plan = runtime::plan(&record.spec, &options)?;
    if let Some(group) = groups::open(record)? {
        plan.cgroup = groups::directories(&group);
    }
    Ok(plan)
}

/// Makes a container from files and lets it go on. With [`Interaction::detached`] gives 0 then, else its exit status.
///
/// # Errors
/// criu's refusal, among others; nothing is left of the container then.
pub fn restore(
    store: &Store,
    id: &str,
    options: &CreateOptions,
    files: &CheckpointOptions,
    interaction: Interaction,
) -> Result<u8> {
    if !files.images.is_dir() {
        return Err(Error::refused(format!("there is no checkpoint in {}", files.images.display())));
    }
    if !interaction.detached && !interaction.no_subreaper {
        kernel::prctl::set_child_subreaper()?;
    }
    let signals = if interaction.detached { None } else { Some(foreground::block_signals()?) };
    let (mut container, mut plan) = create::begin(store, id, options, interaction.detached)?;
    let started = match fill(&mut container, &mut plan, options, files) {
        Ok(started) => started,
        Err(error) => {
            create::undo(&container);
            return Err(error);
        }
    };
    drop(container);
    let Some(signals) = signals else { return Ok(0) };
    let status = Foreground { pid: started.pid, pidfd: started.pidfd, terminal: started.terminal, signals }.wait();
    if !interaction.keep {
        crate::delete(store, id, true)?;
    }
    status
}

fn fill(
    container: &mut Container,
    plan: &mut Plan,
    options: &CreateOptions,
    files: &CheckpointOptions,
) -> Result<runtime::Started> {
    let made = create::make_groups(container, plan, options)?;
    let class = class::make(container, plan)?;
    let stdio = if plan.process.terminal.is_some() { Stdio::Terminal } else { Stdio::Inherit };
    let scratch = container.directory().join("criu");
    // A namespace that the container joins has had its devices since they were first moved there.
    let joins = plan.namespaces.join.iter().any(|(kind, _)| *kind == LinuxNamespaceType::Network);
    let outside = |new: &NewContainer<'_>| {
        class::assign(class.as_ref(), new.pid)?;
        if joins { Ok(()) } else { Ok(create::lend_devices(plan, new)?) }
    };
    let started = runtime::restore(plan, stdio, &scratch, files, outside)?;
    let settled = made.map_or(Ok(()), |mut made| made.settle());
    let announced = create::announce(container, options, started.pid, started.terminal.as_ref(), &started.pidfd);
    if let Err(error) = announced.and(settled) {
        rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL).ok();
        return Err(error);
    }
    Ok(started)
}
