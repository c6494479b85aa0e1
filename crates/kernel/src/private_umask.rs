//! A file mode creation mask that belongs to one thread.
//!
//! The mask is a property of the process. A thread that creates thousands of files with modes of its own would need a
//! second system call for each, or would change the mode of what other threads create at that moment.

use rustix::fs::Mode;
use rustix::io::Result;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread its own umask, root and working directory, and sets the umask to 0.
///
/// # Errors
/// `EPERM` where a seccomp filter forbids unshare(2); nothing has changed then.
pub fn clear_umask_of_this_thread() -> Result<()> {
    // SAFETY: the call is unsafe because CLONE_FILES would leave descriptors of other threads dangling. CLONE_FS copies
    // only umask, root and working directory and touches no descriptor table. Upheld by the constant argument.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    rustix::process::umask(Mode::empty());
    Ok(())
}
