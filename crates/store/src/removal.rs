//! Removing layers in two steps: out of everyone's sight, which is quick, and then from the disk, which is not.

use crate::Store;
use crate::error::{StoreError, SystemError};
use crate::shifted;
use crate::staging::Staged;
use oci::digest::Digest;
use rustix::io::Errno;

/// Layers that are held at once, with two descriptors each.
const PORTION: usize = 64;

/// Layers that are being removed. Of what is neither finished nor swept, files stay behind in the staging directory: [`Store::sweep`].
#[must_use = "without finish() the files stay on the disk"]
pub struct Removal<'a> {
    store: &'a Store,
    gone: Vec<Staged>,
}

impl<'a> Removal<'a> {
    pub(crate) fn new(store: &'a Store) -> Removal<'a> {
        Removal { store, gone: Vec::new() }
    }

    /// Takes a layer away, and its forms for other ids with it: it is gone for others at once, and may be imported again. The
    /// caller knows that no container uses it, and need not hold any lock for that longer than this. False if there is no such layer.
    ///
    /// # Errors
    /// System errors.
    pub fn take(&mut self, diff_id: &Digest) -> Result<bool, StoreError> {
        if self.gone.len() >= PORTION {
            self.empty()?;
        }
        // The forms first, so that there is none without its layer.
        shifted::take_of(self.store, diff_id, &mut self.gone).map_err(failed)?;
        let layers = self.store.root.create(crate::layers::NAME).map_err(failed)?;
        match Staged::take(self.store, &layers, diff_id.hex()) {
            Ok(staged) => self.gone.push(staged),
            Err(error) if error.errno() == Errno::NOENT => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        Ok(true)
    }

    /// Returns when the files of all that was taken are gone: side by side, as long as there is more than one.
    ///
    /// # Errors
    /// System errors. What could not be deleted is left to [`Store::sweep`].
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.empty()
    }

    fn empty(&mut self) -> Result<(), StoreError> {
        Staged::discard_trees(std::mem::take(&mut self.gone)).map_err(failed)
    }
}

fn failed(source: SystemError) -> StoreError {
    StoreError::System { doing: "remove a layer", source }
}
