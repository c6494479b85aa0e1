//! Pipes with an SELinux context of their own.
//!
//! An anonymous pipe belongs to the domain of its maker, and no policy lets a user's shell change that; a confined process
//! may then not even write its output. A FIFO is a file, gets the context of files, and is as good once its name is gone.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags};

use crate::error::{Call, Error};

/// A pipe, reading end first, whose name was in `directory` for a moment; nobody else may write there.
pub(crate) fn make(directory: &Path, label: &str) -> Result<(OwnedFd, OwnedFd), Error> {
    let path = directory.join("pipe");
    let shown = path.display();
    // Left by a monitor that was killed between the two calls, if at all.
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).ok();
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .call(|| format!("mknod({shown}, S_IFIFO|0600)"))?;
    let made = open(&path, label);
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).call(|| format!("unlink({shown})"))?;
    made
}

fn open(path: &Path, label: &str) -> Result<(OwnedFd, OwnedFd), Error> {
    let shown = path.display();
    let value = [label.as_bytes(), b"\0"].concat();
    rustix::fs::lsetxattr(path, "security.selinux", &value, XattrFlags::empty())
        .call(|| format!("lsetxattr({shown}, \"security.selinux\", {label:?})"))?;
    let open = |flags: OFlags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .call(|| format!("open({shown}, {flags:?})"))
    };
    // Without O_NONBLOCK the first of the two would wait for the second (fifo(7)).
    let reader = open(OFlags::RDONLY | OFlags::NONBLOCK)?;
    let writer = open(OFlags::WRONLY)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::empty()).call(|| "fcntl(<pipe>, F_SETFL, 0)".to_owned())?;
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, CWD, FileType, Mode};

    #[test]
    fn a_stale_name_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(CWD, directory.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        // Where SELinux is not, the label is refused or kept as any attribute; either way no name stays.
        drop(super::make(directory.path(), "system_u:object_r:container_file_t:s0"));
        let gone = rustix::fs::statat(CWD, directory.path().join("pipe"), AtFlags::empty());
        assert_eq!(gone.unwrap_err(), rustix::io::Errno::NOENT);
    }
}
