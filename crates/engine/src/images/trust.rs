//! Signatures: where a policy file says so, an image is used only if somebody trusted signed it (crate `signature`).
//!
//! Off where there is no file: `$DHOW_SIGNATURE_POLICY`, the user's `~/.config/dhow/policy.json`, or `/etc/dhow/policy.json`; the
//! first of these decides. One that cannot be read is an error for every pull, load and run.
//!
//! Checked twice: when an image comes (`pull`, `load`), and when a container is made of it or mounts it, by the name that was
//! used then and the policy of that moment. For the second the signatures that came with the image are kept in the database;
//! they go with it. What is checked is the manifest's digest or that of the index that led to it, which the store knows to
//! belong to the image; that its content is right is the store's business.

use super::{parse, table};
use crate::database::Sql;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use base64::Engine as _;
use oci::digest::Digest;
use oci::image::{Document, Manifest};
use oci::reference::Reference;
use registry::Client;
use rusqlite::{Connection, params};
use signature::{MOST_BYTES, MOST_SIGNATURES, Policy, Refusal, Signature, Subject, Transport};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What cosign signs, as a layer of an artifact.
const STATEMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// cosign's signatures among an image's referrers.
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Sigstore's bundles among them and as a layer: signatures of cosign 3, and attestations.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What cosign 3.1 calls its bundles in a list under a tag, where it takes the configuration's type for the artifact's.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A bundle's annotation, and its value for a signature: what else there is need not be fetched.
const PREDICATE: (&str, &str) = ("dev.sigstore.bundle.predicateType", "https://sigstore.dev/cosign/sign/v1");

/// The policy in force, if there is one.
fn policy() -> Result<Option<Policy>> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let unusable = |error| Error::caused(Kind::Forbidden, "the policy for signatures cannot be used", error);
    if let Some(path) = variable("DHOW_SIGNATURE_POLICY") {
        let found = Policy::read(&path).map_err(unusable)?;
        let text = || format!("DHOW_SIGNATURE_POLICY names {}, which does not exist", path.display());
        return found.map(Some).ok_or_else(|| Error::new(Kind::Forbidden, text()));
    }
    let own = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    for path in own.map(|own| own.join("dhow/policy.json")).into_iter().chain(["/etc/dhow/policy.json".into()]) {
        if let Some(found) = Policy::read(&path).map_err(unusable)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl Engine {
    /// Whether what a registry has under a name may be pulled; returns the signatures that say so.
    pub(super) fn check_pull(
        &self,
        client: &Client,
        reference: &Reference,
        resolved: &registry::Resolved,
    ) -> Result<Vec<Signature>> {
        let Some(policy) = policy()? else { return Ok(Vec::new()) };
        let mut digests = vec![resolved.raw.digest.clone()];
        digests.extend(resolved.index.as_ref().map(|index| index.digest.clone()));
        let mut signatures = Vec::new();
        if policy.wants_signatures(Transport::Registry, Some(reference)) {
            for digest in &digests {
                let failed = |error| super::registry_failure("get the signatures of", &reference.familiar(), error);
                signatures.extend(signatures_of(client, reference, digest).map_err(failed)?);
            }
            signatures.truncate(MOST_SIGNATURES);
        }
        let subject = Subject { transport: Transport::Registry, name: Some(reference), digests: &digests };
        policy.check(&subject, &signatures).map_err(|refusal| refused(&reference.familiar(), refusal))?;
        Ok(signatures)
    }

    /// Keeps the signatures for the checks to come, in place of former ones.
    pub(super) fn keep_signatures(&self, id: &str, signatures: &[Signature]) -> Result<()> {
        if signatures.is_empty() {
            return Ok(());
        }
        self.database()?.write(|t| {
            t.execute("DELETE FROM image_signature WHERE image = ?1", [id]).sql("record signatures")?;
            for (position, signature) in signatures.iter().enumerate() {
                let body = serde_json::to_string(signature).internal(|| "cannot write a signature".into())?;
                t.execute("INSERT INTO image_signature VALUES (?1, ?2, ?3)", params![id, position as u32, body])
                    .sql("record signatures")?;
            }
            Ok(())
        })
    }

    /// Whether an archive of this kind may be loaded.
    pub(super) fn check_load(&self, transport: Transport) -> Result<()> {
        let Some(policy) = policy()? else { return Ok(()) };
        let subject = Subject { transport, name: None, digests: &[] };
        policy.check(&subject, &[]).map_err(|refusal| refused("from an archive", refusal))
    }

    /// Whether an image of the store may be used under the name, or by the identifier, that somebody gave.
    pub(crate) fn check_use(&self, row: &table::Row, wanted: &str) -> Result<()> {
        let Some(policy) = policy()? else { return Ok(()) };
        let signatures = kept(self.database()?.read(), &row.id)?;
        let by_name = parse(wanted).ok().map(Reference::or_latest).filter(|name| row.names.contains(&canonical(name)));
        let names: Vec<Reference> = match by_name {
            Some(name) => vec![name],
            // By identifier: under any of its names.
            None => row.names.iter().filter_map(|name| Reference::parse(name).ok()).collect(),
        };
        let mut digests: Vec<Digest> = row.manifest.parse().into_iter().collect();
        digests.extend(row.names.iter().filter_map(|name| name.split_once('@')?.1.parse().ok()));
        let check = |name: Option<&Reference>| {
            policy.check(&Subject { transport: Transport::Registry, name, digests: &digests }, &signatures)
        };
        let mut verdict = if names.is_empty() { check(None) } else { Ok(()) };
        for name in &names {
            verdict = check(Some(name));
            if verdict.is_ok() {
                break;
            }
        }
        verdict.map_err(|refusal| {
            let unsigned = matches!(refusal, Refusal::Unsigned { .. });
            let error = refused(wanted, refusal);
            match unsigned {
                true => error.hint(format!("`dhow pull {wanted}` gets its signatures, if it has any")),
                false => error,
            }
        })
    }
}

fn canonical(name: &Reference) -> String {
    match name.digest() {
        Some(digest) => format!("{}@{digest}", name.name()),
        None => name.to_string(),
    }
}

fn refused(name: &str, refusal: Refusal) -> Error {
    Error::caused(Kind::Forbidden, format!("the image {name} may not be used"), refusal)
}

fn kept(connection: &Connection, id: &str) -> Result<Vec<Signature>> {
    let work = || {
        let mut statement =
            connection.prepare("SELECT body FROM image_signature WHERE image = ?1 ORDER BY position")?;
        statement.query_map([id], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let bodies = work().sql("look up signatures")?;
    // One that cannot be read counts for nothing.
    Ok(bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect())
}

/// What the registry has in signatures for a digest: under cosign's tag, and among its referrers.
fn signatures_of(
    client: &Client,
    reference: &Reference,
    digest: &Digest,
) -> std::result::Result<Vec<Signature>, registry::Error> {
    let repository = reference.without_version();
    let mut places = Vec::new();
    places.extend(repository.with_tag(&format!("{}-{}.sig", digest.algorithm().name(), digest.hex())));
    let mut referrers = client.referrers(reference, digest, None)?.entries;
    referrers.retain(|entry| {
        let kind = entry.artifact_type.as_deref();
        kind.is_some_and(|kind| [ARTIFACT, BUNDLE, EMPTY].contains(&kind)) && may_be_signature(&entry.annotations)
    });
    places.extend(referrers.into_iter().map(|entry| repository.with_digest(entry.digest)));
    let mut signatures = Vec::new();
    for place in places.iter().take(MOST_SIGNATURES) {
        match client.manifest(place) {
            Ok(found) => {
                if let Document::Manifest(manifest) = found.document {
                    statements(client, &repository, &manifest, &mut signatures)?;
                }
            }
            Err(registry::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(signatures)
}

fn may_be_signature(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(PREDICATE.0).is_none_or(|kind| kind == PREDICATE.1)
}

/// The layers of an artifact that are signed statements.
fn statements(
    client: &Client,
    repository: &Reference,
    manifest: &Manifest,
    signatures: &mut Vec<Signature>,
) -> std::result::Result<(), registry::Error> {
    for layer in &manifest.layers {
        let note = |name: &str| layer.annotations.get(name).cloned();
        // What is too long, or too many, counts for nothing.
        if layer.size > MOST_BYTES as u64 || signatures.len() >= MOST_SIGNATURES {
            continue;
        }
        if layer.media_type == BUNDLE && may_be_signature(&manifest.annotations) {
            let text = String::from_utf8(client.small_blob(repository, layer)?);
            signatures.extend(text.ok().map(Signature::from_bundle));
            continue;
        }
        let Some(signature) = note("dev.cosignproject.cosign/signature").filter(|_| layer.media_type == STATEMENT)
        else {
            continue;
        };
        let statement = client.small_blob(repository, layer)?;
        signatures.push(Signature {
            statement: base64::engine::general_purpose::STANDARD.encode(statement),
            signature,
            certificate: note("dev.sigstore.cosign/certificate"),
            chain: note("dev.sigstore.cosign/chain"),
            bundle: note("dev.sigstore.cosign/bundle"),
            ..Signature::default()
        });
    }
    Ok(())
}
