//! `checkpoint` and `restore`, with runc's flags.

use std::path::{Path, PathBuf};

use clap::Args;
use oci_runtime::{CheckpointOptions, CreateOptions, Error, Interaction, Result, Sockets};

use super::process::{absolute, parsed};
use super::{Call, Ended};

/// Flags that both have.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Directory of criu's files
    #[arg(long, value_name = "DIRECTORY", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Directory of criu's log
    #[arg(long, value_name = "DIRECTORY")]
    work_path: Option<PathBuf>,
    /// With established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Unix sockets may be connected to the outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// The session's leader is outside of the container
    #[arg(long)]
    shell_job: bool,
    /// With file locks
    #[arg(long)]
    file_locks: bool,
    /// What criu does with control groups: soft, full, strict or ignore
    #[arg(long, value_name = "MODE", default_value = "soft")]
    manage_cgroups_mode: String,
    /// Namespace to make without its properties: network, which always is
    #[arg(long, value_name = "KIND", value_parser = ["network"])]
    empty_ns: Vec<String>,
    /// Drop pages of older images that newer ones have
    #[arg(long)]
    auto_dedup: bool,
    /// Memory comes when it is asked for
    #[arg(long)]
    lazy_pages: bool,
}

impl Common {
    fn options(&self) -> Result<CheckpointOptions> {
        Ok(CheckpointOptions {
            images: from_here(&self.image_path)?,
            work: self.work_path.as_deref().map(from_here).transpose()?,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            manage_cgroups: self.manage_cgroups_mode.clone(),
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            ..CheckpointOptions::default()
        })
    }
}

/// Of a directory that need not exist.
fn from_here(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::Refused(format!("{}: {error}", path.display())))
}

#[derive(Args, Clone, Debug)]
struct Checkpoint {
    #[command(flatten)]
    common: Common,
    /// Directory of an older image, relative to this one's
    #[arg(long, value_name = "DIRECTORY")]
    parent_path: Option<String>,
    /// Let the container go on
    #[arg(long)]
    leave_running: bool,
    /// Without TCP connections that are just being established
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Give removed files that are open a name again
    #[arg(long)]
    link_remap: bool,
    /// Descriptor that gets a zero byte once pages can be asked for
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, default_value_t = -1)]
    status_fd: i32,
    /// Server that takes memory
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = page_server)]
    page_server: Option<(String, u16)>,
    /// Write memory only, and let the container go on
    #[arg(long)]
    pre_dump: bool,
    /// Name of the container
    id: String,
}

fn page_server(text: &str) -> Result<(String, u16), String> {
    let wrong = || "Use --page-server ADDRESS:PORT to specify page server".to_owned();
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address.is_empty() || port.is_empty() {
        return Err(wrong());
    }
    Ok((address.to_owned(), port.parse().map_err(|_| "Invalid port number".to_owned())?))
}

pub fn checkpoint_flags(command: clap::Command) -> clap::Command {
    Checkpoint::augment_args(command)
}

pub fn checkpoint(call: &Call, matches: &clap::ArgMatches) -> Ended {
    let checkpoint: Checkpoint = parsed(matches)?;
    let options = CheckpointOptions {
        parent: checkpoint.parent_path.filter(|path| !path.is_empty()),
        leave_running: checkpoint.leave_running,
        tcp_skip_in_flight: checkpoint.tcp_skip_in_flight,
        link_remap: checkpoint.link_remap,
        status_fd: Some(checkpoint.status_fd).filter(|fd| *fd >= 0),
        page_server: checkpoint.page_server,
        pre_dump: checkpoint.pre_dump,
        ..checkpoint.common.options()?
    };
    if let Some(fd) = options.status_fd
        && std::fs::File::options().write(true).open(format!("/proc/self/fd/{fd}")).is_err()
    {
        return Err(Error::Refused(format!("invalid --status-fd argument {fd}: not open, or not writable")));
    }
    oci_runtime::checkpoint(&call.globals.store(), &checkpoint.id, &options)?;
    Ok(0)
}

#[derive(Args, Clone, Debug)]
struct Restore {
    #[command(flatten)]
    common: Common,
    /// Socket to which the terminal's other end is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File for the process's number
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Directory of the bundle
    #[arg(long, short, value_name = "DIRECTORY", default_value = ".")]
    bundle: PathBuf,
    /// Do not wait for the end
    #[arg(long, short)]
    detach: bool,
    /// Leave orphans of the container to others
    #[arg(long)]
    no_subreaper: bool,
    /// Without effect: criu enters the root as the container was in it
    #[arg(long)]
    no_pivot: bool,
    /// Another security profile than the written one: TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Another SELinux context for mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// Name of the container
    id: String,
}

pub fn restore_flags(command: clap::Command) -> clap::Command {
    Restore::augment_args(command)
}

pub fn restore(call: &Call, matches: &clap::ArgMatches) -> Ended {
    let restore: Restore = parsed(matches)?;
    let files = CheckpointOptions {
        lsm_profile: restore.lsm_profile,
        lsm_mount_context: restore.lsm_mount_context,
        ..restore.common.options()?
    };
    let options = CreateOptions {
        bundle: absolute(&restore.bundle)?,
        sockets: Sockets { console: restore.console_socket, pidfd: None },
        pid_file: restore.pid_file,
        systemd_cgroup: call.globals.systemd(),
        without_cgroup: call.globals.without_cgroup(),
        rootless: call.globals.rootless(),
        progress: call.progress(),
        ..CreateOptions::default()
    };
    let interaction = Interaction { detached: restore.detach, keep: false, no_subreaper: restore.no_subreaper };
    oci_runtime::restore(&call.globals.store(), &restore.id, &options, &files, interaction)
}
