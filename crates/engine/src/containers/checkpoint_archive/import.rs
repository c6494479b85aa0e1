//! From an archive to a running container.

use super::{FORMAT, IMAGES, MANIFEST, Manifest, ROOT, VERSION, VOLUMES, host, is_image_name};
use crate::containers::checkpoint::only_our_own;
use crate::containers::options::MountSource;
use crate::containers::record::Settings;
use crate::containers::start::Started;
use crate::containers::table::{self, Entry};
use crate::containers::{lock, settle};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::names;
use crate::volumes::{Carried, Held};
use archive::decompress::{self, Decompressor};
use archive::{Reader, TarError};
use runtime::CheckpointOptions;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use store::{Scratch, Writable};

/// Longer manifests are not ours: ten thousand labels fit.
const LONGEST_MANIFEST: u64 = 4 << 20;
/// A process has a handful of files of criu's, a container some thousands of processes.
const MOST_MEMBERS: u64 = 200_000;

/// How an archive becomes a container.
#[derive(Clone, Debug, Default)]
pub struct CheckpointImport {
    /// The container's name; that of the one that was written where absent.
    pub name: Option<String>,
    /// Its layer starts as the image is.
    pub ignore_root: bool,
    /// Its volumes are those that are here, or new ones.
    pub ignore_volumes: bool,
    /// It may have what it had of the host: mounts, devices, privileges, namespaces.
    pub allow_host: bool,
    /// criu's files stay with the container, as the checkpoint `imported`.
    pub keep: bool,
}

/// What the checkpoint of an import is called while its container starts.
const IMPORTED: &str = "imported";

/// What has been made so far; nothing of it has a row yet.
struct Incoming {
    entry: Entry,
    lock: OwnedFd,
    scratch: Scratch,
    manifest: Manifest,
    /// The names here of the volumes that the archive names: an anonymous one gets a new name.
    renamed: BTreeMap<String, String>,
    /// Volumes with their content, without rows.
    volumes: Vec<(Carried, Held)>,
    /// Named volumes that did not come along and were made.
    made: Vec<String>,
    /// Whether the container's layer was filled.
    root: bool,
    /// Whether criu's inventory is there.
    inventory: bool,
}

impl Engine {
    /// Makes a container of an archive that [`Engine::export_checkpoint`] wrote, and has it go on where it was. When anything
    /// fails nothing of it is left.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] for what is no such archive; [`Kind::Forbidden`] for one that asks for more than it may have;
    /// [`Kind::NotFound`] for its image; [`Kind::Conflict`] for names that are taken; criu's refusal.
    pub fn import_checkpoint(&self, source: impl Read + Send, options: &CheckpointImport) -> Result<Started> {
        self.put_right();
        self.only_root("restore")?;
        let plain = Decompressor::new(source, decompress::Limits::default())
            .kind(Kind::Corrupt, || "the archive cannot be read".to_owned())?;
        let limits = archive::Limits { entries: MOST_MEMBERS, ..archive::Limits::default() };
        let mut reader = Reader::new(BufReader::with_capacity(128 << 10, plain), limits);
        let manifest = manifest(&mut reader)?;
        let mut incoming = self.begin_import(manifest, options)?;
        let recorded =
            self.take_in(&mut reader, &mut incoming, options).and_then(|()| self.record_import(&mut incoming, options));
        if let Err(error) = recorded {
            self.give_back(incoming);
            return Err(error);
        }
        self.start_import(incoming, options)
    }

    /// Checks the manifest, and takes an identifier with its lock: whatever is made from here on hangs on that.
    fn begin_import(&self, manifest: Manifest, options: &CheckpointImport) -> Result<Incoming> {
        self.check_import_name(&manifest, options)?;
        let mut settings = manifest.settings.clone();
        only_our_own(&settings, "restore")?;
        let asked = host::asked(&settings);
        if !asked.is_empty() && !options.allow_host {
            let text =
                format!("the container of the archive asks for more than one has by default: {}", asked.join(", "));
            return Err(Error::new(Kind::Forbidden, text).hint("--allow-host gives it what it had of the host"));
        }
        self.check_import_image(&settings)?;
        let mut renamed = BTreeMap::new();
        for mount in &mut settings.mounts {
            settle::check_target(&mount.target, settings.privileged)?;
            self.check_import_mount(&mut mount.source, &manifest, options, &mut renamed)?;
            self.settle_mount(mount)?;
        }
        if let Some(stranger) = manifest.volumes.iter().find(|volume| !renamed.contains_key(&volume.name)) {
            return Err(no_checkpoint(format!("the container has no volume {:?}", stranger.name)));
        }
        let entry = self.new_entry(settings)?;
        let scratch = self.store()?.scratch("import").internal(|| "cannot import the archive".to_owned())?;
        crate::directories::make(&scratch.path().join(IMAGES), 0o700)?;
        let lock = lock::claim_new(self.directories(), &entry.id)?;
        Ok(Incoming {
            entry,
            lock,
            scratch,
            manifest,
            renamed,
            volumes: Vec::new(),
            made: Vec::new(),
            root: false,
            inventory: false,
        })
    }

    /// The image must be here: an archive names layers, and those of other images are none of its business.
    fn check_import_image(&self, settings: &Settings) -> Result<()> {
        if self.find_image(&settings.image_id)?.is_none_or(|row| row.id != settings.image_id) {
            let (name, id) = (&settings.image_name, &settings.image_id);
            return Err(Error::new(Kind::NotFound, format!("the image {name} ({id}) of the archive is not here"))
                .hint(format!("pull or load it first: dhow pull {name}")));
        }
        let config = self.image_config(&settings.image_id)?;
        if !config.rootfs.diff_ids.iter().map(ToString::to_string).eq(settings.layers.iter().cloned()) {
            return Err(no_checkpoint(format!("its layers are not those of image {}", settings.image_name)));
        }
        Ok(())
    }

    fn check_import_mount(
        &self,
        source: &mut MountSource,
        manifest: &Manifest,
        options: &CheckpointImport,
        renamed: &mut BTreeMap<String, String>,
    ) -> Result<()> {
        match source {
            MountSource::Volume(volume) => {
                let old = volume.name.clone();
                if volume.anonymous {
                    // The same volume may be mounted twice.
                    volume.name = match renamed.get(&old) {
                        Some(name) => name.clone(),
                        None => names::identifier()?,
                    };
                } else if !options.ignore_volumes
                    && !manifest.volumes.iter().any(|carried| carried.name == old)
                    && crate::volumes::table::find(self.database()?.read(), &old)?.is_some()
                {
                    return Err(Error::new(Kind::Conflict, format!("volume {old} of the container exists already"))
                        .hint("--ignore-volumes takes the one that is there"));
                }
                renamed.insert(old, volume.name.clone());
            }
            MountSource::Image(image) => {
                let row = self.find_image(&image.id)?.filter(|row| row.id == image.id);
                let row = row.ok_or_else(|| crate::images::no_such_image(&image.name))?;
                image.layers = row.layers;
            }
            MountSource::Bind { .. } | MountSource::Tmpfs { .. } => {}
        }
        Ok(())
    }

    /// Everything after the manifest.
    fn take_in<R: BufRead + Send>(
        &self,
        reader: &mut Reader<R>,
        incoming: &mut Incoming,
        options: &CheckpointImport,
    ) -> Result<()> {
        let images = Images::open(&incoming.scratch.path().join(IMAGES))?;
        let mut expected = incoming.manifest.volumes.clone();
        while let Some(entry) = reader.next().map_err(unreadable)? {
            let name = std::str::from_utf8(&entry.path).ok().filter(|_| entry.kind == archive::Kind::Regular);
            let unexpected = || no_checkpoint(format!("unexpected member {}", entry.path.escape_ascii()));
            let Some(name) = name else { return Err(unexpected()) };
            if let Some(image) = name.strip_prefix("checkpoint/") {
                if !is_image_name(image) {
                    return Err(unexpected());
                }
                images.write(image, reader.body(entry.size))?;
                incoming.inventory |= image == "inventory.img";
            } else if name == ROOT && incoming.manifest.root_file_system && !incoming.root {
                incoming.root = true;
                if !options.ignore_root {
                    self.take_in_root(incoming, reader.body(entry.size))?;
                }
            } else if let Some(at) = expected.iter().position(|volume| member_of(volume) == name) {
                let volume = expected.remove(at);
                if !options.ignore_volumes {
                    self.take_in_volume(incoming, volume, reader.body(entry.size))?;
                }
            } else {
                return Err(unexpected());
            }
        }
        if !reader.has_end_mark() {
            return Err(no_checkpoint("it is truncated".to_owned()));
        }
        if !incoming.inventory {
            return Err(no_checkpoint("it has no checkpoint/inventory.img".to_owned()));
        }
        if incoming.manifest.root_file_system && !incoming.root {
            return Err(no_checkpoint(format!("it has no {ROOT}")));
        }
        match expected.first() {
            Some(volume) => Err(no_checkpoint(format!("it has no {}", member_of(volume)))),
            None => Ok(()),
        }
    }

    fn take_in_root(&self, incoming: &Incoming, body: impl Read + Send) -> Result<()> {
        let failed = || "cannot make the container's files".to_owned();
        self.make_import_directories(&incoming.entry)?;
        Writable::open(self.store()?, &incoming.entry.id).internal(failed)?.add_changes(body).map_err(|error| {
            let kind = if error.errno().is_some() { Kind::Internal } else { Kind::Corrupt };
            Error::caused(kind, failed(), error)
        })
    }

    /// The container's directories, without those of volumes, which have no rows yet.
    fn make_import_directories(&self, entry: &Entry) -> Result<()> {
        crate::directories::make(&self.directories().container(&entry.id), 0o711)?;
        self.make_writable(entry)
    }

    fn take_in_volume(&self, incoming: &mut Incoming, mut volume: Carried, body: impl Read) -> Result<()> {
        if let Some(name) = incoming.renamed.get(&volume.name) {
            volume.name.clone_from(name);
        }
        let held = self.carry_in(&volume, body)?;
        incoming.volumes.push((volume, held));
        Ok(())
    }

    /// The rows of everything, at once.
    fn record_import(&self, incoming: &mut Incoming, options: &CheckpointImport) -> Result<()> {
        let Incoming { entry, scratch, manifest, volumes, made, .. } = incoming;
        self.make_import_directories(entry)?;
        let place = self.directories().container(&entry.id).join("checkpoints");
        crate::directories::make(&place, 0o700)?;
        std::fs::rename(scratch.path().join(IMAGES), place.join(IMPORTED))
            .internal(|| "cannot keep the checkpoint".to_owned())?;
        // Volumes that did not come along are made as for any container.
        let mut missing = entry.settings.clone();
        missing.mounts.retain(|mount| match &mount.source {
            MountSource::Volume(volume) => !volumes.iter().any(|(carried, _)| carried.name == volume.name),
            _ => false,
        });
        for mount in &missing.mounts {
            let MountSource::Volume(volume) = &mount.source else { continue };
            if !volume.anonymous && crate::volumes::table::find(self.database()?.read(), &volume.name)?.is_none() {
                made.push(volume.name.clone());
            }
        }
        self.ensure_named_volumes(&missing)?;
        let name = new_name(manifest, options).to_owned();
        let first =
            |t: &rusqlite::Transaction<'_>| volumes.iter().try_for_each(|(carried, _)| self.record_carried(t, carried));
        self.record_with(entry, Some(&name), first).map_err(|error| advise(error, options))
    }

    /// Found again when the row is written; who has a taken name need not wait for a large archive.
    fn check_import_name(&self, manifest: &Manifest, options: &CheckpointImport) -> Result<()> {
        let name = new_name(manifest, options);
        names::check(name)?;
        match table::find(self.database()?.read(), name) {
            Ok(entry) if entry.name == name => {
                let id = entry.id;
                let text = format!("Conflict. The container name \"/{name}\" is already in use by container \"{id}\"");
                Err(advise(Error::new(Kind::Conflict, text), options))
            }
            _ => Ok(()),
        }
    }

    /// Takes back what was made before there were rows. What cannot be removed now is found by the next sweep.
    fn give_back(&self, incoming: Incoming) {
        let Incoming { entry, lock, volumes, made, .. } = incoming;
        for (volume, held) in volumes {
            self.drop_carried(&volume.name, held);
        }
        self.remove_made(&made);
        if self.remove_directories(&entry.id).is_ok() {
            drop(lock::release(self.directories(), &entry.id));
        }
        drop(lock);
    }

    /// Volumes of an import that failed; one that somebody uses by now stays.
    fn remove_made(&self, names: &[String]) {
        for name in names {
            self.remove_volume(name, true).unwrap_or_default();
        }
    }

    /// Has criu bring the processes back. A container that cannot go on is no container.
    fn start_import(&self, incoming: Incoming, options: &CheckpointImport) -> Result<Started> {
        let Incoming { entry, lock, manifest, volumes, mut made, .. } = incoming;
        for (volume, held) in volumes {
            self.record_volume("create", &volume.name);
            held.release()?;
            if !volume.anonymous {
                made.push(volume.name);
            }
        }
        self.record_of(&entry.id, &entry.name, &entry.settings, "create", &[]);
        let id = entry.id.clone();
        let images = self.directories().container(&id).join("checkpoints").join(IMPORTED);
        let started = self.make_directories(&entry).and_then(|()| {
            if options.ignore_volumes || manifest.volumes.is_empty() {
                self.prepare_volumes(&entry, true)?;
            }
            let about = serde_json::json!({
                "name": IMPORTED, "created": manifest.created,
                "tcpEstablished": manifest.tcp_established, "fileLocks": manifest.file_locks,
            });
            let failed = || "cannot keep the checkpoint".to_owned();
            std::fs::write(images.join("config.json"), about.to_string()).internal(failed)?;
            let program =
                runtime::criu_program().kind(Kind::Unavailable, || "cannot restore the archive".to_owned())?;
            let files = CheckpointOptions {
                images: images.clone(),
                program: Some(program),
                tcp_established: manifest.tcp_established,
                file_locks: manifest.file_locks,
                manage_cgroups: "ignore".to_owned(),
                ..CheckpointOptions::default()
            };
            self.start_held(entry, lock, None, Some(files))
        });
        if started.is_err() {
            // The first error is the one to report, and what is left the next sweep's or the user's.
            self.remove(&id, true, true).unwrap_or_default();
            self.remove_made(&made);
        } else if !options.keep {
            std::fs::remove_dir_all(&images).unwrap_or_default();
        }
        started
    }
}

/// The directory of criu's files: each is new and lies in it.
struct Images(OwnedFd);

impl Images {
    fn open(path: &Path) -> Result<Images> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).internal(|| format!("cannot open {}", path.display())).map(Images)
    }

    fn write(&self, name: &str, mut body: impl Read) -> Result<()> {
        let failed = || format!("cannot unpack {name} of the archive");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o600)) {
            Err(rustix::io::Errno::EXIST) => {
                return Err(no_checkpoint(format!("the member {IMAGES}/{name} comes twice")));
            }
            other => other.internal(failed)?,
        };
        std::io::copy(&mut body, &mut std::fs::File::from(file)).map(drop).map_err(|error| {
            // The disk's error or the archive's.
            let kind = if error.raw_os_error().is_some() { Kind::Internal } else { Kind::Corrupt };
            Error::caused(kind, failed(), error)
        })
    }
}

/// The manifest is the first member.
fn manifest<R: BufRead>(reader: &mut Reader<R>) -> Result<Manifest> {
    let first = reader.next().map_err(unreadable)?;
    let first = first.filter(|entry| entry.path == MANIFEST.as_bytes() && entry.kind == archive::Kind::Regular);
    let Some(entry) = first else { return Err(no_checkpoint(format!("it does not begin with {MANIFEST}"))) };
    if entry.size > LONGEST_MANIFEST {
        return Err(no_checkpoint(format!("{MANIFEST} has {} bytes", entry.size)));
    }
    let mut bytes = Vec::new();
    let wrong = || format!("the archive is no checkpoint of dhow: {MANIFEST} cannot be read");
    reader.body(entry.size).read_to_end(&mut bytes).kind(Kind::Corrupt, wrong)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).kind(Kind::Corrupt, wrong)?;
    if manifest.format != FORMAT {
        return Err(no_checkpoint(format!("its format is {:?}", manifest.format)));
    }
    if manifest.version != VERSION {
        return Err(no_checkpoint(format!("it has version {}, and {VERSION} can be read", manifest.version)));
    }
    let mut names: Vec<&String> = manifest.volumes.iter().map(|volume| &volume.name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(no_checkpoint("a volume comes twice".to_owned()));
    }
    Ok(manifest)
}

fn new_name<'a>(manifest: &'a Manifest, options: &'a CheckpointImport) -> &'a str {
    names::bare(options.name.as_deref().unwrap_or(&manifest.name))
}

fn advise(error: Error, options: &CheckpointImport) -> Error {
    match error.kind() {
        Kind::Conflict if options.name.is_none() => error.hint("--name gives the container another name"),
        _ => error,
    }
}

fn member_of(volume: &Carried) -> String {
    format!("{VOLUMES}/{}.tar", volume.name)
}

fn no_checkpoint(what: String) -> Error {
    Error::new(Kind::Corrupt, format!("the archive is no checkpoint of dhow: {what}"))
}

fn unreadable(error: TarError) -> Error {
    Error::caused(Kind::Corrupt, "the archive cannot be read", error)
}
