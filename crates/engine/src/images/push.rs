//! `push`: from the store to a registry.
//!
//! A layer's compressed form is not kept. So that the registry gets the manifest with the digests that it always had, each
//! layer is, in this order: found there by its old digest; mounted from another repository of that registry that has it;
//! read from the store if it is a plain archive; passed on from a registry that the image came from; compressed here, which
//! gives the old digest again if dhow had compressed it. Only if nothing of this works does a layer get a new digest, and the
//! image a new manifest, which then takes the old one's place in the store; the identifier of the image never changes.

use super::claim::Unsettled;
use super::save::again;
use super::{MAX_DOCUMENT, parse, table};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::{Algorithm, Digest};
use oci::image::{Descriptor, Document, media_type};
use oci::reference::Reference;
use registry::{Client, Mounted, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{Builder, ScopedJoinHandle};
use store::Store;

/// Repositories that are asked for a layer before it is made here.
const MOST_ORIGINS: usize = 8;
/// In a manifest that dhow made for an image that came without one: nobody knows its digest yet, so layers may be compressed.
pub(crate) const MADE_HERE: &str = "dhow.manifest.made-here";
/// In the manifest of a commit: the image that its container was made from.
pub(crate) const PARENT: &str = "dhow.manifest.parent";

/// What happens to a layer on its way to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEvent {
    /// Its turn has not come.
    Waiting,
    /// The registry has it.
    Exists,
    /// The registry took it from this other repository of its own.
    Mounted(String),
    /// It is being sent.
    Progress {
        /// Bytes taken by the registry.
        done: u64,
        /// Bytes to send, as far as that is known.
        total: u64,
    },
    /// It is in the registry now.
    Complete,
}

/// Who wants to know how a push goes.
pub trait PushProgress {
    /// It begins: the repository's full name.
    fn begins(&mut self, repository: &str);
    /// Something happened to a layer, named by 12 digits of its diffID.
    fn pushing(&mut self, layer: &str, event: PushEvent);
    /// A tag is complete: digest and size of its manifest.
    fn pushed(&mut self, tag: &str, digest: &str, size: u64);
}

impl PushProgress for super::Quiet {
    fn begins(&mut self, _repository: &str) {}
    fn pushing(&mut self, _layer: &str, _event: PushEvent) {}
    fn pushed(&mut self, _tag: &str, _digest: &str, _size: u64) {}
}

/// How images are pushed.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Fail unless the image is for this platform.
    pub platform: Option<String>,
}

/// A name that was pushed.
#[derive(Clone, Debug)]
pub struct PushedName {
    /// Its canonical name, with tag.
    pub canonical: String,
    /// Digest of the manifest in the registry.
    pub digest: String,
    /// Layers that had to be compressed anew, so that the digest is not the one that the image came with.
    pub recompressed: usize,
}

/// Where layers may be in compressed form.
#[derive(Default)]
struct Origins {
    /// Repositories by the blob's digest.
    repositories: BTreeMap<Digest, BTreeSet<String>>,
    /// By diffID, the blobs that hold it.
    forms: BTreeMap<Digest, Vec<Descriptor>>,
}

/// One push.
struct Push<'a> {
    client: &'a Client,
    store: &'a Store,
    target: Reference,
    origins: Origins,
    /// Registries that did not answer, so that each costs one wait.
    dead: Mutex<BTreeSet<String>>,
    made_here: bool,
    docker: bool,
    /// Layers that are sent at once.
    parallel: usize,
}

type Events = Sender<(String, PushEvent)>;

impl Engine {
    /// Pushes a name, or all tags of a repository.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such name; the registry's refusals.
    pub fn push(&self, name: &str, options: &PushOptions, progress: &mut dyn PushProgress) -> Result<Vec<PushedName>> {
        self.put_right();
        let reference = parse(name)?;
        if reference.digest().is_some() {
            return Err(Error::new(Kind::InvalidArgument, "cannot push a digest reference"));
        }
        let names = self.names_to_push(&reference, options.all_tags)?;
        let held = self.rely_on_layers()?;
        let client = Client::new(self.registry_options()).map_err(|error| refused(name, error))?;
        progress.begins(&reference.name());
        let (mut done, mut replaced, mut unsettled) = (Vec::new(), Vec::new(), Vec::new());
        for target in names {
            // Looked up when its turn comes: a push may give the image another manifest.
            let row = table::by_name(self.database()?.read(), &target.to_string())?;
            let row = row.ok_or_else(|| not_here(&target))?;
            self.check_platform(&row, options, name)?;
            let (pushed, changed) = self.push_one(&client, &target, &row, progress)?;
            done.push(pushed);
            unsettled.extend(changed);
            replaced.push(row.manifest);
        }
        drop(held);
        unsettled.iter_mut().for_each(Unsettled::release);
        replaced.iter().try_for_each(|manifest| self.forget_document(manifest))?;
        unsettled.into_iter().try_for_each(|changed| self.settle(changed, true))?;
        Ok(done)
    }

    fn names_to_push(&self, reference: &Reference, all: bool) -> Result<Vec<Reference>> {
        if !all {
            let target = reference.clone().or_latest();
            return match table::by_name(self.database()?.read(), &target.to_string())? {
                Some(_) => Ok(vec![target]),
                None => Err(not_here(reference)),
            };
        }
        if reference.tag().is_some() {
            return Err(Error::new(Kind::InvalidArgument, "tag can't be used with --all-tags/-a"));
        }
        let prefix = format!("{}:", reference.name());
        let mut names = Vec::new();
        for row in table::all(self.database()?.read())? {
            for name in row.names.iter().filter(|name| name.starts_with(&prefix) && !name.contains('@')) {
                names.push(parse(name)?);
            }
        }
        names.sort();
        match names.is_empty() {
            true => Err(not_here(reference)),
            false => Ok(names),
        }
    }

    fn check_platform(&self, row: &table::Row, options: &PushOptions, name: &str) -> Result<()> {
        let Some(text) = &options.platform else { return Ok(()) };
        let wanted: oci::platform::Platform =
            text.parse().kind(Kind::InvalidArgument, || format!("invalid platform {text:?}"))?;
        let platform = self.image_config(&row.id)?.platform;
        match wanted.rank(&platform) {
            Some(_) => Ok(()),
            None => Err(Error::new(Kind::NotFound, format!("image {name} is for {platform}, not for {wanted}"))),
        }
    }

    fn push_one(
        &self,
        client: &Client,
        target: &Reference,
        row: &table::Row,
        progress: &mut dyn PushProgress,
    ) -> Result<(PushedName, Option<Unsettled>)> {
        let name = target.familiar();
        let (bytes, mut manifest) = self.manifest_document(row)?;
        manifest.annotations.remove(PARENT);
        let diff_ids = row.layers.iter().map(|id| id.parse()).collect::<std::result::Result<Vec<Digest>, _>>();
        let diff_ids = diff_ids.kind(Kind::Corrupt, || format!("the record of image {} cannot be read", row.id))?;
        let push = Push {
            client,
            store: self.store()?,
            target: target.clone(),
            origins: self.origins(&diff_ids)?,
            dead: Mutex::default(),
            made_here: manifest.annotations.remove(MADE_HERE).is_some(),
            docker: manifest.media_type.as_deref() == Some(media_type::DOCKER_MANIFEST),
            parallel: client.parallelism().map_err(|error| refused(&name, error))?.uploads.get(),
        };
        let layers = push.layers(&manifest.layers, &diff_ids, progress)?;
        let recompressed = layers.iter().zip(&manifest.layers).filter(|(new, old)| new.digest != old.digest).count();
        let changed = recompressed > 0 || push.made_here;
        manifest.layers = layers;
        push.document(&manifest.config, row)?;
        let bytes = match changed {
            true => serde_json::to_vec(&manifest).internal(|| "cannot write a manifest".into())?,
            false => bytes,
        };
        let kind = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        let digest = client.put_manifest(target, kind, &bytes).map_err(|error| refused(&name, error))?;
        let unsettled = self.remember_push(row, target, &digest, changed.then_some(&bytes))?;
        progress.pushed(&target.version(), &digest.to_string(), bytes.len() as u64);
        let recompressed = if push.made_here { 0 } else { recompressed };
        Ok((PushedName { canonical: target.to_string(), digest: digest.to_string(), recompressed }, unsettled))
    }

    /// Repositories that images with these layers came from.
    fn origins(&self, diff_ids: &[Digest]) -> Result<Origins> {
        let mut origins = Origins::default();
        let database = self.database()?;
        for row in table::with_layers(database.read(), diff_ids)? {
            let digest = row.manifest.parse::<Digest>().ok();
            let bytes = digest.and_then(|digest| self.store().ok()?.blobs().read(&digest, MAX_DOCUMENT).ok());
            let Some(Document::Manifest(other)) = bytes.and_then(|bytes| Document::parse(&bytes, None).ok()) else {
                continue;
            };
            // Only where it was seen by digest was it ever in a registry.
            let seen = row.names.iter().filter_map(|name| name.split_once('@')).map(|(repository, _)| repository);
            let seen: BTreeSet<String> = seen.map(str::to_owned).collect();
            for (layer, diff_id) in other.layers.iter().zip(&row.layers) {
                let Some(diff_id) = diff_ids.iter().find(|known| known.to_string() == *diff_id) else { continue };
                origins.repositories.entry(layer.digest.clone()).or_default().extend(seen.iter().cloned());
                if layer.digest != *diff_id {
                    origins.forms.entry(diff_id.clone()).or_default().push(layer.clone());
                }
            }
        }
        Ok(origins)
    }

    /// The store knows the image by the digest that it has in the registry from now on.
    fn remember_push(
        &self,
        row: &table::Row,
        target: &Reference,
        digest: &Digest,
        new: Option<&Vec<u8>>,
    ) -> Result<Option<Unsettled>> {
        let mut unsettled = None;
        if let Some(bytes) = new {
            // Until the image has it, the new manifest belongs to nobody.
            unsettled = Some(self.unsettle()?);
            self.store()?.blobs().put(bytes).internal(|| format!("cannot store blob {digest}"))?;
        }
        let name = format!("{}@{digest}", target.name());
        self.database()?.write(|t| {
            // Removed while it was being pushed; the registry has it all the same.
            if !table::exists(t, &row.id)? {
                return Ok(());
            }
            if new.is_some() {
                table::set_manifest(t, &row.id, &digest.to_string())?;
            }
            table::set_name(t, &name, &row.id)
        })?;
        Ok(unsettled)
    }
}

impl Push<'_> {
    /// Gets all layers there, several at once, and returns their descriptors, lowest first.
    fn layers(
        &self,
        layers: &[Descriptor],
        diff_ids: &[Digest],
        progress: &mut dyn PushProgress,
    ) -> Result<Vec<Descriptor>> {
        let mut unique: Vec<(&Descriptor, &Digest)> = Vec::new();
        for pair in layers.iter().zip(diff_ids) {
            if !unique.iter().any(|(known, _)| known.digest == pair.0.digest) {
                progress.pushing(pair.1.short(), PushEvent::Waiting);
                unique.push(pair);
            }
        }
        let next = AtomicUsize::new(0);
        let (sender, events) = mpsc::channel();
        let results: Mutex<BTreeMap<Digest, Descriptor>> = Mutex::default();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.parallel.min(unique.len()))
                .map(|_| {
                    let (sender, unique, next, results) = (sender.clone(), &unique, &next, &results);
                    Builder::new().spawn_scoped(scope, move || {
                        while let Some((layer, diff_id)) = unique.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let sent = self.layer(layer, diff_id, &sender).inspect_err(|_| {
                                // Nobody begins another layer of an image that cannot be completed.
                                next.store(usize::MAX / 2, Ordering::Relaxed);
                            })?;
                            lock(results).insert(layer.digest.clone(), sent);
                        }
                        Ok(())
                    })
                })
                .collect();
            drop(sender);
            for (label, event) in events {
                progress.pushing(&label, event);
            }
            let ended = |_| Err(Error::new(Kind::Internal, "a worker of the push ended unexpectedly"));
            let joined = |worker: std::io::Result<ScopedJoinHandle<'_, Result<()>>>| {
                let worker = worker.internal(|| "cannot start a worker of the push".into())?;
                worker.join().unwrap_or_else(ended)
            };
            let outcomes: Vec<Result<()>> = workers.into_iter().map(joined).collect();
            outcomes.into_iter().collect::<Result<()>>()
        })?;
        let results = lock(&results);
        let sent = layers.iter().map(|layer| results.get(&layer.digest).cloned().unwrap_or_else(|| layer.clone()));
        Ok(sent.collect())
    }

    fn layer(&self, layer: &Descriptor, diff_id: &Digest, events: &Events) -> Result<Descriptor> {
        let name = self.target.familiar_name();
        let refuse = |error| refused(&name, error);
        // The receiver outlives the workers.
        let tell = |event| events.send((diff_id.short().to_owned(), event)).unwrap_or_default();
        if media_type::is_foreign_layer(&layer.media_type) {
            // By its type it must not be pushed; whoever pulls gets it from its own address.
            return Ok(layer.clone());
        }
        let compress_anew = self.made_here && layer.digest == *diff_id;
        let forms = self.origins.forms.get(diff_id).filter(|_| compress_anew);
        let forms: Vec<&Descriptor> = if compress_anew { forms.into_iter().flatten().collect() } else { vec![layer] };
        for form in forms {
            if self.client.has_blob(&self.target, &form.digest).map_err(refuse)?.is_some() {
                tell(PushEvent::Exists);
                return Ok(form.clone());
            }
            if let Some(from) = self.mounted(form)? {
                tell(PushEvent::Mounted(from));
                return Ok(form.clone());
            }
        }
        if !compress_anew {
            if layer.digest == *diff_id {
                let mut open = || -> std::io::Result<Source<'_>> {
                    let rebuilt = self.store.layers().rebuild(diff_id);
                    Ok(Box::new(rebuilt.map_err(|error| std::io::Error::other(again(diff_id, error)))?))
                };
                return self.send(layer, Some(&layer.digest), &mut open, &tell);
            }
            if self.pass_on(layer, &tell) {
                tell(PushEvent::Complete);
                return Ok(layer.clone());
            }
        }
        let is_zstd = layer.media_type.ends_with("zstd");
        let mut open = || -> std::io::Result<Source<'_>> {
            let rebuilt = self.store.layers().rebuild(diff_id);
            let rebuilt = rebuilt.map_err(|error| std::io::Error::other(again(diff_id, error)))?;
            Ok(match is_zstd {
                true => Box::new(archive::compress::zstd(rebuilt)?),
                false => Box::new(archive::compress::gzip(rebuilt)),
            })
        };
        let kind = match (is_zstd, self.docker) {
            (true, _) => media_type::OCI_LAYER_ZSTD,
            (false, true) => media_type::DOCKER_LAYER_GZIP,
            (false, false) => media_type::OCI_LAYER_GZIP,
        };
        let renamed = Descriptor { media_type: kind.to_owned(), ..layer.clone() };
        self.send(&renamed, None, &mut open, &tell)
    }

    /// Sends a stream and says what it was: the digest and size that it turned out to have.
    fn send<'s>(
        &self,
        layer: &Descriptor,
        expected: Option<&Digest>,
        open: &mut dyn FnMut() -> std::io::Result<Source<'s>>,
        tell: &dyn Fn(PushEvent),
    ) -> Result<Descriptor> {
        let total = layer.size;
        let mut told = |done| tell(PushEvent::Progress { done, total });
        told(0);
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let sent = self.client.upload(&self.target, algorithm, expected, open, &mut told);
        let (digest, size) = sent.map_err(|error| refused(&self.target.familiar_name(), error))?;
        tell(PushEvent::Complete);
        Ok(Descriptor { digest, size, ..layer.clone() })
    }

    fn origins(&self, layer: &Descriptor) -> Vec<Reference> {
        let names = self.origins.repositories.get(&layer.digest).into_iter().flatten();
        names.filter_map(|name| Reference::parse(name).ok()).take(MOST_ORIGINS).collect()
    }

    fn mounted(&self, layer: &Descriptor) -> Result<Option<String>> {
        for origin in self.origins(layer) {
            if origin.domain() != self.target.domain() || origin.path() == self.target.path() {
                continue;
            }
            let mounted = self.client.mount_blob(&self.target, &layer.digest, origin.path());
            if mounted.map_err(|error| refused(&self.target.familiar_name(), error))? == Mounted::Yes {
                return Ok(Some(origin.path().to_owned()));
            }
        }
        Ok(None)
    }

    /// Reads the layer where it came from and sends it on; false if nobody gives it.
    fn pass_on(&self, layer: &Descriptor, tell: &dyn Fn(PushEvent)) -> bool {
        for origin in self.origins(layer) {
            if origin.domain() == self.target.domain() && origin.path() == self.target.path()
                || lock(&self.dead).contains(origin.domain())
            {
                continue;
            }
            match self.client.blob_from(&origin, layer) {
                Ok(reader) => {
                    let mut told = |done| tell(PushEvent::Progress { done, total: layer.size });
                    let algorithm = layer.digest.algorithm();
                    let expected = Some(&layer.digest);
                    let mut first = Some(reader);
                    let mut open = || -> std::io::Result<Source<'_>> {
                        let again = || self.client.blob_from(&origin, layer).map_err(std::io::Error::other);
                        Ok(Box::new(first.take().map_or_else(again, Ok)?))
                    };
                    if self.client.upload(&self.target, algorithm, expected, &mut open, &mut told).is_ok() {
                        return true;
                    }
                }
                Err(registry::Error::NotFound { .. }) => {}
                Err(_) => {
                    lock(&self.dead).insert(origin.domain().to_owned());
                }
            }
        }
        false
    }

    /// Gets the configuration there.
    fn document(&self, descriptor: &Descriptor, row: &table::Row) -> Result<()> {
        let name = self.target.familiar_name();
        let digest = &descriptor.digest;
        if self.client.has_blob(&self.target, digest).map_err(|error| refused(&name, error))?.is_some() {
            return Ok(());
        }
        let corrupt = || format!("the configuration of image {} cannot be read", row.id);
        let bytes = self.store.blobs().read(digest, MAX_DOCUMENT).kind(Kind::Corrupt, corrupt)?;
        let algorithm = digest.algorithm();
        let mut open = || -> std::io::Result<Source<'_>> { Ok(Box::new(&bytes[..])) };
        let sent = self.client.upload(&self.target, algorithm, Some(digest), &mut open, &mut |_| ());
        sent.map(drop).map_err(|error| refused(&name, error))
    }
}

fn not_here(reference: &Reference) -> Error {
    let text = format!("An image does not exist locally with the tag: {}", reference.familiar_name());
    Error::new(Kind::NotFound, text).hint("`dhow images` lists what there is")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A registry's refusal in the user's words.
fn refused(name: &str, error: registry::Error) -> Error {
    super::pull::translated("push", name, error)
}
