//! The bundle of a container that another runtime makes: its configuration, and its root mounted where only this monitor
//! and what it starts can see it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kernel::clone::{Child, Clone as Cloning};
use kernel::mount::{self, Propagation};
use kernel::namespaces::{self, Namespaces};
use oci::runtime::{LinuxNamespaceType, Mount, Process, Root, Spec, User};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::WaitOptions;

use super::ExternalLaunch;
use crate::error::{Call, Error, Kind};
use crate::plan::ContainerLaunch;

/// Words of a mount's options that mean something to our own runtime alone.
const OWN: &str = "x-dhow.";

/// A directory with `config.json`, `rootfs` and, for mounts that a runtime could not make, `mounts`.
pub(crate) struct Bundle {
    path: PathBuf,
}

/// What the monitor knows when it makes a container.
pub(crate) struct Given<'a> {
    /// Path of the cgroup in its hierarchies.
    pub(crate) cgroup: Option<String>,
    /// Rows and columns of the terminal.
    pub(crate) size: Option<crate::wire::Size>,
    /// The network namespace, if it is a new one.
    pub(crate) network: Option<&'a Network>,
}

impl Bundle {
    /// The bundle in a runtime's directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Self { path: directory.join("bundle") }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it. From here on the monitor has a mount namespace of its own: nothing of it is in the host's.
    pub(crate) fn make(
        &self,
        container: &ContainerLaunch,
        external: &ExternalLaunch,
        given: &Given<'_>,
    ) -> Result<(), Error> {
        namespaces::unshare(Namespaces::MOUNT).map_err(launch)?;
        // What the host mounts later is seen; what is mounted here is not.
        mount::set_propagation(c"/", Propagation::Slave, true).map_err(launch)?;
        let rootfs = self.path.join("rootfs");
        for directory in [external.runtime.directory.join("state"), rootfs.clone(), self.path.join("mounts")] {
            // The configuration has the container's variables, which may be secrets.
            let mut maker = std::fs::DirBuilder::new();
            maker.recursive(true).mode(0o700).create(&directory).call(|| format!("mkdir({directory:?}, 0700)"))?;
        }
        let root = runtime::detached_root(&container.plan.root).map_err(launch)?;
        mount::attach(root.as_fd(), open(&rootfs)?.as_fd()).map_err(launch)?;
        let mut spec = external.specification.clone();
        // Older runtimes refuse a version that they do not know, and nothing newer is used.
        spec.oci_version = "1.0.2".to_owned();
        let readonly = spec.root.as_ref().is_some_and(|root| root.readonly);
        spec.root = Some(Root { path: "rootfs".into(), readonly });
        for (index, each) in spec.mounts.iter_mut().enumerate() {
            self.prepare(container, index, each)?;
            keep_attributes(each)?;
        }
        fill_in(&mut spec, container, root.as_fd(), given)?;
        let path = self.path.join("config.json");
        let text = serde_json::to_vec(&spec)
            .map_err(|source| Error::Json { what: "the specification of a container".to_owned(), source })?;
        std::fs::write(&path, text).call(|| format!("write({path:?})"))
    }

    /// Mounts what only our own runtime knows how to, for the other one to bind.
    fn prepare(&self, container: &ContainerLaunch, index: usize, wanted: &mut Mount) -> Result<(), Error> {
        if !wanted.options.iter().any(|option| option.starts_with(OWN)) {
            return Ok(());
        }
        wanted.options.retain(|option| !option.starts_with(OWN));
        let tree = runtime::live::tree(&container.plan.mounts[index]).map_err(launch)?;
        let Some(tree) = tree else { return Ok(()) };
        let place = self.path.join("mounts").join(index.to_string());
        let status = rustix::fs::fstat(&tree).call(|| "fstat(<mount>)".to_owned())?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            std::fs::create_dir_all(&place).call(|| format!("mkdir({place:?})"))?;
        } else {
            std::fs::write(&place, "").call(|| format!("open({place:?}, O_CREAT)"))?;
        }
        mount::attach(tree.as_fd(), open(&place)?.as_fd()).map_err(launch)?;
        (wanted.kind, wanted.source) = (Some("bind".to_owned()), Some(place.display().to_string()));
        if !wanted.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind")) {
            // What it was is made already; of the rest a bind mount knows these.
            wanted.options.retain(|option| matches!(option.as_str(), "ro" | "rw" | "rprivate"));
            wanted.options.push("rbind".to_owned());
        }
        Ok(())
    }

    /// Unmounts and removes it. Directories are removed when they are empty and not otherwise: in one that is still mounted
    /// are the container's own files.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let mounts = self.path.join("mounts");
        let below = std::fs::read_dir(&mounts).into_iter().flatten().flatten().map(|entry| entry.path());
        for place in below.chain([self.path.join("rootfs")]).collect::<Vec<_>>() {
            // In another process's mount namespace it is not mounted.
            drop(mount::detach(&place.display().to_string()));
            let removed = if place.is_dir() { std::fs::remove_dir(&place) } else { std::fs::remove_file(&place) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).call(|| format!("remove({place:?})"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names what the source of a bind mount forbids: runc since 1.2 takes away what is not named, and our own runtime does not
/// here. `rw` would ask for that by name.
fn keep_attributes(wanted: &mut Mount) -> Result<(), Error> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let binds = wanted.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
    let Some(source) = wanted.source.clone().filter(|source| binds && source.starts_with('/')) else { return Ok(()) };
    let flags = rustix::fs::statvfs(&source).call(|| format!("statvfs({source:?})"))?.f_flag;
    wanted.options.retain(|option| option != "rw");
    for (flag, name) in
        [(Flags::RDONLY, "ro"), (Flags::NOSUID, "nosuid"), (Flags::NODEV, "nodev"), (Flags::NOEXEC, "noexec")]
    {
        if flags.contains(flag) && wanted.options.iter().all(|option| option != name) {
            wanted.options.push(name.to_owned());
        }
    }
    Ok(())
}

/// What is known only now.
fn fill_in(
    spec: &mut Spec,
    container: &ContainerLaunch,
    root: std::os::fd::BorrowedFd<'_>,
    given: &Given<'_>,
) -> Result<(), Error> {
    if let Some(process) = &mut spec.process {
        let (user, groups) = match &container.plan.process.user {
            runtime::UserPlan::Named { user, additional } => (user.as_str(), additional.as_slice()),
            runtime::UserPlan::Numeric { .. } => ("", &[][..]),
        };
        resolve(process, root, user, groups)?;
        process.console_size = given
            .size
            .filter(|_| process.terminal)
            .map(|size| oci::runtime::ConsoleSize { height: size.rows.into(), width: size.columns.into() });
    }
    if let Some(linux) = &mut spec.linux {
        linux.cgroups_path.clone_from(&given.cgroup);
        if let Some(network) = given.network {
            for namespace in &mut linux.namespaces {
                if namespace.kind == LinuxNamespaceType::Network && namespace.path.is_none() {
                    namespace.path = Some(network.path());
                }
            }
        }
    }
    Ok(())
}

/// Numbers in place of names: only the container's files know them.
pub(crate) fn resolve(
    process: &mut Process,
    root: std::os::fd::BorrowedFd<'_>,
    user: &str,
    groups: &[String],
) -> Result<(), Error> {
    let found = runtime::users::resolve(root, user, groups).map_err(launch)?;
    process.user = User { additional_gids: found.groups, uid: found.uid, gid: found.gid, ..process.user.clone() };
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        process.env.push(format!("HOME={}", found.home.as_deref().unwrap_or("/")));
    }
    Ok(())
}

/// A network namespace, kept by a process that does nothing else until the container has it.
pub(crate) struct Network {
    pub(crate) child: Child,
    end: Option<OwnedFd>,
}

impl Network {
    pub(crate) fn new() -> Result<Self, Error> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)".to_owned())?;
        let mut writer = Some(writer);
        let child = Cloning { namespaces: Namespaces::NETWORK, ..Cloning::default() }
            .spawn(|| {
                // The child's copy would keep the end of file away.
                drop(writer.take());
                let mut byte = [0];
                i32::from(rustix::io::read(&reader, &mut byte).is_err())
            })
            .map_err(launch)?;
        Ok(Self { child, end: writer })
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.child.pid.as_raw_nonzero())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.end.take());
        // A reaper of the monitor may have been faster.
        drop(rustix::process::waitpid(Some(self.child.pid), WaitOptions::empty()).map_err(std::io::Error::from));
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_PATH|O_NOFOLLOW)"))
}

fn launch(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Launch { kind: Kind::Failed, source: source.into() }
}
