//! What a layer looks like after its import. The contract holds for every back end that is added.

mod support;

use flate2::Compression;
use flate2::write::GzEncoder;
use oci::digest::Digest;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Member, Scratch, Tar, chain, is_opaque, is_whiteout, root, tree, view};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sample() -> Vec<u8> {
    let mut big = String::new();
    for n in 0..200_000 {
        big += &format!("{n} ");
    }
    Tar::default()
        .directory("etc")
        .file("etc/hostname", "box\n")
        .file("implied/parent/file", "x")
        .symlink("etc/link", "hostname")
        .hard_link("etc/again", "etc/hostname")
        .member(Member { path: b"bin/su", data: b"elf", mode: 0o4755, ..Member::default() })
        .member(Member { path: b"home/user", kind: b'5', mode: 0o700, uid: 1000, gid: 100, ..Member::default() })
        .member(Member { path: b"pipe", kind: b'6', mode: 0o622, ..Member::default() })
        .member(Member { path: b"null", kind: b'3', mode: 0o666, device: (1, 3), ..Member::default() })
        .file("big", &big)
        .end()
}

#[test]
fn every_compression_gives_the_same_layer() {
    if !root() {
        return;
    }
    let plain = sample();
    let diff_id = Digest::sha256(&plain);
    let halves = [gzip(&plain[..700]), gzip(&plain[700..]), vec![0; 100]].concat();
    let frames = [
        zstd::encode_all(&plain[..5000], 3).unwrap(),
        vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
        zstd::encode_all(&plain[5000..], 3).unwrap(),
    ]
    .concat();
    let mut trees = Vec::new();
    for stream in [plain.clone(), gzip(&plain), halves, zstd::encode_all(&plain[..], 19).unwrap(), frames] {
        let scratch = Scratch::new();
        let layer = scratch.store.layers().import(Some(&diff_id), &stream[..]).unwrap();
        assert_eq!(layer.diff_id, diff_id);
        assert_eq!((layer.entries, layer.archive_size), (10, plain.len() as u64));
        assert!(layer.warnings.is_empty() && !layer.existed && scratch.is_clean());
        let mut tree = tree(&view(&layer));
        // Directories that the archive does not mention have the time of their making.
        for name in [".", "bin", "home", "implied", "implied/parent"] {
            tree.get_mut(name).unwrap().mtime = (0, 0);
        }
        trees.push(tree);
    }
    let first = trees.remove(0);
    assert!(trees.iter().all(|tree| *tree == first));
    assert_eq!(first["etc/again"].same_as, "etc/again");
    assert_eq!(first["etc/hostname"].same_as, "etc/again");
    assert_eq!(first["bin/su"].mode, 0o4755);
    assert_eq!((first["home/user"].mode, first["home/user"].owner), (0o700, (1000, 100)));
    assert_eq!((first["implied"].mode, first["implied/parent"].owner), (0o755, (0, 0)));
    assert_eq!((first["pipe"].mode, first["null"].mode), (0o622, 0o666));
    assert_eq!(first["null"].device, rustix::fs::makedev(1, 3));
    assert!(["etc", "etc/link", "pipe", "null", "big"].iter().all(|name| first[*name].mtime == (1_700_000_000, 0)));
}

#[test]
fn other_compressions_are_refused_by_name() {
    let scratch = Scratch::new();
    for (magic, name) in
        [(&b"\xfd7zXZ\0\0\0\0\0\0"[..], "xz"), (b"BZh91AY&SY0000", "bzip2"), (b"\x04\x22\x4d\x18aaaaaaaa", "lz4")]
    {
        let error = scratch.refuse(magic);
        assert!(error.contains(&format!("compressed with {name}, which is not supported")), "{error}");
    }
}

#[test]
fn corrupt_streams_are_refused() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let whole = gzip(&sample());
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x55;
    let junk = [&whole[..], b"junk"].concat();
    for (stream, text) in [
        (&whole[..whole.len() - 4], "truncated"),
        (&flipped, "the gzip stream is"),
        (&junk, "trailing bytes are no gzip member"),
    ] {
        let error = scratch.refuse(stream);
        assert!(error.contains(text), "{error}");
    }
    let whole = zstd::encode_all(&sample()[..], 3).unwrap();
    assert!(scratch.refuse(&whole[..whole.len() - 1]).contains("truncated"));
    assert!(scratch.refuse(&[&whole[..], b"junk"].concat()).contains("corrupt"));
    assert!(scratch.is_clean());
}

/// A source that finds out at its end that its bytes were wrong, as a registry's blob does.
struct Suspicious<'a>(&'a [u8]);

impl Read for Suspicious<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(std::io::Error::other("blob sha256:a has digest sha256:b")),
            count => Ok(count),
        }
    }
}

#[test]
fn the_sources_own_error_comes_first() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let mut flipped = gzip(&sample());
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let mut broken = sample();
    broken[3] ^= 1;
    for stream in [&flipped, &broken, &gzip(&sample())] {
        let error = scratch.store.layers().import(Some(&Digest::sha256(b"")), Suspicious(stream)).unwrap_err();
        assert_eq!(chain(&error), "read the incoming data: blob sha256:a has digest sha256:b");
    }
    let error = scratch.store.layers().import(Some(&Digest::sha256(b"")), &sample()[..]).unwrap_err();
    let expected = Digest::sha256(b"");
    assert!(chain(&error).contains(&format!("expected {expected}, got {}", Digest::sha256(&sample()))));
    assert!(scratch.is_clean());
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    if !root() {
        return;
    }
    let layer = |archive: Tar| {
        let scratch = Scratch::new();
        let path = scratch.unpack(&archive.end());
        (scratch, path)
    };
    // Plain, in a directory of this layer and in one that is only implied.
    let (_scratch, path) =
        layer(Tar::default().file(".wh.gone", "").directory("d").file("d/.wh.x", "").file("e/.wh.y", ""));
    assert!(is_whiteout(&path.join("gone")) && is_whiteout(&path.join("d/x")) && is_whiteout(&path.join("e/y")));
    // Opaque, before and after the directory and its content.
    for archive in [
        Tar::default().file("d/.wh..wh..opq", "").directory("d").file("d/f", ""),
        Tar::default().directory("d").file("d/f", "").file("d/.wh..wh..opq", ""),
    ] {
        let (_scratch, path) = layer(archive);
        assert!(is_opaque(&path.join("d")) && path.join("d/f").is_file());
        assert!(!path.join("d/.wh..wh..opq").exists());
    }
    let (_scratch, path) = layer(Tar::default().file(".wh..wh..opq", "").file("f", ""));
    assert!(is_opaque(&path) && path.join("f").is_file());
    // A whiteout and an entry of the same name: the entry stays, and what lower layers have stays hidden.
    for archive in [
        Tar::default().file(".wh.d", "").directory("d").file("d/f", ""),
        Tar::default().directory("d").file("d/f", "").file(".wh.d", ""),
        Tar::default().file(".wh.d", "").file("d/f", ""),
        Tar::default().file("d", "").directory("d").file("d/f", ""),
    ] {
        let (_scratch, path) = layer(archive);
        assert!(is_opaque(&path.join("d")) && path.join("d/f").is_file());
    }
    for archive in [Tar::default().file(".wh.f", "").file("f", "x"), Tar::default().file("f", "x").file(".wh.f", "")] {
        let (_scratch, path) = layer(archive);
        assert_eq!(std::fs::read(path.join("f")).unwrap(), b"x");
    }
}

#[test]
fn of_two_entries_the_last_wins() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.unpack(
        &Tar::default()
            .file("file", "1")
            .file("file", "2")
            .file("was-file/x", "")
            .file("was-file", "now")
            .symlink("link", "file")
            .file("link", "3")
            .file("linked", "old")
            .hard_link("second", "linked")
            .file("linked", "new")
            .member(Member { path: b"d", kind: b'5', mode: 0o700, uid: 5, ..Member::default() })
            .file("d/kept", "")
            .member(Member { path: b"d", kind: b'5', mode: 0o751, ..Member::default() })
            .end(),
    );
    let seen = tree(&path);
    for (name, text) in [("file", "2"), ("was-file", "now"), ("link", "3"), ("linked", "new"), ("second", "old")] {
        assert_eq!(seen[name].content, text.as_bytes(), "{name}");
    }
    assert_eq!((seen["d"].mode, seen["d"].owner), (0o751, (0, 0)));
    assert!(seen.contains_key("d/kept"));
    // The books agree, so the check after a boot keeps the layer.
    let id = scratch.store.layers().list().unwrap().remove(0);
    assert_eq!(scratch.store.layers().get(&id).unwrap().size, 12);
}

#[test]
fn attributes_ids_times_and_sizes_beyond_the_old_header() {
    if !root() {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let scratch = Scratch::new();
    let path = scratch.unpack(
        &Tar::default()
            .pax(&[
                ("SCHILY.xattr.security.capability", &capability),
                ("uid", b"4000000000"),
                ("gid", b"3000000000"),
                ("mtime", b"-1.5"),
            ])
            .file("ping", "elf")
            .pax(&[("LIBARCHIVE.xattr.user.a%3Db", b"dmFsdWU"), ("mtime", b"5000000000.123456789")])
            .directory("d")
            .pax(&[("path", "ünï".repeat(40).as_bytes())])
            .file("short", "x")
            .end(),
    );
    let seen = tree(&path);
    assert_eq!(seen["ping"].owner, (4_000_000_000, 3_000_000_000));
    assert_eq!(seen["ping"].xattrs["security.capability"], capability);
    assert_eq!(seen["ping"].mtime, (-2, 500_000_000));
    assert_eq!((seen["d"].mtime.0, &seen["d"].xattrs["user.a=b"][..]), (5_000_000_000, &b"value"[..]));
    assert_eq!(
        seen["short".replace("short", &"ünï".repeat(40).as_bytes().escape_ascii().to_string()).as_str()].content,
        b"x"
    );
    for id in ["4294967295", "4294967296", "9223372036854775807"] {
        let error = scratch.refuse(&Tar::default().pax(&[("uid", id.as_bytes())]).file("f", "").end());
        assert!(error.contains(&format!("owner {id}:0 does not exist")), "{error}");
    }
}

#[test]
fn a_layer_is_found_read_removed() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let layers = scratch.store.layers();
    let id = layers.import(None, &sample()[..]).unwrap().diff_id;
    assert!(layers.contains(&id).unwrap());
    assert_eq!(layers.list().unwrap(), std::slice::from_ref(&id));
    let path = layers.path(&id).unwrap();
    assert!(view(&layers.get(&id).unwrap()).join("etc/hostname").is_file());
    let du = |path: &Path| {
        let output = std::process::Command::new("du").arg("-s").arg("-B1").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(layers.disk_usage(&id).unwrap(), du(path.parent().unwrap()));
    // A second import reads nothing.
    let again = layers.import(Some(&id), Suspicious(b"")).unwrap();
    assert!(again.existed && again.path == path);
    // And without the diffID it ends up at the same layer.
    assert!(layers.import(None, &gzip(&sample())[..]).unwrap().existed);
    assert!(scratch.is_clean());
    assert!(layers.remove(&id).unwrap());
    assert!(!layers.remove(&id).unwrap() && !layers.contains(&id).unwrap());
    assert!(matches!(layers.path(&id), Err(store::StoreError::NoSuchLayer(_))));
    assert!(matches!(layers.get(&id), Err(store::StoreError::NoSuchLayer(_))));
    assert!(scratch.is_clean());
}

#[test]
fn layers_that_are_taken_away_are_gone_before_their_files() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let layers = scratch.store.layers();
    let archive = |n: usize| Tar::default().file("f", &n.to_string()).directory("d").end();
    // More than are held at once.
    let ids: Vec<Digest> = (0..70).map(|n| layers.import(None, &archive(n)[..]).unwrap().diff_id).collect();
    let mut removal = layers.removal();
    for id in &ids {
        assert!(removal.take(id).unwrap());
        assert!(!removal.take(id).unwrap() && !layers.contains(id).unwrap());
    }
    assert!(!scratch.is_clean());
    // The owner of the files lives, so they are not swept under its hands; and a layer may come back meanwhile.
    assert_eq!(scratch.store.sweep().unwrap().removed, 0);
    layers.import(None, &archive(69)[..]).unwrap();
    removal.finish().unwrap();
    assert_eq!(layers.list().unwrap(), std::slice::from_ref(&ids[69]));
    assert!(scratch.is_clean());
    // Nor are they for ever when it does not finish.
    let mut removal = layers.removal();
    assert!(removal.take(&ids[69]).unwrap());
    drop(removal);
    assert_eq!(scratch.store.sweep().unwrap().removed, 1);
    assert!(scratch.is_clean() && layers.list().unwrap().is_empty());
}

/// Slow enough that the second import starts while the first is at work.
struct Slow<'a>(&'a [u8], &'a AtomicUsize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(std::time::Duration::from_millis(2));
        self.1.fetch_add(1, Ordering::Relaxed);
        let count = out.len().min(20_000).min(self.0.len());
        (&mut self.0).read(&mut out[..count])
    }
}

#[test]
fn two_imports_of_one_layer_join() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let archive = sample();
    let id = Digest::sha256(&archive);
    let reads = [const { AtomicUsize::new(0) }; 4];
    let import = |reads| scratch.store.layers().import(Some(&id), Slow(&archive, reads)).unwrap();
    let import = &import;
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = reads.iter().map(|reads| scope.spawn(move || import(reads))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|layer| !layer.existed).count(), 1);
    assert_eq!(reads.iter().filter(|reads| reads.load(Ordering::Relaxed) > 0).count(), 1);
    assert!(scratch.is_clean());
}

#[test]
fn a_waiting_import_takes_over_from_a_failed_one() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let archive = sample();
    let id = Digest::sha256(&archive);
    let (good, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let failing =
            scope.spawn(|| scratch.store.layers().import(Some(&id), Slow(&archive[..archive.len() / 2], &bad)));
        while bad.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let waiting = scope.spawn(|| scratch.store.layers().import(Some(&id), Slow(&archive, &good)));
        assert!(failing.join().unwrap().is_err());
        assert!(!waiting.join().unwrap().unwrap().existed);
    });
    assert!(scratch.is_clean() && scratch.store.layers().contains(&id).unwrap());
}

#[test]
fn one_id_for_everything() {
    if !root() {
        return;
    }
    let scratch = Scratch::with(store::Ownership { user_xattr: true, single_id: true });
    let archive = Tar::default()
        .member(Member { path: b"f", data: b"x", mode: 0o4711, uid: 1000, gid: 1000, ..Member::default() })
        .member(Member { path: b"d", kind: b'5', mode: 0o2755, uid: u64::from(u16::MAX), ..Member::default() })
        .file("d/.wh..wh..opq", "")
        .end();
    let path = scratch.unpack(&archive);
    let stat = |name: &str| path.join(name).metadata().unwrap();
    assert_eq!((stat("f").uid(), stat("f").mode() & 0o7777), (0, 0o4711));
    assert_eq!((stat("d").uid(), stat("d").mode() & 0o7777), (0, 0o2755));
    assert_eq!(support::xattrs(&path.join("d"))["user.overlay.opaque"], b"y");
}
