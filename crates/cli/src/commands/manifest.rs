//! `manifest inspect`, `create`, `annotate`, `push` and `rm`

use super::{each, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::images::{Annotations, ManifestFound};
use serde_json::{Value, json};

/// Display an image manifest, or manifest list
pub const INSPECT: Verb =
    verb!(Inspect, inspect, Other, "[OPTIONS] MANIFEST", "Display an image manifest, or manifest list");
/// Create a local manifest list
pub const CREATE: Verb = verb!(
    Create,
    create,
    Other,
    "[OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry"
);
/// Add additional information to a local image manifest
pub const ANNOTATE: Verb = verb!(
    Annotate,
    annotate,
    Other,
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest"
);
/// Push a manifest list to a repository
pub const PUSH: Verb = verb!(Push, push, Other, "[OPTIONS] MANIFEST_LIST", "Push a manifest list to a repository");
/// Delete one or more manifest lists
pub const RM: Verb = verb!(
    Remove,
    remove,
    Other,
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage"
);

#[derive(Args)]
struct Inspect {
    /// Speak to the registry without TLS if it has none
    #[arg(long)]
    insecure: bool,
    /// The images of a list too, and what leads to them
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Name
    #[arg(value_name = "MANIFEST")]
    name: String,
}

fn inspect(session: &Session, flags: &Inspect) -> Result<(), Failure> {
    let found = session.engine()?.manifest_inspect(&flags.name, flags.verbose, flags.insecure)?;
    if !flags.verbose {
        return output::json(&document(&found)?);
    }
    match found.entries.is_empty() {
        true => output::json(&verbose(&found)?),
        false => output::json(&found.entries.iter().map(verbose).collect::<Result<Vec<_>, _>>()?),
    }
}

fn document(found: &ManifestFound) -> Result<Value, Failure> {
    serde_json::from_slice(&found.bytes).map_err(|error| Failure::caused("the manifest is not JSON", error))
}

fn verbose(found: &ManifestFound) -> Result<Value, Failure> {
    let docker = found.descriptor.media_type.contains("docker");
    let name = if docker { "SchemaV2Manifest" } else { "OCIManifest" };
    Ok(json!({"Ref": found.reference, "Descriptor": found.descriptor, name: document(found)?}))
}

#[derive(Args)]
struct Create {
    /// Add to a list that exists
    #[arg(short = 'a', long)]
    amend: bool,
    /// Speak to the registry without TLS if it has none
    #[arg(long)]
    insecure: bool,
    /// Name of the list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Names of images in a registry
    #[arg(value_name = "MANIFEST", required = true)]
    images: Vec<String>,
}

fn create(session: &Session, flags: &Create) -> Result<(), Failure> {
    let name = session.engine()?.manifest_create(&flags.list, &flags.images, flags.amend, flags.insecure)?;
    output::line(&format!("Created manifest list {name}"))
}

#[derive(Args)]
struct Annotate {
    /// Processor
    #[arg(long, value_name = "string")]
    arch: Option<String>,
    /// Operating system
    #[arg(long, value_name = "string")]
    os: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long, value_name = "string")]
    os_version: Option<String>,
    /// Variant of the processor
    #[arg(long, value_name = "string")]
    variant: Option<String>,
    /// Name of the list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Name of an image in it
    #[arg(value_name = "MANIFEST")]
    image: String,
}

fn annotate(session: &Session, flags: &Annotate) -> Result<(), Failure> {
    let annotations = Annotations {
        architecture: flags.arch.clone(),
        os: flags.os.clone(),
        os_version: flags.os_version.clone(),
        os_features: flags.os_features.clone(),
        variant: flags.variant.clone(),
    };
    Ok(session.engine()?.manifest_annotate(&flags.list, &flags.image, &annotations)?)
}

#[derive(Args)]
struct Push {
    /// Speak to the registry without TLS if it has none
    #[arg(long)]
    insecure: bool,
    /// Forget the list afterwards
    #[arg(short = 'p', long)]
    purge: bool,
    /// Name of the list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

fn push(session: &Session, flags: &Push) -> Result<(), Failure> {
    output::line(&session.engine()?.manifest_push(&flags.list, flags.purge, flags.insecure)?)
}

#[derive(Args)]
struct Remove {
    /// Names of lists
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

fn remove(session: &Session, flags: &Remove) -> Result<(), Failure> {
    let engine = session.engine()?;
    each(&flags.lists, |name| Ok(engine.manifest_remove(name)?))
}
