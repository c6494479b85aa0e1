//! What a registry has under a name, without pulling it: `/distribution/{name}/json`.

use super::pull::translated;
use super::{MAX_DOCUMENT, parse};
use crate::engine::Engine;
use crate::error::Result;
use oci::image::{Descriptor, Document};
use oci::platform::Platform;
use registry::Client;

/// What a registry has.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// Of the manifest, or of the list.
    pub descriptor: Descriptor,
    /// What the image can be run on; empty where that cannot be told.
    pub platforms: Vec<Platform>,
}

#[derive(serde::Deserialize, Default)]
struct Configuration {
    #[serde(flatten)]
    platform: Platform,
}

impl Engine {
    /// Asks a registry, with the account of [`Engine::use_registry_account`].
    ///
    /// # Errors
    /// The registry's refusals.
    pub fn distribution(&self, name: &str) -> Result<Distribution> {
        let reference = parse(name)?.or_latest();
        let refused = |error| translated("ask for", name, error);
        let client = Client::new(self.registry_options()).map_err(refused)?;
        let raw = client.manifest(&reference).map_err(refused)?;
        let descriptor = raw.descriptor();
        let platforms = match raw.document {
            Document::Index(index) => index.manifests.into_iter().filter_map(|entry| entry.platform).collect(),
            Document::Manifest(manifest) if manifest.config.size <= MAX_DOCUMENT => {
                let bytes = client.small_blob(&reference, &manifest.config).map_err(refused)?;
                let found: Configuration = serde_json::from_slice(&bytes).unwrap_or_default();
                if found.platform.architecture.is_empty() { Vec::new() } else { vec![found.platform] }
            }
            Document::Manifest(_) => Vec::new(),
        };
        Ok(Distribution { descriptor, platforms })
    }
}
