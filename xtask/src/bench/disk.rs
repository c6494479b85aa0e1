//! The file system that everything under test keeps its files on.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::{command, run};

/// Sparse: as much as all engines together could fill.
const SIZE: &str = "16G";

/// A fresh ext4 as `mkfs.ext4` makes it, in a file, mounted.
///
/// The machine's own file system is whatever it is. Here it has no journal and discards what is deleted: for five minutes after
/// an inode was freed ext4 then searches past it (`recently_deleted()` in fs/ext4/ialloc.c), so that an engine's load takes the
/// longer the more another one just removed, up to twenty times.
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Makes one below `directory`.
    pub fn mount(directory: &Path) -> Result<Disk> {
        let (file, mount) = (directory.join("disk.ext4"), directory.join("disk"));
        std::fs::create_dir(&mount)?;
        run(command("truncate", ["--size", SIZE]).arg(&file))?;
        run(command("mkfs.ext4", ["-q", "-F"]).arg(&file))?;
        run(command("mount", ["-o", "loop,noatime"]).arg(&file).arg(&mount))?;
        Ok(Disk { mount })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, as a daemon may be about to end; the mount namespace ends with the benchmark in any case.
        drop(command("umount", ["--lazy"]).arg(&self.mount).status());
    }
}
