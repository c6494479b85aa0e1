//! What a power cut may have torn, found at the first use after a boot. The module head of the crate tells the story.

use crate::Store;
use crate::blobs::digest_of_hex;
use crate::directory::Directory;
use crate::error::{During, StoreError, SystemError};
use oci::digest::Digest;
use rustix::fs::{self, FlockOperation, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

const FILE: &str = "boot";
const MARKS: &str = "unsettled";
/// Version of everything that [`crate`] draws.
const FORMAT: u32 = 1;

/// The kernel's name for this boot; `unknown` where /proc does not tell, and then nothing is ever checked.
pub(crate) fn current() -> Result<String, StoreError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = text.trim();
    Ok(if id.is_empty() { "unknown".to_owned() } else { id.to_owned() })
}

/// Checks the store unless that was done in this boot.
pub(crate) fn check(store: &Store, boot_id: &str) -> Result<(), StoreError> {
    if seen(&store.root)?.as_deref() == Some(boot_id) {
        return Ok(());
    }
    let system = |source| StoreError::System { doing: "check the store after a boot", source };
    // A descriptor of its own, since a lock belongs to the open file and the store's is shared.
    let lock = store.root.open(".").map_err(system)?;
    fs::flock(&lock, FlockOperation::LockExclusive).during(|| "flock(<root>, LOCK_EX)").map_err(system)?;
    if seen(&store.root)?.as_deref() == Some(boot_id) {
        return Ok(());
    }
    for (mark, _) in marks(store).map_err(system)? {
        check_mark(store, &mark)?;
        unmark(store, &mark).map_err(system)?;
    }
    crate::shifted::after_boot(store)?;
    crate::merged::after_boot(store)?;
    note(&store.root, boot_id)
}

/// The boot in which the store was last checked.
fn seen(root: &Directory) -> Result<Option<String>, StoreError> {
    let fd = match root.file(FILE, OFlags::RDONLY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(None),
        other => other.map_err(|source| StoreError::System { doing: "open the store", source })?,
    };
    let mut text = String::new();
    // Something that is not text is damage, and is checked and written anew like any other.
    if File::from(fd).take(1000).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    match text.trim().split_once(' ') {
        Some((format, id)) if format == FORMAT.to_string() => Ok(Some(id.to_owned())),
        Some((format, _)) if format.parse::<u32>().is_ok() => {
            Err(StoreError::Format { found: format.to_owned(), known: FORMAT })
        }
        _ => Ok(None),
    }
}

fn note(root: &Directory, boot_id: &str) -> Result<(), StoreError> {
    let system = |source| StoreError::System { doing: "note the boot", source };
    // Under the lock, so one name is enough.
    let new = "boot.new";
    let fd = root.file(new, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC).map_err(system)?;
    let text = format!("{FORMAT} {boot_id}\n");
    File::from(fd).write_all(text.as_bytes()).map_err(|error| crate::blobs::file_error("write", new, &error))?;
    root.rename(new, root, FILE).map_err(system)
}

/// Removes what the mark stands for if it is not whole.
fn check_mark(store: &Store, mark: &str) -> Result<(), StoreError> {
    let what = mark.split('.').next().unwrap_or_default();
    if let Some(diff_id) = what.strip_prefix("layer-").and_then(digest_of_hex) {
        if store.layers().contains(&diff_id)? && !store.layers().is_whole(&diff_id)? {
            store.layers().remove(&diff_id)?;
        }
    } else if let Some(name) = what.strip_prefix("merged-") {
        // Sizes and names do not tell, and making it again is quick.
        crate::merged::remove(store, name)
            .map_err(|source| StoreError::System { doing: "remove a merged image", source })?;
    } else if let Some((key, name)) = shifted(what) {
        if !crate::shifted::is_whole(store, key, name)? {
            crate::shifted::remove_one(store, key, name)
                .map_err(|source| StoreError::System { doing: "remove the shifted form of a layer", source })?;
        }
    } else if let Some((_, hex)) = what.strip_prefix("blob-").and_then(|rest| rest.split_once('-'))
        && let Some(digest) = digest_of_hex(hex)
    {
        match store.blobs().verify(&digest) {
            Ok(()) | Err(StoreError::NoSuchBlob(_)) => {}
            Err(StoreError::BlobDigest { .. }) => {
                store.blobs().remove(&digest)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The key of the shift, and the name of the form. Both are hexadecimal.
fn shifted(what: &str) -> Option<(&str, &str)> {
    let (key, name) = what.strip_prefix("shifted-")?.split_once('-')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (plain(key) && plain(name)).then_some((key, name))
}

fn marks(store: &Store) -> Result<Vec<(String, fs::FileType)>, SystemError> {
    store.root.create(MARKS)?.entries()
}

/// Marks something as not known to be on stable storage, before it appears. Returns the mark's name: each is new, so that
/// [`settle`] removes only those that it has seen.
pub(crate) fn mark(store: &Store, what: &str) -> Result<String, SystemError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let marks = store.root.create(MARKS)?;
    let pid = rustix::process::getpid().as_raw_pid();
    loop {
        let mark = format!("{what}.{pid}-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        match marks.file(&mark, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL) {
            Ok(_) => return Ok(mark),
            Err(error) if error.errno() == Errno::EXIST => {}
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn unmark(store: &Store, mark: &str) -> Result<(), SystemError> {
    store.root.create(MARKS)?.unlink(mark)
}

pub(crate) fn settle(store: &Store) -> Result<(), StoreError> {
    let system = |source| StoreError::System { doing: "wait for the disk", source };
    // Only what is in its place before the sync is settled by it.
    let settled: Vec<_> =
        marks(store).map_err(system)?.into_iter().filter(|(mark, _)| is_in_place(store, mark)).collect();
    if settled.is_empty() {
        return Ok(());
    }
    fs::syncfs(&store.root).during(|| "syncfs(<root>)").map_err(system)?;
    for (mark, _) in settled {
        unmark(store, &mark).map_err(system)?;
    }
    Ok(())
}

/// Removes marks of what is gone: with `gone` of these, otherwise of whatever is not in its place.
pub(crate) fn forget(store: &Store, gone: Option<&[Digest]>) -> Result<(), StoreError> {
    let system = |source| StoreError::System { doing: "forget what is gone", source };
    let names: Option<HashSet<&str>> = gone.map(|gone| gone.iter().map(Digest::hex).collect());
    for (mark, _) in marks(store).map_err(system)? {
        let what = mark.split('.').next().unwrap_or_default();
        let hex = what.rsplit('-').next().unwrap_or_default();
        if names.as_ref().is_none_or(|names| names.contains(hex)) && !is_in_place(store, &mark) {
            unmark(store, &mark).map_err(system)?;
        }
    }
    Ok(())
}

fn is_in_place(store: &Store, mark: &str) -> bool {
    let what = mark.split('.').next().unwrap_or_default();
    if let Some((key, name)) = shifted(what) {
        return crate::shifted::is_here(store, key, name).unwrap_or(false);
    }
    if let Some(name) = what.strip_prefix("merged-") {
        return crate::merged::is_here(store, name).unwrap_or(false);
    }
    let hex = what.rsplit('-').next().unwrap_or_default();
    digest_of_hex(hex).is_some_and(|digest| {
        let found =
            if what.starts_with("layer-") { store.layers().contains(&digest) } else { store.blobs().contains(&digest) };
        found.unwrap_or(false)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ownership;
    use std::path::Path;

    /// One file `f` with ten bytes, as GNU tar would write it.
    fn archive(name: u8) -> Vec<u8> {
        let mut writer = archive::Writer::new(Vec::new());
        let header = archive::Header {
            path: &[name],
            kind: archive::Kind::Regular,
            link: b"",
            size: 10,
            mode: 0o644,
            uid: rustix::process::geteuid().as_raw().into(),
            gid: rustix::process::getegid().as_raw().into(),
            mtime: archive::Time::default(),
            xattrs: &[],
        };
        writer.append_data(&header, &b"0123456789"[..]).unwrap();
        writer.finish().unwrap()
    }

    fn open(path: &Path, boot: &str) -> Store {
        Store::open_in_boot(path, Ownership::default(), boot).unwrap()
    }

    fn marks_left(path: &Path) -> usize {
        std::fs::read_dir(path.join(MARKS)).unwrap().count()
    }

    #[test]
    fn after_a_boot_torn_layers_and_blobs_are_gone_and_whole_ones_stay() {
        let base = tempfile::tempdir().unwrap();
        let store = open(base.path(), "first");
        let import = |name| store.layers().import(None, &archive(name)[..]).unwrap();
        let [whole, shorter, missing, record] = [b'a', b'b', b'c', b'd'].map(import);
        let good = store.blobs().put(b"good").unwrap();
        let bad = store.blobs().put(b"bad").unwrap();
        assert_eq!(marks_left(base.path()), 6);
        // What a power cut does: sizes that were not written yet, names that were not, an empty record.
        std::fs::write(shorter.path.join("b"), "01234").unwrap();
        std::fs::remove_file(missing.path.join("c")).unwrap();
        std::fs::write(record.path.with_file_name(crate::record::FILE), "").unwrap();
        std::fs::write(base.path().join(format!("blobs/sha256/{}", bad.hex())), "b").unwrap();
        // Nobody looks in the same boot.
        assert_eq!(open(base.path(), "first").layers().list().unwrap().len(), 4);
        let store = open(base.path(), "second");
        assert_eq!(store.layers().list().unwrap(), [whole.diff_id]);
        assert_eq!(store.blobs().list().unwrap(), [good]);
        assert_eq!(marks_left(base.path()), 0);
    }

    #[test]
    fn what_is_settled_is_not_looked_at_again() {
        let base = tempfile::tempdir().unwrap();
        let store = open(base.path(), "first");
        let layer = store.layers().import(None, &archive(b'a')[..]).unwrap();
        let blob = store.blobs().put(b"blob").unwrap();
        store.settle().unwrap();
        assert_eq!(marks_left(base.path()), 0);
        // A mark of something that is not in its place yet stays.
        mark(&store, &format!("layer-{}", Digest::sha256(b"").hex())).unwrap();
        store.settle().unwrap();
        assert_eq!(marks_left(base.path()), 1);
        std::fs::write(layer.path.join("a"), "changed").unwrap();
        let store = open(base.path(), "second");
        assert!(store.layers().contains(&layer.diff_id).unwrap() && store.blobs().contains(&blob).unwrap());
    }

    #[test]
    fn marks_go_with_what_they_are_of() {
        let base = tempfile::tempdir().unwrap();
        let store = open(base.path(), "first");
        let [a, b] = [b'a', b'b'].map(|name| store.layers().import(None, &archive(name)[..]).unwrap().diff_id);
        let blob = store.blobs().put(b"blob").unwrap();
        mark(&store, &format!("layer-{}", Digest::sha256(b"never made").hex())).unwrap();
        store.layers().remove(&a).unwrap();
        store.blobs().remove(&blob).unwrap();
        // What is still there keeps its mark, whoever calls it gone.
        store.forget_marks(Some(&[a, b.clone()])).unwrap();
        assert_eq!(marks_left(base.path()), 3);
        store.forget_marks(None).unwrap();
        assert_eq!(marks_left(base.path()), 1);
        assert!(store.layers().contains(&b).unwrap());
    }

    #[test]
    fn a_newer_format_is_refused() {
        let base = tempfile::tempdir().unwrap();
        open(base.path(), "first");
        std::fs::write(base.path().join(FILE), "2 first\n").unwrap();
        let error = Store::open_in_boot(base.path(), Ownership::default(), "first").unwrap_err();
        assert_eq!(error.to_string(), "the store has format 2; this program knows format 1");
        std::fs::write(base.path().join(FILE), [0xff, 0, 1]).unwrap();
        open(base.path(), "first");
        assert_eq!(std::fs::read_to_string(base.path().join(FILE)).unwrap(), "1 first\n");
    }
}
