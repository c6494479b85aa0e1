//! Archives come back byte for byte; a tree that was changed is noticed.

mod support;

use std::io::Read;
use support::{Member, Scratch, Tar, root, view};

/// Every archive that takes a place twice, in every way.
#[test]
fn places_taken_twice() {
    if !root() {
        return;
    }
    let twice = Tar::default()
        .file("a", "first content")
        .file("a", "other content")
        .file("a", "third")
        .file("d/x", "in a directory that goes")
        .file("d/y", "in a directory that goes")
        .file("d", "a file in its place")
        .file("kept", "linked")
        .hard_link("b", "kept")
        .file("kept", "other!")
        .hard_link("a", "kept")
        .directory("real")
        .file("real/file", "1")
        .symlink("link", "real")
        .file("link/file", "2")
        .member(Member { path: b".wh.gone", data: b"a whiteout with content", ..Member::default() })
        .member(Member { path: b".wh..wh.plnk/1", data: b"left out", ..Member::default() })
        .file("./a", "with a dot")
        .file("/a", "absolute")
        .directory("b")
        .end();
    let scratch = Scratch::new();
    let layer = scratch.store.layers().import(None, &twice[..]).unwrap();
    assert!(scratch.rebuilt(&layer) == twice);
    assert_eq!(std::fs::read(view(&layer).join("a")).unwrap(), b"absolute");
    assert!(scratch.is_clean());
    // The check after a boot counts the same as the import.
    let path = scratch.store.path().to_owned();
    std::fs::write(path.join("boot"), "1 another\n").unwrap();
    let again = store::Store::open(&path, scratch.store.ownership()).unwrap();
    assert!(again.layers().contains(&layer.diff_id).unwrap());
}

fn damage_image(path: &std::path::Path, change: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(7).position(|part| part == b"content").unwrap();
    match change {
        "content" => bytes[at] ^= 0x20,
        "shorter" => bytes.truncate(4096),
        // The first inode of a regular file of that size.
        _ => {
            let is_inode =
                |part: &[u8]| part[4..6] == 0o100_644_u16.to_le_bytes() && part[8..16] == 7_u64.to_le_bytes();
            let inode = bytes.windows(64).position(is_inode).unwrap();
            bytes[inode..inode + 64].fill(0);
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_changed_tree_is_noticed() {
    if !root() {
        return;
    }
    for change in ["content", "shorter", "gone", "recipe"] {
        let scratch = Scratch::new();
        let archive = Tar::default().file("a", "content").file("b", "content").end();
        let layer = scratch.store.layers().import(None, &archive[..]).unwrap();
        let file = view(&layer).join("a");
        match change {
            _ if layer.backend == store::Backend::Erofs && change != "recipe" => damage_image(&layer.path, change),
            "content" => std::fs::write(file, "CONTENT").unwrap(),
            "shorter" => std::fs::write(file, "cont").unwrap(),
            "gone" => std::fs::remove_file(file).unwrap(),
            _ => {
                let recipe = layer.path.with_file_name("recipe");
                let mut bytes = std::fs::read(&recipe).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                std::fs::write(&recipe, bytes).unwrap();
            }
        }
        let result = scratch.store.layers().rebuild(&layer.diff_id).map(|mut rebuilt| {
            let mut bytes = Vec::new();
            rebuilt.read_to_end(&mut bytes).map(|_| bytes == archive)
        });
        assert!(!matches!(result, Ok(Ok(_))), "{change}: {result:?}");
    }
}

#[test]
fn trailing_bytes_and_no_end_mark() {
    if !root() {
        return;
    }
    let whole = Tar::default().file("a", &"x".repeat(100_000)).end();
    let scratch = Scratch::new();
    scratch.unpack(&[&whole[..], &[7; 70_000]].concat());
    scratch.unpack(&whole[..whole.len() - 1024]);
    scratch.unpack(&whole[..whole.len() - 512]);
    scratch.unpack(&[]);
}

#[test]
fn stacks_are_compared_as_overlayfs_shows_them() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let import = |tar: Tar| scratch.store.layers().import(None, &tar.end()[..]).unwrap().diff_id;
    let base = import(
        Tar::default()
            .directory("d")
            .file("d/a", "1")
            .file("d/b", "2")
            .file("same", "s")
            .file("f", "x")
            .directory("e")
            .file("e/x", ""),
    );
    let top = import(
        Tar::default()
            .file("d/a", "9")
            .file("d/.wh.b", "")
            .file("d/c", "new")
            .file("f", "x")
            .symlink("l", "f")
            .file(".wh.e", ""),
    );
    let rebased = import(Tar::default().directory("n").file("n/same", "s"));
    let text = |old: &[&oci::digest::Digest], new: &[&oci::digest::Digest]| {
        let owned = |list: &[&oci::digest::Digest]| list.iter().map(|&id| id.clone()).collect::<Vec<_>>();
        let changes = scratch.store.layers().compare(&owned(old), &owned(new)).unwrap();
        let line = |change: &store::Change| format!("{:?} {}", change.kind, String::from_utf8_lossy(&change.path));
        changes.iter().map(line).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        text(&[&base], &[&top, &base]),
        "Modified /d/a, Deleted /d/b, Added /d/c, Deleted /e, Deleted /e/x, Added /l"
    );
    assert_eq!(text(&[&base], &[&base]), "");
    assert_eq!(text(&[&base], &[&rebased, &base]), "Added /n, Added /n/same");
    assert_eq!(text(&[&rebased], &[]), "Deleted /n, Deleted /n/same");
}
