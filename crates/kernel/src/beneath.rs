//! Paths of untrusted trees, resolved beneath a directory descriptor: no symbolic link, `..` or race leads out of it.
//!
//! By openat2(2) with `RESOLVE_IN_ROOT` (Linux 5.6); where that is missing (ENOSYS), and to create what is missing, by
//! walking: each component is opened with `O_PATH|O_NOFOLLOW`, symbolic links are read and continued by hand, and `..`
//! goes back to the descriptor that the walk came from, never to what the file system says the parent is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// As many as the kernel follows (path_resolution(7)).
const MAXIMUM_LINKS: usize = 40;

/// openat2 answers EAGAIN when a rename elsewhere in the system made it unsure; an attacker can provoke that, so it ends.
const MAXIMUM_RETRIES: usize = 128;

/// What may be passed on the way, beside the rule that nothing leads out of the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A symbolic link anywhere is an error (ELOOP).
    pub no_links: bool,
    /// Crossing into another mount is an error (EXDEV). The walk used without openat2 checks the device number instead.
    pub no_mounts: bool,
}

/// Opens `path` with `root` as the file system's root.
///
/// Magic links of procfs are never followed (`RESOLVE_NO_MAGICLINKS`), so `/proc/self/fd/7` leads nowhere
/// (CVE-2024-21626). With `O_CREAT`, `mode` is that of the new file.
pub fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode, limits: Limits) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if limits.no_links {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    if limits.no_mounts {
        resolve |= ResolveFlags::NO_XDEV;
    }
    let mut retries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags, mode, resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::AGAIN | Errno::INTR) if retries < MAXIMUM_RETRIES => retries += 1,
            Err(Errno::NOSYS) => return open_by_walking(root, path, flags, mode, limits),
            Err(errno) => {
                let call = format!("openat2(<root>, {path:?}, {}, RESOLVE_IN_ROOT)", describe(flags));
                return Err(Error::new(call, errno));
            }
        }
    }
}

/// Opens the directory `path` as an `O_PATH` descriptor and makes those components that are missing, with `mode` less
/// the umask. A dangling symbolic link is completed inside the root.
pub fn make_directories(root: BorrowedFd<'_>, path: &str, mode: Mode) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), Limits::default()) {
        Err(error) if error.errno() == Errno::NOENT => {
            Walk::new(root, Limits::default())?.run(path, Last::Directory(mode))
        }
        other => other,
    }
}

/// Opens the file `path` as an `O_PATH` descriptor; a missing file is made empty with `mode`, with its directories
/// (0755, both less the umask).
pub fn make_file(root: BorrowedFd<'_>, path: &str, mode: Mode) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH, Mode::empty(), Limits::default()) {
        Err(error) if error.errno() == Errno::NOENT => Walk::new(root, Limits::default())?.run(path, Last::File(mode)),
        other => other,
    }
}

fn open_by_walking(root: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode, limits: Limits) -> Result<OwnedFd> {
    Walk::new(root, limits)?.run(path, Last::Open(flags, mode))
}

/// What becomes of the last component.
#[derive(Clone, Copy)]
enum Last {
    Open(OFlags, Mode),
    Directory(Mode),
    File(Mode),
}

impl Last {
    /// Mode of missing directories on the way, if they are made.
    fn directories(self) -> Option<Mode> {
        match self {
            Self::Open(..) => None,
            Self::Directory(mode) => Some(mode),
            Self::File(_) => Some(Mode::from_raw_mode(0o755)),
        }
    }

    fn follows_links(self) -> bool {
        !matches!(self, Self::Open(flags, _) if flags.contains(OFlags::NOFOLLOW))
    }
}

/// A resolution in progress: the directories from the root down to where it is.
struct Walk {
    stack: Vec<OwnedFd>,
    limits: Limits,
    device: u64,
    links: usize,
}

impl Walk {
    fn new(root: BorrowedFd<'_>, limits: Limits) -> Result<Self> {
        let start = rustix::fs::openat(root, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::new("openat(<root>, \".\", O_PATH)", errno))?;
        let device = rustix::fs::fstat(&start).map_err(|errno| Error::new("fstat(<root>)", errno))?.st_dev;
        Ok(Self { stack: vec![start], limits, device, links: 0 })
    }

    fn here(&self) -> BorrowedFd<'_> {
        // The root is never popped, so the stack is never empty; the first element stands in to avoid a panic path.
        self.stack.last().unwrap_or(&self.stack[0]).as_fd()
    }

    fn run(mut self, path: &str, last: Last) -> Result<OwnedFd> {
        // Reversed, so that the next component is popped and those of a link are pushed.
        let mut rest: Vec<String> = reversed(path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                if self.stack.len() > 1 {
                    self.stack.pop();
                }
                continue;
            }
            let is_last = rest.is_empty();
            if let Some(fd) = self.step(&name, is_last, last, &mut rest, path)? {
                return Ok(fd);
            }
        }
        self.finish_here(path, last)
    }

    /// Takes one component. Gives a descriptor when that was the last one and is no directory to go on from.
    fn step(
        &mut self,
        name: &str,
        is_last: bool,
        last: Last,
        rest: &mut Vec<String>,
        path: &str,
    ) -> Result<Option<OwnedFd>> {
        let fail = |errno| Error::new(format!("openat(<beneath root>, {name:?}) of {path:?}"), errno);
        let next = match self.open_component(name) {
            Err(Errno::NOENT) => match (is_last, last) {
                (true, Last::Open(flags, mode)) if flags.contains(OFlags::CREATE) => {
                    return rustix::fs::openat(self.here(), name, flags | OFlags::NOFOLLOW, mode)
                        .map(Some)
                        .map_err(fail);
                }
                (true, Last::File(mode)) => return self.create_file(name, mode).map(Some).map_err(fail),
                _ => self.create_directory(name, last.directories()).map_err(fail)?,
            },
            other => other.map_err(fail)?,
        };
        let status = rustix::fs::fstat(&next).map_err(fail)?;
        if self.limits.no_mounts && status.st_dev != self.device {
            return Err(fail(Errno::XDEV));
        }
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Symlink if !is_last || last.follows_links() => {
                self.follow(name, &next, rest).map_err(fail)?;
                Ok(None)
            }
            FileType::Directory => {
                self.stack.push(next);
                Ok(None)
            }
            _ if !is_last => Err(fail(Errno::NOTDIR)),
            _ => self.finish_file(name, next, last).map(Some).map_err(fail),
        }
    }

    fn open_component(&self, name: &str) -> std::result::Result<OwnedFd, Errno> {
        rustix::fs::openat(self.here(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn create_directory(&self, name: &str, mode: Option<Mode>) -> std::result::Result<OwnedFd, Errno> {
        let mode = mode.ok_or(Errno::NOENT)?;
        match rustix::fs::mkdirat(self.here(), name, mode) {
            // Somebody else made it between the two calls; it is looked at like any other entry.
            Ok(()) | Err(Errno::EXIST) => self.open_component(name),
            Err(errno) => Err(errno),
        }
    }

    fn create_file(&self, name: &str, mode: Mode) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        drop(rustix::fs::openat(self.here(), name, flags, mode)?);
        self.open_component(name)
    }

    fn follow(&mut self, name: &str, link: &OwnedFd, rest: &mut Vec<String>) -> std::result::Result<(), Errno> {
        self.links += 1;
        if self.limits.no_links || self.links > MAXIMUM_LINKS {
            return Err(Errno::LOOP);
        }
        let status = rustix::fs::fstatfs(link)?;
        // A magic link's text is no path. Its target would be followed by the kernel alone, which is not wanted.
        if status.f_type == libc::PROC_SUPER_MAGIC && name != "self" && name != "thread-self" {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(link, c"", Vec::new())?;
        let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
        if target.starts_with('/') {
            self.stack.truncate(1);
        }
        rest.extend(reversed(target));
        Ok(())
    }

    fn finish_file(&self, name: &str, found: OwnedFd, last: Last) -> std::result::Result<OwnedFd, Errno> {
        match last {
            Last::Directory(_) => Err(Errno::NOTDIR),
            Last::File(_) => Ok(found),
            Last::Open(flags, _) if flags.contains(OFlags::PATH) => {
                if flags.contains(OFlags::DIRECTORY) {
                    Err(Errno::NOTDIR)
                } else {
                    Ok(found)
                }
            }
            Last::Open(flags, mode) => {
                let opened = rustix::fs::openat(self.here(), name, flags | OFlags::NOFOLLOW, mode)?;
                let (before, after) = (rustix::fs::fstat(&found)?, rustix::fs::fstat(&opened)?);
                // Exchanged between the two calls; whoever does that gets an error, not a file of another kind.
                if (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino) {
                    Ok(opened)
                } else {
                    Err(Errno::AGAIN)
                }
            }
        }
    }

    /// The path ended at a directory (or was empty, `/`, `..`).
    fn finish_here(mut self, path: &str, last: Last) -> Result<OwnedFd> {
        let fail = |errno| Error::new(format!("openat(<beneath root>, {path:?})"), errno);
        match last {
            Last::Directory(_) | Last::File(_) => self.stack.pop().ok_or_else(|| fail(Errno::NOENT)),
            Last::Open(flags, _) if flags.contains(OFlags::PATH) => self.stack.pop().ok_or_else(|| fail(Errno::NOENT)),
            Last::Open(flags, mode) => rustix::fs::openat(self.here(), c".", flags, mode).map_err(fail),
        }
    }
}

fn reversed(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect()
}

/// Removes one entry of a directory that is given by descriptor.
pub fn remove(directory: BorrowedFd<'_>, name: &str, is_directory: bool) -> Result<()> {
    let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(directory, name, flags)
        .map_err(|errno| Error::new(format!("unlinkat(<directory>, {name:?})"), errno))
}

fn describe(flags: OFlags) -> String {
    let mut names = Vec::new();
    for (flag, name) in [
        (OFlags::PATH, "O_PATH"),
        (OFlags::DIRECTORY, "O_DIRECTORY"),
        (OFlags::NOFOLLOW, "O_NOFOLLOW"),
        (OFlags::CREATE, "O_CREAT"),
        (OFlags::EXCL, "O_EXCL"),
        (OFlags::TRUNC, "O_TRUNC"),
    ] {
        if flags.contains(flag) {
            names.push(name);
        }
    }
    if !flags.contains(OFlags::PATH) {
        names.insert(
            0,
            match flags.bits() & 3 {
                1 => "O_WRONLY",
                2 => "O_RDWR",
                _ => "O_RDONLY",
            },
        );
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dhow-beneath-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root/etc")).unwrap();
            std::fs::write(path.join("root/etc/passwd"), "inside").unwrap();
            std::fs::write(path.join("secret"), "outside").unwrap();
            symlink("/etc", path.join("root/absolute")).unwrap();
            symlink("../../../secret", path.join("root/up")).unwrap();
            symlink("loop", path.join("root/loop")).unwrap();
            symlink("/not/yet/there", path.join("root/dangling")).unwrap();
            Self(path)
        }

        fn root(&self) -> OwnedFd {
            rustix::fs::open(self.0.join("root"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
        }

        fn path(&self, inside: &str) -> PathBuf {
            Path::new(&self.0).join("root").join(inside)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    type Open = fn(BorrowedFd<'_>, &str, OFlags, Mode, Limits) -> Result<OwnedFd>;
    const BOTH: [(&str, Open); 2] = [("openat2", open), ("walk", open_by_walking)];

    #[test]
    fn links_stay_inside() {
        let tree = Tree::new("links");
        for (name, open) in BOTH {
            let read = |path: &str| {
                let fd = open(tree.root().as_fd(), path, OFlags::RDONLY, Mode::empty(), Limits::default())?;
                let mut buffer = [0; 64];
                let length = rustix::io::read(&fd, &mut buffer).unwrap();
                Ok::<_, Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
            };
            assert_eq!(read("absolute/passwd").unwrap(), "inside", "{name}");
            assert_eq!(read("/../../etc/../etc/passwd").unwrap(), "inside", "{name}");
            assert_eq!(read("up").unwrap_err().errno(), Errno::NOENT, "{name}");
            assert_eq!(read("loop").unwrap_err().errno(), Errno::LOOP, "{name}");
            let limits = Limits { no_links: true, no_mounts: false };
            let refused = open(tree.root().as_fd(), "absolute/passwd", OFlags::PATH, Mode::empty(), limits);
            assert_eq!(refused.unwrap_err().errno(), Errno::LOOP, "{name}");
        }
    }

    #[test]
    fn magic_links_lead_nowhere() {
        let proc_root = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for (name, open) in BOTH {
            let result = open(proc_root.as_fd(), "self/cwd/x", OFlags::PATH, Mode::empty(), Limits::default());
            assert_eq!(result.unwrap_err().errno(), Errno::LOOP, "{name}");
            open(proc_root.as_fd(), "self/status", OFlags::RDONLY, Mode::empty(), Limits::default()).unwrap();
        }
    }

    #[test]
    fn what_is_missing_is_made_inside() {
        let tree = Tree::new("make");
        let mode = Mode::from_raw_mode(0o755);
        make_directories(tree.root().as_fd(), "/a/b/c", mode).unwrap();
        assert!(tree.path("a/b/c").is_dir());
        make_directories(tree.root().as_fd(), "/dangling/x", mode).unwrap();
        assert!(tree.path("not/yet/there/x").is_dir());
        make_file(tree.root().as_fd(), "/d/e", mode).unwrap();
        assert!(tree.path("d/e").is_file());
        make_file(tree.root().as_fd(), "/d/e", mode).unwrap();
        assert_eq!(make_directories(tree.root().as_fd(), "/d/e", mode).unwrap_err().errno(), Errno::NOTDIR);
        assert_eq!(make_directories(tree.root().as_fd(), "/d/e/f", mode).unwrap_err().errno(), Errno::NOTDIR);
    }
}
