//! What a registry has, beside images to pull: tags, what refers to an image, and the removal of either. No store is needed.

use crate::error::{Error, Kind, Result};
use crate::images::{parse, registry_failure};
use oci::digest::Digest;
use oci::image::Descriptor;
use oci::reference::Reference;
use registry::Client;

/// What refers to an image.
#[derive(Clone, Debug)]
pub struct Referring {
    /// The image's digest: of the index, if the name leads to one.
    pub subject: Digest,
    /// The manifests that name it as their subject.
    pub entries: Vec<Descriptor>,
}

fn client(verb: &str, name: &str, reference: &Reference, insecure: bool) -> Result<Client> {
    let mut options = registry::Options::from_environment();
    if insecure {
        options.insecure.push(reference.domain().to_owned());
    }
    Client::new(options).map_err(|error| registry_failure(verb, name, error))
}

/// The tags of a repository, in the registry's order.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such repository; the registry's refusals.
pub fn tags(name: &str, insecure: bool) -> Result<(String, Vec<String>)> {
    let reference = parse(name)?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!("{name} names one image; tags are listed of a repository"),
        )
        .hint(format!("try {}", reference.familiar_name())));
    }
    let work = client("list the tags of", name, &reference, insecure)?.tags(&reference);
    let tags = work.map_err(|error| registry_failure("list the tags of", name, error))?;
    Ok((reference.name(), tags))
}

/// The manifests that refer to an image: signatures, attestations and the like; with `artifact_type`, those of that kind.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such image; the registry's refusals.
pub fn referrers(name: &str, artifact_type: Option<&str>, insecure: bool) -> Result<Referring> {
    let reference = parse(name)?.or_latest();
    let client = client("ask for", name, &reference, insecure)?;
    let failed = |error| registry_failure("ask for the referrers of", name, error);
    let subject = match reference.digest() {
        Some(digest) => digest.clone(),
        None => client.manifest(&reference).map_err(failed)?.digest,
    };
    let found = client.referrers(&reference, &subject, artifact_type).map_err(failed)?;
    Ok(Referring { subject, entries: found.entries })
}

/// Deletes a tag, or by digest a manifest with all its tags, in its registry. Layers stay until the registry collects them.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::InvalidArgument`] for a tag where the registry cannot delete one alone, or deletes nothing at
/// all; the registry's refusals.
pub fn delete(name: &str, insecure: bool) -> Result<String> {
    let reference = parse(name)?;
    if reference.tag().is_none() && reference.digest().is_none() {
        // `latest` is not what somebody means who names nothing.
        return Err(Error::new(Kind::InvalidArgument, format!("{name} has neither a tag nor a digest"))
            .hint("name what is to be deleted: NAME:TAG or NAME@DIGEST"));
    }
    let client = client("delete", name, &reference, insecure)?;
    match client.delete_manifest(&reference) {
        Ok(()) => Ok(reference.to_string()),
        Err(registry::Error::Status { status: 400 | 405 | 501, .. }) if reference.digest().is_none() => {
            let resolved = client.manifest(&reference).map_err(|error| registry_failure("delete", name, error))?;
            let text = format!("the registry does not delete {name}: it knows no deletion of single tags");
            Err(Error::new(Kind::InvalidArgument, text).hint(format!(
                "this deletes the image with all its tags, if the registry deletes at all: {}@{}",
                reference.familiar_name(),
                resolved.digest
            )))
        }
        Err(error @ registry::Error::Status { status: 405, .. }) => {
            Err(Error::caused(Kind::InvalidArgument, format!("the registry does not delete {name}"), error)
                .hint("deletion is switched on in the registry's own configuration"))
        }
        Err(error) => Err(registry_failure("delete", name, error)),
    }
}
