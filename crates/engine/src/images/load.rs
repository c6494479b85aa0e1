//! `load`: from an archive into the store. Docker's archives (`manifest.json`) and OCI layouts (`index.json`), which may
//! be one and the same file.
//!
//! The archive's headers are read once; layers are then read at their places, several at once. A stream that cannot be
//! rewound goes to a nameless file first.

use super::import::{Incoming, IncomingLayer, Open, PARALLEL};
use super::pull::PullProgress;
use super::{MAX_DOCUMENT, parse};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use archive::{Limits, Reader};
use oci::digest::Digest;
use oci::image::{ArchiveImage, Descriptor, Document, ImageConfig, Manifest, annotation, media_type};
use oci::platform::Platform;
use signature::Transport;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its familiar names; none when the archive has none.
    pub names: Vec<String>,
    /// Its identifier.
    pub id: String,
}

/// Members of an archive that an image can consist of: offset and size of the content.
type Index = BTreeMap<String, (u64, u64)>;

impl Engine {
    /// Loads every image of an archive. `source` may be a pipe; `name` is what the user calls it.
    pub fn load(&self, source: File, name: &str, progress: &mut dyn PullProgress) -> Result<Vec<Loaded>> {
        self.load_for(source, name, &Platform::host(), progress)
    }

    /// The same for another platform; of an archive that is for one platform only, that one.
    pub fn load_for(
        &self,
        source: File,
        name: &str,
        platform: &Platform,
        progress: &mut dyn PullProgress,
    ) -> Result<Vec<Loaded>> {
        self.put_right();
        let loaded = self.load_archive(source, platform, progress).map_err(|error| {
            let hint = error.advice().map(str::to_owned);
            let wrapped = Error::caused(error.kind(), format!("cannot load {name}"), error);
            match hint {
                Some(hint) => wrapped.hint(hint),
                None => wrapped,
            }
        })?;
        for image in &loaded {
            let name = image.names.first().unwrap_or(&image.id);
            self.record_image("load", &image.id, name);
        }
        Ok(loaded)
    }

    fn load_archive(&self, source: File, platform: &Platform, progress: &mut dyn PullProgress) -> Result<Vec<Loaded>> {
        let file = self.rewindable(source)?;
        let index = index(&file)?;
        if index.is_empty() {
            return Err(unusable("it is empty or not a tar archive"));
        }
        if index.contains_key("manifest.json") {
            self.check_load(Transport::DockerArchive)?;
            return self.load_docker(&file, &index, progress);
        }
        if index.contains_key("index.json") {
            self.check_load(Transport::OciArchive)?;
            return self.load_oci(&file, &index, platform, progress);
        }
        Err(unusable("it has neither manifest.json nor index.json").hint("only archives of `docker save`, `podman save` and `skopeo` hold images; a file system goes in with `dhow import`"))
    }

    fn rewindable(&self, mut source: File) -> Result<File> {
        if source.stream_position().is_ok() {
            return Ok(source);
        }
        let mut file = self.nameless_file()?;
        std::io::copy(&mut source, &mut file).internal(|| "cannot keep the archive while it is read".into())?;
        Ok(file)
    }

    fn load_docker(&self, file: &File, index: &Index, progress: &mut dyn PullProgress) -> Result<Vec<Loaded>> {
        let list = ArchiveImage::parse_list(&document(file, index, "manifest.json")?)
            .kind(Kind::Corrupt, || "the archive's manifest.json cannot be used".into())?;
        let mut loaded = Vec::new();
        for image in list {
            let config = document(file, index, &image.config)?;
            let parsed = configuration(&config)?;
            if parsed.rootfs.diff_ids.len() != image.layers.len() {
                return Err(unusable(
                    "its manifest.json and the image's configuration name different numbers of layers",
                ));
            }
            let mut descriptors = Vec::new();
            let mut layers = Vec::new();
            for (name, diff_id) in image.layers.iter().zip(&parsed.rootfs.diff_ids) {
                let place =
                    *index.get(normal(name)).ok_or_else(|| unusable(&format!("its layer {name} is missing")))?;
                // The archive has the plain layer, so the manifest that we make names it by its diffID.
                descriptors.push(Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), place.1));
                // Others (crane, Docker's containerd store) keep it compressed here as well; the diffID is checked either way.
                layers.push(layer(file, place, diff_id, None));
            }
            let names = image.repo_tags.iter().map(|tag| Ok(parse(tag)?.or_latest())).collect::<Result<Vec<_>>>()?;
            let incoming = Incoming {
                manifest: manifest_of(&config, descriptors)?,
                layers,
                names: names.iter().map(ToString::to_string).collect(),
                config,
                parallel: PARALLEL,
            };
            let id = self.import_image(incoming, progress)?;
            loaded.push(Loaded { names: names.iter().map(oci::reference::Reference::familiar).collect(), id });
        }
        Ok(loaded)
    }

    fn load_oci(
        &self,
        file: &File,
        index: &Index,
        platform: &Platform,
        progress: &mut dyn PullProgress,
    ) -> Result<Vec<Loaded>> {
        let top = document(file, index, "index.json")?;
        let Document::Index(top) =
            Document::parse(&top, None).kind(Kind::Corrupt, || "the archive's index.json cannot be used".into())?
        else {
            return Err(unusable("its index.json is not an index"));
        };
        let mut loaded = Vec::new();
        for entry in top.manifests.iter().filter(|entry| !entry.is_attestation()) {
            let names = entry_names(entry)?;
            if let Some(id) = self.load_manifest(file, index, entry, (&names, platform), progress)? {
                loaded.push(Loaded { names: names.iter().map(oci::reference::Reference::familiar).collect(), id });
            }
        }
        if loaded.is_empty() {
            return Err(unusable("it has no image for this platform"));
        }
        Ok(loaded)
    }

    fn load_manifest(
        &self,
        file: &File,
        index: &Index,
        entry: &Descriptor,
        (names, platform): (&[oci::reference::Reference], &Platform),
        progress: &mut dyn PullProgress,
    ) -> Result<Option<String>> {
        let mut descriptor = entry.clone();
        // An index may lead to another; three levels are more than any tool makes.
        for _ in 0..3 {
            let bytes = blob(file, index, &descriptor.digest)?;
            let parsed = Document::parse(&bytes, Some(&descriptor.media_type))
                .kind(Kind::Corrupt, || format!("the manifest {} cannot be used", descriptor.digest))?;
            match parsed {
                Document::Index(inner) => match inner.select(platform) {
                    Some(chosen) => descriptor = chosen.clone(),
                    None => return Ok(None),
                },
                Document::Manifest(manifest) => {
                    return self.load_image(file, index, bytes, &manifest, names, progress).map(Some);
                }
            }
        }
        Err(unusable("its indexes are nested too deeply"))
    }

    fn load_image(
        &self,
        file: &File,
        index: &Index,
        manifest_bytes: Vec<u8>,
        manifest: &Manifest,
        names: &[oci::reference::Reference],
        progress: &mut dyn PullProgress,
    ) -> Result<String> {
        let config = blob(file, index, &manifest.config.digest)?;
        let parsed = configuration(&config)?;
        parsed.check_layers(manifest).kind(Kind::Corrupt, || "the image contradicts itself".into())?;
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
            let name = blob_name(&descriptor.digest);
            let place =
                *index.get(&name).ok_or_else(|| unusable(&format!("its blob {} is missing", descriptor.digest)))?;
            layers.push(layer(file, place, diff_id, Some(&descriptor.digest)));
        }
        let names = names.iter().map(ToString::to_string).collect();
        let incoming = Incoming { manifest: manifest_bytes, config, layers, names, parallel: PARALLEL };
        self.import_image(incoming, progress)
    }
}

fn unusable(why: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("the archive cannot be used: {why}"))
}

fn configuration(bytes: &[u8]) -> Result<ImageConfig> {
    ImageConfig::parse(bytes).kind(Kind::Corrupt, || "the image's configuration cannot be used".into())
}

/// Docker and skopeo write plain names, others `./name`.
fn normal(name: &str) -> &str {
    name.trim_start_matches("./")
}

/// Reads the headers alone: behind each, the next is found by its size.
fn index(file: &File) -> Result<Index> {
    let corrupt = || "the archive is damaged or cut off".to_owned();
    let length = file.metadata().internal(|| "cannot look at the archive".into())?.len();
    let mut result = Index::new();
    let mut links: Vec<(String, String)> = Vec::new();
    let mut position = 0;
    let again = file.try_clone().internal(|| "cannot open the archive again".into())?;
    let mut source = At { file: again, position, end: length };
    loop {
        source.position = position;
        let mut reader = Reader::new(BufReader::with_capacity(4096, &mut source), Limits::default());
        let Some(entry) = reader.next().kind(Kind::Corrupt, corrupt)? else { break };
        let content = position + reader.offset();
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        let stored = if entry.kind == archive::Kind::Regular { entry.size } else { 0 };
        if content + stored > length {
            return Err(Error::new(
                Kind::Corrupt,
                format!(
                    "the archive is cut off: {name} needs {stored} bytes at offset {content}, the archive has {length}"
                ),
            ));
        }
        match entry.kind {
            archive::Kind::Regular if !entry.sparse => {
                result.insert(normal(&name).to_owned(), (content, stored));
            }
            // Docker's old archives link a layer that two images share.
            archive::Kind::Symlink | archive::Kind::HardLink => {
                links.push((normal(&name).to_owned(), String::from_utf8_lossy(&entry.link).into_owned()));
            }
            _ => {}
        }
        position = content + stored.next_multiple_of(512);
        if result.len() > 100_000 {
            return Err(unusable("it has more than 100,000 members"));
        }
    }
    for (name, target) in links {
        let resolved = target.trim_start_matches("../").to_owned();
        if let Some(&place) = result.get(normal(&resolved)) {
            result.insert(name, place);
        }
    }
    Ok(result)
}

/// A part of a file as a stream with a place of its own.
struct At {
    file: File,
    position: u64,
    end: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

fn document(file: &File, index: &Index, name: &str) -> Result<Vec<u8>> {
    let (position, size) = *index.get(normal(name)).ok_or_else(|| unusable(&format!("{name} is missing")))?;
    if size > MAX_DOCUMENT {
        return Err(unusable(&format!("{name} has {size} bytes, more than the limit of {MAX_DOCUMENT}")));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, position).internal(|| format!("cannot read {name} from the archive"))?;
    Ok(bytes)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A document by digest, verified.
fn blob(file: &File, index: &Index, digest: &Digest) -> Result<Vec<u8>> {
    let bytes = document(file, index, &blob_name(digest))?;
    let mut hasher = oci::digest::Hasher::new(digest.algorithm());
    hasher.update(&bytes);
    let actual = hasher.finish();
    if actual == *digest {
        return Ok(bytes);
    }
    Err(Error::new(Kind::Corrupt, format!("blob {digest} is corrupt: its actual digest is {actual}")))
}

fn layer<'a>(
    file: &'a File,
    (position, size): (u64, u64),
    diff_id: &Digest,
    blob: Option<&Digest>,
) -> IncomingLayer<'a> {
    let open: Open<'a> = Box::new(move || {
        let file = file.try_clone().internal(|| "cannot open the archive again".into())?;
        Ok(Box::new(At { file, position, end: position + size }) as Box<dyn Read + Send>)
    });
    let label = blob.unwrap_or(diff_id).short().to_owned();
    IncomingLayer { diff_id: diff_id.clone(), blob: blob.cloned(), label, size, open }
}

/// The manifest of an image that came without one.
pub(crate) fn manifest_of(config: &[u8], layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, config),
        layers,
        subject: None,
        annotations: BTreeMap::from([(super::push::MADE_HERE.to_owned(), "true".to_owned())]),
    };
    serde_json::to_vec(&manifest).internal(|| "cannot write a manifest".into())
}

/// containerd writes the whole name beside the tag; others write name or tag alone.
fn entry_names(entry: &Descriptor) -> Result<Vec<oci::reference::Reference>> {
    let full = entry.annotations.get(annotation::CONTAINERD_NAME);
    let short = entry.annotations.get(annotation::REF_NAME).filter(|name| name.contains([':', '/']) || full.is_none());
    match full.or(short) {
        None => Ok(Vec::new()),
        Some(name) => Ok(vec![parse(name)?.or_latest()]),
    }
}
