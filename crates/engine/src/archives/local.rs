//! The caller's own files as tar streams: the other side of `cp`.
//!
//! The paths are the caller's, so links on the way are followed; what a stream contains is a container's, so it is
//! unpacked beneath the directory that was named and nowhere else (CVE-2019-1002101, CVE-2019-11251).

use super::place::Place;
use super::{Unpack, unpack};
use crate::error::{Context, Error, Kind, Result};
use crate::view::View;
use rustix::fs::{CWD, Mode, OFlags};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Writes what stands at `path` of the host as a plain tar archive whose names begin with `name`. A link at its end is
/// packed as a link unless a slash follows it.
///
/// # Errors
/// [`Kind::NotFound`], and system errors.
pub fn pack(path: &str, name: &str, sink: impl Write) -> Result<()> {
    let absolute = std::path::absolute(path).internal(|| format!("{path:?} is no path"))?;
    let mut text = absolute
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::new(Kind::InvalidArgument, format!("the path {path:?} is not UTF-8")))?;
    // `absolute` takes what says that a directory is meant.
    if path.ends_with("/.") || path == "." {
        text.push_str("/.");
    } else if path.ends_with('/') {
        text.push('/');
    }
    let root = directory(Path::new("/"))?;
    let place = Place::open(root.as_fd(), &text).map_err(|errno| match errno {
        rustix::io::Errno::NOENT => Error::new(Kind::NotFound, format!("lstat {path}: no such file or directory")),
        errno => Error::caused(Kind::Internal, format!("cannot copy {path}"), errno),
    })?;
    let ownership = store::Ownership::default();
    place.archived_as(name).write(ownership, &store::Shift::default(), sink).internal(|| format!("cannot copy {path}"))
}

/// Unpacks a tar archive beneath a directory of the host.
///
/// # Errors
/// As [`crate::Engine::archive_in`].
pub fn unpack_into(path: &Path, source: impl Read, options: &Unpack) -> Result<()> {
    let root = directory(path)?;
    unpack(&View::of(root), "/", source, options, false)
}

fn directory(path: &Path) -> Result<std::os::fd::OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .internal(|| format!("cannot open the directory {}", path.display()))
}
