//! Layers: made once as a plain tar, compressed as asked, and described by their digests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{rootfs, sha256};
use crate::command::{command, run};
use crate::paths::Staging;

/// What a layer holds.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Debian's static busybox with a hard link for each applet.
    Busybox,
    /// A minimal Debian.
    Debian,
    /// Packages, and commands run in the root file system after them, on a minimal Debian.
    Packages { name: &'static str, packages: &'static [&'static str], script: &'static str },
    /// A thousand files of a few bytes; the number tells such layers apart.
    SmallFiles(u32),
    /// One text file: an image for a processor that nobody here has.
    Text(&'static str),
}

impl Source {
    fn name(self) -> String {
        match self {
            Self::Busybox => "busybox".into(),
            Self::Debian => "debian".into(),
            Self::Packages { name, .. } => name.into(),
            Self::SmallFiles(number) => format!("small-files-{number:02}"),
            Self::Text(text) => format!("text-{text}"),
        }
    }
}

/// How a layer is stored in an OCI image. Docker archives hold plain layers always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
    None,
}

impl Compression {
    fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "tar.gz",
            Self::Zstd => "tar.zst",
            Self::None => "tar",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// A layer in the cache.
#[derive(Debug)]
pub struct Layer {
    /// The plain archive.
    pub plain: PathBuf,
    /// SHA-256 of the plain archive, in hexadecimal digits.
    pub diff_id: String,
    /// The blob: the archive as compressed.
    pub blob: PathBuf,
    /// SHA-256 of the blob, in hexadecimal digits.
    pub digest: String,
    /// The blob's descriptor.
    pub descriptor: Value,
}

impl Layer {
    /// The layer from the cache, made if it is not there or was made by another recipe.
    pub fn get(cache: &Path, source: &Source, compression: Compression) -> Result<Self> {
        let name = source.name();
        let plain = cache.join(format!("{name}.tar"));
        let stamp = cache.join(format!("{name}.recipe"));
        let recipe = format!("{source:#?}\n{}", rootfs::recipe());
        if !plain.exists() || fs::read_to_string(&stamp).ok().as_deref() != Some(&recipe) {
            let staging = Staging::new(cache, &name)?;
            let tree = make_tree(cache, &staging, source).with_context(|| format!("fill layer {name}"))?;
            pack(&tree, &staging.path().join("layer.tar"))?;
            for old in [Compression::Gzip, Compression::Zstd].map(|each| blob_path(cache, &name, each)) {
                if old.exists() {
                    fs::remove_file(old)?;
                }
            }
            fs::rename(staging.path().join("layer.tar"), &plain)?;
            fs::write(&stamp, recipe)?;
        }
        let blob = blob_path(cache, &name, compression);
        if !blob.exists() {
            compress(&plain, &blob, compression)?;
        }
        let (diff_id, digest) = (sha256(&plain)?, sha256(&blob)?);
        let descriptor = json!({
            "mediaType": compression.media_type(),
            "digest": format!("sha256:{digest}"),
            "size": fs::metadata(&blob)?.len(),
        });
        Ok(Self { plain, diff_id, blob, digest, descriptor })
    }
}

fn blob_path(cache: &Path, name: &str, compression: Compression) -> PathBuf {
    cache.join(format!("{name}.{}", compression.extension()))
}

fn make_tree(cache: &Path, staging: &Staging, source: &Source) -> Result<PathBuf> {
    let tree = staging.path().join("tree");
    match source {
        Source::Busybox => rootfs::busybox(&tree)?,
        Source::Debian => rootfs::debian(&tree)?,
        Source::Packages { packages, script, .. } => {
            let base = Layer::get(cache, &Source::Debian, Compression::None)?;
            return rootfs::packages(staging.path(), &base.plain, packages, script);
        }
        Source::SmallFiles(number) => rootfs::small_files(&tree, *number)?,
        Source::Text(text) => {
            fs::create_dir(&tree)?;
            fs::write(tree.join("README"), text)?;
        }
    }
    Ok(tree)
}

/// Packs a tree so that the same tree gives the same archive: sorted names, bounded times, no user names.
fn pack(tree: &Path, archive: &Path) -> Result<()> {
    run(command(
        "tar",
        [
            "--create",
            "--sort=name",
            "--format=pax",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
            "--xattrs",
            "--xattrs-include=security.capability",
            "--numeric-owner",
            "--clamp-mtime",
        ],
    )
    .arg(format!("--mtime=@{}", rootfs::EPOCH))
    .arg("--file")
    .arg(archive)
    .arg("--directory")
    .arg(tree)
    .arg("."))
}

fn compress(plain: &Path, blob: &Path, compression: Compression) -> Result<()> {
    let unfinished = blob.with_extension("unfinished");
    let mut compress = match compression {
        Compression::Gzip => command("gzip", ["--no-name", "--stdout", "--"]),
        Compression::Zstd => command("zstd", ["--quiet", "--stdout", "--"]),
        Compression::None => return Ok(()),
    };
    let status = compress.arg(plain).stdout(fs::File::create(&unfinished)?).status()?;
    anyhow::ensure!(status.success(), "compress {}: {status}", plain.display());
    fs::rename(&unfinished, blob)?;
    Ok(())
}
