//! Files shown with other owners: idmapped mounts (mount_setattr(2), Linux 5.12), and the overlay of a container that has
//! ids of its own.
//!
//! On the disk everything keeps the ids that the container sees: its layers are shared with containers that have other ids,
//! and its own directory is read by whoever copies, commits or compares it. Only the mounts differ.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use kernel::clone::Clone as Cloning;
use kernel::error::Error as SystemCall;
use kernel::mount::{self, Change, Propagation};
use kernel::namespaces::Namespaces;
use oci::runtime::LinuxIDMapping;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::channel::{self, Up};
use crate::create::reap;
use crate::error::{During, Error, Result};
use crate::join;
use crate::plan::{IdMap, NamespacePlan, RootPlan};

/// User namespaces that have nothing but maps, one for each map: making one takes a process.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    made: Vec<(IdMap, Rc<OwnedFd>)>,
}

impl Maps {
    /// The namespace of a map.
    pub(crate) fn namespace(&mut self, map: &IdMap) -> Result<Rc<OwnedFd>> {
        let same = |each: &IdMap| (&each.uids, &each.gids, &each.namespace) == (&map.uids, &map.gids, &map.namespace);
        if let Some((_, known)) = self.made.iter().find(|(each, _)| same(each)) {
            return Ok(Rc::clone(known));
        }
        let namespace = Rc::new(namespace_with(map)?);
        self.made.push((map.clone(), Rc::clone(&namespace)));
        Ok(namespace)
    }
}

/// A detached copy of a tree, with other ids.
pub(crate) fn copy(source: &Path, recursive: bool, map: &IdMap, ids: BorrowedFd<'_>) -> Result<OwnedFd> {
    let step = || "idmap a mount";
    let text = source.to_str().ok_or_else(|| SystemCall::new(format!("open_tree({source:?})"), Errno::ILSEQ));
    let tree = text.and_then(|text| mount::copy_path(text, recursive)).during(step)?;
    change(tree.as_fd(), ids, map.recursive).during(step)?;
    Ok(tree)
}

/// Gives a mount that nobody has seen yet other ids.
pub(crate) fn change(tree: BorrowedFd<'_>, ids: BorrowedFd<'_>, recursive: bool) -> kernel::Result<()> {
    mount::change(tree, &Change { id_map: Some(ids), recursive, ..Change::default() })
}

/// mount_setattr takes the maps from a user namespace, so a child is made that does nothing but have one.
fn namespace_with(map: &IdMap) -> Result<OwnedFd> {
    let step = || "idmap a mount";
    if let Some(path) = &map.namespace {
        return rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| SystemCall::new(format!("open({path:?}, O_RDONLY)"), errno))
            .during(step);
    }
    let (ours, theirs) = channel::pair()?;
    let mut ours = Some(ours);
    let holder = Cloning { namespaces: Namespaces::USER, ..Cloning::default() }
        .spawn(|| {
            drop(ours.take());
            // Ends when the parent closes its end, whatever it says.
            i32::from(theirs.wait_for(channel::Down::Go).is_ok())
        })
        .during(step)?;
    let plan = NamespacePlan { uid_mappings: map.uids.clone(), gid_mappings: map.gids.clone(), ..Default::default() };
    let result = join::write_mappings(holder.pid, &plan)
        .and_then(|()| kernel::namespaces::open(holder.pid, Namespaces::USER).during(step));
    drop(ours.take());
    reap(holder.pid);
    result
}

/// The overlay of a container with ids of its own. Its maker mounts it, and not the container, whose root has no right to
/// idmap the layers' file system, nor to read the marks that layers have.
pub(crate) fn root(plan: &RootPlan, map: &IdMap, maps: &mut Maps) -> Result<OwnedFd> {
    let ids = if map.is_identity() { None } else { Some(maps.namespace(map)?) };
    let owner = outside(&map.uids).zip(outside(&map.gids));
    apart(|| {
        if let (Some((uid, gid)), true) = (owner, ids.is_some()) {
            // What overlayfs makes for itself, it makes as whoever mounted it; one that is nobody on the mount of its own
            // directories gets a read-only file system (EOVERFLOW, `ovl_workdir_create`).
            kernel::prctl::own_files(uid, gid).during(|| "become the owner of the container's files")?;
        }
        crate::root::detached(plan, ids.as_ref().map(|ids| ids.as_fd()), Vec::new())
    })
}

/// The container's root.
fn outside(maps: &[LinuxIDMapping]) -> Option<u32> {
    let map = maps.iter().find(|map| map.container_id == 0 && map.size > 0)?;
    Some(map.host_id)
}

/// Has a mount made by a process in a mount namespace of its own, with this one's rights: until Linux 6.15 overlayfs takes
/// layers only from mounts that are attached in its caller's namespace, and nothing may show in the host's.
pub(crate) fn apart(make: impl FnOnce() -> Result<OwnedFd>) -> Result<OwnedFd> {
    let (ours, theirs) = channel::pair()?;
    let mut ours = Some(ours);
    let work = || {
        mount::set_propagation(c"/", Propagation::Private, true).during(|| "cut a mount namespace off the host")?;
        make()
    };
    let maker = Cloning { namespaces: Namespaces::MOUNT, ..Cloning::default() }
        .spawn(|| {
            drop(ours.take());
            let said = work().map_or_else(Up::Failed, |tree| Up::Map { index: 0, tree });
            i32::from(theirs.send_up(&said).is_err())
        })
        .during(|| "make a process that mounts")?;
    drop(theirs);
    let said = ours.take().map_or_else(|| Err(Error::Vanished("no channel".to_owned())), |ours| ours.receive_up());
    let end = reap(maker.pid);
    match said? {
        Up::Map { tree, .. } => Ok(tree),
        Up::Failed(error) => Err(error),
        _ => Err(Error::Vanished(end)),
    }
}
