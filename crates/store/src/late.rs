//! What is done to directories when everything else is in place.
//!
//! A directory's time changes with each name made in it, a set-group-id bit and a default ACL would be inherited by what is
//! made in it, and a mode without write permission stops whoever is not root. So owner, mode, attributes and time of all
//! directories are applied at the end, in the order of the archive: of two entries for one directory the later wins.
//!
//! A hostile archive can have millions of directories with names of 4 KiB: the list moves to an unlinked file when it
//! gets large.

use crate::directory::Directory;
use crate::error::SystemError;
use archive::Time;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

/// Bytes kept in memory.
const IN_MEMORY: usize = 4 << 20;

/// What a directory shall get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Names joined by `/`; empty for the root.
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u32,
    /// Owner and group, or none if they are right by themselves.
    pub(crate) owner: Option<(u32, u32)>,
    /// Is the mode already what it should be?
    pub(crate) mode_set: bool,
    pub(crate) mtime: Time,
    pub(crate) xattrs: archive::Attributes,
}

/// The list.
pub(crate) struct Late {
    memory: Vec<u8>,
    file: Option<File>,
    scratch: Directory,
}

impl Late {
    /// `scratch` is a directory for the unlinked file.
    pub(crate) fn new(scratch: Directory) -> Late {
        Late { memory: Vec::new(), file: None, scratch }
    }

    /// Where the unlinked file goes.
    pub(crate) fn scratch(&self) -> Directory {
        self.scratch.clone()
    }

    pub(crate) fn push(&mut self, wish: &Wish) -> Result<(), SystemError> {
        let out = &mut self.memory;
        put(out, &wish.path);
        out.extend(wish.mode.to_le_bytes());
        let (uid, gid) = wish.owner.unwrap_or_default();
        out.extend([u8::from(wish.owner.is_some()), u8::from(wish.mode_set)]);
        out.extend(uid.to_le_bytes());
        out.extend(gid.to_le_bytes());
        out.extend(wish.mtime.seconds.to_le_bytes());
        out.extend(wish.mtime.nanoseconds.to_le_bytes());
        out.extend((wish.xattrs.len() as u32).to_le_bytes());
        for (name, value) in &wish.xattrs {
            put(out, name);
            put(out, value);
        }
        if self.memory.len() > IN_MEMORY { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), SystemError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let fd = self.scratch.file("late", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
                self.scratch.unlink("late")?;
                File::from(fd)
            }
        };
        file.write_all(&self.memory).map_err(|error| failed("write", &error))?;
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Calls `apply` for each wish, in order.
    pub(crate) fn for_each<E: From<SystemError>>(
        mut self,
        mut apply: impl FnMut(Wish) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(mut file) = self.file.take() {
            file.seek(SeekFrom::Start(0)).map_err(|error| failed("lseek", &error))?;
            drain(BufReader::with_capacity(1 << 20, file), &mut apply)?;
        }
        drain(&self.memory[..], &mut apply)
    }
}

fn drain<E: From<SystemError>>(
    mut source: impl io::BufRead,
    apply: &mut impl FnMut(Wish) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        if source.fill_buf().map_err(|error| failed("read", &error))?.is_empty() {
            return Ok(());
        }
        apply(wish(&mut source).map_err(|error| failed("read", &error))?)?;
    }
}

fn failed(call: &str, error: &io::Error) -> SystemError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    SystemError::new(format!("{call}(<list of directories>)"), errno)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // An attribute or name is never longer than an extended header, 1 MiB.
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn wish(source: &mut impl Read) -> io::Result<Wish> {
    fn fixed<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    fn bytes(source: &mut impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; u32::from_le_bytes(fixed(source)?) as usize];
        source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    let path = bytes(source)?;
    let mode = u32::from_le_bytes(fixed(source)?);
    let [owned, mode_set] = fixed(source)?;
    let uid = u32::from_le_bytes(fixed(source)?);
    let gid = u32::from_le_bytes(fixed(source)?);
    let seconds = i64::from_le_bytes(fixed(source)?);
    let nanoseconds = u32::from_le_bytes(fixed(source)?);
    let count = u32::from_le_bytes(fixed(source)?);
    let xattrs = (0..count).map(|_| Ok((bytes(source)?, bytes(source)?))).collect::<io::Result<_>>()?;
    Ok(Wish {
        path,
        mode,
        owner: (owned != 0).then_some((uid, gid)),
        mode_set: mode_set != 0,
        mtime: Time { seconds, nanoseconds },
        xattrs,
    })
}

impl From<SystemError> for crate::error::StoreError {
    fn from(source: SystemError) -> crate::error::StoreError {
        crate::error::StoreError::System { doing: "work in the store", source }
    }
}

/// Access and modification time for utimensat(2).
pub(crate) fn times(time: Time) -> rustix::fs::Timestamps {
    let stamp = rustix::fs::Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    rustix::fs::Timestamps { last_access: stamp, last_modification: stamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_come_back_in_order_from_memory_and_file() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Directory::create_all(base.path()).unwrap();
        let mut late = Late::new(scratch);
        let wish = |n: u32| Wish {
            path: format!("{n}/{}", "x".repeat(1000)).into_bytes(),
            mode: n,
            owner: (n.is_multiple_of(2)).then_some((n, n + 1)),
            mode_set: n.is_multiple_of(3),
            mtime: Time { seconds: -i64::from(n), nanoseconds: n },
            xattrs: vec![(b"user.a".to_vec(), vec![0; n as usize % 7])],
        };
        for n in 0..10_000 {
            late.push(&wish(n)).unwrap();
        }
        assert!(late.file.is_some() && late.memory.len() <= IN_MEMORY);
        let mut n = 0;
        late.for_each(|found| {
            assert_eq!(found, wish(n));
            n += 1;
            Ok::<_, SystemError>(())
        })
        .unwrap();
        assert_eq!(n, 10_000);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
