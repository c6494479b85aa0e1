//! The store in a user namespace: root there, nobody outside.

#![allow(clippy::print_stdout)] // SKIP lines.

mod support;

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use store::{Ownership, Store, Writable};
use support::{Member, Tar, chain, view};

/// Runs one of this program's tests as root of a new user namespace with `count` ids from 100000, on a directory that
/// belongs to that root. The parent, being root, writes the maps; newuidmap would do it for a user.
fn inside(test: &str, count: u32) {
    if !support::root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(100_000), Some(100_000)).unwrap();
    let program = directory.path().join("test");
    // Where everybody can execute it.
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    // It waits for the end of its input; whoever executes a program before the maps are there loses its capabilities.
    let mut holder =
        Command::new("unshare").args(["-U", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let pid = holder.id().to_string();
    while namespace(&pid) == namespace("self") {
        assert!(holder.try_wait().unwrap().is_none(), "user namespaces are not allowed");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{pid}/{map}"), format!("0 100000 {count}")).unwrap();
    }
    let output = Command::new("nsenter")
        .args(["-U", "-t", &pid, "-S", "0", "-G", "0"])
        .arg(&program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("ROOTLESS", directory.path().join("data"))
        .env("IDS", count.to_string())
        .output()
        .unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    assert!(String::from_utf8_lossy(&text).contains("1 passed"));
}

#[test]
fn with_many_ids() {
    inside("child_with_ids", 65536);
}

#[test]
fn with_one_id() {
    inside("child_with_ids", 1);
}

#[test]
#[ignore = "started by others"]
fn child_with_ids() {
    let (Some(path), Ok(ids)) = (std::env::var_os("ROOTLESS"), std::env::var("IDS")) else { return };
    let single_id = ids == "1";
    let store = Store::open(path, Ownership { user_xattr: true, single_id }).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Tar::default()
        .directory("dev")
        .member(Member { path: b"dev/null", kind: b'3', mode: 0o666, device: (1, 3), ..Member::default() })
        .member(Member { path: b"dev/sda", kind: b'4', mode: 0o660, device: (8, 0), gid: 6, ..Member::default() })
        .member(Member { path: b"dev/pipe", kind: b'6', mode: 0o622, ..Member::default() })
        .member(Member { path: b"home", kind: b'5', mode: 0o500, uid: 1000, gid: 1000, ..Member::default() })
        .member(Member { path: b"home/file", data: b"x", mode: 0o400, uid: 1000, gid: 1000, ..Member::default() })
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.trusted.x", b"1")])
        .member(Member { path: b"ping", data: b"elf", mode: 0o4755, ..Member::default() })
        .file("etc/.wh.gone", "")
        .file("etc/.wh..wh..opq", "")
        .end();
    let layer = store.layers().import(None, &archive[..]).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let path = view(&layer);
    assert!(layer.warnings.iter().any(|warning| warning.contains("device 1:3")), "{:?}", layer.warnings);
    assert!(layer.warnings.iter().any(|warning| warning.contains("device 8:0")));
    assert!(layer.warnings.iter().any(|warning| warning.contains("trusted.x")));
    assert_eq!(layer.warnings.len(), 3, "{:?}", layer.warnings);
    assert!(!path.join("dev/null").exists());
    assert!(support::is_whiteout(&path.join("etc/gone")));
    assert_eq!(support::xattrs(&path.join("etc"))["user.overlay.opaque"], b"y");
    let stat = |name: &str| path.join(name).symlink_metadata().unwrap();
    assert_eq!(stat("home/file").uid(), if single_id { 0 } else { 1000 });
    assert_eq!(stat("home").mode() & 0o7777, 0o500);
    assert_eq!(stat("ping").mode() & 0o7777, 0o4755);
    // Read in the namespace that set it, it is what the archive says.
    assert_eq!(support::xattrs(&path.join("ping"))["security.capability"], capability);
    let foreign = Tar::default().member(Member { path: b"f", uid: 100_000, ..Member::default() }).end();
    let result = store.layers().import(None, &foreign[..]);
    assert_eq!(result.is_ok(), single_id);
    if let Err(error) = result {
        assert!(chain(&error).contains("owner 100000:0 does not exist here"), "{}", chain(&error));
    }
    let writable = Writable::create(&store, "c", std::slice::from_ref(&layer.diff_id)).unwrap();
    std::fs::create_dir(writable.work().join("work")).unwrap();
    std::fs::set_permissions(writable.work().join("work"), std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .unwrap();
    writable.remove_all().unwrap();
    assert!(store.layers().remove(&layer.diff_id).unwrap());
    assert_eq!(std::fs::read_dir(store.path().join("staging")).unwrap().count(), 0);
}
