//! `system df -v`: what each image, container and volume takes.

use crate::display::amount;
use crate::failure::Failure;
use crate::flags::format::{self, Column};
use docker_json::{elapsed, status};
use engine::{ContainerUsage, DiskUsage, ImageUsage, MountSource, VolumeUsage};
use jiff::Timestamp;
use serde_json::{Value, json};

const IMAGES: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const CONTAINERS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];

const VOLUMES: &[Column] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

const CACHE: &[Column] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

/// All tables, each with its title.
pub fn tables(usage: &DiskUsage) -> Result<String, Failure> {
    let table = |columns: &[Column], rows: &[Value]| {
        let fields: Vec<String> = columns.iter().map(|(field, _)| format!("{{{{.{field}}}}}")).collect();
        format::list(None, &fields.join("\t"), columns, rows)
    };
    let now = Timestamp::now();
    let images: Vec<Value> = usage.images.iter().map(|each| image(each, now)).collect();
    let containers: Vec<Value> = usage.containers.iter().map(|each| container(each, now)).collect();
    let volumes: Vec<Value> = usage.volumes.iter().map(volume).collect();
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: 0B\n\n{}",
        table(IMAGES, &images)?,
        table(CONTAINERS, &containers)?,
        table(VOLUMES, &volumes)?,
        table(CACHE, &[])?,
    ))
}

/// The same as one object.
pub fn document(usage: &DiskUsage) -> Value {
    let now = Timestamp::now();
    json!({
        "BuildCache": [],
        "Containers": usage.containers.iter().map(|each| container(each, now)).collect::<Vec<_>>(),
        "Images": usage.images.iter().map(|each| image(each, now)).collect::<Vec<_>>(),
        "Volumes": usage.volumes.iter().map(volume).collect::<Vec<_>>(),
    })
}

fn short(id: &str) -> &str {
    let bare = id.trim_start_matches("sha256:");
    bare.get(..12).unwrap_or(bare)
}

fn image(usage: &ImageUsage, now: Timestamp) -> Value {
    let image = &usage.image;
    let (repository, tag) = image.names.first().and_then(|name| name.rsplit_once(':')).unwrap_or(("<none>", "<none>"));
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": short(&image.id),
        "CreatedSince": elapsed::ago(&image.created, now),
        "Size": amount::transferred(usage.size),
        "SharedSize": amount::transferred(usage.shared),
        "UniqueSize": amount::transferred(usage.size - usage.shared),
        "Containers": image.containers.to_string(),
    })
}

fn container(usage: &ContainerUsage, now: Timestamp) -> Value {
    let container = &usage.container;
    let settings = &container.settings;
    let words: Vec<&str> = settings.entrypoint.iter().chain(&settings.command).map(String::as_str).collect();
    let command: String = words.join(" ").chars().take(20).collect();
    let volumes = settings.mounts.iter().filter(|mount| matches!(mount.source, MountSource::Volume(_))).count();
    json!({
        "ID": short(&container.id),
        "Image": settings.image_name,
        "Command": format!("{command:?}"),
        "LocalVolumes": volumes.to_string(),
        "Size": amount::transferred(usage.size),
        "RunningFor": elapsed::ago(&container.created_at, now),
        "Status": status::sentence(container, now),
        "Names": container.name,
    })
}

fn volume(usage: &VolumeUsage) -> Value {
    json!({
        "Name": usage.volume.name,
        "Links": usage.volume.containers.len().to_string(),
        "Size": amount::transferred(usage.size),
    })
}
