//! `create` and `run`: from a bundle to a container.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{ContainerState, LinuxCapabilities, LinuxNamespaceType, Spec};
use runtime::{Door, Plan, PlanOptions, Stdio};
use rustix::process::Pid;
use serde::de::DeserializeOwned;

use crate::class;
use crate::console::Sockets;
use crate::error::{Error, OnFile, Result};
use crate::foreground::{self, Foreground};
use crate::groups::{self, Made, Manner};
use crate::process::{self, Inherited};
use crate::progress::Progress;
use crate::record::Record;
use crate::store::{self, Container, DOOR, Store};

/// A `config.json`, or a process, that is longer is an accident or an attack.
const LONGEST: u64 = 16 << 20;
/// Of most: read in one piece.
const USUAL: usize = 16 << 10;

/// How a container is made.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Directory with `config.json`; absolute.
    pub bundle: PathBuf,
    /// Another file in its place.
    pub config: Option<PathBuf>,
    /// Where descriptors are sent.
    pub sockets: Sockets,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Enter the root by chroot(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors for the container's process.
    pub inherited: Inherited,
    /// Have systemd make the cgroup.
    pub systemd_cgroup: bool,
    /// Make no cgroup; the container is in the caller's.
    pub without_cgroup: bool,
    /// Made by somebody without rights over the machine, who may have no cgroup.
    pub rootless: bool,
    /// Who is told of the steps.
    pub progress: Progress,
}

/// Who is there while a process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interaction {
    /// Nobody: the verb ends when the program runs.
    pub detached: bool,
    /// Do not delete the container when it has ended.
    pub keep: bool,
    /// Leave orphans of the container to others.
    pub no_subreaper: bool,
}

/// The plan of the container that this bundle makes, without making it. The cgroup's directories are not in it, as they
/// do not exist.
///
/// # Errors
/// A bundle without a configuration that can be executed.
pub fn plan(id: &str, options: &CreateOptions) -> Result<Plan> {
    let spec = read(options)?;
    Ok(runtime::plan(&spec, &plan_options(id, options))?)
}

fn plan_options(id: &str, options: &CreateOptions) -> PlanOptions {
    PlanOptions {
        id: id.to_owned(),
        bundle: options.bundle.clone(),
        new_keyring: !options.no_new_keyring,
        no_pivot: options.no_pivot,
        plain_line_ends: options.sockets.console.is_none(),
        preserve_descriptors: options.inherited.total(),
        ..PlanOptions::default()
    }
}

fn read(options: &CreateOptions) -> Result<Spec> {
    let path = options.config.clone().unwrap_or_else(|| options.bundle.join("config.json"));
    let mut spec: Spec = match document(&path) {
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::refused(format!("JSON specification file {} not found", path.display())));
        }
        other => other?,
    };
    check_version(&spec.oci_version)?;
    let listening = options.inherited.listening;
    if let (Some(process), true) = (&mut spec.process, listening > 0) {
        process.env.extend([format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
    }
    Ok(spec)
}

/// A file of the caller's, of which no more is read than there should be.
pub(crate) fn document<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = std::fs::File::open(path).on("read", path)?;
    let mut text = Vec::with_capacity(USUAL);
    file.take(LONGEST + 1).read_to_end(&mut text).on("read", path)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::refused(format!("{} is longer than {} MiB", path.display(), LONGEST >> 20)));
    }
    oci::any_case::from_slice(&text).map_err(std::io::Error::from).on("parse", path)
}

/// Later minor versions only add (spec.md); another major one may mean anything.
fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split(['.', '-', '+']);
    match (parts.next().map(str::parse::<u32>), parts.next().map(str::parse::<u32>)) {
        (Some(Ok(1)), Some(Ok(_))) => Ok(()),
        _ => Err(Error::refused(format!("unsupported version of the specification in config.json: {version:?}"))),
    }
}

/// Makes a container that waits for its start.
///
/// # Errors
/// Nothing is left of the container then.
pub fn create(store: &Store, id: &str, options: &CreateOptions) -> Result<()> {
    make(store, id, options, (true, false)).map(drop)
}

/// Makes a container and starts it. With [`Interaction::detached`] gives 0 when its program runs, else its exit status, 128
/// and the signal's number when a signal ended it.
///
/// # Errors
/// Nothing is left of the container then.
pub fn run(store: &Store, id: &str, options: &CreateOptions, interaction: Interaction) -> Result<u8> {
    if !interaction.detached && !interaction.no_subreaper {
        kernel::prctl::set_child_subreaper()?;
    }
    let signals = if interaction.detached { None } else { Some(foreground::block_signals()?) };
    let (left, started) = make(store, id, options, (interaction.detached, true))?;
    if !started && let Err(error) = crate::start::start_with(store, id, &options.progress) {
        drop(crate::delete(store, id, true));
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let foreground = Foreground { pid: left.pid, pidfd: left.pidfd, terminal: left.terminal, signals };
    let status = foreground.wait();
    if !interaction.keep {
        crate::delete(store, id, true)?;
    }
    status
}

/// Says whether the container was started, too, as is wanted (`starts`) and mostly done.
fn make(
    store: &Store,
    id: &str,
    options: &CreateOptions,
    (detached, starts): (bool, bool),
) -> Result<(runtime::Left, bool)> {
    let (mut container, mut plan) = begin(store, id, options, detached)?;
    let at_once = starts && !can_be_seen_waiting(&container);
    let outcome = fill(&mut container, &mut plan, options, at_once);
    if outcome.is_err() {
        undo(&container);
    }
    outcome.map(|left| (left, at_once))
}

/// Whether somebody looks at the container between its creation and its start, who would miss the state in which it waits: hooks,
/// and whoever its filter asks. Without them `run` has no need of the door, and a container starts a seventh sooner.
fn can_be_seen_waiting(container: &Container) -> bool {
    container.record.spec.hooks.is_some() || crate::start::asks(container)
}

/// A container that has a directory and nothing else yet, and its plan.
pub(crate) fn begin(store: &Store, id: &str, options: &CreateOptions, detached: bool) -> Result<(Container, Plan)> {
    store.check_vacant(id)?;
    let spec = read(options)?;
    let plan = runtime::plan(&spec, &plan_options(id, options))?;
    options.sockets.check(plan.process.terminal.is_some(), detached)?;
    class::check(&plan)?;
    let rootfs = match &plan.root.source {
        runtime::RootSource::Directory { path } => path.clone(),
        runtime::RootSource::Overlay { .. } => PathBuf::new(),
    };
    if !rootfs.is_dir() {
        return Err(Error::refused(format!("the root file system {} is not a directory", rootfs.display())));
    }
    if let Some(sets) = spec.process.as_ref().and_then(|process| process.capabilities.as_ref()) {
        warn_of_capabilities(sets, &options.progress);
    }
    let mut container = store.make(id)?;
    container.record = Record {
        id: id.to_owned(),
        created: jiff::Timestamp::now().to_string(),
        rootless: options.rootless,
        owner: rustix::process::getuid().as_raw(),
        bundle: options.bundle.clone(),
        rootfs,
        keyring: !options.no_new_keyring,
        spec,
        ..Record::default()
    };
    Ok((container, plan))
}

/// What cannot be granted is left out of the set, which a caller should hear of (config.md, "Linux Process"; capabilities(7)).
pub(crate) fn warn_of_capabilities(sets: &LinuxCapabilities, progress: &Progress) {
    let all = [&sets.bounding, &sets.effective, &sets.inheritable, &sets.permitted, &sets.ambient];
    let mut unknown: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
    unknown.retain(|name| kernel::capabilities::by_name(name).is_none());
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        progress.warn(&format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
    }
    for name in &sets.ambient {
        if !sets.inheritable.contains(name) || !sets.permitted.contains(name) {
            progress.warn(&format!("can't raise ambient capability {name}: operation not permitted"));
        }
    }
}

/// Makes the cgroups and writes down where they are.
pub(crate) fn make_groups(container: &mut Container, plan: &mut Plan, options: &CreateOptions) -> Result<Option<Made>> {
    let manner = Manner { systemd: options.systemd_cgroup, none: options.without_cgroup, rootless: options.rootless };
    let made = groups::make(&container.record.spec, &container.record.id, manner, &options.progress)?;
    plan.cgroup = made.as_ref().map_or_else(groups::around, |made| groups::directories(&made.group));
    if let Some(Made { group, scope, .. }) = &made {
        container.record.cgroup = Some(group.describe().clone());
        container.record.cgroup_paths = groups::paths(group);
        container.record.scope.clone_from(scope);
        // Before there is a process: what is in this group is the container's, whatever happens to this process.
        container.save()?;
    }
    options.progress.say(|| format!("cgroup: {:?}", container.record.cgroup_paths));
    Ok(made)
}

fn fill(container: &mut Container, plan: &mut Plan, options: &CreateOptions, at_once: bool) -> Result<runtime::Left> {
    let mut made = make_groups(container, plan, options)?;
    let class = class::make(container, plan)?;
    let say = &options.progress;
    say.say(|| format!("nsexec container setup: new namespaces {:?}", plan.namespaces.new));
    if let Some(filter) = &plan.process.filter {
        // Without SECCOMP_FILTER_FLAG_TSYNC, as runc counts them.
        say.say(|| format!("seccomp filter flags: {}", filter.flags & !1));
    }
    let door = if at_once { None } else { Some(Door::make(container.directory(), DOOR)?) };
    let usher = groups::usher(&container.record);
    let usher = usher.as_ref().map(|usher| usher as runtime::Usher<'_>);
    let outside = |new: &runtime::NewContainer<'_>| {
        class::assign(class.as_ref(), new.pid)?;
        Ok(lend_devices(plan, new)?)
    };
    let created = runtime::create_for_command(plan, Stdio::Inherit, door.as_ref(), usher, outside)?;
    drop(door);
    if let Some(made) = &mut made {
        made.settle()?;
    }
    let pid = created.pid();
    say.say(|| {
        format!("child process in init(): {} has assembled its root file system and waits", pid.as_raw_nonzero())
    });
    announce(container, options, pid, created.terminal.as_ref(), created.pidfd())?;
    if !at_once {
        return Ok(created.leave()?);
    }
    let runtime::Started { pid, pidfd, terminal } = created.start()?;
    say.say(|| "init: closing the pipe to signal completion: the program runs".to_owned());
    Ok(runtime::Left { pid, pidfd, terminal })
}

/// Moves the host's network devices into the namespace that is new, or to the one that the container joins.
pub(crate) fn lend_devices(plan: &Plan, new: &runtime::NewContainer<'_>) -> Result<()> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let joined = plan.namespaces.join.iter().find(|(kind, _)| *kind == LinuxNamespaceType::Network);
    let namespace = match joined {
        Some((_, path)) => OwnedFd::from(std::fs::File::open(path).on("open", path)?),
        None => new.namespace(kernel::namespaces::Namespaces::NETWORK)?,
    };
    for (outside, inside) in &plan.net_devices {
        network::lend(outside, Some(inside), namespace.as_fd())?;
    }
    Ok(())
}

/// Writes down the first process, and tells those who want to know of it.
pub(crate) fn announce(
    container: &mut Container,
    options: &CreateOptions,
    pid: Pid,
    terminal: Option<&OwnedFd>,
    pidfd: impl AsFd,
) -> Result<()> {
    note_process(&mut container.record, pid)?;
    container.save()?;
    options.sockets.send(terminal, pidfd.as_fd())?;
    match &options.pid_file {
        Some(path) => store::write_pid_file(path, pid),
        None => Ok(()),
    }
}

fn note_process(record: &mut Record, pid: Pid) -> Result<()> {
    let Some((_, started)) = process::look(pid) else {
        return Err(Error::refused("the container's first process has ended"));
    };
    record.init_process_pid = pid.as_raw_nonzero().get();
    record.init_process_start = started;
    record.name_namespaces();
    Ok(())
}

/// The error that is reported is the first one; what cannot be undone stays for `delete --force`.
pub(crate) fn undo(container: &Container) {
    if groups::remove(&container.record).and_then(|()| class::remove(&container.record, true)).is_err() {
        return;
    }
    if let Some(hooks) = &container.record.spec.hooks {
        // They may have prepared something in createRuntime.
        drop(runtime::run_hooks("poststop", &hooks.poststop, &container.state(ContainerState::Stopped)));
    }
    drop(container.forget());
}
