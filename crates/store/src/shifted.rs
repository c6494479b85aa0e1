//! Layers with other owners, for containers with ids of their own where nobody may show files with other ids than they have:
//! the root of a user namespace can idmap no mount of the machine's file systems (mount_setattr(2)), nor an overlay of them.
//!
//! A form is made when the first container with those ids is made, and kept for the next. It is either
//!
//! - *by reference*, of all layers of an image together: every name that they show, with owner, mode, time and attributes, but
//!   of a file that takes more than one block only a mark that its data is in the layer itself; the mount names the directory of
//!   all layers for data only. The data is on the disk, and in memory, once. Linux 6.16 believes such marks without real root
//!   (`userxattr`), where the form is the only lower directory of its mount: hence all layers together. What containers write
//!   is no lower directory, and nobody but the store makes such marks. Or
//! - a *copy* of each layer, on older kernels. On btrfs and XFS it shares its data with the layer (copy_file_range(2)).
//!
//! Both have the life of a layer: made in `staging` under a lock, marked as unsettled, moved into its place by one rename.
//! What has lost its kernel, a form by reference after a boot into an older one, goes with the check after that boot; a start asks
//! nothing but whether there is a form. `form.json` says of which layers it is, and
//! how many names and bytes there are.

use crate::Store;
use crate::blobs::{file_error, new_directory};
use crate::boot;
use crate::copy::{self, As};
use crate::directory::Directory;
use crate::error::{StoreError, SystemError};
use crate::layers;
use crate::record::Backend;
use crate::shift::Shift;
use crate::staging::Staged;
use crate::tally::{self, Tally};
use kernel::mount::{Attributes, FileSystem};
use oci::digest::Digest;
use rustix::fd::AsFd;
use rustix::fs::{self, AtFlags, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub(crate) const NAME: &str = "shifted";
/// A whole copy.
const COPY: &str = "tree";
/// With the data elsewhere. `runtime` knows it by this name.
const BY_REFERENCE: &str = "by-reference";

/// fsconfig(2) takes at most 255 bytes, and a layer by reference cannot be named in another way. The name of one below the
/// root takes 104.
const LONGEST_ROOT: usize = 150;

fn failed(source: SystemError) -> StoreError {
    StoreError::System { doing: "make the form of a layer with other owners", source }
}

/// What a look at one form tells.
#[derive(Clone, Debug)]
pub struct ShiftedCheck {
    /// [`Shift::key`].
    pub key: String,
    /// Its name among those of one key.
    pub name: String,
    /// Whether its layers are here, and it has its names and sizes.
    pub whole: bool,
}

/// What is noted of a form.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Topmost first.
    layers: Vec<Digest>,
    tally: Tally,
}

const NOTE: &str = "form.json";

/// The form of these layers together. One of a single layer has that layer's name.
fn together(layers: &[Digest]) -> String {
    let names: Vec<&str> = layers.iter().map(Digest::hex).collect();
    Digest::sha256(names.join("\n").as_bytes()).hex().to_owned()
}

/// Forms that are out of the way, but still on the disk.
#[derive(Debug, Default)]
pub struct Taken {
    staged: Vec<Staged>,
}

impl Taken {
    /// Removes them; returns what they took on disk, in bytes.
    ///
    /// # Errors
    /// System errors; the next [`Store::sweep`] removes what is left.
    pub fn discard(self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for staged in self.staged {
            let directory = staged.directory();
            bytes += tally::measure(directory.as_fd(), directory.label()).map_err(removing)?.disk;
            Staged::discard_trees(vec![staged]).map_err(removing)?;
        }
        Ok(bytes)
    }
}

fn removing(source: SystemError) -> StoreError {
    StoreError::System { doing: "remove the forms of layers with other owners", source }
}

/// Makes what is missing.
pub(crate) fn make(store: &Store, layers: &[Digest], shift: &Shift) -> Result<(), StoreError> {
    make_with(store, layers, shift, &mut || refers(store))
}

fn make_with(
    store: &Store,
    layers: &[Digest],
    shift: &Shift,
    refers: &mut dyn FnMut() -> bool,
) -> Result<(), StoreError> {
    let layers = visible(store, layers)?;
    if layers.is_empty() {
        return Ok(());
    }
    let (key, name) = (shift.key(), together(&layers));
    let here = |name: &str| is_here(store, &key, name).map_err(failed);
    if here(&name)? {
        return Ok(());
    }
    let mut missing = Vec::new();
    for layer in &layers {
        if !here(layer.hex())? {
            missing.push(layer);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if refers() {
        return make_one(store, &layers, shift, &name, true);
    }
    missing.into_iter().try_for_each(|layer| make_one(store, std::slice::from_ref(layer), shift, layer.hex(), false))
}

/// The first thing after a boot: removes forms by reference if this kernel cannot mount them. Nothing runs yet.
pub(crate) fn after_boot(store: &Store) -> Result<(), StoreError> {
    after_boot_with(store, &mut || refers(store))
}

fn after_boot_with(store: &Store, refers: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
    let mut useless = Vec::new();
    for (key, names) in list(store).map_err(looking)? {
        for name in names {
            if store.root.exists(&format!("{}/{BY_REFERENCE}", place(&key, &name))).map_err(looking)? {
                useless.push((key.clone(), name));
            }
        }
    }
    if useless.is_empty() || refers() {
        return Ok(());
    }
    useless.iter().try_for_each(|(key, name)| remove_one(store, key, name)).map_err(removing)
}

/// The layers down to one that hides the others, all of which must be directories.
fn visible(store: &Store, layers: &[Digest]) -> Result<Vec<Digest>, StoreError> {
    let mut visible = Vec::with_capacity(layers.len());
    for layer in layers {
        if visible.contains(layer) {
            // See `Layers::lower`.
            continue;
        }
        let record = store.layers().record(layer)?;
        if record.backend != Backend::Directory {
            let call = format!("chown(<image of layer {layer}>)");
            return Err(failed(SystemError::new(call, Errno::OPNOTSUPP)));
        }
        visible.push(layer.clone());
        if record.hides_lower {
            break;
        }
    }
    Ok(visible)
}

fn make_one(store: &Store, layers: &[Digest], shift: &Shift, name: &str, by_reference: bool) -> Result<(), StoreError> {
    let key = shift.key();
    let here = || is_here(store, &key, name);
    // Another process may have made it while this one waited.
    let Some(staged) = Staged::named(store, &format!("{NAME}-{key}-{name}"), here).map_err(failed)? else {
        return Ok(());
    };
    match fill(store, layers, shift, by_reference, staged.directory()) {
        Ok(()) => publish(store, staged, &key, name),
        Err(error) => {
            staged.discard().ok();
            Err(error)
        }
    }
}

fn fill(
    store: &Store,
    layers: &[Digest],
    shift: &Shift,
    by_reference: bool,
    directory: &Directory,
) -> Result<(), StoreError> {
    let stack = store.layers().stack(layers)?;
    let to = new_directory(directory, if by_reference { BY_REFERENCE } else { COPY })?;
    let data = |layer: &Digest| format!("/{}/{}", layer.hex(), crate::record::TREE).into_bytes();
    let wanted = As {
        shift: shift.clone(),
        marks: !by_reference,
        data: if by_reference { layers.iter().map(data).collect() } else { Vec::new() },
    };
    // A thread of its own, as it gets a umask of its own.
    std::thread::scope(|scope| {
        let work = || {
            kernel::private_umask::clear_umask_of_this_thread().ok();
            match (by_reference, &stack.parts[..]) {
                (false, [only]) => copy::whole(only.as_fd(), to.as_fd(), store.ownership, &wanted),
                _ => copy::merged(&stack, to.as_fd(), store.ownership, &wanted),
            }
            .map_err(failed)
        };
        let thread = std::thread::Builder::new().name("shift".to_owned()).spawn_scoped(scope, work);
        thread.map_err(StoreError::Thread)?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let tally = tally::measure(to.as_fd(), directory.label()).map_err(failed)?.tally;
    let note = serde_json::to_vec(&Note { layers: layers.to_vec(), tally })
        .map_err(|source| StoreError::Damaged { file: NOTE.to_owned(), source })?;
    let file = directory.file(NOTE, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(failed)?;
    File::from(file).write_all(&note).map_err(|error| file_error("write", NOTE, &error))
}

fn publish(store: &Store, mut staged: Staged, key: &str, name: &str) -> Result<(), StoreError> {
    let mark = boot::mark(store, &format!("{NAME}-{key}-{name}")).map_err(failed)?;
    loop {
        let all = store.root.create(NAME).and_then(|all| all.create(key)).map_err(failed)?;
        match staged.publish(&all, name) {
            Ok(()) => return Ok(()),
            // The directory was empty, and somebody collected it.
            Err((again, error)) if error.errno() == Errno::NOENT => staged = again,
            Err((staged, error)) => {
                staged.discard().map_err(failed)?;
                boot::unmark(store, &mark).map_err(failed)?;
                let other = matches!(error.errno(), Errno::EXIST | Errno::NOTEMPTY);
                return if other { Ok(()) } else { Err(failed(error)) };
            }
        }
    }
}

/// Can this process mount layers by reference from this file system? Tried with two directories that are there.
fn refers(store: &Store) -> bool {
    let attempt = || -> kernel::Result<()> {
        let call = |errno| kernel::Error::new("mkdirat(<root>)", errno);
        let [lower, data] = [crate::staging::NAME, layers::NAME].map(|name| store.path.join(name));
        for name in [crate::staging::NAME, layers::NAME] {
            store.root.make(name).map_err(|error| call(error.errno()))?;
        }
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| call(Errno::ILSEQ));
        let overlay = FileSystem::open("overlay")?;
        overlay.set("lowerdir+", &text(&lower)?)?;
        overlay.set("datadir+", &text(&data)?)?;
        overlay.set_flag("userxattr")?;
        overlay.mount(Attributes::empty()).map(drop)
    };
    store.ownership.user_xattr && store.path.as_os_str().len() <= LONGEST_ROOT && attempt().is_ok()
}

/// The lower directories, topmost first.
pub(crate) fn lower(store: &Store, layers: &[Digest], shift: &Shift) -> Result<Vec<PathBuf>, StoreError> {
    let (key, layers) = (shift.key(), visible(store, layers)?);
    let all = together(&layers);
    if is_here(store, &key, &all).map_err(failed)? {
        return Ok(vec![store.path.join(place(&key, &all)).join(BY_REFERENCE)]);
    }
    Ok(layers.iter().map(|layer| store.path.join(place(&key, layer.hex())).join(COPY)).collect())
}

fn place(key: &str, name: &str) -> String {
    format!("{NAME}/{key}/{name}")
}

pub(crate) fn is_here(store: &Store, key: &str, name: &str) -> Result<bool, SystemError> {
    store.root.exists(&place(key, name))
}

/// All forms, by key.
fn list(store: &Store) -> Result<Vec<(String, Vec<String>)>, SystemError> {
    let all = match store.root.open(NAME) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for (key, _) in all.entries()? {
        match all.open(&key).and_then(|of_key| of_key.entries()) {
            Ok(names) => found.push((key, names.into_iter().map(|(name, _)| name).collect())),
            Err(error) if error.errno() == Errno::NOENT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What is noted of a form; none if it is gone, or torn.
fn note(store: &Store, key: &str, name: &str) -> Result<Option<Note>, SystemError> {
    let fd = match store.root.file(&format!("{}/{NOTE}", place(key, name)), OFlags::RDONLY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(None),
        other => other?,
    };
    let mut text = Vec::new();
    let io = |error: std::io::Error| {
        SystemError::new(format!("read(<root>/…/{NOTE})"), Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    File::from(fd).take(1 << 20).read_to_end(&mut text).map_err(io)?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Moves all forms of a layer out of their places, for `gone` to be removed with.
pub(crate) fn take_of(store: &Store, diff_id: &Digest, gone: &mut Vec<Staged>) -> Result<(), SystemError> {
    for (key, names) in list(store)? {
        for name in names {
            if note(store, &key, &name)?.is_none_or(|note| note.layers.contains(diff_id)) {
                gone.extend(take(store, &key, &name)?);
            }
        }
    }
    Ok(())
}

pub(crate) fn remove_one(store: &Store, key: &str, name: &str) -> Result<(), SystemError> {
    match take(store, key, name)? {
        Some(staged) => Staged::discard_trees(vec![staged]),
        None => Ok(()),
    }
}

/// Moves a form out of its place; none if it has gone. The last one takes the directory of its key along.
fn take(store: &Store, key: &str, name: &str) -> Result<Option<Staged>, SystemError> {
    let missing = |error: &SystemError| error.errno() == Errno::NOENT;
    let all = match store.root.open(NAME) {
        Err(error) if missing(&error) => return Ok(None),
        other => other?,
    };
    let of_key = match all.open(key) {
        Err(error) if missing(&error) => return Ok(None),
        other => other?,
    };
    let taken = match Staged::take(store, &of_key, name) {
        Err(error) if missing(&error) => None,
        other => Some(other?),
    };
    // Fails while there are others, which is as well.
    fs::unlinkat(&all, key, AtFlags::REMOVEDIR).ok();
    Ok(taken)
}

pub(crate) fn take_all_but(store: &Store, keys: &BTreeSet<String>) -> Result<Taken, StoreError> {
    let mut taken = Taken::default();
    for (key, names) in list(store).map_err(removing)?.into_iter().filter(|(key, _)| !keys.contains(key)) {
        for name in names {
            taken.staged.extend(take(store, &key, &name).map_err(removing)?);
        }
    }
    Ok(taken)
}

pub(crate) fn check(store: &Store) -> Result<Vec<ShiftedCheck>, StoreError> {
    let mut checks = Vec::new();
    for (key, names) in list(store).map_err(looking)? {
        for name in names {
            let whole = is_whole(store, &key, &name)?;
            // Removed while it was looked at.
            if whole || is_here(store, &key, &name).map_err(looking)? {
                checks.push(ShiftedCheck { key: key.clone(), name, whole });
            }
        }
    }
    Ok(checks)
}

fn looking(source: SystemError) -> StoreError {
    StoreError::System { doing: "look at the forms of layers with other owners", source }
}

/// Are its layers here, and has it its names and sizes?
pub(crate) fn is_whole(store: &Store, key: &str, name: &str) -> Result<bool, StoreError> {
    let Some(note) = note(store, key, name).map_err(looking)? else { return Ok(false) };
    for layer in &note.layers {
        if !store.layers().contains(layer)? {
            return Ok(false);
        }
    }
    for tree in [BY_REFERENCE, COPY] {
        let tree = match store.root.open(&format!("{}/{tree}", place(key, name))) {
            Err(error) if error.errno() == Errno::NOENT => continue,
            other => other.map_err(looking)?,
        };
        let found = tally::measure(tree.as_fd(), tree.label()).map_err(looking)?;
        return Ok(found.tally == note.tally);
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::print_stdout)] // SKIP lines are for whoever reads the test's output.
mod tests {
    use super::*;
    use crate::Ownership;
    use archive::{Header, Kind, Time, Writer};
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    const FILE: Kind = Kind::Regular;
    const DIRECTORY: Kind = Kind::Directory;

    type Member<'a> = (&'a str, Kind, &'a str, u32, (u64, u64), &'a [u8]);

    fn layer(store: &Store, members: &[Member<'_>]) -> Digest {
        let mut writer = Writer::new(Vec::new());
        for (path, kind, link, mode, (uid, gid), data) in members {
            let header = Header {
                path: path.as_bytes(),
                kind: kind.clone(),
                link: link.as_bytes(),
                size: data.len() as u64,
                mode: *mode,
                uid: *uid,
                gid: *gid,
                mtime: Time { seconds: 7, nanoseconds: 0 },
                xattrs: &[],
            };
            match data.is_empty() {
                true => writer.append(&header).unwrap(),
                false => writer.append_data(&header, *data).unwrap(),
            }
        }
        store.layers().import(None, &writer.finish().unwrap()[..]).unwrap().diff_id
    }

    /// Two layers: with a file of several blocks in each, and in the upper one a directory that hides the lower one's.
    fn two_layers(store: &Store) -> [Digest; 2] {
        let big = vec![b'x'; 10_000];
        let lower = layer(
            store,
            &[
                ("bin/", DIRECTORY, "", 0o755, (0, 0), b""),
                ("bin/su", FILE, "", 0o4755, (0, 33), &big),
                ("bin/link", Kind::HardLink, "bin/su", 0o4755, (0, 33), b""),
                ("bin/small", FILE, "", 0o644, (5, 99), b"small"),
                ("bin/gone", FILE, "", 0o644, (0, 0), &big),
                ("old/", DIRECTORY, "", 0o755, (0, 0), b""),
                ("old/file", FILE, "", 0o644, (0, 0), &big),
                ("soft", Kind::Symlink, "bin/su", 0o777, (5, 5), b""),
            ],
        );
        let upper = layer(
            store,
            &[
                ("bin/", DIRECTORY, "", 0o750, (1, 1), b""),
                ("bin/.wh.gone", FILE, "", 0o600, (0, 0), b""),
                ("bin/new", FILE, "", 0o600, (1, 1), &big),
                ("old/", DIRECTORY, "", 0o755, (0, 0), b""),
                ("old/.wh..wh..opq", FILE, "", 0o600, (0, 0), b""),
            ],
        );
        [upper, lower]
    }

    fn shift() -> Shift {
        Shift { uids: vec![(0, 1000, 10)], gids: vec![(0, 2000, 50)] }
    }

    fn open() -> Option<(tempfile::TempDir, Store)> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return None;
        }
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path().join("data"), Ownership { user_xattr: true, single_id: false }).unwrap();
        Some((base, store))
    }

    fn owner(path: &Path) -> (u32, u32, u32) {
        let status = path.symlink_metadata().unwrap();
        (status.uid(), status.gid(), status.permissions().mode() & 0o7777)
    }

    fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = [0; 200];
        fs::lgetxattr(path, name, &mut value[..]).ok().map(|length| value[..length].to_vec())
    }

    #[test]
    fn copies_of_layers() {
        let Some((_base, store)) = open() else { return };
        let layers = two_layers(&store);
        make_with(&store, &layers, &shift(), &mut || false).unwrap();
        let lower = lower(&store, &layers, &shift()).unwrap();
        assert_eq!(lower.len(), 2);
        let [top, bottom] = [&lower[0], &lower[1]];
        assert_eq!(owner(&bottom.join("bin/su")), (1000, 2033, 0o4755));
        assert_eq!(bottom.join("bin/su").metadata().unwrap().ino(), bottom.join("bin/link").metadata().unwrap().ino());
        assert_eq!(bottom.join("bin/su").metadata().unwrap().mtime(), 7);
        // The group is none of the container's.
        assert_eq!(owner(&bottom.join("bin/small")), (1005, 0, 0o644));
        assert_eq!(owner(&bottom.join("soft")).0, 1005);
        assert_eq!(std::fs::read(bottom.join("bin/small")).unwrap(), b"small");
        assert!(top.join("bin/gone").symlink_metadata().unwrap().file_type().is_char_device());
        assert_eq!(attribute(&top.join("old"), "user.overlay.opaque").unwrap(), b"y");
        let whole = |expected: bool| {
            let all = check(&store).unwrap();
            assert_eq!(all.iter().filter(|form| form.whole).count() == all.len(), expected, "{all:?}");
            all.len()
        };
        assert_eq!(whole(true), 2);
        std::fs::remove_file(bottom.join("bin/small")).unwrap();
        whole(false);
        // With its layer goes what is made of it.
        store.layers().remove(&layers[1]).unwrap();
        assert_eq!(whole(true), 1);
        let taken = store.layers().take_shifted_but(&BTreeSet::new()).unwrap();
        assert_eq!(whole(true), 0);
        assert!(taken.discard().unwrap() > 10_000);
        assert!(store.abandoned().unwrap().is_empty() && !store.path().join("shifted").join(shift().key()).exists());
    }

    #[test]
    fn by_reference() {
        let Some((_base, store)) = open() else { return };
        let layers = two_layers(&store);
        make_with(&store, &layers, &shift(), &mut || true).unwrap();
        let found = lower(&store, &layers, &shift()).unwrap();
        let [tree] = &found[..] else { panic!("{found:?}") };
        // Of names of one file the first in byte order leads to it.
        for (name, layer) in [("bin/link", 1), ("bin/new", 0)] {
            let file = tree.join(name);
            assert_eq!(attribute(&file, "user.overlay.metacopy").unwrap(), b"", "{name}");
            let place = format!("/{}/tree/{name}", layers[layer].hex());
            assert_eq!(attribute(&file, "user.overlay.redirect").unwrap(), place.as_bytes());
            assert_eq!(file.metadata().unwrap().len(), 10_000);
            assert!(file.metadata().unwrap().blocks() <= 8, "{name} has data");
        }
        assert_eq!(owner(&tree.join("bin/su")), (1000, 2033, 0o4755));
        assert_eq!(tree.join("bin/link").metadata().unwrap().nlink(), 2);
        assert_eq!(owner(&tree.join("bin")), (1001, 2001, 0o750));
        assert_eq!(std::fs::read(tree.join("bin/small")).unwrap(), b"small");
        assert_eq!(attribute(&tree.join("bin/small"), "user.overlay.metacopy"), None);
        assert!(!tree.join("bin/gone").exists() && !tree.join("old/file").exists() && tree.join("old").is_dir());
        assert!(check(&store).unwrap().iter().all(|form| form.whole));
        // Another kernel.
        after_boot_with(&store, &mut || true).unwrap();
        assert!(tree.exists());
        after_boot_with(&store, &mut || false).unwrap();
        make_with(&store, &layers, &shift(), &mut || false).unwrap();
        assert_eq!(lower(&store, &layers, &shift()).unwrap().len(), 2);
        assert!(!tree.exists());
        // There are copies now, which do as well.
        make_with(&store, &layers, &shift(), &mut || true).unwrap();
        assert!(!tree.exists());
        store.layers().take_shifted_but(&BTreeSet::new()).unwrap().discard().unwrap();
        make_with(&store, &layers, &shift(), &mut || true).unwrap();
        assert!(tree.exists());
        store.layers().remove(&layers[0]).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_torn_form_goes_at_the_next_boot() {
        let Some((base, store)) = open() else { return };
        let layers = two_layers(&store);
        make_with(&store, &layers, &shift(), &mut || true).unwrap();
        let tree = lower(&store, &layers, &shift()).unwrap().remove(0);
        let again = || Store::open_in_boot(&base.path().join("data"), store.ownership(), "other").unwrap();
        std::fs::remove_file(tree.join("bin/su")).unwrap();
        drop(again());
        assert!(!tree.exists() && store.layers().contains(&layers[1]).unwrap());
        store.forget_marks(None).unwrap();
        assert_eq!(std::fs::read_dir(base.path().join("data/unsettled")).unwrap().count(), 0);
    }
}
