//! Which extended attributes of an archive go into an image: those that the kernel would have set on a file of that kind, with the
//! same words about those that it would not. The kernel is not asked here, so what it checks in setxattr(2) is checked again:
//! an invalid ACL in an image would make the file inaccessible.

use crate::error::{EntryError, SystemError, quoted};
use crate::xattrs::is_overlay;
use archive::{Attributes, Entry};
use erofs::{Kind, Writer};
use rustix::io::Errno;

/// The attributes, and a sentence for each that cannot be kept.
pub(crate) fn attributes(entry: &Entry, kind: Kind) -> Result<(Attributes, Vec<String>), EntryError> {
    let (mut kept, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in &entry.xattrs {
        // See `xattrs::apply`.
        if is_overlay(name) {
            warnings.push(format!("{}: attribute {} was left out", quoted(&entry.path), quoted(name)));
            continue;
        }
        if name == b"security.selinux" {
            continue;
        }
        match check(name, value, kind) {
            Ok(()) => kept.push((name.clone(), value.clone())),
            Err(errno @ (Errno::OPNOTSUPP | Errno::PERM)) => {
                let error = SystemError::new("setxattr", errno);
                let (path, name) = (quoted(&entry.path), quoted(name));
                warnings.push(format!("{path}: attribute {name} cannot be kept here: {error}"));
            }
            Err(errno) => {
                let call = format!("setxattr(<layer>/…, {}, {} bytes)", quoted(name), value.len());
                return Err(SystemError::new(call, errno).into());
            }
        }
    }
    Ok((kept, warnings))
}

/// What setxattr(2) would say.
fn check(name: &[u8], value: &[u8], kind: Kind) -> Result<(), Errno> {
    if name.is_empty() || name.len() > 255 {
        return Err(Errno::RANGE);
    }
    // 64 KiB, and an image counts to one less.
    if value.len() > usize::from(u16::MAX) {
        return Err(Errno::TOOBIG);
    }
    match name {
        b"user." | b"trusted." | b"security." => return Err(Errno::INVAL),
        _ if !Writer::can_store(name) => return Err(Errno::OPNOTSUPP),
        _ => {}
    }
    let is_plain = matches!(kind, Kind::Regular { .. } | Kind::Directory);
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" if kind == Kind::Symlink => Err(Errno::OPNOTSUPP),
        b"system.posix_acl_default" if kind != Kind::Directory => Err(Errno::ACCESS),
        b"system.posix_acl_access" | b"system.posix_acl_default" => acl(value),
        b"security.capability" => capability(value),
        _ if name.starts_with(b"user.") && !is_plain => Err(Errno::PERM),
        _ => Ok(()),
    }
}

/// linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id. In ascending order of tags; owner, group and
/// others once, a mask if there is anyone by name.
fn acl(value: &[u8]) -> Result<(), Errno> {
    let (entries, rest) = value.get(4..).ok_or(Errno::INVAL)?.as_chunks::<8>();
    if value[..4] != [2, 0, 0, 0] || !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let tags: Vec<u16> = entries.iter().map(|entry| u16::from_le_bytes([entry[0], entry[1]])).collect();
    let count = |tag| tags.iter().filter(|&&each| each == tag).count();
    let [owner, user, group, named_group, mask, other] = [1, 2, 4, 8, 16, 32].map(count);
    let known = owner + user + group + named_group + mask + other == tags.len();
    let complete = (owner, group, other) == (1, 1, 1) && mask <= 1 && (mask == 1 || user + named_group == 0);
    let permissions = entries.iter().all(|entry| u16::from_le_bytes([entry[2], entry[3]]) <= 7);
    if known && complete && permissions && tags.is_sorted() { Ok(()) } else { Err(Errno::INVAL) }
}

/// linux/capability.h: version 2 has 20 bytes, version 3 an id more.
fn capability(value: &[u8]) -> Result<(), Errno> {
    let version = value.get(3).copied();
    match (value.len(), version) {
        (20, Some(2)) | (24, Some(3)) => Ok(()),
        _ => Err(Errno::INVAL),
    }
}
