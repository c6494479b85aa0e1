//! `manifest`: what registries have under a name, and lists of images for several platforms that are put together here and
//! pushed as one. A list that has not been pushed yet is a file, `<data>/manifest-lists/<SHA-256 of its name>.json`.

use super::pull::translated;
use super::{MAX_DOCUMENT, parse};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::Digest;
use oci::image::{Descriptor, Document, ImageConfig, Index, Manifest, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Client, Mounted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A manifest, or a list of them.
#[derive(Clone, Debug)]
pub struct ManifestFound {
    /// The name that was asked for, canonical.
    pub reference: String,
    /// Media type, digest, size, and in a list the platform.
    pub descriptor: Descriptor,
    /// The document, byte for byte.
    pub bytes: Vec<u8>,
    /// The images of a list, when asked for.
    pub entries: Vec<ManifestFound>,
}

/// What may be said of an image in a list.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// Processor.
    pub architecture: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Its features.
    pub os_features: Vec<String>,
    /// Variant of the processor.
    pub variant: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct List {
    name: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    reference: String,
    descriptor: Descriptor,
}

impl List {
    /// The list as a document: Docker's type if every image has Docker's.
    fn document(&self) -> Result<(Vec<u8>, &'static str)> {
        let docker = self.entries.iter().all(|entry| entry.descriptor.media_type == media_type::DOCKER_MANIFEST);
        let kind = if docker { media_type::DOCKER_INDEX } else { media_type::OCI_INDEX };
        let index = Index {
            schema_version: 2,
            media_type: Some(kind.to_owned()),
            artifact_type: None,
            manifests: self.entries.iter().map(|entry| entry.descriptor.clone()).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec_pretty(&index).internal(|| "cannot write a list of manifests".into())?;
        Ok((bytes, kind))
    }
}

fn client(name: &str, reference: &Reference, insecure: bool) -> Result<Client> {
    let mut options = registry::Options::from_environment();
    if insecure {
        options.insecure.push(reference.domain().to_owned());
    }
    Client::new(options).map_err(|error| translated("ask for", name, error))
}

impl Engine {
    fn list_file(&self, reference: &Reference) -> PathBuf {
        let digest = Digest::sha256(reference.to_string().as_bytes());
        self.directories().data.join("manifest-lists").join(format!("{}.json", digest.hex()))
    }

    fn list_of(&self, reference: &Reference) -> Result<Option<List>> {
        let path = self.list_file(reference);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let list = serde_json::from_slice(&bytes);
                list.map(Some).kind(Kind::Corrupt, || format!("{} is damaged", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).internal(|| format!("cannot read {}", path.display())),
        }
    }

    fn known_list(&self, name: &str) -> Result<(Reference, List)> {
        let reference = parse(name)?.or_latest();
        match self.list_of(&reference)? {
            Some(list) => Ok((reference, list)),
            None => Err(Error::new(Kind::NotFound, format!("No such manifest: {name}"))
                .hint("`dhow manifest create` makes a list")),
        }
    }

    fn keep_list(&self, reference: &Reference, list: &List) -> Result<()> {
        let path = self.list_file(reference);
        let failed = || format!("cannot write {}", path.display());
        crate::directories::make(&self.directories().data.join("manifest-lists"), 0o700)?;
        let bytes = serde_json::to_vec(list).internal(failed)?;
        // Under another name first, so that a kill leaves the old list or the new one.
        let temporary = path.with_extension(std::process::id().to_string());
        std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path)).internal(failed)
    }

    /// What a registry has under a name, or a list that was made here; with `entries`, the images of a list too.
    ///
    /// # Errors
    /// The registry's refusals.
    pub fn manifest_inspect(&self, name: &str, entries: bool, insecure: bool) -> Result<ManifestFound> {
        let reference = parse(name)?.or_latest();
        if let Some(list) = self.list_of(&reference)? {
            let (bytes, kind) = list.document()?;
            let descriptor = Descriptor::of(kind, &bytes);
            return Ok(ManifestFound { reference: reference.to_string(), descriptor, bytes, entries: Vec::new() });
        }
        let client = client(name, &reference, insecure)?;
        let raw = client.manifest(&reference).map_err(|error| translated("pull", name, error))?;
        let mut found = ManifestFound {
            reference: reference.to_string(),
            descriptor: raw.descriptor(),
            bytes: raw.bytes,
            entries: Vec::new(),
        };
        if let (Document::Index(index), true) = (raw.document, entries) {
            for entry in index.manifests.iter().take(1000) {
                let by_digest = reference.with_digest(entry.digest.clone());
                let raw = client.manifest(&by_digest).map_err(|error| translated("pull", name, error))?;
                let descriptor = Descriptor { platform: entry.platform.clone(), ..raw.descriptor() };
                let reference = by_digest.to_string();
                found.entries.push(ManifestFound { reference, descriptor, bytes: raw.bytes, entries: Vec::new() });
            }
        }
        Ok(found)
    }

    /// Begins a list with images of a registry; with `amend`, adds to one that was begun. Returns its canonical name.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it exists and `amend` is not set; the registry's refusals.
    pub fn manifest_create(&self, name: &str, images: &[String], amend: bool, insecure: bool) -> Result<String> {
        let reference = parse(name)?.or_latest();
        let mut list = match self.list_of(&reference)? {
            Some(_) if !amend => {
                let text = "refusing to amend an existing manifest list with no --amend flag";
                return Err(Error::new(Kind::Conflict, text));
            }
            Some(list) => list,
            None => List { name: reference.to_string(), entries: Vec::new() },
        };
        for image in images {
            let of = parse(image)?.or_latest();
            let client = client(image, &of, insecure)?;
            let raw = client.manifest(&of).map_err(|error| translated("pull", image, error))?;
            let mut descriptor = raw.descriptor();
            let Document::Manifest(manifest) = raw.document else {
                return Err(Error::new(Kind::InvalidArgument, format!("{image} is a manifest list")));
            };
            descriptor.platform = Some(platform_of(&client, &of, &manifest, image)?);
            list.entries.retain(|entry| entry.reference != of.to_string());
            list.entries.push(Entry { reference: of.to_string(), descriptor });
        }
        self.keep_list(&reference, &list)?;
        Ok(reference.to_string())
    }

    /// Says of an image in a list what it is for.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such list or no such image in it.
    pub fn manifest_annotate(&self, name: &str, image: &str, annotations: &Annotations) -> Result<()> {
        let (reference, mut list) = self.known_list(name)?;
        let wanted = parse(image)?.or_latest().to_string();
        let entry = list.entries.iter_mut().find(|entry| entry.reference == wanted);
        let entry = entry.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("manifest for image {image} does not exist in {name}"))
        })?;
        let platform = entry.descriptor.platform.get_or_insert_with(Platform::host);
        let mut value = serde_json::to_value(&*platform).internal(|| "cannot change a platform".into())?;
        let fields = [
            ("architecture", &annotations.architecture),
            ("os", &annotations.os),
            ("os.version", &annotations.os_version),
            ("variant", &annotations.variant),
        ];
        for (field, text) in fields {
            if let Some(text) = text {
                value[field] = text.clone().into();
            }
        }
        if !annotations.os_features.is_empty() {
            value["os.features"] = annotations.os_features.clone().into();
        }
        *platform = serde_json::from_value(value).kind(Kind::InvalidArgument, || "invalid platform".into())?;
        self.keep_list(&reference, &list)
    }

    /// Pushes a list, with those of its images that the repository lacks, and returns its digest; `purge` forgets it here.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] when an image is in another registry; the registry's refusals.
    pub fn manifest_push(&self, name: &str, purge: bool, insecure: bool) -> Result<String> {
        let (reference, list) = self.known_list(name)?;
        let client = client(name, &reference, insecure)?;
        for entry in &list.entries {
            let from = parse(&entry.reference)?;
            if from.domain() != reference.domain() {
                let text = format!("{} is in another registry than {name}", entry.reference);
                return Err(Error::new(Kind::InvalidArgument, text).hint("push the image to the list's registry first"));
            }
            if from.path() != reference.path() {
                copy(&client, &from, &reference, &entry.descriptor).map_err(|error| translated("push", name, error))?;
            }
        }
        let (bytes, kind) = list.document()?;
        let digest = client.put_manifest(&reference, kind, &bytes).map_err(|error| translated("push", name, error))?;
        if purge {
            self.manifest_remove(name)?;
        }
        Ok(digest.to_string())
    }

    /// Forgets a list; what was pushed stays in the registry.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn manifest_remove(&self, name: &str) -> Result<()> {
        let (reference, _) = self.known_list(name)?;
        let path = self.list_file(&reference);
        std::fs::remove_file(&path).internal(|| format!("cannot remove {}", path.display()))
    }
}

fn platform_of(client: &Client, of: &Reference, manifest: &Manifest, image: &str) -> Result<Platform> {
    let config = client.small_blob(of, &manifest.config).map_err(|error| translated("pull", image, error))?;
    let config = ImageConfig::parse(&config);
    config.map(|config| config.platform).kind(Kind::Corrupt, || format!("the configuration of {image} cannot be used"))
}

/// Gets an image into another repository of the same registry.
fn copy(
    client: &Client,
    from: &Reference,
    to: &Reference,
    descriptor: &Descriptor,
) -> std::result::Result<(), registry::Error> {
    let raw = client.manifest(&from.with_digest(descriptor.digest.clone()))?;
    if let Document::Manifest(manifest) = &raw.document {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let is_there = media_type::is_foreign_layer(&blob.media_type)
                || client.has_blob(to, &blob.digest)?.is_some()
                || client.mount_blob(to, &blob.digest, from.path())? == Mounted::Yes;
            if !is_there {
                let mut open = || -> std::io::Result<registry::Source<'_>> {
                    Ok(Box::new(client.blob_from(from, blob).map_err(std::io::Error::other)?))
                };
                client.upload(to, blob.digest.algorithm(), Some(&blob.digest), &mut open, &mut |_| ())?;
            }
        }
    }
    debug_assert!(raw.bytes.len() as u64 <= MAX_DOCUMENT);
    client.put_manifest(&to.with_digest(raw.digest.clone()), &raw.media_type, &raw.bytes).map(drop)
}
