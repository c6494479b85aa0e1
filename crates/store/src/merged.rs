//! One image for all layers of an image that are such: it has the names and inodes that overlayfs would show of them, and refers to
//! the layers' own images for the content ([`erofs::Writer::refer`]). A start mounts it and nothing else.
//!
//! It is made when an image is stored, or for the first container of one that has none, and has the life of a layer: made in `staging`
//! under a lock, marked as unsettled, moved to its place by one rename. It is nothing but a summary: without it, as after a boot that may
//! have torn it, the layers are mounted one by one, until it is made anew.
//!
//! ```text
//! <root>/merged/<key of the layers>/
//!   merged.erofs
//!   devices        paths of the layers' images from here, a line each; `runtime` reads it
//!   merged.json    of which layers it is, and what their images were like
//! ```
//!
//! A layer that was removed and stored again may have its content elsewhere, and the kernel would not notice. So the images are compared
//! by size and time of change with what they were, at every start.

use crate::Store;
use crate::blobs::file_error;
use crate::boot;
use crate::directory::Directory;
use crate::error::{EntryError, StoreError, SystemError, quoted};
use crate::image;
use crate::layers;
use crate::record::{self, Backend};
use crate::staging::Staged;
use crate::union::Union;
use crate::verity;
use erofs::{Blocks, Image};
use oci::digest::Digest;
use rustix::fs::{self, AtFlags, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

pub(crate) const NAME: &str = "merged";
/// `runtime` knows it by this name.
const IMAGE: &str = "merged.erofs";
const DEVICES: &str = "devices";
const NOTE: &str = "merged.json";

fn failed(source: SystemError) -> StoreError {
    StoreError::System { doing: "merge the images of layers", source }
}

/// What is noted of a merged image.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Topmost first, as they were asked for.
    layers: Vec<Digest>,
    /// Those that can be seen, each once.
    images: Vec<Seen>,
    /// The digest by which fs-verity sealed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verity: Option<Digest>,
}

/// The image of a layer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    diff_id: Digest,
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, u64),
    /// Whether fs-verity sealed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sealed: bool,
}

/// What a look at one tells.
#[derive(Clone, Debug)]
pub struct MergedCheck {
    /// Its name, see [`crate::Layers::merged_name`].
    pub name: String,
    /// Whether it is what would be made now.
    pub whole: bool,
}

/// The name of the merged image of these layers, topmost first.
pub(crate) fn name(layers: &[Digest]) -> Digest {
    let names: Vec<&str> = layers.iter().map(Digest::hex).collect();
    Digest::sha256(names.join("\n").as_bytes())
}

fn place(name: &str) -> String {
    format!("{NAME}/{name}")
}

pub(crate) fn is_here(store: &Store, name: &str) -> Result<bool, SystemError> {
    store.root.exists(&place(name))
}

fn image_of(layer: &Digest) -> String {
    format!("{}/{}/{}", layers::NAME, layer.hex(), record::IMAGE)
}

fn seen(store: &Store, layer: &Digest, sealed: bool) -> Result<Seen, SystemError> {
    let path = image_of(layer);
    let stat = fs::statat(&store.root, &*path, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| SystemError::new(format!("fstatat(<root>, {path:?})"), errno))?;
    let changed = (stat.st_mtime, stat.st_mtime_nsec);
    Ok(Seen { diff_id: layer.clone(), size: stat.st_size.unsigned_abs(), changed, sealed })
}

/// Makes it, if it is missing and there is something to merge. False where there is not: for one layer, and where a layer is no image,
/// or one to which nothing can refer.
pub(crate) fn make(store: &Store, layers: &[Digest]) -> Result<bool, StoreError> {
    let [top, _, ..] = layers else { return Ok(false) };
    // Asked for each new container: of directories no more than this.
    if store.ownership.user_xattr || !store.root.exists(&image_of(top)).map_err(failed)? {
        return Ok(false);
    }
    let name = name(layers);
    if is_here(store, name.hex()).map_err(failed)? {
        if current(store, layers)?.is_some() {
            return Ok(true);
        }
        remove(store, name.hex()).map_err(failed)?;
    }
    let Some(parts) = Parts::open(store, layers)? else { return Ok(false) };
    let here = || is_here(store, name.hex());
    // Another process may have made it while this one waited.
    let Some(staged) = Staged::named(store, &format!("{NAME}-{}", name.hex()), here).map_err(failed)? else {
        return Ok(true);
    };
    let made = fill(&parts, staged.directory()).and_then(|()| note(layers, parts, staged.directory()));
    match made {
        Ok(()) => publish(store, staged, name.hex()),
        Err(error) => {
            staged.discard().ok();
            // Too much for one image: then it is many.
            let declined = matches!(error, StoreError::Entry { source: EntryError::Image(_), .. });
            if declined { Ok(false) } else { Err(error) }
        }
    }
}

/// The layers that can be seen, topmost first, each once.
struct Parts {
    images: Vec<Image>,
    seen: Vec<Seen>,
}

impl Parts {
    /// None if these cannot be merged.
    fn open(store: &Store, layers: &[Digest]) -> Result<Option<Parts>, StoreError> {
        let mut parts = Parts { images: Vec::new(), seen: Vec::new() };
        for layer in layers {
            if parts.seen.iter().any(|seen| seen.diff_id == *layer) {
                continue;
            }
            let record = store.layers().record(layer)?;
            if record.backend != Backend::Erofs {
                return Ok(None);
            }
            let directory = store.layers().open_layer(layer)?;
            let image = image::open(&directory).map_err(|error| failed(image::failed(&directory, &error)))?;
            if image.blocks() != Some(Blocks::Sectors) {
                return Ok(None);
            }
            parts.images.push(image);
            parts.seen.push(seen(store, layer, record.verity.is_some()).map_err(failed)?);
            if record.hides_lower {
                break;
            }
        }
        Ok((parts.images.len() > 1).then_some(parts))
    }

    /// The list for `runtime`.
    fn devices(&self) -> String {
        self.seen.iter().map(|seen| format!("../../{}\n", image_of(&seen.diff_id))).collect()
    }
}

fn fill(parts: &Parts, directory: &Directory) -> Result<(), StoreError> {
    let create = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    summarize(parts, File::from(directory.file(IMAGE, create).map_err(failed)?))?;
    write(directory, DEVICES, parts.devices().as_bytes())
}

fn summarize(parts: &Parts, file: File) -> Result<File, StoreError> {
    let tagged = parts.seen.iter().zip(&parts.images).map(|(seen, image)| (tag(&seen.diff_id), image));
    let written = Union::new(file, &tagged.collect::<Vec<_>>()).and_then(Union::finish);
    written.map(|(file, _)| file).map_err(|error| match EntryError::from(error) {
        EntryError::System(source) => failed(source),
        source => StoreError::Entry { path: quoted(b"/"), source },
    })
}

/// The digest's digits, or the first of them.
fn tag(layer: &Digest) -> erofs::Tag {
    let mut tag = [b'0'; 64];
    tag.iter_mut().zip(layer.hex().bytes()).for_each(|(to, digit)| *to = digit);
    tag
}

fn note(layers: &[Digest], parts: Parts, directory: &Directory) -> Result<(), StoreError> {
    let verity = verity::seal(directory, IMAGE).map_err(failed)?;
    let note = Note { layers: layers.to_vec(), images: parts.seen, verity };
    let text = serde_json::to_vec(&note).map_err(|source| StoreError::Damaged { file: NOTE.to_owned(), source })?;
    write(directory, NOTE, &text)
}

fn write(directory: &Directory, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let file = directory.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(failed)?;
    File::from(file).write_all(bytes).map_err(|error| file_error("write", name, &error))
}

fn publish(store: &Store, staged: Staged, name: &str) -> Result<bool, StoreError> {
    let mark = boot::mark(store, &format!("{NAME}-{name}")).map_err(failed)?;
    let all = store.root.create(NAME).map_err(failed)?;
    match staged.publish(&all, name) {
        Ok(()) => Ok(true),
        Err((staged, error)) => {
            staged.discard().map_err(failed)?;
            boot::unmark(store, &mark).map_err(failed)?;
            let other = matches!(error.errno(), Errno::EXIST | Errno::NOTEMPTY);
            if other { Ok(true) } else { Err(failed(error)) }
        }
    }
}

/// The merged image of these layers, topmost first, if there is one and its layers are what they were.
pub(crate) fn lower(store: &Store, layers: &[Digest]) -> Result<Option<PathBuf>, StoreError> {
    if layers.len() < 2 {
        return Ok(None);
    }
    let Some(note) = current(store, layers)? else { return Ok(None) };
    let place = place(name(layers).hex());
    let checking = |source| StoreError::System { doing: "check the image of a layer", source };
    if let Some(noted) = &note.verity {
        let directory = store.root.open(&place).map_err(checking)?;
        verity::check(&directory, IMAGE, noted).map_err(checking)?;
    }
    for seen in note.images.iter().filter(|seen| seen.sealed) {
        if let Some(noted) = &store.layers().record(&seen.diff_id)?.verity {
            verity::check(&store.layers().open_layer(&seen.diff_id)?, record::IMAGE, noted).map_err(checking)?;
        }
    }
    Ok(Some(store.path.join(place).join(IMAGE)))
}

/// What is noted, if that is still so.
fn current(store: &Store, layers: &[Digest]) -> Result<Option<Note>, StoreError> {
    let Some(note) = read(store, name(layers).hex()).map_err(failed)? else { return Ok(None) };
    if note.layers != layers {
        return Ok(None);
    }
    for was in &note.images {
        match seen(store, &was.diff_id, was.sealed) {
            Ok(is) if is == *was => {}
            Ok(_) => return Ok(None),
            Err(error) if error.errno() == Errno::NOENT => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Some(note))
}

/// None if there is none, or a torn one.
fn read(store: &Store, name: &str) -> Result<Option<Note>, SystemError> {
    let fd = match store.root.file(&format!("{}/{NOTE}", place(name)), OFlags::RDONLY) {
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

/// Removes one. That it is missing is no error.
pub(crate) fn remove(store: &Store, name: &str) -> Result<(), SystemError> {
    match store.root.open(NAME).and_then(|all| Staged::take(store, &all, name)) {
        Ok(staged) => staged.discard(),
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        Err(error) => Err(error),
    }
}

fn list(store: &Store) -> Result<Vec<String>, SystemError> {
    match store.root.open(NAME).and_then(|all| all.entries()) {
        Ok(entries) => Ok(entries.into_iter().map(|(name, _)| name).collect()),
        Err(error) if error.errno() == Errno::NOENT => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes all but those of these names.
pub(crate) fn retain(store: &Store, names: &BTreeSet<String>) -> Result<(), StoreError> {
    let removing = |source| StoreError::System { doing: "remove merged images", source };
    for name in list(store).map_err(removing)?.iter().filter(|name| !names.contains(*name)) {
        remove(store, name).map_err(removing)?;
    }
    Ok(())
}

/// The first thing after a boot: where the kernel mounts no such images any more, they go. Nothing runs yet.
pub(crate) fn after_boot(store: &Store) -> Result<(), StoreError> {
    let looking = |source| StoreError::System { doing: "look at merged images", source };
    if list(store).map_err(looking)?.is_empty() || image::try_mount(store)?.is_ok_and(|b| b == Blocks::Sectors) {
        return Ok(());
    }
    retain(store, &BTreeSet::new())
}

/// Compares each with what would be made now, byte for byte.
pub(crate) fn check(store: &Store) -> Result<Vec<MergedCheck>, StoreError> {
    let looking = |source| StoreError::System { doing: "look at merged images", source };
    let mut checks = Vec::new();
    for name in list(store).map_err(looking)? {
        let whole = is_whole(store, &name)?;
        // Removed while it was looked at.
        if whole || is_here(store, &name).map_err(looking)? {
            checks.push(MergedCheck { name, whole });
        }
    }
    Ok(checks)
}

fn is_whole(store: &Store, name: &str) -> Result<bool, StoreError> {
    let looking = |source| StoreError::System { doing: "look at merged images", source };
    let Some(noted) = read(store, name).map_err(looking)? else { return Ok(false) };
    if self::name(&noted.layers).hex() != name || current(store, &noted.layers)?.is_none() {
        return Ok(false);
    }
    let parts = match Parts::open(store, &noted.layers) {
        Ok(Some(parts)) => parts,
        Ok(None) | Err(StoreError::NoSuchLayer(_)) => return Ok(false),
        // A layer was removed while this was looked at, or is damaged, which is told of the layer.
        Err(StoreError::System { source, .. })
            if source.errno() == Errno::NOENT || image::is_damage(source.errno()) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let compared = || {
        // In memory, so that a full disk can be checked.
        let memory = fs::memfd_create("merged", fs::MemfdFlags::CLOEXEC)
            .map_err(|errno| looking(SystemError::new("memfd_create(\"merged\", MFD_CLOEXEC)", errno)))?;
        let mut made = summarize(&parts, File::from(memory))?;
        made.rewind().map_err(|error| file_error("read", IMAGE, &error))?;
        let there = store.root.open(&place(name)).map_err(looking)?;
        let open = |file: &str| there.file(file, OFlags::RDONLY).map(File::from).map_err(looking);
        let mut devices = String::new();
        let list = open(DEVICES)?.take(1 << 20).read_to_string(&mut devices);
        let listed = list.is_ok() && devices == parts.devices();
        Ok(listed && same(made, open(IMAGE)?).map_err(|error| file_error("read", IMAGE, &error))?)
    };
    match compared() {
        // It vanished, or what it is of is damaged, which is told of the layer.
        Err(StoreError::System { source, .. }) if source.errno() == Errno::NOENT => Ok(false),
        Err(StoreError::Entry { source: EntryError::Image(_), .. }) => Ok(false),
        other => other,
    }
}

fn same(mut one: File, mut other: File) -> std::io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ownership;

    /// One file, as GNU tar would write it.
    fn archive(name: u8) -> Vec<u8> {
        let mut writer = archive::Writer::new(Vec::new());
        let header = archive::Header {
            path: &[name],
            kind: archive::Kind::Regular,
            link: b"",
            size: 10,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: archive::Time::default(),
            xattrs: &[],
        };
        writer.append_data(&header, &b"0123456789"[..]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_not_on_the_disk_is_thrown_away_after_a_boot() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let open = |boot: &str| Store::open_in_boot(base.path(), Ownership::default(), boot).unwrap();
        let store = open("first").with_backend(Backend::Erofs);
        if image::try_mount(&store).unwrap().ok() != Some(Blocks::Sectors) {
            return;
        }
        let layers = [b'a', b'b'].map(|name| store.layers().import(None, &archive(name)[..]).unwrap().diff_id);
        let one = || lower(&store, &layers).unwrap().is_some();
        assert!(!one() && make(&store, &layers).unwrap() && one());
        open("second");
        assert!(!one());
        assert!(make(&store, &layers).unwrap());
        store.settle().unwrap();
        open("third");
        assert!(one());
        // A note that was cut off.
        std::fs::write(base.path().join(place(name(&layers).hex())).join(NOTE), "{").unwrap();
        assert!(!one() && make(&store, &layers).unwrap() && one());
        assert_eq!(std::fs::read_dir(base.path().join("staging")).unwrap().count(), 0);
    }
}
