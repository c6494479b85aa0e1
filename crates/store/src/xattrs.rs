//! Extended attributes: which ones an archive may set, and which ones are ours.

use crate::Ownership;
use crate::error::{EntryError, SystemError, quoted};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

/// Where an attribute goes: an open file, or a name that must not be opened (a link, a device).
pub(crate) enum Target<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// The mark that hides what lower layers have in a directory.
pub(crate) fn opaque_name(ownership: Ownership) -> &'static str {
    if ownership.user_xattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" }
}

pub(crate) fn set_opaque(directory: BorrowedFd<'_>, ownership: Ownership) -> Result<(), EntryError> {
    let name = opaque_name(ownership);
    fs::fsetxattr(directory, name, b"y", XattrFlags::empty())
        .map_err(|errno| SystemError::new(format!("fsetxattr(<layer>/…, \"{name}\", \"y\")"), errno).into())
}

/// Sets what an archive asks for; returns a sentence for each attribute that cannot be kept here.
pub(crate) fn apply(
    target: &Target<'_>,
    xattrs: &[(Vec<u8>, Vec<u8>)],
    path: &[u8],
) -> Result<Vec<String>, EntryError> {
    let mut warnings = Vec::new();
    for (name, value) in xattrs {
        // overlayfs believes these: a redirect or metacopy in a layer would show files of another layer. And a label
        // belongs to the policy of the machine that made the archive.
        if is_overlay(name) {
            warnings.push(format!("{}: attribute {} was left out", quoted(path), quoted(name)));
            continue;
        }
        if name == b"security.selinux" {
            continue;
        }
        match set(target, name, value) {
            Ok(()) => {}
            // No such attributes on this file system or type of file, or not in a user namespace.
            Err(errno @ (Errno::OPNOTSUPP | Errno::PERM)) => {
                let error = SystemError::new("setxattr", errno);
                warnings.push(format!("{}: attribute {} cannot be kept here: {error}", quoted(path), quoted(name)));
            }
            Err(errno) => {
                let call = format!("setxattr(<layer>/…, {}, {} bytes)", quoted(name), value.len());
                return Err(SystemError::new(call, errno).into());
            }
        }
    }
    Ok(warnings)
}

/// Attributes of overlayfs, which must not come from an archive nor go into one.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn set(target: &Target<'_>, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    match target {
        Target::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        // setxattrat(2) is Linux 6.13. The magic link leads to our own descriptor, the rest is one name, not followed.
        Target::Named(parent, file) => {
            let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), file].concat();
            fs::lsetxattr(path, name, value, XattrFlags::empty())
        }
    }
}

/// All attributes of a name that belong into an archive.
pub(crate) fn read(parent: BorrowedFd<'_>, file: &[u8]) -> rustix::io::Result<archive::Attributes> {
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), file].concat();
    // XATTR_LIST_MAX and XATTR_SIZE_MAX are 64 KiB; most files have none, and then the first call is the only one.
    let mut list = [0_u8; 512];
    let names = match fs::llistxattr(&*path, &mut list[..]) {
        Ok(length) => list[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0; 64 << 10];
            let length = fs::llistxattr(&*path, &mut list[..])?;
            list.truncate(length);
            list
        }
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if is_overlay(name) || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        match fs::lgetxattr(&*path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}
