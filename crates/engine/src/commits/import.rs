//! An image of one layer from any tree.

use super::instructions;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::image::{History, ImageConfig};
use oci::platform::Platform;
use std::io::Read;

/// How an image is made of a tree.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Name and tag of the image; none leaves it without a name.
    pub reference: Option<String>,
    /// What it is.
    pub message: String,
    /// Instructions of a Dockerfile that set its configuration: `CMD`, `ENV`, …
    pub changes: Vec<String>,
    /// `os/arch[/variant]`; this machine's when absent.
    pub platform: Option<String>,
}

impl Engine {
    /// Stores a tar archive, compressed or not, as an image of one layer. Returns its identifier.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a bad name, instruction or platform, before anything is read; [`Kind::Corrupt`] for
    /// what is no archive.
    pub fn import(&self, source: impl Read, options: &ImportOptions) -> Result<String> {
        self.put_right();
        let name = options.reference.as_deref().map(super::new_name).transpose()?;
        let mut config = ImageConfig { platform: platform(options.platform.as_deref())?, ..ImageConfig::default() };
        instructions::apply(&mut config.config, &options.changes, None)?;
        let unsettled = self.unsettle()?;
        let layer = self.store()?.layers().import(None, source).map_err(|error| {
            let kind = if error.errno().is_some() { Kind::Internal } else { Kind::Corrupt };
            Error::caused(kind, "cannot import the archive", error)
        })?;
        let step = History { comment: options.message.clone(), ..History::default() };
        let id = self.store_image(config, (Vec::new(), None), Some(&layer), step, name)?;
        self.settle(unsettled, true)?;
        self.record_image("import", &id, &id);
        Ok(id)
    }
}

fn platform(text: Option<&str>) -> Result<Platform> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Platform::host()) };
    text.parse().kind(Kind::InvalidArgument, || format!("invalid platform {text:?}: use os/arch or os/arch/variant"))
}
