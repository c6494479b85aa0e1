//! `save`: images as one archive. It is an OCI layout and, unless asked otherwise, Docker's format at once, as Docker 25 and
//! newer write it: the same blobs, named by `index.json` for the one and by `manifest.json` for the other.
//!
//! Layers go in as plain archives, byte for byte as they were before somebody compressed them (`store::Rebuilt` compares the
//! diffID), so an image keeps its identifier and its diffIDs. A manifest whose layers are plain goes in as it is; for any
//! other a new one is made, since compression is not kept.

use super::{MAX_DOCUMENT, no_such_image, table};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use archive::{Header, Time, Writer};
use oci::digest::Digest;
use oci::image::{ArchiveImage, Descriptor, Document, ImageConfig, Index, Layout, Manifest, annotation, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

/// What kind of archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveFormat {
    /// Docker's, which is an OCI layout, too.
    #[default]
    Docker,
    /// An OCI layout alone.
    Oci,
}

/// How images are saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// What kind of archive.
    pub format: SaveFormat,
    /// Fail unless every image is for this platform (`os/arch[/variant]`).
    pub platform: Option<String>,
}

/// An image that will be in the archive.
struct Saved {
    id: Digest,
    config: Vec<u8>,
    platform: Platform,
    layers: Vec<Digest>,
    manifest: Vec<u8>,
    manifest_type: String,
    created: Time,
    names: BTreeSet<String>,
}

impl Engine {
    /// Writes images to `sink`, each once however many of its names are given. A name without tag means all its tags.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Corrupt`] when a layer on disk is not what it was. The archive is incomplete then.
    pub fn save(&self, names: &[String], options: &SaveOptions, sink: &mut dyn Write) -> Result<()> {
        self.put_right();
        // What is being read is not removed meanwhile.
        let _held = self.rely_on_layers()?;
        let images = self.to_save(names, options)?;
        let mut archive = Writer::new(sink);
        // skopeo gives a directory that the archive does not have to root, which an ordinary user's must not.
        for name in ["blobs/", "blobs/sha256/"] {
            let header = Header { kind: archive::Kind::Directory, mode: 0o755, ..header(name, 0) };
            archive.append(&header).internal(|| "cannot write the archive".into())?;
        }
        documents(&mut archive, &images, options.format)?;
        let mut done = BTreeSet::new();
        for image in &images {
            let manifest = Digest::sha256(&image.manifest);
            for (digest, bytes) in [(&manifest, &image.manifest), (&image.id, &image.config)] {
                if done.insert(digest.clone()) {
                    let name = blob_name(digest);
                    let header = Header { mtime: image.created, ..header(&name, bytes.len() as u64) };
                    archive.append_data(&header, &bytes[..]).internal(|| "cannot write the archive".into())?;
                }
            }
            for layer in &image.layers {
                if done.insert(layer.clone()) {
                    self.save_layer(&mut archive, layer)?;
                }
            }
        }
        archive.finish().kind(Kind::Internal, || "cannot write the archive".into())?;
        Ok(())
    }

    /// Whether there is something to save of each name: an image, or a repository with some.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name of which there is nothing.
    pub fn check_save(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.rows_to_save(name).map(drop))
    }

    fn to_save(&self, names: &[String], options: &SaveOptions) -> Result<Vec<Saved>> {
        let platform: Option<Platform> = match &options.platform {
            Some(text) => Some(text.parse().kind(Kind::InvalidArgument, || format!("invalid platform {text:?}"))?),
            None => None,
        };
        let mut images: Vec<Saved> = Vec::new();
        for wanted in names {
            for (row, name) in self.rows_to_save(wanted)? {
                let position = match images.iter().position(|image| image.id.to_string() == row.id) {
                    Some(position) => position,
                    None => {
                        images.push(self.saved(&row)?);
                        images.len() - 1
                    }
                };
                let image = &mut images[position];
                if let Some(platform) = &platform
                    && platform.rank(&image.platform).is_none()
                {
                    return Err(Error::new(
                        Kind::NotFound,
                        format!("image {wanted} is for {}, not for {platform}", image.platform),
                    ));
                }
                image.names.extend(name);
            }
        }
        Ok(images)
    }

    /// The image of a name with that name; of a repository, all tags; of an identifier, no name.
    fn rows_to_save(&self, wanted: &str) -> Result<Vec<(table::Row, Option<String>)>> {
        let reference = Reference::parse(wanted).ok();
        if let Some(reference) = reference.as_ref().filter(|name| name.tag().is_none() && name.digest().is_none()) {
            let prefix = format!("{}:", reference.name());
            let mut found = Vec::new();
            for row in table::all(self.database()?.read())? {
                for name in row.names.iter().filter(|name| name.starts_with(&prefix) && !name.contains('@')) {
                    found.push((row.clone(), Some(name.clone())));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let row = self.find_image(wanted)?.ok_or_else(|| no_such_image(wanted))?;
        let name = reference.filter(|name| name.digest().is_none()).map(|name| name.or_latest().to_string());
        let name = name.filter(|name| row.names.contains(name));
        Ok(vec![(row, name)])
    }

    fn saved(&self, row: &table::Row) -> Result<Saved> {
        let corrupt = || format!("the documents of image {} cannot be read", row.id);
        let id: Digest = row.id.parse().kind(Kind::Corrupt, corrupt)?;
        let config = self.store()?.blobs().read(&id, MAX_DOCUMENT).kind(Kind::Corrupt, corrupt)?;
        let ImageConfig { platform, created, .. } = ImageConfig::parse(&config).kind(Kind::Corrupt, corrupt)?;
        // As Docker's archives have it; an image that says nothing was made when time began.
        let created = created.parse::<jiff::Timestamp>().map_or(0, |time| time.as_second());
        let created = Time { seconds: created, nanoseconds: 0 };
        let layers = row.layers.iter().map(|id| id.parse()).collect::<std::result::Result<Vec<Digest>, _>>();
        let layers = layers.kind(Kind::Corrupt, corrupt)?;
        let (bytes, manifest) = self.manifest_document(row)?;
        let is_plain = manifest.layers.iter().map(|layer| &layer.digest).eq(&layers);
        let (manifest, manifest_type) = if is_plain {
            let kind = manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
            (bytes, kind)
        } else {
            let mut descriptors = Vec::new();
            for layer in &layers {
                let size = self.store()?.layers().get(layer).internal(|| format!("cannot find layer {layer}"))?;
                descriptors.push(Descriptor::new(media_type::OCI_LAYER, layer.clone(), size.archive_size));
            }
            (super::load::manifest_of(&config, descriptors)?, media_type::OCI_MANIFEST.to_owned())
        };
        Ok(Saved { id, config, platform, layers, manifest, manifest_type, created, names: BTreeSet::new() })
    }

    /// An image's manifest, as bytes and parsed.
    pub(crate) fn manifest_document(&self, row: &table::Row) -> Result<(Vec<u8>, Manifest)> {
        let corrupt = || format!("the manifest of image {} cannot be read", row.id);
        let digest: Digest = row.manifest.parse().kind(Kind::Corrupt, corrupt)?;
        let bytes = self.store()?.blobs().read(&digest, MAX_DOCUMENT).kind(Kind::Corrupt, corrupt)?;
        match Document::parse(&bytes, None).kind(Kind::Corrupt, corrupt)? {
            Document::Manifest(manifest) => Ok((bytes, *manifest)),
            Document::Index(_) => Err(Error::new(Kind::Corrupt, corrupt())),
        }
    }

    fn save_layer<W: Write>(&self, archive: &mut Writer<W>, diff_id: &Digest) -> Result<()> {
        let layers = self.store()?.layers();
        let rebuilt = layers.rebuild(diff_id).map_err(|error| again(diff_id, error))?;
        let name = blob_name(diff_id);
        let size = rebuilt.size();
        // Read to the very end, where the digest is compared.
        let mut watched = Watched { source: rebuilt, failure: None };
        let written = archive.append_data(&header(&name, size), &mut watched);
        let end = watched.source.read(&mut [0]).map(drop);
        match (watched.failure, end, written) {
            (Some(text), ..) => Err(Error::new(Kind::Corrupt, text)),
            (None, Err(error), _) => Err(Error::new(Kind::Corrupt, error.to_string())),
            (None, Ok(()), Err(error)) => Err(error).internal(|| "cannot write the archive".into()),
            (None, Ok(()), Ok(())) => Ok(()),
        }
    }
}

/// What can be done about a layer that cannot be put together again.
pub(crate) fn again(diff_id: &Digest, error: store::StoreError) -> Error {
    Error::caused(Kind::Corrupt, format!("cannot put the archive of layer {} together", diff_id.short()), error)
        .hint("remove the image and pull or load it again")
}

/// Tells the reader's failures from the writer's.
struct Watched<R> {
    source: R,
    failure: Option<String>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.source.read(buffer).inspect_err(|error| self.failure = Some(error.to_string()))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The documents that say what is in the archive, first, so that a reader of the stream knows early.
fn documents<W: Write>(archive: &mut Writer<W>, images: &[Saved], format: SaveFormat) -> Result<()> {
    let json = |bytes: serde_json::Result<Vec<u8>>| bytes.internal(|| "cannot write a document".into());
    file(archive, "oci-layout", &json(serde_json::to_vec(&Layout::default()))?)?;
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        artifact_type: None,
        manifests: images.iter().flat_map(entries).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    file(archive, "index.json", &json(serde_json::to_vec(&index))?)?;
    if format == SaveFormat::Docker {
        let list: Vec<ArchiveImage> = images
            .iter()
            .map(|image| ArchiveImage {
                config: blob_name(&image.id),
                repo_tags: image.names.iter().map(|name| familiar(name)).collect(),
                layers: image.layers.iter().map(blob_name).collect(),
                layer_sources: BTreeMap::new(),
            })
            .collect();
        file(archive, "manifest.json", &json(serde_json::to_vec(&list))?)?;
    }
    Ok(())
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// An index entry for each name of an image, as containerd and Docker write them; one without a name for an image without.
fn entries(image: &Saved) -> Vec<Descriptor> {
    let mut bare = Descriptor::of(&image.manifest_type, &image.manifest);
    bare.platform = Some(image.platform.clone());
    if image.names.is_empty() {
        return vec![bare];
    }
    let named = |name: &String| {
        let mut entry = bare.clone();
        entry.annotations.insert(annotation::CONTAINERD_NAME.into(), name.clone());
        if let Some(tag) = Reference::parse(name).ok().as_ref().and_then(Reference::tag) {
            entry.annotations.insert(annotation::REF_NAME.into(), tag.to_owned());
        }
        entry
    };
    image.names.iter().map(named).collect()
}

fn header(name: &str, size: u64) -> Header<'_> {
    Header {
        path: name.as_bytes(),
        kind: archive::Kind::Regular,
        link: &[],
        size,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: &[],
    }
}

fn file<W: Write>(archive: &mut Writer<W>, name: &str, bytes: &[u8]) -> Result<()> {
    archive.append_data(&header(name, bytes.len() as u64), bytes).internal(|| "cannot write the archive".into())
}
