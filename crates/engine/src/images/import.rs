//! From documents and layer streams, wherever they come from, to an image in the store.
//!
//! Order, and what a kill leaves: the store's lock, shared (falls by itself); layers, each complete or not there; the two
//! documents as blobs; the image and its names in one transaction. Layers and blobs without an image are collected by the
//! next removal.

use super::pull::{PullEvent, PullProgress};
use super::push::MADE_HERE;
use super::table;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::{Digest, Hasher};
use oci::image::ImageConfig;
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::Builder;
use store::Store;

/// Layers that are unpacked at once where nobody says otherwise, Docker's number.
pub(crate) const PARALLEL: usize = 3;

/// Opens a layer's stream, compressed or not.
pub(crate) type Open<'a> = Box<dyn Fn() -> Result<Box<dyn Read + Send>> + Sync + 'a>;

/// A layer that is on its way.
pub(crate) struct IncomingLayer<'a> {
    /// Digest of the plain archive, as the configuration says.
    pub diff_id: Digest,
    /// Digest of the bytes as they come, if the source does not check it itself.
    pub blob: Option<Digest>,
    /// What the user sees: 12 digits of the blob's digest.
    pub label: String,
    /// Bytes to be read.
    pub size: u64,
    /// How to read them.
    pub open: Open<'a>,
}

/// An image that is on its way.
pub(crate) struct Incoming<'a> {
    /// The manifest as transferred.
    pub manifest: Vec<u8>,
    /// The configuration as transferred; its digest is the image's identifier.
    pub config: Vec<u8>,
    /// Layers, lowest first.
    pub layers: Vec<IncomingLayer<'a>>,
    /// Canonical names that shall mean the image.
    pub names: Vec<String>,
    /// Layers that are fetched and unpacked at once.
    pub parallel: usize,
}

impl Engine {
    /// Stores an image; what is in the store already is not read again. Returns its identifier.
    pub(crate) fn import_image(&self, incoming: Incoming<'_>, progress: &mut dyn PullProgress) -> Result<String> {
        let config = ImageConfig::parse(&incoming.config)
            .kind(Kind::Corrupt, || "the image's configuration cannot be used".into())?;
        let unsettled = self.unsettle()?;
        let imported = self.import_held(&incoming, &config, progress);
        // A failure leaves layers without a name; a manifest that is replaced is left without one, too.
        let clean = matches!(imported, Ok((_, false)));
        match (imported, self.settle(unsettled, clean)) {
            (Ok(_), Err(error)) | (Err(error), _) => Err(error),
            (Ok((id, _)), Ok(())) => Ok(id),
        }
    }

    /// Returns the identifier, and whether a document may have lost its last name.
    fn import_held(
        &self,
        incoming: &Incoming<'_>,
        config: &ImageConfig,
        progress: &mut dyn PullProgress,
    ) -> Result<(String, bool)> {
        let store = self.store()?;
        // Opened before anything is made, since it may fail.
        drop(self.database()?);
        let id = Digest::sha256(&incoming.config);
        // Of an image that is here under another name, Docker says nothing of its layers.
        let is_here = table::by_id(self.database()?.read(), &id.to_string())?.is_some();
        import_layers(store, incoming, is_here, progress)?;
        let manifest = Digest::sha256(&incoming.manifest);
        for (digest, bytes) in [(&id, &incoming.config), (&manifest, &incoming.manifest)] {
            store.blobs().put(bytes).map_err(|error| storing(&format!("cannot store blob {digest}"), error))?;
        }
        let layers: Vec<&Digest> = incoming.layers.iter().map(|layer| &layer.diff_id).collect();
        let topmost_first: Vec<Digest> = layers.iter().rev().map(|&layer| layer.clone()).collect();
        store.layers().merge(&topmost_first).map_err(|error| storing("cannot merge the layers", error))?;
        let mut size = 0;
        for layer in &incoming.layers {
            size +=
                store.layers().get(&layer.diff_id).internal(|| format!("cannot find layer {}", layer.diff_id))?.size;
        }
        let is_original = !incoming.manifest.windows(MADE_HERE.len()).any(|part| part == MADE_HERE.as_bytes());
        let before = table::by_id(self.database()?.read(), &id.to_string())?.map(|row| row.manifest);
        let replaced = before.is_some_and(|before| before != manifest.to_string());
        self.database()?.write(|t| {
            table::insert(t, (&id, &manifest), config, (size, &layers))?;
            if is_original {
                // The same image, compressed in another way, or until now without a manifest of its own.
                table::set_manifest(t, &id.to_string(), &manifest.to_string())?;
            }
            incoming.names.iter().try_for_each(|name| table::set_name(t, name, &id.to_string()))
        })?;
        self.database()?.settle()?;
        Ok((id.to_string(), replaced))
    }
}

/// Reads the missing layers, several at once, each once however often the image has it.
fn import_layers(
    store: &Store,
    Incoming { layers, parallel, .. }: &Incoming<'_>,
    is_here: bool,
    progress: &mut dyn PullProgress,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for layer in layers {
        if !seen.insert(&layer.diff_id) {
            continue;
        }
        if store.layers().contains(&layer.diff_id).internal(|| "cannot look into the store".into())? {
            if !is_here {
                progress.event(&layer.label, PullEvent::Exists);
            }
        } else {
            progress.event(&layer.label, PullEvent::Waiting);
            missing.push(layer);
        }
    }
    let next = AtomicUsize::new(0);
    let (sender, events) = mpsc::channel();
    let (warn, warnings) = mpsc::channel();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..missing.len().min(*parallel))
            .map(|_| {
                let (sender, warn, missing, next) = (sender.clone(), warn.clone(), &missing, &next);
                Builder::new().spawn_scoped(scope, move || {
                    while let Some(&layer) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = import_layer(store, layer, &sender, &warn) {
                            // Nobody begins another layer of an image that cannot be completed.
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                            return Err(error);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        drop((sender, warn));
        for (label, event) in events {
            progress.event(&label, event);
            if !progress.is_wanted() {
                // Readers fail when there is nobody to tell how far they are.
                break;
            }
        }
        warnings.iter().for_each(|text: String| progress.warning(&text));
        let mut outcome = Ok(());
        for worker in workers {
            let ended = |_| Err(Error::new(Kind::Internal, "a worker of the import ended unexpectedly"));
            let worker = worker.internal(|| "cannot start a worker of the import".into());
            let result = worker.and_then(|worker| worker.join().unwrap_or_else(ended));
            if outcome.is_ok() {
                outcome = result;
            }
        }
        outcome
    })
}

fn import_layer(
    store: &Store,
    layer: &IncomingLayer<'_>,
    events: &mpsc::Sender<(String, PullEvent)>,
    warn: &mpsc::Sender<String>,
) -> Result<()> {
    let stream = (layer.open)()?;
    let hasher = layer.blob.as_ref().map(|blob| Hasher::new(blob.algorithm()));
    let mut counted = Counted { stream, hasher, done: 0, told: 0, label: &layer.label, total: layer.size, events };
    let imported = store.layers().import(Some(&layer.diff_id), &mut counted);
    // Bytes that do not match their digest are the reason for whatever the unpacking stumbled over.
    if let Some(expected) = &layer.blob {
        counted.check(expected).map_err(|error| match &imported {
            Err(cause) => error.hint(format!("reading it failed too: {}", crate::containers::chain(cause))),
            Ok(_) => error,
        })?;
    }
    let stored = imported.map_err(|error| storing(&format!("cannot unpack layer {}", layer.label), error))?;
    // The receivers outlive the workers.
    for warning in stored.warnings {
        warn.send(format!("layer {}: {warning}", layer.label)).unwrap_or_default();
    }
    events.send((layer.label.clone(), PullEvent::Complete)).unwrap_or_default();
    Ok(())
}

/// Gives a failure of the store its kind: a stream that does not match is corrupt data, a full disk has a hint.
fn storing(message: &str, error: store::StoreError) -> Error {
    let full = matches!(error.errno(), Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT));
    let kind = if error.errno().is_some() { Kind::Internal } else { Kind::Corrupt };
    let wrapped = Error::caused(kind, message, error);
    if full { wrapped.hint("the disk is full: free some space, for example with `dhow rmi`") } else { wrapped }
}

/// Tells how far a layer is, at most once a mebibyte.
struct Counted<'a, R> {
    stream: R,
    hasher: Option<Hasher>,
    done: u64,
    told: u64,
    label: &'a str,
    total: u64,
    events: &'a mpsc::Sender<(String, PullEvent)>,
}

impl<R: Read> Counted<'_, R> {
    /// Reads what is left, and compares the digest of all.
    fn check(&mut self, expected: &Digest) -> Result<()> {
        // Another process stored the layer meanwhile, and nothing was read: there is nothing to be said of these bytes.
        if self.done == 0 {
            return Ok(());
        }
        std::io::copy(self, &mut std::io::sink()).internal(|| format!("cannot read blob {expected}"))?;
        match self.hasher.take().map(Hasher::finish) {
            Some(actual) if actual != *expected => {
                Err(Error::new(Kind::Corrupt, format!("blob {expected} is corrupt: its actual digest is {actual}")))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.done += count as u64;
        if self.done - self.told >= 1 << 20 || self.told == 0 {
            self.told = self.done;
            let event = PullEvent::Progress { done: self.done, total: self.total };
            let told = self.events.send((self.label.to_owned(), event));
            told.map_err(|_| std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "nobody wants it any more"))?;
        }
        Ok(count)
    }
}
