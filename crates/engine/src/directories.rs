//! Where the engine keeps things, and with which permissions.
//!
//! ```text
//! data root   /var/lib/dhow, or $XDG_DATA_HOME/dhow     0711: containers in user namespaces must reach their layers
//!   dhow.db                state that survives (crate::database)                                        0600
//!   blobs/ layers/ staging/ containers/   the store's (crate `store`)                                   0700
//! run root    /run/dhow, or $XDG_RUNTIME_DIR/dhow       0700: gone after a boot
//!   containers/<id>/       lock, monitor.sock, state.json (crate `monitor`)
//! ```
//! CVE-2021-41091 and CVE-2024-25621 are what modes that are too wide lead to.

use crate::error::{Context, Kind, Result};
use rustix::fs::Mode;
use std::path::{Path, PathBuf};

/// The two directories of an engine.
#[derive(Clone, Debug)]
pub struct Directories {
    /// What survives a boot.
    pub data: PathBuf,
    /// What does not.
    pub run: PathBuf,
}

impl Directories {
    /// Makes both directories where they are missing.
    pub fn open(data: &Path, run: &Path) -> Result<Directories> {
        make(data, 0o711)?;
        make(run, 0o700)?;
        make(&run.join("containers"), 0o700)?;
        // A set-user-id program that a container has written must be out of reach for the host's users, who can see the
        // container's identifier in /proc/PID/cgroup (CVE-2021-41091).
        make(&data.join("containers"), 0o700)?;
        let absolute =
            |path: &Path| path.canonicalize().internal(|| format!("cannot resolve the directory {}", path.display()));
        Ok(Directories { data: absolute(data)?, run: absolute(run)? })
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.data.join("dhow.db")
    }

    /// What survives of one container: its log and generated files.
    pub fn container(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }

    /// What one running container needs: lock, socket, state.
    pub fn container_run(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }
}

/// What is in a directory; nothing in one that is not there. An entry that cannot be read is an error, as what is passed over
/// would be left or lost.
pub(crate) fn entries(path: &Path) -> Result<Vec<std::fs::DirEntry>> {
    match std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.internal(|| format!("cannot read {}", path.display())),
    }
}

/// Makes one directory and its missing parents; one that exists is left as it is.
pub(crate) fn make(path: &Path, mode: u32) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) => {
            // The umask must not widen or narrow what other processes may do here.
            rustix::fs::chmod(path, Mode::from_raw_mode(mode))
                .internal(|| format!("cannot set the mode of {}", path.display()))
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(rustix::io::Errno::NOENT) => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make(parent, 0o755)?;
                make(path, mode)
            }
            _ => Err(rustix::io::Errno::NOENT).internal(|| format!("cannot make the directory {}", path.display())),
        },
        Err(errno) => {
            let kind = if errno == rustix::io::Errno::ACCESS { Kind::Forbidden } else { Kind::Internal };
            Err(errno).kind(kind, || format!("cannot make the directory {}", path.display())).map_err(|error| {
                match errno {
                    rustix::io::Errno::ROFS => {
                        error.hint("the file system is read-only; choose another directory with --root and --run-dir")
                    }
                    rustix::io::Errno::ACCESS => {
                        error.hint("run as the owner of the directory, or choose another with --root and --run-dir")
                    }
                    _ => error,
                }
            })
        }
    }
}
