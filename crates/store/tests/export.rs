//! The way back: what a container changed, as a list and as a layer, and its whole tree. The judge is overlayfs itself,
//! mounted in a mount namespace of a process of its own.

#![allow(clippy::print_stdout)] // SKIP lines.

mod support;

use oci::digest::Digest;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use store::{ChangeKind, Writable};
use support::{Member, Scratch, Seen, Tar, root, tree};

fn layers(scratch: &Scratch) -> Vec<Digest> {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let base = Tar::default()
        .directory("etc")
        .file("etc/passwd", "root")
        .file("etc/group", "root")
        .directory("opt/tool/bin")
        .file("opt/tool/bin/run", "elf")
        .file("opt/tool/readme", "text")
        .directory("srv/old")
        .file("srv/old/a", "a")
        .file("srv/old/b", "b")
        .symlink("lib", "usr/lib")
        .file("usr/lib/so", "so")
        .file("file-then-directory", "x")
        .directory("directory-then-file")
        .file("directory-then-file/x", "x");
    let middle = Tar::default()
        .file("etc/.wh.group", "")
        .file("srv/old/.wh..wh..opq", "")
        .file("srv/old/c", "c")
        .file(".wh.file-then-directory", "")
        .directory("file-then-directory")
        .file("file-then-directory/y", "y")
        .file("directory-then-file", "now a file")
        .hard_link("linked", "srv/old/c");
    let top = Tar::default()
        .file("etc/group", "again")
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.user.x", b"1")])
        .member(Member { path: b"bin/ping", data: b"elf", mode: 0o4755, uid: 1, gid: 2, ..Member::default() })
        .member(Member { path: b"dev/null", kind: b'3', mode: 0o666, device: (1, 3), ..Member::default() })
        .member(Member { path: b"run", kind: b'5', mode: 0o1777, ..Member::default() });
    // Topmost first.
    [top, middle, base].map(|archive| scratch.store.layers().import(None, &archive.end()[..]).unwrap().diff_id).into()
}

/// Mounts as the runtime does, runs a script in the merged tree, and archives what is there with GNU tar.
fn in_overlay(scratch: &Scratch, writable: &Writable<'_>, layers: &[Digest], script: &str) -> Option<Vec<u8>> {
    let lower = scratch.store.layers().lower(layers).unwrap();
    let lower: Vec<_> = lower.iter().map(|path| path.to_str().unwrap()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        lower.join(":"),
        writable.upper().display(),
        writable.work().display()
    );
    let merged = scratch.path().join("merged");
    std::fs::create_dir_all(&merged).unwrap();
    let archive = scratch.path().join("merged.tar");
    let script = format!(
        "mount -t overlay overlay -o \"$1\" \"$2\" || exit 42; cd \"$2\"; {script}\ntar -cf \"$3\" --xattrs --xattrs-include='*' --numeric-owner --sort=name ."
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-euc", &script, "sh", &options])
        .args([&merged, &archive])
        .output()
        .unwrap();
    if output.status.code() == Some(42) {
        println!("SKIP: no overlayfs here: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(archive).unwrap())
}

/// What an archive unpacks to, without what differs for good reasons: times of the root and parts of a second.
fn unpacked(archive: &[u8]) -> BTreeMap<String, Seen> {
    let scratch = Scratch::new();
    let mut tree = tree(&scratch.unpack(archive));
    tree.remove(".");
    for seen in tree.values_mut() {
        seen.mtime.1 = 0;
    }
    tree
}

const SCRIPT: &str = "
    echo changed >> etc/passwd
    mkdir -p srv/new/deep; echo n > srv/new/deep/file; touch -d '2001-01-01 UTC' srv/new/deep srv/new srv
    rm etc/group
    rm -r opt/tool; mkdir -m 700 opt/tool; echo other > opt/tool/other
    rm lib; ln -s usr/lib64 lib
    ln srv/old/c srv/old/d
    chmod 750 run
    mkfifo pipe
    echo late > bin/late
";

#[test]
fn changes_and_archives_agree_with_overlayfs() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let layers = layers(&scratch);
    let writable = Writable::create(&scratch.store, "c1", &layers).unwrap();
    let Some(before) = in_overlay(&scratch, &writable, &layers, "") else { return };
    assert_eq!(writable.changes(&layers, &[]).unwrap(), []);
    let export = writable.export(&layers, Vec::new()).unwrap();
    assert_eq!(unpacked(&export), unpacked(&before));
    assert_eq!(writable.export(&layers, Vec::new()).unwrap(), export);

    let after = in_overlay(&scratch, &writable, &layers, SCRIPT).unwrap();
    assert_eq!(unpacked(&writable.export(&layers, Vec::new()).unwrap()), unpacked(&after));
    let changes: Vec<_> = writable
        .changes(&layers, &[])
        .unwrap()
        .into_iter()
        .map(|change| {
            let letter = match change.kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", String::from_utf8(change.path).unwrap())
        })
        .collect();
    // No "C /linked": overlayfs without an index breaks the link of a file that is copied up.
    assert_eq!(
        changes,
        [
            "C /bin",
            "A /bin/late",
            "C /etc",
            "D /etc/group",
            "C /etc/passwd",
            "C /lib",
            "C /opt",
            "C /opt/tool",
            "D /opt/tool/bin",
            "A /opt/tool/other",
            "D /opt/tool/readme",
            "A /pipe",
            "C /run",
            "C /srv",
            "A /srv/new",
            "A /srv/new/deep",
            "A /srv/new/deep/file",
            "C /srv/old",
            "C /srv/old/c",
            "A /srv/old/d",
        ]
    );

    // The changes as a fourth layer show the same tree in a container of their own.
    let committed = writable.commit(&[]).unwrap();
    assert_eq!(committed.diff_id, Digest::sha256(&writable.pack(&[], Vec::new()).unwrap()));
    assert!(committed.warnings.is_empty(), "{:?}", committed.warnings);
    let mut all = vec![committed.diff_id];
    all.extend(layers);
    let second = Writable::create(&scratch.store, "c2", &all).unwrap();
    let mounted = in_overlay(&scratch, &second, &all, "").unwrap();
    let (mut a, mut b) = (unpacked(&mounted), unpacked(&after));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for tree in [&mut a, &mut b] {
        // Times of directories that were copied up have fractions that a layer does not keep; compared above.
        tree.values_mut().filter(|seen| seen.kind == "Directory").for_each(|seen| seen.mtime = (0, 0));
    }
    assert_eq!(a, b);
}

#[test]
fn a_packed_layer_unpacks_to_the_same_layer() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    for id in layers(&scratch) {
        let packed = scratch.store.layers().pack(&id, Vec::new()).unwrap();
        let second = Scratch::new();
        let path = second.unpack(&packed);
        let normal = |path: &Path| {
            let mut tree = tree(path);
            tree.remove(".");
            for seen in tree.values_mut() {
                seen.mtime.1 = 0;
                if seen.kind == "CharacterDevice" && seen.device == 0 {
                    seen.mtime = (0, 0);
                }
            }
            tree
        };
        assert_eq!(normal(&path), normal(&support::view(&scratch.store.layers().get(&id).unwrap())));
        // And GNU tar can list it.
        let file = second.path().join("packed.tar");
        std::fs::write(&file, &packed).unwrap();
        let output = Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

/// overlayfs ignores the mark on the root of a layer, so the layers below are left out of the mount.
#[test]
fn an_opaque_root_hides_all_layers_below() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let layer = |archive: Tar| scratch.store.layers().import(None, &archive.end()[..]).unwrap().diff_id;
    let layers = [
        layer(Tar::default().file("top", "")),
        layer(Tar::default().file("middle", "").file(".wh..wh..opq", "")),
        layer(Tar::default().file("bottom", "")),
    ];
    let writable = Writable::create(&scratch.store, "c", &layers).unwrap();
    let names = |archive: &[u8]| unpacked(archive).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&writable.export(&layers, Vec::new()).unwrap()), ["middle", "top"]);
    assert_eq!(scratch.store.layers().lower(&layers).unwrap().len(), 2);
    if let Some(mounted) = in_overlay(&scratch, &writable, &layers, "echo new > bottom") {
        assert_eq!(names(&mounted), ["bottom", "middle", "top"]);
        assert_eq!(writable.changes(&layers, &[]).unwrap()[0].kind, ChangeKind::Added);
    }
}
