//! What a container changed: its upper directory compared with the layers below (`docker diff`).

use crate::Ownership;
use crate::error::SystemError;
use crate::merge::{Stack, is_opaque, is_whiteout, stat};
use crate::pack::{is_empty, relative};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Stat};
use std::ffi::CString;

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is in a layer and is different now; also every directory on the way to another change.
    Modified,
    /// It is in no layer.
    Added,
    /// It is in a layer and is gone.
    Deleted,
}

/// One changed name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute in the container, starting with `/`; bytes as they are.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
}

/// All changes, a directory before what is in it, names in byte order.
pub(crate) fn changes(
    upper: &Stack,
    lower: &Stack,
    ownership: Ownership,
    mount_points: &[&str],
) -> Result<Vec<Change>, SystemError> {
    let mut walk = Walk { ownership, mount_points: relative(mount_points), out: Vec::new(), path: Vec::new() };
    walk.directory(upper, lower)?;
    Ok(walk.out)
}

struct Walk {
    ownership: Ownership,
    /// No change when they are empty and in no layer.
    mount_points: Vec<Vec<u8>>,
    out: Vec<Change>,
    path: Vec<u8>,
}

impl Walk {
    fn directory(&mut self, upper: &Stack, lower: &Stack) -> Result<(), SystemError> {
        let mut names = upper.names()?;
        let own = upper.parts.first();
        // In an opaque directory everything of the layers is gone that was not made anew.
        let opaque = match own {
            Some(directory) => is_opaque(directory.as_fd(), self.ownership)?,
            None => false,
        };
        if opaque {
            names.extend(lower.names()?);
        }
        for name in names {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend(name.as_bytes());
            let above = match own {
                Some(directory) => stat(directory.as_fd(), &name)?,
                None => None,
            };
            self.name(upper, lower, &name, above, opaque)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn name(
        &mut self,
        upper: &Stack,
        lower: &Stack,
        name: &CString,
        above: Option<Stat>,
        opaque: bool,
    ) -> Result<(), SystemError> {
        let below = lower.find(name)?;
        match (above, below) {
            (Some(above), None) if is_whiteout(&above) => {}
            (None, None) => {}
            (Some(above), None) if self.is_mount_point(own_part(upper), name, &above)? => {}
            (Some(above), Some(_)) if is_whiteout(&above) => self.note(ChangeKind::Deleted),
            (None, Some(_)) if opaque => self.note(ChangeKind::Deleted),
            // Vanished while we looked.
            (None, Some(_)) => {}
            (Some(above), below) => {
                let kind = match &below {
                    Some(_) => ChangeKind::Modified,
                    None => ChangeKind::Added,
                };
                if FileType::from_raw_mode(above.st_mode) != FileType::Directory {
                    self.note(kind);
                    return Ok(());
                }
                // A directory is copied up for what is made below it; that alone is no change of it. But then that is
                // one, and notes its parents.
                let down = upper.enter(name, self.ownership)?;
                let lower_down = lower.enter(name, self.ownership)?;
                // The time of one that got a mount point changed with that.
                let touched = self.has_mount_point(&down, &lower_down)?;
                let owner = upper.shift_of(0).inside(above.st_uid, above.st_gid);
                if below.is_none_or(|below| !same_directory(&above, owner, &below.stat, touched)) {
                    self.note(kind);
                }
                self.directory(&down, &lower_down)?;
            }
        }
        Ok(())
    }

    fn is_mount_point(
        &self,
        parent: Option<BorrowedFd<'_>>,
        name: &CString,
        above: &Stat,
    ) -> Result<bool, SystemError> {
        let path = self.path.get(1..).unwrap_or_default();
        match parent {
            Some(parent) if self.mount_points.iter().any(|each| each == path) => {
                is_empty(parent, name, above, path, &self.mount_points)
            }
            _ => Ok(false),
        }
    }

    /// Whether a mount point was made in the directory at the current path.
    fn has_mount_point(&self, upper: &Stack, lower: &Stack) -> Result<bool, SystemError> {
        for path in &self.mount_points {
            let here = self.path.get(1..).unwrap_or_default();
            let inside = path.strip_prefix(here).and_then(|rest| rest.strip_prefix(b"/"));
            let Some(name) = inside.filter(|name| !name.contains(&b'/')) else { continue };
            let Ok(name) = CString::new(name) else { continue };
            let made = upper.find(&name)?.is_some() && lower.find(&name)?.is_none();
            if made {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes the current path, and before it the directories on the way that were not noted.
    fn note(&mut self, kind: ChangeKind) {
        for at in 1..self.path.len() {
            if self.path[at] == b'/' {
                let parent = &self.path[..at];
                // Walked in order, a parent that was noted is followed only by names in it.
                let noted = self.out.iter().rev().find(|change| !is_in(&change.path, parent));
                if noted.is_none_or(|change| change.path != parent) {
                    self.out.push(Change { path: parent.to_vec(), kind: ChangeKind::Modified });
                }
            }
        }
        self.out.push(Change { path: self.path.clone(), kind });
    }
}

fn is_in(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn own_part(upper: &Stack) -> Option<BorrowedFd<'_>> {
    upper.parts.first().map(AsFd::as_fd)
}

/// What Docker compares. The first one's owner may be stored as another.
fn same_directory(a: &Stat, owner: (u32, u32), b: &Stat, any_time: bool) -> bool {
    a.st_mode == b.st_mode
        && owner == (b.st_uid, b.st_gid)
        && (any_time || (a.st_mtime, a.st_mtime_nsec) == (b.st_mtime, b.st_mtime_nsec))
}
