//! `pull`: from a registry into the store.

use super::import::{Incoming, IncomingLayer, Open};
use super::parse;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::image::ImageConfig;
use oci::platform::Platform;
use registry::Client;
use std::io::Read;

/// What happens to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// Its turn has not come.
    Waiting,
    /// It is in the store already.
    Exists,
    /// It is being read and unpacked, in one pass.
    Progress {
        /// Bytes read.
        done: u64,
        /// Bytes to read.
        total: u64,
    },
    /// It is in the store now.
    Complete,
}

/// Who wants to know how a pull goes.
pub trait PullProgress {
    /// The image is not in the store and will be pulled.
    fn missing(&mut self, reference: &str);
    /// The registry has answered; layers follow.
    fn resolved(&mut self, repository: &str, tag: &str);
    /// Something happened to a layer, named by 12 digits.
    fn event(&mut self, layer: &str, event: PullEvent);
    /// Something in a layer could not be had as it is, such as a device node by an ordinary user; the rest goes on.
    fn warning(&mut self, _text: &str) {}
    /// Whether anybody still wants the image; it is given up otherwise, as soon as bytes come.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl PullProgress for Quiet {
    fn missing(&mut self, _reference: &str) {}
    fn resolved(&mut self, _repository: &str, _tag: &str) {}
    fn event(&mut self, _layer: &str, _event: PullEvent) {}
}

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Identifier of the image.
    pub id: String,
    /// Its familiar name.
    pub reference: String,
    /// Its canonical name.
    pub canonical: String,
    /// Digest of what the registry has under the name: an index or a manifest.
    pub digest: String,
    /// The store did not have it under this name.
    pub fresh: bool,
}

impl Engine {
    /// Pulls an image by name.
    pub fn pull(&self, name: &str, platform: Option<&str>, progress: &mut dyn PullProgress) -> Result<Pulled> {
        self.put_right();
        let reference = parse(name)?.or_latest();
        let platform: Platform = match platform {
            Some(text) => text.parse().kind(Kind::InvalidArgument, || format!("invalid platform {text:?}"))?,
            None => Platform::host(),
        };
        let client = Client::new(self.registry_options()).map_err(|error| failure(name, error))?;
        let resolved = client.resolve(&reference, &platform).map_err(|error| failure(name, error))?;
        let signatures = self.check_pull(&client, &reference, &resolved)?;
        progress.resolved(&reference.familiar_name(), &reference.version());
        let config = self.fetch_config(&client, &reference, &resolved).map_err(|error| match error {
            Fetch::Registry(error) => failure(name, error),
            Fetch::Engine(error) => error,
        })?;
        let parsed = ImageConfig::parse(&config)
            .kind(Kind::Corrupt, || format!("the configuration of {name} cannot be used"))?;
        parsed
            .check_layers(&resolved.manifest)
            .kind(Kind::Corrupt, || format!("the image {name} contradicts itself"))?;
        let layers = resolved.manifest.layers.iter().zip(&parsed.rootfs.diff_ids).map(|(descriptor, diff_id)| {
            let (client, reference) = (&client, &reference);
            let open: Open<'_> = Box::new(move || {
                let reader = client.blob(reference, descriptor).map_err(|error| failure(name, error))?;
                Ok(Box::new(reader) as Box<dyn Read + Send>)
            });
            IncomingLayer {
                diff_id: diff_id.clone(),
                blob: None,
                label: descriptor.digest.short().into(),
                size: descriptor.size,
                open,
            }
        });
        let layers = layers.collect();
        let by_digest = reference.with_digest(resolved.digest().clone());
        let canonical = format!("{}@{}", by_digest.name(), resolved.digest());
        let mut names = vec![canonical.clone()];
        if reference.digest().is_none() {
            names.push(reference.to_string());
        }
        let before = self.find_image(&reference.to_string())?.map(|row| row.id);
        let parallel = client.parallelism().map_err(|error| failure(name, error))?.downloads.get();
        let incoming = Incoming { manifest: resolved.raw.bytes.clone(), config, layers, names, parallel };
        let id = self.import_image(incoming, progress)?;
        self.keep_signatures(&id, &signatures)?;
        self.record_image("pull", &reference.familiar(), &reference.familiar_name());
        Ok(Pulled {
            fresh: before.as_ref() != Some(&id),
            id,
            reference: reference.familiar(),
            canonical: reference.to_string(),
            digest: resolved.digest().to_string(),
        })
    }

    /// The tags that the registry has of a repository, in its order.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a name with a tag or digest.
    pub fn remote_tags(&self, name: &str) -> Result<Vec<String>> {
        let reference = parse(name)?;
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(Error::new(Kind::InvalidArgument, "tag can't be used with --all-tags/-a"));
        }
        let client = Client::new(self.registry_options()).map_err(|error| failure(name, error))?;
        client.tags(&reference).map_err(|error| failure(name, error))
    }

    fn fetch_config(
        &self,
        client: &Client,
        reference: &oci::reference::Reference,
        resolved: &registry::Resolved,
    ) -> std::result::Result<Vec<u8>, Fetch> {
        let descriptor = &resolved.manifest.config;
        if let Ok(bytes) = self.store().map_err(Fetch::Engine)?.blobs().read(&descriptor.digest, super::MAX_DOCUMENT) {
            return Ok(bytes);
        }
        client.small_blob(reference, descriptor).map_err(Fetch::Registry)
    }
}

enum Fetch {
    Registry(registry::Error),
    Engine(Error),
}

/// A registry's refusal in the user's words.
fn failure(name: &str, error: registry::Error) -> Error {
    translated("pull", name, error)
}

/// The same for any verb.
pub(crate) fn translated(verb: &str, name: &str, error: registry::Error) -> Error {
    use registry::Error as E;
    let (kind, hint) = match &error {
        E::NotFound { .. } => (Kind::NotFound, Some("check the name and the tag")),
        E::Unauthorized { .. } => (Kind::Unauthorized, Some("`dhow login` stores a user name and a password")),
        E::Denied { .. } => (Kind::Forbidden, Some("check the name, and what your account may do there")),
        E::Unreachable { .. } | E::Stalled { .. } | E::Tls { .. } => {
            (Kind::Unavailable, Some("check the host's name and your network"))
        }
        E::TooManyRequests { .. } => {
            (Kind::Unavailable, Some("the registry limits your requests; try again later, or log in"))
        }
        E::Corrupt { .. } | E::TooLarge { .. } => (Kind::Corrupt, None),
        _ => (Kind::Internal, None),
    };
    let message = match kind {
        // Docker's words, which scripts look for.
        Kind::NotFound if verb == "pull" => format!("manifest for {name} not found"),
        _ => format!("cannot {verb} {name}"),
    };
    let wrapped = Error::caused(kind, message, error);
    match hint {
        Some(hint) => wrapped.hint(hint),
        None => wrapped,
    }
}
