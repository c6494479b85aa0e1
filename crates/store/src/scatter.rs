//! Removing large trees with several threads, because unlink(2) waits, or works.
//!
//! A file whose content is on its way to the disk cannot be truncated before it has arrived; one thread waits for one file at
//! a time (measured on ext4 soon after a pull of 478 MB: 30 s, of which 0.7 s on a processor). Sixteen threads wait for sixteen.
//! Files are handed out in portions, since the wait comes after the directory's lock has been given back. A file of some hundred
//! megabytes in the page cache costs a processor (80 ms for each gigabyte), so the layers of an image go side by side.
//! A thread is started when there is something to do and nobody to do it: most trees are a few files, and need none.
//!
//! This is only the quick part: what it cannot remove it leaves, without a word, to `remove`, which knows every difficulty.

use crate::directory::OPEN;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, RawDir};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

const THREADS: usize = 16;
/// Names in one portion.
const PORTION: usize = 32;
/// Levels, each of which can take a descriptor for each thread.
const DEPTH: usize = 24;

/// Removes what is below `tops`, as far as that is easy.
pub(crate) fn below<'a>(tops: impl IntoIterator<Item = BorrowedFd<'a>>) {
    let mut queue = Queue { threads: 1, ..Queue::default() };
    for top in tops {
        let Ok(fd) = fs::openat(top, c".", OPEN, Mode::empty()) else { continue };
        let root = Node { fd, place: None, depth: 0, waiting: AtomicUsize::new(1) };
        queue.tasks.push(Task::List(Arc::new(root)));
    }
    let work = Work { queue: Mutex::new(queue), changed: Condvar::new() };
    std::thread::scope(|scope| work.run(scope));
}

/// A directory that is being emptied.
struct Node {
    fd: OwnedFd,
    /// Where it is; none for the top, which stays.
    place: Option<(Arc<Node>, CString)>,
    depth: usize,
    /// Tasks that still take something out of it.
    waiting: AtomicUsize,
}

enum Task {
    /// Empty a directory that is open.
    List(Arc<Node>),
    /// Open a directory and empty it.
    Enter(Arc<Node>, CString),
    /// Unlink files.
    Files(Arc<Node>, Vec<CString>),
}

struct Work {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// The last is the next, so that few directories are open at once.
    tasks: Vec<Task>,
    /// Threads that may still add some.
    busy: usize,
    /// Threads that there are, those without a task included.
    threads: usize,
}

impl Queue {
    /// Is there a task that nobody is free for? Then counts one thread more, which the caller starts.
    fn wants_thread(&mut self) -> bool {
        let wanted = self.threads < THREADS && self.threads - self.busy < self.tasks.len();
        self.threads += usize::from(wanted);
        wanted
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, task: Task) {
        let mut queue = self.lock();
        queue.tasks.push(task);
        if queue.wants_thread() {
            drop(queue);
            self.start(scope);
        } else {
            self.changed.notify_one();
        }
    }

    fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let thread = std::thread::Builder::new().name("remove".into());
        // Fewer threads remove as much.
        if thread.spawn_scoped(scope, || self.run(scope)).is_err() {
            self.lock().threads -= 1;
        }
    }

    fn run<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut queue = self.lock();
        loop {
            if let Some(task) = queue.tasks.pop() {
                queue.busy += 1;
                let more = queue.wants_thread();
                drop(queue);
                if more {
                    self.start(scope);
                }
                self.perform(scope, task);
                queue = self.lock();
                queue.busy -= 1;
            } else if queue.busy == 0 {
                self.changed.notify_all();
                return;
            } else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn perform<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, task: Task) {
        match task {
            Task::List(node) => {
                self.list(scope, &node);
                done(node);
            }
            Task::Enter(parent, name) => match fs::openat(&parent.fd, &name, OPEN, Mode::empty()) {
                Ok(fd) => {
                    let depth = parent.depth + 1;
                    let node = Node { fd, place: Some((parent, name)), depth, waiting: AtomicUsize::new(1) };
                    let node = Arc::new(node);
                    self.list(scope, &node);
                    done(node);
                }
                Err(_) => done(parent),
            },
            Task::Files(node, names) => {
                for name in &names {
                    fs::unlinkat(&node.fd, name, AtFlags::empty()).ok();
                }
                done(node);
            }
        }
    }

    fn list<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, node: &Arc<Node>) {
        let mut files = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); 16 << 10];
        let mut listing = RawDir::new(node.fd.as_fd(), &mut buffer);
        while let Some(Ok(entry)) = listing.next() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match entry.file_type() {
                FileType::Directory if node.depth < DEPTH => {
                    node.waiting.fetch_add(1, Ordering::Relaxed);
                    self.push(scope, Task::Enter(node.clone(), name.to_owned()));
                }
                FileType::Directory | FileType::Unknown => {}
                _ => files.push(name.to_owned()),
            }
            if files.len() == PORTION {
                node.waiting.fetch_add(1, Ordering::Relaxed);
                self.push(scope, Task::Files(node.clone(), std::mem::take(&mut files)));
            }
        }
        for name in &files {
            fs::unlinkat(&node.fd, name, AtFlags::empty()).ok();
        }
    }
}

/// A task of the directory has ended; with the last one the directory goes, and is a task of its parent that has ended.
fn done(mut node: Arc<Node>) {
    // AcqRel: whoever sees zero also sees what all others have removed.
    while node.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
        let Some((parent, name)) = node.place.as_ref().map(|(parent, name)| (parent.clone(), name.clone())) else {
            return;
        };
        fs::unlinkat(&parent.fd, &name, AtFlags::REMOVEDIR).ok();
        node = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_trees_go_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let kept = base.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let top = base.path().join("top");
        for n in 0..40 {
            let directory = top.join(format!("{}/{n}/c", n % 3));
            std::fs::create_dir_all(&directory).unwrap();
            for m in 0..100 {
                std::fs::write(directory.join(m.to_string()), "y").unwrap();
            }
            std::os::unix::fs::symlink(&kept, directory.join("link")).unwrap();
        }
        let mut deep = top.clone();
        for _ in 0..2 * DEPTH {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        let fd = fs::open(&top, OPEN, Mode::empty()).unwrap();
        below([fd.as_fd()]);
        let left: Vec<_> = std::fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        // Only what is too deep is left for the other way.
        assert_eq!(left, ["d"]);
        assert!(kept.join("file").exists());
        below([fd.as_fd()]);
    }
}
