//! Image archives: the OCI image layout, and what `docker save` writes.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::layer::Layer;
use super::{rootfs, sha256};
use crate::command::{command, run};
use crate::paths::Staging;

/// An image for one processor.
pub struct Variant {
    /// Go's name of the processor.
    pub architecture: &'static str,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// The image's configuration.
    pub configuration: Value,
}

/// Writes `NAME.oci.tar`: an OCI image layout, its index naming the manifest, or an index of manifests when there are several.
pub fn write_oci(directory: &Path, name: &str, reference: &str, variants: &[Variant]) -> Result<()> {
    let staging = Staging::new(directory, name)?;
    let blobs = staging.path().join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut manifests = vec![];
    for variant in variants {
        for layer in &variant.layers {
            link(&layer.blob, &blobs.join(&layer.digest))?;
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put(&blobs, "application/vnd.oci.image.config.v1+json", &variant.configuration)?,
            "layers": variant.layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
        });
        let mut descriptor = put(&blobs, "application/vnd.oci.image.manifest.v1+json", &manifest)?;
        descriptor["platform"] = json!({ "architecture": variant.architecture, "os": "linux" });
        manifests.push(descriptor);
    }
    let mut top = if let [only] = manifests.as_slice() {
        only.clone()
    } else {
        let kind = "application/vnd.oci.image.index.v1+json";
        put(&blobs, kind, &json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests }))?
    };
    top["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{reference}"),
        "org.opencontainers.image.ref.name": reference.split(':').next_back(),
    });
    fs::write(staging.path().join("index.json"), json!({ "schemaVersion": 2, "manifests": [top] }).to_string())?;
    fs::write(staging.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    pack(staging.path(), directory, &format!("{name}.oci.tar"))
}

/// Writes `NAME.docker.tar`: plain layers, the configuration and `manifest.json`.
pub fn write_docker(directory: &Path, name: &str, reference: &str, variant: &Variant) -> Result<()> {
    let staging = Staging::new(directory, name)?;
    let mut layers = vec![];
    for layer in &variant.layers {
        let path = format!("{}/layer.tar", layer.diff_id);
        fs::create_dir(staging.path().join(&layer.diff_id))?;
        link(&layer.plain, &staging.path().join(&path))?;
        layers.push(path);
    }
    let file = staging.path().join("config");
    fs::write(&file, variant.configuration.to_string())?;
    let configuration = format!("{}.json", sha256(&file)?);
    fs::rename(&file, staging.path().join(&configuration))?;
    let manifest = json!([{ "Config": configuration, "RepoTags": [reference], "Layers": layers }]);
    fs::write(staging.path().join("manifest.json"), manifest.to_string())?;
    pack(staging.path(), directory, &format!("{name}.docker.tar"))
}

/// Writes a document as a blob and returns its descriptor.
fn put(blobs: &Path, media_type: &str, document: &Value) -> Result<Value> {
    let text = document.to_string();
    let file = blobs.join("new");
    fs::write(&file, &text)?;
    let digest = sha256(&file)?;
    fs::rename(&file, blobs.join(&digest))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len() }))
}

/// The same layer may be in an image twice.
fn link(from: &Path, to: &Path) -> Result<()> {
    if !to.exists() {
        fs::hard_link(from, to)?;
    }
    Ok(())
}

fn pack(tree: &Path, directory: &Path, name: &str) -> Result<()> {
    let unfinished = tree.with_extension("tar");
    run(command("tar", ["--create", "--sort=name", "--format=ustar", "--hard-dereference", "--owner=0", "--group=0"])
        .arg("--numeric-owner")
        .arg(format!("--mtime=@{}", rootfs::EPOCH))
        .arg("--file")
        .arg(&unfinished)
        .arg("--directory")
        .arg(tree)
        .args(
            fs::read_dir(tree)?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<Result<std::collections::BTreeSet<_>>>()?,
        ))?;
    fs::rename(unfinished, directory.join(name))?;
    Ok(())
}
