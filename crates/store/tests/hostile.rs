//! Archives that want out of their directory, or to break the store. Each trick has been a vulnerability of some engine or
//! tar program; the numbers are those of the CVE where there is one.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use support::{Member, Scratch, Tar, is_opaque, is_whiteout, root, tree, view};

/// A directory beside the store that no archive may touch, with a file of mode 0600 in a directory of mode 0700.
fn canary(scratch: &Scratch) -> std::path::PathBuf {
    let canary = scratch.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("file"), "untouched").unwrap();
    std::fs::set_permissions(canary.join("file"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o700)).unwrap();
    canary
}

/// Whatever the archive is, importing it must not change the canary, and an error must leave no trace.
fn attack(archive: impl Fn(&str) -> Vec<u8>) -> (Scratch, Result<std::path::PathBuf, String>) {
    let scratch = Scratch::new();
    let canary = canary(&scratch);
    let before = tree(&canary);
    let result = scratch.store.layers().import(None, &archive(canary.to_str().unwrap())[..]);
    assert_eq!(tree(&canary), before, "the canary was touched");
    assert!(scratch.is_clean(), "something was left in staging");
    let names: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let result = result.map(|layer| view(&layer)).map_err(|error| support::chain(&error));
    (scratch, result)
}

#[test]
fn absolute_names_stay_inside() {
    if !root() {
        return;
    }
    let (_scratch, result) = attack(|canary| Tar::default().file(&format!("{canary}/file"), "evil").end());
    let layer = result.unwrap();
    assert_eq!(std::fs::read_dir(layer).unwrap().count(), 1);
    let (_scratch, result) = attack(|_| Tar::default().file("///etc//./passwd", "x").end());
    assert_eq!(std::fs::read_to_string(result.unwrap().join("etc/passwd")).unwrap(), "x");
}

#[test]
fn dot_dot_is_refused_everywhere() {
    if !root() {
        return;
    }
    for path in ["../canary/file", "a/../../canary/file", "..", "a/..", "/..", "./..//x", "a/../b"] {
        let (_scratch, result) = attack(|_| Tar::default().directory("a").file(path, "evil").end());
        assert!(result.as_ref().is_err_and(|error| error.contains("\"..\"")), "{path}: {result:?}");
        let (_scratch, result) = attack(|_| Tar::default().file("f", "x").hard_link("g", path).end());
        assert!(result.as_ref().is_err_and(|error| error.contains("outside the layer")), "{path}: {result:?}");
    }
    // As a link's text it is data.
    let (_scratch, result) = attack(|_| Tar::default().symlink("l", "../../../canary/file").end());
    assert!(result.unwrap().join("l").is_symlink());
}

/// CVE-2014-6407, CVE-2025-47290: a link to a directory outside, then a file through it.
#[test]
fn a_parent_that_is_a_link_outside() {
    if !root() {
        return;
    }
    for relative in [false, true] {
        let (_scratch, result) = attack(|canary| {
            let target = if relative { format!("../../../../../../../../../..{canary}") } else { canary.to_owned() };
            Tar::default().symlink("out", &target).file("out/file", "evil").end()
        });
        // Inside the layer there is no such directory.
        assert!(result.as_ref().is_err_and(|error| error.contains("not a directory")), "{result:?}");
        let (_scratch, result) = attack(|canary| {
            let target = if relative { format!("../../../../../../../../../..{canary}") } else { canary.to_owned() };
            // With the directory made inside first, the link leads there, as it would in the container.
            Tar::default().directory(canary).symlink("out", &target).file("out/file", "kept inside").end()
        });
        let layer = result.unwrap();
        let inside = std::fs::read_link(layer.join("out")).unwrap();
        let inside = inside.to_str().unwrap().replace("../", "");
        assert_eq!(
            std::fs::read_to_string(layer.join(inside.trim_start_matches('/')).join("file")).unwrap(),
            "kept inside"
        );
    }
}

/// What building systems write: `lib -> usr/lib`, then `lib/x`. Followed inside the layer, as Docker does.
#[test]
fn a_parent_that_is_a_link_inside() {
    if !root() {
        return;
    }
    let (_scratch, result) = attack(|_| {
        Tar::default()
            .directory("usr/lib")
            .symlink("lib", "usr/lib")
            .symlink("abs", "/usr/lib")
            .symlink("usr/up", "../usr/lib/../lib")
            .file("lib/a", "a")
            .file("abs/new/b", "b")
            .file("usr/up/c", "c")
            .hard_link("lib/d", "abs/new/b")
            .end()
    });
    let layer = result.unwrap();
    for (name, text) in [("a", "a"), ("new/b", "b"), ("c", "c"), ("d", "b")] {
        assert_eq!(std::fs::read_to_string(layer.join("usr/lib").join(name)).unwrap(), text);
    }
    assert!(layer.join("lib").is_symlink());
    // Loops and links to files end in an error.
    for link in ["loop", "file", "gone", "/proc/self/root", "."] {
        let (_scratch, result) =
            attack(|_| Tar::default().file("file", "").symlink("loop", link).file("loop/x", "").end());
        assert_eq!(result.is_ok(), link == ".", "{link}: {result:?}");
    }
}

#[test]
fn hard_links_through_links_and_to_the_outside() {
    if !root() {
        return;
    }
    let (_scratch, result) = attack(|canary| Tar::default().hard_link("h", &format!("{canary}/file")).end());
    assert!(result.unwrap_err().contains("not in this layer"));
    let (_scratch, result) =
        attack(|canary| Tar::default().symlink("d", canary).hard_link("h", "d/file").file("h", "evil").end());
    assert!(result.unwrap_err().contains("not a directory"));
    // A link to a link is the link, and writing to it replaces it.
    let (_scratch, result) = attack(|canary| {
        Tar::default().symlink("s", &format!("{canary}/file")).hard_link("h", "s").file("h", "mine").end()
    });
    let layer = result.unwrap();
    assert!(layer.join("s").is_symlink());
    assert_eq!(std::fs::read_to_string(layer.join("h")).unwrap(), "mine");
    for (link, target, problem) in [
        ("h", "h", "the link itself"),
        ("./h", "//h", "the link itself"),
        ("h", "", "no name"),
        ("h", "/", "the layer itself"),
        ("h", "d", "a directory"),
        ("h", "nothing", "not in this layer"),
        ("d", "d/f", "not in this layer"),
    ] {
        let (_scratch, result) =
            attack(|_| Tar::default().directory("d").file("d/f", "").hard_link(link, target).end());
        let error = result.unwrap_err();
        assert!(error.contains(problem), "{link} -> {target}: {error}");
    }
}

/// CVE-2021-32760, CVE-2026-33056: a directory entry over a link must not change what the link points to.
#[test]
fn a_directory_over_a_link_replaces_it() {
    if !root() {
        return;
    }
    let (_scratch, result) = attack(|canary| {
        Tar::default()
            .symlink("d", canary)
            .member(Member { path: b"d/", kind: b'5', mode: 0o777, uid: 7, ..Member::default() })
            .file("d/file", "mine")
            .end()
    });
    let layer = result.unwrap();
    assert!(!layer.join("d").is_symlink());
    assert_eq!(layer.join("d").metadata().unwrap().mode() & 0o7777, 0o777);
    assert_eq!(std::fs::read_to_string(layer.join("d/file")).unwrap(), "mine");
    // The other way round, and the directory's own wishes at the end do not follow the new link.
    let (_scratch, result) = attack(|canary| {
        Tar::default()
            .member(Member { path: b"d/", kind: b'5', mode: 0o777, uid: 7, ..Member::default() })
            .file("d/x", "")
            .symlink("d", canary)
            .end()
    });
    assert!(result.unwrap().join("d").is_symlink());
}

/// CVE-2021-29136: the root itself.
#[test]
fn the_root_stays_a_directory() {
    if !root() {
        return;
    }
    for path in [".", "./", "/", "//./", "./."] {
        for kind in [b'0', b'1', b'2', b'3', b'4', b'6'] {
            let (_scratch, result) = attack(|canary| {
                Tar::default()
                    .member(Member { path: path.as_bytes(), kind, link: canary.as_bytes(), ..Member::default() })
                    .file("x", "")
                    .end()
            });
            assert!(result.is_err_and(|error| error.contains("root of a layer")));
        }
        let (_scratch, result) = attack(|_| {
            Tar::default().member(Member { path: path.as_bytes(), kind: b'5', mode: 0o1711, ..Member::default() }).end()
        });
        assert_eq!(result.unwrap().metadata().unwrap().mode() & 0o7777, 0o1711);
    }
    let (_scratch, result) = attack(|_| Tar::default().file("", "").end());
    assert!(result.is_err());
}

#[test]
fn whiteouts_of_nothing_and_of_the_parents() {
    if !root() {
        return;
    }
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh...", "/.wh../", "d/.wh."] {
        let (_scratch, result) = attack(|_| Tar::default().directory("d").file("d/f", "").file(name, "").end());
        assert!(result.as_ref().is_err_and(|error| error.contains("whiteout")), "{name}: {result:?}");
    }
    let (_scratch, result) = attack(|canary| Tar::default().symlink("out", canary).file("out/.wh.file", "").end());
    assert!(result.is_err());
    // Names that AUFS kept for itself mean nothing, wherever they stand.
    let (_scratch, result) = attack(|_| {
        Tar::default().file(".wh..wh.aufs", "").directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").end()
    });
    assert_eq!(std::fs::read_dir(result.unwrap()).unwrap().count(), 0);
}

#[test]
fn names_that_are_too_long_or_odd() {
    if !root() {
        return;
    }
    let (_scratch, result) = attack(|_| Tar::default().file(&"n".repeat(256), "").end());
    assert!(result.unwrap_err().contains("ENAMETOOLONG"));
    let (_scratch, result) = attack(|_| Tar::default().file(&"d/".repeat(2100), "").end());
    assert!(result.unwrap_err().contains("too long"));
    let (_scratch, result) = attack(|_| Tar::default().file(&"d/".repeat(300), "").end());
    assert!(result.unwrap_err().contains("too long"));
    let deep = format!("{}file", "d/".repeat(250));
    let (scratch, result) = attack(|_| {
        Tar::default().file(&deep, "deep").hard_link("top", &deep).file(&deep.replace("file", "g"), "").end()
    });
    let layer = result.unwrap();
    assert_eq!(std::fs::read_to_string(layer.join(&deep)).unwrap(), "deep");
    let id = scratch.store.layers().list().unwrap().remove(0);
    assert!(scratch.store.layers().remove(&id).unwrap());
    // A line feed, a control character and bytes that are no UTF-8 are names like others; a NUL ends an old name and
    // is refused in an extended one.
    let (_scratch, result) =
        attack(|_| Tar::default().member(Member { path: b"a\nb\x1b[2J\xff", data: b"x", ..Member::default() }).end());
    assert!(tree(&result.unwrap()).contains_key("a\\nb\\x1b[2J\\xff"));
    let (_scratch, result) = attack(|_| Tar::default().pax(&[("path", b"a\0b")]).file("x", "").end());
    assert!(result.unwrap_err().contains("extended header record"));
    let (_scratch, result) = attack(|_| Tar::default().symlink("l", &"t".repeat(5000)).end());
    assert!(result.unwrap_err().contains("ENAMETOOLONG"));
}

#[test]
fn devices_and_types_that_are_not_there() {
    if !root() {
        return;
    }
    for device in [(4096, 0), (0, 1 << 20), (0o7_777_777, 0o7_777_777)] {
        let (_scratch, result) =
            attack(|_| Tar::default().member(Member { path: b"d", kind: b'3', device, ..Member::default() }).end());
        assert!(result.unwrap_err().contains("out of range"));
    }
    let (_scratch, result) =
        attack(|_| Tar::default().member(Member { path: b"d", kind: b'D', ..Member::default() }).end());
    assert!(result.unwrap_err().contains("unknown member type 0x44"));
    // A device 0:0 is what overlayfs takes for a whiteout, so that is what it is.
    let (_scratch, result) =
        attack(|_| Tar::default().member(Member { path: b"d", kind: b'3', mode: 0o666, ..Member::default() }).end());
    assert!(is_whiteout(&result.unwrap().join("d")));
    // A file through a device or pipe that the archive brought.
    for kind in [b'3', b'4', b'6'] {
        let (_scratch, result) = attack(|_| {
            Tar::default()
                .member(Member { path: b"d", kind, device: (1, 3), ..Member::default() })
                .file("d/x", "")
                .end()
        });
        assert!(result.unwrap_err().contains("not a directory"));
        let (_scratch, result) = attack(|_| {
            Tar::default()
                .member(Member { path: b"d", kind, device: (1, 3), ..Member::default() })
                .file("d", "file")
                .end()
        });
        assert_eq!(std::fs::read_to_string(result.unwrap().join("d")).unwrap(), "file");
    }
}

/// overlayfs would believe these and show another layer's or no content.
#[test]
fn overlay_attributes_are_not_taken_from_archives() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let archive = Tar::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.metacopy", b""),
            ("SCHILY.xattr.user.kept", b"yes"),
        ])
        .directory("d")
        .end();
    let layer = scratch.store.layers().import(None, &archive[..]).unwrap();
    assert_eq!(layer.warnings.len(), 3, "{:?}", layer.warnings);
    assert!(!is_opaque(&view(&layer).join("d")));
    assert_eq!(support::xattrs(&view(&layer).join("d")).len(), 1);
}

/// CVE-2025-62518: the size in the extended header decides where the next header is.
#[test]
fn a_member_hidden_behind_two_sizes() {
    if !root() {
        return;
    }
    let hidden = Tar::default().file("hidden", "evil").0;
    let mut archive = Tar::default().pax(&[("size", hidden.len().to_string().as_bytes())]);
    // The header itself says 0, so a reader that believes it would find a member in the data.
    archive = archive.file("outer", "");
    archive.0.extend(&hidden);
    let archive = Tar(archive.0).file("last", "").end();
    let scratch = Scratch::new();
    let layer = scratch.unpack(&archive);
    assert_eq!(std::fs::read(layer.join("outer")).unwrap(), hidden);
    assert!(!layer.join("hidden").exists() && layer.join("last").exists());
}

#[test]
fn truncated_and_corrupt_archives_name_the_place() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let whole = Tar::default().file("a", &"a".repeat(1000)).file("b", "b").end();
    for (cut, text) in [(300, "ends at byte 300, inside a header"), (1000, "ends at byte 1000, inside a file")] {
        let error = scratch.refuse(&whole[..cut]);
        assert!(error.contains(text), "{cut}: {error}");
    }
    let mut broken = whole.clone();
    broken[1536 + 5] ^= 1;
    assert!(scratch.refuse(&broken).contains("invalid tar header at byte 1536: check sum"));
    // With the diffID known, that is what is told.
    let expected = oci::digest::Digest::sha256(&whole);
    let error = support::chain(&scratch.store.layers().import(Some(&expected), &broken[..]).unwrap_err());
    assert!(error.contains(&format!("expected {expected}, got sha256:")) && error.contains("check sum"), "{error}");
    assert!(scratch.is_clean());
    assert!(scratch.store.layers().list().unwrap().is_empty());
}

/// A set-group-id directory and a default ACL must not reach what is unpacked in them.
#[test]
fn nothing_is_inherited_from_directories_of_the_archive() {
    if !root() {
        return;
    }
    // Version 2, then user::rwx, user:1:rwx, group::rwx, mask::rwx, other::r-x.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1), (4, 7, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let scratch = Scratch::new();
    let archive = Tar::default()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .member(Member { path: b"d", kind: b'5', mode: 0o2770, gid: 50, ..Member::default() })
        .file("d/f", "")
        .directory("d/e")
        .end();
    let layer = scratch.unpack(&archive);
    let stat = |name: &str| layer.join(name).symlink_metadata().unwrap();
    assert_eq!((stat("d").mode() & 0o7777, stat("d").gid()), (0o2770, 50));
    assert_eq!((stat("d/f").mode() & 0o7777, stat("d/f").gid()), (0o644, 0));
    assert_eq!((stat("d/e").mode() & 0o7777, stat("d/e").gid()), (0o755, 0));
    assert!(support::xattrs(&layer.join("d/f")).is_empty() && support::xattrs(&layer.join("d/e")).is_empty());
    assert_eq!(support::xattrs(&layer.join("d"))["system.posix_acl_default"], acl);
}

#[test]
fn bombs_end_early() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let mut options = store::ImportOptions::default();
    options.decompress.ratio_from = 1 << 20;
    options.decompress.ratio = 100;
    // 64 MiB of zeros in one member.
    let zeros = Tar::default().raw(b'0', b"zeros", &vec![0; 64 << 20], &Member::default()).end();
    let bomb = zstd::encode_all(&zeros[..], 3).unwrap();
    let error = support::chain(&scratch.store.layers().import_with(None, &bomb[..], &options).unwrap_err());
    assert!(error.contains("decompression bomb"), "{error}");
    options.decompress.ratio = u64::MAX;
    options.decompress.plain_bytes = 10 << 20;
    let error = support::chain(&scratch.store.layers().import_with(None, &bomb[..], &options).unwrap_err());
    assert!(error.contains("beyond the limit of 10485760 bytes"), "{error}");
    options.decompress.plain_bytes = u64::MAX;
    options.archive.entries = 3;
    let many = Tar::default().file("a", "").file("b", "").file("c", "").file("d", "").end();
    let error = support::chain(&scratch.store.layers().import_with(None, &many[..], &options).unwrap_err());
    assert!(error.contains("beyond a limit") && error.contains("members"), "{error}");
    assert!(scratch.is_clean());
}

#[test]
fn a_directory_outside_is_not_reached_by_names_in_other_layers() {
    if !root() {
        return;
    }
    // Two layers of one image are two directories: a link in the first is not there for the second.
    let scratch = Scratch::new();
    let canary = canary(&scratch);
    let before = tree(&canary);
    scratch.unpack(&Tar::default().symlink("d", canary.to_str().unwrap()).end());
    let second = scratch.unpack(&Tar::default().file("d/file", "mine").end());
    assert_eq!(std::fs::read_to_string(second.join("d/file")).unwrap(), "mine");
    assert_eq!(tree(&canary), before);
    assert!(Path::new(&canary).exists());
}
