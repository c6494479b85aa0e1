//! Removing trees that we did not make alone: by descriptor, without following anything, whatever is in them.
//!
//! What containers and overlayfs leave behind: `work/work` with mode 0000, whiteout devices, directories without permissions,
//! trees deeper than there are descriptors, files marked immutable. What is removed by someone else meanwhile is no error.

use crate::directory::{Directory, OPEN};
use crate::error::{During, SystemError, quoted};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, IFlags, Mode, RawDir};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Levels that are removed with a descriptor each. A directory below is first moved to the top.
const DEPTH: usize = 100;

/// Empties a directory.
pub(crate) fn content(directory: &Directory) -> Result<(), SystemError> {
    Remover { top: directory.as_fd(), label: directory.label(), moved: 0 }.run()
}

struct Remover<'a> {
    top: BorrowedFd<'a>,
    label: &'a str,
    moved: u64,
}

impl Remover<'_> {
    fn run(&mut self) -> Result<(), SystemError> {
        // Again while directories from the depth arrive at the top.
        loop {
            let moved = self.moved;
            // The descriptor may have been read before, here or by its owner.
            fs::seek(self.top, fs::SeekFrom::Start(0)).during(|| format!("lseek({}, 0)", self.label))?;
            self.empty(self.top, 0)?;
            if self.moved == moved {
                return Ok(());
            }
        }
    }

    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Result<(), SystemError> {
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut listing = RawDir::new(directory, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.during(|| format!("getdents64({}/…)", self.label))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.remove(directory, name, entry.file_type(), depth)?;
        }
        Ok(())
    }

    fn remove(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> Result<(), SystemError> {
        if kind != FileType::Directory {
            match self.unlink(parent, name, AtFlags::empty()) {
                // The type was unknown to the file system, or changed.
                Err(error) if error.errno() == Errno::ISDIR => {}
                other => return other,
            }
        }
        // Often empty already, and then no descriptor is needed.
        for _ in 0..3 {
            match self.unlink(parent, name, AtFlags::REMOVEDIR) {
                Err(error) if matches!(error.errno(), Errno::NOTEMPTY | Errno::EXIST) => {}
                other => return other,
            }
            if depth >= DEPTH {
                return self.move_to_top(parent, name);
            }
            let Some(child) = self.open(parent, name)? else { return Ok(()) };
            self.empty(child.as_fd(), depth + 1)?;
        }
        self.unlink(parent, name, AtFlags::REMOVEDIR)
    }

    fn open(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, SystemError> {
        let result = match fs::openat(parent, name, OPEN, Mode::empty()) {
            Err(Errno::ACCESS) => {
                // In a user namespace without the owner mapped even root needs the permission. The name is a directory
                // of ours that is being removed: nothing else can be behind it.
                fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())
                    .and_then(|()| fs::openat(parent, name, OPEN, Mode::empty()))
            }
            other => other,
        };
        match result {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("openat", name, errno)),
        }
    }

    fn unlink(&self, parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), SystemError> {
        let result = match fs::unlinkat(parent, name, flags) {
            Err(Errno::PERM) => {
                clear_flags(parent, name);
                fs::unlinkat(parent, name, flags)
            }
            Err(Errno::ACCESS) => fs::fchmod(parent, Mode::RWXU).and_then(|()| fs::unlinkat(parent, name, flags)),
            other => other,
        };
        match result {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("unlinkat", name, errno)),
        }
    }

    fn move_to_top(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), SystemError> {
        loop {
            let new = format!("deep-{}-{}", rustix::process::getpid().as_raw_pid(), self.moved);
            self.moved += 1;
            match fs::renameat_with(parent, name, self.top, &*new, fs::RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed("renameat2", name, errno)),
            }
        }
    }

    fn failed(&self, call: &str, name: &CStr, errno: Errno) -> SystemError {
        SystemError::new(format!("{call}({}/…, {})", self.label, quoted(name.to_bytes())), errno)
    }
}

/// chattr +i and +a, on the directory or on what is in it. Whether it worked shows at the next attempt.
fn clear_flags(parent: BorrowedFd<'_>, name: &CStr) {
    let clear = |fd: BorrowedFd<'_>| {
        let flags = fs::ioctl_getflags(fd)?;
        fs::ioctl_setflags(fd, flags - (IFlags::IMMUTABLE | IFlags::APPEND))
    };
    let child = fs::openat(
        parent,
        name,
        fs::OFlags::RDONLY | fs::OFlags::NOFOLLOW | fs::OFlags::NONBLOCK | fs::OFlags::CLOEXEC,
        Mode::empty(),
    );
    clear(parent).ok();
    if let Ok(child) = child {
        // A device must not be asked: the request would go to its driver.
        let file = fs::fstat(&child).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if matches!(file, Ok(FileType::RegularFile | FileType::Directory)) {
            clear(child.as_fd()).ok();
        }
    }
}
