//! `cargo xtask images`: real images from Debian packages, as OCI and Docker archives in [`directory`].
//!
//! A layer is made once and kept as blobs; an image is a list of layers and a configuration. Images on Debian share the
//! base layer byte for byte. What an image was made from is kept beside it as text, so that a changed recipe makes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{command, output};
use crate::paths;

mod archive;
mod layer;
mod recipes;
mod rootfs;

use layer::{Compression, Layer};
use recipes::{Image, RECIPES};
pub use rootfs::mirror;

/// Where the archives are: `NAME.oci.tar` and `NAME.docker.tar`.
pub fn directory() -> Result<PathBuf> {
    let directory = paths::cache()?.join("images");
    fs::create_dir_all(directory.join("layers"))?;
    Ok(directory)
}

/// The names of the images with the repository and tag that each is pushed as.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    RECIPES.iter().map(|image| (image.name, image.reference))
}

/// Makes all images, or one, unless they are there already.
pub fn run(only: Option<&str>) -> Result<()> {
    if only.is_some_and(|only| names().all(|(name, _)| name != only)) {
        bail!("no such image; there are: {}", names().map(|(name, _)| name).collect::<Vec<_>>().join(" "));
    }
    let directory = directory()?;
    let mut made = 0;
    for image in RECIPES.iter().filter(|image| only.is_none_or(|only| image.name == only)) {
        let started = std::time::Instant::now();
        if make(&directory, image).with_context(|| format!("make image {}", image.name))? {
            println!("images: {} in {:.1} s", image.name, started.elapsed().as_secs_f64());
            made += 1;
        }
    }
    println!("images: {made} made, the others were there, in {}", directory.display());
    Ok(())
}

/// Makes one image; false when it was there.
fn make(directory: &Path, image: &Image) -> Result<bool> {
    let stamp = directory.join(format!("{}.recipe", image.name));
    let recipe = format!("{image:#?}\n{:#?}\n", recipes::layers(image));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(false);
    }
    if !paths::is_root() {
        bail!("making images needs root: packages are installed into root file systems");
    }
    let mut platforms = vec![];
    for platform in image.platforms {
        let layers = platform
            .layers
            .iter()
            .map(|source| Layer::get(&directory.join("layers"), source, image.compression))
            .collect::<Result<Vec<_>>>()?;
        let configuration = recipes::configuration(image, platform, &layers);
        platforms.push(archive::Variant { architecture: platform.architecture, layers, configuration });
    }
    archive::write_oci(directory, image.name, image.reference, &platforms)?;
    if let ([variant], Compression::Gzip) = (platforms.as_slice(), image.compression) {
        archive::write_docker(directory, image.name, image.reference, variant)?;
    }
    fs::write(&stamp, recipe)?;
    Ok(true)
}

/// The digest of a file, as lower-case hexadecimal digits.
fn sha256(file: &Path) -> Result<String> {
    let printed = output(command("sha256sum", ["--"]).arg(file))?;
    Ok(printed.trim_start_matches('\\').get(..64).context("sha256sum printed no digest")?.to_owned())
}
