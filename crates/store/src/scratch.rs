//! Room for what is on its way, in `staging`: gone with whoever asked for it, or with the next sweep.

use crate::Store;
use crate::error::StoreError;
use crate::staging::Staged;
use std::path::{Path, PathBuf};

/// An empty directory of the caller's own, on the store's file system. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Scratch {
    staged: Option<Staged>,
    path: PathBuf,
}

impl Store {
    /// Makes one; `purpose` is a word of ours for whoever looks into `staging`.
    ///
    /// # Errors
    /// System errors.
    pub fn scratch(&self, purpose: &str) -> Result<Scratch, StoreError> {
        let staged = Staged::new(self, purpose)
            .map_err(|source| StoreError::System { doing: "make a directory for what is on its way", source })?;
        let path = self.path.join(staged.place());
        Ok(Scratch { staged: Some(staged), path })
    }
}

impl Scratch {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            // What cannot be removed now is no longer locked, and goes with the next sweep.
            drop(staged.discard());
        }
    }
}
