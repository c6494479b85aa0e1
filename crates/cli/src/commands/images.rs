//! `images`, `image ls`

use super::verb;
use crate::configuration;
use crate::display::amount;
use crate::failure::Failure;
use crate::filter::{Filters, describes};
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use docker_json::elapsed;
use engine::ImageSummary;
use jiff::Timestamp;
use oci::reference::Reference;
use serde_json::{Value, json};

/// List images
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] [REPOSITORY[:TAG]]", "List images");

#[derive(Args)]
struct Flags {
    /// Show all images; there are no intermediate ones that would be hidden
    #[arg(short = 'a', long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show only some (reference=, dangling=, label=, before=, since=, until=)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Print only identifiers
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Only images of that name
    #[arg(value_name = "REPOSITORY")]
    name: Option<String>,
}

const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

const COLUMNS: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
];

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    // Every image is shown in any case.
    _ = flags.all;
    let mut filters = flags.filter.clone();
    filters.extend(flags.name.iter().map(|name| format!("reference={name}")));
    let filters = Filters::new(&filters, FILTERS)?;
    let images = session.engine()?.images()?;
    let (before, since) = (bound(&filters, "before", &images)?, bound(&filters, "since", &images)?);
    let now = Timestamp::now();
    let until = match filters.of("until").last() {
        Some(text) => Some(crate::values::instant::parse(text, now)?),
        None => None,
    };
    let kept = images.iter().filter(|image| {
        let dangling = image.names.is_empty();
        before.as_ref().is_none_or(|time| image.created < *time)
            && since.as_ref().is_none_or(|time| image.created > *time)
            && until.is_none_or(|until| image.created.parse::<Timestamp>().is_ok_and(|time| time < until))
            && filters.labels(&image.labels)
            && filters.any("dangling", |value| crate::values::boolean::parse(value) == Ok(dangling))
    });
    let rows: Vec<Value> = kept.flat_map(|image| rows(image, &filters, flags, now)).collect();
    let format = configuration::format(flags.format.as_ref(), flags.quiet, |file| file.images_format);
    if flags.quiet && format.is_none() {
        // As in Docker, an image with several names is there several times.
        // At once, as there may be thousands.
        let identifiers: String = rows.iter().filter_map(|row| Some(format!("{}\n", row["ID"].as_str()?))).collect();
        return output::text(&identifiers);
    }
    let table = if flags.digests { WITH_DIGESTS } else { TABLE };
    output::text(&format::list(format.as_deref(), table, COLUMNS, &rows)?)
}

fn bound(filters: &Filters, key: &str, images: &[ImageSummary]) -> Result<Option<String>, Failure> {
    let Some(wanted) = filters.of(key).last() else { return Ok(None) };
    let name = Reference::parse(wanted).ok().map(|name| name.or_latest().familiar());
    let found = images.iter().find(|image| {
        name.as_ref().is_some_and(|name| image.names.contains(name))
            || image.id.trim_start_matches("sha256:").starts_with(wanted.trim_start_matches("sha256:"))
    });
    Ok(Some(found.ok_or_else(|| Failure::new(format!("No such image: {wanted}")))?.created.clone()))
}

/// One row for each name of an image.
fn rows(image: &ImageSummary, filters: &Filters, flags: &Flags, now: Timestamp) -> Vec<Value> {
    let names: Vec<(&str, &str)> = image.names.iter().filter_map(|name| name.rsplit_once(':')).collect();
    let digests: Vec<(&str, &str)> = image.digests.iter().filter_map(|name| name.split_once('@')).collect();
    let digest_of = |repository: &str| digests.iter().find(|(name, _)| *name == repository).map(|(_, digest)| *digest);
    let mut rows = Vec::new();
    for (repository, tag) in names.iter().filter(|(repository, tag)| wanted(filters, repository, tag)) {
        rows.push(row(image, repository, tag, digest_of(repository), flags, now));
    }
    if names.is_empty() {
        match digests.first() {
            Some((repository, digest)) if wanted(filters, repository, "<none>") => {
                rows.push(row(image, repository, "<none>", Some(digest), flags, now));
            }
            None if !filters.has("reference") => rows.push(row(image, "<none>", "<none>", None, flags, now)),
            _ => {}
        }
    }
    rows
}

/// Whether a name is asked for: as it is written, with wildcards, with or without the tag.
fn wanted(filters: &Filters, repository: &str, tag: &str) -> bool {
    filters.any("reference", |pattern| {
        let plain = Reference::parse(pattern).ok();
        let familiar = plain.map(|name| name.familiar());
        [Some(pattern.to_owned()), familiar]
            .iter()
            .flatten()
            .any(|pattern| describes(pattern, repository) || describes(pattern, &format!("{repository}:{tag}")))
    })
}

fn row(
    image: &ImageSummary,
    repository: &str,
    tag: &str,
    digest: Option<&str>,
    flags: &Flags,
    now: Timestamp,
) -> Value {
    let bare = image.id.trim_start_matches("sha256:");
    let id = if flags.no_trunc { &image.id } else { bare.get(..12).unwrap_or(bare) };
    if flags.quiet && flags.format.is_none() {
        // Nothing else is shown, and there may be thousands.
        return json!({ "ID": id });
    }
    let created = elapsed::go(&image.created);
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": digest.unwrap_or("<none>"),
        "ID": id,
        "CreatedSince": elapsed::ago(&image.created, now),
        "CreatedAt": if created.is_empty() { "N/A".to_owned() } else { created },
        "Size": amount::decimal(image.size),
        "Containers": image.containers.to_string(),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Label": image.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str], digests: &[&str]) -> ImageSummary {
        ImageSummary {
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            names: names.iter().map(ToString::to_string).collect(),
            digests: digests.iter().map(ToString::to_string).collect(),
            created: "2026-01-02T11:00:00Z".into(),
            size: 4_260_000,
            containers: 1,
            labels: Default::default(),
        }
    }

    fn flags() -> Flags {
        Flags { all: false, digests: false, filter: vec![], format: None, no_trunc: false, quiet: false, name: None }
    }

    fn table(images: &[ImageSummary], filter: &[&str]) -> String {
        let filter: Vec<String> = filter.iter().map(ToString::to_string).collect();
        let filters = Filters::new(&filter, FILTERS).unwrap();
        let now = "2026-01-02T12:00:00Z".parse().unwrap();
        let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, &filters, &flags(), now)).collect();
        format::list(None, TABLE, COLUMNS, &rows).unwrap()
    }

    #[test]
    fn as_docker_prints_it() {
        let images = [
            image(&["busybox:latest", "localhost:5000/box:1"], &[]),
            image(&[], &["redis@sha256:aa"]),
            image(&[], &[]),
        ];
        let expected = "\
REPOSITORY           TAG       IMAGE ID       CREATED             SIZE
busybox              latest    0123456789ab   About an hour ago   4.26MB
localhost:5000/box   1         0123456789ab   About an hour ago   4.26MB
redis                <none>    0123456789ab   About an hour ago   4.26MB
<none>               <none>    0123456789ab   About an hour ago   4.26MB
";
        assert_eq!(table(&images, &[]), expected);
        for (filter, lines) in [
            ("reference=busybox", 1),
            ("reference=busybox:latest", 1),
            ("reference=busybox:1", 0),
            ("reference=docker.io/library/busybox", 1),
            ("reference=*", 2),
            ("reference=*/*", 1),
        ] {
            assert_eq!(table(&images, &[filter]).lines().count(), lines + 1, "{filter}");
        }
    }
}
