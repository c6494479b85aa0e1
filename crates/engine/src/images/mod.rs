//! Images: what the store holds, under which names, and how it gets there and goes again.

mod claim;
mod diff;
mod distribution;
mod history;
mod import;
mod lists;
mod load;
pub(crate) mod merged;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
pub(crate) mod table;
mod trust;

use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::Digest;
use oci::image::ImageConfig;
use oci::reference::Reference;
use std::collections::BTreeMap;

pub use diff::ImageDifference;
pub use distribution::Distribution;
pub use history::HistoryStep;
pub use lists::{Annotations, ManifestFound};
pub use load::Loaded;
pub use prune::PrunedImages;
pub(crate) use pull::translated as registry_failure;
pub use pull::{PullEvent, PullProgress, Pulled, Quiet};
pub(crate) use push::{MADE_HERE, PARENT};
pub use push::{PushEvent, PushOptions, PushProgress, PushedName};
pub use remove::Removed;
pub use save::{SaveFormat, SaveOptions};

/// What a container takes from its image.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageDefaults {
    /// Identifier: the configuration's digest, or the name of a built-in image.
    pub id: String,
    /// DiffIDs, lowest first.
    pub layers: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_directory: String,
    pub labels: BTreeMap<String, String>,
    pub exposed_ports: Vec<String>,
    pub volumes: Vec<String>,
    pub stop_signal: String,
    pub health: Option<oci::image::Healthcheck>,
}

/// An image as a line of `dhow images`.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Familiar names with tag.
    pub names: Vec<String>,
    /// Familiar names with digest.
    pub digests: Vec<String>,
    /// When the image was made, RFC 3339, as its configuration says.
    pub created: String,
    /// Bytes of its unpacked layers; shared ones count fully.
    pub size: u64,
    /// Containers made from it.
    pub containers: usize,
    /// Labels of its configuration.
    pub labels: BTreeMap<String, String>,
}

/// An image with its configuration.
#[derive(Clone, Debug)]
pub struct Image {
    /// What `dhow images` says of it.
    pub summary: ImageSummary,
    /// Digest of its manifest.
    pub manifest: String,
    /// The image that it was committed from, while that is here.
    pub parent: Option<String>,
    /// Its configuration.
    pub config: ImageConfig,
    /// DiffIDs, lowest first.
    pub layers: Vec<Digest>,
    /// Directories of the layers, lowest first.
    pub directories: Vec<std::path::PathBuf>,
}

impl Engine {
    /// All images, the newest first. Reads the database alone.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        let rows = table::lines(self.database()?.read())?;
        self.summaries(rows)
    }

    /// What lists say of these images, the newest first.
    pub(crate) fn summaries(&self, rows: Vec<table::Row>) -> Result<Vec<ImageSummary>> {
        let mut learned = Vec::new();
        let mut result = Vec::with_capacity(rows.len());
        for mut row in rows {
            let id = row.id.clone();
            let before = row.labels.is_some();
            match self.labels(&mut row) {
                Ok(labels) if before => result.push(summary(row, labels)),
                Ok(labels) => {
                    learned.push((id, labels.clone()));
                    result.push(summary(row, labels));
                }
                // Removed since we listed it.
                Err(_) if table::by_id(self.database()?.read(), &id)?.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        if !learned.is_empty() {
            // Where it cannot be written, the next list asks the configurations again.
            let write = |t: &rusqlite::Transaction<'_>| {
                learned.iter().try_for_each(|(id, labels)| table::set_labels(t, id, labels))
            };
            self.database()?.write(write).unwrap_or_default();
        }
        result.sort_by(|a, b| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
        Ok(result)
    }

    /// The image of that name or identifier.
    pub fn image(&self, wanted: &str) -> Result<Image> {
        let row = self.find_image(wanted)?.ok_or_else(|| no_such_image(wanted))?;
        let (config, manifest) = (self.image_config(&row.id)?, row.manifest.clone());
        let layers = row.layers.iter().map(|id| id.parse()).collect::<std::result::Result<Vec<Digest>, _>>();
        let layers = layers.kind(Kind::Corrupt, || format!("the record of image {} cannot be read", row.id))?;
        let directories = layers
            .iter()
            .map(|diff_id| self.store()?.layers().path(diff_id).internal(|| format!("cannot find layer {diff_id}")))
            .collect::<Result<_>>()?;
        let parent = self.parent(&row);
        let summary = summary(row, config.config.labels.clone());
        Ok(Image { manifest, parent, summary, config, layers, directories })
    }

    /// The image that this one was committed from. What cannot be read says nothing.
    fn parent(&self, row: &table::Row) -> Option<String> {
        let (_, manifest) = self.manifest_document(row).ok()?;
        let parent = manifest.annotations.get(PARENT)?;
        let found = table::by_id(self.database().ok()?.read(), parent).ok()??;
        Some(found.id)
    }

    /// Gives an image another name.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let row = self.find_image(source)?.ok_or_else(|| no_such_image(source))?;
        let reference = parse(target)?;
        if reference.digest().is_some() {
            return Err(Error::new(Kind::InvalidArgument, "refusing to create a tag with a digest reference"));
        }
        if reference.familiar().split_once(':').is_some_and(|(name, _)| matches!(name, "sha256" | "sha384" | "sha512"))
        {
            let text = "refusing to create an ambiguous tag using digest algorithm as name";
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        let reference = reference.or_latest();
        let name = reference.to_string();
        self.database()?.write(|t| table::set_name(t, &name, &row.id))?;
        self.record_image("tag", &row.id, &reference.familiar());
        Ok(())
    }

    /// Writes an event of an image down.
    pub(crate) fn record_image(&self, action: &str, actor: &str, name: &str) {
        self.record_event(
            crate::events::Type::Image,
            action,
            actor,
            BTreeMap::from([("name".to_owned(), name.to_owned())]),
        );
    }

    /// Taken out of the row, or from the configuration of an image from before they were recorded.
    fn labels(&self, row: &mut table::Row) -> Result<BTreeMap<String, String>> {
        match row.labels.take() {
            Some(labels) => Ok(labels),
            None => Ok(self.image_config(&row.id)?.config.labels),
        }
    }

    pub(crate) fn image_config(&self, id: &str) -> Result<ImageConfig> {
        let corrupt = || format!("the configuration of image {id} cannot be read");
        let digest: Digest = id.parse().kind(Kind::Corrupt, corrupt)?;
        let bytes = match self.store()?.blobs().read(&digest, MAX_DOCUMENT) {
            // Somebody has removed the image since its record was read.
            Err(_) if !self.is_recorded(id) => return Err(no_such_image(id)),
            read => read.kind(Kind::Corrupt, corrupt)?,
        };
        ImageConfig::parse(&bytes).kind(Kind::Corrupt, corrupt)
    }

    /// A database that cannot be asked has not forgotten it.
    fn is_recorded(&self, id: &str) -> bool {
        self.database().and_then(|database| table::by_id(database.read(), id)).map_or(true, |row| row.is_some())
    }

    /// By canonical name, or by identifier and its beginnings.
    pub(crate) fn find_image(&self, wanted: &str) -> Result<Option<table::Row>> {
        let database = self.database()?;
        let connection = database.read();
        if let Ok(reference) = Reference::parse(wanted) {
            // A name with both tag and digest means the digest.
            let canonical = match reference.digest() {
                Some(digest) => format!("{}@{digest}", reference.name()),
                None => reference.or_latest().to_string(),
            };
            if let Some(row) = table::by_name(connection, &canonical)? {
                return Ok(Some(row));
            }
        }
        let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(None);
        }
        table::by_prefix(connection, hex)
    }

    /// What a container of this image starts from, pulling it by the policy.
    pub(crate) fn image_for(&self, options: &crate::Options, progress: &mut dyn PullProgress) -> Result<ImageDefaults> {
        if let Some(builtin) = crate::hello::builtin(&options.image) {
            return Ok(builtin);
        }
        let present = match options.pull {
            crate::PullPolicy::Always => None,
            _ => self.find_image(&options.image)?,
        };
        let row = match present {
            Some(row) => row,
            None if options.pull == crate::PullPolicy::Never => {
                return Err(no_such_image(&options.image)
                    .hint("--pull never was asked for; `dhow pull` or `dhow load` gets the image"));
            }
            None => {
                parse(&options.image)?;
                progress.missing(&options.image);
                let pulled = self.pull(&options.image, options.platform.as_deref(), progress)?;
                self.find_image(&pulled.id)?.ok_or_else(|| no_such_image(&options.image))?
            }
        };
        self.check_use(&row, &options.image)?;
        self.defaults(row)
    }

    fn defaults(&self, row: table::Row) -> Result<ImageDefaults> {
        let image = self.image_config(&row.id)?;
        let config = image.config;
        Ok(ImageDefaults {
            id: row.id,
            layers: row.layers,
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            env: config.env,
            user: config.user,
            working_directory: config.working_dir,
            labels: config.labels,
            exposed_ports: config.exposed_ports.into_iter().collect(),
            volumes: config.volumes.into_iter().collect(),
            stop_signal: config.stop_signal,
            health: config.healthcheck,
        })
    }
}

/// What lists say of an image.
fn summary(row: table::Row, labels: BTreeMap<String, String>) -> ImageSummary {
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for name in row.names {
        match Reference::parse(&name) {
            Ok(reference) if reference.digest().is_some() => digests.push(reference.familiar()),
            Ok(reference) => names.push(reference.familiar()),
            Err(_) => names.push(name),
        }
    }
    ImageSummary {
        id: row.id,
        names,
        digests,
        created: row.created,
        size: row.size,
        containers: row.containers,
        labels,
    }
}

/// Largest manifest or configuration that is read: 4 MiB, as registries and containerd have it.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

pub(crate) fn no_such_image(wanted: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such image: {wanted}"))
}

pub(crate) fn parse(text: &str) -> Result<Reference> {
    Reference::parse(text).kind(Kind::InvalidArgument, || format!("invalid reference format: {text:?}"))
}
