//! `POST /containers/create`

use crate::context::Context;
use crate::create;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::{Engine, Options, PublishedPort, Quiet};
use hyper::StatusCode;
use serde_json::json;

/// `POST /containers/create`
pub async fn create(mut context: Context) -> Result<Reply, Failure> {
    let content = context.content().await?;
    let asked = create::asked(&content)?;
    let mut options = asked.options;
    options.name = context.query.text("name").map(|name| name.trim_start_matches('/').to_owned());
    options.platform = context.query.text("platform").map(str::to_owned);
    let (keeps_command, publishes_all) = (asked.keeps_command, asked.publishes_all);
    let created = context
        .workers()
        .quick(move |engine| {
            if keeps_command && options.command.is_empty() {
                options.command = engine.image(&options.image)?.config.config.cmd.unwrap_or_default();
            }
            if publishes_all {
                publish_all(engine, &mut options)?;
            }
            engine.create(&options, &mut Quiet)
        })
        .await?;
    reply::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": created.warnings }))
}

/// Publishes what the image and the request expose, each at a port that the engine chooses.
fn publish_all(engine: &Engine, options: &mut Options) -> Result<(), engine::Error> {
    let image = engine.image(&options.image)?.config.config.exposed_ports;
    let asked = options.front_end["Config"]["ExposedPorts"].as_object().cloned().unwrap_or_default();
    for text in image.into_iter().chain(asked.into_iter().map(|(text, _)| text)) {
        let text = docker_json::with_protocol(&text);
        let Some((number, protocol)) = text.split_once('/') else { continue };
        let Ok(container_port) = number.parse() else { continue };
        let known = |port: &PublishedPort| port.container_port == container_port && port.protocol == protocol;
        if !options.ports.iter().any(known) {
            let protocol = protocol.to_owned();
            options.ports.push(PublishedPort { protocol, container_port, ..PublishedPort::default() });
        }
    }
    Ok(())
}
