//! SELinux labels of host files that a container is to use: its generated files, and bind mounts marked `z` or `Z`.
//!
//! Everything that dhow mounts for a container gets its label with the mount. Files that are the host's own keep theirs, and
//! a confined process can do nothing with them unless the user asks for a new label.

use crate::containers::options::MountSource;
use crate::containers::record::Settings;
use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Directories that the host stops working without when every file in them gets a container's label. Docker and Podman
/// refuse them too.
const SYSTEM: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/opt", "/proc", "/root", "/run",
    "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/run", "/var/tmp",
];

/// How deep a tree may be: one descriptor is open for each level.
const DEPTH: u32 = 256;

/// Gives the container's generated files in `directory` its label, and the bind mounts that ask for it.
///
/// # Errors
/// [`Kind::InvalidArgument`] for a directory of the system; otherwise the call that failed. A file system that keeps no labels
/// is left as it is.
pub(crate) fn apply(settings: &Settings, label: &str, directory: &Path) -> Result<()> {
    for name in ["hostname", "hosts", "resolv.conf"] {
        tree(&directory.join(name), label)?;
    }
    for mount in &settings.mounts {
        let (MountSource::Bind { path, .. }, Some(how)) = (&mount.source, mount.relabel) else { continue };
        let plain = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        if SYSTEM.contains(&plain) {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("cannot give {path} a label for containers: the host needs the files in it as they are"),
            )
            .hint("mount a directory below it, or run with --security-opt label=disable"));
        }
        if how == 'z' {
            tree(Path::new(path), &shared(label))?;
        } else {
            tree(Path::new(path), label)?;
        }
    }
    Ok(())
}

/// A copy of this program in the data directory that containers may execute: as their init, or as the built-in image. The
/// program itself keeps the label that it has on the host, which no container may enter.
///
/// # Errors
/// The call that failed; nothing half made stays.
pub(crate) fn program(original: &Path, data: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    // Of the types that a container may start from, the one that every policy has. The mount is read-only.
    const LABEL: &str = "system_u:object_r:container_file_t:s0";
    let failed = || format!("cannot copy {} for containers to execute", original.display());
    let status = std::fs::metadata(original).internal(failed)?;
    // Another build of dhow makes another copy.
    let name = format!("program-{:x}-{:x}-{:x}", status.ino(), status.mtime_nsec(), status.size());
    let path = data.join(name);
    if path.exists() {
        return Ok(path);
    }
    let staging = data.join("staging");
    std::fs::create_dir_all(&staging).internal(failed)?;
    let unfinished = staging.join(format!("program-{}", std::process::id()));
    let mut copy =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&unfinished).internal(failed)?;
    // A sweep removes what nobody holds.
    rustix::fs::flock(&copy, rustix::fs::FlockOperation::LockExclusive).internal(failed)?;
    let mut source = std::fs::File::open(original).internal(failed)?;
    std::io::copy(&mut source, &mut copy).internal(failed)?;
    tree(&unfinished, LABEL)?;
    std::fs::rename(&unfinished, &path).internal(failed)?;
    Ok(path)
}

/// The label without categories: every container may use it.
fn shared(label: &str) -> String {
    let mut parts = label.splitn(4, ':').collect::<Vec<_>>();
    if let Some(level) = parts.get_mut(3) {
        *level = level.split_once(':').map_or(*level, |(sensitivity, _categories)| sensitivity);
    }
    parts.join(":")
}

fn tree(path: &Path, label: &str) -> Result<()> {
    let failed = || format!("cannot label {} for the container", path.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).internal(failed),
    };
    below(&top, label, 0).internal(failed)
}

/// A file, and what is below it. No symbolic link is followed, whoever swaps one in meanwhile.
fn below(file: &OwnedFd, label: &str, depth: u32) -> std::result::Result<(), Errno> {
    set(file.as_fd(), label)?;
    let status = rustix::fs::fstat(file)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Ok(());
    }
    if depth == DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = rustix::fs::openat(file, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&directory, entry.file_name(), flags, Mode::empty()) {
            Ok(child) => below(&child, label, depth + 1)?,
            // Removed while we look.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn set(file: BorrowedFd<'_>, label: &str) -> std::result::Result<(), Errno> {
    // fsetxattr(2) refuses descriptors of O_PATH, and nothing else can stand for a symbolic link or a device.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut value = label.as_bytes().to_vec();
    value.push(0);
    match rustix::fs::setxattr(&link, "security.selinux", &value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::ROFS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn shared_labels_have_no_categories() {
        assert_eq!(shared("system_u:object_r:container_file_t:s0:c1,c2"), "system_u:object_r:container_file_t:s0");
        assert_eq!(shared("system_u:object_r:container_file_t:s0"), "system_u:object_r:container_file_t:s0");
    }
}
