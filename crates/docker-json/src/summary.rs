//! A container and an image as lines of lists: `GET /containers/json`, `GET /images/json`.

use crate::{Error, status};
use engine::{Container, ImageSummary, PublishedPort};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A line of the list of containers, from what [`engine::Engine::lines`] knows of them.
pub fn value(container: &Container, now: Timestamp, sizes: bool) -> Result<Value, Error> {
    let settings = &container.settings;
    let mounts: Vec<_> = settings.mounts.iter().map(|mount| crate::mounts::mount_point(container, mount)).collect();
    let mut line = json!({
        "Id": container.id,
        "Names": [format!("/{}", container.name)],
        "Image": settings.image_name,
        "ImageID": settings.image_id,
        "Command": crate::container::command_line(settings),
        "Created": seconds(&container.created_at),
        "Ports": ports(container),
        "Labels": settings.labels,
        "State": container.status.name(),
        "Status": status::sentence(container, now),
        "HostConfig": { "NetworkMode": crate::container::network_mode(settings) },
        "NetworkSettings": { "Networks": crate::to_value(&crate::endpoints::networks(container))? },
        "Mounts": crate::to_value(&mounts)?,
    });
    if let Some(health) = &container.health {
        line["Health"] = json!({ "Status": health.status.name(), "FailingStreak": health.failing_streak });
    }
    if sizes {
        line["SizeRw"] = 0.into();
        line["SizeRootFs"] = 0.into();
    }
    Ok(line)
}

/// A line of the list of images.
pub fn image(image: &ImageSummary) -> Value {
    json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": image.names,
        "RepoDigests": image.digests,
        "Created": seconds(&image.created),
        "Size": image.size,
        "SharedSize": -1,
        "Labels": image.labels,
        "Containers": -1,
    })
}

/// Seconds since 1970; zero for what is no time.
pub fn seconds(time: &str) -> i64 {
    time.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

fn ports(container: &Container) -> Vec<Value> {
    let settings = &container.settings;
    if !container.status.is_running() {
        return Vec::new();
    }
    let mut all: Vec<Value> = container.ports.iter().flat_map(published).collect();
    for text in &settings.exposed_ports {
        let text = crate::with_protocol(text);
        let Some((number, protocol)) = text.split_once('/') else { continue };
        let Ok(number) = number.parse::<u16>() else { continue };
        if !container.ports.iter().any(|port| port.container_port == number && port.protocol == protocol) {
            all.push(json!({ "PrivatePort": number, "Type": protocol }));
        }
    }
    all
}

/// A port that is published on all addresses has a line for each family.
fn published(port: &PublishedPort) -> Vec<Value> {
    let addresses = match port.host_ip.as_str() {
        "" => vec!["0.0.0.0", "::"],
        one => vec![one],
    };
    let line = |address: &str| {
        json!({
            "IP": address,
            "PrivatePort": port.container_port,
            "PublicPort": port.host_port,
            "Type": port.protocol,
        })
    };
    addresses.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Status;

    #[test]
    fn a_line() {
        let mut container = crate::sample::running();
        let now = "2026-01-02T12:00:00Z".parse().unwrap();
        let line = value(&container, now, false).unwrap();
        assert_eq!(line["Names"], json!(["/brave_otter"]));
        assert_eq!(line["Created"], 1_767_355_080);
        assert_eq!(line["Status"], "Up 3 seconds");
        assert_eq!(line["Ports"][1], json!({"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}));
        assert_eq!(line["Ports"][2], json!({"PrivatePort": 6379, "Type": "tcp"}));
        assert_eq!(line["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
        container.status = Status::Exited;
        assert_eq!(value(&container, now, true).unwrap()["Ports"], json!([]));
    }
}
