//! One container's groups: made, opened again, entered, listed, removed.
//!
//! On pure v2 this is one directory. Beside v1 trees it is a directory in each tree that is *needed*: making one costs
//! 20 to 60 µs and entering one 60 to 100 µs, so a tree is entered at first for accounting only (memory; processor time
//! and tasks where no v2 tree gives them), and later when a limit, a device rule or a pause first asks for it. What the
//! processes are in is therefore found by looking, never by remembering: a [`Description`] is only the path and the trees.

use crate::controller::Controller;
use crate::error::{Error, FailedCall, Result};
use crate::files::Directory;
use crate::hierarchy::{Hierarchy, Mount, Version};
use crate::path;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What has to be remembered to find the groups again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The path in every tree (below [`Mount::above`]), with a leading slash and with the prefix of [`Hierarchy::base`].
    pub path: String,
    /// The trees.
    pub mounts: Vec<Mount>,
    /// The prefix: a group that was given to us, perhaps with processes in it; empty where all of the trees is ours.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
}

impl Description {
    /// The path below a tree's mount point, without leading slash.
    fn within(&self, mount: usize) -> String {
        let path = self.path.trim_start_matches('/');
        match self.mounts.get(mount).map(|mount| mount.above.as_str()) {
            None | Some("") => path.to_owned(),
            Some(above) => format!("{above}/{path}"),
        }
    }
}

/// One tree in which the container has a directory.
#[derive(Debug)]
pub(crate) struct Joined {
    pub version: Version,
    pub mount: usize,
    pub directory: Directory,
    /// Made just now, with processes elsewhere in the container's groups still to be brought in.
    pub empty: bool,
    /// v2: not known whether the usual controllers were handed down to it.
    pub unsure: bool,
}

/// A container's groups.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) description: Description,
    pub(crate) joined: Vec<Joined>,
    /// Made by this value and not entered yet: there is nobody to bring in.
    pub(crate) fresh: bool,
    /// What is there and empty is taken as it is.
    pub(crate) takes: bool,
}

/// Controllers that v2 enables for every container: what Docker's statistics need, and what is limited most often.
const ENABLED: [Controller; 4] = [Controller::Cpu, Controller::Io, Controller::Memory, Controller::Pids];

impl Cgroup {
    /// Makes the groups at `path` below [`Hierarchy::base`], with parents. An empty group of that name is replaced, so
    /// that no limit of a predecessor survives.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Occupied`], or a failed call (`EROFS`, `EACCES` without privilege).
    pub fn create(hierarchy: &Hierarchy, path: &str) -> Result<Cgroup> {
        Cgroup::make_first(hierarchy, path, false)
    }

    /// The same, but an empty group of that name is taken as it is: whoever made it may have limited it.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn take_or_create(hierarchy: &Hierarchy, path: &str) -> Result<Cgroup> {
        Cgroup::make_first(hierarchy, path, true)
    }

    fn make_first(hierarchy: &Hierarchy, path: &str, takes: bool) -> Result<Cgroup> {
        let description = describe(hierarchy, path)?;
        let mut cgroup = Cgroup { description, joined: Vec::new(), fresh: true, takes };
        match cgroup.create_first() {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // Best effort: the error that is reported is the first one.
                drop(cgroup.remove());
                Err(error)
            }
        }
    }

    fn create_first(&mut self) -> Result<()> {
        let v2 = self.description.mounts.iter().position(|mount| mount.version == Version::V2);
        if let Some(mount) = v2 {
            self.make(mount)?;
        }
        for mount in 0..self.description.mounts.len() {
            let tree = &self.description.mounts[mount];
            let has = |controller| tree.controllers.contains(&controller);
            let core = has(Controller::Cpuacct) || has(Controller::Pids) || tree.name.is_some();
            if tree.version == Version::V1 && (has(Controller::Memory) || (v2.is_none() && core)) {
                self.make(mount)?;
            }
        }
        Ok(())
    }

    /// Makes the groups in every tree, also in those where nothing is limited yet: for programs that look for a container
    /// by its path in each of them, as runtimes of others are expected to leave it.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn make_everywhere(&mut self) -> Result<()> {
        for mount in 0..self.description.mounts.len() {
            if self.joined.iter().all(|joined| joined.mount != mount) {
                self.make(mount)?;
            }
            let tree = &self.description.mounts[mount];
            let more: Vec<_> = tree.controllers.iter().copied().filter(|one| !ENABLED.contains(one)).collect();
            if tree.version == Version::V2 && !more.is_empty() {
                // Also what nobody limits yet: an init system or a kubelet in the container finds no others. What the groups above do
                // not have is for whoever needs it to complain of.
                drop(enable_above(&self.description, mount, &more));
            }
        }
        Ok(())
    }

    /// Finds the groups of a description again: the directories that exist.
    ///
    /// # Errors
    /// [`Error::Path`] for a description that was tampered with, or a failed open other than `ENOENT`.
    pub fn open(description: &Description) -> Result<Cgroup> {
        Cgroup::open_in(description, |_| true)
    }

    /// Those in some of the trees.
    pub(crate) fn open_in(description: &Description, wanted: impl Fn(&Mount) -> bool) -> Result<Cgroup> {
        path::components(&description.path)?;
        let mut joined = Vec::new();
        for (mount, tree) in description.mounts.iter().enumerate().filter(|(_, tree)| wanted(tree)) {
            let relative = description.within(mount);
            path::components(&relative)?;
            match Directory::below(&tree.mount_point, &relative) {
                Ok(directory) => {
                    joined.push(Joined { version: tree.version, mount, directory, empty: false, unsure: true })
                }
                Err(failed) if failed.errno() == Errno::NOENT => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        // v2 first, as `create` has it: what its tree lacks is then taken from v1.
        joined.sort_by_key(|joined| joined.version == Version::V1);
        Ok(Cgroup { description: description.clone(), joined, fresh: false, takes: false })
    }

    /// Finds the groups at `path` below [`Hierarchy::base`]; `None` if no tree has one.
    ///
    /// # Errors
    /// As [`Cgroup::open`].
    pub fn find(hierarchy: &Hierarchy, path: &str) -> Result<Option<Cgroup>> {
        Ok(Some(Cgroup::open(&describe(hierarchy, path)?)?).filter(Cgroup::exists))
    }

    /// The groups that a process is in, read from the kernel: for `xray`, and where the prefix is not known any more. On
    /// v1, the trees in which it is not in a group of its own are left out. `None` for a process in no group but the root.
    ///
    /// # Errors
    /// `ENOENT` if the process is gone, or as [`Cgroup::open`].
    pub fn of_process(hierarchy: &Hierarchy, pid: Pid) -> Result<Option<Cgroup>> {
        let text = crate::files::read_path(&format!("/proc/{}/cgroup", pid.as_raw_nonzero()))?;
        let paths: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
        let own = |controllers: &str| {
            let found = paths.iter().find(|(names, _)| names.split(',').any(|name| name == controllers));
            found.map(|(_, path)| *path).filter(|path| !path.trim_matches('/').is_empty())
        };
        let Some(path) = own("").or_else(|| own("memory")) else { return Ok(None) };
        let base = if path.starts_with(&hierarchy.base) { hierarchy.base.clone() } else { String::new() };
        let description = Description { path: path.to_owned(), mounts: hierarchy.mounts.clone(), base };
        Ok(Some(Cgroup::open(&description)?).filter(Cgroup::exists))
    }

    /// Plain data with which [`Cgroup::open`] finds the groups again.
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// Whether any directory of it is there.
    pub fn exists(&self) -> bool {
        !self.joined.is_empty()
    }

    /// The directories, v2 first: with the tree each belongs to. For mounts inside the container and for `xray`.
    pub fn directories(&self) -> Vec<(&Mount, PathBuf)> {
        self.joined
            .iter()
            .map(|joined| (&self.description.mounts[joined.mount], joined.directory.path().to_owned()))
            .collect()
    }

    /// The v2 directory, for clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7), which costs nothing; writing a number into
    /// cgroup.procs costs a grace period. `None` on pure v1.
    pub fn directory_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(|joined| joined.directory.as_fd())
    }

    pub(crate) fn v2(&self) -> Option<&Joined> {
        self.joined.iter().find(|joined| joined.version == Version::V2)
    }

    /// Brings a process into all groups.
    ///
    /// # Errors
    /// `ESRCH` if it is gone; `EBUSY` on v2 if the group has child groups with controllers.
    pub fn add(&mut self, pid: Pid) -> Result<()> {
        self.entered();
        self.joined.iter().try_for_each(|joined| enter(&joined.directory, pid))
    }

    /// Brings a process into all groups but the v2 one, in which it was born (`CLONE_INTO_CGROUP`).
    ///
    /// # Errors
    /// As [`Cgroup::add`].
    pub fn add_to_rest(&mut self, pid: Pid) -> Result<()> {
        self.entered();
        let v1 = self.joined.iter().filter(|joined| joined.version == Version::V1);
        v1.map(|joined| &joined.directory).try_for_each(|directory| enter(directory, pid))
    }

    /// Says that processes were put into all of [`Cgroup::directories`] by others, as by themselves after a fork. Until then
    /// (or [`Cgroup::add`]) a new group is taken for empty.
    pub fn entered(&mut self) {
        self.fresh = false;
        self.joined.iter_mut().for_each(|joined| joined.empty = false);
    }

    /// All processes, those of child groups that the container made included.
    ///
    /// # Errors
    /// A failed read.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        if let Some(first) = self.joined.iter().find(|joined| !joined.empty) {
            collect(&first.directory, &mut pids, 0)?;
        }
        pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        pids.dedup();
        Ok(pids)
    }

    /// Index into `joined` for `controller`, which is made or enabled if need be. `Ok(None)`: no tree has it.
    pub(crate) fn controller(&mut self, controller: Controller) -> Result<Option<usize>> {
        let mounts = &self.description.mounts;
        let Some(mount) = mounts.iter().position(|mount| mount.controllers.contains(&controller)) else {
            return Ok(None);
        };
        let version = mounts[mount].version;
        let at = match self.joined.iter().position(|joined| joined.mount == mount) {
            Some(at) => at,
            None => {
                self.make(mount)?;
                self.joined.len() - 1
            }
        };
        if version == Version::V2 && (self.joined[at].unsure || !ENABLED.contains(&controller)) {
            enable_above(&self.description, mount, &[controller])?;
        }
        Ok(Some(at))
    }

    /// Makes the directory in one tree.
    fn make(&mut self, mount: usize) -> Result<()> {
        let tree = &self.description.mounts[mount];
        let whole = self.description.within(mount);
        let whole = whole.as_str();
        let inherits = tree.version == Version::V1 && tree.controllers.contains(&Controller::Cpuset);
        let hands_down = tree.version == Version::V2 && tree.controllers.iter().any(|one| ENABLED.contains(one));
        let mut unsure = false;
        let directory = match (!inherits && !hands_down).then(|| Directory::make_below(&tree.mount_point, whole)) {
            // The parent is there, as it is after the first container.
            Some(Ok(())) => Directory::below(&tree.mount_point, whole)?,
            Some(Err(failed)) if !matches!(failed.errno(), Errno::NOENT | Errno::EXIST) => return Err(failed.into()),
            _ => {
                let (above, name) = whole.rsplit_once('/').unwrap_or(("", whole));
                let parent = parents(Directory::open(&tree.mount_point)?, above, tree)?;
                if hands_down {
                    unsure = !enable_usual(&parent, &self.description, mount)?;
                }
                replace(&parent, name, self.takes)?;
                let directory = parent.child(name)?;
                if inherits {
                    fill_cpusets(&tree.mount_point, above)?;
                    inherit_cpuset(&parent, &directory)?;
                }
                directory
            }
        };
        self.joined.push(Joined { version: tree.version, mount, directory, empty: true, unsure });
        Ok(())
    }

    /// Moves the container's processes into groups that were made after it started. New ones may be forked while this
    /// goes on, into the old groups; so until nobody is left outside.
    pub(crate) fn bring_in(&mut self) -> Result<()> {
        if self.fresh {
            return Ok(());
        }
        for at in 0..self.joined.len() {
            if !self.joined[at].empty {
                continue;
            }
            for _ in 0..100 {
                let mut inside = Vec::new();
                collect(&self.joined[at].directory, &mut inside, 0)?;
                let outside: Vec<Pid> = self.processes()?.into_iter().filter(|pid| !inside.contains(pid)).collect();
                if outside.is_empty() {
                    break;
                }
                for pid in outside {
                    match enter(&self.joined[at].directory, pid) {
                        Err(Error::Call(failed)) if failed.errno() == Errno::SRCH => {}
                        result => result?,
                    }
                }
            }
            self.joined[at].empty = false;
        }
        Ok(())
    }

    /// Removes the groups of a description where nothing is in them, neither a process nor a group: the usual end, for which none has to
    /// be opened. `false` at the first with something in it; those before it are gone then.
    ///
    /// # Errors
    /// [`Error::Path`] for a description that was tampered with, or a failed call.
    pub fn remove_empty(description: &Description) -> Result<bool> {
        path::components(&description.path)?;
        let trees = || description.mounts.iter().enumerate();
        let v1 = trees().filter(|(_, tree)| tree.version == Version::V1);
        // v2 last: as long as it is there, its processes are found.
        for (mount, tree) in v1.chain(trees().filter(|(_, tree)| tree.version == Version::V2)) {
            let relative = description.within(mount);
            path::components(&relative)?;
            if !Directory::remove_below(&tree.mount_point, &relative)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the groups with all child groups. Processes that are dying are waited for, at most ten seconds: one that was
    /// reaped stays in its group until it has been switched out for the last time, which takes long where many want the
    /// processor. Living ones are not touched. What is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Timeout`] if there still are processes, or a failed call.
    pub fn remove(&self) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(10);
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            let mut busy = None;
            // v2 last: as long as it is there, a second attempt finds the processes.
            for joined in self.joined.iter().rev() {
                let path = joined.directory.path();
                let root = Directory::open(&self.description.mounts[joined.mount].mount_point)?;
                if !remove_tree(&root, &self.description.within(joined.mount), 0)? {
                    busy = Some(path);
                }
            }
            let Some(path) = busy else { return Ok(()) };
            if start.elapsed() > LIMIT {
                return Err(Error::timeout("remove", path, LIMIT));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn describe(hierarchy: &Hierarchy, path: &str) -> Result<Description> {
    let path = format!("{}/{}", hierarchy.base(), path::components(path)?.join("/"));
    Ok(Description { path, mounts: hierarchy.mounts.clone(), base: hierarchy.base.clone() })
}

/// Removes a parent directory such as `/dhow` from every tree where it is empty. Not needed between containers: an empty
/// group costs nothing and saves the next start its making.
///
/// # Errors
/// [`Error::Path`], or a failed call other than "not there" and "not empty".
pub fn remove_if_empty(hierarchy: &Hierarchy, path: &str) -> Result<()> {
    let relative = path::components(path)?.join("/");
    let base = hierarchy.base().trim_matches('/').to_owned();
    let relative = if base.is_empty() { relative } else { format!("{base}/{relative}") };
    for mount in &hierarchy.mounts {
        match Directory::open(&mount.mount_point)?.remove(&relative) {
            Ok(()) => {}
            Err(failed) if matches!(failed.errno(), Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Ok(())
}

pub(crate) fn enter(directory: &Directory, pid: Pid) -> Result<()> {
    Ok(directory.write("cgroup.procs", &pid.as_raw_nonzero().to_string())?)
}

/// Opens the directory `above` below `root`, made if need be.
fn parents(root: Directory, above: &str, tree: &Mount) -> Result<Directory> {
    if above.is_empty() {
        return Ok(root);
    }
    match root.child(above) {
        Ok(directory) => return Ok(directory),
        Err(failed) if failed.errno() == Errno::NOENT => {}
        Err(failed) => return Err(failed.into()),
    }
    let mut directory = root;
    for part in above.split('/') {
        match directory.make(part) {
            Ok(()) => {}
            // Another container starts at the same time.
            Err(failed) if failed.errno() == Errno::EXIST => {}
            Err(failed) => return Err(failed.into()),
        }
        let child = directory.child(part)?;
        if tree.version == Version::V1 && tree.controllers.contains(&Controller::Cpuset) {
            inherit_cpuset(&directory, &child)?;
        }
        directory = child;
    }
    Ok(directory)
}

/// Makes `name`, or makes it anew if it is there and empty; `takes`: only if no process can enter it.
fn replace(parent: &Directory, name: &str, takes: bool) -> Result<()> {
    match parent.make(name) {
        Err(failed) if failed.errno() == Errno::EXIST => {}
        result => return Ok(result?),
    }
    if is_frozen(&parent.child(name)?)? {
        return Err(Error::Frozen { path: parent.path().join(name) });
    }
    // Before anything is removed: of what somebody else has there, the empty groups are not ours either.
    let mut inside = Vec::new();
    collect(&parent.child(name)?, &mut inside, 0)?;
    if inside.is_empty() && takes && is_leaf(&parent.child(name)?)? {
        return Ok(());
    }
    if !inside.is_empty() || !remove_tree(parent, name, 0)? {
        return Err(Error::Occupied { path: parent.path().join(name) });
    }
    Ok(parent.make(name)?)
}

/// Without groups inside, nor prepared for any: v2 lets no process into such a group.
fn is_leaf(directory: &Directory) -> Result<bool> {
    let says = |file: &str, word: &str| -> Result<bool> {
        Ok(directory.read_if_there(file)?.is_none_or(|text| text.trim() == word))
    };
    Ok(directory.children()?.is_empty() && says("cgroup.subtree_control", "")? && says("cgroup.type", "domain")?)
}

/// Frozen by somebody on purpose, so it is not ours to make anew.
fn is_frozen(directory: &Directory) -> Result<bool> {
    let says = |file: &str, word: &str| -> Result<bool> {
        Ok(directory.read_if_there(file)?.is_some_and(|text| text.trim() == word))
    };
    Ok(says("cgroup.freeze", "1")? || says("freezer.self_freezing", "1")?)
}

/// A v1 cpuset begins without processors and memory nodes, and nobody can enter it so.
fn inherit_cpuset(parent: &Directory, child: &Directory) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if child.read(file)?.trim().is_empty() {
            child.write(file, parent.read(file)?.trim())?;
        }
    }
    Ok(())
}

/// Groups above the container's that somebody else made and left without processors and memory nodes.
fn fill_cpusets(mount_point: &Path, above: &str) -> Result<()> {
    let mut parent = Directory::open(mount_point)?;
    for name in above.split('/').filter(|name| !name.is_empty()) {
        let child = parent.child(name)?;
        inherit_cpuset(&parent, &child)?;
        parent = child;
    }
    Ok(())
}

fn enabled(directory: &Directory, wanted: &[Controller]) -> Result<bool> {
    let text = directory.read("cgroup.subtree_control")?;
    Ok(wanted.iter().all(|controller| text.split_ascii_whitespace().any(|name| name == controller.v2_name())))
}

/// Hands down what every container gets, as far as the tree has it; `false` if not all could be.
fn enable_usual(parent: &Directory, description: &Description, mount: usize) -> Result<bool> {
    let tree = &description.mounts[mount];
    let wanted: Vec<Controller> = ENABLED.into_iter().filter(|one| tree.controllers.contains(one)).collect();
    if enabled(parent, &wanted)? {
        return Ok(true);
    }
    let mut all = true;
    for controller in wanted {
        // A group that has processes of its own, or was not given a controller itself, cannot hand it down. That is an
        // error only for somebody who asks for a limit, and then one that names it.
        match enable_above(description, mount, &[controller]) {
            Ok(()) => {}
            Err(Error::Unsupported { .. }) => all = false,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Hands controllers down to the parent of the container's group: from the root of the tree, or from the group that was
/// given to us, above which nothing is ours.
fn enable_above(description: &Description, mount: usize, wanted: &[Controller]) -> Result<()> {
    let base = description.base.trim_start_matches('/');
    let whole = description.within(mount);
    let own = whole.strip_prefix(base).unwrap_or(&whole);
    let (above, _) = own.trim_start_matches('/').rsplit_once('/').unwrap_or(("", ""));
    let root = Directory::open(&description.mounts[mount].mount_point)?;
    let mut directory = if base.is_empty() { root } else { root.child(base)? };
    hand_down(&directory, wanted, true)?;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        directory = directory.child(part)?;
        hand_down(&directory, wanted, false)?;
    }
    Ok(())
}

/// `first`: the directory is the root or was given to us, and may have processes in it: this one, its shell. "No internal
/// processes": but for the machine's root, a group has either processes or controllers for its children. Asked for `cpu`
/// or `pids`, the kernel would not refuse but make the group a threaded one, of no use for containers.
fn hand_down(directory: &Directory, wanted: &[Controller], first: bool) -> Result<()> {
    let text = directory.read("cgroup.subtree_control")?;
    let has = |controller: &&Controller| text.split_ascii_whitespace().any(|name| name == controller.v2_name());
    let missing: Vec<Controller> = wanted.iter().filter(|controller| !has(controller)).copied().collect();
    if first && !missing.is_empty() && directory.read_if_there("cgroup.type")?.is_some() {
        make_room(directory).map_err(|error| match error {
            Error::Call(failed) => not_handed_down(missing[0], directory, &failed),
            other => other,
        })?;
    }
    for controller in missing {
        directory
            .write("cgroup.subtree_control", &format!("+{}", controller.v2_name()))
            .map_err(|failed| not_handed_down(controller, directory, &failed))?;
    }
    Ok(())
}

/// Moves the processes that are directly in the group into a child of it, as a container's init systems do.
fn make_room(directory: &Directory) -> Result<()> {
    const ROOM: &str = "dhow-host";
    if directory.read("cgroup.procs")?.trim().is_empty() {
        return Ok(());
    }
    match directory.make(ROOM) {
        Err(failed) if failed.errno() == Errno::EXIST => {}
        result => result?,
    }
    let room = directory.child(ROOM)?;
    for _ in 0..10 {
        let text = directory.read("cgroup.procs")?;
        if text.trim().is_empty() {
            break;
        }
        for pid in text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
            match enter(&room, pid) {
                Err(Error::Call(failed)) if failed.errno() == Errno::SRCH => {}
                result => result?,
            }
        }
    }
    Ok(())
}

fn not_handed_down(controller: Controller, directory: &Directory, failed: &FailedCall) -> Error {
    let path = directory.path().display();
    let reason = match failed.errno() {
        Errno::BUSY => format!("{path} has processes of its own and can hand nothing down to child groups (EBUSY)"),
        Errno::NOENT => format!("{path} has not been given this controller itself (ENOENT)"),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => format!("{path} belongs to somebody else: {failed}"),
        _ => failed.to_string(),
    };
    Error::Unsupported { limit: format!("every limit of {controller}"), controller, reason }
}

/// How deep a container's own groups are followed; the kernel has no bound of its own on v1.
const DEPTH: u32 = 64;

fn collect(directory: &Directory, pids: &mut Vec<Pid>, depth: u32) -> Result<()> {
    // A threaded group has no list of processes (EOPNOTSUPP); its threads belong to processes listed above it.
    let text = directory.read_if_there("cgroup.procs")?.unwrap_or_default();
    // Zero stands for a process of another pid namespace.
    pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|raw| *raw > 0).filter_map(Pid::from_raw));
    if depth >= DEPTH {
        return Ok(());
    }
    for name in directory.children()? {
        match directory.child(&name) {
            Ok(child) => collect(&child, pids, depth + 1)?,
            Err(failed) if failed.errno() == Errno::NOENT => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Ok(())
}

/// Removes the directory and all below it; `false` if there are processes in one of them.
fn remove_tree(parent: &Directory, name: &str, depth: u32) -> Result<bool> {
    match parent.remove(name) {
        Ok(()) => return Ok(true),
        Err(failed) => match failed.errno() {
            Errno::NOENT => return Ok(true),
            Errno::BUSY | Errno::NOTEMPTY if depth < DEPTH => {}
            Errno::BUSY | Errno::NOTEMPTY => return Ok(false),
            _ => return Err(failed.into()),
        },
    }
    let directory = match parent.child(name) {
        Ok(directory) => directory,
        Err(failed) if failed.errno() == Errno::NOENT => return Ok(true),
        Err(failed) => return Err(failed.into()),
    };
    let children = directory.children()?;
    if children.is_empty() {
        return Ok(false);
    }
    for child in children {
        if !remove_tree(&directory, &child, depth + 1)? {
            return Ok(false);
        }
    }
    match parent.remove(name) {
        Ok(()) => Ok(true),
        Err(failed) if failed.errno() == Errno::NOENT => Ok(true),
        Err(failed) if matches!(failed.errno(), Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(failed) => Err(failed.into()),
    }
}

impl Joined {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}
