//! An image as `GET /images/{name}/json` answers.

use crate::{Empty, Error, time};
use engine::Image;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The image as a JSON value.
pub fn value(image: &Image) -> Result<Value, Error> {
    crate::to_value(&Inspect::new(image))
}

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    author: String,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: BTreeMap<&'static str, &'static str>,
    descriptor: Descriptor,
    config: Config,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<Empty>,
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    layers: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Descriptor {
    digest: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    user: String,
    exposed_ports: Option<BTreeMap<String, Empty>>,
    env: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, Empty>>,
    working_dir: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stop_signal: String,
    on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shell: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<oci::image::Healthcheck>,
}

impl Inspect {
    /// Docker's view of a record.
    pub fn new(image: &Image) -> Inspect {
        let (summary, config) = (&image.summary, &image.config);
        Inspect {
            id: summary.id.clone(),
            repo_tags: summary.names.clone(),
            repo_digests: summary.digests.clone(),
            parent: image.parent.clone().unwrap_or_default(),
            comment: config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
            created: time(&summary.created),
            author: config.author.clone(),
            architecture: config.platform.architecture.clone(),
            variant: config.platform.variant.clone(),
            os: config.platform.os.clone(),
            size: summary.size,
            graph_driver: GraphDriver { data: None, name: "overlayfs" },
            root_fs: RootFs { r#type: "layers", layers: image.layers.iter().map(ToString::to_string).collect() },
            metadata: BTreeMap::new(),
            descriptor: Descriptor { digest: image.manifest.clone() },
            config: container_config(image),
        }
    }
}

fn container_config(image: &Image) -> Config {
    let config = &image.config.config;
    let set = |keys: &std::collections::BTreeSet<String>| -> Option<BTreeMap<String, Empty>> {
        (!keys.is_empty()).then(|| keys.iter().map(|key| (key.clone(), Empty {})).collect())
    };
    Config {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        on_build: (!config.on_build.is_empty()).then(|| config.on_build.clone()),
        shell: config.shell.clone(),
        healthcheck: config.healthcheck.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ImageSummary;
    use oci::image::ImageConfig;

    #[test]
    fn from_a_configuration() {
        let config = br#"{"architecture":"arm64","variant":"v8","os":"linux","created":"2026-01-01T00:00:00Z",
            "config":{"Cmd":["sh"],"Env":["A=1"],"ExposedPorts":{"80/tcp":{}},"Labels":{"x":"y"}},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let image = Image {
            summary: ImageSummary {
                id: "sha256:aa".into(),
                names: vec!["busybox:latest".into()],
                digests: vec![],
                created: "2026-01-01T00:00:00Z".into(),
                size: 5,
                containers: 0,
                labels: BTreeMap::new(),
            },
            manifest: "sha256:bb".into(),
            parent: None,
            config: ImageConfig::parse(config).unwrap(),
            layers: vec![],
            directories: vec![],
        };
        let value = value(&image).unwrap();
        assert_eq!(value["RepoTags"][0], "busybox:latest");
        assert_eq!(value["Architecture"], "arm64");
        assert_eq!(value["Config"]["Cmd"][0], "sh");
        assert_eq!(value["Config"]["ExposedPorts"]["80/tcp"], serde_json::json!({}));
        assert_eq!(value["RootFS"]["Type"], "layers");
        assert_eq!(value["Config"]["Entrypoint"], Value::Null);
    }
}
