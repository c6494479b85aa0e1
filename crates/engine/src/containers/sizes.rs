//! What a container's root file system takes: `ps --size`, `inspect --size`.

use super::record::Container;
use crate::engine::Engine;
use crate::error::Result;

/// Bytes of a container's root file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What the container has written.
    pub written: u64,
    /// That, and the layers of its image.
    pub root: u64,
}

impl Engine {
    /// Measures a container's root file system. Takes as long as it takes to look at every file that it has written.
    ///
    /// # Errors
    /// When its files cannot be found.
    pub fn container_sizes(&self, container: &Container) -> Result<Sizes> {
        let written = self.own_bytes(&container.id)?;
        // Asked for here, as the lines of a list do not have them.
        let entry = super::table::find(self.database()?.read(), &container.id)?;
        let layers = self.store()?.layers();
        // A layer that is gone, as the image was removed by force, takes nothing.
        let of_layer = |text: &String| layers.get(&text.parse().ok()?).ok().map(|layer| layer.size);
        let below: u64 = entry.settings.layers.iter().filter_map(of_layer).sum();
        Ok(Sizes { written, root: written.saturating_add(below) })
    }
}
