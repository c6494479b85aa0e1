//! What a container became: the names it changed, its whole tree as an archive, an image of it; and an image from any tree.

mod config;
mod import;
mod instructions;

pub use import::ImportOptions;
pub use store::{Change, ChangeKind};

use crate::containers::record::Status;
use crate::containers::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::Digest;
use oci::image::{Descriptor, Healthcheck, ImageConfig, Manifest, media_type};
use std::collections::BTreeMap;
use std::io::Write;

/// How an image is made of a container.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Name and tag of the image; none leaves it without a name.
    pub reference: Option<String>,
    /// Who made it.
    pub author: String,
    /// What it is.
    pub message: String,
    /// What its configuration has above what the container has.
    pub config: ConfigParts,
    /// Instructions of a Dockerfile that change its configuration: `CMD`, `ENV`, …
    pub changes: Vec<String>,
    /// A container that runs is frozen meanwhile.
    pub pause: bool,
}

/// Parts of a configuration that instructions cannot say, or not to the letter. What is empty stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ConfigParts {
    /// Variables, by name.
    pub env: Vec<(String, String)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How to see whether a container is well; what is empty in it stays as the container has it.
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for a build on top of the image.
    pub on_build: Vec<String>,
    /// The shell of the Dockerfile's shell form.
    pub shell: Vec<String>,
    /// Whether the command is already escaped for Windows.
    pub args_escaped: bool,
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its identifier, `sha256:…`.
    pub id: String,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
}

/// What the runtime makes where an image lacks it; nobody's change.
pub(crate) const MOUNT_POINTS: &[&str] = &[
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sbin",
    "/sbin/dhow-init",
    "/sys",
];

impl Engine {
    /// The names that a container added, changed and removed, a directory before what is in it.
    pub fn changes(&self, wanted: &str) -> Result<Vec<Change>> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        let failed = || format!("cannot compare container {wanted} with its image");
        self.writable_of(&entry)?.changes(&self.diff_ids_of(&entry)?, &mount_points(&entry.settings)).internal(failed)
    }

    /// Writes a container's whole tree as a plain tar archive, without its volumes and other mounts.
    pub fn export(&self, wanted: &str, sink: impl Write) -> Result<()> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        let failed = || format!("cannot export container {wanted}");
        let layers = self.diff_ids_of(&entry)?;
        self.writable_of(&entry)?.export(&layers, sink).internal(failed)?.flush().internal(failed)?;
        self.record_of(&entry.id, &entry.name, &entry.settings, "export", &[]);
        Ok(())
    }

    /// Makes an image of a container: its image's layers, and one with what it changed.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a bad name or instruction, before anything is done.
    pub fn commit(&self, wanted: &str, options: &CommitOptions) -> Result<Committed> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        let name = options.reference.as_deref().map(new_name).transpose()?;
        let (mut config, manifest) = self.base(&entry)?;
        config::of_container(&mut config.config, &entry.settings);
        let own_check = config.config.healthcheck.clone();
        config::apply(&mut config.config, &options.config)?;
        instructions::apply(&mut config.config, &options.changes, own_check.as_ref())?;
        let mut warnings = Vec::new();
        let paused = options.pause && self.freeze(&entry, &mut warnings)?;
        // Nothing collects the layer before an image names it.
        let unsettled = self.unsettle()?;
        let layer = self.changed_layer(&entry);
        if paused {
            // It may have ended, which is no failure of the commit.
            drop(self.unpause(&entry.id));
        }
        let layer = layer?;
        let step = config::step(&entry.settings, options);
        let parent = Some(entry.settings.image_id.as_str());
        let id = self.store_image(config, (manifest, parent), layer.as_ref(), step, name)?;
        self.settle(unsettled, true)?;
        let reference = options.reference.clone().unwrap_or_default();
        let more = [("comment", options.message.as_str()), ("imageID", id.as_str()), ("imageRef", reference.as_str())];
        self.record_of(&entry.id, &entry.name, &entry.settings, "commit", &more);
        Ok(Committed { id, warnings })
    }

    /// What a container changed as a layer; none if nothing.
    fn changed_layer(&self, entry: &Entry) -> Result<Option<store::Layer>> {
        let failed = || format!("cannot store what container {} changed", entry.name);
        let writable = self.writable_of(entry)?;
        if writable.changes(&self.diff_ids_of(entry)?, &mount_points(&entry.settings)).internal(failed)?.is_empty() {
            return Ok(None);
        }
        writable.commit(&mount_points(&entry.settings)).internal(failed).map(Some)
    }

    /// Records an image of one more layer than its parent, if there are; it is in the store.
    pub(crate) fn store_image(
        &self,
        mut config: ImageConfig,
        (mut layers, parent): (Vec<Descriptor>, Option<&str>),
        layer: Option<&store::Layer>,
        mut step: oci::image::History,
        name: Option<String>,
    ) -> Result<String> {
        let now = crate::clock::now();
        step.created.clone_from(&now);
        step.empty_layer = layer.is_none();
        config.created = now;
        config.author.clone_from(&step.author);
        config.history.push(step);
        config.rootfs.kind = "layers".into();
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(layer.diff_id.clone());
            layers.push(Descriptor::new(media_type::OCI_LAYER, layer.diff_id.clone(), layer.archive_size));
        }
        let bytes = |value: serde_json::Result<Vec<u8>>| value.internal(|| "cannot write the image's record".into());
        let config_bytes = bytes(serde_json::to_vec(&config))?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config_bytes),
            layers,
            subject: None,
            annotations: [(crate::images::MADE_HERE, Some("true")), (crate::images::PARENT, parent)]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect(),
        };
        let manifest_bytes = bytes(serde_json::to_vec(&manifest))?;
        let (id, manifest) = (Digest::sha256(&config_bytes), Digest::sha256(&manifest_bytes));
        let store = self.store()?;
        for (digest, bytes) in [(&id, &config_bytes), (&manifest, &manifest_bytes)] {
            store.blobs().put(bytes).internal(|| format!("cannot store blob {digest}"))?;
        }
        let mut size = 0;
        for diff_id in &config.rootfs.diff_ids {
            size += store.layers().get(diff_id).internal(|| format!("cannot find layer {diff_id}"))?.size;
        }
        let diff_ids: Vec<&Digest> = config.rootfs.diff_ids.iter().collect();
        self.database()?.write(|t| {
            crate::images::table::insert(t, (&id, &manifest), &config, (size, &diff_ids))?;
            name.iter().try_for_each(|name| crate::images::table::set_name(t, name, &id.to_string()))
        })?;
        self.database()?.settle()?;
        Ok(id.to_string())
    }

    /// The configuration of a container's image, and its manifest's layers.
    fn base(&self, entry: &Entry) -> Result<(ImageConfig, Vec<Descriptor>)> {
        let id = &entry.settings.image_id;
        if *id == crate::hello::ID {
            return Err(Error::new(Kind::InvalidArgument, "a container of dhow/hello cannot be committed")
                .hint("its image is the program dhow itself and has no layers"));
        }
        let config = self.image_config(id)?;
        let row = self.find_image(id)?.ok_or_else(|| crate::images::no_such_image(id))?;
        let corrupt = || format!("the manifest of image {id} cannot be read");
        let digest: Digest = row.manifest.parse().kind(Kind::Corrupt, corrupt)?;
        let bytes = self.store()?.blobs().read(&digest, crate::images::MAX_DOCUMENT).kind(Kind::Corrupt, corrupt)?;
        let manifest: serde_json::Result<Manifest> = serde_json::from_slice(&bytes);
        // One of an archive of Docker's is not such a manifest; then the plain layers are named.
        let layers = match manifest {
            Ok(manifest) if manifest.layers.len() == config.rootfs.diff_ids.len() => manifest.layers,
            _ => self.plain_layers(&config)?,
        };
        Ok((config, layers))
    }

    fn plain_layers(&self, config: &ImageConfig) -> Result<Vec<Descriptor>> {
        let store = self.store()?;
        let layers = config.rootfs.diff_ids.iter().map(|diff_id| {
            let layer = store.layers().get(diff_id).internal(|| format!("cannot find layer {diff_id}"))?;
            Ok(Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), layer.archive_size))
        });
        layers.collect()
    }

    /// Freezes a container that runs; false if it does not, or is frozen already, or cannot be.
    fn freeze(&self, entry: &Entry, warnings: &mut Vec<String>) -> Result<bool> {
        if self.observe(entry.clone())?.status != Status::Running {
            return Ok(false);
        }
        match self.pause(&entry.id) {
            Ok(()) => Ok(true),
            Err(error) => {
                let reason = crate::containers::chain(&error);
                warnings.push(format!("the container went on while its files were read: {reason}"));
                Ok(false)
            }
        }
    }

    /// DiffIDs, topmost first, as the store has them.
    fn diff_ids_of(&self, entry: &Entry) -> Result<Vec<Digest>> {
        let mut layers = self.layer_digests(entry)?;
        layers.reverse();
        Ok(layers)
    }
}

/// What dhow itself makes in a container.
pub(crate) fn mount_points(settings: &crate::containers::record::Settings) -> Vec<&str> {
    let mut points = MOUNT_POINTS.to_vec();
    for target in crate::secrets::targets(settings) {
        points.push(target);
        if target.starts_with("/run/secrets/") {
            points.extend(["/run", "/run/secrets"]);
        }
    }
    points
}

/// The canonical form of a name for a new image.
fn new_name(text: &str) -> Result<String> {
    let reference = crate::images::parse(text)?;
    if reference.digest().is_some() {
        return Err(Error::new(Kind::InvalidArgument, "refusing to create a tag with a digest reference"));
    }
    Ok(reference.or_latest().to_string())
}
