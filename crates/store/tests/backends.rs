//! The two back ends side by side: the same archive is the same tree, to the last attribute, and comes back byte for byte.

#![allow(clippy::print_stdout)] // SKIP lines are for whoever reads the test's output.

mod support;

use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use store::{Backend, Layer, Layers, Ownership, Store, Writable};
use support::{Member, Seen, Tar, chain, root, tree, view};

/// Nothing, with the reason, where images cannot be mounted.
fn stores(directory: &Path) -> Option<[Store; 2]> {
    if !root() {
        return None;
    }
    let open = |name: &str| Store::open(directory.join(name), Ownership::default()).unwrap();
    let images = open("images").with_backend(Backend::Erofs);
    if !images.can_mount_images().unwrap() {
        println!("SKIP: this kernel mounts no EROFS images from files");
        return None;
    }
    Some([open("directories"), images])
}

fn rebuilt(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.layers().rebuild(&layer.diff_id).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// An ACL that gives user 5 what the group has.
fn acl() -> Vec<u8> {
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 5), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn rich() -> Vec<u8> {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let many: Vec<(String, Vec<u8>)> = (0..9).map(|n| (format!("SCHILY.xattr.user.n{n}"), vec![n; 100])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
    let mut tar = Tar::default()
        .member(Member { path: b"./", kind: b'5', mode: 0o751, uid: 3, gid: 4, ..Member::default() })
        .pax(&[("mtime", b"1700000000.123456789"), ("SCHILY.xattr.security.capability", &capability)])
        .member(Member {
            path: b"bin/ping",
            data: b"elf",
            mode: 0o755,
            uid: 70_000,
            gid: 3_000_000_000,
            ..Member::default()
        })
        .pax(&many)
        .file("bin/many", "attributes")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl()), ("SCHILY.xattr.trusted.x", b"y")])
        .member(Member { path: b"acl", data: b"a", mode: 0o640, ..Member::default() })
        .pax(&[("SCHILY.xattr.user.on-a-link", b"z"), ("SCHILY.xattr.user.overlay.redirect", b"/")])
        .symlink("lib", "usr/lib")
        .pax(&[("mtime", b"-86400.5")])
        .file("old", "from 1969")
        .directory("usr/lib")
        .file("lib/through-the-link", "x")
        .member(Member { path: b"setgid", kind: b'5', mode: 0o2775, gid: 9, ..Member::default() })
        .file("setgid/file", "keeps its group")
        .member(Member { path: b"sticky", kind: b'5', mode: 0o1777, ..Member::default() });
    for (kind, path, device) in [(b'3', &b"tty"[..], (4, 300)), (b'4', b"disk", (259, 70_000)), (b'6', b"pipe", (0, 0))]
    {
        tar = tar.member(Member { path, kind, mode: 0o620, device, ..Member::default() });
    }
    for size in [1, 4031, 4032, 4096, 5000, 70_000, 1_500_000] {
        let data: Vec<u8> = (0..size).map(|at| (at * 31 + size) as u8).collect();
        tar = tar.member(Member { path: format!("files/{size}").as_bytes(), data: &data, ..Member::default() });
    }
    tar.hard_link("again", "files/5000")
        .hard_link("tty2", "tty")
        .file("etc/.wh.hosts", "")
        .file("etc/hidden/.wh..wh..opq", "")
        .file("etc/hidden/new", "n")
        .file("made/over", "a whiteout first")
        .file("replaced", "first content, which the archive needs")
        .file("replaced", "second")
        .directory("turned")
        .file("turned/inner", "gone with it")
        .file("turned", "a file now")
        .file(&"long".repeat(60), "name")
        .end()
}

fn same(stores: &[Store; 2], archive: &[u8]) -> [Layer; 2] {
    let layers = stores
        .each_ref()
        .map(|store| store.layers().import(None, archive).unwrap_or_else(|error| panic!("{}", chain(&error))));
    let mut trees = layers.each_ref().map(|layer| tree(&view(layer)));
    for tree in &mut trees {
        for (name, seen) in tree.iter_mut() {
            // What no member describes has the time of its making in a directory, and the same always in an image.
            if seen.kind == "CharacterDevice" && seen.device == 0
                || matches!(name.as_str(), "bin" | "files" | "etc" | "etc/hidden" | "made" | "." | "usr")
            {
                seen.mtime = (0, 0);
            }
            // How much a file with holes takes is not in an image's inode.
            seen.sparse = false;
        }
    }
    let [directories, images] = &trees;
    assert_eq!(directories.keys().collect::<Vec<_>>(), images.keys().collect::<Vec<_>>());
    for (name, seen) in directories {
        let (seen, other) = (format!("{seen:?}"), format!("{:?}", images[name]));
        assert!(seen == other, "{name}: {:.600} {:.600}", seen, other);
    }
    let [first, second] = &layers;
    assert_eq!((first.size, first.entries, &first.warnings), (second.size, second.entries, &second.warnings));
    assert_eq!((first.backend, second.backend), (Backend::Directory, Backend::Erofs));
    for (store, layer) in stores.iter().zip(&layers) {
        assert!(rebuilt(store, layer) == archive, "{:?}", layer.backend);
        assert!(store.layers().verify_tree(&layer.diff_id).unwrap(), "{:?}", layer.backend);
    }
    layers
}

fn fsck(image: &Path, others: &[PathBuf]) {
    let others = others.iter().map(|path| format!("--device={}", path.display()));
    match Command::new("fsck.erofs").args(others).arg(image).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            if output.status.code().is_none() || text.contains("blksize 512 isn't supported") {
                return println!("SKIP: this fsck.erofs reads no blocks of 512 bytes");
            }
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stdout));
        }
        Err(error) => println!("SKIP: fsck.erofs: {error}"),
    }
}

#[test]
fn one_archive_is_one_tree() {
    let base = tempfile::tempdir().unwrap();
    let Some(stores) = stores(base.path()) else { return };
    let archive = rich();
    let [_, image] = same(&stores, &archive);
    fsck(&image.path, &[]);
    // No tree, no other file: the image, the recipe, the record, and where the archive's first contents are.
    let mut names: Vec<_> = std::fs::read_dir(image.path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["image.erofs", "layer.json", "recipe", "replaced.list"]);
}

#[test]
fn packed_compared_and_written_upon_they_are_the_same() {
    let base = tempfile::tempdir().unwrap();
    let Some(stores) = stores(base.path()) else { return };
    let below = Tar::default().file("etc/hosts", "h").file("etc/hidden/old", "o").file("bin/x", "x").end();
    let results = stores.each_ref().map(|store| {
        let ids = [rich(), below.clone()].map(|archive| store.layers().import(None, &archive[..]).unwrap().diff_id);
        let without_times = |archive: Vec<u8>| {
            let mut reader = archive::Reader::new(&archive[..], archive::Limits::default());
            let mut all = Vec::new();
            while let Some(entry) = reader.next().unwrap() {
                all.push((entry.path, entry.kind, entry.link, entry.size, entry.mode, entry.uid, entry.xattrs));
            }
            all
        };
        let packed = without_times(store.layers().pack(&ids[0], Vec::new()).unwrap());
        let changes = store.layers().compare(&ids[1..], &ids).unwrap();
        let same = store.layers().compare(&ids, &ids).unwrap();
        let container = Writable::create(store, "c", &ids).unwrap();
        let stat = rustix::fs::stat(container.upper()).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777), (3, 4, 0o751));
        std::fs::create_dir(container.upper().join("bin")).unwrap();
        std::fs::write(container.upper().join("bin/ping"), "mine").unwrap();
        let own = container.changes(&ids, &[]).unwrap();
        let exported = without_times(container.export(&ids, Vec::new()).unwrap());
        assert!(same.is_empty());
        (packed, changes, own, exported)
    });
    assert_eq!(results[0], results[1]);
}

#[test]
fn a_store_holds_both_and_removes_both() {
    let base = tempfile::tempdir().unwrap();
    let Some([directories, _]) = stores(base.path()) else { return };
    let images = directories.clone().with_backend(Backend::Erofs);
    let (one, two) = (Tar::default().file("a", "1").end(), Tar::default().file("a", "2").end());
    let first = directories.layers().import(None, &one[..]).unwrap();
    let second = images.layers().import(None, &two[..]).unwrap();
    // What is there stays what it is.
    assert_eq!(images.layers().import(None, &one[..]).unwrap().backend, Backend::Directory);
    let ids = [first.diff_id.clone(), second.diff_id.clone()];
    assert_eq!(images.layers().lower(&ids).unwrap(), [first.path, second.path.clone()]);
    assert_eq!(directories.layers().compare(&ids[..1], &ids[1..]).unwrap().len(), 1);
    let damaged = std::fs::read(&second.path).unwrap();
    std::fs::write(&second.path, &damaged[..damaged.len() - 1]).unwrap();
    assert!(!directories.layers().verify_tree(&ids[1]).unwrap());
    for id in &ids {
        assert!(directories.layers().remove(id).unwrap());
    }
    assert!(directories.layers().list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(directories.path().join("staging")).unwrap().count(), 0);
}

/// Everything that a layer can do to those below it, topmost first.
fn chained() -> Vec<Vec<u8>> {
    let below = Tar::default()
        .member(Member { path: b"./", kind: b'5', mode: 0o700, uid: 9, ..Member::default() })
        .file("etc/hosts", "hidden by the layer above")
        .file("etc/hidden/old", "below an opaque directory")
        .file("etc/stays", "seen through")
        .file("bin/below", &"b".repeat(9000))
        .hard_link("bin/below-too", "bin/below")
        .hard_link("gone-later", "bin/below")
        .file("turned/inner", "below a file")
        .directory("kept/deep/er")
        .file("kept/deep/er/file", "f")
        .file("file-then-directory", "file")
        .pax(&[("SCHILY.xattr.user.of", b"below")])
        .directory("merges")
        .file("merges/below", "b")
        .file(".wh.nothing-below", "")
        .end();
    let above = Tar::default()
        .file(".wh.gone-later", "")
        .file("kept/deep/.wh.er", "")
        .pax(&[("SCHILY.xattr.user.of", b"above"), ("SCHILY.xattr.trusted.own", b"1")])
        .member(Member { path: b"merges", kind: b'5', mode: 0o2711, uid: 5, ..Member::default() })
        .file("merges/above", "a")
        .directory("file-then-directory")
        .file("file-then-directory/inner", "i")
        .file("lib/again/.wh..wh..opq", "")
        .symlink("bin/link", "below")
        .end();
    let again = Tar::default().directory("kept/deep/er").file("kept/deep/er/new", "n").end();
    // The same layer twice.
    vec![again.clone(), above, again, rich(), below]
}

/// What overlayfs shows of layers, directories or images; nothing where it does not take detached mounts (before Linux 6.15).
fn shown(lower: &[PathBuf]) -> Option<BTreeMap<String, Seen>> {
    let overlay = kernel::mount::FileSystem::open("overlay").unwrap();
    let images: Vec<OwnedFd> =
        lower.iter().filter(|path| path.extension().is_some()).map(|path| mounted(path)).collect();
    let mut images = images.iter();
    let path = |path: &PathBuf| match path.extension() {
        Some(_) => format!("/proc/self/fd/{}", images.next().unwrap().as_raw_fd()),
        None => path.to_str().unwrap().to_owned(),
    };
    let empty = tempfile::tempdir().unwrap();
    // Two at least.
    let all = lower.iter().map(path).chain([empty.path().to_str().unwrap().to_owned()]);
    all.collect::<Vec<_>>().iter().for_each(|path| overlay.set("lowerdir+", path).unwrap());
    match overlay.mount(kernel::mount::Attributes::empty()) {
        Err(error) if error.errno() == rustix::io::Errno::INVAL => {
            println!("SKIP: an overlay of detached mounts: {error}");
            None
        }
        mounted => {
            let mounted = mounted.unwrap();
            Some(tree(Path::new(&format!("/proc/self/fd/{}/.", mounted.as_raw_fd()))))
        }
    }
}

/// As `runtime` mounts it.
fn mounted(image: &Path) -> OwnedFd {
    match others(image) {
        Some(others) => kernel::mount::erofs_files(image, &others).unwrap(),
        None => kernel::mount::erofs_image(image).unwrap(),
    }
}

/// What a merged image refers to.
fn others(image: &Path) -> Option<Vec<PathBuf>> {
    let above = image.parent().unwrap();
    let list = std::fs::read_to_string(above.join("devices")).ok()?;
    Some(list.lines().map(|line| above.join(line)).collect())
}

/// Three ways to one tree: directories, images, and one image that is merged of these.
#[test]
fn a_merged_image_shows_what_overlayfs_shows_of_the_layers() {
    let base = tempfile::tempdir().unwrap();
    let Some(stores) = stores(base.path()) else { return };
    let archives = chained();
    let [directories, ids] = stores.each_ref().map(|store| {
        archives.iter().map(|archive| store.layers().import(None, &archive[..]).unwrap().diff_id).collect::<Vec<_>>()
    });
    assert_eq!(directories, ids);
    let [directories, images] = &stores;
    assert!(!directories.layers().merge(&ids).unwrap() && !images.layers().merge(&ids[..1]).unwrap());
    let apart = images.layers().lower(&ids).unwrap();
    // overlayfs refuses one that is there twice.
    assert_eq!(apart.len(), ids.len() - 1);
    if !images.layers().merge(&ids).unwrap() {
        return println!("SKIP: images are mounted by loop devices here");
    }
    let lower = images.layers().lower(&ids).unwrap();
    let [merged] = &lower[..] else { panic!("{lower:?}") };
    assert!(merged.ends_with(format!("merged/{}/merged.erofs", Layers::merged_name(&ids).hex())));
    fsck(merged, &others(merged).unwrap());
    let unlike = |mut tree: BTreeMap<String, Seen>| {
        for (name, seen) in &mut tree {
            // As in `same`; and what no member describes.
            seen.sparse = false;
            if matches!(
                name.as_str(),
                "bin"
                    | "files"
                    | "etc"
                    | "etc/hidden"
                    | "made"
                    | "usr"
                    | "kept"
                    | "kept/deep"
                    | "lib"
                    | "lib/again"
                    | "."
                    | "turned"
            ) {
                seen.mtime = (0, 0);
            }
        }
        tree
    };
    let same = |one: &BTreeMap<String, Seen>, other: &BTreeMap<String, Seen>| {
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        for (name, seen) in one {
            assert!(*seen == other[name], "{name}: {seen:.600?} {:.600?}", other[name]);
        }
    };
    let of_directories = unlike(shown(&directories.layers().lower(&ids).unwrap()).unwrap());
    // By itself as well: no marks of overlayfs are left.
    let alone = mounted(merged);
    same(&of_directories, &unlike(tree(Path::new(&format!("/proc/self/fd/{}/.", alone.as_raw_fd())))));
    if let [Some(of_images), Some(of_merged)] = [&apart, &lower].map(|lower| shown(lower)) {
        same(&of_directories, &unlike(of_merged));
        let mut of_images = unlike(of_images);
        // Inodes of two images have the same numbers on different devices.
        of_images
            .values_mut()
            .zip(of_directories.values())
            .for_each(|(seen, other)| seen.same_as.clone_from(&other.same_as));
        same(&of_directories, &of_images);
    }
}

/// What is merged is of these very images: others in their place are not mistaken for them.
#[test]
fn a_merged_image_is_used_while_its_layers_are_what_they_were() {
    let base = tempfile::tempdir().unwrap();
    let Some([_, store]) = stores(base.path()) else { return };
    let layers = store.layers();
    let import = |archive: &[u8]| layers.import(None, archive).unwrap().diff_id;
    let archives = [Tar::default().file("a", "1").end(), Tar::default().file("b", "2").end()];
    let ids = archives.each_ref().map(|archive| import(archive));
    if !layers.merge(&ids).unwrap() {
        return println!("SKIP: images are mounted by loop devices here");
    }
    let first = std::fs::read(&layers.lower(&ids).unwrap()[0]).unwrap();
    assert!(layers.check_merged().unwrap().iter().all(|merged| merged.whole));
    // Stored again: another file, if with the same bytes.
    layers.remove(&ids[1]).unwrap();
    assert!(!layers.check_merged().unwrap().iter().any(|merged| merged.whole));
    import(&archives[1]);
    assert_eq!(layers.lower(&ids).unwrap().len(), 2);
    assert!(layers.merge(&ids).unwrap());
    let again = layers.lower(&ids).unwrap();
    assert!(std::fs::read(&again[0]).unwrap() == first);
    // Damage is found, and what is torn by a power cut is made again.
    let mut damaged = first.clone();
    *damaged.last_mut().unwrap() ^= 1;
    damaged[4000] ^= 1;
    std::fs::remove_file(&again[0]).unwrap();
    std::fs::write(&again[0], &damaged).unwrap();
    let found = layers.check_merged().unwrap();
    assert!(found.len() == 1 && !found[0].whole, "{found:?}");
    layers.remove_merged(&found[0].name).unwrap();
    assert!(layers.check_merged().unwrap().is_empty());
    assert_eq!(layers.lower(&ids).unwrap().len(), 2);
    assert!(layers.merge(&ids).unwrap());
    layers.retain_merged(&[Layers::merged_name(&ids).hex().to_owned()].into()).unwrap();
    assert_eq!(layers.lower(&ids).unwrap().len(), 1);
    layers.retain_merged(&std::collections::BTreeSet::new()).unwrap();
    assert_eq!(layers.lower(&ids).unwrap().len(), 2);
    store.forget_marks(Some(&[Layers::merged_name(&ids)])).unwrap();
    assert_eq!(std::fs::read_dir(store.path().join("unsettled")).unwrap().count(), 3);
    assert_eq!(std::fs::read_dir(store.path().join("staging")).unwrap().count(), 0);
}
