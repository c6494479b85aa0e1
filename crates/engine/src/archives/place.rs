//! A path of a container as descriptors.

use super::{Owners, PathStat};
use crate::error::{Error, Kind, Result};
use crate::view::View;
use kernel::beneath::{self, Limits};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Something at a path: the directory it is in, and its name there.
pub(super) struct Place {
    pub(super) stat: PathStat,
    /// The path, for errors.
    pub(super) shown: String,
    parent: OwnedFd,
    /// `.` for a root or a path with `.` at its end.
    entry: CString,
    /// The first name in an archive of it.
    archived: Vec<u8>,
}

impl Place {
    /// Finds a path of a container. All but the last name may be links; with a slash or `/.` at its end, that too.
    pub(super) fn find(view: &View, container: &str, path: &str) -> Result<Place> {
        Place::find_as(view, container, path, path)
    }

    /// Finds what a path leads to when a link at its end is followed.
    pub(super) fn find_directory(view: &View, container: &str, path: &str) -> Result<Place> {
        Place::find_as(view, container, &format!("{}/", path.trim_end_matches('/')), path)
    }

    /// Finds a path that errors tell as `shown`.
    fn find_as(view: &View, container: &str, path: &str, shown: &str) -> Result<Place> {
        let missing = |why: &str| {
            Error::new(Kind::NotFound, format!("Could not find the file {shown} in container {container}{why}"))
        };
        if path.is_empty() {
            return Err(Error::new(Kind::InvalidArgument, "path cannot be empty"));
        }
        Place::open(view.root(), path).map_err(|errno| match errno {
            Errno::NOENT => missing(""),
            Errno::NOTDIR => missing(": not a directory"),
            errno => Error::caused(Kind::Internal, format!("cannot look at {path} in container {container}"), errno),
        })
    }

    /// The same beneath any root.
    pub(super) fn open(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<Place> {
        let absolute = format!("/{}", path.trim_start_matches('/'));
        // A last name of `..` is resolved with the rest.
        let (parent, name) = match absolute.rsplit_once('/') {
            Some((parent, "" | ".")) => (parent, "."),
            Some((_, "..")) | None => (absolute.as_str(), "."),
            Some((parent, name)) => (parent, name),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let slashed = if parent.is_empty() { "/" } else { parent };
        let parent_fd = beneath::open(root, slashed, flags, Mode::empty(), Limits::default()).map_err(|e| e.errno())?;
        let entry = CString::new(name).map_err(|_| Errno::INVAL)?;
        let stat = rustix::fs::statat(&parent_fd, &entry, AtFlags::SYMLINK_NOFOLLOW)?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => resolve(root, &absolute)?,
            _ => String::new(),
        };
        let shown_name = last_name(&absolute);
        let archived = if absolute.ends_with("/.") || shown_name == "/" { b".".to_vec() } else { shown_name.into() };
        Ok(Place {
            stat: described(last_name(&absolute), &stat, link_target),
            shown: absolute,
            parent: parent_fd,
            entry,
            archived,
        })
    }

    /// Writes it as a tar archive.
    pub(super) fn write(
        &self,
        ownership: store::Ownership,
        shift: &store::Shift,
        mut sink: impl Write,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.stat.is_directory() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(&self.parent, &self.entry, flags, Mode::empty())?;
            store::pack_tree(directory, &self.archived, ownership, shift, &mut sink)?;
        } else {
            store::pack_entry(self.parent.as_fd(), &self.entry, &self.archived, ownership, shift, &mut sink)?;
        }
        Ok(sink.flush()?)
    }

    /// Gives it another first name in the archive.
    pub(super) fn archived_as(mut self, name: &str) -> Place {
        self.archived = name.into();
        self
    }
}

fn last_name(path: &str) -> &str {
    if path.ends_with("/.") {
        return ".";
    }
    match path.trim_end_matches('/').rsplit_once('/') {
        Some((_, name)) if !name.is_empty() => name,
        _ => "/",
    }
}

fn described(name: &str, stat: &Stat, link_target: String) -> PathStat {
    PathStat {
        name: name.to_owned(),
        size: stat.st_size,
        mode: stat.st_mode,
        mtime: stat.st_mtime,
        mtime_nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        link_target,
    }
}

/// Where a path leads when all links in it are followed beneath the root, by its text, for those who ask; the last names
/// may be missing. Whoever uses the answer resolves it beneath the root again.
pub(super) fn resolve(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<String> {
    let mut done: Vec<String> = Vec::new();
    let mut rest: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(name),
        }
        let here = format!("/{}", done.join("/"));
        let limits = Limits { no_links: false, no_mounts: false };
        let Ok(found) = beneath::open(root, &here, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), limits) else {
            continue;
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::Symlink {
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&found, c"", Vec::new())?;
        let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
        done.pop();
        if target.starts_with('/') {
            done.clear();
        }
        rest.extend(target.rsplit('/').map(str::to_owned));
    }
    Ok(format!("/{}", done.join("/")))
}

/// The numbers of a container's user, by its own files.
pub(super) fn owner(view: &View, user: &str) -> Result<Owners> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let read = |path: &str| {
        let file =
            beneath::open(view.root(), path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty(), Limits::default());
        let mut text = String::new();
        // A hostile file of any length is cut, not read.
        if let Ok(file) = file {
            use std::io::Read;
            std::fs::File::from(file).take(1 << 20).read_to_string(&mut text).unwrap_or_default();
        }
        text
    };
    let unknown = |what: &str, name: &str| {
        Error::new(
            Kind::InvalidArgument,
            format!("unable to find {what} {name}: no matching entry in the container's files"),
        )
    };
    let find = |text: &str, name: &str| {
        text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>()).find(|fields| {
            fields.first().is_some_and(|first| first == name) || fields.get(2).is_some_and(|number| number == name)
        })
    };
    let passwd = find(&read("/etc/passwd"), name);
    let number = |fields: &Option<Vec<String>>, at: usize| fields.as_ref()?.get(at)?.parse::<u32>().ok();
    let uid = number(&passwd, 2).or_else(|| name.parse().ok()).ok_or_else(|| unknown("user", name))?;
    let gid = match group {
        "" => number(&passwd, 3).unwrap_or(0),
        group => number(&find(&read("/etc/group"), group), 2)
            .or_else(|| group.parse().ok())
            .ok_or_else(|| unknown("group", group))?,
    };
    Ok(Owners::All(uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("run/lock")).unwrap();
        std::fs::create_dir_all(at("var")).unwrap();
        std::fs::write(at("run/file"), "x").unwrap();
        symlink("/run", at("var/run")).unwrap();
        symlink("../../../../run/file", at("up")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("nowhere/else", at("dangling")).unwrap();
        let fd = rustix::fs::open(directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (directory, fd)
    }

    #[test]
    fn links_are_resolved_inside() {
        let (_directory, root) = tree();
        for (path, expected) in [
            ("/var/run", "/run"),
            ("/var/run/lock", "/run/lock"),
            ("/up", "/run/file"),
            ("/dangling", "/nowhere/else"),
            ("/a/../var/./run//file", "/run/file"),
        ] {
            assert_eq!(resolve(root.as_fd(), path).unwrap(), expected, "{path}");
        }
        assert_eq!(resolve(root.as_fd(), "/loop"), Err(Errno::LOOP));
    }

    #[test]
    fn a_slash_at_the_end_follows() {
        let (_directory, root) = tree();
        let open = |path: &str| Place::open(root.as_fd(), path);
        assert!(open("/var/run").unwrap().stat.is_link());
        assert_eq!(open("/var/run").unwrap().stat.link_target, "/run");
        assert!(open("var/run/").unwrap().stat.is_directory());
        assert_eq!(open("/var/run/.").unwrap().stat.name, ".");
        assert_eq!(open("/").unwrap().stat.name, "/");
        assert!(open("/run/..").unwrap().stat.is_directory());
        assert_eq!(open("/run/file/").map(drop).unwrap_err(), Errno::NOTDIR);
        assert_eq!(open("/nothing").map(drop).unwrap_err(), Errno::NOENT);
    }
}
