//! `create`, `run`, `exec`: verbs that make a process.

use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};
use oci_runtime::{CreateOptions, Error, ExecOptions, Inherited, Interaction, Result, Sockets};

use super::{Call, Ended, seal, show};

/// Flags of everything that makes a process.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Socket to which the terminal's other end is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Socket to which a descriptor of the process is sent
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File for the process's number
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Hand on so many descriptors from 3 on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    preserve_fds: u32,
}

impl Common {
    fn sockets(&self) -> Sockets {
        Sockets { console: self.console_socket.clone(), pidfd: self.pidfd_socket.clone() }
    }

    /// Descriptors of a service manager are passed on as well, as runc does (sd_listen_fds(3)).
    fn inherited(&self) -> Inherited {
        let listening = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Inherited { preserved: self.preserve_fds, listening }
    }
}

#[derive(Args, Clone, Debug)]
struct Bundle {
    /// Directory of the bundle
    #[arg(long, short, value_name = "DIRECTORY", default_value = ".")]
    bundle: PathBuf,
    /// Another file than config.json in the bundle
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Enter the root by chroot(2) and not by pivot_root(2), as on an initial ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    #[command(flatten)]
    common: Common,
    /// Name of the container
    id: String,
}

impl Bundle {
    fn options(&self, call: &Call) -> Result<CreateOptions> {
        Ok(CreateOptions {
            bundle: absolute(&self.bundle)?,
            config: self.config.clone(),
            sockets: self.common.sockets(),
            pid_file: self.common.pid_file.clone(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            inherited: self.common.inherited(),
            systemd_cgroup: call.globals.systemd(),
            without_cgroup: call.globals.without_cgroup(),
            rootless: call.globals.rootless(),
            progress: call.progress(),
        })
    }
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) => Err(Error::Refused(format!("bundle {}: {error}", path.display()))),
    }
}

pub(super) fn parsed<T: FromArgMatches>(matches: &clap::ArgMatches) -> Result<T> {
    T::from_arg_matches(matches).map_err(|error| Error::Refused(error.to_string()))
}

pub fn create_flags(command: clap::Command) -> clap::Command {
    Bundle::augment_args(command)
}

pub fn create(call: &Call, matches: &clap::ArgMatches) -> Ended {
    let bundle: Bundle = parsed(matches)?;
    seal()?;
    bundle.common.inherited().settle()?;
    oci_runtime::create(&call.globals.store(), &bundle.id, &bundle.options(call)?)?;
    Ok(0)
}

#[derive(Args, Clone, Debug)]
struct Run {
    /// Do not wait for the end
    #[arg(long, short)]
    detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    keep: bool,
    /// Leave orphans of the container to others
    #[arg(long)]
    no_subreaper: bool,
    #[command(flatten)]
    bundle: Bundle,
}

pub fn run_flags(command: clap::Command) -> clap::Command {
    Run::augment_args(command)
}

pub fn run(call: &Call, matches: &clap::ArgMatches) -> Ended {
    let run: Run = parsed(matches)?;
    seal()?;
    run.bundle.common.inherited().settle()?;
    let interaction = Interaction { detached: run.detach, keep: run.keep, no_subreaper: run.no_subreaper };
    oci_runtime::run(&call.globals.store(), &run.bundle.id, &run.bundle.options(call)?, interaction)
}

#[derive(Args, Clone, Debug)]
struct Plan {
    /// Directory of the bundle
    bundle: PathBuf,
    /// Another file than config.json in the bundle
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the container
    #[arg(default_value = "plan")]
    id: String,
}

pub fn plan_flags(command: clap::Command) -> clap::Command {
    Plan::augment_args(command)
}

pub fn plan(_call: &Call, matches: &clap::ArgMatches) -> Ended {
    let plan: Plan = parsed(matches)?;
    let options =
        CreateOptions { bundle: absolute(&plan.bundle)?, config: plan.config.clone(), ..CreateOptions::default() };
    show::json(&oci_runtime::plan(&plan.id, &options)?)
}

#[derive(Args, Clone, Debug)]
struct Exec {
    #[command(flatten)]
    common: Common,
    /// Working directory
    #[arg(long, value_name = "DIRECTORY")]
    cwd: Option<String>,
    /// More environment: NAME=value
    #[arg(long, short, value_name = "VARIABLE")]
    env: Vec<String>,
    /// With a terminal
    #[arg(long, short)]
    tty: bool,
    /// Ids of user and group: UID[:GID]
    #[arg(long, short, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, Option<u32>)>,
    /// More groups
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the whole process, as in config.json
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for the end
    #[arg(long, short)]
    detach: bool,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Forbid gaining privileges
    #[arg(long)]
    no_new_privs: bool,
    /// One more capability
    #[arg(long, short, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// A cgroup below the container's: [CONTROLLER,…:]PATH
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Also in a container that is paused
    #[arg(long)]
    ignore_paused: bool,
    /// Leave orphans of the process to others
    #[arg(long)]
    no_subreaper: bool,
    /// Name of the container
    id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

fn user(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

pub fn exec_flags(command: clap::Command) -> clap::Command {
    Exec::augment_args(command)
}

pub fn exec(call: &Call, matches: &clap::ArgMatches) -> Ended {
    let exec: Exec = parsed(matches)?;
    if exec.args.is_empty() && exec.process.is_none() {
        return Err(Error::Refused("process args cannot be empty".to_owned()));
    }
    seal()?;
    let inherited = exec.common.inherited();
    inherited.settle()?;
    let options = ExecOptions {
        process: exec.process,
        args: exec.args,
        cwd: exec.cwd,
        env: exec.env,
        tty: exec.tty,
        user: exec.user,
        additional_gids: exec.additional_gids,
        process_label: exec.process_label,
        apparmor: exec.apparmor,
        no_new_privs: exec.no_new_privs,
        capabilities: exec.cap,
        cgroups: exec.cgroup,
        ignore_paused: exec.ignore_paused,
        pid_file: exec.common.pid_file.clone(),
        sockets: exec.common.sockets(),
        inherited,
        progress: call.progress(),
    };
    let interaction = Interaction { detached: exec.detach, keep: false, no_subreaper: exec.no_subreaper };
    oci_runtime::exec(&call.globals.store(), &exec.id, &options, interaction)
}
