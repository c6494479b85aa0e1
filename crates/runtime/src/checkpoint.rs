//! Writing a running container into files, by criu.
//!
//! What of a container comes from the host cannot be written: bind mounts, masks, cgroups of v1, pipes and files that its
//! first process got. Their places in the container are noted beside criu's own files ([`MOUNTS`], [`DESCRIPTORS`]), so
//! that [`crate::restore`] can put what the plan says there again, wherever that is on the host then.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use criu::{Action, CgroupMode, Notice, Options, Program};
use kernel::beneath::{self, Limits};
use oci::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::{Mounted, Plan, RootSource};

/// Standard streams of the first process as they were, in the order of their numbers; runc's file of the same name.
pub(crate) const DESCRIPTORS: &str = "descriptors.json";
/// Mounts that come from the host.
pub(crate) const MOUNTS: &str = "dhow-mounts.json";

/// How a container is written into files or brought back; names as runc's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointOptions {
    /// Directory of the files.
    pub images: PathBuf,
    /// The program criu; that of `$PATH` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// Directory of the log; that of the images by default.
    pub work: Option<PathBuf>,
    /// An older image, relative to `images`.
    pub parent: Option<String>,
    /// Let the container go on.
    pub leave_running: bool,
    /// Write memory only, and let it go on.
    pub pre_dump: bool,
    /// With established TCP connections.
    pub tcp_established: bool,
    /// Without connections that are just being established.
    pub tcp_skip_in_flight: bool,
    /// Give removed files that are open a name again.
    pub link_remap: bool,
    /// Unix sockets may be connected to the outside.
    pub ext_unix_sk: bool,
    /// The session's leader is outside of the container.
    pub shell_job: bool,
    /// With file locks.
    pub file_locks: bool,
    /// Memory comes when it is asked for.
    pub lazy_pages: bool,
    /// Drop pages of older images that newer ones have.
    pub auto_dedup: bool,
    /// Who takes memory: address and port.
    pub page_server: Option<(String, u16)>,
    /// A descriptor of the caller's that gets a zero byte once pages can be asked for.
    pub status_fd: Option<i32>,
    /// What criu does with control groups, in runc's words: `soft`, `full`, `strict`, `ignore`.
    pub manage_cgroups: String,
    /// Another security profile than the written one.
    pub lsm_profile: Option<String>,
    /// Another SELinux context for mounts.
    pub lsm_mount_context: Option<String>,
}

/// Where criu is installed, for a process that has another `$PATH` than its user.
///
/// # Errors
/// [`Error::Criu`] where it is not.
pub fn criu_program() -> Result<PathBuf> {
    Ok(Program::find()?.path().to_owned())
}

impl CheckpointOptions {
    pub(crate) fn program(&self) -> Result<Program> {
        match &self.program {
            Some(path) => Ok(Program::at(path.clone())),
            None => Ok(Program::find()?),
        }
    }

    /// What is the same for both ways.
    pub(crate) fn common<'a>(&self, plan: &Plan, log_file: &str) -> Result<Options<'a>> {
        if !plan.namespaces.is_new(LinuxNamespaceType::Mount) {
            // criu would take the mounts of the host, or of whoever it is, for the container's.
            let problem = "a container without a mount namespace of its own can be neither checkpointed nor restored";
            return Err(Error::Refused(problem.to_owned()));
        }
        let Some(cgroups) = CgroupMode::by_name(&self.manage_cgroups) else {
            return Err(Error::Refused(format!(
                "invalid manage-cgroups-mode value {:?}: soft, full, strict or ignore",
                self.manage_cgroups
            )));
        };
        Ok(Options {
            log_file: log_file.to_owned(),
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            cgroups,
            // Links and addresses are set up anew by whoever set them up at first.
            empty_network: plan.namespaces.is_new(LinuxNamespaceType::Network),
            config_file: config_file(plan),
            ..Options::default()
        })
    }
}

/// The annotation `org.criu.config`, which runc and crun know; an empty one means no file at all.
fn config_file(plan: &Plan) -> Option<String> {
    match plan.annotations.get("org.criu.config") {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => Some("/etc/criu/runc.conf".to_owned()),
    }
}

/// A mount of the container that comes from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct External {
    /// Where it is in the container.
    pub place: String,
    /// What it is.
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum What {
    /// The bind mount of the plan with this destination, and what is mounted below it at this path.
    Bind { destination: String, below: String },
    /// A hierarchy of v1 by its name, or `unified`.
    Cgroup { name: String },
    /// A node of the host's `/dev`.
    Device { path: String },
}

/// Writes a container into files. Its processes are gone afterwards unless they are to go on.
///
/// # Errors
/// [`Error::Criu`] with criu's own words; the container runs on then.
pub fn checkpoint(plan: &Plan, pid: Pid, options: &CheckpointOptions) -> Result<()> {
    let mut request = options.common(plan, "dump.log")?;
    let program = options.program()?;
    let images = make_directory(&options.images)?;
    let work = options.work.as_deref().map(make_directory).transpose()?;
    request.images = Some(images.as_fd());
    request.work = work.as_ref().map(AsFd::as_fd);
    request.pid = Some(pid.as_raw_nonzero().get());
    request.leave_running = options.leave_running;
    request.tcp_skip_in_flight = options.tcp_skip_in_flight;
    request.link_remap = options.link_remap;
    request.parent.clone_from(&options.parent);
    request.track_memory = options.parent.is_some() || options.pre_dump;
    request.page_server.clone_from(&options.page_server);
    if let RootSource::Directory { path } = &plan.root.source {
        request.root = path.to_str().map(str::to_owned);
    }
    let freezer = plan.cgroup.legacy.iter().find(|(names, _)| names.split(',').any(|name| name == "freezer"));
    // One that is frozen already must be frozen by the same hierarchy, or criu waits for processes that never move.
    let paused = match &plan.cgroup.unified {
        Some(path) if is_frozen(path)? => Some(path),
        _ => None,
    };
    let unified = plan.cgroup.unified.as_ref().filter(|_| plan.cgroup.legacy.is_empty());
    let frozen = paused.or(freezer.map(|(_, path)| path)).or(unified);
    request.freeze_cgroup = frozen.and_then(|path| path.to_str()).map(str::to_owned);
    if !options.pre_dump {
        let externals = externals(plan, pid)?;
        request.external_mounts = externals.iter().map(|each| (each.place.clone(), each.place.clone())).collect();
        write_json(images.as_fd(), MOUNTS, &externals)?;
        let streams = streams(pid)?;
        request.external = streams.iter().filter(|each| each.starts_with("file[")).cloned().collect();
        write_json(images.as_fd(), DESCRIPTORS, &streams)?;
        request.external.extend(joined_namespaces(plan, pid));
    }
    let action = if options.pre_dump { Action::PreDump } else { Action::Dump };
    let told = |notice: Notice| {
        if let ("status-ready", Some(fd)) = (notice.step.as_str(), options.status_fd) {
            let path = format!("/proc/self/fd/{fd}");
            std::fs::File::options()
                .write(true)
                .open(path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, &[0]))?;
        }
        Ok(())
    };
    criu::run(&program, action, &request, |_| Ok(()), told)?;
    Ok(())
}

/// Whether a cgroup of v2 is frozen; one that cannot be asked is no answer.
fn is_frozen(group: &Path) -> Result<bool> {
    let path = group.join("cgroup.freeze");
    match std::fs::read_to_string(&path) {
        Ok(state) => Ok(state.trim() == "1"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(refused("read", &path, &error)),
    }
}

/// Namespaces that the container joined by a file are the host's to keep: they are named, and given again on restore.
pub(crate) fn joined_namespaces(plan: &Plan, pid: Pid) -> Vec<String> {
    let joined = |kind| plan.namespaces.join.iter().any(|(each, _)| *each == kind);
    let mut names = Vec::new();
    for (kind, file, key) in
        [(LinuxNamespaceType::Network, "net", "extRootNetNS"), (LinuxNamespaceType::Pid, "pid", "extRootPidNS")]
    {
        let path = format!("/proc/{}/ns/{file}", pid.as_raw_nonzero());
        if let (true, Ok(status)) = (joined(kind), std::fs::metadata(path)) {
            names.push(format!("{file}[{}]:{key}", status.ino()));
        }
    }
    names
}

pub(crate) fn refused(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Refused(format!("{what} {}: {error}", path.display()))
}

/// Opens a directory, made when it is missing.
pub(crate) fn make_directory(path: &Path) -> Result<OwnedFd> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(|error| refused("make the directory", path, &error))?;
    open_directory(path)
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| refused("open", path, &errno.into()))
}

fn write_json(directory: BorrowedFd<'_>, name: &str, value: &impl Serialize) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let write = || -> std::io::Result<()> {
        let fd = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
        Ok(serde_json::to_writer(File::from(fd), value)?)
    };
    write().map_err(|error| refused("write", Path::new(name), &error))
}

/// The first process's standard streams: a pipe by its name, a file of the host by criu's notation, else the link's text.
fn streams(pid: Pid) -> Result<Vec<String>> {
    let pid = pid.as_raw_nonzero();
    let table = format!("/proc/{pid}/mountinfo");
    let mounts = std::fs::read_to_string(&table).map_err(|error| refused("read", Path::new(&table), &error))?;
    let inside = |id: &str| mounts.lines().any(|line| line.split(' ').next() == Some(id));
    let mut streams = Vec::new();
    for number in 0..3 {
        let path = format!("/proc/{pid}/fd/{number}");
        let Ok(link) = std::fs::read_link(&path) else {
            streams.push(String::new());
            continue;
        };
        let link = link.to_string_lossy().into_owned();
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
        let status = std::fs::metadata(&path);
        streams.push(match (status, mount.parse::<u64>()) {
            (Ok(status), Ok(id)) if link.starts_with('/') && !inside(mount) => {
                format!("file[{id:x}:{:x}]", status.ino())
            }
            _ => link,
        });
    }
    Ok(streams)
}

/// A line of mountinfo.
struct Line {
    id: String,
    parent: String,
    kind: String,
    place: String,
}

fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let place =
            fields.nth(2)?.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        let kind = line.split(" - ").nth(1)?.split(' ').next()?.to_owned();
        Some(Line { id, parent, kind, place })
    };
    text.lines().filter_map(line).collect()
}

/// The mounts of a container that come from the host.
fn externals(plan: &Plan, pid: Pid) -> Result<Vec<External>> {
    let table = format!("/proc/{}/mountinfo", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(&table).map_err(|error| refused("read", Path::new(&table), &error))?;
    let lines = lines(&text);
    let root_path = format!("/proc/{}/root", pid.as_raw_nonzero());
    let root = open_directory(Path::new(&root_path))?;
    // A destination of the plan may lead through links; the mount there says where it really is.
    let bound: Vec<(String, &str)> = plan
        .mounts
        .iter()
        .filter(|mount| matches!(mount.what, Mounted::Bind { .. }))
        .filter_map(|mount| Some((mount_at(root.as_fd(), &mount.destination)?, mount.destination.as_str())))
        .collect();
    let own_cgroups = plan.namespaces.is_new(LinuxNamespaceType::Cgroup) && plan.cgroup.legacy.is_empty();
    let is_masked = |place: &str| plan.masked_paths.iter().any(|path| path == place);
    let mut found: Vec<External> = Vec::new();
    for line in &lines {
        let above = lines.iter().find(|each| each.id == line.parent).and_then(|above| {
            let what = &found.iter().rfind(|each| each.place == above.place)?.what;
            let What::Bind { destination, below } = what else { return None };
            let rest = Path::new(&line.place).strip_prefix(&above.place).ok()?.to_str()?.to_owned();
            Some(What::Bind { destination: destination.clone(), below: join(below, &rest) })
        });
        let what = if let Some((_, destination)) = bound.iter().find(|(id, _)| *id == line.id) {
            What::Bind { destination: (*destination).to_owned(), below: String::new() }
        } else if matches!(line.kind.as_str(), "cgroup" | "cgroup2") && !own_cgroups {
            let name = line.place.rsplit('/').next().unwrap_or_default().to_owned();
            What::Cgroup { name }
        } else if is_masked(&line.place) && !Path::new(&format!("{root_path}{}", line.place)).is_dir() {
            What::Device { path: "/dev/null".to_owned() }
        } else if plan.devices.iter().any(|device| device.path == line.place) {
            What::Device { path: line.place.clone() }
        } else if let Some(what) = above {
            what
        } else {
            continue;
        };
        found.push(External { place: line.place.clone(), what });
    }
    Ok(found)
}

fn join(above: &str, below: &str) -> String {
    if above.is_empty() { below.to_owned() } else { format!("{above}/{below}") }
}

/// The number of the mount that covers a path of the container.
fn mount_at(root: BorrowedFd<'_>, path: &str) -> Option<String> {
    use std::os::fd::AsRawFd;
    let place = beneath::open(root, path, OFlags::PATH, Mode::empty(), Limits::default()).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd())).ok()?;
    Some(info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\nbroken\n";
        let lines = lines(text);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].id.as_str(), lines[0].parent.as_str()), ("36", "35"));
        assert_eq!((lines[0].kind.as_str(), lines[0].place.as_str()), ("ext3", "/mnt 2"));
    }
}
