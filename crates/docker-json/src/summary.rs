//! A container and an image as lines of lists: `GET /containers/json`, `GET /images/json`.

use crate::endpoints::Endpoint;
use crate::mounts::MountPoint;
use crate::status;
use engine::{Container, ImageSummary, PublishedPort};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A line of the list of containers. It borrows what it can: a list has thousands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Line<'a> {
    id: &'a str,
    names: [Slashed<'a>; 1],
    image: &'a str,
    #[serde(rename = "ImageID")]
    image_id: &'a str,
    command: String,
    created: i64,
    ports: Vec<Port<'a>>,
    labels: &'a BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostConfig<'a>,
    network_settings: NetworkSettings,
    mounts: Vec<MountPoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    /// Bytes that the container has written, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// The same with what it has of its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
}

/// A name as Docker has them.
#[derive(Debug)]
struct Slashed<'a>(&'a str);

impl Serialize for Slashed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("/{}", self.0))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig<'a> {
    network_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: BTreeMap<String, Endpoint>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Port<'a> {
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    ip: Option<&'a str>,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    r#type: &'a str,
}

impl<'a> Line<'a> {
    /// From what [`engine::Engine::lines`] knows of a container.
    pub fn new(container: &'a Container, now: Timestamp) -> Line<'a> {
        let settings = &container.settings;
        Line {
            id: &container.id,
            names: [Slashed(&container.name)],
            image: &settings.image_name,
            image_id: &settings.image_id,
            command: crate::container::command_line(settings),
            created: seconds(&container.created_at),
            ports: ports(container),
            labels: &settings.labels,
            state: container.status.name(),
            status: status::sentence(container, now),
            host_config: HostConfig {
                network_mode: crate::container::network_mode(settings),
                annotations: Some(&settings.annotations).filter(|annotations| !annotations.is_empty()),
            },
            network_settings: NetworkSettings { networks: crate::endpoints::networks(container) },
            mounts: settings.mounts.iter().map(|mount| crate::mounts::mount_point(container, mount)).collect(),
            health: container
                .health
                .as_ref()
                .map(|health| Health { status: health.status.name(), failing_streak: health.failing_streak }),
            size_rw: None,
            size_root_fs: None,
        }
    }

    /// As it was before 1.46: without annotations.
    #[must_use]
    pub fn without_annotations(mut self) -> Line<'a> {
        self.host_config.annotations = None;
        self
    }

    /// As it was before 1.52: without health.
    #[must_use]
    pub fn without_health(mut self) -> Line<'a> {
        self.health = None;
        self
    }
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

fn ports(container: &Container) -> Vec<Port<'_>> {
    let settings = &container.settings;
    if !container.status.is_running() {
        return Vec::new();
    }
    let mut all: Vec<Port<'_>> = container.ports.iter().flat_map(published).collect();
    for text in &settings.exposed_ports {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let Ok(number) = number.parse::<u16>() else { continue };
        if !container.ports.iter().any(|port| port.container_port == number && port.protocol == protocol) {
            all.push(Port { ip: None, private_port: number, public_port: None, r#type: protocol });
        }
    }
    all
}

/// A port that is published on all addresses has a line for each family.
fn published(port: &PublishedPort) -> impl Iterator<Item = Port<'_>> {
    let addresses = match port.host_ip.as_str() {
        "" => [Some("0.0.0.0"), Some("::")],
        one => [Some(one), None],
    };
    addresses.into_iter().flatten().map(|address| Port {
        ip: Some(address),
        private_port: port.container_port,
        public_port: Some(port.host_port),
        r#type: &port.protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Status;

    #[test]
    fn a_line() {
        let mut container = crate::sample::running();
        let now = "2026-01-02T12:00:00Z".parse().unwrap();
        let value = |line: &Line<'_>| serde_json::to_value(line).unwrap();
        let line = value(&Line::new(&container, now));
        assert_eq!(line["Names"], json!(["/brave_otter"]));
        assert_eq!(line["Created"], 1_767_355_080);
        assert_eq!(line["Status"], "Up 3 seconds");
        assert_eq!(line["Ports"][1], json!({"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}));
        assert_eq!(line["Ports"][2], json!({"PrivatePort": 6379, "Type": "tcp"}));
        assert_eq!(line["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
        assert_eq!(line["HostConfig"], json!({"NetworkMode": "bridge"}));
        assert_eq!(line.get("SizeRw"), None);
        let names: Vec<&String> = line.as_object().unwrap().keys().collect();
        let expected = [
            "Id",
            "Names",
            "Image",
            "ImageID",
            "Command",
            "Created",
            "Ports",
            "Labels",
            "State",
            "Status",
            "HostConfig",
            "NetworkSettings",
            "Mounts",
        ];
        assert_eq!(names, expected);
        container.settings.annotations = [("org.a".to_owned(), "1".to_owned())].into();
        container.health =
            Some(engine::Health { status: engine::HealthStatus::Healthy, failing_streak: 0, log: Vec::new() });
        let line = value(&Line::new(&container, now));
        assert_eq!(line["Health"], json!({"Status": "healthy", "FailingStreak": 0}));
        assert_eq!(line["HostConfig"]["Annotations"], json!({"org.a": "1"}));
        let line = value(&Line::new(&container, now).without_annotations().without_health());
        assert_eq!((line.get("Health"), line["HostConfig"].get("Annotations")), (None, None));
        container.status = Status::Exited;
        let line = value(&Line { size_rw: Some(1), size_root_fs: Some(2), ..Line::new(&container, now) });
        assert_eq!(line["Ports"], json!([]));
        assert_eq!((&line["SizeRw"], &line["SizeRootFs"]), (&json!(1), &json!(2)));
    }
}
