//! What images there are, and what is in them.

use super::platforms;
use crate::context::Context;
use crate::failure::Failure;
use crate::filters::Filters;
use crate::reply::{self, Reply};
use crate::version::Version;
use docker_json::pattern::describes;
use engine::ImageSummary;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// `GET /images/json`
pub async fn list(context: Context) -> Result<Reply, Failure> {
    let mut filters = Filters::parse(context.query.text("filters"), FILTERS)?;
    if let Some(name) = context.query.text("filter") {
        // Before 1.41 a name alone.
        filters.add("reference", name);
    }
    let dangling = filters.switch("dangling")?;
    let until = filters.of("until").iter().map(|text| crate::containers::list::moment(text));
    let until = until.collect::<Result<Vec<_>, _>>()?.into_iter().min();
    let images = context.workers().quick(|engine| engine.images()).await?;
    let shared: BTreeMap<String, u64> = if context.query.switch("shared-size") {
        let usage = context.workers().patient(|engine| engine.images_usage()).await?;
        usage.images.into_iter().map(|used| (used.image.id, used.shared.min(used.image.size))).collect()
    } else {
        BTreeMap::new()
    };
    let bound = |key: &str| -> Result<Option<&str>, Failure> {
        let Some(wanted) = filters.of(key).last() else { return Ok(None) };
        let hex = wanted.trim_start_matches("sha256:");
        let found = images.iter().find(|image| {
            image.id.trim_start_matches("sha256:").starts_with(hex)
                || image.names.iter().any(|name| name == wanted || *name == format!("{wanted}:latest"))
        });
        let found = found.ok_or_else(|| Failure::missing(format!("No such image: {wanted}")))?;
        Ok(Some(found.created.as_str()))
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let kept = images.iter().filter(|image| {
        dangling.is_none_or(|wanted| wanted == image.names.is_empty())
            && filters.labels(&image.labels)
            && filters.any("reference", |pattern| is_named(image, pattern))
            && before.is_none_or(|time| image.created.as_str() < time)
            && since.is_none_or(|time| image.created.as_str() > time)
            && until.is_none_or(|until| image.created.parse::<Timestamp>().is_ok_and(|time| time < until))
    });
    let patterns = filters.of("reference");
    let lines: Vec<Value> = kept
        .map(|image| {
            let mut line = line(&shown(image, patterns), context.version);
            if let Some(size) = shared.get(&image.id) {
                line["SharedSize"] = (*size).into();
            }
            line
        })
        .collect();
    reply::ok(&lines)
}

fn is_named(image: &ImageSummary, pattern: &str) -> bool {
    image.names.iter().chain(&image.digests).any(|name| fits(pattern, name))
}

fn fits(pattern: &str, name: &str) -> bool {
    let repository = name.split_once('@').map_or(name, |(repository, _)| repository);
    let without_tag = repository.rsplit_once(':').map_or(repository, |(repository, _)| repository);
    describes(pattern, name) || describes(pattern, without_tag)
}

/// The image with the names that were asked for.
fn shown(image: &ImageSummary, patterns: &[String]) -> ImageSummary {
    let mut shown = image.clone();
    if !patterns.is_empty() {
        let fits = |name: &String| patterns.iter().any(|pattern| fits(pattern, name));
        shown.names.retain(fits);
        shown.digests.retain(fits);
    }
    shown
}

/// A line in the shape of a version.
fn line(image: &ImageSummary, version: Version) -> Value {
    let mut line = docker_json::summary::image(image);
    if version >= Version(51) {
        // Before, a list did not count.
        line["Containers"] = image.containers.into();
    }
    if version < Version(44) {
        line["VirtualSize"] = line["Size"].clone();
    }
    if version < Version(43) && image.names.is_empty() {
        line["RepoTags"] = json!(["<none>:<none>"]);
    }
    if version < Version(43) && image.digests.is_empty() {
        line["RepoDigests"] = json!(["<none>@<none>"]);
    }
    line
}

/// `GET /images/{name}/json`
pub async fn inspect(context: Context, name: &str) -> Result<Reply, Failure> {
    let wanted = name.to_owned();
    let platforms = platforms::asked(&context.query, "platform")?;
    if !platforms.is_empty() && context.query.switch("manifests") {
        return Err(Failure::bad("conflicting options: manifests and platform options cannot both be set"));
    }
    let image = context.workers().quick(move |engine| engine.image(&wanted)).await?;
    platforms::check(&image, name, &platforms)?;
    let mut document = docker_json::image::value(&image)?;
    if context.version < Version(44) {
        document["VirtualSize"] = document["Size"].clone();
    }
    if context.version < Version(45) {
        document["Container"] = "".into();
        document["ContainerConfig"] = document["Config"].clone();
        document["DockerVersion"] = "".into();
    }
    crate::newer::image(&mut document, context.version);
    if let Some(fields) = document.as_object_mut() {
        // Docker tells it of a store in which it is the image's identifier.
        fields.remove("Descriptor");
    }
    reply::ok(&document)
}

/// `GET /images/{name}/history`
pub async fn history(context: Context, name: &str) -> Result<Reply, Failure> {
    let wanted = name.to_owned();
    let (platforms, asked) = (platforms::asked(&context.query, "platform")?, name.to_owned());
    let work = context.workers().translate(move |engine| {
        if !platforms.is_empty() {
            platforms::check(&engine.image(&wanted)?, &asked, &platforms)?;
        }
        Ok(engine.history(&wanted)?)
    });
    let steps = work.await?;
    let steps = steps.iter().map(|step| {
        json!({
            "Id": step.id.as_deref().unwrap_or("<missing>"),
            "Created": docker_json::summary::seconds(&step.created),
            "CreatedBy": step.created_by,
            "Tags": (!step.names.is_empty()).then_some(&step.names),
            "Size": step.size,
            "Comment": step.comment,
        })
    });
    reply::ok(&steps.collect::<Vec<_>>())
}

/// `GET /images/{name}/attestations`: they are in an image's index, of which this store keeps one image.
pub async fn attestations(context: Context, name: &str) -> Result<Reply, Failure> {
    let wanted = name.to_owned();
    context.workers().quick(move |engine| engine.image(&wanted)).await?;
    Err(Failure::unsupported("a list of an image's attestations"))
}

/// `GET /distribution/{name}/json`: what the image's registry has under a name, asked with the client's account.
pub async fn distribution(context: Context, name: &str) -> Result<Reply, Failure> {
    let account = super::transfer::account(&context.headers, name)?;
    let wanted = name.to_owned();
    let work = context.workers().patient(move |engine| {
        engine.use_registry_account(account);
        engine.distribution(&wanted)
    });
    let found = work.await?;
    let descriptor = &found.descriptor;
    reply::ok(&json!({
        "Descriptor": {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest.to_string(),
            "size": descriptor.size,
        },
        "Platforms": found.platforms,
    }))
}

/// Docker's number of answers where none is asked for.
const FOUND: u32 = 25;

/// `GET /images/search`
pub async fn search(context: Context) -> Result<Reply, Failure> {
    let term = context.query.text("term").ok_or_else(|| Failure::bad("bad parameter: missing term"))?.to_owned();
    let limit = context.query.number::<u32>("limit")?.unwrap_or(FOUND);
    if !(1..=100).contains(&limit) {
        return Err(Failure::bad(format!("bad parameter limit: {limit} is not between 1 and 100")));
    }
    let filters = Filters::parse(context.query.text("filters"), &["is-automated", "is-official", "stars"])?;
    let (automated, official) = (filters.switch("is-automated")?, filters.switch("is-official")?);
    let stars = filters
        .of("stars")
        .iter()
        .map(|text| text.parse::<u64>().map_err(|_| Failure::bad(format!("invalid filter 'stars={text}'"))));
    let stars = stars.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
    let found = context.workers().patient(move |_| engine::registries::search(&term, limit)).await?;
    let kept = found.iter().filter(|found| {
        automated.is_none_or(|wanted| wanted == found.is_automated)
            && official.is_none_or(|wanted| wanted == found.is_official)
            && found.stars >= stars
    });
    let listed = kept.map(|found| {
        json!({
            "name": found.name,
            "description": found.description,
            "star_count": found.stars,
            "is_official": found.is_official,
            "is_automated": found.is_automated,
        })
    });
    reply::ok(&listed.collect::<serde_json::Value>())
}
