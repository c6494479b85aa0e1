//! Where things lie.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// The root of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// What takes minutes to make and survives `cargo clean`: images, the registry's storage, the virtual machine.
///
/// `$DHOW_CACHE`, else for root `/var/cache/dhow-xtask`, since the tests of an ordinary user read the images too and root's
/// home is closed to them; else `$XDG_CACHE_HOME/dhow-xtask`.
pub fn cache() -> Result<PathBuf> {
    let directory = if let Some(chosen) = std::env::var_os("DHOW_CACHE") {
        PathBuf::from(chosen)
    } else if is_root() {
        PathBuf::from("/var/cache/dhow-xtask")
    } else if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
        PathBuf::from(cache).join("dhow-xtask")
    } else {
        PathBuf::from(std::env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME is set")?)
            .join(".cache/dhow-xtask")
    };
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
}

/// Whether we are root, as the owner of our own `/proc` entry shows.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// A directory that is removed when it goes out of scope, beside what it will be moved to.
pub struct Staging(PathBuf);

impl Staging {
    /// Makes an empty directory below `parent`, named after this process and numbered in it.
    pub fn new(parent: &Path, name: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!(".{name}.{}.{number}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A leftover costs space only; there is nobody to tell here.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
