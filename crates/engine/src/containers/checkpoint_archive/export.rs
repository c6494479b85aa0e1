//! From a running container to an archive.

use super::{FORMAT, IMAGES, LOGS, MANIFEST, Manifest, ROOT, VERSION, VOLUMES};
use crate::containers::checkpoint::{CheckpointChoices, only_our_own};
use crate::containers::options::MountSource;
use crate::containers::record::Container;
use crate::containers::state::Step;
use crate::containers::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use archive::{Header, Time, Writer};
use runtime::CheckpointOptions;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use store::Writable;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveCompression {
    /// Not at all.
    None,
    /// gzip, level 6.
    Gzip,
    /// zstd, level 3.
    #[default]
    Zstd,
}

/// What an archive of a container holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointExport {
    /// As for a checkpoint that stays here.
    pub checkpoint: CheckpointChoices,
    /// How it is compressed.
    pub compression: ArchiveCompression,
    /// Without what the container changed in its image.
    pub ignore_root: bool,
    /// Without the content of volumes.
    pub ignore_volumes: bool,
    /// With criu's log and figures.
    pub keep_logs: bool,
}

impl Engine {
    /// Writes a running container as an archive; it has ended afterwards unless it is to go on.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for one that does not run, criu's refusal, the sink's error. It runs on then, unless criu had to end
    /// it because of its connections.
    pub fn export_checkpoint(&self, wanted: &str, choices: &CheckpointExport, sink: impl Write) -> Result<()> {
        let container = self.ready(wanted, Step::Checkpoint)?;
        self.only_root("checkpoint")?;
        only_our_own(&container.settings, "checkpoint")?;
        let by_criu = choices.checkpoint.ended_by_criu();
        if by_criu && container.settings.auto_remove {
            let text = format!("container {wanted} goes with its end, before its files could be read");
            return Err(Error::new(Kind::Conflict, text).hint("leave it running, or leave its connections out"));
        }
        let scratch =
            self.store()?.scratch("checkpoint").internal(|| format!("cannot checkpoint container {wanted}"))?;
        self.standing_still(&container, choices.checkpoint, || {
            let manifest = self.gather(&container, choices, by_criu, scratch.path())?;
            write(&manifest, scratch.path(), choices, sink)
        })?;
        self.record_of(&container.id, &container.name, &container.settings, "checkpoint", &[]);
        self.end_checkpointed(&container, choices.checkpoint)
    }

    /// Everything that the archive is made of, in files.
    fn gather(
        &self,
        container: &Container,
        choices: &CheckpointExport,
        by_criu: bool,
        scratch: &Path,
    ) -> Result<Manifest> {
        let failed = || format!("Cannot checkpoint container {}", container.name);
        let entry = table::find(self.database()?.read(), &container.id)?;
        let options = CheckpointOptions {
            images: scratch.join(IMAGES),
            leave_running: !by_criu,
            tcp_established: choices.checkpoint.tcp_established,
            file_locks: choices.checkpoint.file_locks,
            manage_cgroups: "ignore".to_owned(),
            ..CheckpointOptions::default()
        };
        self.write_checkpoint(&entry, &options)?;
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            created: crate::clock::now(),
            id: entry.id.clone(),
            name: entry.name.clone(),
            tcp_established: options.tcp_established,
            file_locks: options.file_locks,
            root_file_system: !choices.ignore_root,
            ..Manifest::default()
        };
        if !choices.ignore_root {
            let points = crate::commits::mount_points(&entry.settings);
            let file = BufWriter::new(File::create_new(scratch.join(ROOT)).internal(failed)?);
            let writable = Writable::open(self.store()?, &entry.id).internal(failed)?;
            writable.pack(&points, file).internal(failed)?.flush().internal(failed)?;
        }
        if !choices.ignore_volumes {
            self.gather_volumes(&entry, &scratch.join(VOLUMES), &mut manifest)?;
        }
        manifest.settings = entry.settings;
        Ok(manifest)
    }

    fn gather_volumes(&self, entry: &Entry, directory: &Path, manifest: &mut Manifest) -> Result<()> {
        crate::directories::make(directory, 0o700)?;
        for mount in &entry.settings.mounts {
            let MountSource::Volume(volume) = &mount.source else { continue };
            if manifest.volumes.iter().any(|known| known.name == volume.name) {
                continue;
            }
            let path = directory.join(format!("{}.tar", volume.name));
            let failed = || format!("cannot write volume {}", volume.name);
            let open = || File::create_new(&path).internal(failed);
            manifest.volumes.extend(self.carry_out(&volume.name, open)?);
        }
        Ok(())
    }
}

/// Writes the archive to where the caller wants it.
fn write(manifest: &Manifest, scratch: &Path, choices: &CheckpointExport, mut sink: impl Write) -> Result<()> {
    let failed = || "cannot write the archive".to_owned();
    if choices.compression == ArchiveCompression::None {
        return members(manifest, scratch, choices.keep_logs, BufWriter::new(sink)).internal(failed);
    }
    let (from, to) = io::pipe().internal(failed)?;
    std::thread::scope(|scope| {
        let to = BufWriter::with_capacity(64 << 10, to);
        let writer = move || members(manifest, scratch, choices.keep_logs, to);
        let writer =
            std::thread::Builder::new().name("pack".to_owned()).spawn_scoped(scope, writer).internal(failed)?;
        let mut copy = |mut from: Box<dyn Read>| io::copy(&mut from, &mut sink).and_then(|_| sink.flush());
        let copied = match choices.compression {
            ArchiveCompression::Zstd => archive::compress::zstd(from).and_then(|from| copy(Box::new(from))),
            _ => copy(Box::new(archive::compress::gzip(from))),
        };
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // When copying fails the pipe is closed, and writing fails for that.
        copied.and(written).internal(failed)
    })
}

fn members(manifest: &Manifest, scratch: &Path, keep_logs: bool, sink: impl Write) -> io::Result<()> {
    let mut writer = Writer::new(sink);
    let bytes = serde_json::to_vec_pretty(manifest)?;
    writer.append_data(&header(MANIFEST, bytes.len() as u64), &bytes[..])?;
    let directory = scratch.join(IMAGES);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory)? {
        let name =
            entry?.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is not UTF-8")))?;
        if keep_logs || !LOGS.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    let mut add = |name: &str, path: &Path| -> io::Result<()> {
        let file = File::open(path)?;
        writer.append_data(&header(name, file.metadata()?.len()), file)
    };
    for name in names {
        add(&format!("{IMAGES}/{name}"), &directory.join(&name))?;
    }
    if manifest.root_file_system {
        add(ROOT, &scratch.join(ROOT))?;
    }
    for volume in &manifest.volumes {
        let name = format!("{VOLUMES}/{}.tar", volume.name);
        add(&name, &scratch.join(&name))?;
    }
    writer.finish().map(drop)
}

fn header(path: &str, size: u64) -> Header<'_> {
    Header {
        path: path.as_bytes(),
        kind: archive::Kind::Regular,
        link: b"",
        size,
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: &[],
    }
}
