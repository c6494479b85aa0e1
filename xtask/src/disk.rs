//! The file system that everything under test keeps its files on: a fresh ext4 as `mkfs.ext4` makes it, in a file.
//!
//! The machine's own file system is whatever it is. Here it has no journal and discards what is deleted: for five minutes after
//! an inode was freed ext4 then searches past it (`recently_deleted()` in fs/ext4/ialloc.c), so that making files takes the
//! longer the more were just removed, up to twenty times.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::command::{command, run};

/// Sparse: as much as all engines together could fill.
const SIZE: &str = "16G";

fn make(file: &Path) -> Result<()> {
    run(command("truncate", ["--size", SIZE]).arg(file))?;
    run(command("mkfs.ext4", ["-q", "-F"]).arg(file))
}

/// Runs a command that sees one as its `/tmp`, and returns its status. `file` is where it is kept as long as the command runs.
pub fn on_a_fresh_one(file: &Path, words: &[String]) -> Result<i32> {
    const ENTER: &str = "
        mount -o loop,noatime \"$1\" /tmp
        rm \"$1\"
        chmod 1777 /tmp
        shift
        exec \"$@\"";
    make(file)?;
    let mut command = command("unshare", ["--mount", "--propagation", "private", "sh", "-euc", ENTER, "sh"]);
    command.arg(file).args(words).stdin(Stdio::null());
    let status = command.status().with_context(|| format!("start {}", words[0]))?;
    Ok(status.code().unwrap_or(1))
}

/// One that is mounted; it goes when dropped.
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Makes one below `directory`.
    pub fn mount(directory: &Path) -> Result<Disk> {
        let (file, mount) = (directory.join("disk.ext4"), directory.join("disk"));
        std::fs::create_dir(&mount)?;
        make(&file)?;
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
