//! The head of SQLite's index of its log: by it who has no connection sees that something has been committed.
//!
//! Every commit writes the head anew, before whoever committed hears of it, and no reader sees the commit before
//! (sqlite.org/walformat.html, "The WAL-Index File Format"): forty-eight bytes, there twice, so that one that is just being written is
//! found out. The file is shared memory of all connections; what read(2) gives of it is what they have mapped.

use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What the head was when somebody looked.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    file: Arc<OwnedFd>,
    bytes: [u8; HEAD],
}

/// Length of the head.
const HEAD: usize = 48;
/// Its first field, in the order of bytes of this machine.
const FORMAT: u32 = 3_007_000;
/// Indices that a process may have open: a database that is replaced again and again is looked at by its connections alone.
const MOST: usize = 16;

/// Indices that were opened, and never closed again: closing any descriptor of a file takes from the whole process the locks that it has
/// on it (fcntl(2)), SQLite's among them.
static OPEN: Mutex<Vec<Arc<OwnedFd>>> = Mutex::new(Vec::new());

impl Head {
    /// The head as it is now, of a database that this process has a connection to. `None` where there is no such index, or somebody is
    /// writing the head.
    pub(crate) fn of(database: &str) -> Option<Head> {
        let file = open(Path::new(&format!("{database}-shm")))?;
        Some(Head { bytes: read(&file)?, file })
    }

    /// Whether nothing has been committed since. One system call that waits for nobody.
    pub(crate) fn is_current(&self) -> bool {
        read(&self.file) == Some(self.bytes)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.bytes == other.bytes
    }
}

impl Eq for Head {}

fn open(path: &Path) -> Option<Arc<OwnedFd>> {
    // Nothing that can panic happens while it is held.
    let mut files = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let there = rustix::fs::stat(path).ok()?;
    let same = |file: &&Arc<OwnedFd>| {
        rustix::fs::fstat(file).is_ok_and(|own| (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino))
    };
    if let Some(file) = files.iter().find(same) {
        return Some(file.clone());
    }
    if files.len() >= MOST || FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = Arc::new(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    files.push(file.clone());
    Some(file)
}

fn read(file: &OwnedFd) -> Option<[u8; HEAD]> {
    let mut both = [[0_u8; HEAD]; 2];
    let read = rustix::io::pread(file, both.as_flattened_mut(), 0).ok()?;
    let [first, second] = both;
    let (format, is_ready) = (u32::from_ne_bytes([first[0], first[1], first[2], first[3]]), first[12] == 1);
    (read == 2 * HEAD && first == second && format == FORMAT && is_ready).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Database, Sql};

    fn insert(database: &mut Database, name: &str) {
        let row = "INSERT INTO network VALUES (?1, ?1, NULL, 't', '{}')";
        database.write(|t| t.execute(row, [name]).sql("insert").map(drop)).unwrap();
    }

    #[test]
    fn every_commit_of_any_connection_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let (mut first, mut second) = (Database::open(&path).unwrap(), Database::open(&path).unwrap());
        insert(&mut first, "a");
        let head = || Head::of(path.to_str().unwrap()).expect("it is in WAL mode");
        let mut seen = vec![head()];
        for number in 0..200 {
            assert!(head().is_current() && head() == head());
            insert(if number % 2 == 0 { &mut first } else { &mut second }, &format!("n{number}"));
            assert!(!seen.last().unwrap().is_current());
            seen.push(head());
            // What is copied into the file, and the log emptied, is nobody's change, but may be taken for one.
            if number % 50 == 49 {
                first.settle().unwrap();
                insert(&mut second, &format!("after{number}"));
                seen.push(head());
            }
        }
        // None comes again.
        for (at, one) in seen.iter().enumerate() {
            assert!(seen[at + 1..].iter().all(|later| later.bytes != one.bytes), "{at}");
        }
        // Reading alone changes nothing, and a database in another place is another.
        let before = head();
        assert!(first.version().is_ok() && second.version().is_ok() && before.is_current());
        let other = directory.path().join("y.db");
        let _other = Database::open(&other).unwrap();
        assert!(Head::of(other.to_str().unwrap()).is_none_or(|other| other != before));
    }

    #[test]
    fn what_is_no_index_is_no_head() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("z.db");
        let database = path.to_str().unwrap();
        assert!(Head::of(database).is_none(), "there is none");
        let index = format!("{database}-shm");
        for content in [&b""[..], &[0; 95], &[0; 200], &[7; 200]] {
            std::fs::write(&index, content).unwrap();
            assert!(Head::of(database).is_none());
        }
        std::fs::remove_file(&index).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &index, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(Head::of(database).is_none(), "a pipe would be waited for");
    }
}
