//! Bringing a container back from files, by criu.
//!
//! criu makes the processes with all they had; what comes from the host it wants to find in its own mount namespace. That
//! is a new one, made between fork and exec of criu, in which the root file system and the bind mounts are put below a
//! directory of the caller's: nothing of it shows on the host, and all of it goes with criu.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use criu::{Action, BoxError, Notice};
use kernel::beneath;
use kernel::mount::{self, Propagation};
use kernel::namespaces::{self, Namespaces};
use oci::runtime::{ContainerState, LinuxNamespaceType};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Pid, Signal};

use crate::checkpoint::{self, CheckpointOptions, DESCRIPTORS, External, MOUNTS, What};
use crate::create::{NewContainer, Started, Stdio};
use crate::error::{Error, Result};
use crate::plan::{Mounted, Plan};
use crate::{hooks, join, mounts, root};

/// Longer lists than this are not ours.
const LONGEST: u64 = 1 << 20;

/// Brings a container back. Its first process is a child of the caller, which must reap it.
///
/// `scratch` is an empty or missing directory that only the caller can enter; what is made there may be removed afterwards.
/// `in_parallel` is called once the namespaces are there, as by [`crate::create`].
///
/// # Errors
/// [`Error::Criu`] with criu's own words, a hook's or `in_parallel`'s error; nothing of the container is left then.
pub fn restore(
    plan: &Plan,
    stdio: Stdio,
    scratch: &Path,
    options: &CheckpointOptions,
    in_parallel: impl FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>,
) -> Result<Started> {
    let mut request = options.common(plan, "restore.log")?;
    let program = options.program()?;
    let images = checkpoint::open_directory(&options.images)?;
    let work = options.work.as_deref().map(checkpoint::make_directory).transpose()?;
    let externals: Vec<External> = read_json(images.as_fd(), MOUNTS)?;
    let streams: Vec<String> = read_json(images.as_fd(), DESCRIPTORS)?;
    let namespaces = open_namespaces(plan)?;
    let places = Places::new(plan, scratch, &externals)?;
    request.images = Some(images.as_fd());
    request.work = work.as_ref().map(AsFd::as_fd);
    request.works_where_it_is = true;
    request.root = Some(text(&places.root)?);
    request.external_mounts =
        places.mounts.iter().map(|each| Ok((each.place.clone(), text(&each.source)?))).collect::<Result<_>>()?;
    request.cgroup_roots = cgroup_roots(plan);
    request.lsm_profile.clone_from(&options.lsm_profile);
    request.lsm_mount_context.clone_from(&options.lsm_mount_context);
    request.inherited = inherited(&streams, &stdio);
    request.inherited.extend(namespaces.iter().map(|(key, fd)| ((*key).to_owned(), fd.as_fd())));
    let mut state = Restoring { plan, in_parallel: Some(in_parallel), terminal: None };
    let directory = work.as_ref().unwrap_or(&images);
    let before = |_| Ok(places.prepare(plan, directory.as_fd())?);
    let outcome = criu::run(&program, Action::Restore, &request, before, |notice| state.hear(notice));
    let Restoring { in_parallel, terminal, .. } = state;
    let pid = outcome?.pid.and_then(Pid::from_raw);
    let Some(pid) = pid else { return Err(Error::Vanished("criu named no process".to_owned())) };
    let pidfd =
        kernel::clone::open_pidfd(pid).map_err(|source| Error::Step { step: "open the process".to_owned(), source })?;
    if let Some(in_parallel) = in_parallel {
        // A container without namespaces of its own.
        if let Err(error) = in_parallel(&NewContainer { pid, pidfd: pidfd.as_fd() }) {
            rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).ok();
            crate::create::reap(pid);
            return Err(Error::InParallel(error));
        }
    }
    Ok(Started { pid, pidfd, terminal })
}

/// What is done while criu works.
struct Restoring<'a, F> {
    plan: &'a Plan,
    in_parallel: Option<F>,
    terminal: Option<OwnedFd>,
}

impl<F: FnOnce(&NewContainer<'_>) -> std::result::Result<(), BoxError>> Restoring<'_, F> {
    fn hear(&mut self, notice: Notice) -> std::result::Result<(), BoxError> {
        match notice.step.as_str() {
            "setup-namespaces" => {
                let Some(pid) = Pid::from_raw(notice.pid) else { return Ok(()) };
                let pidfd = kernel::clone::open_pidfd(pid)?;
                if let Some(in_parallel) = self.in_parallel.take() {
                    in_parallel(&NewContainer { pid, pidfd: pidfd.as_fd() })?;
                }
                let state = hooks::state(self.plan, ContainerState::Creating, pid);
                hooks::run_hooks("prestart", &self.plan.hooks.prestart, &state)?;
                Ok(hooks::run_hooks("createRuntime", &self.plan.hooks.create_runtime, &state)?)
            }
            "orphan-pts-master" => {
                self.terminal = notice.descriptor;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Where in criu's mount namespace what comes from the host is found.
struct Places {
    root: PathBuf,
    mounts: Vec<Place>,
}

struct Place {
    place: String,
    source: PathBuf,
    /// A mount of the plan that is put at `source` first.
    made_of: Option<usize>,
}

impl Places {
    fn new(plan: &Plan, scratch: &Path, externals: &[External]) -> Result<Self> {
        let root = scratch.join("root");
        checkpoint::make_directory(&root)?;
        let mut mounts = Vec::new();
        for (number, external) in externals.iter().enumerate() {
            let unknown =
                || Error::Refused(format!("the configuration says nothing of the mount {:?}", external.place));
            let (source, made_of) = match &external.what {
                What::Device { path } if path.starts_with("/dev/") && !path.contains("/..") => {
                    (PathBuf::from(path), None)
                }
                What::Device { .. } => return Err(unknown()),
                What::Cgroup { name } => (cgroup_directory(plan, name).ok_or_else(unknown)?, None),
                What::Bind { destination, below } => {
                    let index = plan.mounts.iter().position(|mount| mount.destination == *destination);
                    let index = index.ok_or_else(unknown)?;
                    let Mounted::Bind { source, id_map, subpath, layers, .. } = &plan.mounts[index].what else {
                        return Err(unknown());
                    };
                    let simple = id_map.is_none() && subpath.is_none() && layers.is_empty();
                    if Path::new(below).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
                        return Err(unknown());
                    }
                    match simple {
                        true if below.is_empty() => (source.clone(), None),
                        true => (source.join(below), None),
                        false => (scratch.join(number.to_string()), Some(index)),
                    }
                }
            };
            mounts.push(Place { place: external.place.clone(), source, made_of });
        }
        Ok(Self { root, mounts })
    }

    /// In the process that becomes criu.
    fn prepare(&self, plan: &Plan, directory: BorrowedFd<'_>) -> Result<()> {
        let step = |source| Error::Step { step: "prepare the mounts for criu".to_owned(), source };
        join::enter_cgroup(&plan.cgroup, false)?;
        // criu mounts control groups in its working directory, if it is to restore them: so that must be in the namespace to
        // come, into which the kernel takes it along (unshare(2)).
        rustix::process::fchdir(directory).map_err(|errno| step(kernel::Error::new("fchdir(<directory>)", errno)))?;
        namespaces::unshare(Namespaces::MOUNT).map_err(step)?;
        mount::set_propagation(c"/", Propagation::Private, true).map_err(step)?;
        let tree = root::detached_root(&plan.root)?;
        let place = checkpoint::open_directory(&self.root)?;
        mount::attach(tree.as_fd(), place.as_fd()).map_err(step)?;
        for each in &self.mounts {
            let Some(index) = each.made_of else { continue };
            let tree = mounts::bind_tree(plan, index)?;
            let status = rustix::fs::fstat(&tree).map_err(|errno| step(kernel::Error::new("fstat(<mount>)", errno)))?;
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                checkpoint::make_directory(&each.source)?;
            } else {
                std::fs::write(&each.source, "").map_err(|error| checkpoint::refused("make", &each.source, &error))?;
            }
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let place = rustix::fs::open(&each.source, flags, Mode::empty())
                .map_err(|errno| checkpoint::refused("open", &each.source, &errno.into()))?;
            mount::attach(tree.as_fd(), place.as_fd()).map_err(step)?;
        }
        self.make_mount_points(plan, tree.as_fd());
        Ok(())
    }

    /// What criu fails on it names itself, so nothing here is an error: a read-only root, a place in a tmpfs. A mount point
    /// may be in a bind mount, so those are there while they are made.
    fn make_mount_points(&self, plan: &Plan, root: BorrowedFd<'_>) {
        let mode = Mode::from_raw_mode(0o755);
        let mut attached = Vec::new();
        // What is below a file system of the container's own is criu's to make, in that.
        let covered = |place: &Path| {
            plan.mounts.iter().any(|above| {
                let own = !matches!(above.what, Mounted::Bind { .. });
                own && place != Path::new(&above.destination) && place.starts_with(&above.destination)
            })
        };
        for (index, mount) in plan.mounts.iter().enumerate() {
            if covered(Path::new(&mount.destination)) {
                continue;
            }
            let is_file = self.mounts.iter().any(|each| each.place == mount.destination && each.source.is_file());
            let made = match is_file {
                true => beneath::make_file(root, &mount.destination, Mode::from_raw_mode(0o644)),
                false => beneath::make_directories(root, &mount.destination, mode),
            };
            if let (Ok(place), Mounted::Bind { .. }) = (made, &mount.what)
                && let Ok(tree) = mounts::bind_tree(plan, index)
                && mount::attach(tree.as_fd(), place.as_fd()).is_ok()
            {
                attached.push(tree);
            }
        }
        for tree in attached.into_iter().rev() {
            drop(mount::detach_mount(tree.as_fd()));
        }
    }
}

fn cgroup_directory(plan: &Plan, name: &str) -> Option<PathBuf> {
    let legacy = plan.cgroup.legacy.iter().find(|(each, _)| each == name).map(|(_, path)| path.clone());
    legacy.or_else(|| plan.cgroup.unified.clone().filter(|_| matches!(name, "unified" | "cgroup")))
}

/// By the names of `/proc/PID/cgroup`, with paths as the hierarchy's root sees them.
fn cgroup_roots(plan: &Plan) -> Vec<(String, String)> {
    let below = |path: &Path, above: &Path| {
        let rest = path.strip_prefix(above).ok()?;
        Some(format!("/{}", rest.to_str()?))
    };
    let mut roots = Vec::new();
    for (name, path) in &plan.cgroup.legacy {
        let controllers = if name == "systemd" { "name=systemd".to_owned() } else { name.clone() };
        roots.extend(below(path, &Path::new("/sys/fs/cgroup").join(name)).map(|path| (controllers, path)));
    }
    if let Some(path) = &plan.cgroup.unified {
        let found =
            below(path, Path::new("/sys/fs/cgroup/unified")).or_else(|| below(path, Path::new("/sys/fs/cgroup")));
        roots.extend(found.map(|path| (String::new(), path)));
    }
    roots
}

/// The new ends of what the first process had as pipes and files of the host.
fn inherited<'a>(streams: &[String], stdio: &'a Stdio) -> Vec<(String, BorrowedFd<'a>)> {
    let ends: Vec<BorrowedFd<'a>> = match stdio {
        Stdio::Inherit => vec![rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()],
        Stdio::Streams { stdin, stdout, stderr } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        Stdio::Terminal => Vec::new(),
    };
    let mut found: Vec<(String, BorrowedFd<'a>)> = Vec::new();
    for (name, end) in streams.iter().zip(ends) {
        let outside = name.starts_with("pipe:[") || name.starts_with("file[");
        // Two streams may be one file; criu wants its name once.
        if outside && found.iter().all(|(each, _)| each != name) {
            found.push((name.clone(), end));
        }
    }
    found
}

fn open_namespaces(plan: &Plan) -> Result<Vec<(&'static str, OwnedFd)>> {
    let mut opened = Vec::new();
    for (kind, path) in &plan.namespaces.join {
        let key = match kind {
            LinuxNamespaceType::Network => "extRootNetNS",
            LinuxNamespaceType::Pid => "extRootPidNS",
            _ => continue,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| checkpoint::refused("open", path, &errno.into()))?;
        opened.push((key, fd));
    }
    Ok(opened)
}

fn read_json<T: serde::de::DeserializeOwned>(directory: BorrowedFd<'_>, name: &str) -> Result<T> {
    let read = || -> std::io::Result<T> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(directory, name, flags, Mode::empty())?;
        let mut bytes = Vec::new();
        std::fs::File::from(fd).take(LONGEST).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    read().map_err(|error| Error::Refused(format!("this is no checkpoint of a container: {name}: {error}")))
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Refused(format!("{} is not UTF-8", path.display())))
}
