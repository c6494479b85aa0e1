//! What the tests of the store share: archives made byte by byte, and trees as comparable values.
#![allow(dead_code)] // Each test program uses a part.
#![allow(clippy::print_stdout)] // SKIP lines are for whoever reads the test's output.

use rustix::fs::{self as fs, AtFlags, CWD, FileType};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use store::{Backend, Layer, Ownership, Store};

/// Root in this user namespace? Otherwise says so.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIP: needs root");
    }
    root
}

pub struct Scratch {
    pub directory: tempfile::TempDir,
    pub store: Store,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch::with(Ownership::default())
    }

    pub fn with(ownership: Ownership) -> Scratch {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("data"), ownership).unwrap().with_backend(backend(ownership));
        Scratch { directory, store }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Imports a plain archive and returns the tree; whatever the archive, it must come back byte for byte.
    pub fn unpack(&self, archive: &[u8]) -> PathBuf {
        let layer = self.store.layers().import(None, archive).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(self.rebuilt(&layer) == archive, "the archive does not come back as it was");
        view(&layer)
    }

    /// The layer's archive, put together again.
    pub fn rebuilt(&self, layer: &Layer) -> Vec<u8> {
        let mut rebuilt =
            self.store.layers().rebuild(&layer.diff_id).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut rebuilt, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, rebuilt.size());
        bytes
    }

    pub fn refuse(&self, archive: &[u8]) -> String {
        match self.store.layers().import(None, archive) {
            Ok(layer) => panic!("accepted: {layer:?}"),
            Err(error) => chain(&error),
        }
    }

    /// Nothing half-made is left.
    pub fn is_clean(&self) -> bool {
        std::fs::read_dir(self.store.path().join("staging")).map_or(0, Iterator::count) == 0
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// A layer as a directory tree, whatever the back end: what one adds for a new one in order to run the whole contract.
pub fn view(layer: &Layer) -> PathBuf {
    match layer.backend {
        Backend::Directory => layer.path.clone(),
        Backend::Erofs => {
            let mount = kernel::mount::erofs_image(&layer.path).unwrap();
            // As long as the test's process.
            PathBuf::from(format!("/proc/self/fd/{}/.", std::os::fd::IntoRawFd::into_raw_fd(mount)))
        }
    }
}

/// Which back end the contract is asked of: `DHOW_TEST_BACKEND=erofs` is the other one, which only root has.
pub fn backend(ownership: Ownership) -> Backend {
    let erofs = std::env::var_os("DHOW_TEST_BACKEND").is_some_and(|name| name == "erofs");
    let for_root = !ownership.user_xattr && !ownership.single_id && rustix::process::geteuid().is_root();
    if erofs && for_root { Backend::Erofs } else { Backend::Directory }
}

/// Builds archives from header fields, hostile ones too.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

#[derive(Clone)]
pub struct Member<'a> {
    pub path: &'a [u8],
    pub kind: u8,
    pub link: &'a [u8],
    pub data: &'a [u8],
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: i64,
    pub device: (u32, u32),
}

impl Default for Member<'_> {
    fn default() -> Self {
        Member {
            path: b"",
            kind: b'0',
            link: b"",
            data: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            device: (0, 0),
        }
    }
}

impl Tar {
    pub fn member(mut self, member: Member<'_>) -> Tar {
        let long = |text: &[u8]| text.len() > 100;
        if long(member.path) {
            self = self.raw(b'L', b"././@LongLink", &[member.path, b"\0"].concat(), &Member::default());
        }
        if long(member.link) {
            self = self.raw(b'K', b"././@LongLink", &[member.link, b"\0"].concat(), &Member::default());
        }
        let (path, data) = (member.path, member.data);
        self.raw(member.kind, path, data, &member)
    }

    pub fn raw(mut self, kind: u8, path: &[u8], data: &[u8], member: &Member<'_>) -> Tar {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &path[..path.len().min(100)]);
        put(100, format!("{:07o}", member.mode).as_bytes());
        put(108, format!("{:07o}", member.uid).as_bytes());
        put(116, format!("{:07o}", member.gid).as_bytes());
        put(124, format!("{:011o}", data.len()).as_bytes());
        put(136, format!("{:011o}", member.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &member.link[..member.link.len().min(100)]);
        put(257, b"ustar  \0");
        put(329, format!("{:07o}", member.device.0).as_bytes());
        put(337, format!("{:07o}", member.device.1).as_bytes());
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend(format!("{length} {key}=").as_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.raw(b'x', b"PaxHeaders/x", &data, &Member::default())
    }

    pub fn file(self, path: &str, data: &str) -> Tar {
        self.member(Member { path: path.as_bytes(), data: data.as_bytes(), ..Member::default() })
    }

    pub fn directory(self, path: &str) -> Tar {
        self.member(Member { path: path.as_bytes(), kind: b'5', mode: 0o755, ..Member::default() })
    }

    pub fn symlink(self, path: &str, link: &str) -> Tar {
        self.member(Member {
            path: path.as_bytes(),
            kind: b'2',
            link: link.as_bytes(),
            mode: 0o777,
            ..Member::default()
        })
    }

    pub fn hard_link(self, path: &str, link: &str) -> Tar {
        self.member(Member { path: path.as_bytes(), kind: b'1', link: link.as_bytes(), ..Member::default() })
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// One file as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u64),
    pub content: Vec<u8>,
    pub device: u64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first name, in order, of the same inode.
    pub same_as: String,
    /// Blocks of 512 bytes, for sparse files only.
    pub sparse: bool,
}

/// A tree as a map from name to file. The root is `.`.
pub fn tree(root: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    visit(root, ".", &mut seen, &mut inodes);
    seen
}

fn visit(path: &Path, name: &str, seen: &mut BTreeMap<String, Seen>, inodes: &mut BTreeMap<u64, String>) {
    let stat = fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let content = match kind {
        FileType::RegularFile => std::fs::read(path).unwrap(),
        FileType::Symlink => std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let same_as = inodes.entry(stat.st_ino).or_insert_with(|| name.to_owned()).clone();
    seen.insert(
        name.to_owned(),
        Seen {
            kind: format!("{kind:?}"),
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            sparse: kind == FileType::RegularFile && stat.st_blocks * 512 + 65536 < stat.st_size,
            content,
            device: stat.st_rdev,
            xattrs: xattrs(path),
            same_as,
        },
    );
    if kind == FileType::Directory {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for child in names {
            let child_name = match name {
                "." => child.as_bytes().escape_ascii().to_string(),
                _ => format!("{name}/{}", child.as_bytes().escape_ascii()),
            };
            visit(&path.join(&child), &child_name, seen, inodes);
        }
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 64 << 10];
    let length = fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

/// Is it overlayfs's mark for a removed name?
pub fn is_whiteout(path: &Path) -> bool {
    let stat = fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub fn is_opaque(path: &Path) -> bool {
    xattrs(path).get("trusted.overlay.opaque").is_some_and(|value| value == b"y")
}

/// What a directory takes on disk, in bytes.
pub fn used(path: &Path) -> u64 {
    store::disk_usage(path).unwrap()
}
