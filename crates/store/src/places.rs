//! From a member's name to the directory that it goes into, without ever leaving the layer.
//!
//! The directories on the way to the last place stay open, so the next member, which is nearly always close, costs no
//! look-up at all, and a new sub-directory one `openat` of a single name with `O_NOFOLLOW`. No path with more than one
//! component is ever given to the kernel, so there is nothing to follow: `..` is refused, and a link is not a directory.
//!
//! A link among the parents is the exception: layers made by building systems write `lib/x` after `lib -> usr/lib`, and
//! Docker and containerd follow it inside the layer. Only the kernel can do that right, with `openat2` and
//! `RESOLVE_IN_ROOT`. Linux 5.6; where a seccomp filter hides it such a layer is refused.

use crate::directory::OPEN;
use crate::error::{During, EntryError, quoted};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, ResolveFlags};
use rustix::io::Errno;

/// Levels with a descriptor each; below, only the last one has one.
const OPEN_LEVELS: usize = 48;

/// A cursor in a tree.
pub(crate) struct Places {
    root: OwnedFd,
    stack: Vec<Level>,
}

struct Level {
    name: Box<[u8]>,
    fd: Option<OwnedFd>,
}

/// Makes a directory; is told parent and name, and whether a whiteout stands there.
type Make<'a> = dyn FnMut(BorrowedFd<'_>, &[u8], bool) -> Result<(), EntryError> + 'a;

/// What to do about a missing or unsuitable parent.
pub(crate) enum Missing<'a> {
    /// Make it.
    Make(&'a mut Make<'a>),
    /// Report `ENOENT`.
    Fail,
}

impl Places {
    pub(crate) fn new(root: OwnedFd) -> Places {
        Places { root, stack: Vec::new() }
    }

    /// Forgets the way, because something on it may have been replaced.
    pub(crate) fn forget(&mut self) {
        self.stack.clear();
    }

    /// The directory at `path`, a list of names without `.` and `..`.
    pub(crate) fn enter(&mut self, path: &[&[u8]], mut missing: Missing<'_>) -> Result<BorrowedFd<'_>, EntryError> {
        let shared = self.stack.iter().zip(path).take_while(|(level, name)| &*level.name == **name).count();
        self.stack.truncate(shared);
        while self.stack.last().is_some_and(|level| level.fd.is_none()) {
            self.stack.pop();
        }
        for at in self.stack.len()..path.len() {
            let fd = self.step(path, at, &mut missing)?;
            if at > OPEN_LEVELS
                && let Some(level) = self.stack.last_mut()
            {
                level.fd = None;
            }
            self.stack.push(Level { name: path[at].into(), fd: Some(fd) });
        }
        Ok(self.here())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().and_then(|level| level.fd.as_ref()).unwrap_or(&self.root).as_fd()
    }

    /// Opens `path[at]` in the directory where the cursor is.
    fn step(&self, path: &[&[u8]], at: usize, missing: &mut Missing<'_>) -> Result<OwnedFd, EntryError> {
        let (parent, name) = (self.here(), path[at]);
        let open = || fs::openat(parent, name, OPEN, Mode::empty());
        let call = || format!("openat(<layer>, {}, O_DIRECTORY|O_NOFOLLOW)", quoted(&path[..=at].join(&b'/')));
        match (open(), missing) {
            (Ok(fd), _) => Ok(fd),
            (Err(Errno::NOENT), Missing::Make(make)) => {
                make(parent, name, false)?;
                Ok(open().during(call)?)
            }
            (Err(errno @ (Errno::NOTDIR | Errno::LOOP)), missing) => {
                let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).during(call)?;
                match (FileType::from_raw_mode(stat.st_mode), missing) {
                    (FileType::Symlink, _) => self.follow(path, at),
                    (FileType::CharacterDevice, Missing::Make(make)) if stat.st_rdev == 0 => {
                        make(parent, name, true)?;
                        Ok(open().during(call)?)
                    }
                    (_, Missing::Make(_)) => Err(EntryError::Parent { parent: quoted(&path[..=at].join(&b'/')) }),
                    (_, Missing::Fail) => Err(crate::error::SystemError::new(call(), errno).into()),
                }
            }
            (Err(errno), _) => Err(crate::error::SystemError::new(call(), errno).into()),
        }
    }

    fn follow(&self, path: &[&[u8]], at: usize) -> Result<OwnedFd, EntryError> {
        let whole = path[..=at].join(&b'/');
        let flags = OPEN.difference(fs::OFlags::NOFOLLOW);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || fs::openat2(&self.root, &*whole, flags, Mode::empty(), resolve);
        // EAGAIN: a rename anywhere on the machine came between a ".." in the link and its check.
        let opened = (0..128).map(|_| open()).find(|result| !matches!(result, Err(Errno::AGAIN)));
        match opened.unwrap_or(Err(Errno::AGAIN)) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NOSYS) => {
                Err(EntryError::Parent { parent: quoted(&whole) })
            }
            Err(errno) => Err(crate::error::SystemError::new(
                format!("openat2(<layer>, {}, O_DIRECTORY, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS)", quoted(&whole)),
                errno,
            )
            .into()),
        }
    }
}
