//! A container's files as the container sees them, reached by descriptors.
//!
//! One that runs has its root in `/proc/PID/root`. That of one that does not run is assembled, with its volumes and bind
//! mounts, by a thread in a mount namespace of its own, so nothing of it is in the host's mount table, and it goes with the
//! thread. Below a [`View`]'s root no path is ever resolved but beneath it (CVE-2018-15664, CVE-2019-14271): nothing of
//! the container is executed, loaded or followed out of it.

use crate::containers::options::{Mount, MountSource};
use crate::containers::table::{self, Entry};
use crate::containers::{lock, record::Settings};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::volumes::Source;
use kernel::beneath::{self, Limits};
use kernel::mount::{self, Attributes, Change, Propagation};
use kernel::namespaces::{self, Namespaces};
use runtime::{RootPlan, RootSource};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A root directory to work in.
#[derive(Debug)]
pub(crate) struct View {
    root: OwnedFd,
    shift: store::Shift,
}

impl View {
    /// The root directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// How the owners of its files differ from those that the container sees.
    pub(crate) fn shift(&self) -> &store::Shift {
        &self.shift
    }

    /// A view of a directory by itself.
    pub(crate) fn of(root: OwnedFd) -> View {
        View { root, shift: store::Shift::default() }
    }
}

/// What is mounted in the root of a container that does not run.
struct Below {
    source: PathBuf,
    layers: Vec<PathBuf>,
    subpath: String,
    target: String,
    read_only: bool,
    userxattr: bool,
}

/// Everything that the thread needs, since the engine stays with its own.
struct Assembly {
    root: RootPlan,
    below: Vec<Below>,
    shift: store::Shift,
    /// Who is to own what is made, if not whoever makes it.
    owner: Option<(u32, u32)>,
}

impl Assembly {
    /// Mounts what was changed as the topmost of the layers that are read. A start's own mount of it is then no second one
    /// that would write (Documentation/filesystems/overlayfs.rst, "Sharing and copying layers").
    fn only_read(&mut self) {
        self.root.readonly = true;
        if let RootSource::Overlay { lower, upper, work, .. } = &mut self.root.source {
            lower.splice(0..0, upper.take());
            *work = None;
        }
    }
}

/// Works on the files of a container that runs. Where it has ids of its own, nobody else can make files in it (EOVERFLOW), so
/// that is done by a thread whose files belong to the container's root.
fn on_running<T: Send>(view: &View, settings: &Settings, work: impl FnOnce(&View) -> Result<T> + Send) -> Result<T> {
    let Some((uid, gid)) = settings.id_maps.as_ref().and_then(|maps| maps.outside(0, 0)) else { return work(view) };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("view".into()).spawn_scoped(scope, || {
            kernel::prctl::own_files(uid, gid)
                .internal(|| "cannot become the owner of the container's files".into())?;
            work(view)
        });
        let thread = thread.internal(|| "cannot start a thread".into())?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` in a thread with a private copy of the mount namespace.
pub(crate) fn isolated<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("view".into()).spawn_scoped(scope, || {
            let failed = || "cannot make a mount namespace to look into".to_owned();
            namespaces::unshare(Namespaces::MOUNT).internal(failed)?;
            // What is mounted here must not appear on the host.
            mount::set_propagation(c"/", Propagation::Private, true).internal(failed)?;
            work()
        });
        let thread = thread.internal(|| "cannot start a thread".into())?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Engine {
    /// The image's layers under a container, without what the container wrote.
    pub(crate) fn image_root(&self, entry: &Entry) -> Result<RootPlan> {
        let mut source = self.root_source(entry)?;
        if let RootSource::Overlay { upper, work, volatile, .. } = &mut source {
            (*upper, *work, *volatile) = (None, None, false);
        }
        Ok(RootPlan { source, readonly: true, propagation: None, label: None, no_pivot: false, id_map: None })
    }

    /// Runs `work` on the files of a container, running or not.
    pub(crate) fn with_view<T: Send>(&self, wanted: &str, work: impl FnOnce(&View) -> Result<T> + Send) -> Result<T> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        if let Some(view) = self.running_view(&entry)? {
            return on_running(&view, &entry.settings, work);
        }
        let Some(held) = self.claim_stopped(&entry.id)? else {
            // Started since we looked.
            let view = self.running_view(&entry)?;
            let view = view.ok_or_else(|| {
                Error::new(Kind::Conflict, format!("container {wanted} is being started or stopped: try again"))
            })?;
            return on_running(&view, &entry.settings, work);
        };
        let done = self.make_directories(&entry).and_then(|()| self.assembly(&entry)).and_then(|assembly| {
            isolated(move || {
                let view = assemble(&assembly)?;
                work(&view)
            })
        });
        let released = lock::release(self.directories(), &entry.id);
        drop(held);
        let value = done?;
        released.map(|()| value)
    }

    /// Runs `work` on the files of a container, running or not, to be read. The container may be started and removed
    /// meanwhile, since whoever takes the files may take as long as they want for it.
    pub(crate) fn with_files<T: Send>(&self, wanted: &str, work: impl FnOnce(&View) -> Result<T> + Send) -> Result<T> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        if let Some(view) = self.running_view(&entry)? {
            return on_running(&view, &entry.settings, work);
        }
        if crate::quota::is_limited(&entry.settings) {
            // Its layer is in a file system that is mounted for whoever holds the container.
            return self.with_view(wanted, work);
        }
        let Some(held) = self.claim_stopped(&entry.id)? else { return self.with_view(wanted, work) };
        let assembled = self.make_directories(&entry).and_then(|()| self.assembly(&entry)).and_then(|mut assembly| {
            if !assembly.below.is_empty() {
                // Mount points are made where changes go; what is mounted without that below finds them.
                isolated(|| assemble(&assembly).map(drop))?;
            }
            assembly.only_read();
            Ok(assembly)
        });
        let released = lock::release(self.directories(), &entry.id);
        drop(held);
        let assembly = assembled?;
        released?;
        isolated(move || {
            let view = assemble(&assembly)?;
            work(&view)
        })
    }

    /// The root of a container that runs.
    fn running_view(&self, entry: &Entry) -> Result<Option<View>> {
        let Some(state) = self.running_state(&entry.id)?.filter(|state| state.pid > 0) else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = format!("/proc/{}/root", state.pid);
        let root = match rustix::fs::open(path.as_str(), flags, Mode::empty()) {
            Ok(root) => root,
            // It has ended.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno).internal(|| format!("cannot open {path}")),
        };
        // Asked after it was opened: had the number been given to another process, the start time would be another.
        let same = monitor::process_start_time(state.pid) == Some(state.pid_start_time);
        let shift = entry.settings.id_maps.as_ref().map(crate::users::IdMaps::shift).unwrap_or_default();
        Ok(same.then_some(View { root, shift }))
    }

    fn assembly(&self, entry: &Entry) -> Result<Assembly> {
        let mut source = self.root_source(entry)?;
        if let RootSource::Overlay { volatile, .. } = &mut source {
            // A second mount of a volatile upper directory is refused (Documentation/filesystems/overlayfs.rst).
            *volatile = false;
        }
        // With the ids that are on the disk, whatever they look like in the container while it runs.
        let root = RootPlan {
            source,
            readonly: entry.settings.read_only,
            propagation: None,
            label: None,
            no_pivot: false,
            id_map: None,
        };
        let shift = entry.settings.stored_shift().unwrap_or_default();
        Ok(Assembly { root, below: self.mounts_below(&entry.settings)?, shift, owner: entry.settings.stored_root() })
    }

    fn mounts_below(&self, settings: &Settings) -> Result<Vec<Below>> {
        let mut all: Vec<&Mount> = settings.mounts.iter().collect();
        all.sort_by_key(|mount| mount.target.trim_end_matches('/').matches('/').count());
        let sources = self.mount_sources(settings)?;
        let mut below = Vec::new();
        for mount in all {
            let mut one = Below {
                source: PathBuf::new(),
                layers: Vec::new(),
                subpath: String::new(),
                target: mount.target.clone(),
                read_only: mount.read_only,
                userxattr: self.host()?.user_namespace,
            };
            match &mount.source {
                MountSource::Bind { path, .. } => one.source = path.into(),
                MountSource::Volume(volume) => match sources.volumes.get(&volume.name) {
                    Some(Source::Directory(path)) => {
                        one.source.clone_from(path);
                        one.subpath.clone_from(&volume.subpath);
                    }
                    Some(Source::Bind { path, options, .. }) => {
                        one.source = path.into();
                        one.read_only |= options.iter().any(|option| option == "ro");
                    }
                    Some(Source::Limited(image)) => one.source.clone_from(image),
                    // Mounted for each run.
                    Some(Source::FileSystem { .. }) | None => continue,
                },
                MountSource::Image(image) => {
                    one.layers = sources.images.get(&image.id).cloned().unwrap_or_default();
                    one.subpath.clone_from(&image.subpath);
                    one.read_only = true;
                }
                MountSource::Tmpfs { .. } => continue,
            }
            below.push(one);
        }
        Ok(below)
    }
}

fn assemble(assembly: &Assembly) -> Result<View> {
    if let Some((uid, gid)) = assembly.owner {
        // Of this thread alone, which ends when the view does.
        kernel::prctl::own_files(uid, gid).internal(|| "cannot become the owner of the container's files".into())?;
    }
    let root = runtime::detached_root(&assembly.root).internal(|| "cannot assemble the container's files".into())?;
    let failed = || "cannot assemble the container's files".to_owned();
    // Mounts can be attached only in what is attached itself (before Linux 6.15), and this place always exists.
    let host = open(Path::new("/"))?;
    mount::attach(root.as_fd(), host.as_fd()).internal(failed)?;
    for below in &assembly.below {
        let what = || format!("cannot mount {} on {}", below.source.display(), below.target);
        let tree = source(below).internal(what)?;
        let status = rustix::fs::fstat(&tree).internal(what)?;
        let target = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                beneath::make_directories(root.as_fd(), &below.target, Mode::from_raw_mode(0o755)).internal(what)?
            }
            _ => beneath::make_file(root.as_fd(), &below.target, Mode::from_raw_mode(0o644)).internal(what)?,
        };
        if below.read_only {
            read_only(tree.as_fd()).internal(what)?;
        }
        mount::attach(tree.as_fd(), target.as_fd()).internal(what)?;
    }
    if assembly.root.readonly {
        read_only(root.as_fd()).internal(failed)?;
    }
    Ok(View { root, shift: assembly.shift.clone() })
}

fn source(below: &Below) -> std::result::Result<OwnedFd, Box<dyn std::error::Error + Send + Sync>> {
    let part = |whole: BorrowedFd<'_>| {
        let place = beneath::open(whole, &below.subpath, OFlags::PATH, Mode::empty(), Limits::default())?;
        mount::copy(place.as_fd(), true)
    };
    if !below.layers.is_empty() {
        let source = RootSource::Overlay {
            lower: below.layers.clone(),
            upper: None,
            work: None,
            userxattr: below.userxattr,
            volatile: false,
        };
        let whole = runtime::detached_root(&RootPlan {
            source,
            readonly: true,
            propagation: None,
            label: None,
            no_pivot: false,
            id_map: None,
        })?;
        if below.subpath.is_empty() {
            return Ok(whole);
        }
        // Only what is attached can be copied (before Linux 6.15). This namespace goes with the thread.
        mount::attach(whole.as_fd(), open(Path::new("/"))?.as_fd())?;
        return Ok(part(whole.as_fd())?);
    }
    if below.source.ends_with(crate::volumes::LIMITED) && below.source.is_file() {
        return Ok(kernel::loops::mount_ext4(&below.source)?);
    }
    let whole = open(&below.source)?;
    if below.subpath.is_empty() { Ok(mount::copy(whole.as_fd(), true)?) } else { Ok(part(whole.as_fd())?) }
}

fn read_only(tree: BorrowedFd<'_>) -> kernel::Result<()> {
    mount::change(tree, &Change { set: Attributes::MOUNT_ATTR_RDONLY, ..Change::default() })
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .internal(|| format!("cannot open {}", path.display()))
}
