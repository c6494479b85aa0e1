//! `exec`: a further process in a container.

use std::path::PathBuf;

use cgroup::{Cgroup, Hierarchy, Version};
use oci::runtime::{LinuxCapabilities, LinuxNamespaceType, Process};
use runtime::{CgroupPlan, ExecPlan, PlanOptions, Stdio};
use rustix::process::Pid;

use crate::console::Sockets;
use crate::create::Interaction;
use crate::error::{Error, Result};
use crate::foreground::{self, Foreground};
use crate::process::Inherited;
use crate::progress::Progress;
use crate::record::Status;
use crate::store::{self, Container, Store};
use crate::{class, groups, start};

/// A process to start; what is not said is as for the container's first one.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// A file with all of the process, in place of what follows.
    pub process: Option<PathBuf>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// More environment, as `NAME=value`.
    pub env: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// User and group id.
    pub user: Option<(u32, Option<u32>)>,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Forbid gaining privileges.
    pub no_new_privs: bool,
    /// More capabilities, by name.
    pub capabilities: Vec<String>,
    /// Groups below the container's, as `[controller,…:]path`; one without controllers is for all.
    pub cgroups: Vec<String>,
    /// Also in a container that is paused, where the process stands still until it goes on.
    pub ignore_paused: bool,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Where descriptors are sent.
    pub sockets: Sockets,
    /// Descriptors for the process.
    pub inherited: Inherited,
    /// Who is told of the steps.
    pub progress: Progress,
}

/// Starts a process in a container. With [`Interaction::detached`] gives 0 when its program runs, else its exit status, 128
/// and the signal's number when a signal ended it.
///
/// # Errors
/// A container that does not run; whatever the process's start meets.
pub fn exec(store: &Store, id: &str, options: &ExecOptions, interaction: Interaction) -> Result<u8> {
    let container = store.find(id)?;
    match container.status()? {
        Status::Stopped | Status::Creating => {
            return Err(Error::State("cannot exec in a stopped container".to_owned()));
        }
        Status::Paused if !options.ignore_paused => {
            return Err(Error::State("cannot exec in a paused container (use --ignore-paused to override)".to_owned()));
        }
        _ => {}
    }
    let process = process(&container, options)?;
    if let Some(sets) = &process.capabilities {
        crate::create::warn_of_capabilities(sets, &options.progress);
    }
    let plan_options = PlanOptions {
        preserve_descriptors: options.inherited.total(),
        plain_line_ends: options.sockets.console.is_none(),
        ..PlanOptions::default()
    };
    let mut plan = runtime::plan_process(&process, &plan_options, start::compile(&container)?)?;
    plan.personality = runtime::plan_personality(&container.record.spec)?;
    plan.memory_policy = runtime::plan_memory_policy(&container.record.spec)?;
    options.sockets.check(plan.terminal.is_some(), interaction.detached)?;
    let (Some(target), Some(pid)) = (container.open_process()?, container.record.pid()) else {
        return Err(Error::State("cannot exec in a stopped container".to_owned()));
    };
    let terminal = plan.terminal.is_some();
    let plan = ExecPlan {
        process: plan,
        cgroup: place(&container, pid, &options.cgroups)?,
        no_other_cgroup: !options.cgroups.is_empty(),
        keyring: container.record.keyring.then(|| format!("_ses.{id}")),
        own_namespaces: container.own_namespaces(),
        in_foreign_mounts: !container.has_own(LinuxNamespaceType::Mount),
    };
    if !interaction.detached && !interaction.no_subreaper {
        kernel::prctl::set_child_subreaper()?;
    }
    let signals = if interaction.detached { None } else { Some(foreground::block_signals()?) };
    let stdio = if terminal { Stdio::Terminal } else { Stdio::Inherit };
    options
        .progress
        .say(|| format!("nsexec container setup: joining the namespaces of process {}", pid.as_raw_nonzero()));
    if let Some((while_joining, _)) = &plan.process.affinity {
        options.progress.say(|| format!("nsexec container setup: affinity: {}", cpu_mask(while_joining)));
    }
    class::enter(&container.record)?;
    let usher = groups::usher(&container.record);
    let usher = usher.as_ref().map(|usher| usher as runtime::Usher<'_>);
    let started = runtime::exec_led(&plan, std::os::fd::AsFd::as_fd(&target), pid, stdio, usher)?;
    options.progress.say(|| {
        let pid = started.pid.as_raw_nonzero();
        format!("child process in init(): {pid}; setns_init: about to exec: done, the program runs")
    });
    if let Some(path) = &options.pid_file {
        store::write_pid_file(path, started.pid)?;
    }
    options.sockets.send(started.terminal.as_ref(), std::os::fd::AsFd::as_fd(&started.pidfd))?;
    let Some(signals) = signals else { return Ok(0) };
    Foreground { pid: started.pid, pidfd: started.pidfd, terminal: started.terminal, signals }.wait()
}

fn process(container: &Container, options: &ExecOptions) -> Result<Process> {
    let mut process = match &options.process {
        Some(path) => crate::create::document(path)?,
        None => own_process(container, options)?,
    };
    let listening = options.inherited.listening;
    if listening > 0 {
        process.env.extend([format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
    }
    Ok(process)
}

fn own_process(container: &Container, options: &ExecOptions) -> Result<Process> {
    let Some(mut process) = container.record.spec.process.clone() else {
        return Err(Error::refused("the container has no process whose user and environment could be taken"));
    };
    process.args.clone_from(&options.args);
    process.terminal = options.tty;
    process.env.extend(options.env.iter().cloned());
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some((uid, gid)) = options.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&options.additional_gids);
    if let Some(label) = &options.process_label {
        process.selinux_label = Some(label.clone());
    }
    if let Some(profile) = &options.apparmor {
        process.apparmor_profile = Some(profile.clone());
    }
    process.no_new_privileges |= options.no_new_privs;
    if !options.capabilities.is_empty() {
        let sets = process.capabilities.get_or_insert_with(LinuxCapabilities::default);
        for name in &options.capabilities {
            if kernel::capabilities::by_name(name).is_none() {
                return Err(Error::refused(format!("unknown capability {name:?}")));
            }
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.push(name.clone());
            }
            // As runc: kept by a process that is not root only where the container lets it be inherited.
            if sets.inheritable.contains(name) {
                sets.ambient.push(name.clone());
            }
        }
    }
    Ok(process)
}

/// As one number, in the form that runc has it.
fn cpu_mask(words: &[u64]) -> String {
    let digits: String = words.iter().rev().map(|word| format!("{word:016x}")).collect();
    format!("0x{}", digits.trim_start_matches('0'))
}

/// The directories that the process is put into.
fn place(container: &Container, first: Pid, wanted: &[String]) -> Result<CgroupPlan> {
    let found =
        if wanted.is_empty() { groups::open_to_enter(&container.record) } else { groups::open(&container.record) };
    let Some(group) = found? else {
        return match (&container.record.cgroup, wanted) {
            (None, _) => Ok(CgroupPlan::default()),
            (Some(_), []) if container.record.rootless => Ok(CgroupPlan::default()),
            (Some(_), []) => place_of(first),
            (Some(group), _) => Err(Error::refused(format!(
                "--cgroup: error adding pid to cgroup {}: no such file or directory",
                group.path
            ))),
        };
    };
    let mut plan = groups::directories(&group);
    for text in wanted {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), text.as_str()),
        };
        let path = path.trim_start_matches('/');
        if path.split('/').any(|part| part == "..") {
            return Err(Error::refused(format!(
                "--cgroup {text:?}: bad sub cgroup path: it leads out of the container's"
            )));
        }
        for controller in &controllers {
            if !has(&group, controller) {
                return Err(Error::refused(format!("--cgroup {text:?}: unknown controller {controller}")));
            }
        }
        let chosen = |names: &str| controllers.is_empty() || names.split(',').any(|name| controllers.contains(&name));
        if let Some(directory) = plan.unified.as_mut().filter(|_| controllers.is_empty()) {
            *directory = below(directory, path)?;
        }
        for (names, directory) in plan.legacy.iter_mut().filter(|(names, _)| chosen(names)) {
            *directory =
                below(directory, path).map_err(|error| Error::refused(format!("{names}: {}", error.chain())))?;
        }
    }
    Ok(plan)
}

/// Where the container's first process has moved to out of a group that was removed since: an exec is not left with its caller.
fn place_of(first: Pid) -> Result<CgroupPlan> {
    let group = Cgroup::of_process(&Hierarchy::detect()?, first)?;
    Ok(group.map(|group| groups::directories(&group)).unwrap_or_default())
}

fn below(directory: &std::path::Path, path: &str) -> Result<PathBuf> {
    let directory = directory.join(path);
    if directory.is_dir() {
        Ok(directory)
    } else {
        Err(Error::refused(format!(
            "--cgroup: error adding pid to cgroup {}: no such file or directory",
            directory.display()
        )))
    }
}

fn has(group: &Cgroup, name: &str) -> bool {
    group
        .directories()
        .iter()
        .any(|(mount, _)| mount.version == Version::V1 && mount.controllers.iter().any(|each| each.v1_name() == name))
}
