//! `registry delete`, `referrers` and `tags`: what a registry has, without pulling it

use super::{Group, each, verb};
use crate::failure::Failure;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::remote;
use serde_json::{Value, json};

/// Look at and change what registries have
pub const GROUP: Group = Group {
    name: "registry",
    about: "Look at and change what registries have",
    verbs: &[(&["delete"], &DELETE), (&["referrers"], &REFERRERS), (&["tags"], &TAGS)],
};

/// Delete tags, or manifests with all their tags, in their registry
const DELETE: Verb = verb!(
    Delete,
    delete,
    Other,
    "[OPTIONS] NAME:TAG|NAME@DIGEST [NAME:TAG|NAME@DIGEST...]",
    "Delete tags, or manifests with all their tags, in their registry"
);
/// List what refers to an image: signatures, attestations
pub const REFERRERS: Verb = verb!(
    Referrers,
    referrers,
    Other,
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "List what refers to an image: signatures, attestations"
);
/// List the tags of a repository
const TAGS: Verb = verb!(Tags, tags, Other, "[OPTIONS] NAME", "List the tags of a repository");

#[derive(Args)]
struct Delete {
    /// Speak to the registry without TLS if it has none
    #[arg(long)]
    insecure: bool,
    /// Names with a tag or a digest
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

fn delete(_session: &Session, flags: &Delete) -> Result<(), Failure> {
    each(&flags.names, |name| output::line(&format!("Deleted: {}", remote::delete(name, flags.insecure)?)))
}

#[derive(Args)]
struct Referrers {
    /// Only those of this artifact type
    #[arg(long, value_name = "string")]
    artifact_type: Option<String>,
    /// A Go template, or json
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Speak to the registry without TLS if it has none
    #[arg(long)]
    insecure: bool,
    /// Print only digests
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Name of the image
    #[arg(value_name = "NAME")]
    name: String,
}

const REFERRER_COLUMNS: &[Column] =
    &[("Digest", "DIGEST"), ("ArtifactType", "ARTIFACT TYPE"), ("MediaType", "MEDIA TYPE"), ("Size", "SIZE")];

fn referrers(_session: &Session, flags: &Referrers) -> Result<(), Failure> {
    let found = remote::referrers(&flags.name, flags.artifact_type.as_deref(), flags.insecure)?;
    let rows: Vec<Value> = found
        .entries
        .iter()
        .map(|entry| {
            json!({
                "Annotations": entry.annotations,
                "ArtifactType": printable(entry.artifact_type.as_deref().unwrap_or_default()),
                "Digest": entry.digest.to_string(),
                "MediaType": printable(&entry.media_type),
                "Size": entry.size.to_string(),
                "Subject": found.subject.to_string(),
            })
        })
        .collect();
    let standard = if flags.quiet { "{{.Digest}}" } else { "{{.Digest}}\t{{.ArtifactType}}\t{{.Size}}" };
    let wanted = if flags.quiet { Some("{{.Digest}}") } else { flags.format.as_deref() };
    output::text(&format::list(wanted, standard, REFERRER_COLUMNS, &rows)?)
}

/// Strangers' text in a table.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

#[derive(Args)]
struct Tags {
    /// A Go template, or json
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Speak to the registry without TLS if it has none
    #[arg(long)]
    insecure: bool,
    /// Most tags
    #[arg(long, value_name = "int")]
    limit: Option<usize>,
    /// Name of the repository
    #[arg(value_name = "NAME")]
    name: String,
}

fn tags(_session: &Session, flags: &Tags) -> Result<(), Failure> {
    list_tags(&flags.name, flags.limit, flags.format.as_deref(), flags.insecure)
}

const TAG_COLUMNS: &[Column] = &[("Name", "NAME"), ("Tag", "TAG")];

/// Prints tags as `podman search --list-tags` does.
pub fn list_tags(name: &str, limit: Option<usize>, format: Option<&str>, insecure: bool) -> Result<(), Failure> {
    let (repository, tags) = remote::tags(name, insecure)?;
    let some = tags.iter().take(limit.unwrap_or(usize::MAX));
    let rows: Vec<Value> = some.map(|tag| json!({"Name": repository, "Tag": tag})).collect();
    output::text(&format::list(format, "{{.Name}}\t{{.Tag}}", TAG_COLUMNS, &rows)?)
}
