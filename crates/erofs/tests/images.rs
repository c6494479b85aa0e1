//! What is written is what is read: by our reader, by fsck.erofs of erofs-utils, and by the kernel.

#![allow(clippy::print_stdout)] // SKIP lines are for whoever reads the test's output.

use erofs::{Blocks, Found, Image, Kind, Limits, Meta, Node, Writer};
use rustix::fs::{self, AtFlags, CWD, FileType};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One file, as anything can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: Kind,
    meta: Meta,
    links: u32,
    content: Vec<u8>,
    inode: u64,
}

type Tree = BTreeMap<Vec<u8>, Seen>;

fn meta(mode: u16) -> Meta {
    Meta { mode, uid: 70_000, gid: 5, seconds: -3, nanoseconds: 999_999_999, attributes: Vec::new() }
}

fn with(mode: u16, attributes: &[(&str, &[u8])]) -> Meta {
    let attributes = attributes.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
    Meta { attributes, ..meta(mode) }
}

const BOTH: [Blocks; 2] = [Blocks::Pages, Blocks::Sectors];

fn writer(path: &Path, blocks: Blocks) -> Writer {
    Writer::with_blocks(new(path), meta(0o1755), Limits::default(), blocks)
}

fn new(path: &Path) -> File {
    File::options().read(true).write(true).create_new(true).open(path).unwrap()
}

fn put(writer: &mut Writer, name: &str, meta: &Meta, content: &[u8]) -> Node {
    writer.begin_file(content.len() as u64, false).unwrap();
    let mut offset = 0;
    // In pieces of any size.
    for piece in content.chunks(3001) {
        writer.write(offset, piece).unwrap();
        offset += piece.len() as u64;
    }
    let node = writer.end_file(meta).unwrap();
    writer.link(writer.root(), name.as_bytes(), node).unwrap();
    node
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251 + size) as u8 | 1).collect()
}

/// All that the format can hold, in one image.
fn everything(path: &Path, blocks: Blocks) {
    let mut writer = writer(path, blocks);
    let root = writer.root();
    for size in [0, 1, 100, 3900, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 9000, 65_000, 70_000, 300_000, 1_000_001] {
        put(&mut writer, &format!("size-{size}"), &meta(0o4644), &content(size));
    }
    let large = vec![0x61; 60_000];
    put(&mut writer, "large-attribute", &with(0o600, &[("user.large", &large)]), b"x");
    for n in 0..5 {
        put(&mut writer, &format!("shared-{n}"), &with(0o600, &[("security.same", b"value"), ("user.n", &[n])]), b"y");
    }
    // Attributes that take the room of what was to be beside the inode.
    let long = vec![0x62; 900];
    let three = [("user.a", &long[..]), ("user.b", &long), ("trusted.c", &long)];
    put(&mut writer, "moved", &with(0o600, &three), &content(4096 * 3 + 2000));
    let linked = put(&mut writer, "linked", &meta(0o600), b"three names");
    let inner = writer.directory(root, b"directory", with(0o2755, &[("user.d", b"d")])).unwrap();
    writer.link(inner, b"again", linked).unwrap();
    writer.link(inner, b"and again", linked).unwrap();
    for n in 0..2000 {
        let node = writer.special(&meta(0o644), Kind::Fifo).unwrap();
        writer.link(inner, format!("{n}-{}", "n".repeat(n % 250)).as_bytes(), node).unwrap();
    }
    let mut deep = inner;
    for _ in 0..100 {
        deep = writer.directory(deep, b"deep", meta(0o700)).unwrap();
    }
    writer.directory(root, b"-before-the-dot", with(0o700, &[("trusted.overlay.opaque", b"y")])).unwrap();
    for (name, kind) in [
        ("whiteout", Kind::Character { major: 0, minor: 0 }),
        ("null", Kind::Character { major: 1, minor: 3 }),
        ("high", Kind::Block { major: 4095, minor: 1_048_575 }),
    ] {
        let node = writer.special(&meta(0o666), kind).unwrap();
        writer.link(root, name.as_bytes(), node).unwrap();
    }
    for length in [1, 60, 3000, 4095] {
        let node = writer.symlink(&meta(0o777), "t".repeat(length).as_bytes()).unwrap();
        writer.link(root, format!("link-{length}").as_bytes(), node).unwrap();
    }
    let acl = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0];
    let acl = [&acl[..], &[4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255]].concat();
    let acl = [&acl[..], &[32, 0, 0, 0, 255, 255, 255, 255]].concat();
    put(&mut writer, "acl", &with(0o640, &[("system.posix_acl_access", &acl)]), b"z");
    // Holes: at the start, in the middle, at the end.
    writer.begin_file(1 << 20, true).unwrap();
    writer.write(100_000, b"island").unwrap();
    writer.write(600_001, &content(5000)).unwrap();
    let node = writer.end_file(&meta(0o644)).unwrap();
    writer.link(root, b"holes", node).unwrap();
    // Taken away again, and replaced.
    put(&mut writer, "gone", &meta(0o644), &content(50_000));
    writer.unlink(root, b"gone").unwrap();
    put(&mut writer, "replaced", &meta(0o644), b"old");
    put(&mut writer, "replaced", &meta(0o644), b"new");
    let (file, summary) = writer.finish().unwrap();
    assert_eq!(file.metadata().unwrap().len(), summary.size);
}

fn read(image: &Image) -> Tree {
    fn visit(image: &Image, path: Vec<u8>, found: Found, tree: &mut Tree) {
        let size = match found.kind {
            Kind::Regular { size } => size as usize,
            Kind::Symlink => 4096,
            _ => 0,
        };
        let mut content = vec![0xff; size];
        let length = image.read(&found, 0, &mut content).unwrap();
        content.truncate(length);
        let meta = Meta { attributes: image.attributes(&found).unwrap(), ..found.meta.clone() };
        let seen = Seen { kind: found.kind, meta, links: found.links, content, inode: found.inode };
        tree.insert(path.clone(), seen);
        if found.kind == Kind::Directory {
            for entry in image.entries(&found).unwrap() {
                let path = [&path[..], b"/", &entry.name].concat();
                visit(image, path, image.inode(entry.inode).unwrap(), tree);
            }
        }
    }
    let mut tree = Tree::new();
    visit(image, Vec::new(), image.root().unwrap(), &mut tree);
    tree
}

/// The same by the kernel.
fn mounted(root: &Path) -> Tree {
    fn visit(path: &Path, name: Vec<u8>, tree: &mut Tree) {
        use std::os::unix::ffi::OsStrExt;
        let stat = fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let (major, minor) = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
        let (kind, content) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                (Kind::Regular { size: stat.st_size.unsigned_abs() }, std::fs::read(path).unwrap())
            }
            FileType::Symlink => (Kind::Symlink, std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
            FileType::Directory => (Kind::Directory, Vec::new()),
            FileType::CharacterDevice => (Kind::Character { major, minor }, Vec::new()),
            FileType::BlockDevice => (Kind::Block { major, minor }, Vec::new()),
            FileType::Fifo => (Kind::Fifo, Vec::new()),
            other => panic!("{other:?}"),
        };
        let meta = Meta {
            mode: stat.st_mode as u16 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
            attributes: xattrs(path),
        };
        tree.insert(name.clone(), Seen { kind, meta, links: stat.st_nlink as u32, content, inode: stat.st_ino });
        if kind == Kind::Directory {
            for entry in std::fs::read_dir(path).unwrap() {
                let file = entry.unwrap().file_name();
                visit(&path.join(&file), [&name[..], b"/", file.as_bytes()].concat(), tree);
            }
        }
    }
    let mut tree = Tree::new();
    visit(root, Vec::new(), &mut tree);
    tree
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let length = fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect();
    all.sort();
    all
}

/// A mount of the image that nothing but the descriptor holds.
fn mount(image: &Path) -> Option<(OwnedFd, PathBuf)> {
    shown(kernel::mount::erofs_image(image))
}

fn shown(mounted: kernel::Result<OwnedFd>) -> Option<(OwnedFd, PathBuf)> {
    match mounted {
        Ok(mount) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
            Some((mount, path))
        }
        Err(error) => {
            println!("SKIP: {error}");
            None
        }
    }
}

fn fsck(image: &Path, others: &[PathBuf]) {
    let others = others.iter().map(|path| format!("--device={}", path.display()));
    match Command::new("fsck.erofs").arg("-d1").args(others).arg(image).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            // Before 1.6 it knows one size of blocks, and 1.8.6 falls over its own checksum of small ones.
            if output.status.code().is_none() || text.contains("blksize 512 isn't supported") {
                return println!("SKIP: this fsck.erofs reads no blocks of 512 bytes");
            }
            assert!(output.status.success(), "{text}");
        }
        Err(error) => println!("SKIP: fsck.erofs: {error}"),
    }
}

#[test]
fn everything_is_read_as_it_was_written() {
    for blocks in BOTH {
        is_read_as_it_was_written(blocks);
    }
}

fn is_read_as_it_was_written(blocks: Blocks) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("image.erofs");
    everything(&path, blocks);
    let tree = read(&Image::open(File::open(&path).unwrap()).unwrap());
    for size in [0, 1, 100, 3900, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 9000, 65_000, 70_000, 300_000, 1_000_001] {
        let seen = &tree[format!("/size-{size}").as_bytes()];
        assert!(seen.content == content(size), "{size}");
        assert_eq!(seen.meta, meta(0o4644));
    }
    assert!(tree[&b"/moved"[..]].content == content(4096 * 3 + 2000));
    assert_eq!(tree[&b"/moved"[..]].meta.attributes.len(), 3);
    assert_eq!(tree[&b"/large-attribute"[..]].meta.attributes, [(b"user.large".to_vec(), vec![0x61; 60_000])]);
    for n in 0..5 {
        let seen = &tree[format!("/shared-{n}").as_bytes()].meta.attributes;
        assert_eq!(*seen, [(b"security.same".to_vec(), b"value".to_vec()), (b"user.n".to_vec(), vec![n])]);
    }
    let again = &tree[&b"/directory/and again"[..]];
    assert_eq!((again.links, again.inode), (3, tree[&b"/linked"[..]].inode));
    assert_eq!(tree[&b"/directory"[..]].links, 3);
    assert_eq!(tree[&b""[..]].links, 4);
    assert_eq!(tree[&b"/high"[..]].kind, Kind::Block { major: 4095, minor: 1_048_575 });
    assert_eq!(tree[&b"/link-4095"[..]].content.len(), 4095);
    let mut holes = vec![0; 1 << 20];
    holes[100_000..100_006].copy_from_slice(b"island");
    holes[600_001..605_001].copy_from_slice(&content(5000));
    assert!(tree[&b"/holes"[..]].content == holes);
    assert!(!tree.contains_key(&b"/gone"[..]));
    assert_eq!(tree[&b"/replaced"[..]].content, b"new");
    assert_eq!(tree.keys().filter(|name| name.starts_with(b"/directory/")).count(), 2000 + 2 + 100);
    // Twice the same is the same image.
    let second = base.path().join("second.erofs");
    everything(&second, blocks);
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&second).unwrap());
}

#[test]
fn fsck_finds_nothing_and_the_kernel_shows_what_was_written() {
    for blocks in BOTH {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("image.erofs");
        everything(&path, blocks);
        fsck(&path, &[]);
        let tree = read(&Image::open(File::open(&path).unwrap()).unwrap());
        if let Some((_mount, root)) = mount(&path) {
            same(tree, mounted(&root));
        }
    }
}

fn same(mut tree: Tree, mut kernels: Tree) {
    // Inodes are compared by who shares one.
    for tree in [&mut tree, &mut kernels] {
        let mut first = BTreeMap::new();
        for (at, seen) in tree.values_mut().enumerate() {
            seen.inode = *first.entry(seen.inode).or_insert(at as u64);
        }
    }
    assert_eq!(tree.keys().collect::<Vec<_>>(), kernels.keys().collect::<Vec<_>>());
    for (name, seen) in &tree {
        assert!(*seen == kernels[name], "{}: {:?} {:?}", name.escape_ascii(), seen.meta, kernels[name].meta);
    }
}

/// Copies names and inodes below a directory, content by reference.
fn copy(writer: &mut Writer, (number, image): (usize, &Image), from: &Found, to: Node, seen: &mut BTreeMap<u64, Node>) {
    for entry in image.entries(from).unwrap() {
        let found = image.inode(entry.inode).unwrap();
        let meta = Meta { attributes: image.attributes(&found).unwrap(), ..found.meta.clone() };
        if found.kind == Kind::Directory {
            let made = writer.directory(to, &entry.name, meta).unwrap();
            copy(writer, (number, image), &found, made, seen);
            continue;
        }
        let node = *seen.entry(entry.inode).or_insert_with(|| match found.kind {
            Kind::Regular { .. } => writer.refer(&meta, number, image, &found).unwrap(),
            Kind::Symlink => {
                let mut target = vec![0; 4096];
                let length = image.read(&found, 0, &mut target).unwrap();
                writer.symlink(&meta, &target[..length]).unwrap()
            }
            kind => writer.special(&meta, kind).unwrap(),
        });
        writer.link(to, &entry.name, node).unwrap();
    }
}

/// Two images side by side in a third one, which has their names only.
#[test]
fn content_in_other_images() {
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name);
    let others = [path("first.erofs"), path("second.erofs")];
    everything(&others[0], Blocks::Sectors);
    let mut second = writer(&others[1], Blocks::Sectors);
    put(&mut second, "other", &meta(0o640), &content(70_001));
    second.finish().unwrap();
    let images = others.each_ref().map(|path| Image::open(File::open(path).unwrap()).unwrap());
    let (one, two) = ([b'1'; 64], [b'2'; 64]);
    let named = [(one, &images[0]), (two, &images[1])];
    let mut writer = Writer::referring(new(&path("both.erofs")), meta(0o1755), Limits::default(), &named).unwrap();
    for (number, image) in images.iter().enumerate() {
        let root = writer.root();
        copy(&mut writer, (number, image), &image.root().unwrap(), root, &mut BTreeMap::new());
    }
    let (file, summary) = writer.finish().unwrap();
    // Names, attributes, targets: a fraction.
    assert!(summary.size * 2 < std::fs::metadata(&others[0]).unwrap().len(), "{summary:?}");
    drop(file);
    fsck(&path("both.erofs"), &others);
    let mut tree = read(&images[0]);
    tree.extend(read(&images[1]).into_iter().filter(|(name, _)| !name.is_empty()));
    // So that no inode has the number of one in the other.
    tree.get_mut(&b"/other"[..]).unwrap().inode = u64::MAX;
    if let Some((_mount, root)) = shown(kernel::mount::erofs_files(&path("both.erofs"), &others)) {
        same(tree, mounted(&root));
    }
    // Nothing but what another image has a place for.
    everything(&path("pages.erofs"), Blocks::Pages);
    let pages = Image::open(File::open(path("pages.erofs")).unwrap()).unwrap();
    let mixed = [(one, &images[0]), (two, &pages)];
    assert!(Writer::referring(new(&path("mixed.erofs")), meta(0o755), Limits::default(), &mixed).is_err());
    let small = [(one, &pages)];
    let mut writer = Writer::referring(new(&path("small.erofs")), meta(0o755), Limits::default(), &small).unwrap();
    let beside = pages.child(&pages.root().unwrap(), b"size-100").unwrap().unwrap();
    assert!(writer.refer(&meta(0o644), 0, &pages, &beside).unwrap_err().to_string().contains("without a place"));
}

#[test]
fn an_empty_image_and_one_file_of_a_terabyte() {
    let base = tempfile::tempdir().unwrap();
    for (large, blocks) in
        [(false, Blocks::Pages), (true, Blocks::Pages), (false, Blocks::Sectors), (true, Blocks::Sectors)]
    {
        let path = base.path().join(format!("{large}-{blocks:?}.erofs"));
        let mut writer = writer(&path, blocks);
        if large {
            writer.begin_file(1 << 40, true).unwrap();
            writer.write((1 << 40) - 5, b"ended").unwrap();
            let node = writer.end_file(&meta(0o644)).unwrap();
            writer.link(writer.root(), b"file", node).unwrap();
        }
        let (_, summary) = writer.finish().unwrap();
        assert_eq!(summary.inodes, 1 + u64::from(large));
        let image = Image::open(File::open(&path).unwrap()).unwrap();
        if large {
            let file = image.child(&image.root().unwrap(), b"file").unwrap().unwrap();
            let mut end = [1; 8];
            assert_eq!(image.read(&file, (1 << 40) - 8, &mut end).unwrap(), 8);
            assert_eq!(&end, b"\0\0\0ended");
        } else {
            fsck(&path, &[]);
        }
        if let Some((_mount, root)) = mount(&path) {
            let names = std::fs::read_dir(&root).unwrap().count();
            assert_eq!(names, usize::from(large));
            if large {
                use std::os::unix::fs::FileExt;
                let mut end = [1; 8];
                File::open(root.join("file")).unwrap().read_exact_at(&mut end, (1 << 40) - 8).unwrap();
                assert_eq!(&end, b"\0\0\0ended");
            }
        }
    }
}

#[test]
fn limits_and_impossible_requests_are_errors() {
    let base = tempfile::tempdir().unwrap();
    let mut writer = writer(&base.path().join("a"), Blocks::Pages);
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'n'; 256]] {
        assert!(writer.directory(writer.root(), name, meta(0)).is_err(), "{}", name.escape_ascii());
    }
    assert!(writer.symlink(&meta(0), b"").is_err());
    assert!(writer.symlink(&meta(0), &[b't'; 4096]).is_err());
    assert!(writer.begin_file(1 << 44, false).is_err());
    assert!(writer.begin_file(1 << 62, true).is_err());
    assert!(!Writer::can_store(b"system.nfs4_acl") && !Writer::can_store(b"user.") && Writer::can_store(b"user.x"));
    let file = File::options().read(true).write(true).create_new(true).open(base.path().join("b")).unwrap();
    let mut writer = Writer::new(file, meta(0o755), Limits { memory: 10_000 });
    let full = (0..1000).find_map(|n| writer.directory(writer.root(), format!("{n}").as_bytes(), meta(0)).err());
    assert!(full.unwrap().to_string().contains("too many names"));
}

/// What mkfs.erofs makes of a tree, our reader reads, compact inodes and all.
#[test]
fn images_of_others_are_read() {
    let base = tempfile::tempdir().unwrap();
    let tree = base.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/small"), content(100)).unwrap();
    std::fs::write(tree.join("a/b/large"), content(100_000)).unwrap();
    std::os::unix::fs::symlink("small", tree.join("a/link")).unwrap();
    let path = base.path().join("image.erofs");
    match Command::new("mkfs.erofs").arg("-Enoinline_data").arg(&path).arg(&tree).output() {
        Ok(output) => assert!(output.status.success()),
        Err(error) => return println!("SKIP: mkfs.erofs: {error}"),
    }
    let seen = read(&Image::open(File::open(&path).unwrap()).unwrap());
    assert!(seen[&b"/a/small"[..]].content == content(100));
    assert!(seen[&b"/a/b/large"[..]].content == content(100_000));
    assert_eq!(seen[&b"/a/link"[..]].content, b"small");
    assert_eq!(seen[&b"/a"[..]].links, 3);
}
