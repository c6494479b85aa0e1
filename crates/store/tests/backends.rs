//! The two back ends side by side: the same archive is the same tree, to the last attribute, and comes back byte for byte.

#![allow(clippy::print_stdout)] // SKIP lines are for whoever reads the test's output.

mod support;

use std::io::Read;
use std::path::Path;
use store::{Backend, Layer, Ownership, Store, Writable};
use support::{Member, Tar, chain, root, tree, view};

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

#[test]
fn one_archive_is_one_tree() {
    let base = tempfile::tempdir().unwrap();
    let Some(stores) = stores(base.path()) else { return };
    let archive = rich();
    let [_, image] = same(&stores, &archive);
    let output = std::process::Command::new("fsck.erofs").arg(&image.path).output();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => println!("SKIP: fsck.erofs: {error}"),
    }
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
