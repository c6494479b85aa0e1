//! Docker's container configuration, as `POST /containers/create` carries it, in the engine's options.
//!
//! What the engine does not have yet is refused with its name; what it has in another way is translated; what has no effect
//! here but clients expect to find again is noted in the record.

mod devices;
mod health;
mod host;
mod mounts;
mod networks;
mod ports;

use crate::failure::Failure;
use crate::version::Version;
use engine::Options;
use host::HostConfig;
pub(crate) use host::{LimitsAsked, RestartAsked, discarded, refuse};
pub(crate) use networks::EndpointAsked;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A command: words, or one string that is one word.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Words(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Words {
    fn from(words: OneOrMany) -> Words {
        match words {
            OneOrMany::One(word) => Words(vec![word]),
            OneOrMany::Many(words) => Words(words),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    hostname: Option<String>,
    domainname: Option<String>,
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    tty: Option<bool>,
    open_stdin: Option<bool>,
    stdin_once: Option<bool>,
    env: Option<Vec<String>>,
    cmd: Option<Words>,
    healthcheck: Option<health::Healthcheck>,
    image: Option<String>,
    volumes: Option<BTreeMap<String, Value>>,
    working_dir: Option<String>,
    entrypoint: Option<Words>,
    network_disabled: Option<bool>,
    mac_address: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    stop_timeout: Option<i64>,
    host_config: Option<HostConfig>,
    networking_config: Option<networks::NetworkingConfig>,
}

/// What a creation asks for.
#[derive(Debug)]
pub struct Asked {
    /// For the engine.
    pub options: Options,
    /// `Entrypoint: []`: the image's entry point goes, its command stays, unlike `[""]`.
    pub keeps_command: bool,
    /// What is left aside, in sentences for the client.
    pub warnings: Vec<String>,
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Whether a field says something: not null, empty, zero or false.
fn says(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => fields.values().any(says),
    }
}

/// Translates a request.
///
/// # Errors
/// 400 for what is malformed or contradictory, 501 for what the engine does not have yet.
pub fn asked(content: &[u8], version: Version) -> Result<Asked, Failure> {
    if content.trim_ascii().is_empty() {
        return Err(Failure::bad("config cannot be empty in order to create a container"));
    }
    let document: Value = crate::document::read(content)?;
    let mut config: Config = crate::document::read(content)?;
    let host = config.host_config.take().unwrap_or_default();
    let expose: Vec<String> = config.exposed_ports.iter().flatten().map(|(port, _)| port.clone()).collect();
    for port in &expose {
        ports::exposed(port)?;
    }
    let volumes: Vec<String> = config.volumes.iter().flatten().map(|(path, _)| path.clone()).collect();
    let (network, requests) =
        networks::all(&host, config.networking_config.take(), given(config.mac_address.take()), version)?;
    let keeps_command = config.entrypoint.as_ref().is_some_and(|words| words.0.is_empty());
    let mut options = Options {
        image: given(config.image.clone()).ok_or_else(|| Failure::bad("no image was named: Image is empty"))?,
        command: config.cmd.unwrap_or_default().0,
        entrypoint: config.entrypoint.map(|words| words.0),
        env: config.env.unwrap_or_default(),
        user: given(config.user),
        working_directory: given(config.working_dir),
        hostname: given(config.hostname),
        domainname: given(config.domainname),
        labels: config.labels.unwrap_or_default(),
        terminal: config.tty.unwrap_or(false),
        open_stdin: config.open_stdin.unwrap_or(false),
        stdin_once: Some(config.stdin_once.unwrap_or(false)),
        stop_signal: given(config.stop_signal),
        stop_timeout: config.stop_timeout,
        expose,
        network,
        networks: requests,
        health: config.healthcheck.map(health::Healthcheck::options).transpose()?.unwrap_or_default(),
        pull: engine::PullPolicy::Never,
        front_end: noted(&document),
        ..Options::default()
    };
    let mut warnings = host.discarded(version);
    warnings.extend(ports::without_a_place(&host, version));
    host.apply(&mut options, version)?;
    mounts::anonymous(&volumes, &mut options.mounts)?;
    if config.network_disabled.unwrap_or(false) {
        options.network = engine::NetworkMode::None;
        options.networks.clear();
    }
    Ok(Asked { options, keeps_command, warnings })
}

/// A health check of an image.
///
/// # Errors
/// 400 for one that cannot be.
pub fn healthcheck(asked: health::Healthcheck) -> Result<oci::image::Healthcheck, Failure> {
    asked.of_image()
}

/// Fields without an effect of their own, which clients expect to find as they wrote them.
fn noted(document: &Value) -> Value {
    const CONFIG: &[&str] = &["AttachStderr", "AttachStdin", "AttachStdout", "OnBuild", "Shell", "StdinOnce"];
    const HOST: &[&str] = &[
        "Binds",
        "ContainerIDFile",
        "DeviceRequests",
        "Isolation",
        "Mounts",
        "PortBindings",
        "Runtime",
        "StorageOpt",
        "Tmpfs",
        "VolumeDriver",
    ];
    let pick = |from: &Value, names: &[&str]| -> Map<String, Value> {
        let given = names.iter().filter_map(|name| Some((*name, from.get(*name).filter(|value| !value.is_null())?)));
        given.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    // A name without a value takes a variable of the image away; clients find the name where they wrote it.
    let names =
        document["Env"].as_array().into_iter().flatten().filter(|word| word.as_str().is_some_and(|w| !w.contains('=')));
    let names: Vec<&Value> = names.collect();
    json!({
        "Config": pick(document, CONFIG),
        "HostConfig": pick(&document["HostConfig"], HOST),
        "Removed": names,
    })
}

#[cfg(test)]
mod tests;
