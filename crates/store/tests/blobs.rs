//! Content-addressed files, the writable directories of containers, and what dead processes leave.

#![allow(clippy::print_stdout)] // SKIP lines.

mod support;

use oci::digest::{Algorithm, Digest, Hasher};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use store::{Store, StoreError, Writable};
use support::{Member, Scratch, Tar, chain, root};

#[test]
fn a_blob_is_what_its_digest_says() {
    let scratch = Scratch::new();
    let blobs = scratch.store.blobs();
    let digest = blobs.put(b"content").unwrap();
    assert_eq!(digest, Digest::sha256(b"content"));
    assert_eq!(blobs.read(&digest, 7).unwrap(), b"content");
    assert_eq!(blobs.size(&digest).unwrap(), 7);
    assert!(matches!(blobs.read(&digest, 6), Err(StoreError::BlobSize { .. })));
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"longer digest");
    let long = hasher.finish();
    blobs.write(&long, 13, &b"longer digest"[..]).unwrap();
    assert_eq!(blobs.list().unwrap(), [digest.clone(), long.clone()]);
    // Changed on disk.
    let file = scratch.store.path().join("blobs/sha256").join(digest.hex());
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    std::fs::write(&file, b"c0ntent").unwrap();
    let expected = format!("expected {digest}, got {}", Digest::sha256(b"c0ntent"));
    assert!(blobs.read(&digest, 100).unwrap_err().to_string().contains(&expected));
    assert!(blobs.verify(&digest).unwrap_err().to_string().contains(&expected));
    assert!(blobs.remove(&digest).unwrap() && !blobs.remove(&digest).unwrap());
    assert!(matches!(blobs.open(&digest), Err(StoreError::NoSuchBlob(_))));
    assert!(scratch.is_clean());
}

/// Would never end.
struct Endless;

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        out.fill(0);
        Ok(out.len())
    }
}

#[test]
fn a_wrong_blob_leaves_nothing() {
    let scratch = Scratch::new();
    let blobs = scratch.store.blobs();
    let digest = Digest::sha256(b"content");
    let text = |result: Result<(), StoreError>| result.unwrap_err().to_string();
    assert!(text(blobs.write(&digest, 7, &b"contend"[..])).contains("does not match its digest"));
    assert!(text(blobs.write(&digest, 8, &b"content"[..])).contains("only 7 bytes instead of 8"));
    assert!(text(blobs.write(&digest, 6, &b"content"[..])).contains("at least 7 bytes instead of 6"));
    assert!(text(blobs.write(&digest, 6, Endless)).contains("instead of 6"));
    assert!(!blobs.contains(&digest).unwrap());
    assert!(scratch.is_clean());
}

#[test]
fn a_container_gets_its_directories_and_gives_them_back() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let layer = |archive: Tar| scratch.store.layers().import(None, &archive.end()[..]).unwrap().diff_id;
    let base =
        layer(Tar::default().member(Member { path: b"./", kind: b'5', mode: 0o1750, gid: 9, ..Member::default() }));
    let top = layer(Tar::default().file("f", ""));
    let layers = [top, base];
    let writable = Writable::create(&scratch.store, "abc", &layers).unwrap();
    let stat = writable.upper().metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.gid()), (0o1750, 9));
    assert!(Writable::create(&scratch.store, "abc", &[]).is_err());
    // Killed in between, the next attempt succeeds.
    std::fs::rename(writable.upper(), writable.directory().join("upper.new")).unwrap();
    let writable = Writable::create(&scratch.store, "abc", &[]).unwrap();
    assert_eq!(std::fs::read_dir(writable.directory()).unwrap().count(), 2);
    std::fs::remove_dir(writable.upper()).unwrap();
    let writable = Writable::create(&scratch.store, "abc", &layers).unwrap();
    let again = writable.upper().metadata().unwrap();
    assert_eq!((again.mode(), again.gid()), (stat.mode(), stat.gid()));
    for bad in ["", ".", "..", "a/b", "../x", "a\0b", ".hidden"] {
        assert!(Writable::open(&scratch.store, bad).is_err(), "{bad}");
    }
    // What containers and overlayfs leave.
    let (upper, work) = (writable.upper(), writable.work());
    std::fs::create_dir_all(work.join("work/#1f")).unwrap();
    std::fs::set_permissions(work.join("work"), PermissionsExt::from_mode(0o000)).unwrap();
    let mut deep = upper.clone();
    for _ in 0..150 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f"), "x").unwrap();
    std::fs::rename(upper.join("d"), upper.join("e")).unwrap();
    std::fs::create_dir_all(upper.join("d/d")).unwrap();
    std::fs::rename(upper.join("e"), upper.join("d/d/e")).unwrap();
    std::fs::write(upper.join("fixed"), "").unwrap();
    let chattr = Command::new("chattr").arg("+i").arg(upper.join("fixed")).output();
    if !chattr.is_ok_and(|output| output.status.success()) {
        println!("SKIP: no immutable files here");
    }
    let mine = writable.directory().join("hostname");
    std::fs::write(&mine, "box").unwrap();
    let du = Command::new("du").args(["-s", "-B1"]).arg(&upper).output().unwrap();
    let du = String::from_utf8(du.stdout).unwrap();
    assert_eq!(writable.disk_usage().unwrap().to_string(), du.split_whitespace().next().unwrap());
    writable.remove().unwrap();
    assert!(!upper.exists() && !work.exists() && mine.exists());
    Writable::open(&scratch.store, "abc").unwrap().remove_all().unwrap();
    Writable::open(&scratch.store, "abc").unwrap().remove_all().unwrap();
    assert_eq!(std::fs::read_dir(scratch.store.path().join("containers")).unwrap().count(), 0);
    assert!(scratch.is_clean());
}

/// Deeper than any path the kernel accepts, made as a container can make it: one level at a time.
#[test]
fn a_tree_deeper_than_a_path_is_removed() {
    let scratch = Scratch::new();
    let writable = Writable::create(&scratch.store, "deep", &[]).unwrap();
    let open = |path: &std::path::Path| {
        rustix::fs::open(path, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap()
    };
    let mut here = open(&writable.upper());
    for _ in 0..3000 {
        rustix::fs::mkdirat(&here, "level", rustix::fs::Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, "level", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    writable.remove_all().unwrap();
    assert!(scratch.is_clean());
}

/// Not a test: a process to be killed. It imports a whole archive.
#[test]
#[ignore = "started by others"]
fn child_that_imports_a_file() {
    if let (Some(path), Some(archive)) = (std::env::var_os("STORE_OF_THE_PARENT"), std::env::var_os("ARCHIVE")) {
        let store = Store::open(path, store::Ownership::default()).unwrap();
        store.layers().import(None, std::fs::File::open(archive).unwrap()).unwrap();
    }
}

#[test]
fn killed_at_any_moment() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let mut archive = Tar::default();
    for n in 0..300 {
        archive = archive.file(&format!("d{}/f{n}", n % 20), &"x".repeat(n * 10));
    }
    let archive = archive.end();
    let file = scratch.path().join("archive.tar");
    std::fs::write(&file, &archive).unwrap();
    let id = Digest::sha256(&archive);
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_imports_a_file", "--ignored"])
            .env("STORE_OF_THE_PARENT", scratch.store.path())
            .env("ARCHIVE", &file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let begun = std::time::Instant::now();
    assert!(start().wait().unwrap().success());
    let duration = begun.elapsed();
    assert!(scratch.store.layers().remove(&id).unwrap());
    let (mut whole, mut gone) = (0, 0);
    for round in 0..40 {
        let mut child = start();
        std::thread::sleep(duration * round / 32);
        child.kill().unwrap();
        child.wait().unwrap();
        let swept = scratch.store.sweep().unwrap();
        assert!(swept.failed.is_empty() && swept.busy == 0 && scratch.is_clean());
        if scratch.store.layers().contains(&id).unwrap() {
            whole += 1;
            let layer = scratch.store.layers().get(&id).unwrap();
            assert_eq!((layer.entries, support::tree(&support::view(&layer)).len()), (300, 321));
            assert!(scratch.store.layers().remove(&id).unwrap());
        } else {
            gone += 1;
        }
    }
    println!("{whole} whole, {gone} gone");
}

/// Not a test: a process to be killed. It imports from a pipe that never ends.
#[test]
#[ignore = "started by others"]
fn child_that_imports() {
    if let Some(path) = std::env::var_os("STORE_OF_THE_PARENT") {
        let store = Store::open(path, store::Ownership::default()).unwrap();
        store.layers().import(Some(&Digest::sha256(b"never")), std::io::stdin()).ok();
    }
}

#[test]
fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_imports", "--ignored"])
        .env("STORE_OF_THE_PARENT", scratch.store.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let archive = Tar::default().file("f", &"x".repeat(600_000)).end();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &archive[..600_000]).unwrap();
    let name = format!("layer-{}", Digest::sha256(b"never").hex());
    let file = scratch.store.path().join("staging").join(&name).join("tree/f");
    for _ in 0..1000 {
        if file.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(file.exists());
    let swept = scratch.store.sweep().unwrap();
    assert_eq!((swept.removed, swept.busy, swept.failed.len()), (0, 1, 0));
    assert!(file.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    // Files of the dead without a directory, and without a lock.
    std::fs::write(scratch.store.path().join("staging/blob-1-2-3"), "half").unwrap();
    let swept = scratch.store.sweep().unwrap();
    assert_eq!((swept.removed, swept.busy, swept.failed.len()), (2, 0, 0));
    assert!(scratch.is_clean());
}

#[test]
fn an_import_goes_on_where_a_dead_one_stopped() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let archive = Tar::default().file("f", "x").end();
    let id = Digest::sha256(&archive);
    let left = scratch.store.path().join("staging").join(format!("layer-{}", id.hex()));
    std::fs::create_dir_all(left.join("tree/old")).unwrap();
    std::fs::write(left.join("layer.json"), "half").unwrap();
    let layer = scratch.store.layers().import(Some(&id), &archive[..]).unwrap();
    assert_eq!(std::fs::read_dir(support::view(&layer)).unwrap().count(), 1);
    assert!(scratch.is_clean());
}

#[test]
fn a_full_disk_is_said_so_and_leaves_nothing() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let mount = scratch.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    // In a mount namespace of a process of its own, so that nothing stays when the test dies.
    let script =
        "mount -t tmpfs -o size=1m tmpfs \"$1\" && exec \"$2\" --exact child_on_a_full_disk --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(&mount)
        .arg(std::env::current_exe().unwrap())
        .env("SMALL_DISK", &mount)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("running 1 test") {
        println!("SKIP: cannot mount: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{text}");
}

#[test]
#[ignore = "started by others"]
fn child_on_a_full_disk() {
    let Some(path) = std::env::var_os("SMALL_DISK") else { return };
    let store = Store::open(path, store::Ownership::default()).unwrap();
    let archive = Tar::default().file("big", &"x".repeat(4 << 20)).end();
    let error = store.layers().import(None, &archive[..]).unwrap_err();
    assert!(chain(&error).contains("ENOSPC (No space left on device)"), "{}", chain(&error));
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOSPC));
    let error = store.blobs().put(&vec![1; 4 << 20]).unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOSPC));
    assert_eq!(std::fs::read_dir(store.path().join("staging")).unwrap().count(), 0);
    // With room again the same works.
    store.layers().import(None, &Tar::default().file("small", "x").end()[..]).unwrap();
}
